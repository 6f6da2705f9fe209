"""The likelihood as one native pass over the lanes, called from compiled programs on CPU; coefficients on the host."""

import ctypes
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import SATURATIONS
from mixfleet_kernels.likelihood.arrays import Autocorrelation, Likelihood, Series

PART = 256
"""Lanes that are worth another thread."""


def likelihood(
    series: Series,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    forms: Sequence[tuple[str, bool]],
    parameters: tuple[Float[Array, "channel lane"], ...],
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
    unit_media: Float[Array, "week channel unit"] | None = None,
    decay: Float[Array, "channel lane"] | None = None,
    normalised: bool = True,
    autocorrelation: Autocorrelation | None = None,
) -> Likelihood:
    """As `mixfleet_kernels.likelihood.likelihood`; the library must be available.

    Args:
        series: The data.
        weights: Adstock window per channel.
        tangents: Its derivatives.
        forms: Saturation of each channel, and whether carry-over comes before it.
        parameters: Theirs.
        strength: Effects or mean contributions.
        log_noise: Of each lane.
        strength_is_mean: Which of the two.
        unit_media: The media once per unit.
        decay: Of geometric windows.
        normalised: Whether these sum to one.
        autocorrelation: Of the noise; None where it is independent.
    """
    dtype = series.media.dtype
    weeks, channels, lanes = series.media.shape
    if unit_media is None:
        unit_media = series.media[..., :: lanes // series.basis.shape[0]]
    windows = (weights, *tangents) if decay is None else (decay,)
    columns, shapes = series.basis.shape[-1], len(tangents) + len(parameters)
    lasting = () if autocorrelation is None else _lasting(autocorrelation)
    asked = () if series.asked is None else (series.asked,)
    room = len(lasting[0]) if lasting else 0
    scratch = native_library.loaded().mixfleet_scratch_bytes(weeks, channels, columns, len(weights), 1 + shapes, room)
    parts = max(1, lanes // PART)
    by_lane, by_channel, by_column = (
        jax.ShapeDtypeStruct(shape, dtype) for shape in ((lanes,), (channels, lanes), (columns, lanes))
    )
    sizes = {"tangents": len(tangents), "window": len(weights), "parts": parts, "gaps": room}
    flags = {"geometric": decay is not None, "normalised": normalised, "strength_is_mean": strength_is_mean}
    results = jax.ffi.ffi_call(
        native_library.target(f"mixfleet_likelihood_f{8 * dtype.itemsize}"),
        (
            *(by_lane, by_channel, by_lane, by_channel, by_channel, by_column),
            jax.ShapeDtypeStruct((parts * (scratch // dtype.itemsize),), dtype),
            *[by_lane] * bool(lasting),
            *[by_channel] * (2 * shapes),
        ),
        vmap_method="sequential",
    )(
        *(unit_media, series.kpi, series.weight, series.basis, series.variance, series.active),
        *(strength, log_noise, *lasting, *windows, *parameters, *asked),
        saturations=np.array([SATURATIONS.index(family) for family, _ in forms], np.int64),
        carried_first=np.array([first for _, first in forms], np.int64),
        **{name: np.int64(size) for name, size in sizes.items()},
        **flags,
        some=bool(asked),
    )
    return _told(results, shapes)


def _lasting(autocorrelation: Autocorrelation) -> tuple[Array, ...]:
    """What the pass takes of autocorrelated noise."""
    gaps, correlation = autocorrelation
    return gaps.length, gaps.spans, gaps.gram, correlation


def _told(results: Sequence[Array], shapes: int) -> Likelihood:
    """What the pass made; last, for each of so many parameters of curves, are two gradients."""
    first = len(results) - 2 * shapes
    value, by_effect, by_log_noise, effect, mean, projection, _, *by_correlation = results[:first]
    by_shape, mean_by_shape = tuple(results[first : first + shapes]), tuple(results[first + shapes :])
    told = (value, by_shape, by_effect, by_log_noise, effect, mean, mean_by_shape, projection)
    return Likelihood(*told, *by_correlation)


class _Coefficients(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("columns", "gaps", "lanes")),
        *((name, ctypes.c_void_p) for name in ("gram", "weight", "root", "mean", "noise", "white", "drawn")),
    )


def coefficients(
    gram: Float[np.ndarray, "3 gap column column"],
    weight: Float[np.ndarray, "3 gap lane"],
    root: Float[np.ndarray, " column"],
    mean: Float[np.ndarray, "column lane"],
    noise: Float[np.ndarray, " lane"],
    white: Float[np.ndarray, "column lane"],
) -> Float[np.ndarray, "column lane"]:
    """As `dense.drawn` draws them, to the bit, where the columns' products are weighted sums of data; on the host.

    Args:
        gram: Products of the columns.
        weight: What each counts for.
        root: Of each coefficient's prior variance.
        mean: Posterior means.
        noise: Standard deviation of the noise.
        white: Standard normal numbers.

    Raises:
        MemoryError: There is none for one lane's products.
    """
    drawn = np.empty_like(mean, order="C")
    arrays = [np.ascontiguousarray(values, mean.dtype) for values in (gram, weight, root, mean, noise, white)]
    places = (values.ctypes.data for values in (*arrays, drawn))
    asked = _Coefficients(len(mean), gram.shape[1], mean.shape[1], *places)
    run = getattr(native_library.loaded(), f"mixfleet_coefficients_f{8 * mean.dtype.itemsize}")
    run.restype = ctypes.c_bool
    if not run(ctypes.byref(asked)):
        raise MemoryError("no memory to draw coefficients in")
    return drawn
