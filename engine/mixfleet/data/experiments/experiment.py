"""Experiment: one unit's part in a lift test, as the media of its channels with the test and without."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

__all__ = ["Experiment", "experiments_table", "is_meant", "read_experiments"]

ALL, AND = "*", "+"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A test in the table's units. Its path begins `window - 1` periods before the test, as carry-over does."""

    name: str
    channels: tuple[str, ...]
    """Those under test together."""
    start: str
    """First and last day, as text; empty for a test of a steady level."""
    end: str
    places: tuple[int, ...]
    """Of `channels` among the panel's."""
    test: Float[np.ndarray, "week channel"]
    """Media of those channels under test."""
    control: Float[np.ndarray, "week channel"]
    """Without the test."""
    worth: Float[np.ndarray, " week"]
    """What a KPI of each period counts for in the estimate: nothing where it was not measured, its price where the
    estimate is money."""
    measure: str
    """What `given` is: `lift`, `revenue` or `roi`."""
    given: float
    """The estimate and its standard error as the table has them."""
    given_se: float
    bias_sd: float
    per: float
    """Money that an estimate of `roi` is per; 1.0 for others."""
    together: tuple[str, ...] = ()
    """Labels as the table has them, such as `acme`, `*`, where it measured several units together; `given` and `per`
    are then of all of them, media and worth of this one."""
    share: float = 1.0
    """Of the squared error of such a test, that which stands for this unit's part."""

    @property
    def estimate(self) -> float:
        """Lift, test less control, in KPI or in money."""
        return self.given * self.per

    @property
    def sd(self) -> float:
        """Standard deviation of the estimate around the lift: standard error and bias together."""
        return float(np.hypot(self.given_se, self.bias_sd) * abs(self.per))

    @property
    def own_estimate(self) -> float:
        """This unit's part of the estimate, to begin with where several units were measured together."""
        return self.estimate * self.share

    @property
    def own_sd(self) -> float:
        """Standard deviation of this unit's part around its lift; the squares of all parts add up to that of `sd`."""
        return self.sd * self.share**0.5


def is_meant(said: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether a table's cells for the keys are about the unit: its labels, several with `+` between them, or `*`."""
    return all(
        cell in (ALL, own) or own in map(str.strip, cell.split(AND)) for cell, own in zip(said, labels, strict=True)
    )


_TEXT = ("name", "start", "end", "measure")
_NUMBER = ("given", "given_se", "bias_sd", "per")


def experiments_table(keys: Sequence[str], units: Sequence[tuple[tuple[str, ...], tuple[Experiment, ...]]]) -> pa.Table:
    """One row per unit and test; paths are lists.

    Args:
        keys: Key columns.
        units: Labels and tests of each unit.
    """
    rows = [(labels, test) for labels, tests in units for test in tests]
    columns: dict[str, pa.Array] = {
        f"key:{key}": pa.array([labels[i] for labels, _ in rows], pa.string()) for i, key in enumerate(keys)
    }
    for name in _TEXT:
        columns[name] = pa.array([getattr(test, name) for _, test in rows], pa.string())
    for name in _NUMBER:
        columns[name] = pa.array([getattr(test, name) for _, test in rows], pa.float64())
    columns["share"] = pa.array([test.share for _, test in rows], pa.float64())
    columns["together"] = pa.array([list(test.together) for _, test in rows], pa.list_(pa.string()))
    columns["channels"] = pa.array([list(test.channels) for _, test in rows], pa.list_(pa.string()))
    columns["places"] = pa.array([list(test.places) for _, test in rows], pa.list_(pa.int64()))
    columns["worth"] = pa.array([test.worth.tolist() for _, test in rows], pa.list_(pa.float64()))
    for name in ("test", "control"):
        paths = [getattr(test, name).ravel().tolist() for _, test in rows]
        columns[name] = pa.array(paths, pa.list_(pa.float64()))
    return pa.table(columns)


def read_experiments(table: pa.Table, keys: Sequence[str]) -> dict[tuple[str, ...], tuple[Experiment, ...]]:
    """The tests of each unit, by its labels, from a table that `experiments_table` made."""
    found: dict[tuple[str, ...], tuple[Experiment, ...]] = {}
    for row in table.to_pylist():
        labels, shape = tuple(row[f"key:{key}"] for key in keys), (len(row["worth"]), len(row["channels"]))
        test = Experiment(
            **{name: row[name] for name in (*_TEXT, *_NUMBER)},
            # An older version knew tests of one unit only.
            share=row.get("share", 1.0),
            together=tuple(row.get("together", ())),
            channels=tuple(row["channels"]),
            places=tuple(row["places"]),
            worth=np.array(row["worth"], float),
            test=np.array(row["test"], float).reshape(shape),
            control=np.array(row["control"], float).reshape(shape),
        )
        found[labels] = (*found.get(labels, ()), test)
    return found
