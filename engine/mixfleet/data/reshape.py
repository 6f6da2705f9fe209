"""From a wide or a long table to one sheet of parsed columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from mixfleet import config
from mixfleet.config.data import refuse_reserved
from mixfleet.data.formats.date_format import date_advice, date_formats, date_words, strptime_format
from mixfleet.data.parse import (
    NO_OFFSET,
    Days,
    DecimalMarks,
    Fault,
    Numbers,
    decimal_marks,
    read_days,
    read_labels,
    read_numbers,
)
from mixfleet.data.parsed_table import Column, Media, ParsedTable
from mixfleet.data.sources import Table
from mixfleet.data.validation.finding import Finding, about_unit
from mixfleet.errors import TableError, counted


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """A table's rows in the order of a sheet, and which of them open a new row of it."""

    table: Table
    labels: tuple[tuple[str, ...], ...]
    days: Days
    order: Int[np.ndarray, " row"]
    """Rows of the table by unit, date, place in the table."""
    unit: Int[np.ndarray, " row"]
    """Number of the unit, in that order."""
    opens: Bool[np.ndarray, " row"]
    """Whether a new row of the sheet begins, in that order; always True in a wide table."""


def needed_columns(data: config.Data) -> tuple[str, ...]:
    """Columns that the table must have, each once."""
    names = [*data.keys, data.date, data.kpi]
    if data.layout == "long":
        names += [data.channel_column, data.spend_column, data.impressions_column, data.reported_column]
    else:
        columns = [(channel.spend, channel.impressions, channel.reported) for channel in data.channels]
        names += [name for of_channel in columns for name in of_channel]
        names += data.organic
    names += [*data.linear, data.population, data.revenue_per_kpi, data.kpi_scale]
    return tuple(dict.fromkeys(name for name in names if name is not None))


def read_sheet(table: Table, data: config.Data) -> ParsedTable:
    """The table parsed, sorted by unit and date, and in a long table gathered to one row per date.

    Raises:
        TableError: A column is of a type, or entirely of text, from which nothing can be read; all such
            columns are named at once.
    """
    faults: list[Finding] = []
    days, told = _days(table, data, faults)
    words = [*data.keys, data.channel_column] if data.layout == "long" else [*data.keys]
    labels = {name: _labels(table, name, faults) for name in words}
    rest = [name for name in needed_columns(data) if name not in labels and name != data.date]
    marks = {name: [decimal_marks(part.rows.column(name)) for part in table.parts] for name in rest}
    comma = _decimal_comma(table, marks, data, faults)
    grouped = not comma and (data.decimal == "point" or _have_thousands(marks))
    numbers = {name: _numbers(table, name, faults, comma=comma, thousands=grouped) for name in rest}
    if faults:
        raise TableError("; ".join(fault.message for fault in faults), findings=faults)
    remarks = [*told, *_mark_remarks(comma and data.decimal == "auto", thousands=grouped and _have_thousands(marks))]
    names, unit = _units([labels[key] for key in data.keys] or [pa.chunked_array([[data.kpi] * table.rows])])
    order = np.lexsort((np.arange(len(unit)), days.values.view(np.int64), unit))
    same_unit, same_day = np.diff(unit[order]) == 0, np.diff(days.values.view(np.int64)[order]) == 0
    follows = np.concatenate([[False], same_unit & same_day & (data.layout == "long")])
    rows = _Rows(table=table, labels=names, days=days, order=order, unit=unit[order], opens=~follows)
    if data.layout == "wide":
        channels = tuple(_wide_channel(rows, numbers, channel) for channel in _wide_channels(data))
        return _sheet(rows, numbers, data, channels=channels, findings=remarks)
    names_found = labels[data.channel_column].unique().to_pylist()
    refuse_reserved([name for name in names_found if not data.channels or name in data.organic], "data.channel_column")
    channels, findings = _long_channels(rows, numbers, data, labels[data.channel_column])
    return _sheet(rows, numbers, data, channels=channels, findings=[*remarks, *findings])


def _sheet(
    rows: _Rows,
    numbers: dict[str, Numbers],
    data: config.Data,
    *,
    channels: tuple[Media, ...],
    findings: Sequence[Finding],
) -> ParsedTable:
    conflicts: list[Finding] = list(findings)

    def column(name: str) -> Column:
        return _column(rows, numbers[name], name, conflicts)

    def optional(name: str | None) -> Column | None:
        return None if name is None else column(name)

    first = rows.order[rows.opens]
    unit = rows.unit[rows.opens]
    return ParsedTable(
        table=rows.table,
        labels=rows.labels,
        start=np.searchsorted(unit, np.arange(len(rows.labels) + 1)),
        row=first,
        dates=rows.days.values[first],
        date_fault=rows.days.fault[first],
        offset=rows.days.offset[first],
        kpi=column(data.kpi),
        channels=channels,
        linear=tuple(column(name) for name in data.linear),
        population=optional(data.population),
        revenue_per_kpi=optional(data.revenue_per_kpi),
        kpi_scale=optional(data.kpi_scale),
        findings=(*_zone_remarks(rows.days, data.date), *conflicts),
    )


