"""The leaderboard of a sweep: paired, with errors, and honest about noise."""

import numpy as np
import pytest

from mixfleet.cli.sweep import _scores


def test_scores_are_paired_differences_to_the_best() -> None:
    rng = np.random.default_rng(1)
    size = np.exp(rng.normal(5, 3, 40))
    factors = np.exp(rng.normal(0, 0.05, (3, 40)) + np.array([[0.0], [0.02], [0.5]]))
    found = _scores(list(size * factors))
    logs = np.log(factors)
    assert [one["score"] for one in found] == pytest.approx(logs.mean(axis=1) - logs[0].mean())
    own = (logs[1] - logs[0]).std(ddof=1) / np.sqrt(40)
    assert found[1]["score_se"] == pytest.approx(own)
    assert (found[0]["near_best"], found[2]["near_best"]) == (True, False)


def test_the_best_point_is_within_noise_in_most_repeats() -> None:
    """Twenty points whose true differences are small beside the noise: point 0 is best by construction."""
    kept = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.2, (20, 30)) + rng.normal(0, 1, 30)
        found = _scores(list(np.exp(noise + 0.01 * np.arange(20)[:, None])))
        kept += found[0]["near_best"]
    assert kept >= 190


def test_units_without_a_score_are_left_out_of_all_points() -> None:
    found = _scores([np.array([1.0, 2.0, np.nan]), np.array([2.0, 4.0, 1.0])])
    assert [one["score"] for one in found] == pytest.approx([0.0, np.log(2.0)])
    assert _scores([np.array([np.nan])]) == [{}]
    assert _scores([]) == []


def test_one_unit_says_nothing_of_noise() -> None:
    found = _scores([np.array([1.0]), np.array([3.0])])
    assert [one["score_se"] for one in found] == [None, None]
    assert all(one["near_best"] for one in found)
