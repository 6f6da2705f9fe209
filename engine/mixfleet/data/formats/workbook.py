"""Excel workbook: the needed columns of its first sheet that has them, as text."""

import datetime
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from mixfleet.data.formats.csv_dialect import HEADER_RECORDS
from mixfleet.data.validation.finding import Finding, refusal, require_columns
from mixfleet.errors import counted

SHEET_ROWS = 500_000
"""Most rows of a sheet."""
UNPACKED_BYTES = 1 << 30
"""Most bytes that the parts of a workbook unpack to."""


def read_workbook(path: Path, columns: Sequence[str]) -> tuple[pa.Table, int, tuple[Finding, ...]]:
    """The needed columns as text, the number of the first row, and remarks.

    Raises:
        TableError: openpyxl is not installed, the workbook is damaged or too large, or no sheet has the columns.
    """
    with _open_book(path) as book:
        return _best_sheet(path, book, columns)


def header_of(path: Path) -> list[str]:
    """The names in the fullest of the first rows of any sheet.

    Raises:
        TableError: openpyxl is not installed, or the workbook is damaged or too large.
    """
    with _open_book(path) as book:
        rows = [row for sheet in book.worksheets for row in itertools.islice(_texts(sheet), HEADER_RECORDS)]
    best = max(rows, key=lambda row: sum(bool(name) for name in row), default=[])
    return [name for name in dict.fromkeys(" ".join((name or "").split()) for name in best) if name]


@contextmanager
def _open_book(path: Path) -> Iterator[Any]:
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        message = f"{path} needs openpyxl: pip install 'mixfleet[excel]', or save the sheet as CSV"
        raise refusal("file_kind", message) from error
    try:
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > UNPACKED_BYTES:
            raise refusal("file_too_large", f"{path} unpacks to {size:,} bytes, at most {UNPACKED_BYTES:,}: split it")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError) as error:
        raise refusal("file_unreadable", f"{path} cannot be read as a workbook: {error}") from error
    try:
        yield book
    finally:
        book.close()


def _best_sheet(path: Path, book: Any, columns: Sequence[str]) -> tuple[pa.Table, int, tuple[Finding, ...]]:
    """The first of the sheets whose header has most of the columns."""
    needed, best = set(columns), (-1, "", 0, [""])
    for sheet in book.worksheets:
        for place, row in enumerate(itertools.islice(_texts(sheet), HEADER_RECORDS)):
            names = [name if name in needed else " ".join((name or "").split()) for name in row]
            if (score := len(needed & set(names))) > best[0]:
                best = (score, sheet.title, place, names)
    _, title, place, names = best
    require_columns([name or "" for name in names], columns, f"{path} sheet {title!r}")
    where = {name: names.index(name) for name in columns}
    cells: dict[str, list[str | None]] = {name: [] for name in columns}
    for count, row in enumerate(itertools.islice(_texts(book[title]), place + 1, None)):
        if count >= SHEET_ROWS:
            raise refusal("file_too_large", f"{path} has more than {SHEET_ROWS:,} rows: use Parquet or split it")
        for name, column in where.items():
            cells[name].append(row[column] if column < len(row) else None)
    words = f"{path}: sheet {title!r} was read" + (
        f", {counted(place, 'row')} above its header passed over" if place else ""
    )
    told = Finding(rule="workbook", severity="info", message=words)
    return pa.table({name: pa.array(cells[name], pa.large_string()) for name in columns}), place + 2, (told,)


def _texts(sheet: Any) -> Iterator[list[str | None]]:
    return ([_text(value) for value in row] for row in sheet.iter_rows(values_only=True))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
