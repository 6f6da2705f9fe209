"""Draws of one normal weighed as draws of another have its moments, and where they cannot the tail says so."""

import numpy as np
import pytest

from mixfleet.posterior.importance import BAD_TAIL, pareto_smoothed


@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
def test_near_posteriors_are_weighed_right(mean: float):
    draws = np.random.default_rng(1).standard_normal(4000)
    weight, shape = pareto_smoothed(mean * draws - mean**2 / 2)
    assert abs(weight.sum() - 1) < 1e-12
    assert shape < BAD_TAIL
    assert abs(weight @ draws - mean) < 0.12
    assert abs(np.sqrt(weight @ (draws - mean) ** 2) - 1) < 0.12


def test_what_lies_far_away_is_not_believed():
    draws = np.random.default_rng(2).standard_normal(4000)
    _, shape = pareto_smoothed(-0.5 * (draws - 6) ** 2 / 0.1**2)
    assert shape > BAD_TAIL
    _, wider = pareto_smoothed(0.5 * draws**2 * (1 - 1 / 25))
    assert wider > BAD_TAIL


def test_a_known_tail_has_its_shape():
    for shape in (0.2, 0.5, 0.9):
        uniform = np.random.default_rng(3).uniform(size=100_000)
        _, found = pareto_smoothed(-shape * np.log(uniform))
        assert abs(found - shape) < 0.12


def test_equal_weights_stay_equal():
    weight, shape = pareto_smoothed(np.zeros(100))
    np.testing.assert_array_equal(weight, 0.01)
    assert shape < 0


def test_weights_as_far_apart_as_can_be_have_a_tail_without_end() -> None:
    weight, k = pareto_smoothed(-np.abs(np.random.default_rng(0).standard_cauchy(2000)) * 1e4)
    assert k > 5
    assert weight.sum() == pytest.approx(1.0)
    assert weight.max() > 0.1