def _column(rows: _Rows, numbers: Numbers, name: str, conflicts: list[Finding]) -> Column:
    """One value per row of the sheet; in a long table the rows that it gathers must agree."""
    group = np.cumsum(rows.opens) - 1
    fault, value = numbers.fault[rows.order], numbers.values[rows.order]
    # The worst cell of a group speaks for it, so that a fault in any of its rows is seen; but a date's one value may
    # stand on one of its rows only, as pivot tables are exported.
    harm = np.where(fault == Fault.MISSING, -1, fault.astype(int))
    worst = np.lexsort((np.arange(len(group)), -harm, group))[rows.opens]
    spoken = worst[group]
    differs = (fault == Fault.NONE) & (fault[spoken] == Fault.NONE) & (value != value[spoken])
    for unit in np.unique(rows.unit[differs]):
        at = np.flatnonzero(differs & (rows.unit == unit))[0]
        here, before = (rows.table.where(int(rows.order[i])) for i in (at, spoken[at]))
        words = (
            f"column {name} has different values for one date ({before}, {here}): in a long table every row "
            "of a date repeats the same value"
        )
        conflicts.append(about_unit("conflicting_rows", rows.labels[unit], words, column=name))
    filled = (fault == Fault.MISSING) & (fault[spoken] != Fault.MISSING)
    if filled.any():
        place = rows.table.where(int(rows.order[np.flatnonzero(filled)[0]]))
        message = (
            f"column {name} is empty in {counted(int(np.sum(filled)), 'row')} of dates that have its value in another "
            f"row: that one value is the date's; the first is {place}"
        )
        conflicts.append(Finding(rule="value_once", severity="info", column=name, message=message))
    return Column(name=name, values=value[worst], fault=fault[worst], row=rows.order[worst], source=name)


def _wide_channels(data: config.Data) -> tuple[config.Channel, ...]:
    return (*data.channels, *(config.Channel(name=name, impressions=name) for name in data.organic))


def _wide_channel(rows: _Rows, numbers: dict[str, Numbers], channel: config.Channel) -> Media:
    def column(name: str) -> Column:
        cells = numbers[name]
        values, fault = cells.values[rows.order], cells.fault[rows.order]
        return Column(name=name, values=values, fault=fault, row=rows.order, source=name)

    spend = None if channel.spend is None else column(channel.spend)
    media = spend if channel.impressions is None else column(channel.impressions)
    assert media is not None, "config.Channel has at least one column"
    reported = None if channel.reported is None else column(channel.reported)
    return Media(name=channel.name, media=media, spend=spend, reported=reported)


def _long_channels(
    rows: _Rows, numbers: dict[str, Numbers], data: config.Data, labels: pa.ChunkedArray
) -> tuple[tuple[Media, ...], list[Finding]]:
    """Spend and impressions of a long table, spread over one column per channel."""
    coded = labels.combine_chunks().dictionary_encode()
    found = coded.dictionary.to_pylist()
    paid = [channel.name for channel in data.channels] or sorted(set(found) - set(data.organic))
    names = [*paid, *data.organic]
    place = {name: i for i, name in enumerate(names)}
    channel = np.array([place.get(name, -1) for name in found])[coded.indices.to_numpy()][rows.order]
    group = np.cumsum(rows.opens) - 1
    cell = group * len(names) + channel
    findings = _unused_channels(found, place, data.channel_column)
    findings += _repeated_cells(rows, cell, channel, names, add=data.repeated_rows == "add")
    channels = []
    for i, name in enumerate(names):
        here = np.flatnonzero(channel == i)
        spend = _spread(rows, numbers, data.spend_column, group=group, here=here, channel=name)
        media = _spread(rows, numbers, data.impressions_column, group=group, here=here, channel=name)
        # A channel that has one of the two nowhere in the table simply has no such column.
        spend = None if spend is None or (spend.fault == Fault.MISSING).all() else spend
        media = spend if media is None or (spend and (media.fault == Fault.MISSING).all()) else media
        if media is None:
            media = _nothing(rows, data.channel_column, name)
        reported = _spread(rows, numbers, data.reported_column, group=group, here=here, channel=name)
        reported = None if reported is None or (reported.fault == Fault.MISSING).all() else reported
        paid_for = None if name in data.organic else spend
        channels.append(Media(name=name, media=media, spend=paid_for, reported=reported))
    return tuple(channels), findings


