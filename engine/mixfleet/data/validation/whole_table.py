"""Rules about the whole table: sums beside their parts, one column in several units, the KPI among its explanations."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mixfleet import config
from mixfleet.data.parse import Fault
from mixfleet.data.parsed_table import Column, ParsedTable
from mixfleet.data.validation.correlations import Correlations
from mixfleet.data.validation.finding import Finding, about_unit, unit_name

EXACT = 1e-8
"""Relative difference up to which a number counts as computed from others; files are written with rounding."""
NEAR_COPY = 0.995
"""Correlation with the KPI from which on a column says almost the same."""
FEWEST_ROWS = 8
"""Rows below which things may be equal by chance."""
NAMED_UNITS = 5


def check_whole_table(sheet: ParsedTable, moving: Correlations, data: config.Data) -> Iterator[Finding]:
    """Findings that only a look at several columns or units together can see."""
    found = [*_kpi_among_columns(sheet)]
    yield from found
    yield from _kpi_from_columns(sheet, moving, {finding.unit for finding in found})
    yield from _running_totals(sheet)
    yield from _channel_sums(sheet, moving)
    yield from _unit_sums(sheet, data)
    yield from _repeated_series(sheet)


def _named_columns(sheet: ParsedTable) -> list[tuple[str, Column]]:
    channels = [(channel.name, channel.media) for channel in sheet.channels]
    return [*channels, *((column.name, column) for column in sheet.linear)]


def _complete(sheet: ParsedTable, column: Column) -> np.ndarray:
    """Units in which every cell of the column is a number."""
    return ~np.logical_or.reduceat(column.fault != Fault.NONE, sheet.start[:-1])


def _each(sheet: ParsedTable, values: np.ndarray) -> Float[np.ndarray, " unit"]:
    """Highest absolute value by unit."""
    return np.maximum.reduceat(np.abs(np.nan_to_num(values)), sheet.start[:-1])


def _equal(sheet: ParsedTable, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Units of rows enough in which two series are the same but for rounding."""
    size = np.diff(sheet.start)
    return (_each(sheet, a - b) <= EXACT * np.maximum(_each(sheet, a), _each(sheet, b))) & (size >= FEWEST_ROWS)


def _varies(sheet: ParsedTable, column: Column) -> np.ndarray:
    first = sheet.start[:-1]
    return np.fmin.reduceat(column.values, first) < np.fmax.reduceat(column.values, first)


def _kpi_among_columns(sheet: ParsedTable) -> Iterator[Finding]:
    """Columns that are the KPI in another unit, and pairs whose product it is, such as quantity and price."""
    kpi, columns = sheet.kpi, _named_columns(sheet)
    usable = _complete(sheet, kpi) & _varies(sheet, kpi)
    whole = [usable & _complete(sheet, column) for _, column in columns]
    first, last, unit = sheet.start[:-1], sheet.start[1:] - 1, sheet.unit

    def proportional(*factors: np.ndarray) -> np.ndarray:
        # Hardly ever are they, so that first and last row say no at once.
        ends = [np.prod([values[rows] for values in factors], axis=0) for rows in (first, last)]
        a, b = ends[0] * kpi.values[last], ends[1] * kpi.values[first]
        likely = np.abs(a - b) <= 1e-6 * np.maximum(np.abs(a), np.abs(b))
        if not likely.any():
            return likely
        values = np.nan_to_num(np.prod(factors, axis=0))
        square = np.add.reduceat(values**2, first)
        slope = np.add.reduceat(values * np.nan_to_num(kpi.values), first) / np.where(square > 0, square, 1.0)
        return (square > 0) & _equal(sheet, kpi.values, slope[unit] * values)

    for (name, column), ready in zip(columns, whole, strict=True):
        for place in np.flatnonzero(ready & proportional(column.values)):
            words = f"{name} is the KPI itself, in another unit (column {column.name}): leave it out"
            yield about_unit("kpi_among_columns", sheet.labels[place], words, column=column.name)
    linear = list(range(len(sheet.channels), len(columns)))
    for i in linear:
        for j in [*range(len(sheet.channels)), *(j for j in linear if j > i)]:
            found = whole[i] & whole[j] & proportional(columns[i][1].values, columns[j][1].values)
            if not found.any():
                continue
            varied = _varies(sheet, columns[i][1]) & _varies(sheet, columns[j][1])
            for place in np.flatnonzero(found & varied):
                names = f"{columns[i][0]} and {columns[j][0]}"
                words = f"the KPI is the product of {names}, which leaves nothing to explain: leave one of them out"
                yield about_unit("kpi_among_columns", sheet.labels[place], words, column=columns[i][1].name)


