"""Stacking: the best weights, undecided where the data are, and exact scores of weeks left out."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from mixfleet.posterior.model_checks.checked_unit import Lasting
from mixfleet.posterior.structures.stacking import (
    LeftOutScore,
    fleet_weights,
    known_together,
    left_out_score,
    stacked,
)
from tests.support.regressions import Drawn, regression, replaced

RNG = np.random.default_rng(0)
EVEN = np.full(3, 1 / 3)


def test_weights_are_those_of_the_highest_penalised_density() -> None:
    log_density = RNG.normal(0.0, 1.0, (80, 3)) + np.array([0.3, 0.0, -0.5])
    prior, weeks = np.array([0.5, 0.3, 0.2]), 7.0

    def loss(u: np.ndarray) -> float:
        w = np.exp(np.append(u, 0.0))
        w /= w.sum()
        return -float(np.log(np.exp(log_density) @ w).sum() + weeks * prior @ np.log(w))

    found = minimize(loss, np.zeros(2), tol=1e-12).x
    best = np.exp(np.append(found, 0.0))
    np.testing.assert_allclose(stacked(log_density, prior, weeks), best / best.sum(), atol=1e-5)


def test_structures_that_cannot_be_told_apart_keep_their_prior() -> None:
    same = np.repeat(RNG.normal(size=(150, 1)), 3, axis=1)
    prior = np.array([0.6, 0.3, 0.1])
    np.testing.assert_allclose(stacked(same, prior), prior, atol=1e-9)
    # A little worse in every week: plain stacking would leave nothing.
    assert stacked(same - np.array([0.0, 0.01, 0.01]), EVEN)[1] > 0.2


def test_a_structure_that_the_data_refute_has_next_to_no_weight() -> None:
    log_density = np.stack([np.zeros(150), np.full(150, -1.0)], axis=1)
    assert stacked(log_density, np.full(2, 0.5))[1] < 0.1


def test_a_fleet_decides_what_a_unit_cannot() -> None:
    units = [np.stack([np.zeros(100), RNG.normal(-0.02, 0.1, 100)], axis=1) for _ in range(200)]
    fleet = fleet_weights(units, 2)
    assert fleet[0] > stacked(units[0], np.full(2, 0.5))[0]
    assert 0.05 < fleet[1] < 0.48
    np.testing.assert_allclose(fleet_weights([], 2), 0.5)


def test_weeks_that_some_structure_cannot_tell_do_not_count() -> None:
    good = LeftOutScore(np.arange(4.0), np.array([0.1, 0.9, 0.2, 0.3]))
    known = known_together([good, good._replace(shape=np.zeros(4))])
    assert known is not None
    np.testing.assert_array_equal(known, [[0, 0], [2, 2], [3, 3]])
    assert known_together([good, None]) is None


def test_scores_of_known_curves_are_exact() -> None:
    unit = regression(3, weeks=60)
    assert unit.marginal is not None
    alike = {name: np.repeat(getattr(unit.marginal, name)[..., :1], 50, axis=-1) for name in ("residual", "noise")}
    marginal = replace(unit.marginal, **alike)
    found = left_out_score(replace(unit, marginal=marginal))
    kpi, noise = marginal.residual[:, 0], marginal.noise[0]
    covariance = marginal.basis * marginal.variance @ marginal.basis.T + noise**2 * np.eye(60)
    for week in (0, 17, 59):
        others = np.delete(np.arange(60), week)
        gain = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, week])
        variance = covariance[week, week] - gain @ covariance[others, week]
        exact = multivariate_normal(gain @ kpi[others], variance).logpdf(kpi[week])
        assert found.log_density[week] == pytest.approx(exact + 0.5 * np.log(2 * np.pi), abs=1e-9)
    assert np.all(found.shape < 0.7)


@pytest.mark.parametrize("truth", [0.7, 0.0])
def test_a_fleet_finds_whether_noise_lasts(truth: float) -> None:
    units = []
    for seed in range(20):
        unit = regression(seed, fault=replaced("errors", lambda drawn: _lasting(drawn, truth)))
        own = unit.marginal
        assert own is not None
        parts = {name: getattr(own, name) for name in ("residual", "basis", "variance")}
        scores = []
        for correlation in (truth, 0.7 - truth):
            lasting = Lasting(fitted=unit.fitted, **parts, correlation=np.full(len(own.noise), correlation))
            scores.append(left_out_score(replace(unit, marginal=replace(own, lasting=lasting))))
        known = known_together(scores)
        assert known is not None
        units.append(known)
    assert np.mean([len(known) for known in units]) > 100
    assert fleet_weights(units, 2)[0] > 0.7


def _lasting(drawn: Drawn, correlation: float) -> np.ndarray:
    errors = drawn.errors.copy()
    for week in range(1, len(errors)):
        errors[week] = correlation * errors[week - 1] + np.sqrt(1 - correlation**2) * errors[week]
    return errors
