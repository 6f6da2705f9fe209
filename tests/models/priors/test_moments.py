"""The prior of one unit's pooled strength is about the one that is stated, whatever the group's spreads."""

import numpy as np
import pytest

from mixfleet.config import Pooling
from mixfleet.config.priors import PARAMETERS, Distribution, distribution
from mixfleet.models.priors.moments import pooled_strength
from mixfleet.simulation.truth import draw, draw_pooled

USUAL = PARAMETERS["media_share"].default


def drawn(prior: Distribution, channels: int, keys: int, draws: int = 20_000) -> np.ndarray:
    """Strengths of one unit, [channel, draw], from hyperparameters of their own."""
    random = np.random.default_rng(1)
    mean, centre_sd, _ = pooled_strength(prior, Pooling().effect or 0.0, 1 + keys)
    spread = (Pooling().effect or 0.0) * np.abs(random.standard_normal((1 + keys, channels, draws)))
    parts = (spread * random.standard_normal(spread.shape)).sum(axis=0)
    return np.exp(mean + centre_sd * random.standard_normal(parts.shape) + parts)


@pytest.mark.parametrize("keys", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2, 5, 13, 30])
def test_media_are_not_expected_to_bring_more_than_all_sales(channels: int, keys: int) -> None:
    total = drawn(USUAL, channels, keys).mean(axis=0)
    # One channel has the stated 95 % by construction; the error of 20,000 draws is 0.0015.
    assert np.mean(total < 1) > 0.945
    assert 0.2 < np.median(total) < 0.5


@pytest.mark.parametrize("keys", [0, 1])
@pytest.mark.parametrize("prior", [USUAL, distribution("lognormal", mean_log=0.2, sd_log=0.9)], ids=str)
def test_a_unit_has_the_stated_median_and_upper_quantile(prior: Distribution, keys: int) -> None:
    own = drawn(prior, 1, keys)[0]
    stated = np.quantile(drawn_alone(prior), (0.5, 0.95))
    np.testing.assert_allclose(np.quantile(own, (0.5, 0.95)), stated, rtol=0.05)
    mean, _, sd = pooled_strength(prior, Pooling().effect or 0.0, 1 + keys)
    np.testing.assert_allclose(np.exp(mean + sd * np.array([0.0, 1.6449])), np.quantile(own, (0.5, 0.95)), rtol=0.05)


def drawn_alone(prior: Distribution) -> np.ndarray:

    random = np.random.default_rng(2)
    return np.array([draw(prior, random) for _ in range(20_000)])


def test_wide_spreads_leave_the_centre_some_width() -> None:
    narrow = distribution("lognormal", mean_log=0.0, sd_log=0.4)
    mean, sd, _ = pooled_strength(narrow, 0.5, 3)
    assert sd == pytest.approx(0.2)
    assert mean < 0


def test_the_simulation_draws_from_the_same_centre() -> None:
    random = np.random.default_rng(0)
    centres = [
        draw_pooled(random, distributions={"effect": [USUAL]}, pooling=Pooling(), keys=["a"], channels=["tv"]).centre[
            "effect"
        ][0]
        for _ in range(4000)
    ]
    mean, sd, _ = pooled_strength(USUAL, Pooling().effect or 0.0, 2)
    assert np.mean(centres) == pytest.approx(mean, abs=4 * sd / 4000**0.5)
    assert np.std(centres) == pytest.approx(sd, rel=0.05)