def _kpi_from_columns(sheet: ParsedTable, moving: Correlations, told: set[tuple[str, ...] | None]) -> Iterator[Finding]:
    """Controls that the KPI is computed from, as its parts, or that say almost the same, in units not `told` of."""
    columns = _named_columns(sheet)
    usable = _complete(sheet, sheet.kpi) & _varies(sheet, sheet.kpi)
    usable &= np.array([labels not in told for labels in sheet.labels], bool)
    usable &= np.diff(sheet.start) >= max(FEWEST_ROWS, 3 + len(columns))
    for place in np.flatnonzero(usable & _nearly_explained(moving)):
        own = slice(sheet.start[place], sheet.start[place + 1])
        kpi = sheet.kpi.values[own] - sheet.kpi.values[own].mean()
        block = np.stack([column.values[own] for _, column in columns], axis=1) if columns else np.zeros((len(kpi), 0))
        block = block - block.mean(axis=0)
        size = np.abs(block).max(axis=0)
        there = np.isfinite(size) & (size > 0)
        block = block[:, there] / size[there]
        names = [columns[i] for i in np.flatnonzero(there)]
        weight = np.linalg.lstsq(block, kpi, rcond=None)[0]
        parts = [i for i in range(len(names)) if np.abs(weight[i] * block[:, i]).max() > 1e-3 * np.abs(kpi).max()]
        left = kpi - block[:, parts] @ weight[parts]
        # A media column may by chance be in steps as the KPI is; a control is not.
        derived = any(np.flatnonzero(there)[i] >= len(sheet.channels) for i in parts)
        if derived and np.abs(left).max() <= 1e-6 * np.abs(kpi).max():
            said = " and ".join(names[i][0] for i in parts)
            words = f"the KPI is computed from {said}, which leaves nothing to explain: leave out what it is made of"
            yield about_unit("kpi_among_columns", sheet.labels[place], words, column=names[parts[0]][1].name)
            continue
        alike = (block.T @ kpi) / np.sqrt(np.sum(block**2, axis=0) * np.sum(kpi**2))
        control = np.flatnonzero(there) >= len(sheet.channels)
        for i in np.flatnonzero(control & (np.abs(alike) > NEAR_COPY)):
            words = (
                f"{names[i][0]} says almost the same as the KPI (correlation {alike[i]:.4f}, column "
                f"{names[i][1].name}): if it is measured with the KPI or follows from it leave it out, for it leaves "
                "media nothing to explain"
            )
            yield about_unit("kpi_near_copy", sheet.labels[place], words, column=names[i][1].name, severity="warning")


def _nearly_explained(moving: Correlations) -> Bool[np.ndarray, " unit"]:
    """Units whose KPI may follow from their columns or from one alone, from all units' correlations at once."""
    count = len(moving.columns)
    inner = moving.matrix[:, :count, count]
    weight = (np.linalg.pinv(moving.matrix[:, :count, :count], rcond=1e-13, hermitian=True) @ inner[..., None])[..., 0]
    alike = np.abs(inner[:, moving.channels :]) > 0.999 * NEAR_COPY
    return (1.0 - np.sum(weight * inner, axis=1) <= 1e-6) | np.any(alike, axis=1)


def _running_totals(sheet: ParsedTable) -> Iterator[Finding]:
    """KPI and spend that never fall and nearly always rise: sums since some day in place of each period's own."""
    paid = [channel.spend for channel in sheet.channels if channel.spend is not None]
    for column in {column.name: column for column in (sheet.kpi, *paid)}.values():
        # The step into a unit's first row is none of its own.
        steps = np.diff(column.values, prepend=np.nan)
        steps[sheet.start[:-1]] = np.nan
        falls = np.logical_or.reduceat(steps < 0, sheet.start[:-1])
        rises = np.add.reduceat((steps > 0).astype(int), sheet.start[:-1])
        rows = np.diff(sheet.start)
        for place in np.flatnonzero(_complete(sheet, column) & (rows >= 2 * FEWEST_ROWS) & ~falls):
            if rises[place] > 0.9 * (rows[place] - 1):
                words = (
                    f"column {column.name} never falls from one period to the next: if it is a running total give what "
                    "each period adds"
                )
                yield about_unit("running_total", sheet.labels[place], words, column=column.name, severity="warning")


def _channel_sums(sheet: ParsedTable, moving: Correlations) -> Iterator[Finding]:
    """A channel that is the sum of others, whose money would count twice."""
    media = [channel.media for channel in sheet.channels]
    if len(media) < 3:
        return
    enough = np.diff(sheet.start) >= max(FEWEST_ROWS, len(media))
    for place in np.flatnonzero(enough & moving.singular(range(len(media)))):
        own = slice(sheet.start[place], sheet.start[place + 1])
        block = np.stack([np.nan_to_num(column.values[own]) for column in media], axis=1)
        if found := _sum_of_others(block):
            total, parts = found
            named = " and ".join(sheet.channels[part].name for part in parts)
            words = f"channel {sheet.channels[total].name} is the sum of {named}, which counts twice: leave the sum out"
            yield about_unit("channel_sum", sheet.labels[place], words, column=media[total].name)


