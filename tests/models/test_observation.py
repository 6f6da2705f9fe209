"""Noise that goes on from week to week is what its correlations say, given the weeks that are known."""

import numpy as np
import pytest

from mixfleet.models.observation import Autocorrelated, carried_shares, whitened

DRAWS = 40_000


def given(error: np.ndarray, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    draws = np.full(DRAWS, 2.0), np.full(DRAWS, correlation)
    return Autocorrelated().given(np.random.default_rng(1), np.repeat(error[:, None], DRAWS, axis=1), draws)


def test_what_a_miss_lets_expect_fades_and_chance_grows_to_the_whole() -> None:
    error = np.array([1.0, np.nan, -3.0, np.nan, np.nan, np.nan])
    carried, chance = given(error, 0.8)
    # The week after the hole is told from the last known one before it, two weeks back.
    np.testing.assert_allclose(carried[:, 0], [0.0, 0.8, 0.64, -2.4, -1.92, -1.536])
    sd = 2.0 * np.sqrt(1 - 0.8 ** (2 * np.array([np.inf, 1, 2, 1, 2, 3])))
    np.testing.assert_allclose(chance.std(axis=1), sd, rtol=0.02)
    variance = Autocorrelated().variance_given(np.isfinite(error), (np.array([2.0]), np.array([0.8])))
    np.testing.assert_allclose(variance[:, 0], sd**2)
    together = np.corrcoef(chance[3:])
    # Weeks ahead are one path: a sum over them has its own spread.
    np.testing.assert_allclose(together[0, 1], 0.8 * sd[3] / sd[4], atol=0.02)


def test_of_weeks_that_nobody_knows_noise_is_stationary() -> None:
    noise = Autocorrelated().noise(np.random.default_rng(2), (5, DRAWS), (np.full(DRAWS, 0.5), np.full(DRAWS, -0.4)))
    np.testing.assert_allclose(noise.std(axis=1), 0.5, rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(noise)[0], (-0.4) ** np.arange(5), atol=0.02)


def test_without_correlation_it_is_independent() -> None:
    carried, chance = given(np.array([5.0, 4.0, np.nan]), 0.0)
    np.testing.assert_array_equal(carried, 0.0)
    np.testing.assert_allclose(chance.std(axis=1), 2.0, rtol=0.02)


@pytest.mark.parametrize("places", [np.arange(9), np.array([0, 1, 4, 5, 9])], ids=["every week", "some missing"])
def test_whitened_weeks_are_less_what_the_week_before_says_of_them(places: np.ndarray) -> None:
    random = np.random.default_rng(0)
    values, correlation = random.standard_normal((len(places), 3)), random.uniform(-0.5, 0.9, 3)
    share = correlation ** np.diff(places)[:, None]
    expected = (values[1:] - share * values[:-1]) / np.sqrt(1 - share**2)
    np.testing.assert_allclose(carried_shares(correlation, places), share, rtol=1e-13)
    np.testing.assert_array_equal(whitened(values, correlation, places)[0], values[0])
    np.testing.assert_allclose(whitened(values, correlation, places)[1:], expected, rtol=1e-12)
    np.testing.assert_allclose(whitened(values, 0.5, places)[:, :1], whitened(values[:, :1], 0.5, places), rtol=1e-12)
