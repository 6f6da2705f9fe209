"""Rules about a unit's dates: readable, regular, complete, once each, enough of them."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from mixfleet import config
from mixfleet.config.data import FEWEST_WEEKS
from mixfleet.data.parse import NO_OFFSET, Fault
from mixfleet.data.parsed_table import ParsedTable
from mixfleet.data.validation.cells import NAMED_ROWS, empty_units, name_rows
from mixfleet.data.validation.finding import Finding, Severity, about_unit
from mixfleet.errors import counted

LONGEST_GRID = 20_000
"""Most periods between a unit's first and last date, holes included."""
FIRST_DATE, LAST_DATE = np.datetime64("1900-01-01"), np.datetime64("2200-01-01")
"""Dates outside are taken for slips."""
YEAR_WEEKS = 52
"""Fewer weeks cannot tell a yearly pattern from a trend."""


def period_days(data: config.Data) -> int:
    """Days from one period to the next."""
    return 7 if data.frequency == "weekly" else 1


def check_calendar(
    sheet: ParsedTable,
    data: config.Data,
    *,
    seasonality: int,
    pooled: bool,
    fitted: Bool[np.ndarray, " row"],
    today: np.datetime64,
) -> Iterator[Finding]:
    """Findings about dates."""
    bad = sheet.date_fault != Fault.NONE
    yield from _rows_at_fault(sheet, data, bad, "date_unreadable", "unreadable: write YYYY-MM-DD")
    out = ~bad & ((sheet.dates < FIRST_DATE) | (sheet.dates >= LAST_DATE))
    words = f"outside {FIRST_DATE} to {LAST_DATE}: correct them"
    yield from _rows_at_fault(sheet, data, out, "date_range", words)
    yield from _zones(sheet, data)
    irregular = _off_grid(sheet, data, bad | out)
    same_date = (np.diff(sheet.dates.view(np.int64)) == 0) & (np.diff(sheet.unit) == 0)
    again = np.concatenate([[False], same_date]) & ~bad
    yield from _duplicates(sheet, again)
    yield from _frequency(sheet, data, irregular)
    usable = np.ones(len(sheet.labels), bool)
    usable[np.unique(sheet.unit[bad | out | irregular])] = False
    yield from _gaps(sheet, data, usable)
    lengths = _lengths(sheet, data, fitted & ~again & ~bad, seasonality, pooled=pooled)
    # Of what has no dates, or does not follow in weeks, nothing is fitted; its length is not what is wrong with it.
    odd = bad | out | again | irregular | _other_calendar(sheet, data)
    other = {sheet.labels[unit] for unit in np.unique(sheet.unit[odd])}
    yield from (finding for finding in lengths if finding.unit not in other)
    # Weeks to come that claim no KPI are planned ones.
    future = ~bad & ~out & (sheet.dates > today) & (sheet.kpi.fault != Fault.MISSING)
    words = f"after today ({today}): leave out what has not happened yet"
    yield from _rows_at_fault(sheet, data, future, "date_future", words, severity="warning")


def _rows_at_fault(
    sheet: ParsedTable,
    data: config.Data,
    mask: np.ndarray,
    rule: str,
    words: str,
    *,
    severity: Severity = "error",
) -> Iterator[Finding]:
    for unit, rows in sheet.by_unit(mask):
        cell = str(sheet.table.cell(int(sheet.row[rows[0]]), data.date))[:40]
        text = f"column {data.date}: {counted(len(rows), 'date')} {words}; the first reads {cell!r}"
        named = name_rows(sheet, rows)
        yield about_unit(rule, sheet.labels[unit], text, column=data.date, severity=severity, rows=named)


def _zones(sheet: ParsedTable, data: config.Data) -> Iterator[Finding]:
    low = np.minimum.reduceat(sheet.offset, sheet.start[:-1])
    high = np.maximum.reduceat(sheet.offset, sheet.start[:-1])
    # One hour is summer time, more is another zone; so is a zone in some rows only.
    for unit in np.flatnonzero(high - low > 60):
        first = "none" if low[unit] == NO_OFFSET else f"{low[unit]:+d}"
        words = (
            f"column {data.date}: dates of several time zones, from {first} to {high[unit]:+d} minutes off "
            "UTC: write all dates of a unit in one zone"
        )
        yield about_unit("date_zones", sheet.labels[unit], words, column=data.date)


def _off_grid(sheet: ParsedTable, data: config.Data, bad: np.ndarray) -> np.ndarray:
    """Rows whose date is not a whole number of periods away from most of the unit's dates."""
    step = period_days(data)
    day = sheet.dates.view(np.int64) % step
    counts = np.zeros((len(sheet.labels), step), np.int64)
    np.add.at(counts, (sheet.unit[~bad], day[~bad]), 1)
    return ~bad & (day != counts.argmax(axis=1)[sheet.unit])