def _spread(
    rows: _Rows,
    numbers: dict[str, Numbers],
    name: str | None,
    *,
    group: Int[np.ndarray, " row"],
    here: Int[np.ndarray, " some"],
    channel: str,
) -> Column | None:
    if name is None:
        return None
    blank = _nothing(rows, name, channel)
    fault = np.zeros(len(blank.fault), np.uint8)
    np.maximum.at(fault, group[here], numbers[name].fault[rows.order[here]])
    # Rows of one date add up: campaigns of a channel. Where they may not, they are refused, as `_repeated_cells` says.
    total = np.bincount(group[here], numbers[name].values[rows.order[here]], minlength=len(fault))
    known = np.zeros(len(fault), bool)
    known[group[here]] = True
    blank.fault[known] = fault[known]
    blank.values[known] = np.where(fault[known] == Fault.NONE, total[known], np.nan)
    blank.row[group[here]] = rows.order[here]
    return blank


def _nothing(rows: _Rows, name: str, channel: str) -> Column:
    first = rows.order[rows.opens]
    missing = np.full(len(first), Fault.MISSING, np.uint8)
    values = np.full(len(first), np.nan)
    return Column(name=f"{name} of {channel}", values=values, fault=missing, row=first.copy(), source=name)


def _unused_channels(found: list[str], place: dict[str, int], column: str) -> list[Finding]:
    unused = sorted(set(found) - set(place))
    if not unused:
        return []
    named = ", ".join(repr(name) for name in unused[:10])
    message = f"column {column} also holds {named}: not in data.channels or data.organic, so not used"
    return [Finding(rule="channel_unused", severity="info", column=column, message=message)]


def _repeated_cells(
    rows: _Rows, cell: Int[np.ndarray, " row"], channel: Int[np.ndarray, " row"], names: list[str], *, add: bool
) -> list[Finding]:
    findings = []
    known = np.flatnonzero(channel >= 0)
    order = known[np.argsort(cell[known], kind="stable")]
    again = np.flatnonzero(np.diff(cell[order]) == 0)
    units = rows.unit[order[again]]
    for unit in np.unique(units):
        pair = again[np.flatnonzero(units == unit)[0]]
        here, there = (rows.table.where(int(rows.order[order[i]])) for i in (pair, pair + 1))
        count = np.sum(units == unit)
        named = f"channel {names[channel[order[pair]]]} and one date ({here}, {there}; {count} such pairs)"
        words = f"two rows for {named}: " + (
            "they were added up"
            if add
            else "if they are campaigns set data.repeated_rows to add, which adds them up; if one is a copy drop it; "
            "if they are of several units name the key column that tells them apart"
        )
        rule = "rows_added" if add else "duplicate_row"
        findings.append(about_unit(rule, rows.labels[unit], words, severity="info" if add else "error"))
    return findings


def _units(keys: list[pa.ChunkedArray]) -> tuple[tuple[tuple[str, ...], ...], Int[np.ndarray, " row"]]:
    """Labels of all units, sorted, and the number of the unit of each row."""
    code = np.zeros(len(keys[0]), np.int64)
    sizes, words = [], []
    for key in keys:
        coded = key.combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        rank = np.argsort(np.argsort(np.array(names, object)))
        sizes.append(len(names))
        words.append(sorted(names))
        code = code * len(names) + rank[coded.indices.to_numpy()]
    distinct, unit = np.unique(code, return_inverse=True)
    places = np.unravel_index(distinct, sizes)
    labels = zip(*([word[i] for i in place] for word, place in zip(words, places, strict=True)), strict=True)
    return tuple(labels), unit


def _mark_remarks(comma: bool, *, thousands: bool) -> list[Finding]:
    words = "numbers were read with decimal commas and, where there are any, points as thousands marks"
    if thousands:
        words = "numbers were read with decimal points and commas as thousands marks"
    rule = "decimal_comma" if comma else "thousands_marks"
    return [Finding(rule=rule, severity="info", message=words)] if comma or thousands else []


_Marks = Mapping[str, Sequence[DecimalMarks]]
"""What the cells of each column tell of decimal marks, part by part."""


def _have_thousands(marks: _Marks) -> bool:
    return any(mark.thousands for of_column in marks.values() for mark in of_column)


