"""Displacement: as far as a model with what is left out would be from one without."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.posterior.model_checks.check import HARMLESS, concluded
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.displacement import displacement, moves_media, reweighed, weeks_alone
from mixfleet.posterior.model_checks.judge import judge_model
from tests.support.regressions import MEAN, SCALE, SD, Drawn, baseline_columns, regression, replaced, saturated

MEDIA = slice(len(MEAN) - 2, len(MEAN))
WIDE = 1e3
"""Prior standard deviation of coefficients of which nothing is known."""


def moved(
    unit: CheckedUnit, directions: np.ndarray, *, brings: np.ndarray | None = None, sd: float = WIDE
) -> np.ndarray:
    """Posterior means of what media bring with these columns in the model, less those without, in posterior sds."""
    noise, kpi = unit.noise.mean() / SCALE, unit.kpi / SCALE
    curves = saturated(unit.media)
    columns = np.column_stack([baseline_columns(np.arange(len(kpi))), curves])
    before, spread = coefficients(unit, columns, noise, sd)
    after, _ = coefficients(unit, np.column_stack([columns, directions]), noise, sd)
    added = 0.0 if brings is None else brings.sum(axis=1) @ after[len(MEAN) :]
    return ((after - np.pad(before, (0, len(after) - len(before))))[MEDIA] * curves.sum(axis=0) + added) / (
        spread[MEDIA] * curves.sum(axis=0)
    )


def coefficients(unit: CheckedUnit, columns: np.ndarray, noise: float, wide: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and standard deviations of all coefficients."""
    columns, kpi = unit.as_residuals(columns), unit.as_residuals(unit.kpi[:, None] / SCALE)[:, 0]
    others = columns.shape[1] - len(MEAN)
    mean, sd = np.append(MEAN, np.zeros(others)), np.append(SD, np.full(others, wide))
    covariance = np.linalg.inv(columns.T @ columns / noise**2 + np.diag(sd**-2))
    return covariance @ (columns.T @ kpi / noise**2 + mean / sd**2), np.sqrt(np.diag(covariance))


def bent(unit: CheckedUnit) -> tuple[np.ndarray, np.ndarray]:
    """Square and cube of tv's response around its mean, and what tv would bring by them."""
    share = saturated(unit.media)[:, 0]
    level, mean = share - share.mean(), share.mean()
    directions, brings = np.column_stack([level**2, level**3]), np.zeros((2, len(share), 2))
    brings[0] = np.column_stack([level**2 - mean**2, level**3 + mean**3])
    return directions - directions.mean(axis=0), brings


def beside_media(drawn: Drawn) -> np.ndarray:
    """A step that goes with tv's media."""
    return drawn.baseline + 0.1 * (drawn.media[:, 0] > np.median(drawn.media[:, 0]))


