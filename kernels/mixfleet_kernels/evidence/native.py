"""The evidence as one native pass over the tests' rows, called from compiled programs on CPU."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import SATURATIONS
from mixfleet_kernels.evidence.arrays import Evidence, LiftTests

__all__ = ["evidence"]


def evidence(
    tests: LiftTests,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    forms: Sequence[tuple[str, bool]],
    parameters: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    *,
    decay: Float[Array, "channel lane"] | None,
    normalised: bool,
) -> Evidence:
    """As `mixfleet_kernels.evidence.evidence`; `native_library.available()` must be true."""
    dtype, (channels, lanes), lags = effect.dtype, effect.shape, len(weights)
    lifted, rows, _ = tests.weight.shape
    shapes = len(tangents) + len(parameters)
    scratch = native_library.loaded().mixfleet_evidence_scratch_bytes(lifted, rows, lags, 1 + shapes)
    by_channel = jax.ShapeDtypeStruct((channels, lanes), dtype)
    windows = (weights, *tangents) if decay is None else (decay,)
    value, by_effect, _, *by_shape = jax.ffi.ffi_call(
        native_library.target(f"mixfleet_evidence_f{8 * dtype.itemsize}"),
        (
            *(jax.ShapeDtypeStruct((lanes,), dtype), by_channel),
            *(jax.ShapeDtypeStruct((scratch // dtype.itemsize,), dtype), *[by_channel] * shapes),
        ),
        vmap_method="sequential",
    )(
        *(*tests, effect, *windows, *parameters),
        saturations=np.array([SATURATIONS.index(family) for family, _ in forms], np.int64),
        carried_first=np.array([first for _, first in forms], np.int64),
        tangents=np.int64(len(tangents)),
        window=np.int64(lags),
        geometric=decay is not None,
        normalised=normalised,
    )
    return Evidence(value, tuple(by_shape), by_effect)
