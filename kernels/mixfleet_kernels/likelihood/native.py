"""The likelihood as one native pass over the lanes, called from compiled programs on CPU.

The library is built with the package where there is a C++ compiler. It is loaded on first use and runs the copy of
the pass made for the processor's vector instructions; bits may differ from one instruction set to another.
"""

import ctypes
import functools
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import saturation
from mixfleet_kernels.likelihood.arrays import Likelihood, Series

LIBRARY = Path(__file__).with_name("libmixfleet_likelihood.so")
HANDLERS = {"float32": "mixfleet_likelihood_f32", "float64": "mixfleet_likelihood_f64"}
INTERFACE = 1
"""What the library must say it speaks; part of the target's name, so that no cached program calls another."""


def available() -> bool:
    """Whether the library is there, loads, and is accepted by the jax that is installed."""
    return isinstance(_library(), ctypes.CDLL)


def why_not() -> str:
    """Why the library does not run, with a remedy; empty when it does."""
    found = _library()
    return found if isinstance(found, str) else ""


def isa() -> str:
    """Instruction set that the library runs: "x86-64-v4", "x86-64-v3" or "baseline"; empty without library."""
    found = _library()
    return found.mixfleet_isa().decode() if isinstance(found, ctypes.CDLL) else ""


def likelihood(
    series: Series,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    family: str,
    parameters: tuple[Float[Array, "channel lane"], ...],
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
    unit_media: Float[Array, "week channel unit"] | None = None,
) -> Likelihood:
    """As `mixfleet_kernels.likelihood.likelihood`, adstock first; `available()` must be true."""
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(library)
    dtype = series.media.dtype
    weeks, channels, lanes = series.media.shape
    if unit_media is None:
        unit_media = series.media[..., :: lanes // series.basis.shape[0]]
    columns, shapes = series.variance.shape[0], len(tangents) + len(parameters)
    scratch = library.mixfleet_scratch_bytes(weeks, channels, columns, weights.shape[0], 1 + shapes)
    by_lane, by_channel, by_column = (
        jax.ShapeDtypeStruct(shape, dtype) for shape in ((lanes,), (channels, lanes), (columns, lanes))
    )
    results = jax.ffi.ffi_call(
        _target(HANDLERS[dtype.name]),
        (
            *(by_lane, by_channel, by_lane, by_channel, by_channel, by_column),
            jax.ShapeDtypeStruct((scratch // dtype.itemsize,), dtype),
            *[by_channel] * (2 * shapes),
        ),
        vmap_method="sequential",
    )(
        *(unit_media, series.kpi, series.weight, series.basis, series.variance, series.active),
        *(strength, log_noise, weights, *tangents, *parameters),
        family=np.int64(tuple(saturation.PARAMETERS).index(family)),
        tangents=np.int64(len(tangents)),
        strength_is_mean=strength_is_mean,
    )
    value, by_effect, by_log_noise, effect, mean, projection, _, *gradients = results
    return Likelihood(
        value=value,
        by_shape=tuple(gradients[:shapes]),
        by_effect=by_effect,
        by_log_noise=by_log_noise,
        effect=effect,
        mean_response=mean,
        mean_by_shape=tuple(gradients[shapes:]),
        projection=projection,
    )


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The loaded library, its targets registered, or what is wrong with it."""
    if not LIBRARY.exists():
        return "the native kernel was not built: install a C++ compiler, then mixfleet anew"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.mixfleet_interface.restype = ctypes.c_int64
        library.mixfleet_isa.restype = ctypes.c_char_p
        library.mixfleet_scratch_bytes.restype = ctypes.c_int64
        library.mixfleet_scratch_bytes.argtypes = [ctypes.c_int64] * 5
        if library.mixfleet_interface() != INTERFACE:
            return "the native kernel was built from other sources: install mixfleet anew"
        for handler in HANDLERS.values():
            jax.ffi.register_ffi_target(_target(handler), jax.ffi.pycapsule(getattr(library, handler)), platform="cpu")
    except (OSError, AttributeError, jax.errors.JaxRuntimeError) as error:
        return f"the native kernel does not load ({error}): install mixfleet anew"
    return library


def _target(handler: str) -> str:
    return f"{handler}_{INTERFACE}"
