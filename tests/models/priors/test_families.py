"""Priors: every distribution, in its coordinate, is the distribution that scipy knows."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet.config.priors import Distribution, distribution
from mixfleet.models.priors.families import FAMILIES, family_of, with_slope


def between(mean: float, sd: float, low: float, high: float) -> Any:
    return stats.truncnorm((low - mean) / sd, (high - mean) / sd, loc=mean, scale=sd)


class HalfT:
    """The upper half of scipy's t."""

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        return np.log(2) + stats.t.logpdf(value, 4, scale=0.3)


HALF_T = HalfT()

PRIORS: dict[str, tuple[Distribution, Any]] = {
    "half_normal": (distribution("half_normal", sd=0.3), stats.halfnorm(scale=0.3)),
    "half_student_t": (distribution("half_student_t", df=4, scale=0.3), HALF_T),
    "lognormal": (distribution("lognormal", mean_log=-0.7, sd_log=0.4), stats.lognorm(0.4, scale=np.exp(-0.7))),
    "shifted_lognormal": (
        distribution("shifted_lognormal", shift=0.1, mean_log=0.7, sd_log=0.4),
        stats.lognorm(0.4, loc=0.1, scale=np.exp(0.7)),
    ),
    "gamma": (distribution("gamma", shape=3, rate=2), stats.gamma(3, scale=0.5)),
    "inverse_gamma": (distribution("inverse_gamma", shape=3, scale=0.4), stats.invgamma(3, scale=0.4)),
    "exponential": (distribution("exponential", rate=4), stats.expon(scale=0.25)),
    "beta": (distribution("beta", a=1.5, b=3), stats.beta(1.5, 3)),
    "beta_at_its_bound": (distribution("beta", a=1, b=0.5), stats.beta(1, 0.5)),
    "uniform": (distribution("uniform", low=0.1, high=0.7), stats.uniform(0.1, 0.6)),
    "truncated_normal": (
        distribution("truncated_normal", mean=1, sd=0.5, low=0.2, high=3),
        between(1, 0.5, 0.2, 3),
    ),
    "truncated_normal_in_its_tail": (
        distribution("truncated_normal", mean=0, sd=0.1, low=1.0, high=2.0),
        between(0, 0.1, 1.0, 2.0),
    ),
    "lower_truncated_normal": (
        distribution("truncated_normal", mean=0.5, sd=0.5, low=0.1, high=np.inf),
        between(0.5, 0.5, 0.1, np.inf),
    ),
    "lower_truncated_normal_in_its_tail": (
        distribution("truncated_normal", mean=-4, sd=0.1, low=0.0, high=np.inf),
        between(-4, 0.1, 0.0, np.inf),
    ),
}
POINTS = np.linspace(-4, 4, 81)


@pytest.fixture(params=PRIORS)
def prior(request: pytest.FixtureRequest) -> Distribution:
    return PRIORS[request.param][0]


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def rows(prior: Distribution, count: int, dtype: type = float) -> jax.Array:
    return jnp.asarray(np.repeat(family_of(prior).encode(prior.values)[:, None], count, axis=1), dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PRIORS)
def test_density_is_the_distributions_own_times_the_jacobian(name):
    prior, known = PRIORS[name]
    family, arguments = family_of(prior), (jnp.asarray(POINTS), rows(prior, len(POINTS)))
    value, slope = with_slope(family.constrain, *arguments)
    found = family.log_prob(*arguments)
    expected = known.logpdf(np.asarray(value)) + np.log(np.asarray(slope))
    # Close to an upper bound of 1 scipy has no digits left of what is missing to it.
    inside = np.asarray(value) < prior.support[1] - 1e-4
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-10, atol=1e-10)
    assert inside.sum() > 60


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PRIORS)
def test_density_of_the_coordinate_integrates_to_one(name):
    prior, _ = PRIORS[name]
    u = np.linspace(-60, 30, 90001) if prior.support[1] == np.inf else np.linspace(-12, 12, 24001)
    density = np.exp(family_of(prior).log_prob(jnp.asarray(u), rows(prior, len(u))))
    np.testing.assert_allclose(np.trapezoid(density, u), 1.0, rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_slopes_are_those_of_differences(prior: Distribution):
    arguments = rows(prior, len(POINTS))
    for function in (family_of(prior).constrain, family_of(prior).log_prob):
        _, slope = with_slope(function, jnp.asarray(POINTS), arguments)
        ahead, behind = (np.asarray(function(jnp.asarray(POINTS + step), arguments)) for step in (1e-5, -1e-5))
        np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-6)


def test_float32_is_finite_wherever_a_chain_may_go(prior: Distribution):
    u = jnp.linspace(-12, 12, 481, dtype=jnp.float32)
    for function in (family_of(prior).constrain, family_of(prior).log_prob):
        value, slope = with_slope(function, u, rows(prior, 481, jnp.float32))
        assert value.dtype == slope.dtype == jnp.float32
        assert np.all(np.isfinite(value))
        assert np.all(np.isfinite(slope))


def test_every_parameter_stays_within_its_bounds(prior: Distribution):
    u = jnp.linspace(-12, 12, 481, dtype=jnp.float32)
    value = family_of(prior).constrain(u, rows(prior, 481, jnp.float32))
    low, high = prior.support
    assert np.all(value >= np.float32(low))
    assert np.all(value <= np.float32(high))
    assert np.all(np.diff(value) >= 0)


@pytest.mark.usefixtures("x64")
def test_the_centre_lies_within_the_bulk(prior: Distribution):
    at = jnp.asarray([family_of(prior).centre(prior.values)])
    u = np.linspace(-60, 30, 9001) if prior.support[1] == np.inf else np.linspace(-12, 12, 2401)
    log_prob = family_of(prior).log_prob
    highest = np.max(log_prob(jnp.asarray(u), rows(prior, len(u))))
    assert float(log_prob(at, rows(prior, 1))[0]) > highest - 4.0


def test_a_distribution_that_nothing_is_sampled_from_is_refused():
    with pytest.raises(ValueError, match="no sampled parameter has the prior 'normal'"):
        FAMILIES["normal"].log_prob(jnp.zeros(1), jnp.zeros((5, 1)))
