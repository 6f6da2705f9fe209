"""Sinh-arcsinh coordinates on the host, in native code: their fit to quantiles, and draws told in them.

`mixfleet.inference.sinh_arcsinh` says what they are, and has both in numpy.
"""

import ctypes
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import native_library

__all__ = ["Fit", "fit", "mapped", "pulled"]

_NUMBERS, _SIZE = ctypes.POINTER(ctypes.c_double), ctypes.c_int64


class Fit(NamedTuple):
    """What maps are fitted to, and how."""

    arcsinh: Float[np.ndarray, " level"]
    """Of a normal's quantiles."""
    weight: Float[np.ndarray, " level"]
    """Of the quantiles' errors."""
    bound: Float[np.ndarray, "2"]
    """Of skewness and the tail's logarithm."""
    longest: float
    """How far a step may go in each."""
    iterations: int


class _Fit(ctypes.Structure):
    _fields_ = (
        *(*((name, _SIZE) for name in ("coordinates", "levels", "iterations")), ("longest", ctypes.c_double)),
        *((name, _NUMBERS) for name in ("arcsinh", "weight", "bound", "target", "penalty", "found")),
    )


class _Told(ctypes.Structure):
    _fields_ = (
        *((name, _SIZE) for name in ("coordinates", "draws")),
        *((name, _NUMBERS) for name in ("map", "position", "gradient", "mapped", "pulled")),
    )


def fit(
    how: Fit, target: Float[np.ndarray, "coordinate level"], penalties: Float[np.ndarray, "coordinate 2"]
) -> Float[np.ndarray, "4 coordinate"]:
    """Location, scale, skewness and the tail's logarithm by least squares, each coordinate by itself.

    Args:
        how: The same for all.
        target: Quantiles times weights.
        penalties: What a unit of skewness, and of the tail's logarithm, counts for.

    Raises:
        RuntimeError: The native library does not run; says why.
    """
    found = np.empty((4, len(target)))
    given = [_array(values) for values in (how.arcsinh, how.weight, how.bound, target.T, penalties.T)]
    pointers = map(_pointer, (*given, found))
    asked = _Fit(len(target), len(how.weight), how.iterations, how.longest, *pointers)
    native_library.loaded().mixfleet_fit_coordinates(ctypes.byref(asked))
    return found


def mapped(
    maps: Float[np.ndarray, "4 coordinate"], position: Float[np.ndarray, "coordinate draw"]
) -> Float[np.ndarray, "coordinate draw"]:
    """Draws in mapped coordinates.

    Args:
        maps: Location, scale, skewness and tail.
        position: The draws.

    Raises:
        RuntimeError: The native library does not run; says why.
    """
    found = np.empty(position.shape)
    _tell(maps, position, None, found, None)
    return found


def pulled(
    maps: Float[np.ndarray, "4 coordinate"],
    position: Float[np.ndarray, "coordinate draw"],
    gradient: Float[np.ndarray, "coordinate draw"],
) -> tuple[Float[np.ndarray, "coordinate draw"], Float[np.ndarray, "coordinate draw"]]:
    """Draws as `mapped` has them, and the log density's gradient by them from that by the draws; raises as `mapped`."""
    found, pull = np.empty(position.shape), np.empty(position.shape)
    _tell(maps, position, gradient, found, pull)
    return found, pull


def _tell(
    maps: np.ndarray, position: np.ndarray, gradient: np.ndarray | None, found: np.ndarray, pull: np.ndarray | None
) -> None:
    given = [None if values is None else _array(values) for values in (maps, position, gradient)]
    asked = _Told(*position.shape, *map(_pointer, (*given, found, pull)))
    native_library.loaded().mixfleet_in_coordinates(ctypes.byref(asked))


def _array(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float64)


def _pointer(values: np.ndarray | None) -> "ctypes._Pointer[ctypes.c_double]":
    return _NUMBERS() if values is None else values.ctypes.data_as(_NUMBERS)
