"""Export: tables as CSV, Parquet or Excel files that a spreadsheet opens without running anything in them."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mixfleet.errors import ConfigError

__all__ = ["FORMATS", "neutralised", "write_tables"]

FORMATS = ("csv", "parquet", "xlsx")

STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet take a text for a formula, full-width forms included.

References:
    OWASP, CSV Injection.
"""

EXCEL_ROWS = 1_048_575
EXCEL_NAME = 31
"""Excel's limits of a sheet."""


def write_tables(tables: Mapping[str, pa.Table], folder: Path, kind: str) -> list[Path]:
    """Write every table: a file each, or for xlsx one workbook with a sheet each.

    Raises:
        ConfigError: Unknown format, or Excel is asked for and openpyxl is not installed or a table is too long for it.
    """
    if kind not in FORMATS:
        raise ConfigError(f"must be one of {', '.join(FORMATS)}, is {kind!r}", key="format")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "xlsx":
        return [_write_workbook(tables, folder / "tables.xlsx")]
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.{kind}"
        if kind == "csv":
            pyarrow.csv.write_csv(neutralised(table), path)
        else:
            pq.write_table(table, path, compression="zstd")
        written.append(path)
    return written


def neutralised(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text, column names included, that would be taken for a formula."""
    columns = [
        pa.array([_harmless(text) for text in column.to_pylist()], pa.string()) if _is_text(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=[_harmless(name) or "" for name in table.column_names])


def _write_workbook(tables: Mapping[str, pa.Table], path: Path) -> Path:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError("needs openpyxl: pip install 'mixfleet[excel]'", key="format") from error
    book = openpyxl.Workbook(write_only=True)
    for name, table in tables.items():
        if table.num_rows > EXCEL_ROWS:
            raise ConfigError(f"table {name} has {table.num_rows} rows, too many for Excel; use parquet", key="format")
        sheet = book.create_sheet(name[:EXCEL_NAME])
        safe = neutralised(table)
        sheet.append(safe.column_names)
        for row in zip(*(column.to_pylist() for column in safe.columns), strict=True):
            sheet.append([None if value != value else value for value in row])
    book.save(path)
    return path


def _harmless(text: str | None) -> str | None:
    return f"'{text}" if text and text.startswith(STARTS_FORMULA) else text


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