def _decimal_comma(table: Table, marks: _Marks, data: config.Data, faults: list[Finding]) -> bool:
    """Whether commas are decimal marks in the table's text."""
    if data.decimal != "auto":
        return data.decimal == "comma"
    each = [mark for of_column in marks.values() for mark in of_column]
    if any(mark.comma for mark in each) and not any(mark.point for mark in each):
        return True
    sure = any(mark.comma or mark.point for mark in each)
    for name, of_column in marks.items():
        unclear = [mark.unclear for mark, part in zip(of_column, table.parts, strict=True) if part.semicolons]
        if not sure and any(unclear):
            cell = next(cell for cell in unclear if cell)
            message = (
                f"column {name} has numbers such as {cell}, where the mark may be of decimals or of thousands: set "
                "data.decimal to point or to comma"
            )
            faults.append(_table_fault("decimal_unclear", name, message))
    return False


def _numbers(table: Table, name: str, faults: list[Finding], *, comma: bool, thousands: bool) -> Numbers:
    columns = [part.rows.column(name) for part in table.parts]
    parts = [read_numbers(column, decimal_comma=comma, thousands=thousands) for column in columns]
    numbers = Numbers(
        values=np.concatenate([part.values for part in parts]),
        fault=np.concatenate([part.fault for part in parts]),
    )
    _refuse_type(table, name, numbers.fault, "numbers", faults)
    return numbers


def _date_format(table: Table, data: config.Data) -> tuple[str | None, list[Finding]]:
    """The `strptime` format of dates that are not ISO, and what there is to say of it."""
    if data.date_format is not None:
        return strptime_format(data.date_format), []
    found = date_formats([part.rows.column(data.date) for part in table.parts])
    if not found.formats:
        return None, []
    first, *others = found.formats
    told = [date_words(form) for form in found.formats]
    if others:
        message = (
            f"column {data.date} has dates such as {found.example!r}, which may be {' or '.join(told)}: set "
            f"data.date_format to {' or '.join(told)}"
        )
        raise TableError(message, findings=[_table_fault("date_ambiguous", data.date, message)])
    message = f"column {data.date}: dates such as {found.example!r} were read as {told[0]}"
    return first, [Finding(rule="date_format", severity="info", column=data.date, message=message)]


def _days(table: Table, data: config.Data, faults: list[Finding]) -> tuple[Days, list[Finding]]:
    name = data.date
    form, told = _date_format(table, data)
    try:
        parts = [read_days(part.rows.column(name), form) for part in table.parts]
    except pa.ArrowException as error:
        message = f"column {name} cannot be read as dates: {error}"
        raise TableError(message, findings=[_table_fault("column_type", name, message)]) from error
    days = Days(
        values=np.concatenate([part.values for part in parts]),
        fault=np.concatenate([part.fault for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        clock=any(part.clock for part in parts),
    )
    what = f"dates written {data.date_format or 'YYYY-MM-DD'}"
    _refuse_type(table, name, days.fault, what, faults)
    return days, told


def _labels(table: Table, name: str, faults: list[Finding]) -> pa.ChunkedArray:
    parts = [read_labels(part.rows.column(name)) for part in table.parts]
    if any(part is None for part in parts):
        kinds = sorted({str(part.rows.column(name).type) for part in table.parts})
        message = f"key column {name} holds {', '.join(kinds)}: keys must be text or integers, convert it"
        faults.append(_table_fault("column_type", name, message))
    return pa.chunked_array([chunk for part in parts if part for chunk in part.chunks], pa.large_string())


def _refuse_type(table: Table, name: str, fault: np.ndarray, what: str, faults: list[Finding]) -> None:
    """Adds a fault when no cell of the column can be read and it is not merely empty."""
    if (fault == Fault.TYPE).any():
        kinds = sorted({str(part.rows.column(name).type) for part in table.parts})
        message = f"column {name} holds {', '.join(kinds)}, needed are {what}: convert it or name another column"
        faults.append(_table_fault("column_type", name, message))
    elif (fault == Fault.TEXT).any() and not (fault == Fault.NONE).any():
        row = int(np.flatnonzero(fault == Fault.TEXT)[0])
        cell = str(table.cell(row, name))[:40]
        plain = "write plain decimals with a point, no currency, percent sign, blank or apostrophe"
        remedy = date_advice(cell) if what.startswith("dates") else plain
        message = f"column {name} holds text such as {cell!r} ({table.where(row)}), needed are {what}: {remedy}"
        faults.append(_table_fault("column_text", name, message))


def _table_fault(rule: str, column: str, message: str) -> Finding:
    return Finding(rule=rule, severity="error", column=column, message=message)


def _zone_remarks(days: Days, column: str) -> list[Finding]:
    highlights = []
    if (days.offset != NO_OFFSET).any():
        message = f"column {column} names offsets from UTC: its local days were taken"
        highlights.append(Finding(rule="date_offset", severity="info", column=column, message=message))
    if days.clock:
        message = f"column {column}: the time of day was dropped, only the day counts"
        highlights.append(Finding(rule="date_clock", severity="info", column=column, message=message))
    return highlights
