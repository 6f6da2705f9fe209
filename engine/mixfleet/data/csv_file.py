"""CSV file: its needed columns as text; refused, with the line number, where it is damaged or too large."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv

from mixfleet.data.validation.finding import Finding, refusal, require_columns
from mixfleet.errors import TableError

pc: Any = pa_compute  # its functions are made at run time, unseen by type checkers

CSV_ROWS = 500_000
"""Most rows of one file."""
CSV_COLUMNS = 256
"""Most columns of one file."""
CSV_LINE_BYTES = 65_536
"""Longest line."""
CSV_CELL_BYTES = 49_152
"""Longest cell: room for a label of 10,000 characters in any script."""
CSV_FILE_BYTES = 1 << 30
"""Largest file."""

_BLOCK_BYTES = 1 << 22


def read_csv(path: Path, columns: Sequence[str]) -> tuple[pa.Table, tuple[Finding, ...]]:
    """The needed columns of a comma-separated UTF-8 file, every cell as text, and remarks about the file.

    Raises:
        TableError: The file is damaged, not UTF-8, above a limit of this module, or lacks a column.
    """
    if path.stat().st_size > CSV_FILE_BYTES:
        message = f"{path} is larger than {CSV_FILE_BYTES:,} bytes: use Parquet or split it"
        raise refusal("file_too_large", message)
    _scan(path)
    raw = path.read_bytes()
    _check_header(path, raw, columns)
    return _parse(path, raw, columns), tuple(_remarks(path, raw))


def _scan(path: Path) -> None:
    """Refuses a damaged or oversized file block by block, before it is held in memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, tail = 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if lines == 0 and tail == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise refusal("file_encoding", f"{path} line 1: the file is UTF-16: save it as UTF-8")
            nul = block.find(b"\0")
            if nul >= 0:
                line = lines + block.count(b"\n", 0, nul) + 1
                raise refusal("file_broken", f"{path} line {line}: NUL byte: the file is damaged, write it again")
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                line = lines + error.object.count(b"\n", 0, error.start) + 1
                message = f"{path} line {line}: the bytes are not UTF-8: save the file as UTF-8"
                raise refusal("file_encoding", message) from error
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            lengths = np.diff(ends, prepend=-tail - 1, append=len(block)) - 1
            if lengths.max() > CSV_LINE_BYTES:
                line = lines + int((lengths > CSV_LINE_BYTES).argmax()) + 1
                message = f"{path} line {line} has more than {CSV_LINE_BYTES:,} bytes: close its quotes or split it"
                raise refusal("file_too_large", message)
            lines, tail = lines + len(ends), int(lengths[-1])
            if lines > CSV_ROWS + 1:
                raise refusal("file_too_large", f"{path} has more than {CSV_ROWS:,} rows: use Parquet or split it")


def _check_header(path: Path, raw: bytes, columns: Sequence[str]) -> None:
    header = next(csv.reader([raw.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")]), [])
    if len(header) > CSV_COLUMNS:
        raise refusal("file_too_large", f"{path} has {len(header):,} columns, at most {CSV_COLUMNS}")
    if len(header) == 1 and ";" in header[0]:
        raise refusal("file_separator", f"{path} line 1 is separated by semicolons: use commas, decimals with a point")
    require_columns(header, columns, str(path))


def _parse(path: Path, raw: bytes, columns: Sequence[str]) -> pa.Table:
    broken: list[pa_csv.InvalidRow] = []

    def keep(row: pa_csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    # Everything is read as text: type inference would turn labels such as 007 or NA into something else,
    # and would stop the whole file at the first number that is none. One thread: only so are rows numbered.
    table = pa_csv.read_csv(
        pa.BufferReader(raw),
        read_options=pa_csv.ReadOptions(use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(columns), column_types={name: pa.string() for name in columns}
        ),
    )
    if broken:
        findings = [_broken_line(path, row) for row in broken[:20]]
        raise TableError(f"{findings[0].message} (lines at fault: {len(broken)})", findings=findings)
    for name in columns:
        size = pc.max(pc.binary_length(table.column(name))).as_py() or 0
        if size > CSV_CELL_BYTES:
            raise refusal("file_too_large", f"{path}: a cell of {name} has {size:,} bytes, at most {CSV_CELL_BYTES:,}")
    return table


def _broken_line(path: Path, row: pa_csv.InvalidRow) -> Finding:
    return Finding(
        rule="file_broken",
        severity="error",
        message=f"{path} line {row.number} has {row.actual_columns} cells, the header {row.expected_columns}:"
        " the file is cut off or a quote is not closed, write it again",
    )


def _remarks(path: Path, raw: bytes) -> Iterator[Finding]:
    if raw.startswith(b"\xef\xbb\xbf"):
        yield Finding(rule="file_mark", severity="info", message=f"{path}: the byte order mark was skipped")
    if b"\r\n" in raw:
        yield Finding(rule="file_line_ends", severity="info", message=f"{path} has Windows line ends")
    if not raw.endswith((b"\n", b"\r")):
        line = raw.count(b"\n") + 1
        message = f"{path} line {line} has no line end: the file may be cut off, compare it with its source"
        yield Finding(rule="file_cut", severity="warning", message=message)
