"""Which window of time each date lies in - a year, quarter, month, week, or one that the caller names."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mixfleet.errors import ConfigError

__all__ = ["PERIODS", "Windows", "read_period"]

PERIODS = ("all", "year", "quarter", "month", "week")

WHOLE = "all"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of time in order, none of which overlap."""

    kind: str
    """One of `PERIODS`, or `custom`."""
    names: tuple[str, ...]
    """E.g. 2026, 2026-Q3, 2026-07, the date of the week, or 2026-01-01..2026-03-31."""
    year_starts: int = 1
    """Month in which a year begins."""
    limits: tuple[tuple[np.datetime64, np.datetime64], ...] = ()
    """First and last day of each window of kind `custom`."""

    def index(self, dates: Shaped[np.ndarray, " week"]) -> Int[np.ndarray, " week"]:
        """The window of each date; -1 for a date in none."""
        if self.kind == WHOLE:
            return np.zeros(len(dates), int)
        if self.kind == "custom":
            found = np.full(len(dates), -1)
            for i, (first, last) in enumerate(self.limits):
                found[(dates >= first) & (dates <= last)] = i
            return found
        return np.searchsorted(np.array(self.names), _names(dates, self.kind, self.year_starts))


def read_period(period: Any, dates: Sequence[Shaped[np.ndarray, " week"]], year_starts: int = 1) -> Windows:
    """The windows that `period` means for units with these dates.

    Args:
        period: One of `PERIODS`; a pair of days (ISO text, date or datetime64), first and last; or a list of pairs.
        dates: Dates of every unit.
        year_starts: Month in which a year begins. Years and quarters of other years than the calendar's are named for
            the calendar year in which they end: FY2026, FY2026-Q1.

    Raises:
        ConfigError: It is none of these, or pairs overlap.
    """
    if isinstance(period, str):
        if period not in PERIODS:
            raise ConfigError(
                f"must be one of {', '.join(PERIODS)}, or a first and a last day, is {period!r}", key="period"
            )
        if period == WHOLE:
            return Windows(kind=WHOLE, names=(WHOLE,))
        every = np.unique(np.concatenate(dates)) if dates else np.zeros(0, "M8[D]")
        names = tuple(np.unique(_names(every, period, year_starts)).tolist())
        return Windows(kind=period, names=names, year_starts=year_starts)
    pairs = list(period)
    if len(pairs) == 2 and not isinstance(pairs[0], list | tuple):
        pairs = [tuple(pairs)]
    limits = sorted((_day(first), _day(last)) for first, last in pairs)
    for (first, last), (following, _) in zip(limits, [*limits[1:], (None, None)], strict=True):
        if last < first or (following is not None and following <= last):
            raise ConfigError(f"windows must not overlap nor end before they begin, {first}..{last} does", key="period")
    return Windows(kind="custom", names=tuple(f"{first}..{last}" for first, last in limits), limits=tuple(limits))


def _day(value: Any) -> np.datetime64:
    try:
        return np.datetime64(value.isoformat()[:10] if isinstance(value, date) else value, "D")
    except ValueError as error:
        raise ConfigError(f"{value!r} is no day such as 2026-03-31", key="period") from error


def _names(dates: np.ndarray, kind: str, year_starts: int) -> np.ndarray:
    days = dates.astype("datetime64[D]")
    if kind == "week":
        return days.astype(str)
    months = days.astype("datetime64[M]")
    if kind == "month":
        return months.astype(str)
    fiscal = months + (13 - year_starts) % 12
    years = np.char.add("FY" if year_starts > 1 else "", fiscal.astype("datetime64[Y]").astype(str))
    if kind == "year":
        return years
    quarter = fiscal.astype(int) % 12 // 3 + 1
    return np.char.add(np.char.add(years, "-Q"), quarter.astype(str))
