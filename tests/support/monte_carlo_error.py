"""Monte Carlo errors of posterior means, for tests that compare two samples of one posterior."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mixfleet_kernels.convergence import xla


def mcse_mean(draws: Float[Array, "chain draw quantity"], count: Int[Array, ""]) -> Float[Array, " quantity"]:
    """Monte Carlo standard error of each quantity's posterior mean, in the quantity's unit.

    Args:
        draws: One unit's draws, as for `diagnose` but for the order of the axes.
        count: Valid draws per chain, as for `diagnose`.

    Returns:
        The standard deviation of all valid draws over the root of their effective number for the mean.
    """
    window = xla.window_of(draws.shape[0], draws.shape[1], jnp.asarray(count))

    def error(series: Float[Array, "chain draw"]) -> Float[Array, ""]:
        values, usable = xla.halve(series, window)
        covariance, means = xla.autocovariance(values.astype(jnp.float64), window)
        squares = window.length * (jnp.square(means - means.mean()).sum() + covariance[0] * means.size)
        effective = xla.effective_size(covariance, means, window)
        return jnp.where(usable, jnp.sqrt(squares / (window.total - 1.0) / effective), jnp.nan)

    return lax.map(error, jnp.moveaxis(draws, 2, 0))
