"""What a unit's model expects of its weeks where misses last: the normal law of all its weeks, given those known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.posterior.fit_quality import Predictive, agreement, predictive, weekly_fit
from mixfleet.posterior.scores import scores
from tests.support.saved_run import saved_run

DRAWS = 2000


@pytest.mark.parametrize("link", ["identity", "log"])
def test_weeks_are_told_given_the_known_ones_before(tmp_path: Path, link: str) -> None:
    fleet = saved_run(tmp_path, Model()).fleet()
    unit, series = fleet.units[0], next(fleet.series())
    weeks, random = len(unit.dates), np.random.default_rng(4)
    scale = 1.0 if link == "log" else 9000.0
    coefficients = np.zeros((series.coefficients.shape[0], DRAWS))
    coefficients[0] = 9.0 * scale + 0.1 * scale * random.standard_normal(DRAWS)
    noise, correlation = scale * random.uniform(0.1, 0.3, DRAWS), random.uniform(-0.5, 0.9, DRAWS)
    known = series.known.copy()
    known[[0, 7, 8, *range(weeks - 6, len(known))]] = False
    # Behind the noise's own parameters stand scales of the baseline.
    observation = np.stack([noise, correlation, np.ones(DRAWS)])
    series = series._replace(coefficients=coefficients, observation=observation, known=known, log_link=link == "log")
    media = 0.1 * scale * random.standard_normal((len(series.kpi), DRAWS))
    model = Model(observation="ar1", link=link)
    found = predictive(unit, series, media.copy(), model)
    level = series.design[:weeks] @ coefficients + media[:weeks]
    value = np.log(unit.kpi) if link == "log" else unit.kpi
    white = np.zeros((weeks, DRAWS))
    for week in range(weeks):
        before = np.flatnonzero(known[:week])
        for d in (0, 1):
            # The whole covariance, written down: nothing of it is a recursion.
            among = noise[d] ** 2 * correlation[d] ** np.abs(before[:, None] - before)
            with_it = noise[d] ** 2 * correlation[d] ** (week - before)
            taken = np.linalg.solve(among, with_it)
            mean = level[week, d] + taken @ (value - level[:, d])[before]
            variance = noise[d] ** 2 - taken @ with_it
            told = np.exp(mean + variance / 2) if link == "log" else mean
            assert found.expected[week, d] == pytest.approx(told, rel=1e-9)
        last = before.max() if len(before) else -np.inf
        left = noise * np.sqrt(1 - np.abs(correlation) ** (2 * (week - last)))
        kpi = found.expected[week] + found.noise[week]
        told = np.log(found.expected[week]) - left**2 / 2 if link == "log" else found.expected[week]
        white[week] = ((np.log(kpi) if link == "log" else kpi) - told) / left
    # What chance adds is standard normal by week, and the KPI has the mean that is expected.
    assert np.abs(white.mean(axis=1)).max() < 5 / np.sqrt(DRAWS)
    np.testing.assert_allclose(white.std(axis=1), 1.0, atol=0.08)


def test_weeks_and_scores_are_those_of_the_sorted_draws_of_a_kpi_that_hardly_moves(tmp_path: Path) -> None:
    """Which in single precision would be one number."""
    unit = saved_run(tmp_path, Model()).fleet().units[0]
    weeks, random = len(unit.dates), np.random.default_rng(5)
    expected, noise = 1e9 + random.standard_normal((weeks, DRAWS)), random.standard_normal((weeks, DRAWS))
    kpi = 1e9 + 1.5 * random.standard_normal(weeks)
    ordered = np.sort(expected + noise, axis=1)
    unit, counted = replace(unit, kpi=kpi), np.ones(weeks, bool)
    weekly, quality = weekly_fit(unit, Predictive(expected, noise), counted, 0)
    np.testing.assert_allclose(weekly["q05"], ordered[:, DRAWS // 20], rtol=0, atol=1e-6)
    np.testing.assert_allclose(weekly["q95"], ordered[:, DRAWS * 19 // 20 - 1], rtol=0, atol=1e-6)
    mean = expected.mean(axis=1)
    in_full = scores(kpi, mean, ordered - mean[:, None])
    assert quality["crps"] == agreement(kpi, Predictive(expected, noise))["crps"]
    for name, value in in_full.items():
        np.testing.assert_allclose(quality[name], value, rtol=1e-5)
