"""A quarter given the weeks before it: the formula is the one of the joint normal."""

import numpy as np

from mixfleet.posterior.model_checks.forecasts import block_errors
from tests.support.regressions import regression


def test_a_block_is_foretold_as_conditioning_says():
    marginal = regression(6, weeks=60).marginal
    assert marginal is not None
    before, block = np.arange(47), np.arange(47, 60)
    found = block_errors(marginal, before, block)
    for draw in (0, 99):
        noise, y = marginal.noise[draw], marginal.residual[:, draw]
        whole = marginal.basis * marginal.variance @ marginal.basis.T + noise**2 * np.eye(60)
        weights = np.linalg.solve(whole[np.ix_(before, before)], whole[np.ix_(before, block)])
        spread = whole[np.ix_(block, block)] - whole[np.ix_(block, before)] @ weights
        error = (y[block] - weights.T @ y[before]).mean()
        np.testing.assert_allclose(found[draw], error / np.sqrt(spread.mean()), rtol=1e-7)


def test_errors_of_quarters_are_standard_normal_under_the_model():
    errors = []
    for seed in range(60):
        marginal = regression(seed, weeks=80).marginal
        assert marginal is not None
        errors += [block_errors(marginal, np.arange(last), np.arange(last, last + 13))[0] for last in (41, 54, 67)]
    # 180 numbers: means within 4 standard errors.
    assert abs(np.mean(errors)) < 4 / np.sqrt(180)
    assert abs(np.mean(np.square(errors)) - 1) < 4 * np.sqrt(2 / 180)
