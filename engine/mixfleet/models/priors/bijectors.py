"""Maps from the real line whose tails are Gaussian where a distribution ends at a bound.

A distribution with mass at its bound, such as a half-normal at zero or a uniform at one, has an exponential tail in a
log or logit coordinate, and a posterior that leans on the bound inherits it. Through the normal distribution function
the tail becomes that of a normal, which is what a Hamiltonian trajectory with one step size crosses best.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc
from jaxtyping import Array, Float

__all__ = ["log_normal_cdf", "log_softplus_normal", "log_softplus_normal_slope"]

FAR = -4.0
"""Below it a continued fraction gives the normal's tail; above it erfc is accurate."""

TERMS = {"float32": 8, "float64": 24}
"""Terms of the continued fraction after which it has converged at `FAR`."""

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


@jax.custom_jvp
def log_normal_cdf(z: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The logarithm of Phi(z), accurate in both tails."""
    x, fraction = _tail(z)
    far = -0.5 * x * x - LOG_ROOT_TWO_PI + jnp.log(fraction) - jnp.log1p(x * fraction)
    return jnp.where(z > FAR, jnp.log(_cdf(jnp.maximum(z, FAR))), far)


@log_normal_cdf.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    z = primals[0]
    value = log_normal_cdf(z)
    return value, jnp.exp(_log_density(z) - value) * tangents[0]


@jax.custom_jvp
def log_softplus_normal(z: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Log of the ramp z Phi(z) + phi(z), the integral of Phi: like z above zero, like a normal's tail below."""
    near = jnp.maximum(z, FAR)
    x, fraction = _tail(z)
    far = -0.5 * x * x - LOG_ROOT_TWO_PI - jnp.log1p(x * fraction)
    return jnp.where(z > FAR, jnp.log(near * _cdf(near) + jnp.exp(_log_density(near))), far)


@log_softplus_normal.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return log_softplus_normal(primals[0]), jnp.exp(log_softplus_normal_slope(primals[0])) * tangents[0]


def log_softplus_normal_slope(z: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Log of the derivative of `log_softplus_normal`: Phi over the ramp."""
    return log_normal_cdf(z) - log_softplus_normal(z)


def _cdf(z: Array) -> Array:
    return 0.5 * erfc(-z / math.sqrt(2))


def _log_density(z: Array) -> Array:
    return -0.5 * z * z - LOG_ROOT_TWO_PI


def _tail(z: Array) -> tuple[Array, Array]:
    """Gives x = -z, and D with the tail's Mills ratio = D / (x D + 1), by its continued fraction."""
    x = jnp.maximum(-z, -FAR)
    fraction = x
    for term in range(TERMS[z.dtype.name], 1, -1):
        fraction = x + term / fraction
    return x, fraction
