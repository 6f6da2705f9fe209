"""Saturation written as its formulas, in float64: what every other implementation must equal."""

import math

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float


def curve(family: str, size: float, parameters: tuple[float, ...]) -> float:
    """The curve at media of `size` >= 0."""
    if family == "none" or size == 0:
        return size
    first, last = parameters[0], parameters[-1]
    if family == "logistic":
        return (1 - math.exp(-first * size)) / (1 + math.exp(-first * size))
    if family == "hill":
        # size^slope / (size^slope + half_saturation^slope), divided through so that no power overflows.
        if size <= last:
            return (size / last) ** first / (1 + (size / last) ** first)
        return 1 / (1 + (last / size) ** first)
    if family == "tanh":
        return math.tanh(size / first)
    if family == "michaelis_menten":
        return size / (first + size)
    if family == "exponential":
        return -math.expm1(-first * size)
    if family == "root":
        return size**first
    if family == "log":
        return math.log1p(first * size)
    raise ValueError(f"the reference has no saturation {family!r}")


def saturate(
    family: str, media: Float[ArrayLike, "week *batch"], parameters: tuple[Float[ArrayLike, "*#batch"], ...]
) -> Float[np.ndarray, "week *batch"]:
    """The saturated media; see `mixfleet_kernels.saturation.saturate`."""
    values = np.asarray(media, np.float64)
    arrays = [np.broadcast_to(np.asarray(parameter, np.float64), values.shape) for parameter in parameters]
    out = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        x, here = float(values[place]), tuple(float(array[place]) for array in arrays)
        out[place] = math.copysign(curve(family, abs(x), here), x)
    return out
