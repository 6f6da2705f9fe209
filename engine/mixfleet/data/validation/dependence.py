"""Rules about columns that follow from others: dummies that sum to a constant, and the KPI of other periods."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.data.parsed_table import Column, ParsedTable
from mixfleet.data.validation.correlations import Correlations
from mixfleet.data.validation.finding import Finding, about_unit
from mixfleet.errors import counted

LAGS = 4
"""Periods up to which the KPI before and after is looked for among the columns."""
NEAR = 0.995
"""Correlation with the KPI of another period from which on a column says almost the same."""
MOVES = 0.9
"""Correlation of the changes from period to period that goes with it: series that only grow alike have none."""
FEWEST_ROWS = 8
"""Rows below which things may be equal by chance."""
NAMED = 6
"""Columns that one message names; the others are counted."""


def check_dependence(sheet: ParsedTable, moving: Correlations, *, trend: bool) -> Iterator[Finding]:
    """Findings about columns of a unit that other columns, the trend or the KPI of other periods make superfluous.

    Args:
        sheet: All rows.
        moving: How they move together.
        trend: Whether the model to come has a straight line of its own.
    """
    enough = np.diff(sheet.start) >= max(FEWEST_ROWS, 4 + LAGS, 4 + len(moving.columns))
    if not moving.columns or not enough.any():
        return
    yield from _kpi_of_other_periods(sheet, moving, enough)
    count = len(moving.columns)
    others = [*range(count), *([count + 1] if trend else [])]
    for place in np.flatnonzero(enough & moving.singular(others)):
        yield from _superfluous(sheet, moving, int(place), trend=trend)


def _kpi_of_other_periods(
    sheet: ParsedTable, moving: Correlations, enough: Bool[np.ndarray, " unit"]
) -> Iterator[Finding]:
    """Columns that are the KPI of some periods before or after, or say almost the same."""
    count, first, last = len(moving.columns), sheet.start[:-1], sheet.start[1:]
    values, rows, units = moving.values[:, :count], np.diff(sheet.start), len(first)
    kpi = moving.values[:, count]
    # Where a lag is positive, a row of a column goes with the KPI of so many rows before.
    lags = [lag for lag in range(-LAGS, LAGS + 1) if lag]
    shifted = np.zeros((len(kpi), len(lags)))
    for place, lag in enumerate(lags):
        shifted[max(lag, 0) : len(kpi) + min(lag, 0), place] = kpi[max(-lag, 0) : len(kpi) - max(lag, 0)]
        for step in range(abs(lag)):
            edge = first + step if lag > 0 else last - 1 - step
            shifted[edge[(rows > step)], place] = 0.0
    inner = np.stack(
        [own.T @ other for own, other in zip(np.split(values, first[1:]), np.split(shifted, first[1:]), strict=True)]
    )
    alike = np.zeros((units, count, len(lags)))
    for place, lag in enumerate(lags):
        alike[enough, :, place] = _overlapping(
            moving.values, first[enough], last[enough], count, lag, inner[enough, :, place]
        )
    best = np.abs(alike).argmax(axis=2)
    highest = np.abs(np.take_along_axis(alike, best[..., None], axis=2))[..., 0]
    found = (highest > NEAR) & (highest > np.abs(moving.matrix[:, :count, count]))
    for unit, column in np.argwhere(found):
        lag = lags[best[unit, column]]
        own, other = moving.values[first[unit] : last[unit], column], kpi[first[unit] : last[unit]]
        mine, theirs = own[max(lag, 0) : len(own) + min(lag, 0)], other[max(-lag, 0) : len(own) - max(lag, 0)]
        steps = np.diff(mine), np.diff(theirs)
        if all(np.ptp(step) > 1e-9 for step in steps) and abs(np.corrcoef(*steps)[0, 1]) > MOVES:
            yield _about_lag(
                sheet.labels[unit], moving.columns[column], lag, float(alike[unit, column, best[unit, column]])
            )


def _overlapping(
    values: Float[np.ndarray, "row series"],
    first: Int[np.ndarray, " unit"],
    last: Int[np.ndarray, " unit"],
    count: int,
    lag: int,
    inner: Float[np.ndarray, "unit column"],
) -> Float[np.ndarray, "unit column"]:
    """Correlations of columns with the KPI over the rows that both have, from the sums of products over those rows."""
    step = np.arange(abs(lag))
    head, tail = first[:, None] + step, last[:, None] - 1 - step
    own, other = (head, tail) if lag > 0 else (tail, head)
    # Over all rows each sums to 0, and its squares to 1.
    mine, theirs = values[own][..., :count], values[other][..., count]
    rows = (last - first - abs(lag))[:, None]
    sums, kpi = -mine.sum(axis=1), -theirs.sum(axis=1)[:, None]
    spread = 1.0 - np.sum(mine**2, axis=1) - sums**2 / rows
    own_spread = 1.0 - np.sum(theirs**2, axis=1)[:, None] - kpi**2 / rows
    product = np.maximum(spread, 0.0) * np.maximum(own_spread, 0.0)
    return (inner - sums * kpi / rows) / np.sqrt(np.where(product > 1e-12, product, np.inf))


def _about_lag(labels: tuple[str, ...], column: tuple[str, Column], lag: int, r: float) -> Finding:
    name, exact = column[0], abs(r) > 1 - 1e-9
    when = f"{counted(abs(lag), 'period')} {'before' if lag > 0 else 'after'}"
    words = f"{name} is" if exact else f"{name} says almost the same (correlation {r:.4f}) as"
    words = f"{words} the KPI of {when} (column {column[1].name}): "
    if lag > 0:
        words += (
            "it takes up what media of those periods brought; leave it out, carry-over and the baseline's terms are "
            "for what lasts"
        )
    else:
        words += "it knows what is yet to come and cannot be planned with: leave it out, or correct its dates"
    # What is to be explained would be among its explanations.
    severity = "error" if exact and lag < 0 else "warning"
    return about_unit("kpi_other_period", labels, words, column=column[1].name, severity=severity)


def _superfluous(sheet: ParsedTable, moving: Correlations, place: int, *, trend: bool) -> Iterator[Finding]:
    """Controls of a unit that follow exactly from the columns before them, the intercept and the trend."""
    rows, count = slice(sheet.start[place], sheet.start[place + 1]), len(moving.columns)
    values, line = moving.values[rows], count + 1
    kept = [line] if trend else []
    for own in np.flatnonzero(moving.moves[place, :count]):
        weight = np.linalg.lstsq(values[:, kept], values[:, own], rcond=1e-10)[0] if kept else np.zeros(0)
        if np.abs(values[:, own] - values[:, kept] @ weight).max() > 1e-7:
            kept.append(int(own))
            continue
        parts = [kept[i] for i in np.flatnonzero(np.abs(weight) > 1e-6)]
        # Channels that follow from others, and pairs, have findings of their own.
        if own >= moving.channels and (len(parts) != 1 or parts == [line]):
            words = _dependence_words(moving, rows, [*(p for p in parts if p != line), int(own)], line=line in parts)
            column = moving.columns[own][1].name
            yield about_unit("dependent", sheet.labels[place], words, column=column, severity="warning")


def _dependence_words(moving: Correlations, rows: slice, places: list[int], *, line: bool) -> str:
    """What to say of a column, the last one, that follows from the others and, where `line`, from the trend."""
    *names, own = [moving.columns[place][0] for place in places]
    if not names:
        return f"{own} is a straight line, as the model's trend is: leave it out, or set model.trend to none"
    cells = np.stack([moving.columns[place][1].values[rows] for place in places], axis=1)
    total = cells.sum(axis=1)
    if not line and np.isin(cells, (0.0, 1.0)).all() and np.ptp(total) == 0:
        return (
            f"{_listed([*names, own])} sum to {total[0]:g} in every row, which is a constant as the intercept is: "
            "leave one of them out, with which the others are then compared"
        )
    behind = _listed([*names, "the trend"] if line else names)
    return f"{own} follows from {behind}: how their effects split is the prior; leave one of them out"


def _listed(names: list[str]) -> str:
    if len(names) > NAMED:
        names = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"
