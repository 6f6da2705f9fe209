"""Noise that goes on from week to week is what its correlations say, given the weeks that are known."""

import numpy as np

from mixfleet.models.observation import Autocorrelated

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
