"""Rows: the table of tests as it was given, cell by cell, whatever tool wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from mixfleet import config
from mixfleet.data.experiments.columns import meanings
from mixfleet.data.files import find_files
from mixfleet.data.formats.date_format import date_formats, strptime_format
from mixfleet.data.guess import header
from mixfleet.data.parse import Fault, decimal_marks, read_days, read_labels, read_numbers
from mixfleet.data.sources import Table, read_table
from mixfleet.data.validation.finding import Finding, refusal
from mixfleet.errors import TableError

__all__ = ["Faulty", "Row", "read_rows"]

NUMBERS = (
    *("factor", "spend_test", "spend_control", "delta_spend", "x", "delta_x"),
    *("lift", "revenue", "roi", "se", "lower", "upper", "level", "bias_sd", "one_less_p", "att", "spend_all"),
)
DATES = ("start", "end", "measured_until")
TEXTS = ("name", "channel", "metric", "scope")
MEASURES = ("lift", "revenue", "roi")

WORDS = {
    Fault.TEXT: "is no number: write plain decimals",
    Fault.INFINITE: "is infinite: a one-sided interval says no standard error; give se, or both ends",
    Fault.INTEGER: "is an integer too large to be exact",
    Fault.TYPE: "is no number: the column holds something else",
}


class Faulty(Exception):
    """A cell of a row that cannot be right; the message says what is wrong and the remedy."""

    def __init__(self, column: str, words: str) -> None:
        super().__init__(words)
        self.column = column


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: texts and numbers by meaning, those that it has."""

    where: str
    """Words for the row, such as `tests.csv line 3`."""
    columns: Mapping[str, str]
    """Meaning to the table's name."""
    unit: tuple[str, ...]
    """Labels by key column; `*` for all."""
    texts: Mapping[str, str]
    numbers: Mapping[str, float]
    dates: Mapping[str, np.datetime64]

    def fault(self, error: Faulty) -> Finding:
        """The finding that a fault of the row is."""
        column = self.columns.get(error.column, error.column)
        message = f"{self.where}, column {column}: {error}"
        return Finding(rule="experiment", severity="error", column=column, message=message)

    def estimate(self, level: float) -> tuple[str, float, float]:
        """What was estimated, its value, and its standard error.

        Raises:
            Faulty: There is no estimate, more than one, or nothing that tells how sure it is.
        """
        given = [name for name in MEASURES if name in self.numbers]
        if len(given) != 1:
            there = f"has {' and '.join(given)}" if given else "has none"
            raise Faulty("lift", f"one estimate is needed, lift, revenue or roi; the row {there}")
        value = self.numbers[given[0]]
        per_unit = value / self.numbers["att"] if "att" in self.numbers else 1.0
        se = self._error(value, level, per_unit)
        if not (np.isfinite(se) and se > 0):
            raise Faulty("se", f"the standard error must be above zero, is {se:g}")
        if self.numbers.get("bias_sd", 0.0) < 0:
            raise Faulty("bias_sd", f"must be zero or more, is {self.numbers['bias_sd']:g}")
        return given[0], value, se

    def _error(self, value: float, level: float, per_unit: float) -> float:
        if "se" in self.numbers:
            return self.numbers["se"]
        if "one_less_p" in self.numbers:
            share = self.numbers["one_less_p"]
            if not 0 < share < 1 or value == 0:
                raise Faulty("one_less_p", f"must lie between 0 and 1 beside a lift that is not zero, is {share:g}")
            return abs(value) / NormalDist().inv_cdf((1 + share) / 2)
        if not {"lower", "upper"} <= self.numbers.keys():
            raise Faulty("se", "nothing says how sure the estimate is: give se, or lower and upper")
        level = self.numbers.get("level", level)
        level = level / 100 if level > 1 else level
        if not 0 < level < 1:
            raise Faulty("level", f"must lie between 0 and 1, or 0 and 100 %, is {level:g}")
        lower, upper = (self.numbers[name] * per_unit for name in ("lower", "upper"))
        if not lower <= value <= upper:
            raise Faulty("lower", f"the interval {lower:g} to {upper:g} leaves out its estimate {value:g}")
        return (upper - lower) / (2 * NormalDist().inv_cdf((1 + level) / 2))


