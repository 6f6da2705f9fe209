"""Expected and actual KPI week by week, of units and of sums over them, and how well they agree."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from mixfleet.analysis.breakdown import by_subject
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.posterior import fit_quality
from mixfleet.posterior.counterfactual import weekly
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["WeeklyKpi", "agreement", "fit_by_group", "weekly_kpi"]


class WeeklyKpi(NamedTuple):
    """One unit's or group's weeks; zero in those that do not count."""

    kpi: Float[np.ndarray, " week"]
    expected: Float[np.ndarray, "week draw"]
    noise: Float[np.ndarray, "week draw"]
    weeks: Int[np.ndarray, " week"]
    """Unit-weeks that count."""

    DRAWN = ("expected", "noise")


def weekly_kpi(fleet: Fleet, place: int, series: UnitSeries) -> WeeklyKpi:
    """All weeks of one unit."""
    unit = fleet.units[place]
    weeks = len(unit.dates)
    counted = series.counted[:weeks]
    with jax.enable_x64(True):
        media = np.asarray(weekly(series.media, series.curves, term=fleet.term))
    expected, noise = fit_quality.predictive(unit, series, media, fleet.spec.model)
    expected[~counted] = noise[~counted] = 0.0
    return WeeklyKpi(series.kpi[:weeks], expected, noise, counted.astype(int))


def fit_by_group(fleet: Fleet, by: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Head columns and scores of every group: those of its certified units' sum, date by date of the whole fleet."""
    dates = np.unique(np.concatenate([unit.dates for unit in fleet.units])) if fleet.units else np.zeros(0, "M8[D]")

    def account(place: int, series: UnitSeries) -> WeeklyKpi:
        own, at = weekly_kpi(fleet, place, series), np.searchsorted(dates, fleet.units[place].dates)
        wide = [np.zeros((len(dates), *part.shape[1:]), part.dtype) for part in own]
        for target, part in zip(wide, own, strict=True):
            target[at] = part
        return WeeklyKpi(*wide)

    return by_subject(fleet, by, account, agreement)


def agreement(own: WeeklyKpi) -> dict[str, float]:
    """Scores of the weeks in which there is anything."""
    there = own.weeks > 0
    found = fit_quality.agreement(own.kpi[there], fit_quality.Predictive(own.expected[there], own.noise[there]))
    return {name: float(values[0]) for name, values in found.items()}
