"""Response: what draws of one unit's curves make of its media, in native code on the host.

In float64 unless `single` precision is asked for: that is more than twice as fast, and sums over weeks are the same to
about six digits. Arrays are float64 either way.

For carry-over of the library's families before or after one of its saturations. The engine's own functions in XLA do
the same for every form and many units (`posterior.counterfactual`, `models.media.response`); these need no program
compiled.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import ChannelForm, numbers

__all__ = ["Curves", "Response", "held", "respond", "saturate", "slopes"]

_POINTER, _SIZE = ctypes.POINTER(ctypes.c_double), ctypes.c_int64
_SIZES = ctypes.POINTER(_SIZE)


MOST_SHAPES = 4
"""Parameters that a channel's curve has at most."""


class Curves(NamedTuple):
    """Draws of the channels' curves."""

    forms: Sequence[ChannelForm]
    """Of each channel; no window is given."""
    places: Sequence[Sequence[int]]
    """Of each channel, the rows of `shape` that it has: the adstock's parameters, then the saturation's."""
    shape: Float[np.ndarray, "row channel draw"]
    """Parameters of the curves; anything where a channel has not that one."""
    effect: Float[np.ndarray, "channel draw"]
    """By which responses are multiplied."""


class Response(NamedTuple):
    """What channels bring."""

    total: Float[np.ndarray, "weight channel draw"]
    """Under each weight of the weeks."""
    weekly: Float[np.ndarray, "week draw"]
    """All channels together."""
    mean: Float[np.ndarray, "week channel"]
    """Over the draws."""


class _Curves(ctypes.Structure):
    _fields_ = (
        *(("channels", _SIZE), ("draws", _SIZE), ("forms", _SIZES), ("places", _SIZES)),
        *(("shape", _POINTER), ("effect", _POINTER)),
    )


class _Past(ctypes.Structure):
    _fields_ = (
        *(("curves", _Curves), ("weeks", _SIZE), ("weights", _SIZE), ("single", _SIZE)),
        *((name, _POINTER) for name in ("media", "weight", "sum", "slope", "weekly", "mean")),
    )


class _Levels(ctypes.Structure):
    _fields_ = (
        *(("curves", _Curves), ("levels", _SIZE)),
        *((name, _POINTER) for name in ("level", "value", "slope")),
    )


def respond(
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    curves: Curves,
    *,
    single: bool = False,
) -> Response:
    """Contributions of media that are carried over and saturate.

    Args:
        media: From the first week on, before which there is none.
        weights: Of the weeks in the sums.
        curves: Draws of what shapes the response.
        single: Whether single precision will do.

    Raises:
        RuntimeError: The native library does not run; says why.
    """
    return _responded(media, weights, curves, None, single=single)


def slopes(
    media: Float[np.ndarray, "week channel"], weights: Float[np.ndarray, "week weight"], curves: Curves
) -> tuple[Float[np.ndarray, "weight channel draw"], Float[np.ndarray, "weight channel draw"]]:
    """Contributions as `respond` has them, and their derivative by the logarithm of all media; raises as `respond`."""
    slope = np.empty((weights.shape[1], *curves.effect.shape))
    return _responded(media, weights, curves, slope).total, slope


def _responded(
    media: np.ndarray, weights: np.ndarray, curves: Curves, slope: np.ndarray | None, *, single: bool = False
) -> Response:
    (weeks, channels), draws, count = media.shape, curves.effect.shape[1], weights.shape[1]
    made = Response(np.empty((count, channels, draws)), np.empty((weeks, draws)), np.empty((weeks, channels)))
    given = [_array(values) for values in (media, weights, curves.shape, curves.effect)]
    sums = (made.total, slope, made.weekly, made.mean)
    past = _Past(_curves(curves, *given[2:]), weeks, count, single, *map(_pointer, (*given[:2], *sums)))
    native_library.loaded().mixfleet_respond(ctypes.byref(past))
    return made


def saturate(
    levels: Float[np.ndarray, "level channel"], curves: Curves
) -> tuple[Float[np.ndarray, "level channel draw"], Float[np.ndarray, "level channel draw"]]:
    """Response to media that are held at a level for ever, and its derivative by the level; raises as `respond`."""
    made, slope = (np.empty((*levels.shape, curves.effect.shape[1])) for _ in range(2))
    _saturated(levels, curves, made, slope)
    return made, slope


def held(levels: Float[np.ndarray, "level channel"], curves: Curves) -> Float[np.ndarray, "level channel draw"]:
    """The response of `saturate` alone; raises as `respond`."""
    made = np.empty((*levels.shape, curves.effect.shape[1]))
    _saturated(levels, curves, made, None)
    return made


def _saturated(levels: np.ndarray, curves: Curves, value: np.ndarray, slope: np.ndarray | None) -> None:
    given = [_array(values) for values in (levels, curves.shape, curves.effect)]
    pointers = map(_pointer, (given[0], value, slope))
    asked = _Levels(_curves(curves, *given[1:]), len(levels), *pointers)
    native_library.loaded().mixfleet_saturate(ctypes.byref(asked))


def _curves(curves: Curves, shape: np.ndarray, effect: np.ndarray) -> _Curves:
    forms = [number for form in curves.forms for number in numbers(form)]
    places = [row for own in curves.places for row in (*own, *[0] * (MOST_SHAPES - len(own)))]
    return _Curves(*effect.shape, _sizes(forms), _sizes(places), _pointer(shape), _pointer(effect))


def _array(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float64)


def _pointer(values: np.ndarray | None) -> "ctypes._Pointer[ctypes.c_double]":
    return _POINTER() if values is None else values.ctypes.data_as(_POINTER)


def _sizes(values: Sequence[int]) -> "ctypes._Pointer[ctypes.c_int64]":
    # A structure keeps alive what its pointers were made of.
    return ctypes.cast((_SIZE * len(values))(*values), _SIZES)
