"""Tables as CSV, Parquet or Excel files that a spreadsheet opens without running anything in them."""

import errno
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet
from mixfleet.errors import ConfigError, RunError
from mixfleet.storage.atomic_files import naming_disk_errors
from mixfleet.storage.output_folder import output_folder, read_output

__all__ = ["FORMATS", "neutralised", "read_table", "restored", "write_tables"]

FORMATS = ("csv", "parquet", "xlsx")

STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet take a text for a formula, full-width forms included.

References:
    OWASP, CSV Injection.
"""

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")

SHARES = ("share", "change", "coverage50", "coverage90", "wmape", "mape", "pays", "borrowed")
"""Names, or first or last words of names, of columns that are shares of 1."""

EXCEL_ROWS = 1_048_575
EXCEL_NAME = 31
"""Excel's limits of a sheet."""


def write_tables(
    tables: Mapping[str, pa.Table],
    folder: Path,
    *kinds: str,
    name: str = "tables",
    more: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Write every table in every format, all of them or none: a file each, or for xlsx a workbook with a sheet each.

    Args:
        tables: By name.
        folder: Where to; see `mixfleet.storage.output_folder`.
        kinds: Of `FORMATS`.
        name: What the files are; those of this name from before are replaced.
        more: Other files to write with them.

    Returns:
        The files.

    Raises:
        ConfigError: Unknown format, or Excel is asked for and openpyxl is not installed or a table is too long for it.
        RunError: They cannot be written; what was there before is unchanged.
    """
    for kind in kinds:
        if kind not in FORMATS:
            raise ConfigError(f"must be one of {', '.join(FORMATS)}, is {kind!r}", key="format")
    with output_folder(folder, name) as outputs:
        for kind in kinds:
            if kind == "xlsx":
                outputs.write("tables.xlsx", _workbook(tables))
                continue
            for table in tables:
                with outputs.file(f"{table}.{kind}") as file, pa.PythonFile(file, mode="w") as sink:
                    if kind == "csv":
                        pyarrow.csv.write_csv(neutralised(tables[table]), sink)
                    else:
                        pq.write_table(tables[table], sink, compression="zstd")
        for file_name, data in (more or {}).items():
            outputs.write(file_name, data)
    return [folder / file for file in outputs.digests]


def read_table(folder: Path, name: str) -> pa.Table | None:
    """The table that the command of this name left as Parquet in its folder; None where there is no folder.

    Raises:
        RunError: It cannot be read.
    """
    remedy = f"repeat mixfleet {name}, or remove it"
    if not folder.exists():
        return None
    files = read_output(folder, name, remedy)
    try:
        return read_parquet(files[f"{name}.parquet"])
    except (KeyError, OSError, ParquetTooLarge, pa.ArrowException) as error:
        raise RunError(f"{folder} holds no {name} that can be read: {error}; {remedy}") from error


def neutralised(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text, column names included, that would be taken for a formula."""
    columns = [
        pa.array([_harmless(text) for text in column.to_pylist()], pa.string()) if _is_text(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=[_harmless(name) or "" for name in table.column_names])


def restored(text: str) -> str:
    """The text that `neutralised` made this of; a text that it leaves alone as it is."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(STARTS_FORMULA) else text


def _workbook(tables: Mapping[str, pa.Table]) -> bytes:
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError("needs openpyxl: pip install 'mixfleet[excel]'", key="format") from error
    book = openpyxl.Workbook(write_only=True)
    names: list[str] = []
    file = io.BytesIO()
    # It keeps its sheets in temporary files until it is saved.
    with naming_disk_errors(Path("the workbook's temporary file"), 0):
        for name, table in tables.items():
            if table.num_rows > EXCEL_ROWS:
                said = f"table {name} has {table.num_rows:,} rows, too many for Excel; use parquet"
                raise ConfigError(said, key="format")
            names.append(_sheet_name(name, names))
            with _disk_errors_of_lxml():
                _fill(book.create_sheet(names[-1]), neutralised(table))
        with _disk_errors_of_lxml():
            book.save(file)
    return file.getvalue()


@contextmanager
def _disk_errors_of_lxml() -> Iterator[None]:
    """OSError in place of the error of lxml, with which openpyxl writes where it is installed."""
    try:
        from lxml.etree import LxmlError
    except ImportError:
        yield
        return
    try:
        yield
    except LxmlError as error:
        number = getattr(errno, str(error).removeprefix("IO_"), errno.EIO)
        raise OSError(number, os.strerror(number)) from error


def _fill(sheet: Any, table: pa.Table) -> None:
    """Writes a table with a frozen, filtered head, widths that fit, and a number format for each column."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Alignment, Font
    from openpyxl.utils import get_column_letter

    prose = [_is_prose(column) for column in table.columns]
    for i, column in enumerate(table.columns):
        widest = max(len(table.column_names[i]) + 3, *map(len, map(str, column.slice(0, 200).to_pylist())), 8)
        sheet.column_dimensions[get_column_letter(i + 1)].width = 110 if prose[i] else min(widest + 1, 34)
    sheet.freeze_panes = "A2"
    if table.num_columns:
        sheet.auto_filter.ref = f"A1:{get_column_letter(table.num_columns)}{table.num_rows + 1}"
    head = [WriteOnlyCell(sheet, _cell(name)) for name in table.column_names]
    for cell in head:
        cell.font = Font(bold=True)
    sheet.append(head)
    formats = [_number_format(name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        cells = []
        for value, form, wrapped in zip(map(_cell, row), formats, prose, strict=True):
            cell = value
            if value is not None and (form or wrapped):
                cell = WriteOnlyCell(sheet, value)
                cell.number_format = form or "General"
                if wrapped:
                    cell.alignment = Alignment(wrap_text=True, vertical="top")
            cells.append(cell)
        sheet.append(cells)


def _sheet_name(name: str, taken: Sequence[str]) -> str:
    """A name that Excel takes and that no other sheet has, with the ends of long names, which tell them apart."""
    short = name.replace("contributions", "contrib").replace("_quarterly", "_qtr")
    if len(short) > EXCEL_NAME:
        short = f"{short[: EXCEL_NAME - 11]}~{short[-10:]}"
    number = 2
    while short.lower() in (other.lower() for other in taken):
        short, number = f"{short[: EXCEL_NAME - 4]}~{number}", number + 1
    return short


def _number_format(name: str, column: pa.ChunkedArray) -> str:
    """How Excel shows a column; empty for its own way."""
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        return "yyyy-mm-dd"
    if not pa.types.is_floating(column.type):
        return ""
    if name.split("_")[-1] in SHARES or name.startswith(SHARES):
        return "0.0%"
    found = column.to_numpy()
    size = np.abs(found[np.isfinite(found)])
    return "#,##0" if size.size and np.median(size) >= 1000 else "#,##0.00"


def _is_prose(column: pa.ChunkedArray) -> bool:
    return _is_text(column.type) and any(len(text or "") > 60 for text in column.slice(0, 200).to_pylist())


def _cell(value: Any) -> Any:
    """What a cell can hold: no NaN, and control characters by their number, for a workbook has no place for them."""
    if isinstance(value, str):
        return _NO_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return None if value != value else value


def _harmless(text: str | None) -> str | None:
    # One apostrophe more also before those that have one already, so that no two texts become the same.
    return f"'{text}" if text and text.lstrip("'").startswith(STARTS_FORMULA) else text


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
