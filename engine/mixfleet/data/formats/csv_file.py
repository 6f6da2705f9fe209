"""A CSV file's needed columns as text; refused, with the line number, where it is damaged or too large."""

import codecs
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv

from mixfleet.data.formats.csv_dialect import Dialect, find_dialect, foreign_text, is_footnote, transcoded
from mixfleet.data.validation.finding import Finding, refusal, require_columns
from mixfleet.errors import TableError, counted

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


@dataclass(frozen=True, kw_only=True)
class CsvRows:
    """What one CSV file holds."""

    rows: pa.Table
    """Every cell as text."""
    first: int
    """Line of the first row."""
    delimiter: str
    findings: tuple[Finding, ...]


def read_csv(path: Path, columns: Sequence[str], *, encoding: str | None = None) -> CsvRows:
    """The needed columns of a text file, every cell as text, and remarks about how the file is written.

    Cells may be separated by commas, semicolons, tabs or bars, lines end in any way, and titles stand above the header.

    Args:
        path: The file.
        columns: Names of the needed columns.
        encoding: The text's encoding; None for UTF-8, or UTF-16 with its mark.

    Raises:
        TableError: The file is damaged, of another encoding, above a limit of this module, or lacks a column.
    """
    if path.stat().st_size > CSV_FILE_BYTES:
        message = f"{path} is larger than {CSV_FILE_BYTES:,} bytes: use Parquet or split it"
        raise refusal("file_too_large", message)
    raw, done = _as_utf8(path, encoding)
    dialect = find_dialect(raw, columns)
    _check_header(path, dialect, columns)
    remarks = [*_remarks(path, raw)]
    if words := [*done, *dialect.words()]:
        remarks.insert(0, Finding(rule="csv_dialect", severity="info", message=f"{path}: {'; '.join(words)}"))
    rows, footnotes = _parse(path, raw, dialect, columns)
    if footnotes:
        message = f"{path}: passed over {counted(footnotes, 'line')} of remarks below the rows"
        remarks.append(Finding(rule="footnotes", severity="info", message=message))
    return CsvRows(rows=rows, first=dialect.first, delimiter=dialect.delimiter, findings=tuple(remarks))


def _as_utf8(path: Path, encoding: str | None) -> tuple[bytes, list[str]]:
    """The file's text as UTF-8, looked over block by block where it is so already."""
    with path.open("rb") as file:
        start = file.read(_BLOCK_BYTES)
        marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if not marked and not (encoding or "").lower().startswith(("utf-16", "utf_16", "utf-32", "utf_32")):
            _refuse_other_kind(path, start)
        plain = encoding is None and not marked
        if plain and (b"\n" in start or b"\r" not in start):
            file.seek(0)
            _scan(path, file)
            return path.read_bytes(), []
    try:
        raw, done = transcoded(path.read_bytes(), encoding)
    except (LookupError, UnicodeDecodeError) as error:
        raise refusal("file_encoding", f"{path} is not {encoding or 'UTF-16'}: {error}; set data.encoding") from error
    _scan(path, io.BytesIO(raw))
    return raw, done


_OTHER_KINDS = (
    (b"PK\x03\x04", "is a workbook or another archive: call it .xlsx, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is a workbook of an old Excel: save it as .xlsx or as .csv"),
    (b"\x1f\x8b", "is compressed: unpack it"),
    (b"PAR1", "is a Parquet file: call it .parquet"),
    (b"<", "is a web page or XML, no table: download or export it again"),
)


def _refuse_other_kind(path: Path, start: bytes) -> None:
    """Refuses what is no text, whatever it is called, and UTF-16 that does not say so."""
    for sign, words in _OTHER_KINDS:
        if start[:64].removeprefix(codecs.BOM_UTF8).lstrip(b" \r\n\t").startswith(sign):
            raise refusal("file_kind", f"{path} {words}")
    head = np.frombuffer(start[: len(start) // 2 * 2][:4096], np.uint8)
    if len(head) >= 8:
        even, odd = float((head[::2] == 0).mean()), float((head[1::2] == 0).mean())
        if abs(even - odd) > 0.5:
            name = "utf-16-le" if odd > even else "utf-16-be"
            raise refusal("file_encoding", f"{path} looks like UTF-16 without its mark: set data.encoding to {name}")


def _scan(path: Path, file: BinaryIO) -> None:
    """Refuses a damaged or oversized file block by block, before it is held in memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines, tail = 0, 0
    while block := file.read(_BLOCK_BYTES):
        nul = block.find(b"\0")
        if nul >= 0:
            line = lines + block.count(b"\n", 0, nul) + 1
            raise refusal("file_broken", f"{path} line {line}: NUL byte: the file is damaged, write it again")
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            line, text = foreign_text(error.object, error.start)
            message = (
                f"{path} line {lines + line}: the bytes are not UTF-8. As cp1252, which Excel writes in western "
                f"Europe, they read {text!r}: if that is right set data.encoding to cp1252, else name its encoding or "
                "save the file as UTF-8"
            )
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


def _check_header(path: Path, dialect: Dialect, columns: Sequence[str]) -> None:
    if len(dialect.header) > CSV_COLUMNS:
        raise refusal("file_too_large", f"{path} has {len(dialect.header):,} columns, at most {CSV_COLUMNS}")
    require_columns(dialect.header, columns, str(path))


def _parse(path: Path, raw: bytes, dialect: Dialect, columns: Sequence[str]) -> tuple[pa.Table, int]:
    """The rows, and how many remarks stand below them."""
    body = memoryview(raw)[dialect.start :]
    if not bytes(body[:_BLOCK_BYTES]).strip():
        return pa.table({name: pa.array([], pa.string()) for name in columns}), 0
    broken: list[pa_csv.InvalidRow] = []

    def keep(row: pa_csv.InvalidRow) -> str:
        broken.append(row)
        return "skip"

    # Everything is read as text: type inference would turn labels such as 007 or NA into something else,
    # and would stop the whole file at the first number that is none. One thread: only so are rows numbered.
    table = pa_csv.read_csv(
        pa.BufferReader(body),
        read_options=pa_csv.ReadOptions(use_threads=False, column_names=list(dialect.header)),
        parse_options=pa_csv.ParseOptions(
            delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=keep
        ),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(columns), column_types={name: pa.string() for name in columns}
        ),
    )
    whole, footnotes = table.num_rows + len(broken), 0
    while broken and broken[-1].number == whole and broken[-1].actual_columns == 1 and is_footnote(broken[-1].text):
        broken.pop()
        whole, footnotes = whole - 1, footnotes + 1
    if broken:
        findings = [_broken_line(path, row, dialect.first) for row in broken[:20]]
        raise TableError(f"{findings[0].message} (lines at fault: {len(broken)})", findings=findings)
    for name in columns:
        size = pc.max(pc.binary_length(table.column(name))).as_py() or 0
        if size > CSV_CELL_BYTES:
            raise refusal("file_too_large", f"{path}: a cell of {name} has {size:,} bytes, at most {CSV_CELL_BYTES:,}")
    return table, footnotes


def _broken_line(path: Path, row: pa_csv.InvalidRow, first: int) -> Finding:
    return Finding(
        rule="file_broken",
        severity="error",
        message=f"{path} line {(row.number or 0) + first - 1} has {counted(row.actual_columns or 0, 'cell')}, the "
        f"header {row.expected_columns}: the file is cut off or a quote is not closed, write it again",
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
