"""Summary tables of a run: one Parquet file each, one row group per few thousand rows, in unit order.

Every row starts with the unit's key columns and its status, so that no number is met without knowing whether
its unit is certified.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.config import Data
from mixfleet.data.panel import unit_id
from mixfleet.data.panel_parquet import COLUMNS as PANEL_COLUMNS
from mixfleet.errors import ConfigError
from mixfleet.posterior.unit_result import DIAGNOSTICS, TABLES, UnitResult
from mixfleet.storage import atomic_files

_ARROW = {
    "text": pa.string(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "int": pa.int64(),
}
_GROUP_ROWS = 32_768

_LATE_DIAGNOSTICS = ("ebfmi_min", "energy_balance", "pareto_k")
"""Diagnostics that stand behind the columns other programs rely on."""


class SummaryTables:
    """The summary tables being written: `add` every unit in order, then `close`."""

    def __init__(self, folder: Path, keys: tuple[str, ...], loosened: Sequence[str]) -> None:
        """Open one draft per table; nothing is visible before `close`.

        Args:
            folder: That they are written to.
            keys: Key columns.
            loosened: Sentences on gates that were wider than the usual ones; they stand with every status.
        """
        self._keys, self._loosened = keys, "; ".join(loosened)
        self._writers = {name: _TableWriter(folder / f"{name}.parquet", table_schema(name, keys)) for name in TABLES}
        self._status = _TableWriter(folder / "status.parquet", status_schema(keys))

    def add(self, result: UnitResult, digest: str, inputs: str | None, origin: str, why: str | None) -> None:
        """Add the rows of one unit.

        Args:
            result: What is known about it.
            digest: Of that result.
            inputs: Digest of all that the result follows from; None for a unit that was not fitted.
            origin: Whether it was fitted, carried over from an earlier run, or reweighted from one's draws.
            why: Of one that was fitted though there was such a run.
        """
        head = {**dict(zip(self._keys, result.labels, strict=True)), "status": result.status}
        row = {
            **head,
            "reason": result.reason,
            "rung": result.rung,
            "unit_id": unit_id(result.labels),
            "digest": digest,
            "inputs_digest": inputs,
            "origin": origin,
            "why_fitted": why,
            "loosened": self._loosened,
            **result.diagnostics,
        }
        self._status.add({name: row.get(name) for name in self._status.schema.names}, {}, 1)
        for table, columns in result.tables.items():
            absent = dict.fromkeys(TABLES[table].keys() - columns.keys())
            self._writers[table].add(head | absent, columns, len(next(iter(columns.values()))))

    def close(self) -> dict[str, dict[str, Any]]:
        """Commit the tables; file name -> size and sha256."""
        return {writer.name: writer.close() for writer in (self._status, *self._writers.values())}

    def discard(self) -> None:
        """Give all drafts up; harmless after `close`."""
        for writer in (self._status, *self._writers.values()):
            writer.discard()


def write_table(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write a small table at once; its size and sha256."""
    with atomic_files.draft(path) as file:
        pq.write_table(table, pa.PythonFile(file, mode="w"), compression="zstd")
        file.replace()
        return {"size": file.size, "sha256": file.sha256}


def table_schema(table: str, keys: tuple[str, ...]) -> pa.Schema:
    """Columns of a per-unit table: keys, `status`, then those of `mixfleet.posterior.unit_result.TABLES`."""
    head = [(key, pa.string()) for key in (*keys, "status")]
    return pa.schema(head + [(name, _ARROW[kind]) for name, kind in TABLES[table].items()])


def status_schema(keys: tuple[str, ...]) -> pa.Schema:
    """Columns of the status table; one row per unit."""
    numbers = sorted(DIAGNOSTICS, key=lambda name: name in _LATE_DIAGNOSTICS)
    return pa.schema(
        [(key, pa.string()) for key in (*keys, "status", "reason")]
        + [(name, _ARROW[DIAGNOSTICS[name]]) for name in numbers]
        + [("rung", pa.int64()), ("unit_id", pa.string()), ("digest", pa.string()), ("inputs_digest", pa.string())]
        + [("origin", pa.string()), ("why_fitted", pa.string()), ("loosened", pa.string())]
    )


def check_keys(data: Data) -> None:
    """Refuse key columns that share their name with a column of the summary tables.

    Raises:
        ConfigError: Names the column.
    """
    taken = {name for table in TABLES for name in table_schema(table, ()).names} | set(status_schema(()).names)
    taken |= PANEL_COLUMNS.keys()
    for key in data.unit_keys:
        if key in taken:
            raise ConfigError(
                f"{key!r} is a column of the summary tables; rename the table's column, e.g. to '{key}_name'",
                key="data.keys",
            )


class _TableWriter:
    """One Parquet file; rows are collected until they fill a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.name = path.name
        self.schema = schema
        self._draft = atomic_files.Draft(path)
        self._writer = pq.ParquetWriter(pa.PythonFile(self._draft, mode="w"), schema, compression="zstd")
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._lengths: list[int] = []

    def add(self, same: Mapping[str, Any], columns: Mapping[str, np.ndarray], rows: int) -> None:
        """Add rows that have one value in the columns `same` and differ in `columns`."""
        for name, value in same.items():
            self._columns[name].append(value)
        for name, values in columns.items():
            # A copy: a view would keep the unit's whole record in memory until the row group is full.
            self._columns[name].append(np.array(values))
        self._lengths.append(rows)
        if sum(self._lengths) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> dict[str, Any]:
        self._flush()
        self._writer.close()
        self._draft.replace()
        return {"size": self._draft.size, "sha256": self._draft.sha256}

    def discard(self) -> None:
        # In this order: an open writer adds its footer when it is closed, which must go nowhere by then.
        self._draft.discard()
        self._writer.close()

    def _flush(self) -> None:
        if not self._lengths:
            return
        unit = np.repeat(np.arange(len(self._lengths)), self._lengths)
        arrays = [_column(self._columns[field.name], field.type, unit) for field in self.schema]
        # Where row groups end depends on the rows alone, not on how often a run was resumed.
        self._writer.write_table(pa.table(arrays, schema=self.schema), row_group_size=len(unit))
        self._lengths.clear()
        for values in self._columns.values():
            values.clear()


def _column(values: list[Any], kind: pa.DataType, unit: np.ndarray) -> pa.Array:
    """A column of several units: each gives an array with its rows, or one value for all of them, or None."""
    if not any(isinstance(value, np.ndarray) for value in values):
        return pa.array(values, kind).take(pa.array(unit))
    counts = np.bincount(unit, minlength=len(values))
    blocks = [
        value if isinstance(value, np.ndarray) else np.full(count, value, dtype=object)
        for value, count in zip(values, counts, strict=True)
    ]
    return pa.array(np.concatenate(blocks), kind, from_pandas=False)
