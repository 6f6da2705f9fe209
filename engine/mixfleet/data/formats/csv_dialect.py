"""CSV dialect: how a text file separates cells, ends lines, encodes text, and where its header stands."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pa_compute

pc: Any = pa_compute  # its functions are made at run time, unseen by type checkers

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEADER_RECORDS = 20
"""Records at a file's beginning among which the header is looked for; those above it are titles."""
HEAD_BYTES = 1 << 18

_TOTAL = re.compile(
    r"\s*(grand[ -]?|overall )?(totals?|sums?|summe|gesamt|gesamtsumme|gesamtergebnis|insgesamt|totale|suma)\b", re.I
)
_FOOTNOTE = re.compile(r"\W*(source|quelle|note|hinweis|stand|as of|exported|exportiert|created)\b", re.I)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one text file is written."""

    delimiter: str
    header: tuple[str, ...]
    """Names of the columns; line breaks and runs of blanks inside are single blanks."""
    start: int
    """Byte at which the rows begin."""
    first: int
    """Line at which they begin, from 1."""
    titles: int
    """Lines above the header."""

    def words(self) -> list[str]:
        """What is not as in a plain file of commas."""
        found = [] if self.delimiter == "," else [f"cells are separated by {DELIMITERS[self.delimiter]}"]
        if self.titles:
            found.append(f"{self.titles} lines above the header were passed over")
        return found


def transcoded(raw: bytes, encoding: str | None) -> tuple[bytes, list[str]]:
    """The file as UTF-8 with line feeds, and what was done to it.

    Raises:
        UnicodeDecodeError: The bytes are not of that encoding.
    """
    done = []
    if encoding is not None:
        raw = raw.decode(encoding).removeprefix("\ufeff").encode()
    elif raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raw = raw.decode("utf-16").encode()
        done.append("it was read as UTF-16")
    if b"\r" in raw and b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
        done.append("its lines end in carriage returns")
    return raw, done


def find_dialect(raw: bytes, columns: Sequence[str]) -> Dialect:
    """The dialect in which the header has most of the needed columns; the earliest such record is the header."""
    start = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    head = raw[start : start + HEAD_BYTES].decode("utf-8", "replace")
    best: tuple[tuple[int, int], str, tuple[str, ...], int, int] | None = None
    needed = set(columns)
    for delimiter in DELIMITERS:
        above = 0
        for record, last in _records(head, delimiter):
            names = tuple(name if name in needed else " ".join(name.split()) for name in record)
            # Where no needed name is known, or none is there, the record of most words is the header.
            score = (len(needed & set(names)), sum(re.match(r"[^\W\d_]", name) is not None for name in names))
            if best is None or score > best[0]:
                best = (score, delimiter, names, above, last)
            above = last
    assert best is not None, "a file that is not empty has a first record"
    _, delimiter, names, above, last = best
    ends = re.compile(rb"\r\n|\n|\r").finditer(raw, start)
    end = next(itertools.islice(ends, last - 1, None), None)
    begin = len(raw) if end is None else end.end()
    return Dialect(delimiter=delimiter, header=names, start=begin, first=last + 1, titles=above)


def _records(head: str, delimiter: str) -> list[tuple[list[str], int]]:
    """The first records that are not blank, and the line on which each ends."""
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    found: list[tuple[list[str], int]] = []
    try:
        for record in reader:
            if record or not found:
                found.append((record, reader.line_num))
            if len(found) == HEADER_RECORDS:
                break
    except csv.Error:
        pass
    return found or [([""], 1)]


def is_footnote(text: str) -> bool:
    """Whether a single cell below the rows is a total's name or a remark such as a source."""
    return any(pattern.match(text.strip('"')) for pattern in (_TOTAL, _FOOTNOTE))


def without_totals(rows: pa.Table, date: str) -> tuple[pa.Table, int]:
    """The rows without blank ones and totals at the end, and how many those were.

    A total is a row with a total's name in it and no date.
    """
    count = rows.num_rows
    while count and _is_total(rows, count - 1, date):
        count -= 1
    return rows.slice(0, count), rows.num_rows - count


def _is_total(rows: pa.Table, row: int, date: str) -> bool:
    cells = {name: str(rows.column(name)[row].as_py() or "").strip() for name in rows.column_names}
    if not any(cells.values()):
        return True
    if _TOTAL.match(cells.get(date, "")):
        return True
    return not cells.get(date, "") and any(_TOTAL.match(cell) for cell in cells.values())
