"""Readiness: what the checks say about a table, without fitting anything."""

from typing import Any

from mixfleet.config import Data
from mixfleet.finding import findings_table
from mixfleet.frame import frame_kind, to_frame
from mixfleet.panel import read_panel


def check(table: Any, data: Data) -> Any:
    """Findings about the table, one row each: rule, severity, unit, column, message.

    Args:
        table: pandas, polars or pyarrow table, DuckDB relation, or path of a file, folder or glob.
        data: What its columns mean.

    Returns:
        A frame of the library that `table` is of; pandas for a path.

    Raises:
        TableError: The table cannot be read at all, or lacks a column.
    """
    return to_frame(findings_table(read_panel(table, data).findings), frame_kind(table))
