"""A week left out: the exact formula is the one that leaves the week out and computes anew."""

import numpy as np
from scipy.stats import multivariate_normal

from mixfleet.posterior.model_checks.single_weeks import left_out
from tests.support.regressions import regression


def test_a_week_given_the_others_is_what_conditioning_says():
    marginal = regression(5, weeks=30).marginal
    assert marginal is not None
    error, sd = left_out(marginal)
    for week, draw in ((0, 0), (13, 7), (29, 150)):
        noise, y = marginal.noise[draw], marginal.residual[:, draw]
        whole = marginal.basis * marginal.variance @ marginal.basis.T + noise**2 * np.eye(30)
        rest = np.delete(np.arange(30), week)
        weights = np.linalg.solve(whole[np.ix_(rest, rest)], whole[rest, week])
        np.testing.assert_allclose(error[week, draw], y[week] - weights @ y[rest], rtol=1e-8)
        np.testing.assert_allclose(sd[week, draw] ** 2, whole[week, week] - weights @ whole[rest, week], rtol=1e-8)
        joint = multivariate_normal(np.zeros(30), whole).logpdf(y)
        others = multivariate_normal(np.zeros(29), whole[np.ix_(rest, rest)]).logpdf(y[rest])
        own = -0.5 * (error[week, draw] / sd[week, draw]) ** 2 - np.log(sd[week, draw]) - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(own, joint - others, rtol=1e-7)
