"""Weeks left out: the exact formulas are those that leave the week out and compute anew."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mixfleet.models.baseline.decomposition import decompose
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Lasting
from mixfleet.posterior.model_checks.left_out import left_out, regression_misses, week_log_density
from tests.support.regressions import regression


def with_holes() -> CheckedUnit:
    """A unit of 40 weeks, the second, the ninth to eleventh and others not fitted, with noise that lasts."""
    unit = regression(5, weeks=40)
    fitted = ~np.isin(np.arange(40), [1, 8, 9, 10, 20, 38])
    own = unit.marginal
    assert own is not None
    residual = own.residual * fitted[:, None]
    basis, variance, _ = decompose(own.basis * fitted[:, None], np.sqrt(own.variance))
    correlation = np.random.default_rng(1).uniform(-0.6, 0.95, len(own.noise))
    lasting = Lasting(fitted=fitted, residual=residual, basis=basis, variance=variance, correlation=correlation)
    marginal = replace(own, residual=residual, basis=basis, variance=variance, lasting=lasting)
    return replace(unit, fitted=fitted, marginal=marginal, residual=unit.residual * fitted[:, None])


@pytest.mark.parametrize("lasts", [True, False])
def test_a_week_given_the_others_is_what_conditioning_says(lasts: bool) -> None:
    unit = with_holes()
    marginal = unit.marginal
    assert marginal is not None
    assert marginal.lasting is not None
    correlation = marginal.lasting.correlation * lasts
    marginal = marginal if lasts else replace(marginal, lasting=None)
    found = week_log_density(replace(unit, marginal=marginal))[unit.fitted]
    places = np.flatnonzero(unit.fitted)
    error, sd = left_out(marginal)
    basis, y = marginal.basis[places], marginal.residual[places]
    for week, draw in ((0, 0), (7, 150), (8, 7), (16, 3), (len(places) - 1, 90)):
        noise = marginal.noise[draw] ** 2 * correlation[draw] ** np.abs(places[:, None] - places)
        whole = basis * marginal.variance @ basis.T + noise
        rest = np.delete(np.arange(len(places)), week)
        gain = np.linalg.solve(whole[np.ix_(rest, rest)], whole[rest, week])
        variance = whole[week, week] - gain @ whole[rest, week]
        assert error[places[week], draw] == pytest.approx(y[week, draw] - gain @ y[rest, draw], rel=1e-8)
        assert sd[places[week], draw] ** 2 == pytest.approx(variance, rel=1e-8)
        joint = multivariate_normal(np.zeros(len(y)), whole).logpdf(y[:, draw])
        others = multivariate_normal(np.zeros(len(rest)), whole[np.ix_(rest, rest)]).logpdf(y[rest, draw])
        assert found[week, draw] - 0.5 * np.log(2 * np.pi) == pytest.approx(joint - others, rel=1e-7)


@pytest.mark.parametrize("lasts", [True, False])
@pytest.mark.parametrize("around", [0, 3])
def test_a_regression_of_weeks_further_away_is_one_fitted_without_those_nearby(lasts: bool, around: int) -> None:
    unit = with_holes()
    own = unit.marginal
    assert own is not None
    assert own.lasting is not None
    marginal = own if lasts else replace(own, lasting=None)
    found = regression_misses(marginal, unit.fitted, around)
    places = np.flatnonzero(unit.fitted)
    last = own.lasting.correlation.mean() * lasts
    basis, y = marginal.basis[places], marginal.residual[places].mean(axis=1)
    noise = marginal.noise.mean() ** 2 * last ** np.abs(places[:, None] - places)
    for week in range(len(places)):
        far = np.flatnonzero(np.abs(np.arange(len(places)) - week) > around)
        whole = basis[far] * marginal.variance @ basis[far].T + noise[np.ix_(far, far)]
        coefficients = marginal.variance * (basis[far].T @ np.linalg.solve(whole, y[far]))
        assert found[week] == pytest.approx(y[week] - basis[week] @ coefficients, rel=1e-7, abs=1e-10)


def test_noise_that_lasts_not_at_all_has_the_formula_of_independent_weeks() -> None:
    unit = with_holes()
    own = unit.marginal
    assert own is not None
    assert own.lasting is not None
    none = replace(own, lasting=replace(own.lasting, correlation=np.zeros_like(own.noise)))
    error, sd = left_out(replace(own, lasting=None))
    for found, expected in zip(left_out(none), (error, sd), strict=True):
        np.testing.assert_allclose(found[unit.fitted], expected[unit.fitted], rtol=1e-9)


def test_where_the_baseline_is_drawn_weeks_are_told_by_the_misses_of_their_neighbours() -> None:
    unit = with_holes()
    assert unit.marginal is not None
    assert unit.marginal.lasting is not None
    correlation = unit.marginal.lasting.correlation
    nothing = np.zeros((len(unit.fitted), 0))
    lasting = Lasting(
        fitted=unit.fitted, residual=unit.residual, basis=nothing, variance=np.zeros(0), correlation=correlation
    )
    found = week_log_density(replace(unit, marginal=None, lasting=lasting))[unit.fitted]
    places, y = np.flatnonzero(unit.fitted), unit.residual[unit.fitted]
    for week, draw in ((0, 0), (7, 150), (len(places) - 1, 90)):
        whole = correlation[draw] ** np.abs(places[:, None] - places)
        rest = np.delete(np.arange(len(places)), week)
        joint = multivariate_normal(np.zeros(len(y)), whole).logpdf(y[:, draw])
        others = multivariate_normal(np.zeros(len(rest)), whole[np.ix_(rest, rest)]).logpdf(y[rest, draw])
        expected = joint - others - np.log(unit.noise[draw])
        assert found[week, draw] - 0.5 * np.log(2 * np.pi) == pytest.approx(expected, rel=1e-7)
