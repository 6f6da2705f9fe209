"""Displacement: as far as a model with what is left out would be from one without."""

import numpy as np
import pytest

from mixfleet.posterior.model_checks.check import HARMLESS, concluded
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.displacement import displacement, moves_media, weeks_alone
from mixfleet.posterior.model_checks.judge import judge_model
from tests.support.regressions import MEAN, SCALE, SD, Drawn, baseline_columns, regression, replaced, saturated

MEDIA = slice(len(MEAN) - 2, len(MEAN))
WIDE = 1e3
"""Prior standard deviation of coefficients of which nothing is known."""


def moved(unit: CheckedUnit, directions: np.ndarray) -> np.ndarray:
    """Posterior means with these columns in the model, less those without, in posterior standard deviations."""
    noise, kpi = unit.noise.mean() / SCALE, unit.kpi / SCALE
    columns = np.column_stack([baseline_columns(np.arange(len(kpi))), saturated(unit.media)])
    before, sd = coefficients(columns, kpi, noise)
    after, _ = coefficients(np.column_stack([columns, directions]), kpi, noise)
    return (after - before) / sd


def coefficients(columns: np.ndarray, kpi: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and standard deviations of the media's coefficients."""
    others = columns.shape[1] - len(MEAN)
    mean, sd = np.append(MEAN, np.zeros(others)), np.append(SD, np.full(others, WIDE))
    covariance = np.linalg.inv(columns.T @ columns / noise**2 + np.diag(sd**-2))
    found = covariance @ (columns.T @ kpi / noise**2 + mean / sd**2)
    return found[MEDIA], np.sqrt(np.diag(covariance))[MEDIA]


def beside_media(drawn: Drawn) -> np.ndarray:
    """A step that goes with tv's media."""
    return drawn.baseline + 0.1 * (drawn.media[:, 0] > np.median(drawn.media[:, 0]))


@pytest.mark.parametrize("seed", range(4))
def test_what_goes_with_media_moves_them_as_a_model_with_it_would(seed):
    unit = regression(seed, fault=replaced("baseline", beside_media))
    step = (unit.media[:, 0] > np.median(unit.media[:, 0]))[:, None] - 0.5
    expected = moved(unit, step)
    # Of 200 draws a correlation is known to about 0.07, and residuals are five deviations or more along the step.
    np.testing.assert_allclose(displacement(unit, step), expected, atol=0.2 * np.abs(expected).max())
    assert expected[0] < -2
    assert moves_media(unit, step)


def test_a_week_alone_leaves_the_week_out():
    unit = regression(1, fault=replaced("errors", lambda drawn: drawn.errors + 15 * (np.arange(104) == 40)))
    alone = weeks_alone(np.arange(104) == 40)
    np.testing.assert_allclose(displacement(unit, alone), moved(unit, alone), atol=0.2)


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
