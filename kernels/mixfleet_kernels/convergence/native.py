"""The diagnostics as one native sort per quantity, called from compiled programs on CPU; their cost goes by `count`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mixfleet_kernels import native_library
from mixfleet_kernels.convergence.arrays import Convergence


def convergence(draws: Float[Array, "quantity draw chain"], count: Int[Array, ""]) -> Convergence:
    """As `mixfleet_kernels.convergence.convergence`; `library.available()` must be true."""
    native_library.loaded()
    numbers = jax.ShapeDtypeStruct(draws.shape[:1], jnp.float64)
    handler = native_library.target(f"mixfleet_convergence_f{8 * draws.dtype.itemsize}")
    rhat, bulk, tail = jax.ffi.ffi_call(handler, [numbers] * 3, vmap_method="sequential")(draws, count)
    return Convergence(rhat=rhat, ess_bulk=bulk, ess_tail=tail)