def read_rows(source: Any, data: config.Data) -> tuple[list[Row], list[Finding]]:
    """Every row, and what there is to say of columns that nothing was made of.

    Raises:
        TableError: The table cannot be read, lacks the channel, or holds a cell that cannot be read; all such cells.
    """
    names, encoding = _names(source)
    columns = meanings(names, data.experiments.columns, data.keys)
    if "channel" not in columns:
        message = f"the table of tests has no column channel: name it in data.experiments.columns; it has {names}"
        raise refusal("column_missing", message, "channel")
    keys = [key for key in data.keys if key in names]
    table = read_table(source, [*keys, *columns.values()], encoding=encoding)
    faults: list[Finding] = []
    texts = {key: _texts(table, key) for key in keys}
    words = {meaning: _texts(table, name) for meaning, name in columns.items() if meaning in TEXTS}
    numbers = {m: _numbers(table, name, data, faults) for m, name in columns.items() if m in NUMBERS}
    dates = {m: _dates(table, name, data, faults) for m, name in columns.items() if m in DATES}
    if faults:
        raise TableError("; ".join(fault.message for fault in faults), findings=faults)
    rows = [
        Row(
            where=table.where(i) if isinstance(source, str | Path) else f"tests, {table.where(i)}",
            columns=columns,
            unit=tuple(texts[key][i] or "*" if key in texts else "*" for key in data.keys),
            texts={m: column[i].strip() for m, column in words.items() if column[i].strip()},
            numbers={m: float(column[i]) for m, column in numbers.items() if not np.isnan(column[i])},
            dates={m: column[i] for m, column in dates.items() if not np.isnat(column[i])},
        )
        for i in range(table.rows)
    ]
    unused = [name for name in names if name not in keys and name not in columns.values()]
    return rows, [_unused(name) for name in unused]


def _unused(name: str) -> Finding:
    message = f"column {name} of the table of tests is not used; data.experiments.columns says what columns mean"
    return Finding(rule="experiment_column", severity="info", column=name, message=message)


def _names(source: Any) -> tuple[list[str], str | None]:
    if isinstance(source, str | Path):
        return header(find_files(str(source))[0])[:2]
    if hasattr(source, "columns") and not isinstance(source, pa.Table):
        return [str(name) for name in source.columns], None
    return list(source.column_names if isinstance(source, pa.Table) else pa.table(source).column_names), None


def _texts(table: Table, name: str) -> list[str]:
    found: list[str] = []
    for part in table.parts:
        texts = read_labels(part.rows.column(name))
        if texts is None:
            raise refusal("column_type", f"column {name} of the table of tests holds no text: write names", name)
        found += texts.to_pylist()
    return found


def _numbers(table: Table, name: str, data: config.Data, faults: list[Finding]) -> np.ndarray:
    columns = [part.rows.column(name) for part in table.parts]
    marks = [decimal_marks(column) for column in columns]
    comma = data.decimal == "comma" or (data.decimal == "auto" and any(m.comma and not m.point for m in marks))
    parts = [read_numbers(column, decimal_comma=comma) for column in columns]
    values, fault = (np.concatenate([getattr(part, field) for part in parts]) for field in ("values", "fault"))
    for row in np.flatnonzero((fault != Fault.NONE) & (fault != Fault.MISSING)):
        _note(table, int(row), name, WORDS[Fault(int(fault[row]))], faults)
    return values


def _dates(table: Table, name: str, data: config.Data, faults: list[Finding]) -> np.ndarray:
    columns = [part.rows.column(name) for part in table.parts]
    form = None if data.date_format is None else strptime_format(data.date_format)
    looks = date_formats(columns).formats if form is None else []
    parts = [read_days(column, form or next(iter(looks), None)) for column in columns]
    values, fault = (np.concatenate([getattr(part, field) for part in parts]) for field in ("values", "fault"))
    for row in np.flatnonzero((fault != Fault.NONE) & (fault != Fault.MISSING)):
        _note(table, int(row), name, "is no date: write 2026-01-31", faults)
    if len(looks) > 1:
        _note(table, 0, name, "may be several dates: write 2026-01-31, or set data.date_format", faults)
    return values


def _note(table: Table, row: int, name: str, words: str, faults: list[Finding]) -> None:
    message = f"{table.where(row)}, column {name}: {table.cell(row, name)!r} {words}"
    faults.append(Finding(rule="experiment", severity="error", column=name, message=message))
