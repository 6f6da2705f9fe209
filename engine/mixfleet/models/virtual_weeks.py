"""Virtual weeks: the media that tests had and those that they had not, as arrays beside a unit's own weeks.

Each channel under a test is a row of virtual weeks twice, with the test and without. How many rows there are, and how
long the longest is, is structure, in few steps; all else is data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.scaling import Scale

__all__ = ["ARRAYS", "Extent", "extent_of", "no_virtual_weeks", "virtual_weeks"]

ROWS = (2, 4, 8)
"""Padded numbers of rows, then every 8."""

WEEKS = (12, 16, 24, 32, 48, 64)
"""Padded numbers of virtual weeks that may have a lift, then every 32."""

ARRAYS = ("lift_media", "lift_weight", "lift_channel", "lift_test", "lift_estimate")
"""Fields of `UnitBatch` that the virtual weeks fill."""


@dataclass(frozen=True, order=True)
class Extent:
    """What a program must know of its units' tests."""

    rows: int = 0
    """Channels under test, over all tests of a unit."""
    weeks: int = 0
    """Virtual weeks with a lift; before them stand `window - 1` more, which only carry over."""

    def union(self, other: "Extent") -> "Extent":
        """Room for both."""
        return Extent(max(self.rows, other.rows), max(self.weeks, other.weeks))


def extent_of(experiments: Iterable[Sequence[Experiment]], *, window: int) -> Extent:
    """Room for the tests of every unit."""
    found = Extent()
    for tests in experiments:
        if tests:
            rows = sum(len(test.places) for test in tests)
            weeks = max(len(test.worth) for test in tests) - window + 1
            found = found.union(Extent(_padded(rows, ROWS, 8), _padded(weeks, WEEKS, 32)))
    return found


def no_virtual_weeks(extent: Extent, *, window: int, channels: int) -> dict[str, np.ndarray]:
    """The arrays of a unit without a test: each of `ARRAYS` but for the unit's axis. They add nothing to a density."""
    weeks = extent.weeks + window - 1 if extent.rows else 0
    channel = np.zeros((extent.rows, channels))
    # Padded rows look at some channel: no parameter of a curve may be zero.
    channel[:, :1] = 1.0
    return {
        "lift_media": np.zeros((weeks, 2 * extent.rows)),
        "lift_weight": np.zeros((extent.weeks, extent.rows)),
        "lift_channel": channel,
        "lift_test": np.zeros((extent.rows, extent.rows)),
        "lift_estimate": np.zeros((2, extent.rows)),
    }


def virtual_weeks(tests: Sequence[Experiment], scale: Scale, *, window: int) -> dict[str, np.ndarray]:
    """A unit's tests as the arrays of its density.

    Args:
        tests: In the table's units, in the order of the table.
        scale: Of the unit.
        window: Weeks of the carry-over window; the tests' paths begin so many less one before their first lift.
    """
    extent = extent_of([tests], window=window)
    arrays = no_virtual_weeks(extent, window=window, channels=len(scale.media))
    rows, row = extent.rows, 0
    for t, test in enumerate(tests):
        if np.any(test.worth[: window - 1] != 0):
            raise ValueError(f"{test.name}: its path was made for a shorter window than {window}")
        lifts = len(test.worth) - window + 1
        for c, place in enumerate(test.places):
            for first, path in ((0, test.test), (rows, test.control)):
                arrays["lift_media"][: len(path), first + row] = path[:, c] / scale.media[place]
            # In standard deviations of the test, so that single precision does for any currency.
            arrays["lift_weight"][:lifts, row] = test.worth[window - 1 :] * scale.kpi / test.own_sd
            arrays["lift_channel"][row] = np.arange(len(scale.media)) == place
            arrays["lift_test"][t, row] = 1.0
            row += 1
        constant = -np.log(np.sqrt(2 * np.pi) * test.own_sd / scale.kpi)
        arrays["lift_estimate"][:, t] = test.own_estimate / test.own_sd, constant
    return arrays


def _padded(needed: int, sizes: Sequence[int], step: int) -> int:
    return next((size for size in sizes if needed <= size), -(-needed // step) * step)
