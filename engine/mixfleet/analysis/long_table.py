"""Numbers of many subjects - units or groups of units - as one table with a row for each number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["LongTable"]


@dataclass
class LongTable:
    """A table being written: `add` subject after subject, then `table`."""

    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(
        self,
        head: Mapping[str, Any],
        axes: Mapping[str, Sequence[Any]],
        values: Mapping[str, Any],
        *,
        where: np.ndarray | None = None,
    ) -> None:
        """Add the rows of one subject.

        Args:
            head: Columns with one value in all its rows.
            axes: Column -> labels along each axis of the values, outermost first.
            values: Column -> array over the axes, or what broadcasts to one.
            where: Which rows there are; all by default.
        """
        shape = tuple(len(labels) for labels in axes.values())
        rows = np.ones(shape, bool) if where is None else np.broadcast_to(where, shape)
        count = int(rows.sum())
        for name, value in head.items():
            self._put(name, np.full(count, value, dtype=object if isinstance(value, str) else None))
        for i, (name, labels) in enumerate(axes.items()):
            text = any(isinstance(label, str) for label in labels)
            along = np.array(list(labels), dtype=object if text else None).reshape(
                [-1 if i == j else 1 for j in range(len(shape))]
            )
            self._put(name, np.broadcast_to(along, shape)[rows])
        for name, value in values.items():
            self._put(name, np.broadcast_to(value, shape)[rows])

    def table(self) -> pa.Table:
        """All rows in the order they came."""
        return pa.table({name: pa.array(np.concatenate(parts)) for name, parts in self.columns.items()})

    def _put(self, name: str, values: np.ndarray) -> None:
        self.columns.setdefault(name, []).append(values)
