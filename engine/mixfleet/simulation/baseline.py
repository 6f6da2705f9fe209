"""Baseline: the linear columns of a simulated unit, period by period from formulas of their own."""

import math
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.config import baseline as settings

__all__ = ["column_kinds", "column_names", "term_columns"]

YEAR = 365.25


def column_names(model: config.Model) -> tuple[str, ...]:
    """Names of the terms' columns."""
    return tuple(name for term in model.baseline_terms for name in term.names())


def column_kinds(model: config.Model) -> tuple[str, ...]:
    """Parameter of each of the terms' columns."""
    return tuple(term.parameter for term in model.baseline_terms for _ in term.names())


def term_columns(dates: np.ndarray, model: config.Model) -> Float[np.ndarray, "week column"]:
    """The terms' columns in every week, all of which are fitted."""
    return _columns(tuple(dates.astype("datetime64[D]").tolist()), model)


# Most units of a fleet have the same dates.
@lru_cache(maxsize=64)
def _columns(days: tuple[date, ...], model: config.Model) -> Float[np.ndarray, "week column"]:
    rows = [
        [value for term in model.baseline_terms for value in _values(term, days, place)] for place in range(len(days))
    ]
    columns = np.array(rows)
    columns.flags.writeable = False
    return columns


def _values(term: settings.Term, days: tuple[date, ...], place: int) -> list[float]:
    """The values of a term's columns in one period."""
    back, step = len(days) - 1 - place, (days[1] - days[0]).days
    match term:
        case settings.Intercept():
            return [1.0]
        case settings.Linear():
            return [place / (len(days) - 1) - 0.5]
        case settings.Piecewise():
            return [max(0, (days[place] - bend).days) / YEAR for bend in _places(term, days[-1], step)]
        case settings.Knots():
            return _hats([knot.toordinal() for knot in _places(term, days[-1], step)], days[place].toordinal())
        case settings.RandomWalk():
            steps = range(-(-term.over // term.every), 0, -1)
            gone = [min(1.0, max(0.0, back / term.every - (k - 1))) for k in steps]
            return [math.sqrt(term.every * step / YEAR) * part for part in gone] + [0.0] * -(-term.ahead // term.every)
        case settings.HSGP():
            return _process(term, place, len(days))
        case settings.Fourier():
            return _waves(term, days[place])
        case settings.Holidays():
            return _shares(term, term.dates[term.country], days[place], step)
        case settings.Events():
            return _shares(term, term.at, days[place], step)
    return []


def _places(term: settings.Piecewise | settings.Knots, last: date, step: int) -> list[date]:
    if term.at:
        return [date.fromisoformat(day) for day in term.at]
    return [last - timedelta(days=step * periods) for periods in term.back]


def _hats(knots: list[int], day: int) -> list[float]:
    """Shares of the two knots around a day."""
    shares = [0.0] * len(knots)
    for k, knot in enumerate(knots):
        if day <= knots[0] or day >= knots[-1]:
            shares[0 if day <= knots[0] else -1] = 1.0
            return shares
        if knot <= day < knots[k + 1]:
            shares[k + 1] = (day - knot) / (knots[k + 1] - knot)
            shares[k] = 1 - shares[k + 1]
            return shares
    return shares


def _process(term: settings.HSGP, place: int, weeks: int) -> list[float]:
    half = (weeks - 1 + term.ahead) / 2
    reach = half + 1.6 * term.length
    values = []
    for k in range(1, term.basis + 1):
        root = math.pi * k / (2 * reach)
        density = math.sqrt(2 * math.pi) * term.length * math.exp(-((term.length * root) ** 2) / 2)
        values.append(math.sqrt(density / reach) * math.sin(root * (place - half + reach)))
    return values


def _waves(term: settings.Fourier, day: date) -> list[float]:
    match term.period:
        case "year":
            passed, length = day.timetuple().tm_yday, YEAR
        case "month":
            after = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            passed, length = day.day - 1, (after - day.replace(day=1)).days
        case "week":
            passed, length = day.weekday(), 7
        case length:
            passed = (day - date(1970, 1, 5)).days
    angles = [2 * math.pi * k * passed / length for k in range(1, term.order + 1)]
    return [value for angle in angles for value in (math.sin(angle), math.cos(angle))]


def _shares(term: settings.Holidays | settings.Events, spans: tuple[str, ...], first: date, step: int) -> list[float]:
    """Share of a period's days in one of the spans, then just before one, then just after one."""
    bounds = [tuple(date.fromisoformat(day) for day in (span.split("/")[0], span.split("/")[-1])) for span in spans]
    counts = {"on": 0, "before": 0, "after": 0}
    for day in (first + timedelta(days=k) for k in range(step)):
        if any(begin <= day <= end for begin, end in bounds):
            counts["on"] += 1
        elif any(0 < (begin - day).days <= term.before for begin, _ in bounds):
            counts["before"] += 1
        elif any(0 < (day - end).days <= term.after for _, end in bounds):
            counts["after"] += 1
    sides = ["on", *(["before"] if term.before else []), *(["after"] if term.after else [])]
    return [counts[side] / step for side in sides]
