"""Findings: what the checks have to say about a table, one sentence per fault."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from mixfleet.errors import TableError

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, doubt or remark about a table."""

    rule: str
    """Name of the rule that found it, such as `missing_value`."""
    severity: Severity
    """`error` rejects the unit (or the table), `warning` lets it run as doubtful, `info` only tells."""
    unit: tuple[str, ...] | None = None
    """Labels of the unit, None where the whole table is meant."""
    column: str | None = None
    """Column of the table, None where no single column is meant."""
    message: str
    """What is wrong, where, and the remedy."""
    kept: str = ""
    """What the unit's result says of it: the message with dates in place of the table's rows, which rows of other
    units move. Empty where the message names no row."""

    @property
    def statement(self) -> str:
        """The message as it becomes part of a result."""
        return self.kept or self.message


def findings_table(findings: Iterable[Finding]) -> pa.Table:
    """One row per finding: rule, severity, unit (list of labels or null), column, message."""
    rows = tuple(findings)
    return pa.table(
        {
            "rule": pa.array([f.rule for f in rows], pa.string()),
            "severity": pa.array([f.severity for f in rows], pa.string()),
            "unit": pa.array([None if f.unit is None else list(f.unit) for f in rows], pa.list_(pa.string())),
            "column": pa.array([f.column for f in rows], pa.string()),
            "message": pa.array([f.message for f in rows], pa.string()),
        }
    )


@dataclass(frozen=True)
class NamedRows:
    """Rows of a table in words."""

    places: str
    """By file and line, with the date."""
    dates: str
    """By date only; empty where none of them has one."""


def about_unit(
    rule: str,
    labels: tuple[str, ...],
    words: str,
    *,
    column: str | None = None,
    severity: Severity = "error",
    rows: NamedRows | None = None,
) -> Finding:
    """A finding about one unit: `words` say what is wrong and the remedy, its name leads them in, `rows` say where."""
    message = kept = f"unit {unit_name(labels)}: {words}"
    if rows is not None:
        message, kept = f"{message}; {rows.places}", f"{message}; {rows.dates}" if rows.dates else message
    return Finding(rule=rule, severity=severity, unit=labels, column=column, message=message, kept=kept)


def refusal(rule: str, message: str, column: str | None = None) -> TableError:
    """The error for a table that cannot be used for one reason; to be raised."""
    fault = Finding(rule=rule, severity="error", column=column, message=message)
    return TableError(message, findings=(fault,))


def require_columns(names: Sequence[str], columns: Sequence[str], place: str) -> None:
    """Passes when each needed column is there once.

    Args:
        names: Column names that are there.
        columns: Column names that are needed.
        place: Words for where they should be, such as a file name.

    Raises:
        TableError: A column is missing or there twice; all faults at once.
    """
    faults = []
    for column in columns:
        if (count := list(names).count(column)) > 1:
            message = f"{place} has {count} columns named {column}: rename or drop all but one"
            faults.append(Finding(rule="column_duplicate", severity="error", column=column, message=message))
    missing = [column for column in columns if column not in names]
    if missing and faults == [] and len(names) == 1 and len(missing) > 1:
        message = f"{place} has one column only, {names[0][:60]!r}: separate cells by commas, semicolons, tabs or bars"
        raise refusal("column_missing", message)
    if missing:
        faults = [*_missing_columns(names, missing, place), *faults]
    if faults:
        raise TableError("; ".join(fault.message for fault in faults), findings=faults)


def _missing_columns(names: Sequence[str], missing: Sequence[str], place: str) -> Iterator[Finding]:
    """One by one, with a name that differs only in how it is written; what is there is said once."""
    there = ", ".join(name[:60] for name in names[:30]) + (", ..." if len(names) > 30 else "")
    written = {_plain(name): name for name in reversed(names)}
    for column in missing:
        near = written.get(_plain(column))
        remedy = "name the right one in the data settings" if near is None else f"it has {near!r}, name that"
        message = f"{place} has no column {column}: {remedy}"
        if column == missing[-1]:
            message += f"; its columns are {there}"
        yield Finding(rule="column_missing", severity="error", column=column, message=message)


def _plain(name: str) -> str:
    """A column's name without case, marks that nobody sees, and blanks."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())


def unit_name(labels: Sequence[str]) -> str:
    """A unit's labels for a message: on one line, each cut to 40 characters, nothing invisible."""
    return " / ".join(_shown(label) for label in labels)


def _shown(label: str) -> str:
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in label[:41])
    return text if len(label) <= 40 else text[:37] + "..."