def _frequency(sheet: ParsedTable, data: config.Data, irregular: np.ndarray) -> Iterator[Finding]:
    for unit, rows in sheet.by_unit(irregular):
        dates = sheet.dates[sheet.start[unit] : sheet.start[unit + 1]]
        dates = np.unique(dates[~np.isnat(dates)])
        usual = int(np.median(np.diff(dates).astype(int)))
        words = (
            f"column {data.date}: {len(rows)} of {len(dates)} dates do not follow in weeks (usually "
            f"{counted(usual, 'day')} apart): {_frequency_remedy(dates, usual)}"
        )
        named = name_rows(sheet, rows)
        yield about_unit("date_frequency", sheet.labels[unit], words, column=data.date, rows=named)


def _other_calendar(sheet: ParsedTable, data: config.Data) -> Bool[np.ndarray, " row"]:
    """Rows of units whose dates follow every 4 weeks, or on business days."""
    other = np.zeros(len(sheet.labels), bool)
    for unit, (first, last) in enumerate(zip(sheet.start[:-1], sheet.start[1:], strict=True)):
        dates = sheet.dates[first:last]
        if period_days(data) == 7:
            other[unit] = len(dates) > 2 and bool(np.all(np.diff(dates.view(np.int64)) == 28))
        else:
            other[unit] = _business_days(dates)
    return other[sheet.unit]


_SPREAD = "give weekly or daily data, or spread each over its weeks, KPI and media alike"


def _frequency_remedy(dates: np.ndarray, usual: int) -> str:
    """What to do about dates that do not follow in weeks."""
    steps = np.diff(dates).astype(int)
    if 28 <= usual <= 31 and ((steps >= 28) & (steps <= 31)).mean() > 0.8:
        return f"this is monthly data, which cannot be fitted: {_SPREAD}"
    if usual == 1 and _business_days(dates):
        return "these are business days: add up to weeks"
    if usual > 14:
        return f"this is data of every {usual} days, which cannot be fitted: {_SPREAD}"
    return "set data.frequency to daily, or add up to weeks" if usual == 1 else "put every week on the same weekday"


def _business_days(dates: np.ndarray) -> bool:
    """Whether no date is at a weekend although there are two weeks of them and more."""
    return len(dates) > 10 and not np.any((dates.view(np.int64) + 3) % 7 >= 5)


def _duplicates(sheet: ParsedTable, again: np.ndarray) -> Iterator[Finding]:
    for unit, rows in sheet.by_unit(again):
        both = np.unique(np.concatenate([rows - 1, rows]))
        words = (
            f"repeated dates in {counted(len(rows), 'row')}: keep one of each, or name the key column that tells them "
            "apart"
        )
        yield about_unit("duplicate_row", sheet.labels[unit], words, rows=name_rows(sheet, both))


def _gaps(sheet: ParsedTable, data: config.Data, usable: np.ndarray) -> Iterator[Finding]:
    period, absent = period_days(data), data.gaps == "absent"
    step = np.diff(sheet.dates.view(np.int64), prepend=0) // period
    step[sheet.start[:-1]] = 1
    for unit, rows in sheet.by_unit((step > 1) & usable[sheet.unit]):
        labels = sheet.labels[unit]
        missing = int((step[rows] - 1).sum())
        span = int(sheet.start[unit + 1] - sheet.start[unit]) + missing
        if span > LONGEST_GRID:
            words = f"{span:,} periods from first to last date, at most {LONGEST_GRID:,}: correct the dates"
            yield about_unit("date_range", labels, words, column=data.date)
            continue
        holes = [(sheet.dates[i - 1] + period, sheet.dates[i] - period) for i in rows[:NAMED_ROWS]]
        named = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in holes)
        named += ", ..." if len(rows) > NAMED_ROWS else ""
        remedy = "they count as not observed" if absent else "add the rows, or set data.gaps to absent"
        if period == 7 and np.all(step[sheet.start[unit] + 1 : sheet.start[unit + 1]] == 4):
            remedy = f"this is data of every 4 weeks, which cannot be fitted: {_SPREAD}"
        elif period == 1 and _business_days(sheet.dates[sheet.start[unit] : sheet.start[unit + 1]]):
            remedy = "these are business days: add rows for weekends and holidays, or add up to weeks"
        words = f"{missing} of {span} periods have no row: {remedy}; {named}"
        yield about_unit("gap", labels, words, column=data.date, severity="warning" if absent else "error")


