"""Dates: which days the holidays and events of a model fall on, looked up once, so that a run keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mixfleet.config import Model
from mixfleet.config.baseline import Events, Holidays, Term
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import Panel
from mixfleet.data.parse import Fault, read_days
from mixfleet.data.sources import read_table
from mixfleet.errors import ConfigError, TableError
from mixfleet.models.baseline.calendar import Calendar
from mixfleet.models.baseline.linear_block import terms_of

__all__ = ["fitting", "with_dates"]

YEARS_AHEAD = 3
"""Calendar years after a table's last for which holidays are looked up."""


def fitting(model: Model, panel: Panel) -> Model:
    """The model with the dates that the panel's units need.

    Raises:
        ConfigError: A term cannot have its dates, or does not go with a unit.
        TableError: A file of events cannot be read.
    """
    if not model.baseline or not panel.units:
        return model
    units = [dict(zip(panel.keys, unit.labels, strict=True)) for unit in panel.units]
    first, last = min(unit.dates[0] for unit in panel.units), max(unit.dates[-1] for unit in panel.units)
    dated = with_dates(model, units, first, last)
    for names, unit in zip(units, panel.units, strict=True):
        calendar = Calendar(unit.dates, len(unit.dates) - (panel.data.holdout or 0), names)
        for term in terms_of(dated):
            term.columns(calendar)
    return dated


def with_dates(model: Model, units: Iterable[Mapping[str, str]], first: np.datetime64, last: np.datetime64) -> Model:
    """The model with the dates of its holidays and events.

    Args:
        model: Its terms say where the dates are.
        units: Each unit's label of every key column.
        first: First day of all.
        last: Last day; holidays are looked up some years further, for forecasts.
    """
    known = list(units)
    begin, end = (int(str(day)[:4]) for day in (first, last))
    years = range(begin - 1, end + 1 + YEARS_AHEAD)

    def dated(term: Term) -> Term:
        if isinstance(term, Holidays):
            codes = sorted({term.code(unit) for unit in known} - set(term.dates))
            return replace(term, dates=FrozenMapping({**term.dates, **_public_holidays(codes, years)}))
        if isinstance(term, Events) and term.file is not None:
            return replace(term, file=None, at=(*term.at, *_read_events(term.file)))
        return term

    return replace(model, baseline=tuple(dated(term) for term in model.baseline))


def _public_holidays(codes: Sequence[str], years: range) -> dict[str, tuple[str, ...]]:
    """Days by code of a country, or of a part of one."""
    if not codes:
        return {}
    try:
        import holidays
    except ImportError as error:
        raise ConfigError(
            "needs the package holidays (pip install 'mixfleet[holidays]'), or the days as `dates`",
            key="model.baseline.holidays",
        ) from error
    parts, found = holidays.list_supported_countries(include_aliases=True), {}
    for code in codes:
        country, _, part = code.partition("-")
        if country not in parts or (part and part not in parts[country]):
            raise ConfigError(
                f"{code!r} is no code of a country that the package holidays knows: "
                f"write it as `countries: {{{code}: DE}}`, or give its days as `dates`",
                key="model.baseline.holidays",
            )
        days = holidays.country_holidays(country, subdiv=part or None, years=years)
        found[code] = tuple(day.isoformat() for day in sorted(days))
    return found


def _read_events(path: str) -> tuple[str, ...]:
    """Days, or first and last days, of a table's rows."""
    try:
        table, columns = read_table(path, ("date", "end"), date="date"), ("date", "end")
    except TableError:
        table, columns = read_table(path, ("date",), date="date"), ("date",)
    spans, row = [], 0
    for part in table.parts:
        read = [read_days(part.rows.column(name)) for name in columns]
        unread = np.any([column.fault > Fault.MISSING for column in read], axis=0)
        for fault, begin, *end in zip(unread, *(column.values for column in read), strict=True):
            known = [day for day in (begin, *end) if not np.isnat(day)]
            if fault or np.isnat(begin) or known != sorted(known):
                raise ConfigError(
                    f"{table.where(row)}: needs a date such as 2024-01-31, and an end that is not before it",
                    key="model.baseline.events.file",
                )
            spans.append("/".join(map(str, known)))
            row += 1
    return tuple(sorted(set(spans)))
