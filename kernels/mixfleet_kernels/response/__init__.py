"""Response: what draws of one unit's curves make of its media, in native code and float64, on the host.

For geometric adstock before one of the library's saturations. The engine's own functions in XLA do the same for every
form and many units (`posterior.counterfactual`, `models.media.response`); these need no program compiled.
"""

import ctypes
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import native_library
from mixfleet_kernels.likelihood.native import FAMILIES

__all__ = ["FAMILIES", "Response", "respond", "saturate"]

_POINTER, _SIZE = ctypes.POINTER(ctypes.c_double), ctypes.c_int64


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
        *(("channels", _SIZE), ("draws", _SIZE), ("family", _SIZE), ("parameters", _SIZE)),
        *(("parameter", _POINTER * 2), ("effect", _POINTER)),
    )


class _Past(ctypes.Structure):
    _fields_ = (
        *(("curves", _Curves), ("weeks", _SIZE), ("weights", _SIZE), ("window", _SIZE), ("normalised", ctypes.c_bool)),
        *((name, _POINTER) for name in ("media", "weight", "decay", "sum", "weekly", "mean")),
    )


class _Levels(ctypes.Structure):
    _fields_ = (
        *(("curves", _Curves), ("levels", _SIZE)),
        *((name, _POINTER) for name in ("level", "gain", "value", "slope")),
    )


def respond(
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    decay: Float[np.ndarray, "channel draw"],
    parameters: tuple[Float[np.ndarray, "channel draw"], ...],
    effect: Float[np.ndarray, "channel draw"],
    *,
    family: str,
    window: int,
    normalised: bool,
) -> Response:
    """Contributions of media that are carried over by powers of the decay and then saturate.

    Args:
        media: From the first week on, before which there is none.
        weights: Of the weeks in the sums.
        decay: Of each channel's window.
        parameters: Of the saturation, in the order of `saturation.PARAMETERS`.
        effect: By which responses are multiplied.
        family: One of `FAMILIES`.
        window: Weeks that media carry over, the current one included.
        normalised: Whether windows sum to one.

    Raises:
        RuntimeError: The native library does not run; says why.
    """
    (weeks, channels), draws, count = media.shape, effect.shape[1], weights.shape[1]
    made = Response(np.empty((count, channels, draws)), np.empty((weeks, draws)), np.empty((weeks, channels)))
    given = [_array(values) for values in (media, weights, decay, effect, *parameters)]
    past = _Past(
        *(_curves(given[3], given[4:], family), weeks, count, window, normalised),
        *map(_pointer, (*given[:3], *made)),
    )
    native_library.loaded().mixfleet_respond(ctypes.byref(past))
    return made


def saturate(
    levels: Float[np.ndarray, "level channel"],
    gain: Float[np.ndarray, "channel draw"],
    parameters: tuple[Float[np.ndarray, "channel draw"], ...],
    effect: Float[np.ndarray, "channel draw"],
    *,
    family: str,
) -> tuple[Float[np.ndarray, "level channel draw"], Float[np.ndarray, "level channel draw"]]:
    """Response to levels times `gain`, and its derivative by the level; the rest as for `respond`."""
    shape = (*levels.shape, effect.shape[1])
    made = np.empty(shape), np.empty(shape)
    given = [_array(values) for values in (levels, gain, effect, *parameters)]
    asked = _Levels(_curves(given[2], given[3:], family), len(levels), *map(_pointer, (*given[:2], *made)))
    native_library.loaded().mixfleet_saturate(ctypes.byref(asked))
    return made


def _curves(effect: np.ndarray, parameters: list[np.ndarray], family: str) -> _Curves:
    pointers = (_POINTER * 2)(*map(_pointer, parameters))
    return _Curves(*effect.shape, FAMILIES.index(family), len(parameters), pointers, _pointer(effect))


def _array(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float64)


def _pointer(values: np.ndarray) -> "ctypes._Pointer[ctypes.c_double]":
    return values.ctypes.data_as(_POINTER)
