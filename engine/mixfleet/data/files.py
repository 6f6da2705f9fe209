"""Files: which files a path means, and the needed columns of each."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int

from mixfleet.data.formats.csv_dialect import without_remarks
from mixfleet.data.formats.csv_file import read_csv
from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet
from mixfleet.data.formats.workbook import read_workbook
from mixfleet.data.validation.finding import Finding, refusal, require_columns

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Most bytes of a file's name and of its path on common file systems."""

_WILDCARDS = re.compile(r"[*?\[]")

_CSV_SUFFIXES = frozenset({".csv", ".txt", ".tsv"})
_PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})
_EXCEL_SUFFIXES = frozenset({".xlsx", ".xlsm"})
_KNOWN = _CSV_SUFFIXES | _PARQUET_SUFFIXES | _EXCEL_SUFFIXES
_KIND_REMEDIES = {
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst", ".7z"), "it is compressed, unpack it"),
    **dict.fromkeys((".xls", ".xlsb", ".ods", ".numbers"), "save it as .xlsx or as .csv"),
}
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows that came from one place."""

    name: str | None
    """File name, None for a table in memory."""
    rows: pa.Table
    first: int
    """Number of the first row as its owner counts: 1 in a frame, the line after the header in a CSV file."""
    word: str = "row"
    """What its owner calls a row: row or line."""
    semicolons: bool = False
    """A text file whose cells semicolons separate, as where commas are decimal marks."""
    left: Int[np.ndarray, " row"] | None = None
    """Places that the rows had among all of the file, where some were passed over."""

    def where(self, row: int) -> str:
        """The words for a row counted from 0, such as `row 17` or `weekly.csv line 18`."""
        number = self.first + (row if self.left is None else int(self.left[row]))
        return f"row {number}" if self.name is None else f"{self.name} {self.word} {number}"


def find_files(pattern: str) -> list[Path]:
    """The CSV, Excel and Parquet files that a file name, folder (with its sub-folders) or glob means, sorted.

    In a folder, names that start with `.` or `_` are passed over: other tools keep their own files there.
    """
    path = Path(pattern)
    too_long = len(os.fsencode(pattern)) > LONGEST_PATH or any(len(os.fsencode(p)) > LONGEST_NAME for p in path.parts)
    if too_long or "\0" in pattern:
        raise refusal("file_missing", f"no file can be called {pattern[:60]}...: give a file, a folder or a glob")
    wild = [bool(_WILDCARDS.search(piece)) for piece in path.parts]
    if any(piece == ".." and any(wild[:place]) for place, piece in enumerate(path.parts)):
        # It would lead out of every folder that the wildcard matches, and so through a whole disk.
        raise refusal("file_missing", f"{pattern} goes up again after a wildcard: give the folder itself")
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in _KNOWN
            and file.is_file()
            and not any(piece.startswith((".", "_")) for piece in file.relative_to(path).parts)
        )
        if not found:
            raise refusal("file_missing", f"folder {pattern} holds no .csv, .xlsx or .parquet file")
        return found
    found = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    found = [file for file in found if file.is_file()]
    if not found:
        raise refusal("file_missing", f"no file matches {pattern}: give a file, a folder or a glob")
    for file in found:
        if file.suffix.lower() not in _KNOWN:
            remedy = _KIND_REMEDIES.get(file.suffix.lower(), "convert it to one of them")
            raise refusal("file_kind", f"{file} is neither .csv, .xlsx nor .parquet: {remedy}")
    return found


def read_file(
    path: Path, columns: Sequence[str], *, date: str | None = None, encoding: str | None = None
) -> tuple[Part, tuple[Finding, ...]]:
    """The needed columns of one file, and what there was to say about reading it.

    Args:
        path: The file; its folders `name=value` are columns, where one of that name is needed.
        columns: Names of the needed columns.
        date: The one among them that holds dates, which rows of totals at the end have not; None to keep all rows.
        encoding: Encoding of a text file, None for UTF-8 or UTF-16.

    Raises:
        TableError: The file cannot be read, is empty, too large, or lacks a column.
    """
    try:
        if path.stat().st_size == 0:
            raise refusal("file_empty", f"{path} is empty (0 bytes): write it again")
        folders = {name: value for name, value in partition(path).items() if name in columns}
        inside = [name for name in columns if name not in folders]
        part, findings = _read_inside(path, inside, date=date, encoding=encoding)
    except (OSError, pa.ArrowException) as error:
        raise refusal("file_unreadable", f"{path} cannot be read: {error}") from error
    rows = part.rows
    for name, value in folders.items():
        rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.large_string()))
    return replace(part, rows=rows), findings


def partition(path: Path) -> dict[str, str | None]:
    """Columns that the folders above a file name, such as `brand=acme`."""
    pieces = [piece.partition("=") for piece in path.parts[:-1] if "=" in piece]
    return {unquote(name): None if value == _HIVE_NULL else unquote(value) for name, _, value in pieces}


def _read_inside(
    path: Path, columns: Sequence[str], *, date: str | None, encoding: str | None
) -> tuple[Part, tuple[Finding, ...]]:
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return Part(name=path.name, rows=_read_parquet(path, columns), first=1), ()
    if path.suffix.lower() in _EXCEL_SUFFIXES:
        rows, first, findings = read_workbook(path, columns)
        part = Part(name=path.name, rows=rows, first=first)
    else:
        read = read_csv(path, columns, encoding=encoding)
        findings, semicolons = read.findings, read.delimiter == ";"
        part = Part(name=path.name, rows=read.rows, first=read.first, word="line", semicolons=semicolons)
    if date is None:
        return part, findings
    kept, dropped = without_remarks(part.rows, date)
    if not dropped:
        return part, findings
    first = part.where(int(np.flatnonzero(~kept)[0]))
    message = f"{path}: passed over {', '.join(dropped)}, the first at {first}"
    findings = (*findings, Finding(rule="total_rows", severity="info", message=message))
    return replace(part, rows=part.rows.filter(pa.array(kept)), left=np.flatnonzero(kept)), findings


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    require_columns(pq.read_schema(path).names, columns, str(path))
    try:
        return read_parquet(path, columns)
    except ParquetTooLarge as error:
        raise refusal("file_too_large", f"{path} {error}: split it") from error
