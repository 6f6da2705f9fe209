"""Whether chains have converged: rank-normalised split R-hat, bulk and tail effective sample sizes.

A quantity that is constant or holds a value that is not finite has no diagnostics: all its numbers are NaN,
which a gate must read as failed.

References:
    Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), Rank-normalization, folding, and localization: an improved
    R-hat for assessing convergence of MCMC. Bayesian Analysis 16(2). doi:10.1214/20-BA1221.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixfleet_kernels import native_library
from mixfleet_kernels.convergence import native, xla
from mixfleet_kernels.convergence.arrays import Convergence
from mixfleet_kernels.convergence.native import convergence_on_host
from mixfleet_kernels.implementation import choose

__all__ = ["Convergence", "convergence", "convergence_on_host"]


def convergence(
    draws: Float[Array, "quantity draw chain"], count: Int[Array, ""], *, implementation: str | None = None
) -> Convergence:
    """R-hat and effective sample sizes of the first `count` draws of every chain.

    It may be traced, so one compiled program serves every count. Call under `jax.enable_x64(True)`.

    Args:
        draws: In float32 or float64; what stands at and after `count` is ignored, whatever it is.
        count: Valid draws per chain, at most the length of `draws`. Of an odd count the last draw is left out.
            Below 4 every number is NaN, as is the R-hat of a single chain.
        implementation: "xla", or "native", for CPU only. By default native wherever a program runs on CPU and the
            library was built, xla elsewhere.

    Returns:
        One number per quantity, equal to ArviZ's `rhat` (rank), `ess` (bulk) and `ess` (tail, 5 % and 95 %).
        Constant quantities are NaN throughout, where ArviZ gives their ESS as the number of draws, and so are
        infinite ones, which ArviZ ranks.

    Raises:
        ValueError: unknown implementation.
        RuntimeError: "native" was asked for and cannot run; says why.
    """
    # In 32 bits the sort keys would lose the draws, and numbers would be wrong without a sign of it.
    assert jnp.result_type(float) == jnp.float64, "diagnostics need 64 bits: call under jax.enable_x64(True)"

    def by_platform(draws: Array, count: Array) -> Convergence:
        return jax.lax.platform_dependent(draws, count, cpu=native.convergence, default=xla.convergence)

    run = choose(
        {
            "xla": xla.convergence,
            "native": native.convergence,
            "default": by_platform if native_library.available() else xla.convergence,
        },
        implementation,
        default="default",
        what="convergence implementation",
    )
    return run(draws, jnp.asarray(count, jnp.int32))
