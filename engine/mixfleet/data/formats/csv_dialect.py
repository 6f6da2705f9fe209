"""CSV dialect: how a text file separates cells, ends lines, encodes text, and where its header stands."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute

from mixfleet.errors import counted

pc: Any = pa_compute  # its functions are made at run time, unseen by type checkers

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEADER_RECORDS = 20
"""Records at a file's beginning among which the header is looked for; those above it are titles."""
HEAD_BYTES = 1 << 18

_TOTAL = re.compile(
    r"\s*(grand[ -]?|overall |sub[ -]?|zwischen)?"
    r"(totals?|sums?|summe|gesamt|gesamtsumme|gesamtergebnis|insgesamt|totale|suma)\b",
    re.I,
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
            found.append(f"passed over {counted(self.titles, 'line')} above the header")
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


def without_remarks(rows: pa.Table, date: str) -> tuple[np.ndarray, list[str]]:
    """Which rows are of the table (bool by row), and words for those that are not: blank ones, totals, header again.

    A total is a row with a total's name in it and no date.
    """
    kept = np.ones(rows.num_rows, bool)
    if date not in rows.column_names or not rows.num_rows:
        return kept, []
    text = pc.fill_null(pc.utf8_trim_whitespace(pc.cast(rows.column(date), pa.string())), "")
    odd = pc.or_(pc.or_(pc.equal(text, ""), pc.equal(text, date)), pc.match_substring_regex(text, "^[^0-9]*$"))
    counts = {"blank rows": 0, "rows of totals": 0, "repeated headers": 0}
    for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)):
        cells = {name: str(rows.column(name)[int(row)].as_py() or "").strip() for name in rows.column_names}
        if kind := _remark(cells, date):
            kept[row], counts[kind] = False, counts[kind] + 1
    return kept, [f"{kind} ({count})" for kind, count in counts.items() if count]


def _remark(cells: dict[str, str], date: str) -> str | None:
    if not any(cells.values()):
        return "blank rows"
    if _TOTAL.match(cells[date]) or (not cells[date] and any(_TOTAL.match(cell) for cell in cells.values())):
        return "rows of totals"
    return "repeated headers" if all(name.strip() == cell for name, cell in cells.items()) else None


def foreign_text(raw: bytes, place: int) -> tuple[int, str]:
    """The line (from 1) of a byte that is not UTF-8, and how cp1252 reads the cell that it is in."""
    line = raw.count(b"\n", 0, place) + 1
    start = max(raw.rfind(sign, 0, place) for sign in (b"\n", b",", b";", b"\t", b"|", b'"')) + 1
    cell = re.match(rb'[^\n\r,;\t|"]*', raw[start : start + 200])
    return line, (cell[0] if cell else b"").decode("cp1252", "replace")[:40].strip()
