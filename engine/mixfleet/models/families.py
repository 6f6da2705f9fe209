"""Priors: the laws of the sampled parameters as densities of unconstrained coordinates, hyperparameters as data.

A parameter `theta` is sampled as `u`: its logarithm where the law is positive, its probit where the law lives between
two bounds. The family of a law is structure; its hyperparameters are an array, so units may differ in them.
"""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jaxtyping import Array, Float
from scipy.special import log_ndtr, ndtri, ndtri_exp

from mixfleet.config.priors import Distribution
from mixfleet.models.bijectors import log_normal_cdf

__all__ = [
    "BOUNDED",
    "HYPER_ROWS",
    "centre",
    "constrain",
    "hyper_rows",
    "law_name",
    "log_density",
    "unconstrain",
    "with_slope",
]

HYPER_ROWS = 5
"""Rows of a law's data: up to four hyperparameters in the order of the configuration, then the log normaliser."""

BOUNDED = frozenset({"beta", "uniform", "truncated_normal"})
"""Laws between two finite bounds, sampled through the probit; all others are positive, sampled through the log."""


def law_name(law: Distribution) -> str:
    """The structural name of a law: its family, with a normal cut on one side told from one cut on two."""
    if law.family == "truncated_normal" and math.isinf(law.support[1]):
        return "lower_truncated_normal"
    return law.family


def hyper_rows(law: Distribution) -> Float[np.ndarray, " row"]:
    """The law's data: hyperparameters, padded, and the logarithm of its normalising constant, in float64."""
    values = law.values
    name = law_name(law)
    if name == "half_normal":
        constant = 0.5 * math.log(2 / math.pi) - math.log(values[0])
    elif name == "lognormal":
        constant = -math.log(values[1]) - 0.5 * math.log(2 * math.pi)
    elif name == "gamma":
        constant = values[0] * math.log(values[1]) - math.lgamma(values[0])
    elif name == "inverse_gamma":
        constant = values[0] * math.log(values[1]) - math.lgamma(values[0])
    elif name == "exponential":
        constant = math.log(values[0])
    elif name == "beta":
        constant = math.lgamma(values[0] + values[1]) - math.lgamma(values[0]) - math.lgamma(values[1])
    elif name == "uniform":
        constant = 0.0
    else:
        mean, sd, low, high = values
        constant = -_log_mass((low - mean) / sd, (high - mean) / sd) - math.log(sd) - 0.5 * math.log(2 * math.pi)
        constant += math.log(high - low) if name == "truncated_normal" else 0.0
    finite = [value if math.isfinite(value) else 0.0 for value in values]
    return np.array([*finite, *[0.0] * (HYPER_ROWS - 1 - len(values)), constant])


def _log_mass(low: float, high: float) -> float:
    """Log probability of a standard normal between two bounds, accurate in either tail."""
    if low > 0:
        low, high = -high, -low
    below, upto = float(log_ndtr(low)), float(log_ndtr(high))
    return upto + math.log1p(-math.exp(below - upto))


def _median(low: float, high: float) -> float:
    """Median of a standard normal between two bounds, accurate in either tail."""
    if low > 0:
        return -_median(-high, -low)
    return float(ndtri_exp(np.logaddexp(log_ndtr(low), log_ndtr(high)) - math.log(2)))


def centre(law: Distribution) -> float:
    """A coordinate in the middle of the law: where optimisation may start."""
    name, values = law_name(law), law.values
    if name == "beta":
        return NormalDist().inv_cdf(values[0] / (values[0] + values[1]))
    if name == "uniform":
        return 0.0
    if name in ("truncated_normal", "lower_truncated_normal"):
        mean, sd, low, high = values
        middle = mean + sd * _median((low - mean) / sd, (high - mean) / sd)
        if name == "lower_truncated_normal":
            return math.log(middle - low)
        return NormalDist().inv_cdf((middle - low) / (high - low))
    if name == "lognormal":
        return values[0]
    middles = {
        "half_normal": 0.6745 * values[0],
        "gamma": values[0] / values[-1],
        "inverse_gamma": values[-1] / (values[0] + 1),
        "exponential": 0.7 / values[0],
    }
    return math.log(middles[name])


def constrain(name: str, u: Float[Array, "*batch"], hyper: Float[Array, "row *batch"]) -> Float[Array, "*batch"]:
    """The parameter at coordinate `u`."""
    if name == "beta":
        return _inside(u)
    if name == "uniform":
        return hyper[0] + (hyper[1] - hyper[0]) * _inside(u)
    if name in ("truncated_normal", "probit_normal"):
        return hyper[2] + (hyper[3] - hyper[2]) * _inside(u)
    if name == "lower_truncated_normal":
        return hyper[2] + jnp.exp(u)
    return jnp.exp(u)


def unconstrain(
    name: str, value: Float[np.ndarray, "*batch"], hyper: Float[np.ndarray, "row *#batch"]
) -> Float[np.ndarray, "*batch"]:
    """The coordinate of a parameter of a pooled law, `lognormal` or `probit_normal`, on the host."""
    if name == "probit_normal":
        return ndtri((value - hyper[2]) / (hyper[3] - hyper[2]))
    return np.log(value)


def log_density(name: str, u: Float[Array, "*batch"], hyper: Float[Array, "row *batch"]) -> Float[Array, "*batch"]:
    """Log density of the coordinate `u`: the law's at the parameter, plus the log Jacobian."""
    constant = hyper[HYPER_ROWS - 1]
    if name == "beta":
        powers = (hyper[0] - 1) * log_normal_cdf(u) + (hyper[1] - 1) * log_normal_cdf(-u)
        return constant + powers + _log_density(u)
    if name == "uniform":
        return constant + _log_density(u)
    if name in ("truncated_normal", "lower_truncated_normal"):
        z = (constrain(name, u, hyper) - hyper[0]) / hyper[1]
        jacobian = u if name == "lower_truncated_normal" else _log_density(u)
        return constant - 0.5 * z * z + jacobian
    if name == "half_normal":
        return constant + u - 0.5 * (jnp.exp(u) / hyper[0]) ** 2
    if name in ("lognormal", "probit_normal"):
        return constant - 0.5 * ((u - hyper[0]) / hyper[1]) ** 2
    if name == "gamma":
        return constant + hyper[0] * u - hyper[1] * jnp.exp(u)
    if name == "inverse_gamma":
        return constant - hyper[0] * u - hyper[1] * jnp.exp(-u)
    if name == "exponential":
        return constant + u - hyper[0] * jnp.exp(u)
    raise ValueError(f"no sampled parameter has the law {name!r}")


def _inside(u: Array) -> Array:
    """The standard normal's distribution function: from the real line into (0, 1)."""
    return 0.5 * erfc(-u / math.sqrt(2))


def _log_density(u: Array) -> Array:
    """The standard normal's log density, which is the log Jacobian of `_inside`."""
    return -0.5 * u * u - 0.5 * math.log(2 * math.pi)


def with_slope(
    function, name: str, u: Float[Array, "*batch"], hyper: Float[Array, "row *batch"]
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """`constrain` or `log_density` and its derivative with respect to `u`."""
    return jax.jvp(lambda at: function(name, at, hyper), (u,), (jnp.ones_like(u),))
