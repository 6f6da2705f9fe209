"""The KPI that a unit's model expects week by week, the noise around it, and how well both agree with what came."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Model
from mixfleet.data.panel import Unit, unit_id
from mixfleet.models.observation import OBSERVATIONS, Autocorrelated, is_autocorrelated
from mixfleet.posterior.scores import scores
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["Predictive", "agreement", "predictive", "weekly_fit", "weekly_noise"]


class Predictive(NamedTuple):
    """One unit's weeks, draw by draw, in KPI."""

    expected: Float[np.ndarray, "week draw"]
    noise: Float[np.ndarray, "week draw"]
    """What chance adds to the expected KPI; where noise is autocorrelated, to what past misses let expect too."""


def predictive(unit: Unit, series: UnitSeries, media: Float[np.ndarray, "week draw"], model: Model) -> Predictive:
    """Expected KPI of all weeks of a unit, those that do not count too.

    Where noise is autocorrelated, it is expected given the weeks before that the fit saw: of later weeks the last of
    these, whose miss fades.

    Args:
        unit: The unit.
        series: Its data and draws.
        media: What all channels together bring, from `counterfactual.weekly`; under a log link in log KPI, of which the
            expectation is the mean, above the median.
        model: Says what family the KPI has around its expectation.
    """
    weeks = len(unit.dates)
    # No product of matrices by a library whose own threads would wait for those of a walk over a fleet.
    expected = np.einsum("tj,jd->td", series.design[:weeks], series.coefficients)
    expected += media[:weeks]
    if is_autocorrelated(model):
        return _after_misses(unit, series, expected, model)
    noise = weekly_noise(unit, series.observation, model)
    return (
        _of_log_normal(expected, noise, series.observation[0] ** 2) if series.log_link else Predictive(expected, noise)
    )


def weekly_noise(
    unit: Unit, parameters: Float[np.ndarray, "parameter draw"], model: Model
) -> Float[np.ndarray, "week draw"]:
    """Noise of a unit's weeks, drawn anew: the same whatever is planned and whoever else is there.

    Under a log link it is that of the logarithm.
    """
    return OBSERVATIONS[model.observation].noise(
        _chance(unit), (len(unit.dates), parameters.shape[1]), tuple(parameters)
    )


def _after_misses(unit: Unit, series: UnitSeries, expected: Float[np.ndarray, "week draw"], model: Model) -> Predictive:
    family = OBSERVATIONS[model.observation]
    assert isinstance(family, Autocorrelated)
    known = series.known[: len(unit.dates)]
    kpi = np.log(np.where(known, unit.kpi, 1.0)) if series.log_link else unit.kpi
    error = kpi[:, None] - expected
    error[~known] = np.nan
    carried, chance = family.given(_chance(unit), error, tuple(series.observation))
    expected += carried
    if not series.log_link:
        return Predictive(expected, chance)
    return _of_log_normal(expected, chance, family.variance_given(known, tuple(series.observation)))


def _of_log_normal(
    expected: Float[np.ndarray, "week draw"],
    noise: Float[np.ndarray, "week draw"],
    variance: Float[np.ndarray, "*week draw"],
) -> Predictive:
    """The mean of the KPI whose logarithm this is expected of, and what noise of this variance adds; in place."""
    expected += 0.5 * variance
    expected = np.exp(expected, out=expected)
    return Predictive(expected, expected * np.expm1(noise - 0.5 * variance))


def _chance(unit: Unit) -> np.random.Generator:
    return np.random.default_rng(int(unit_id(unit.labels)[:12], 16))


def weekly_fit(
    unit: Unit, found: Predictive, counted: Bool[np.ndarray, " week"], holdout: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Expected KPI by week with the interval of the KPI itself, and how well it agrees, held-out weeks apart.

    Args:
        unit: The unit.
        found: Its predictive draws.
        counted: Weeks that are judged.
        holdout: Last weeks, which the fit did not see.
    """
    mean, away = _ordered(found)
    size = away.shape[1]
    seen = np.arange(len(unit.dates)) < len(unit.dates) - holdout

    def judged(which: np.ndarray) -> dict[str, np.ndarray]:
        return scores(unit.kpi[which], mean[which], away[which])

    quality = judged(counted & seen)
    if holdout:
        quality |= {f"holdout_{name}": value for name, value in judged(counted & ~seen).items()}
    weekly = {
        "date": unit.dates.astype("datetime64[D]"),
        "kpi": unit.kpi,
        "observed": unit.observed & np.isfinite(unit.kpi),
        "mean": mean,
        "q05": mean + away[:, int(0.05 * size)],
        "q95": mean + away[:, int(0.95 * size) - 1],
    }
    return weekly, quality


def agreement(kpi: Float[np.ndarray, " week"], found: Predictive) -> dict[str, np.ndarray]:
    """Scores over all of the weeks."""
    return scores(kpi, *_ordered(found))


def _ordered(found: Predictive) -> tuple[Float[np.ndarray, " week"], Float[np.ndarray, "week draw"]]:
    """What is expected of each week, and how far draws of its KPI are from it, in order, rounded: twice as fast."""
    mean = found.expected.mean(axis=1)
    away = found.expected + found.noise
    away -= mean[:, None]
    return mean, np.sort(away.astype(np.float32), axis=1)
