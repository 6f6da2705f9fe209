"""Rows about a fleet that somebody gives - a plan, or controls to come - read as the fleet's own table was."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, Shaped

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.formats.date_format import date_formats, date_words, strptime_format
from mixfleet.data.parse import Fault, decimal_marks, read_days, read_labels, read_numbers
from mixfleet.data.sources import Table, read_table
from mixfleet.errors import ConfigError, TableError
from mixfleet.storage.table_files import restored

__all__ = ["Rows", "read_rows"]

CHANNEL, DATE = "channel", "date"

WORDS = {
    Fault.TEXT: "cannot be read as a number: write plain decimals with a point, no thousands mark or currency",
    Fault.INFINITE: "is infinite: correct the cell",
    Fault.INTEGER: "is an integer too large to be exact: use a larger unit",
    Fault.TYPE: "cannot be read as a number: the column holds something else",
}


@dataclass(frozen=True)
class Rows:
    """Rows of a table about the fleet: which unit, which day, and everything else by column."""

    place: Int[np.ndarray, " row"]
    dates: Shaped[np.ndarray, " row"]
    columns: dict[str, np.ndarray]
    """`channel` as text, others as numbers; NaN where a cell is empty."""
    where: tuple[str, ...]
    """Words for each row, such as `plan.csv line 18`."""


def read_rows(fleet: Fleet, source: Any, columns: Sequence[str], key: str) -> Rows:
    """Rows of a table with the fleet's key columns, `date` and others; of units without draws there are none.

    Dates, numbers and text are read as `write_tables` writes them, or as in the fleet's own table.

    Raises:
        ConfigError: A cell cannot be read, or a row is of no unit of the run; says which.
        TableError: The table cannot be read or lacks a column.
    """
    table = _read(source, (*fleet.keys, DATE, *columns), fleet.spec.data.encoding)
    labels = list(zip(*(_texts(table, name, key) for name in fleet.keys), strict=True))
    dates = _dates(fleet, table, key)
    numeric = [name for name in columns if name != CHANNEL]
    comma = _decimal_comma(fleet, table, numeric)
    values = {name: _numbers(table, name, key, comma=comma) for name in numeric}
    if CHANNEL in columns:
        channels = {(name,) for name in fleet.channels}
        names = [_as_known((text,), channels)[0] for text in _texts(table, CHANNEL, key)]
        values[CHANNEL] = np.array(names, object)
    places = {unit.labels: place for place, unit in enumerate(fleet.units)}
    known = {*places, *fleet.missing}
    found = np.full(table.rows, -1)
    for row, texts in enumerate(labels):
        unit = _as_known(texts, known)
        if unit not in known:
            message = f"{table.where(row)}: {' / '.join(unit)} is no unit of the run, such as {' / '.join(min(known))}"
            raise ConfigError(message, key=key)
        found[row] = places.get(unit, -1)
    # Of units without draws nothing can be said.
    keep = found >= 0
    where = tuple(table.where(int(row)) for row in np.flatnonzero(keep))
    return Rows(found[keep], dates[keep], {name: column[keep] for name, column in values.items()}, where)


def _read(source: Any, columns: Sequence[str], encoding: str | None) -> Table:
    """The table: in UTF-8, as plans of ours are whatever the fleet's own table is, or else in that one's encoding."""
    try:
        return read_table(source, columns, date=DATE)
    except TableError as error:
        if encoding is None or all(finding.rule != "file_encoding" for finding in error.findings):
            raise
    return read_table(source, columns, date=DATE, encoding=encoding)


def _as_known(texts: tuple[str, ...], known: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """The texts, without the apostrophes that `write_tables` put before them where that makes them known."""
    plain = tuple(restored(text) for text in texts)
    return plain if texts not in known and plain in known else texts


def _texts(table: Table, name: str, key: str) -> list[str]:
    found: list[str] = []
    for part in table.parts:
        texts = read_labels(part.rows.column(name))
        if texts is None:
            raise ConfigError(f"column {name} holds neither text nor integers: write names", key=key)
        found += texts.to_pylist()
    return found


def _dates(fleet: Fleet, table: Table, key: str) -> Shaped[np.ndarray, " row"]:
    columns, said = [part.rows.column(DATE) for part in table.parts], fleet.spec.data.date_format
    form = None if said is None else strptime_format(said)
    if form is None and (looks := date_formats(columns)).formats:
        form, *others = looks.formats
        if others:
            told = " or ".join(date_words(one) for one in looks.formats)
            raise ConfigError(f"column {DATE}: {looks.example!r} may be {told}: write dates as 2026-01-31", key=key)
    try:
        parts = [read_days(column, form) for column in columns]
    except pa.ArrowException as error:
        raise ConfigError(f"column {DATE} cannot be read as dates: {error}", key=key) from error
    dates, fault = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "fault"))
    for row in np.flatnonzero(fault != Fault.NONE)[:1]:
        cell = table.cell(int(row), DATE)
        message = (
            f"{table.where(int(row))}, column {DATE}: {cell!r} cannot be read as a date: write dates as 2026-01-31"
        )
        raise ConfigError(message, key=key)
    return dates


def _decimal_comma(fleet: Fleet, table: Table, names: Sequence[str]) -> bool:
    """Whether the rows have decimal commas, as their cells show or, where they show neither or both, the settings say.

    A plan of ours has points whatever the fleet's own table has.
    """
    marks = [decimal_marks(part.rows.column(name)) for part in table.parts for name in names]
    comma, point = any(mark.comma for mark in marks), any(mark.point for mark in marks)
    return comma if comma != point else fleet.spec.data.decimal == "comma"


def _numbers(table: Table, name: str, key: str, *, comma: bool) -> Float[np.ndarray, " row"]:
    parts = [read_numbers(part.rows.column(name), decimal_comma=comma) for part in table.parts]
    values, fault = (np.concatenate([getattr(part, field) for part in parts]) for field in ("values", "fault"))
    for row in np.flatnonzero((fault != Fault.NONE) & (fault != Fault.MISSING))[:1]:
        cell, words = table.cell(int(row), name), WORDS[Fault(int(fault[row]))]
        raise ConfigError(f"{table.where(int(row))}, column {name}: {cell!r} {words}", key=key)
    return values
