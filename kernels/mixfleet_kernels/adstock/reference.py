"""Adstock as its definition, in float64 and plain loops: what every other implementation must equal."""

import math

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float


def weight(family: str, parameters: tuple[float, ...], lag: int, denominator: int) -> float:
    """One weight before normalising; `denominator` is the binomial's."""
    if family == "none":
        return float(lag == 0)
    first, second = parameters[0], parameters[-1]
    if family == "geometric":
        return first**lag
    if family == "binomial":
        return float(lag == 0) if first == 0 else (1 - lag / denominator) ** (1 / first - 1)
    if family == "delayed":
        return first ** ((lag - second) ** 2)
    if family == "weibull_pdf":
        ratio = (lag + 1) / second
        return first / second * ratio ** (first - 1) * math.exp(-(ratio**first))
    if family == "weibull_cdf":
        return math.exp(-sum((i / second) ** first for i in range(1, lag + 1)))
    raise ValueError(f"the reference has no adstock {family!r}")


def weights(
    family: str,
    parameters: tuple[Float[ArrayLike, "*batch"], ...],
    *,
    window: int,
    normalise: bool,
    binomial_offset: int,
    weibull_minmax: bool,
) -> Float[np.ndarray, "window *batch"]:
    """The window's weights; see `mixfleet_kernels.adstock.weights`."""
    arrays = [np.asarray(parameter, np.float64) for parameter in parameters]
    batch = arrays[0].shape if arrays else ()
    out = np.zeros((window, *batch))
    for place in np.ndindex(batch):
        here = tuple(float(array[place]) for array in arrays)
        column = np.array([weight(family, here, lag, window + binomial_offset) for lag in range(window)])
        if family == "weibull_pdf" and weibull_minmax:
            low, high = column.min(), column.max()
            column = np.eye(window)[0] if low == high else (column - low) / (high - low)
        out[(slice(None), *place)] = column / column.sum() if normalise else column
    return out


def convolve(
    media: Float[ArrayLike, "week *batch"], weights: Float[ArrayLike, "window *batch"]
) -> Float[np.ndarray, "week *batch"]:
    """The causal sum over the window; see `mixfleet_kernels.adstock.convolve`."""
    media, weights = np.asarray(media, np.float64), np.asarray(weights, np.float64)
    out = np.zeros_like(media)
    for week in range(media.shape[0]):
        for lag in range(min(weights.shape[0], week + 1)):
            out[week] += weights[lag] * media[week - lag]
    return out
