"""Coordinates: maps from the real line whose tails are Gaussian where a law ends at a bound.

A law with mass at its bound, such as a half-normal at zero or a uniform at one, has an exponential tail in a log or
logit coordinate, and a posterior that leans on the bound inherits it. Through the normal distribution function the tail
becomes that of a normal, which is what a Hamiltonian trajectory with one step size crosses best.
"""

import math

import jax.numpy as jnp
from jax.scipy.special import erfc
from jaxtyping import Array, Float

__all__ = ["log_normal_cdf", "log_ramp"]

FAR = -4.0
"""Below it the continued fraction of the normal's tail converges to double precision; above it erfc is accurate."""

TERMS = 24


def log_normal_cdf(z: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """log Phi(z), accurate in both tails."""
    near = jnp.maximum(z, FAR)
    x, fraction = _tail(z)
    far = -0.5 * x * x - 0.5 * math.log(2 * math.pi) + jnp.log(fraction) - jnp.log1p(x * fraction)
    return jnp.where(z > FAR, jnp.log(0.5 * erfc(-near / math.sqrt(2))), far)


def log_ramp(z: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """log of the ramp z Phi(z) + phi(z), the integral of Phi: like z above zero, like a normal's tail below."""
    near = jnp.maximum(z, FAR)
    density = jnp.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    x, fraction = _tail(z)
    far = -0.5 * x * x - 0.5 * math.log(2 * math.pi) - jnp.log1p(x * fraction)
    return jnp.where(z > FAR, jnp.log(near * 0.5 * erfc(-near / math.sqrt(2)) + density), far)


def _tail(z: Array) -> tuple[Array, Array]:
    """x = -z, and D with the tail's Mills ratio = D / (x D + 1), by its continued fraction."""
    x = jnp.maximum(-z, -FAR)
    fraction = x
    for term in range(TERMS, 1, -1):
        fraction = x + term / fraction
    return x, fraction
