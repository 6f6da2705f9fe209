"""Whether the chains of one unit have converged: R-hat, effective sample sizes, E-BFMI.

Everything here is pure, takes a fixed number of draws of which only the first `count` are valid, and may be
traced, so one compiled program serves every check of a running fit. Call under `jax.enable_x64(True)`: draws
may be float32, ranks are exact in either precision, and all after the ranks is float64.

A quantity that is constant or holds a value that is not finite has no diagnostics: all its numbers are NaN,
which a gate must read as failed.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixfleet_kernels.convergence import Convergence, convergence


def diagnose(draws: Float[Array, "quantity draw chain"], count: Int[Array, ""]) -> Convergence:
    """R-hat and effective sample sizes of the first `count` draws of every chain, in float64.

    Args:
        draws: One unit's draws; what stands at and after `count` is ignored, whatever it is.
        count: Valid draws per chain, at most the length of `draws`; it may be traced. Of an odd count the last
            draw is left out. Below 4 every number is NaN, as is the R-hat of a single chain.

    Returns:
        One number per quantity; see `mixfleet_kernels.convergence`.
    """
    return convergence(draws, count)


def ebfmi(energy: Float[Array, "chain draw"], count: Int[Array, ""]) -> Float[Array, " chain"]:
    """Estimated Bayesian fraction of missing information of each chain; below 0.3 energy is explored slowly.

    Args:
        energy: Hamiltonian energy of every draw, in nats.
        count: Valid draws per chain; it may be traced.

    Returns:
        Mean squared change of energy over its variance; NaN for a constant or non-finite chain.

    References:
        Betancourt (2016), Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo.
        arXiv:1604.00695.
    """
    valid = jnp.arange(energy.shape[1])[None, :] < count
    values = jnp.where(valid, energy.astype(jnp.float64), 0.0)
    centred = jnp.where(valid, values - values.sum(1, keepdims=True) / count, 0.0)
    steps = jnp.where(valid[:, 1:], jnp.diff(values, axis=1), 0.0)
    return (jnp.square(steps).sum(1) / (count - 1.0)) / (jnp.square(centred).sum(1) / (count - 1.0))
