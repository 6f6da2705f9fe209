"""Weeks that decide: what is said of them is about what the posterior without them says, known of regressions."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.single_weeks import single_week_checks
from tests.support.regressions import (
    CHANNELS,
    MEAN,
    SCALE,
    SD,
    Drawn,
    Fault,
    baseline_columns,
    posterior,
    regression,
    replaced,
    saturated,
)

NOISE, DRAWS = 0.05, 4000


def _decisive(unit: CheckedUnit) -> ModelCheck:
    return next(check for check in single_week_checks(unit) if check.kind == "decisive_week")


def _missed(size: float):
    """An error of so many standard deviations in one week."""

    def errors(drawn: Drawn) -> np.ndarray:
        found = drawn.errors.copy()
        found[40] = size
        return found

    return replaced("errors", errors)


def _once(drawn: Drawn) -> Drawn:
    """A channel that ran in one week, which so decides what it brings, and came with more sales than it brings."""
    media = drawn.media.copy()
    media[np.arange(len(media)) != 40, 0] = 0.0
    errors = drawn.errors.copy()
    errors[40] += 6.0
    return replace(drawn, media=media, response=saturated(media), errors=errors)


def _known_noise(unit: CheckedUnit) -> tuple[CheckedUnit, np.ndarray]:
    """The unit with exact draws, and by week and channel how far its posterior mean is without the week, in sds."""
    kpi, curves = unit.kpi / SCALE, saturated(unit.media)
    columns = np.column_stack([baseline_columns(np.arange(len(kpi))), curves])

    def posterior(fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariance = np.linalg.inv(columns[fitted].T @ columns[fitted] / NOISE**2 + np.diag(SD**-2))
        return covariance @ (columns[fitted].T @ kpi[fitted] / NOISE**2 + MEAN / SD**2), covariance

    mean, covariance = posterior(np.ones(len(kpi), bool))
    without = np.array([posterior(np.arange(len(kpi)) != week)[0] for week in range(len(kpi))])
    coefficients = np.random.default_rng(0).multivariate_normal(mean, covariance, DRAWS).T
    drawn, miss = coefficients[6:], (kpi[:, None] - columns @ coefficients) / NOISE
    media = np.einsum("tc,cd->td", curves, drawn)
    assert unit.marginal is not None
    residual = kpi[:, None] - media - (baseline_columns(np.arange(len(kpi))) @ MEAN[:6])[:, None]
    marginal = replace(unit.marginal, residual=residual, noise=np.full(DRAWS, NOISE))
    contribution = drawn * curves.sum(axis=0)[:, None] * SCALE
    moved = (without - mean)[:, 6:] / np.sqrt(np.diag(covariance)[6:])
    noise = np.full(DRAWS, NOISE * SCALE)
    return replace(unit, contribution=contribution, marginal=marginal, residual=miss, noise=noise), moved


@pytest.mark.parametrize("fault", [_missed(0.0), _missed(8.0), _missed(-30.0), _once])
def test_a_week_moves_a_channel_about_as_far_as_a_fit_without_it(fault: Fault) -> None:
    for seed in range(3):
        unit, moved = _known_noise(regression(seed, fault=fault))
        found = _decisive(unit)
        assert found.statistic == pytest.approx(np.abs(moved).max(), rel=0.1)
        assert (found.verdict == "passed") == (found.statistic < found.threshold)
        if np.abs(moved).max() > 1:
            week, channel = np.unravel_index(np.argmax(np.abs(moved)), moved.shape)
            assert found.about == f"{CHANNELS[channel]}, {unit.dates[week]}"


def _all_in(week: int, unit: CheckedUnit, *, media: np.ndarray) -> CheckedUnit:
    """The unit with all that tv brings brought in one week, of such media."""
    response, contribution = unit.response.copy(), unit.contribution.copy()
    response[:, 0] = 0.0
    response[week, 0] = 30 * contribution[0].std()
    contribution[0] += response[week, 0] - contribution[0].mean()
    return replace(unit, media=media, response=response, contribution=contribution)


def test_a_channel_whose_curve_is_bent_to_one_week_certainly_misleads() -> None:
    unit = regression(1)
    found = _decisive(_all_in(40, unit, media=unit.media))
    assert (found.verdict, found.about) == ("misfit", "tv, 2022-10-10")
    assert found.statement.startswith("100% of what tv brings it brings in the week of 2022-10-10")


def test_a_channel_that_ran_in_one_week_may_bring_all_in_it() -> None:
    unit = regression(1)
    once = unit.media * (np.arange(len(unit.media))[:, None] == 40)
    assert _decisive(_all_in(40, unit, media=once)).verdict == "passed"


def test_a_unit_without_media_has_no_week_that_decides() -> None:
    unit = regression(0)
    assert np.isnan(_decisive(replace(unit, contribution=np.zeros_like(unit.contribution))).statistic)


def test_a_spike_of_media_is_a_doubt_where_its_money_moves_what_a_channel_returns():
    unit = regression(3)
    media = unit.media.copy()
    media[40, 0] = 3 * media[:, 0].max()
    told = posterior(np.random.default_rng(3), unit.kpi / SCALE, media)
    mean = told.contribution.mean(axis=1, keepdims=True)
    unsure = replace(told, contribution=mean + 3 * (told.contribution - mean))

    def verdict(unit: CheckedUnit) -> str:
        return next(check.verdict for check in single_week_checks(unit) if check.kind == "media_spike")

    assert (verdict(told), verdict(unsure)) == ("doubt", "note")
