"""Rules about a unit's series: constant, absent, collinear, with an outlier, more columns than rows."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config.data import FEWEST_WEEKS
from mixfleet.data.parse import Fault
from mixfleet.data.parsed_table import Column, Media, ParsedTable
from mixfleet.data.validation.cells import empty_units, name_rows
from mixfleet.data.validation.correlations import CONSTANT, Correlations
from mixfleet.data.validation.finding import Finding, Severity, about_unit
from mixfleet.errors import counted

COLLINEAR = 0.999
"""Correlation above which two columns cannot be told apart."""
NEAR_COPY = 0.98
"""Correlation above which a channel can hardly be told from another column."""
OUTLIER = 20.0
"""Robust z above which one KPI value is called an outlier."""
OUTLIER_WINDOW = 9
"""Rows of the running median that an outlier stands out from."""

PER_CHANNEL = 3
"""Numbers that a channel is described by."""


def check_series(sheet: ParsedTable, moving: Correlations, *, fitted: Bool[np.ndarray, " row"]) -> Iterator[Finding]:
    """Findings about whole series of a unit."""
    yield from _kpi_level(sheet, fitted)
    for channel in sheet.channels:
        yield from _channel_level(sheet, channel)
    for column in sheet.linear:
        yield from _control_level(sheet, column)
    yield from _collinear(sheet, moving)
    yield from _outliers(sheet)
    yield from _columns_against_rows(sheet, fitted)


def _extremes(sheet: ParsedTable, column: Column) -> tuple[Float[np.ndarray, " unit"], Float[np.ndarray, " unit"]]:
    first = sheet.start[:-1]
    return np.fmin.reduceat(column.values, first), np.fmax.reduceat(column.values, first)


def _constant(sheet: ParsedTable, column: Column) -> tuple[Bool[np.ndarray, " unit"], Bool[np.ndarray, " unit"]]:
    """Units where the column is all zero or all missing, and where it is another constant."""
    low, high = _extremes(sheet, column)
    largest = np.fmax(np.abs(low), np.abs(high))
    zero = empty_units(sheet, column) | (largest == 0)
    return zero, ~zero & (high - low <= CONSTANT * largest)


def _say(
    sheet: ParsedTable, unit: int | np.intp, rule: str, severity: Severity, column: str | None, words: str
) -> Finding:
    return about_unit(rule, sheet.labels[unit], words, column=column, severity=severity)


def _kpi_level(sheet: ParsedTable, fitted: Bool[np.ndarray, " row"]) -> Iterator[Finding]:
    name = sheet.kpi.name
    known = fitted & (sheet.kpi.fault == Fault.NONE)
    seen = replace(sheet.kpi, values=np.where(known, sheet.kpi.values, np.nan))
    low, high = _extremes(sheet, seen)
    # A few weeks of a new unit may well be alike.
    enough = np.add.reduceat(known, sheet.start[:-1], dtype=np.int64) >= FEWEST_WEEKS
    largest = np.where(enough, np.fmax(np.abs(low), np.abs(high)), np.nan)
    for unit in np.flatnonzero(largest == 0):
        words = f"column {name} is 0 in every row to fit: there is nothing to explain, leave the unit out"
        yield _say(sheet, unit, "kpi_zero", "error", name, words)
    for unit in np.flatnonzero((largest > 0) & (high - low <= CONSTANT * largest)):
        words = f"column {name} never changes in the rows to fit: nothing to explain, leave the unit out"
        yield _say(sheet, unit, "kpi_constant", "error", name, words)


def _channel_level(sheet: ParsedTable, channel: Media) -> Iterator[Finding]:
    zero, constant = _constant(sheet, channel.media)
    name, empty = channel.media.name, empty_units(sheet, channel.media)
    paid = np.zeros(len(zero), bool)
    if channel.spend is not None and channel.spend is not channel.media:
        paid = ~_constant(sheet, channel.spend)[0]
        for unit in np.flatnonzero(~paid & ~zero):
            words = f"channel {channel.name} has impressions and no spend ({channel.spend.name}): it gets no ROI"
            yield _say(sheet, unit, "spend_absent", "warning", channel.spend.name, words)
    for unit in np.flatnonzero(zero & paid & empty):
        words = f"column {name} is empty although {channel.name} has spend: give impressions in every row"
        yield _say(sheet, unit, "missing_value", "error", name, words)
    for unit in np.flatnonzero(zero & paid & ~empty):
        words = f"channel {channel.name} has spend and no impressions (column {name}): correct one of them"
        yield _say(sheet, unit, "media_absent", "warning", name, words)
    for unit in np.flatnonzero(zero & ~paid):
        words = f"channel {channel.name} never ran (column {name}): its results are the prior only"
        yield _say(sheet, unit, "channel_absent", "warning", name, words)
    for unit in np.flatnonzero(constant):
        words = (
            f"channel {channel.name} is the same in every row (column {name}): the intercept cannot be told "
            "from it, its results lean on the prior; vary the spend"
        )
        yield _say(sheet, unit, "channel_constant", "warning", name, words)


def _control_level(sheet: ParsedTable, column: Column) -> Iterator[Finding]:
    zero, constant = _constant(sheet, column)
    for unit in np.flatnonzero(zero | constant):
        words = f"column {column.name} is the same in every row, or empty: it has no effect here"
        yield _say(sheet, unit, "control_constant", "info", column.name, words)


def _collinear(sheet: ParsedTable, moving: Correlations) -> Iterator[Finding]:
    """Pairs of media or control columns that move together."""
    count = len(moving.columns)
    # Two controls that move together leave media and ROI as they are.
    limit = np.where(np.arange(count) < moving.channels, NEAR_COPY, COLLINEAR)[:, None]
    above = np.triu(np.ones((count, count), bool), 1)
    # With one or two rows every pair is collinear; such a unit is refused for its length.
    enough = (np.diff(sheet.start) >= 3)[:, None, None]
    for unit, a, b in np.argwhere(above & enough & (np.abs(moving.matrix[:, :count, :count]) > limit)):
        correlation, names = moving.matrix[unit, a, b], (moving.columns[a][0], moving.columns[b][0])
        if abs(correlation) > COLLINEAR:
            move, known = "move together", "only their sum is known, how it splits is the prior"
        else:
            move, known = (
                "nearly move together",
                "little more than their sum is known, how it splits is mostly the prior",
            )
        words = (
            f"{names[0]} and {names[1]} {move} (correlation {correlation:.5f}): {known}; join them or vary them apart"
        )
        # How little is known of near copies' split is in their intervals; copies have but a sum.
        severity: Severity = "warning" if a < moving.channels and abs(correlation) > COLLINEAR else "info"
        yield _say(sheet, unit, "collinear", severity, moving.columns[a][1].name, words)


def _outliers(sheet: ParsedTable) -> Iterator[Finding]:
    """KPI values far from the running median of their neighbours, by a robust scale of such distances."""
    first, last, unit = sheet.start[:-1], sheet.start[1:] - 1, sheet.unit
    half = OUTLIER_WINDOW // 2
    index = np.arange(len(sheet.row))[:, None] + np.arange(-half, half + 1)
    index = np.clip(index, first[unit][:, None], last[unit][:, None])
    values = np.nan_to_num(sheet.kpi.values)
    largest = np.maximum.reduceat(np.abs(values), first)
    values = values / np.where(largest > 0, largest, 1.0)[unit]
    distance = np.abs(values - np.median(values[index], axis=1))
    ranked = distance[np.lexsort((distance, unit))]
    spread = 1.4826 * ranked[(first + last) // 2]
    mean = 1.2533 * np.add.reduceat(distance, first) / np.diff(sheet.start)
    # More than half of a sparse series equals its running median; then the mean distance is the scale.
    spread = np.where(spread > CONSTANT, spread, mean)
    score = distance / np.where(spread > 0, spread, 1.0)[unit]
    for i, rows in sheet.by_unit((score > OUTLIER) & (sheet.kpi.fault == Fault.NONE)):
        name = sheet.kpi.name
        words = (
            f"column {name}: {counted(len(rows), 'outlier')}, up to {score[rows].max():.0f} robust deviations from the "
            "rows around: correct them, or add a control for what happened then"
        )
        named = name_rows(sheet, rows, sheet.kpi, quote=True)
        yield about_unit("kpi_outlier", sheet.labels[i], words, column=name, severity="warning", rows=named)


def _columns_against_rows(sheet: ParsedTable, fitted: Bool[np.ndarray, " row"]) -> Iterator[Finding]:
    rows = np.add.reduceat(fitted, sheet.start[:-1], dtype=np.int64)
    running = np.zeros_like(rows)
    for channel in sheet.channels:
        running += ~_constant(sheet, channel.media)[0]
    unknown = 1 + PER_CHANNEL * running + len(sheet.linear)
    for unit in np.flatnonzero((unknown > rows) & (rows >= FEWEST_WEEKS)):
        words = (
            f"{counted(int(running[unit]), 'channel')}, each with a carry-over, a curve and a strength, and "
            f"{counted(len(sheet.linear), 'control')} for {rows[unit]} rows: most of the result is the "
            "prior; join channels or give a longer history"
        )
        yield _say(sheet, unit, "more_columns_than_rows", "warning", None, words)
