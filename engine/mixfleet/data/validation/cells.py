"""Rules about single cells: missing, not a number, out of range; and about a unit's labels."""

import unicodedata
from collections.abc import Collection, Iterator

import numpy as np
from jaxtyping import Int

from mixfleet import config
from mixfleet.data.parse import LARGEST_INTEGER, Fault
from mixfleet.data.parsed_table import Column, ParsedTable
from mixfleet.data.validation.finding import Finding, NamedRows, Severity, about_unit, unit_name

LARGEST, SMALLEST = 1e30, 1e-30
"""Draws are kept in single precision, which ends at 1e38: beyond these, sums over years and ratios of columns would be
infinite or nothing."""

NAMED_ROWS = 5
"""Rows that one message names; the others are counted."""

_RULES: dict[Fault, tuple[str, str]] = {
    Fault.TEXT: (
        "not_a_number",
        "not a number: write plain decimals with a point and a minus in front, no currency, percent sign or blank; "
        "where commas are thousands marks set data.decimal to point",
    ),
    Fault.INFINITE: ("not_finite", "infinite: correct the cells or leave the unit out"),
    Fault.INTEGER: (
        "integer_too_large",
        f"an integer beyond {LARGEST_INTEGER}, not exact in float64: use a larger unit, such as thousands",
    ),
}


def check_cells(sheet: ParsedTable, data: config.Data, *, link: str) -> Iterator[Finding]:
    """Findings about cells and labels."""
    yield from _labels(sheet, data)
    for column in all_columns(sheet):
        for fault, (rule, words) in _RULES.items():
            yield from _each_unit(sheet, column, column.fault == fault, rule, words, quote=True)
        yield from _out_of_range(sheet, column)
    for column in needed_columns(sheet):
        yield from _missing(sheet, column, data)
    for column in (*media_columns(sheet), *reported_columns(sheet)):
        if column.source not in data.allow_negative_media and column.name not in data.allow_negative_media:
            words = (
                "negative: correct them; a credit note is best booked apart (spend with the note as money, impressions "
                "for what ran), or list the column in data.allow_negative_media, which counts it as money returned"
            )
            yield from _each_unit(sheet, column, column.values < 0, "negative_media", words)
        else:
            words = "negative: they count as money returned, not as advertising undone"
            yield from _each_unit(sheet, column, column.values < 0, "credit_note", words, severity="info")
    count = data.kpi_type == "count"
    words = "negative: correct them" if count else "negative: right for returns, wrong otherwise"
    severity: Severity = "warning" if count else "info"
    if link == "log":
        words = "not above 0, of which model.link=log takes the logarithm: correct them, or use the identity link"
        yield from _each_unit(sheet, sheet.kpi, sheet.kpi.values <= 0, "kpi_not_positive", words)
    else:
        yield from _each_unit(sheet, sheet.kpi, sheet.kpi.values < 0, "negative_kpi", words, severity=severity)
    for column in sheet.linear:
        if column.name in {treatment.name for treatment in data.treatments if treatment.form == "log"}:
            words = "not above 0, of which there is no logarithm: correct them, or leave `form: log` out"
            yield from _each_unit(sheet, column, column.values <= 0, "not_positive", words)
    yield from _scales(sheet)


def all_columns(sheet: ParsedTable) -> tuple[Column, ...]:
    """Every numeric column, KPI first, each once."""
    return tuple({column.name: column for column in (*needed_columns(sheet), *reported_columns(sheet))}.values())


def needed_columns(sheet: ParsedTable) -> tuple[Column, ...]:
    """Those of which a unit must have every cell or, of media and controls, none."""
    single = [sheet.population, sheet.revenue_per_kpi, sheet.kpi_scale]
    columns = [sheet.kpi, *media_columns(sheet), *sheet.linear, *(column for column in single if column)]
    return tuple({column.name: column for column in columns}.values())


def media_columns(sheet: ParsedTable) -> tuple[Column, ...]:
    """Spend and impressions of every channel, each column once."""
    columns = [column for channel in sheet.channels for column in (channel.spend, channel.media) if column]
    return tuple({column.name: column for column in columns}.values())


def reported_columns(sheet: ParsedTable) -> tuple[Column, ...]:
    """What platforms claim; a week without a report is no fault."""
    return tuple(channel.reported for channel in sheet.channels if channel.reported)


def empty_units(sheet: ParsedTable, column: Column) -> np.ndarray:
    """Whether all cells of a unit are missing: there the column does not exist."""
    return np.logical_and.reduceat(column.fault == Fault.MISSING, sheet.start[:-1])


def name_rows(
    sheet: ParsedTable, rows: Int[np.ndarray, " some"], column: Column | None = None, *, quote: bool = False
) -> NamedRows:
    """Words for rows of the sheet: place in the table and date, with the cell itself where `quote`."""
    words, dates = [], []
    for i in rows[:NAMED_ROWS]:
        row = int(sheet.row[i] if column is None else column.row[i])
        day = ""
        if not np.isnat(sheet.dates[i]):
            day = f" ({sheet.dates[i]})"
            dates.append(str(sheet.dates[i]))
        cell = f" {str(sheet.table.cell(row, column.source))[:40]!r}" if quote and column is not None else ""
        words.append(f"{sheet.table.where(row)}{day}{cell}")
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return NamedRows(places=", ".join(words) + more, dates=", ".join(dates) + more if dates else "")


