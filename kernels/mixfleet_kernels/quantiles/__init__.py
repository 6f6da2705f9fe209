"""What rows of values are told by, on the host: mean, spread and order statistics, in native code without a sort."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import native_library

__all__ = ["RowStatistics", "row_statistics"]

_NUMBERS, _SIZE = ctypes.POINTER(ctypes.c_double), ctypes.c_int64


class RowStatistics(NamedTuple):
    """Of each row, in float64; NaN for a row that holds one."""

    mean: Float[np.ndarray, "*row"]
    sd: Float[np.ndarray, "*row"]
    """Of a sample; NaN for a row of one value."""
    ordered: Float[np.ndarray, "*row rank"]
    """Values at ranks, as a sort has them."""


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, _SIZE) for name in ("rows", "length", "wanted")),
        *(("values", _NUMBERS), ("ranks", ctypes.POINTER(_SIZE))),
        *((name, _NUMBERS) for name in ("found", "mean", "sd")),
    )


def row_statistics(values: Float[np.ndarray, "*row value"], ranks: Sequence[int]) -> RowStatistics:
    """Mean and spread of each row, and its values at these ranks, ascending and from zero.

    Without the native library numpy does it, and sorts.

    Raises:
        MemoryError: There is none to count one row's values in.
    """
    values = np.ascontiguousarray(values, np.float64)
    rows, length = values.shape[:-1], values.shape[-1]
    if not native_library.available() or not values.size:
        known = ~np.isnan(values).any(axis=-1, keepdims=True)
        ordered = np.where(known, np.sort(values, axis=-1)[..., list(ranks)], np.nan)
        sd = values.std(axis=-1, ddof=1) if length > 1 else np.full(rows, np.nan)
        return RowStatistics(values.mean(axis=-1), sd, ordered)
    made = RowStatistics(np.empty(rows), np.empty(rows), np.empty((*rows, len(ranks))))
    places = (_SIZE * len(ranks))(*ranks)
    pointers = (part.ctypes.data_as(_NUMBERS) for part in (made.ordered, made.mean, made.sd))
    asked = _Rows(values.size // length, length, len(ranks), values.ctypes.data_as(_NUMBERS), places, *pointers)
    run = native_library.loaded().mixfleet_row_statistics
    run.restype = ctypes.c_bool
    if not run(ctypes.byref(asked)):
        raise MemoryError("no memory to count the values of one row in")
    return made