def _sum_of_others(block: Float[np.ndarray, "row channel"]) -> tuple[int, list[int]] | None:
    """The channel that is a sum of two or more others, and those."""
    size = np.abs(block).max(axis=0)
    running = np.flatnonzero(size > 0)
    if len(running) < 3:
        return None
    for total in sorted(running, key=lambda channel: -block[:, channel].sum()):
        others = [int(channel) for channel in running if channel != total]
        weight = np.linalg.lstsq(block[:, others], block[:, total], rcond=None)[0]
        parts = [channel for channel, share in zip(others, weight, strict=True) if abs(share - 1) < 1e-6]
        rest = block[:, total] - block[:, parts].sum(axis=1)
        if len(parts) > 1 and np.abs(rest).max() <= 1e-6 * size[total]:
            return int(total), parts
    return None


def _unit_sums(sheet: ParsedTable, data: config.Data) -> Iterator[Finding]:
    """A unit that is the sum of the others beside it, such as a market that is the country."""
    first = sheet.start[:-1]
    days = sheet.dates.view(np.int64)
    values = np.nan_to_num(sheet.kpi.values)
    for key in range(len(data.keys)):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, labels in enumerate(sheet.labels):
            groups[labels[:key] + labels[key + 1 :]].append(place)
        for members in groups.values():
            if len(members) < 3:
                continue
            rows = np.concatenate([np.arange(first[m], sheet.start[m + 1]) for m in members])
            distinct, date = np.unique(days[rows], return_inverse=True)
            sums = np.bincount(date, values[rows], minlength=len(distinct))
            place = np.searchsorted(distinct, days)
            for member in members:
                own = slice(first[member], sheet.start[member + 1])
                mine, rest = values[own], sums[place[own]] - values[own]
                if len(mine) >= FEWEST_ROWS and mine.any() and np.abs(mine - rest).max() <= 1e-6 * np.abs(mine).max():
                    words = (
                        f"its {data.kpi} is the sum of the {len(members) - 1} units beside it (by {data.keys[key]}), "
                        "which would count twice: leave its rows out"
                    )
                    yield about_unit("unit_sum", sheet.labels[member], words, column=data.kpi)


def _repeated_series(sheet: ParsedTable) -> Iterator[Finding]:
    """Paid media that are the same in several units, date by date: a national sum in every market."""
    for channel in sheet.channels:
        column = channel.spend
        if column is None or len(sheet.labels) < 2:
            continue
        for alike in _same_series(sheet, column):
            named = ", ".join(unit_name(sheet.labels[place]) for place in alike[:NAMED_UNITS])
            more = f" and {len(alike) - NAMED_UNITS} more" if len(alike) > NAMED_UNITS else ""
            words = (
                f"spend of {channel.name} (column {column.name}) is the same in {named}{more}, date by date: if it is "
                "one national sum share it out, by population say, for here it counts in every unit"
            )
            yield Finding(rule="repeated_spend", severity="warning", column=column.name, message=words)


def _same_series(sheet: ParsedTable, column: Column) -> list[Sequence[int]]:
    """Units, two or more, whose series agree on all dates that they share."""
    days, values, unit = sheet.dates.view(np.int64), np.nan_to_num(column.values), sheet.unit
    spent = values != 0
    if not spent.any():
        return []
    # Units are compared only where they agree on the date on which most of them spend.
    distinct, date = np.unique(days[spent], return_inverse=True)
    usual = distinct[np.bincount(date).argmax()]
    buckets: dict[float, list[int]] = defaultdict(list)
    for row in np.flatnonzero(spent & (days == usual)):
        buckets[float(values[row])].append(int(unit[row]))
    found = []
    for bucket in buckets.values():
        while len(set(bucket)) > 1:
            head, *others = dict.fromkeys(bucket)
            alike = [head, *(other for other in others if _agree(sheet, days, values, head, other))]
            if len(alike) > 1:
                found.append(alike)
            bucket = [other for other in others if other not in alike]
    return found


def _agree(sheet: ParsedTable, days: np.ndarray, values: np.ndarray, a: int, b: int) -> bool:
    own, other = (slice(sheet.start[place], sheet.start[place + 1]) for place in (a, b))
    _, left, right = np.intersect1d(days[own], days[other], return_indices=True)
    mine, theirs = values[own][left], values[other][right]
    return len(left) >= FEWEST_ROWS and len(np.unique(mine)) > 2 and bool(np.all(mine == theirs))
