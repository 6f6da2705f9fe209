"""Columns of any Arrow type as numbers, days and labels, parsed strictly, with a fault per cell."""

import datetime
import enum
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
from jaxtyping import Float, Int, Shaped, UInt8

from mixfleet.data.formats.date_format import read_date

pc: Any = pa_compute  # its functions are made at run time, unseen by type checkers

LARGEST_INTEGER = 2**53 - 1
"""Above it several integers share one float64, so that a count would change silently."""

NO_OFFSET = -(10**6)
"""Offset of a date that names no time zone."""

_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "NaT")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INTEGER = r"^[+-]?[0-9]+$"
_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:\.\d+)?(?:(Z)|([+-])(\d{2}):?(\d{2}))?)?", re.ASCII
)


class Fault(enum.IntEnum):
    """What is wrong with a cell."""

    NONE = 0
    MISSING = 1
    TEXT = 2
    """Not a number, or not a date."""
    INFINITE = 3
    INTEGER = 4
    """An integer beyond `LARGEST_INTEGER`."""
    TYPE = 5
    """The column is of a type that holds no such values."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """One column as numbers."""

    values: Float[np.ndarray, " row"]
    """NaN where the cell is at fault."""
    fault: UInt8[np.ndarray, " row"]
    """`Fault` per cell."""


@dataclass(frozen=True, kw_only=True)
class Days:
    """One column as calendar days."""

    values: Shaped[np.ndarray, " row"]
    """datetime64[D]; NaT where the cell is at fault. With a time zone, the local day of that zone."""
    fault: UInt8[np.ndarray, " row"]
    """`Fault` per cell."""
    offset: Int[np.ndarray, " row"]
    """Minutes east of UTC where cell or column say so, else `NO_OFFSET`."""
    clock: bool
    """Some cell has a time of day other than midnight; it was dropped."""


@dataclass(frozen=True, kw_only=True)
class DecimalMarks:
    """Which decimal marks the cells of a text column can only be read with."""

    comma: bool
    point: bool
    unclear: str | None
    """A cell whose mark may be of decimals or of thousands, such as 1.234."""

    thousands: bool = False
    """A cell has commas that can only be thousands marks, such as 1,234.50 or 1,234,567."""


def decimal_marks(column: pa.ChunkedArray) -> DecimalMarks:
    """What the cells of a column tell of its decimal mark; nothing where it is no text."""
    column = _decoded(column)
    if not pa.types.is_large_string(column.type):
        return DecimalMarks(comma=False, point=False, unclear=None)
    text = pc.ascii_trim_whitespace(column.drop_null())

    def has(pattern: str) -> np.ndarray:
        return _flags(pc.match_substring_regex(text, pattern))

    unclear = has(r"^[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}$")
    comma = has(r"^[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]*),[0-9]+([eE][+-]?[0-9]+)?$") & ~unclear
    comma |= has(r"^[+-]?[1-9][0-9]{0,2}(\.[0-9]{3}){2,}$")
    point = has(r"^[+-]?([0-9]{1,3}(,[0-9]{3})+|[0-9]*)\.[0-9]+([eE][+-]?[0-9]+)?$") & ~unclear
    thousands = has(r"^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]*$") | has(r"^[+-]?[1-9][0-9]{0,2}(,[0-9]{3}){2,}$")
    cell = str(text[int(np.flatnonzero(unclear)[0])]) if unclear.any() else None
    found = DecimalMarks(comma=bool(comma.any()), point=bool((point | thousands).any()), unclear=cell)
    return replace(found, thousands=bool(thousands.any()))


def read_numbers(column: pa.ChunkedArray, *, decimal_comma: bool = False, thousands: bool = False) -> Numbers:
    """The column as float64. Text must be a plain decimal number: no currency, with a point and no thousands marks.

    Args:
        column: Of any type.
        decimal_comma: Text has decimal commas, and points as thousands marks or none.
        thousands: Text has decimal points, and commas as thousands marks or none.
    """
    column = _decoded(column)
    if decimal_comma and pa.types.is_large_string(column.type):
        column = _with_points(column)
    elif thousands and pa.types.is_large_string(column.type):
        column = _without_commas(column)
    kind = column.type
    if pa.types.is_null(kind):
        return _unread(len(column), Fault.MISSING)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
        return _checked(_floats(column), missing=_flags(column.is_null()), whole=whole)
    if pa.types.is_large_string(kind):
        return _parsed(column)
    return _unread(len(column), Fault.TYPE)


def read_days(column: pa.ChunkedArray, form: str | None = None) -> Days:
    """The column as days. Text must be ISO: YYYY-MM-DD, with or without a time and an offset from UTC.

    Args:
        column: Of dates, times or text.
        form: Another `strptime` format that text may have.

    Raises:
        pyarrow.ArrowException: The column's time zone is not known on this machine.
    """
    column = _decoded(column)
    kind, size = column.type, len(column)
    if pa.types.is_large_string(kind):
        return _parsed_days(column, form)
    offset = np.full(size, NO_OFFSET, np.int64)
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        fault = Fault.MISSING if pa.types.is_null(kind) else Fault.TYPE
        days = np.full(size, np.datetime64("NaT", "D"))
        return Days(values=days, fault=np.full(size, fault, np.uint8), offset=offset, clock=False)
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    local = pc.local_timestamp(column) if zone else column
    times = local.cast(pa.timestamp("us"), safe=False).to_numpy()
    values = times.astype("datetime64[D]")
    missing = np.isnat(values)
    if zone:
        utc = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us")).to_numpy()
        offset = np.where(missing, NO_OFFSET, (times - utc) // np.timedelta64(1, "m")).astype(np.int64)
    fault = np.where(missing, Fault.MISSING, Fault.NONE).astype(np.uint8)
    clock = bool((times != values)[~missing].any())
    return Days(values=values, fault=fault, offset=offset, clock=clock)


def read_labels(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column as text without nulls (they become ""), or None if it holds neither text nor integers."""
    column = _decoded(column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        return None
    return pc.fill_null(column.cast(pa.large_string()), "")


def _with_points(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimal commas as points. A cell that a comma cannot be the mark of stays, or becomes, no number."""
    text = pc.ascii_trim_whitespace(column)
    number = r"^[+-]?([0-9]{1,3}(\.[0-9]{3})+|[0-9]+)?(,[0-9]*)?([eE][+-]?[0-9]+)?$"
    european = pc.fill_null(pc.match_substring_regex(text, number), False)
    plain = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    return pc.if_else(european, plain, pc.replace_substring(column, ".", ","))


def _without_commas(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Thousands marks left out where they stand before three digits each."""
    text = pc.ascii_trim_whitespace(column)
    grouped = pc.fill_null(pc.match_substring_regex(text, r"^[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?$"), False)
    return pc.if_else(grouped, pc.replace_substring(text, ",", ""), column)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array(
            [_plain(chunk.dictionary).take(chunk.indices) for chunk in column.chunks],
            _plain(pa.array([], column.type.value_type)).type,
        )
    return _plain(column)


def _plain(column: pa.Array | pa.ChunkedArray) -> Any:
    # Few Arrow functions know the other kinds of text.
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    return column


def _flags(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(bool)


def _floats(column: pa.ChunkedArray) -> Float[np.ndarray, " row"]:
    return pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy().astype(np.float64)


def _unread(size: int, fault: Fault) -> Numbers:
    return Numbers(values=np.full(size, np.nan), fault=np.full(size, fault, np.uint8))


def _checked(values: Float[np.ndarray, " row"], *, missing: np.ndarray, whole: bool | np.ndarray) -> Numbers:
    fault = np.zeros(len(values), np.uint8)
    fault[missing | np.isnan(values)] = Fault.MISSING
    fault[np.isinf(values)] = Fault.INFINITE
    fault[whole & (np.abs(values) > LARGEST_INTEGER)] = Fault.INTEGER
    return Numbers(values=np.where(fault == Fault.NONE, values, np.nan), fault=fault)


def _parsed(column: pa.ChunkedArray) -> Numbers:
    text = pc.ascii_trim_whitespace(column)
    missing = pc.or_(pc.is_in(text, value_set=pa.array(_MISSING, pa.large_string())), pc.is_null(text))
    # A cell of blanks only is no empty cell: somebody wrote something there.
    blank = pc.and_(pc.equal(text, ""), pc.not_equal(column, ""))
    missing = pc.and_(missing, pc.invert(pc.fill_null(blank, False)))
    number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), False)
    values = _floats(pc.if_else(number, text, pa.scalar(None, pa.large_string())))
    whole = _flags(pc.fill_null(pc.match_substring_regex(text, _INTEGER), False))
    infinite = pc.fill_null(pc.match_substring_regex(text, r"^[+-]?(inf|infinity)$", ignore_case=True), False)
    values[_flags(infinite)] = np.inf
    numbers = _checked(values, missing=_flags(missing), whole=whole)
    wrong = ~(_flags(number) | _flags(missing) | _flags(infinite))
    return Numbers(values=numbers.values, fault=np.where(wrong, Fault.TEXT, numbers.fault).astype(np.uint8))


def _parsed_days(column: pa.ChunkedArray, form: str | None) -> Days:
    # A fleet repeats the same few dates in every unit, so each distinct text is parsed once.
    coded = column.combine_chunks().dictionary_encode()
    parsed = [_parse_date(text.strip(), form) for text in coded.dictionary.to_pylist()]
    parsed.append((np.datetime64("NaT", "D"), Fault.MISSING, NO_OFFSET, False))
    codes = pc.fill_null(coded.indices, len(parsed) - 1).to_numpy()
    days, faults, offsets, clocks = zip(*parsed, strict=True)
    return Days(
        values=np.array(days, "datetime64[D]")[codes],
        fault=np.array(faults, np.uint8)[codes],
        offset=np.array(offsets, np.int64)[codes],
        clock=any(clocks),
    )


def _parse_date(text: str, form: str | None) -> tuple[np.datetime64, Fault, int, bool]:
    nothing = np.datetime64("NaT", "D")
    if text in _MISSING:
        return nothing, Fault.MISSING, NO_OFFSET, False
    if form is not None and (found := read_date(text, form)) is not None:
        return np.datetime64(found[0], "D"), Fault.NONE, NO_OFFSET, found[1]
    match = _DATE.fullmatch(text)
    if match is None:
        return nothing, Fault.TEXT, NO_OFFSET, False
    day, clock, utc, sign, hours, minutes = match.groups()
    try:
        date = datetime.date.fromisoformat(day)
    except ValueError:
        return nothing, Fault.TEXT, NO_OFFSET, False
    offset = 0 if utc else NO_OFFSET
    if sign:
        offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)
    return np.datetime64(date, "D"), Fault.NONE, offset, bool(clock) and clock.strip("0:") != ""
