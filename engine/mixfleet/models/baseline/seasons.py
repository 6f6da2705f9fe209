"""Seasons: columns of what comes back - waves of a period, holidays - and of events that have a date."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config.baseline import Events, Fourier, Holidays
from mixfleet.errors import ConfigError
from mixfleet.models.baseline.calendar import DAYS_PER_YEAR, Calendar

__all__ = ["events", "fourier", "holidays"]

_MONDAY = 4
"""Days from 1970-01-01 to a Monday."""


def fourier(term: Fourier, calendar: Calendar) -> Float[np.ndarray, "week wave"]:
    """Sines and cosines of the share of the period that has passed, order by order."""
    waves, (passed, length) = [], _passed(term, calendar)
    for k in range(1, term.order + 1):
        angle = 2 * np.pi * k * passed / length
        waves += [np.sin(angle), np.cos(angle)]
    return np.column_stack(waves)


def holidays(term: Holidays, calendar: Calendar) -> Float[np.ndarray, "week side"]:
    """Share of each period's days that are holidays of the unit's country, then of those before and after them.

    Raises:
        ConfigError: No days are known of the country.
    """
    code = term.code(calendar.unit)
    if code not in term.dates:
        raise ConfigError(f"no holidays are given for {code!r}", key="model.baseline.holidays.dates")
    return _shares(term, term.dates[code], calendar)


def events(term: Events, calendar: Calendar) -> Float[np.ndarray, "week side"]:
    """Share of each period's days that an event is on, then of those before and after it."""
    return _shares(term, term.at, calendar)


def _passed(term: Fourier, calendar: Calendar) -> tuple[Float[np.ndarray, " week"], Float[np.ndarray, " week"] | float]:
    """Days of the period that have passed, and those that it has."""
    dates = calendar.dates
    if term.period == "year":
        return (dates - dates.astype("datetime64[Y]")).astype(int) + 1, DAYS_PER_YEAR
    if term.period == "month":
        month = dates.astype("datetime64[M]")
        first, after = month.astype("datetime64[D]"), (month + 1).astype("datetime64[D]")
        return (dates - first).astype(int), (after - first).astype(int)
    return calendar.days - _MONDAY, term.days


def _shares(term: Holidays | Events, spans: Iterable[str], calendar: Calendar) -> Float[np.ndarray, "week side"]:
    first = int(calendar.days[0])
    count = len(calendar.dates) * calendar.step
    on, before, after = (np.zeros(count, bool) for _ in range(3))
    for span in spans:
        begin, end = (
            int(np.datetime64(day, "D").astype(int)) - first for day in (span.split("/")[0], span.split("/")[-1])
        )
        _mark(on, begin, end)
        _mark(before, begin - term.before, begin - 1)
        _mark(after, end + 1, end + term.after)
    # A day between two holidays is a holiday, or after the first before it is before the second.
    sides = [on, *([before & ~on] if term.before else []), *([after & ~on & ~before] if term.after else [])]
    return np.column_stack([side.reshape(-1, calendar.step).mean(axis=1) for side in sides])


def _mark(days: Bool[np.ndarray, " day"], begin: int, end: int) -> None:
    days[max(begin, 0) : max(end + 1, 0)] = True
