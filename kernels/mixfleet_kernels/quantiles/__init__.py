"""Order statistics of rows on the host: the values at a few ranks, in native code without a sort of all."""

import ctypes
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mixfleet_kernels import native_library

__all__ = ["order_statistics"]

_NUMBERS, _SIZE = ctypes.POINTER(ctypes.c_double), ctypes.c_int64


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, _SIZE) for name in ("rows", "length", "wanted")),
        *(("values", _NUMBERS), ("ranks", ctypes.POINTER(_SIZE)), ("found", _NUMBERS)),
    )


def order_statistics(values: Float[np.ndarray, "*row value"], ranks: Sequence[int]) -> Float[np.ndarray, "*row rank"]:
    """The values of each row at these ranks, ascending and from zero, in float64; NaN for a row that holds one.

    As a sort has them, which is what it does without the native library.

    Raises:
        MemoryError: There is none to count one row's values in.
    """
    values = np.ascontiguousarray(values, np.float64)
    if not native_library.available() or not values.size:
        known = ~np.isnan(values).any(axis=-1, keepdims=True)
        return np.where(known, np.sort(values, axis=-1)[..., list(ranks)], np.nan)
    found = np.empty((*values.shape[:-1], len(ranks)))
    places = (_SIZE * len(ranks))(*ranks)
    asked = _Rows(
        *(values.size // values.shape[-1], values.shape[-1], len(ranks)),
        *(values.ctypes.data_as(_NUMBERS), places, found.ctypes.data_as(_NUMBERS)),
    )
    run = native_library.loaded().mixfleet_order_statistics
    run.restype = ctypes.c_bool
    if not run(ctypes.byref(asked)):
        raise MemoryError("no memory to count the values of one row in")
    return found
