"""The diagnostics as one native sort per quantity, called from compiled programs on CPU or from the host."""

import ctypes

import jax
import jax.numpy as jnp
import numpy as np
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


def convergence_on_host(draws: Float[np.ndarray, "quantity draw chain"]) -> Convergence:
    """As `convergence`, of all draws.

    Raises:
        MemoryError: There is none to sort the draws of one quantity in.
    """
    draws = np.ascontiguousarray(draws)
    made = [np.empty(len(draws)) for _ in range(3)]
    diagnose = getattr(native_library.loaded(), f"mixfleet_diagnose_f{8 * draws.dtype.itemsize}")
    diagnose.restype = ctypes.c_char_p
    sizes = (ctypes.c_int64 * 4)(*draws.shape, draws.shape[1])
    trouble = diagnose(sizes, *(ctypes.c_void_p(array.ctypes.data) for array in (draws, *made)))
    if trouble is not None:
        raise MemoryError(trouble.decode())
    return Convergence(*made)  # pyright: ignore[reportArgumentType]
