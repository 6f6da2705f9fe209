"""Gaps: distances between a unit's fitted weeks as arrays of its density, for noise that is autocorrelated."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from mixfleet_kernels.likelihood.autocorrelated import NEIGHBOURS, gaps_of

__all__ = ["ARRAYS", "gap_arrays", "gap_shapes", "most_gaps", "widened"]

ARRAYS = ("gap_length", "gap_spans", "gap_before", "gap_after", "gap_gram")
"""Fields of `UnitBatch` that hold them."""

SIZES = (4, 8)
"""Padded numbers of distances of units with holes, then every 8."""


def most_gaps(fitted: Iterable[Bool[np.ndarray, " week"]]) -> int:
    """Room for the distances of every one of the units, that of nothing before the first week included."""
    kinds = [np.unique(np.diff(np.flatnonzero(weeks))) for weeks in fitted]
    if all(set(own.tolist()) <= {1} for own in kinds):
        return NEIGHBOURS
    most = 1 + max(len(own) for own in kinds)
    return next((size for size in SIZES if most <= size), -(-most // 8) * 8)


def gap_shapes(room: int, weeks: int, columns: int) -> dict[str, np.ndarray]:
    """The arrays of this room, of zeros; of no room those of a unit whose noise is independent."""
    sizes = ((room,), (weeks, room), (weeks,), (weeks,), (3, room, columns, columns))
    return {name: np.zeros(size) for name, size in zip(ARRAYS, sizes, strict=True)}


def gap_arrays(fitted: Bool[np.ndarray, " week"], basis: Float[np.ndarray, "week column"]) -> dict[str, np.ndarray]:
    """The arrays of a unit: each of `ARRAYS`, unpadded."""
    return dict(zip(ARRAYS, gaps_of(fitted, basis).values(), strict=True))


def widened(arrays: dict[str, np.ndarray], room: int, weeks: int) -> dict[str, np.ndarray]:
    """The arrays in a padded length, and with room for as many distances as neighbours have."""
    wide = gap_shapes(room, weeks, arrays["gap_gram"].shape[-1])
    for name, values in wide.items():
        values[tuple(slice(size) for size in arrays[name].shape)] = arrays[name]
    return wide
