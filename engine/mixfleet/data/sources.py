"""Whatever holds the rows (files, frames, Arrow streams) as Arrow columns that know their origin."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mixfleet.data.files import Part, find_files, read_file
from mixfleet.data.validation.finding import Finding, refusal, require_columns


@dataclass(frozen=True, kw_only=True)
class Table:
    """The needed columns of a table, in as many parts as it had files."""

    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]
    """What there was to say about reading it."""

    @property
    def rows(self) -> int:
        """Number of rows of all parts."""
        return sum(part.rows.num_rows for part in self.parts)

    def where(self, row: int) -> str:
        """The words for a row counted over all parts from 0."""
        for part in self.parts:
            if row < part.rows.num_rows:
                return part.where(row)
            row -= part.rows.num_rows
        raise IndexError(f"row {row} lies behind the table")

    def cell(self, row: int, column: str) -> Any:
        """One cell as it stands in the table, for messages."""
        for part in self.parts:
            if row < part.rows.num_rows:
                return part.rows.column(column)[row].as_py()
            row -= part.rows.num_rows
        raise IndexError(f"row {row} lies behind the table")


class ArrowStream(Protocol):
    """A table that hands itself over as Arrow: of pandas, polars, pyarrow, or a DuckDB relation."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """See https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html."""
        ...


TableSource = str | PathLike[str] | ArrowStream
"""A table, or the path of a file, of a folder or a glob."""


def example_path() -> Path:
    """Path of the bundled example: weekly visits of 95 US markets with 13 media channels."""
    return Path(str(resources.files("mixfleet"))) / "data" / "example" / "us_visits.parquet"


def read_table(source: Any, columns: Sequence[str], *, date: str | None = None, encoding: str | None = None) -> Table:
    """The named columns of a table.

    Args:
        source: Path of a CSV, Excel or Parquet file, of a folder of such files, or a glob; or a pandas or polars
            frame, an Arrow table, a DuckDB relation, any object with `__arrow_c_stream__`.
        columns: Names of the columns that are needed; the others are not read.
        date: The one among them that holds dates; totals at the end of a file have none and are passed over.
        encoding: Encoding of text files, None for UTF-8 or UTF-16.

    Raises:
        TableError: The table cannot be read, is empty, too large, or lacks a column. All missing columns
            are named at once.
    """
    if isinstance(source, str | Path):
        read = [read_file(path, columns, date=date, encoding=encoding) for path in find_files(str(source))]
        parts = tuple(part for part, _ in read)
        table = Table(parts=parts, findings=tuple(finding for _, findings in read for finding in findings))
    else:
        frame = _frame(source, columns, date)
        require_columns(frame.column_names, columns, "the table")
        table = Table(parts=(Part(name=None, rows=frame.select(list(columns)), first=1),), findings=())
    if table.rows == 0:
        raise refusal("table_empty", "the table has no rows: it needs one row per unit and week")
    return table


def _frame(source: Any, columns: Sequence[str], date: str | None) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        return _from_pandas(source, columns, date)
    if hasattr(source, "__arrow_c_stream__"):
        try:
            return pa.table(source)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise refusal("table_kind", f"the table does not convert to Arrow: {error}") from error
    kind = f"{type(source).__module__}.{type(source).__qualname__}"
    raise refusal(
        "table_kind",
        f"cannot read a table from {kind}: give a path, a pandas or polars frame (collect a lazy one first), "
        "an Arrow table, a DuckDB relation or any object with __arrow_c_stream__",
    )


def _from_pandas(frame: Any, columns: Sequence[str], date: str | None) -> pa.Table:
    names = [str(name) for name in frame.columns]
    indexed = [str(name) for name in frame.index.names if name is not None]
    lost = [name for name in columns if name not in names]
    if found := [name for name in lost if name in indexed]:
        message = f"column {found[0]} is in the table's index: pass table.reset_index()"
        raise refusal("column_missing", message, found[0])
    if date in lost and str(getattr(frame.index, "dtype", "")).startswith("datetime"):
        message = f"the table has no column {date}, its index has dates: pass table.rename_axis({date!r}).reset_index()"
        raise refusal("column_missing", message, date)
    require_columns(names, columns, "the table")
    return pa.table({name: _pandas_column(frame.iloc[:, names.index(name)], name) for name in columns})


def _pandas_column(series: Any, name: str) -> pa.Array | pa.ChunkedArray:
    if series.dtype == object:
        return pa.array([_cell_text(value) for value in series.array], pa.large_string())
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        message = f"column {name} holds {series.dtype}, which is no number, date or text: convert it"
        raise refusal("column_type", message, name) from error


def _cell_text(value: Any) -> str | None:
    # A column of mixed objects becomes text, so that one wrong cell is one wrong cell and not a wrong column.
    if value is None or value != value:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