@pytest.mark.parametrize("correlation", [None, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_what_goes_with_media_moves_them_as_a_model_with_it_would(seed, correlation):
    unit = regression(seed, fault=replaced("baseline", beside_media), correlation=correlation)
    step = (unit.media[:, 0] > np.median(unit.media[:, 0]))[:, None] - 0.5
    expected = moved(unit, step)
    # Of 200 draws a correlation is known to about 0.07, and residuals are five deviations or more along the step.
    np.testing.assert_allclose(displacement(unit, step), expected, atol=0.2 * np.abs(expected).max())
    assert expected[0] < -2
    assert moves_media(unit, step)


@pytest.mark.parametrize("correlation", [None, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_media_s_own_moves_them_by_what_it_brings_too(seed, correlation):
    bend = replaced("baseline", lambda drawn: drawn.baseline + 0.2 * drawn.response[:, 0] ** 3)
    # The small difference of two large ones, which 200 draws know only roughly.
    unit = regression(seed, fault=bend, correlation=correlation, draws=2000)
    directions, brings = bent(unit)
    expected = moved(unit, directions, brings=brings)
    found = displacement(unit, directions, brings=brings)
    np.testing.assert_allclose(found, expected, atol=0.3 * max(np.abs(expected).max(), 2.0))


def test_whether_media_move_is_asked_of_all_draws():
    unit = regression(0, fault=replaced("baseline", beside_media))
    step = (unit.media[:, 0] > np.median(unit.media[:, 0]))[:, None] - 0.5
    assert moves_media(unit, step)
    assert not moves_media(replace(unit, whole=lambda: regression(0)), step)


@pytest.mark.parametrize("seed", range(4))
def test_a_pattern_of_a_known_size_moves_media_as_its_prior_lets_it(seed):
    pattern = 0.06 * np.resize(np.random.default_rng(seed).standard_normal(52), 104)
    unit = regression(seed, fault=replaced("baseline", lambda drawn: drawn.baseline + pattern))
    weeks = (np.arange(104)[:, None] % 52 == np.arange(52)) - 1 / 52
    against = (unit.noise.mean() / SCALE / 0.06) ** 2
    expected = moved(unit, weeks, sd=0.06)
    # Fifty-one directions of 200 draws.
    np.testing.assert_allclose(displacement(unit, weeks, against=against), expected, atol=0.3)


def test_draws_are_left_to_tell_what_media_do_and_not_what_the_baseline_adds():
    off = []
    for seed in range(12):
        unit = regression(
            seed, fault=replaced("baseline", lambda drawn: drawn.baseline + 0.2 * drawn.response[:, 0] ** 3)
        )
        directions, brings = bent(unit)
        expected = moved(unit, directions, brings=brings)
        off.append((displacement(unit, directions, brings=brings) - expected) / max(np.abs(expected).max(), 2.0))
    # 0.33 where the baseline's share of the scores' variance is taken from the draws too.
    assert np.sqrt(np.mean(np.square(off))) < 0.25


def test_a_week_alone_leaves_the_week_out():
    unit = regression(1, fault=replaced("errors", lambda drawn: drawn.errors + 15 * (np.arange(104) == 40)))
    alone = weeks_alone(np.arange(104) == 40)
    np.testing.assert_allclose(displacement(unit, alone), moved(unit, alone), atol=0.2)


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_what_media_fit_all_but_wholly_and_miss_moves_them(seed):
    """Nearly tv's own column, of which next to nothing is left; further than what is left can tell."""
    other = np.random.default_rng(seed).standard_normal(104)
    unit = regression(seed, fault=replaced("errors", lambda drawn: 0.1 * drawn.errors + 0.02 * other))
    own = saturated(unit.media)[:, 0]
    near = (own - own.mean()) / own.std() + 0.2 * other
    direction = (near - near.mean())[:, None]
    assert moved(unit, direction)[0] < -2
    assert displacement(unit, direction)[0] < -1
    assert moves_media(unit, direction)


def test_no_direction_moves_nothing():
    unit = regression(1)
    np.testing.assert_array_equal(displacement(unit, weeks_alone(np.zeros(104, bool))), [0.0, 0.0])


def test_a_break_that_moves_no_media_is_a_note():
    step = np.arange(104) > 60
    found = {}
    for seed in range(6):
        unit = regression(seed, fault=replaced("baseline", lambda drawn: drawn.baseline + 0.07 * step))
        [check] = [check for check in judge_model(unit) if check.kind == "level_break"]
        found[check.verdict] = check
    assert "note" in found
    assert found["note"].statement.endswith(HARMLESS)
    assert found["note"].statistic >= found["note"].threshold


def test_what_certainly_misleads_is_no_note():
    assert concluded("kpi_outlier", 30.0, 12.0, "far away", misfit=25.0, harmless=True).verdict == "misfit"
    assert concluded("kpi_outlier", 5.0, 12.0, "far away", misfit=25.0, harmless=True).statement == ""


@pytest.mark.parametrize("correlation", [None, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_weeks_of_another_weight_move_media_as_a_fit_with_it_would(seed, correlation):
    unit = regression(seed, correlation=correlation)
    weight = np.exp(np.random.default_rng(seed).normal(size=unit.weeks))
    noise = unit.noise.mean() / SCALE
    columns = unit.as_residuals(np.column_stack([baseline_columns(np.arange(unit.weeks)), saturated(unit.media)]))
    kpi = unit.as_residuals(unit.kpi[:, None] / SCALE)[:, 0]

    def fitted(weight):
        covariance = np.linalg.inv((weight[:, None] * columns).T @ columns / noise**2 + np.diag(SD**-2))
        return covariance @ ((weight * kpi) @ columns / noise**2 + MEAN / SD**2), np.sqrt(np.diag(covariance))

    (before, spread), (after, _) = fitted(np.ones(unit.weeks)), fitted(weight)
    expected = ((after - before) / spread)[MEDIA]
    np.testing.assert_allclose(reweighed(unit, weight), expected, atol=0.3)
