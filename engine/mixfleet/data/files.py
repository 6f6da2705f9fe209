"""Files: which files a path means, and the needed columns of each."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.data.csv_file import read_csv
from mixfleet.data.validation.finding import Finding, refusal, require_columns
from mixfleet.errors import TableError

PARQUET_ROWS = 20_000_000
"""Most rows of one Parquet file."""
PARQUET_BYTES = 8 << 30
"""Most decoded bytes of the columns that are read from one Parquet file."""

_CSV_SUFFIXES = frozenset({".csv", ".txt"})
_PARQUET_SUFFIXES = frozenset({".parquet", ".pq"})


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows that came from one place."""

    name: str | None
    """File name, None for a table in memory."""
    rows: pa.Table
    first: int
    """Number of the first row as its owner counts: 1, or 2 in a CSV file, whose line 1 is the header."""

    def where(self, row: int) -> str:
        """The words for a row counted from 0, such as `row 17` or `weekly.csv line 18`."""
        if self.name is None:
            return f"row {row + self.first}"
        word = "line" if self.first == 2 else "row"
        return f"{self.name} {word} {row + self.first}"


def find_files(pattern: str) -> list[Path]:
    """The CSV and Parquet files that a file name, folder (with its sub-folders) or glob means, sorted.

    In a folder, names that start with `.` or `_` are passed over: other tools keep their own files there.
    """
    path = Path(pattern)
    known = _CSV_SUFFIXES | _PARQUET_SUFFIXES
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in known
            and file.is_file()
            and not any(piece.startswith((".", "_")) for piece in file.relative_to(path).parts)
        )
        if not found:
            raise refusal("file_missing", f"folder {pattern} holds no .csv or .parquet file")
        return found
    found = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    found = [file for file in found if file.is_file()]
    if not found:
        raise refusal("file_missing", f"no file matches {pattern}: give a file, a folder or a glob")
    for file in found:
        if file.suffix.lower() not in known:
            raise refusal("file_kind", f"{file} is neither .csv nor .parquet: convert it to one of them")
    return found


def read_file(path: Path, columns: Sequence[str]) -> tuple[Part, tuple[Finding, ...]]:
    """The needed columns of one file, and what there was to say about reading it.

    Raises:
        TableError: The file cannot be read, is empty, too large, or lacks a column.
    """
    try:
        if path.stat().st_size == 0:
            raise refusal("file_empty", f"{path} is empty (0 bytes): write it again")
        if path.suffix.lower() in _PARQUET_SUFFIXES:
            return Part(name=path.name, rows=_read_parquet(path, columns), first=1), ()
        rows, findings = read_csv(path, columns)
        return Part(name=path.name, rows=rows, first=2), findings
    except (OSError, pa.ArrowException) as error:
        raise refusal("file_unreadable", f"{path} cannot be read: {error}") from error


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        require_columns(file.schema_arrow.names, columns, str(path))
        refused = _too_large(path, file.metadata, frozenset(columns))
        if refused is not None:
            raise refused
        return file.read(columns=list(columns))


def _too_large(path: Path, meta: pq.FileMetaData, columns: frozenset[str]) -> TableError | None:
    if meta.num_rows > PARQUET_ROWS:
        return refusal("file_too_large", f"{path} has {meta.num_rows:,} rows, at most {PARQUET_ROWS:,}: split it")
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    if size > PARQUET_BYTES:
        return refusal("file_too_large", f"{path} decodes to {size:,} bytes, at most {PARQUET_BYTES:,}: split it")
    return None