def weeks_to_fit(
    period: Int[np.ndarray, " row"],
    start: Int[np.ndarray, " unit+1"],
    has_kpi: Bool[np.ndarray, " row"],
    *,
    window: int,
    holdout: int,
) -> Bool[np.ndarray, " row"]:
    """Which rows a fit sees: with a KPI, not held out, and no missing period within the carry-over window before them.

    The media of a period without a row are unknown, and neither zero sales nor zero media is a fair guess for it; a
    period whose KPI alone is unknown still is history for those that follow.

    Args:
        period: Number of each row's period, ascending within a unit.
        start: First row of each unit, and the number of rows.
        has_kpi: Rows whose KPI is known.
        window: Periods of carry-over, the row's own included.
        holdout: Last periods of each unit that are held out.
    """
    unit = np.repeat(np.arange(len(start) - 1), np.diff(start))
    step = np.diff(period, prepend=0)
    step[start[:-1]] = 1
    resumed = np.maximum.accumulate(np.where(step > 1, np.arange(len(period)), 0))
    near_hole = (resumed > start[unit]) & (period - period[resumed] + 1 < window)
    held_out = period[start[unit + 1] - 1] - period < holdout
    return ~near_hole & ~held_out & has_kpi


def without_planned_rows(sheet: ParsedTable, data: config.Data, *, today: np.datetime64) -> ParsedTable:
    """The sheet without the rows after a unit's last KPI that are planned ones, and a finding that names them.

    Those are rows after today, and where `data.gaps` is `absent` all. A unit without any KPI keeps its rows.
    """
    kpi = sheet.kpi.fault != Fault.MISSING
    index = np.arange(len(kpi))
    last = np.maximum.reduceat(np.where(kpi, index, -1), sheet.start[:-1])[sheet.unit]
    planned = (last >= 0) & (index > last) & (sheet.date_fault == Fault.NONE)
    if data.gaps == "reject":
        planned &= sheet.dates > today
    if not planned.any():
        return sheet
    findings = []
    for unit, rows in sheet.by_unit(planned):
        words = (
            f"the last {counted(len(rows), 'period')}, from {sheet.dates[rows[0]]} on, without {data.kpi}: not "
            "fitted; as a plan of media to come give them to mixfleet forecast RUN --plan FILE"
        )
        findings.append(about_unit("planned_rows", sheet.labels[unit], words, column=data.kpi, severity="info"))
    return replace(sheet.keep(~planned), findings=(*sheet.findings, *findings))


def fitted_rows(sheet: ParsedTable, data: config.Data, window: int) -> Bool[np.ndarray, " row"]:
    """Rows of a sheet that a fit will see."""
    period = (sheet.dates.view(np.int64) - sheet.dates.view(np.int64)[sheet.start[:-1]][sheet.unit]) // period_days(
        data
    )
    has_kpi = sheet.kpi.fault != Fault.MISSING
    return weeks_to_fit(period, sheet.start, has_kpi, window=window, holdout=data.holdout or 0)


def _lengths(
    sheet: ParsedTable, data: config.Data, fitted: Bool[np.ndarray, " row"], seasonality: int, *, pooled: bool
) -> Iterator[Finding]:
    count = np.add.reduceat(fitted, sheet.start[:-1], dtype=np.int64)
    size, empty = np.diff(sheet.start), empty_units(sheet, sheet.kpi)
    least = data.min_weeks if pooled else max(data.min_weeks, FEWEST_WEEKS)
    for unit in np.flatnonzero(count < least):
        alone = not pooled and count[unit] < FEWEST_WEEKS
        remedy = "pool it with others (pooling.by) and lower" if alone else "lower"
        words = (
            f"{count[unit]} of {size[unit]} periods can be fitted (not those without KPI, held out, repeated, or with "
            f"a hole within their carry-over), at least {least} are needed: give it a longer history, "
            f"merge it with another unit, or {remedy} data.min_weeks"
        )
        if empty[unit]:
            words = (
                f"column {data.kpi} is empty in all of its {size[unit]} rows: give its KPI, leave the unit out, or "
                f"{remedy} data.min_weeks"
            )
        yield about_unit("too_few_weeks", sheet.labels[unit], words)
    year = YEAR_WEEKS * 7 // period_days(data)
    for unit in np.flatnonzero((count >= max(least, FEWEST_WEEKS)) & (count < year) & (seasonality > 0)):
        words = (
            f"{count[unit]} of {size[unit]} periods can be fitted, less than a year: its seasonality rests "
            "on the prior and mixes with the trend; set model.seasonality to 0 or wait for a full year"
        )
        yield about_unit("short_for_seasonality", sheet.labels[unit], words, severity="warning")
