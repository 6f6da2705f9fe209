"""Readiness: what the checks say about a table, without fitting anything."""

from typing import Any

from mixfleet.config import Data, Pooling
from mixfleet.finding import findings_table
from mixfleet.frame import frame_kind, to_frame
from mixfleet.panel import read_panel


def check(table: Any, data: Data, pooling: Pooling | None = None) -> Any:
    """Findings about the table, one row each: rule, severity, unit, column, message.

    Args:
        table: pandas, polars or pyarrow table, DuckDB relation, or path of a file, folder or glob.
        data: What its columns mean.
        pooling: Which units are to share hyperparameters: those of few weeks need others.

    Returns:
        A frame of the library that `table` is of; pandas for a path.

    Raises:
        TableError: The table cannot be read at all, or lacks a column.
    """
    return to_frame(findings_table(read_panel(table, data, pooling=pooling or Pooling()).findings), frame_kind(table))