def _each_unit(
    sheet: ParsedTable,
    column: Column,
    mask: np.ndarray,
    rule: str,
    words: str,
    *,
    severity: Severity = "error",
    quote: bool = False,
) -> Iterator[Finding]:
    for unit, rows in sheet.by_unit(mask):
        labels = sheet.labels[unit]
        size = sheet.start[unit + 1] - sheet.start[unit]
        text = f"column {column.name}: {len(rows)} of {size} cells are {words}"
        named = name_rows(sheet, rows, column, quote=quote)
        yield about_unit(rule, labels, text, column=column.name, severity=severity, rows=named)


def _out_of_range(sheet: ParsedTable, column: Column) -> Iterator[Finding]:
    """Cells too large for single precision, and columns of a unit that are too small for it as a whole."""
    size = np.nan_to_num(np.abs(column.values), nan=0.0, posinf=0.0)
    words = f"beyond {LARGEST:g}, which single precision cannot hold: use a larger unit, such as millions"
    yield from _each_unit(sheet, column, size > LARGEST, "out_of_range", words, quote=True)
    highest = np.maximum.reduceat(size, sheet.start[:-1])[sheet.unit]
    words = f"all below {SMALLEST:g}, which single precision cannot hold: use a smaller unit, or write 0"
    yield from _each_unit(sheet, column, (size > 0) & (highest < SMALLEST), "out_of_range", words, quote=True)


def _missing(sheet: ParsedTable, column: Column, data: config.Data) -> Iterator[Finding]:
    missing = column.fault == Fault.MISSING
    if not missing.any():
        return
    if column is sheet.kpi and data.gaps == "absent":
        unknown = missing & ~empty_units(sheet, column)[sheet.unit]
        words = "missing: these periods are not fitted, their media still are history for those that follow"
        yield from _each_unit(sheet, column, unknown, "kpi_unknown", words, severity="warning")
        return
    names = {other.name for other in (*media_columns(sheet), *sheet.linear)}
    may_be_absent = column.name in names
    # A unit without any KPI is a new one, or has too few weeks.
    if may_be_absent or column is sheet.kpi:
        missing &= ~empty_units(sheet, column)[sheet.unit]
    words = "missing: fill them in at the source or drop the rows"
    if column is sheet.kpi:
        words = (
            "missing: fill them in at the source, or set data.gaps to absent, which leaves these periods out of the fit"
        )
    if may_be_absent:
        words += "; write 0 where nothing ran, leave all cells empty if the unit has no such column"
    yield from _each_unit(sheet, column, missing, "missing_value", words)


def _scales(sheet: ParsedTable) -> Iterator[Finding]:
    """Population, revenue per KPI and KPI scale: positive; the first and last constant within a unit."""
    for column in (sheet.population, sheet.revenue_per_kpi, sheet.kpi_scale):
        if column is None:
            continue
        yield from _each_unit(sheet, column, column.values <= 0, "not_positive", "not above 0: correct the cells")
        if column is sheet.revenue_per_kpi:
            continue
        low = np.fmin.reduceat(column.values, sheet.start[:-1])
        high = np.fmax.reduceat(column.values, sheet.start[:-1])
        for unit in np.flatnonzero(low < high):
            words = f"column {column.name} goes from {low[unit]:g} to {high[unit]:g}: give one value per unit"
            yield about_unit("not_constant", sheet.labels[unit], words, column=column.name)


def similar_labels(sheet: ParsedTable, refused: Collection[tuple[str, ...] | None]) -> Iterator[Finding]:
    """Labels that differ in case, blanks or Unicode form only: where two are one, the cause of much else."""
    alike: dict[tuple[str, ...], tuple[str, ...]] = {}
    rows = dict(zip(sheet.labels, np.diff(sheet.start), strict=True))
    for labels in sheet.labels:
        folded = tuple(map(_folded, labels))
        other = alike.setdefault(folded, labels)
        if other is labels:
            continue
        few, many = sorted((other, labels), key=lambda name: rows[name])
        words = (
            f"unit {unit_name(few)} ({rows[few]} rows) differs from {unit_name(many)} ({rows[many]} rows) only in "
            "case, blanks or Unicode form: they are two units, rename one if they are the same"
        )
        if few in refused or many in refused:
            words += "; what is said of them below may follow from that"
        yield Finding(rule="key_similar", severity="info", message=words)


def _folded(label: str) -> str:
    """A label without what nobody sees: case, kinds and numbers of blanks, marks without width, Unicode form."""
    text = "".join(sign for sign in unicodedata.normalize("NFKC", label) if unicodedata.category(sign) != "Cf")
    return " ".join(text.casefold().split())


def _labels(sheet: ParsedTable, data: config.Data) -> Iterator[Finding]:
    for unit, labels in enumerate(sheet.labels):
        for key, label in zip(data.unit_keys, labels, strict=True):
            if label == "" or "\0" in label:
                rows = np.arange(sheet.start[unit], sheet.start[unit + 1])
                fault = "is empty" if label == "" else "holds a NUL character"
                rule = "key_empty" if label == "" else "key_nul"
                words = f"key {key} {fault}: name the unit"
                yield about_unit(rule, labels, words, column=key, rows=name_rows(sheet, rows))
