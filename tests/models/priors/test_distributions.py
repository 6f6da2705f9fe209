"""Distributions of the usual priors: scipy's, number for number and draw for draw."""

import numpy as np
import pytest
from scipy import stats

from mixfleet.models.priors.distributions import Beta, CutNormal, Gamma, HalfNormal, LogNormal, Normal

PAIRS = [
    (Normal(0.3, 1.7), stats.norm(0.3, 1.7)),
    (HalfNormal(0.4), stats.halfnorm(scale=0.4)),
    (LogNormal(-1.2, 0.6), stats.lognorm(0.6, scale=np.exp(-1.2))),
    (LogNormal(0.4, 1.1, 2.5), stats.lognorm(1.1, loc=2.5, scale=np.exp(0.4))),
    (Beta(1.0, 3.0), stats.beta(1.0, 3.0)),
    (Beta(2.5, 0.7), stats.beta(2.5, 0.7)),
    (Gamma(3.0, 1.0), stats.gamma(3.0)),
    (Gamma(0.6, 0.25), stats.gamma(0.6, scale=0.25)),
]
CUT = [
    (CutNormal(*moments, *bounds), stats.truncnorm(*(np.array(bounds) - moments[0]) / moments[1], *moments))
    for moments, bounds in [
        ((0.2, 0.5), (0.0, 1.0)),
        ((0.1, 0.4), (-1.0, 1.0)),
        ((0.0, 0.1), (1.0, 2.0)),
        ((5.0, 1.0), (-3.0, 1.0)),
        ((0.5, 0.5), (0.1, np.inf)),
        ((-4.0, 0.1), (0.0, np.inf)),
    ]
]


@pytest.mark.parametrize(("own", "scipys"), PAIRS + CUT)
def test_a_distribution_is_scipys(own, scipys):
    assert own.mean() == pytest.approx(scipys.mean(), rel=1e-13)
    assert own.std() == pytest.approx(scipys.std(), rel=1e-13)
    assert own.median() == pytest.approx(scipys.median(), rel=1e-13)
    levels = np.linspace(0.001, 0.999, 41)
    np.testing.assert_allclose(own.ppf(levels), scipys.ppf(levels), rtol=1e-12)
    values = np.append(scipys.ppf(levels), [-3.0, 1.5])
    np.testing.assert_allclose(own.logpdf(values), scipys.logpdf(values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("own", "scipys"), PAIRS)
def test_draws_are_scipys_to_the_byte(own, scipys):
    drawn = own.rvs(size=100, random_state=np.random.default_rng(5))
    expected = scipys.rvs(size=100, random_state=np.random.default_rng(5))
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize(("own", "scipys"), CUT)
def test_draws_of_a_cut_normal_are_scipys_to_rounding(own, scipys):
    drawn = own.rvs(size=100, random_state=np.random.default_rng(5))
    np.testing.assert_allclose(drawn, scipys.rvs(size=100, random_state=np.random.default_rng(5)), rtol=1e-12)
