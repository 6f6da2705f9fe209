"""The fleet some weeks further, under a table of future spend.

The trend goes on at its slope, seasons come again, and what past media still bring is carried in. A forecast of a
fleet is an account of its future weeks, so it adds up over units and time as every other account does.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.analysis.aggregate import Totals
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.given_rows import Rows, read_rows
from mixfleet.data.extrapolation import beyond
from mixfleet.data.panel import Unit
from mixfleet.errors import ConfigError, counted
from mixfleet.models.baseline import furthest
from mixfleet.posterior.media_prices import media_price
from mixfleet.posterior.statistics import statistics

__all__ = ["Future", "look_further", "outcomes"]

WEEKS = 13
"""Weeks that are looked at where neither a plan nor anybody says how many."""
MOST_AHEAD = 1040
"""Periods that are looked ahead at most."""

YEAR = 52
"""Last weeks over which media that nobody pays for are averaged."""


@dataclass(frozen=True, kw_only=True)
class Future:
    """A fleet whose last weeks have yet to come."""

    fleet: Fleet
    held: tuple[str, ...]
    """Controls and unpaid channels that nobody said anything about, held at their mean in one unit or more."""
    beyond: tuple[str, ...]
    """Controls and channels far outside what the fit has seen in one unit or more, and what that means."""
    unplanned: tuple[str, ...]
    """Channels that were paid for of late and of which the plan has no row, in how many units; and how many periods it
    has no row of. They are taken to get nothing."""


def look_further(fleet: Fleet, plan: Any = None, controls: Any = None, weeks: int | None = None) -> Future:
    """The fleet, `weeks` longer.

    Args:
        fleet: Of a finished run.
        plan: Table or path with the key columns, `channel`, `date` and `spend`, such as `Plan.by_week`; what it does
            not name gets nothing. By default nothing is spent at all.
        controls: Table or path with the key columns, `date`, and one column for each control and treatment.
        weeks: How many; by default as far as the plan goes.

    Raises:
        ConfigError: A table names what is not there, a week twice or one that is not ahead, or no amount.
        TableError: A table cannot be read or lacks a column.
    """
    columns = _linear(fleet)
    spends = None if plan is None else read_rows(fleet, plan, ("channel", "spend"), "forecast.plan")
    given = None if controls is None else read_rows(fleet, controls, columns, "forecast.controls")
    week = None if spends is None else _weeks_ahead(fleet, spends, "forecast.plan")
    last = WEEKS if week is None or not len(week) else int(week.max())
    ahead = last if weeks is None else weeks
    if not ahead > 0 or (last > ahead and spends is not None):
        raise ConfigError(f"must be above zero and reach to the end of the plan, is {ahead}", key="forecast.weeks")
    if ahead > MOST_AHEAD:
        raise ConfigError(f"must be at most {MOST_AHEAD:,}, is {ahead:,}", key="forecast.weeks")
    reach = furthest(fleet.spec.model)
    if reach is not None and ahead + (fleet.spec.data.holdout or 0) > reach:
        raise ConfigError(
            f"the baseline reaches {counted(reach, 'period')} after the fitted ones, and {ahead} are asked for: "
            "fit with a larger `ahead` of its term",
            key="forecast.weeks",
        )
    spend, planned = _spend(fleet, spends, week, ahead)
    linear, known = _controls(fleet, given, ahead)
    units = tuple(
        _longer(unit, spend[place], np.where(known[place], linear[place], fleet.scales[place].usual_controls))
        for place, unit in enumerate(fleet.units)
    )
    if spends is not None and weeks is None and len(spends.dates):
        units = tuple(_of_the_plan(fleet, unit, spends, place) for place, unit in enumerate(units))
    unpaid = [name for i, name in enumerate(fleet.channels) if any(_unpaid(unit)[i] for unit in fleet.units)]
    held = [name for i, name in enumerate(columns) if not known[..., i].all()]
    return Future(
        fleet=replace(fleet, units=units, ahead=ahead),
        held=(*held, *unpaid),
        beyond=_beyond(fleet, units, columns),
        unplanned=() if spends is None else _unplanned(fleet, planned),
    )


def outcomes(account: Totals) -> dict[str, Any]:
    """Statistics by component: those of the account, then what they come to, then the KPI itself with its noise."""
    expected = account.contribution.sum(axis=1, keepdims=True)
    found = statistics(np.concatenate([account.contribution, expected, expected + account.noise[:, None]], axis=1))
    spend = np.full(found["mean"].shape, np.nan)
    spend[:, : account.spend.shape[1]] = account.spend
    return {**found, "spend": spend, "weeks": account.weeks[:, None]}


def _beyond(fleet: Fleet, longer: tuple[Unit, ...], columns: tuple[str, ...]) -> tuple[str, ...]:
    """Words on each control and channel that goes where the fit of a unit has not seen it."""
    units: dict[str, int] = {}
    for unit, own, scale in zip(fleet.units, longer, fleet.scales, strict=True):
        seen = np.flatnonzero(unit.observed[: scale.trend_weeks])
        later = slice(len(unit.dates), None)
        found = beyond(columns, unit.controls[seen], own.controls[later])
        found |= beyond(fleet.channels, unit.media[seen], own.media[later], channels=True)
        for name, words in found.items():
            text = f"{name}: {words if words.startswith('nothing') else 'far beyond what was seen'}"
            units[text] = units.get(text, 0) + 1
    return tuple(f"{text} ({counted(count, 'unit')})" for text, count in sorted(units.items()))


def _unplanned(fleet: Fleet, planned: Bool[np.ndarray, "unit week channel"]) -> tuple[str, ...]:
    """Words on what the plan leaves out."""
    paid = np.array([np.nansum(unit.spend[-WEEKS:], axis=0) > 0 for unit in fleet.units])
    missing = np.sum(paid & ~planned.any(axis=1), axis=0)
    found = [f"{name} ({counted(int(n), 'unit')})" for name, n in zip(fleet.channels, missing, strict=True) if n]
    bare = np.sum(~planned.any(axis=(0, 2)))
    return (*found, f"{bare} of {counted(planned.shape[1], 'period')}") if bare else tuple(found)


def _of_the_plan(fleet: Fleet, unit: Unit, rows: Rows, place: int) -> Unit:
    """The unit, of which neither weeks after the plan count nor those before it that other units have in their data."""
    last_day, own = max(one.dates[-1] for one in fleet.units), rows.dates[rows.place == place]
    begin = min(last_day, own.min() - 1) if len(own) else last_day
    outside = (unit.dates <= begin) | (unit.dates > rows.dates.max())
    past = np.arange(len(unit.dates)) < len(fleet.units[place].dates)
    return replace(unit, kpi=np.where(outside & ~past, np.nan, unit.kpi))


def _linear(fleet: Fleet) -> tuple[str, ...]:
    """Names of the controls and treatments, which are the last columns."""
    count = fleet.units[0].controls.shape[1] if fleet.units else 0
    return fleet.columns[len(fleet.columns) - count :]


def _weeks_ahead(fleet: Fleet, rows: Rows, key: str) -> Int[np.ndarray, " row"]:
    """Weeks after the last of each row's unit, from 1."""
    week = np.zeros(len(rows.place), int)
    for i, day in enumerate(rows.dates):
        unit = fleet.units[rows.place[i]]
        last, step = unit.dates[-1], unit.dates[1] - unit.dates[0]
        week[i], rest = divmod(day - last, step)
        if rest == np.timedelta64(0, "D") and week[i] >= 1:
            continue
        text = f"{rows.where[i]}, column date: {day} is no week after {last}, the last of {' / '.join(unit.labels)}"
        if rest != np.timedelta64(0, "D"):
            before = last + step * max(int(week[i]), 1)
            begin = "" if step == np.timedelta64(1, "D") else f" begin on {last.astype(object):%A}s,"
            text += f": its weeks{begin} such as {before} and {before + step}"
        else:
            text += f": give weeks from {last + step} on"
        raise ConfigError(text, key=key)
    return week


def _spend(
    fleet: Fleet, rows: Rows | None, weeks: np.ndarray | None, ahead: int
) -> tuple[Float[np.ndarray, "unit week channel"], Bool[np.ndarray, "unit week channel"]]:
    """Spend, and where a row says it."""
    spend = np.zeros((len(fleet.units), ahead, len(fleet.channels)))
    given = np.zeros(spend.shape, bool)
    if rows is None or weeks is None:
        return spend, given
    for row, place, week, name, amount in zip(
        rows.where, rows.place, weeks, rows.columns["channel"], rows.columns["spend"], strict=True
    ):
        where = f"{row}: {name} of {' / '.join(fleet.units[place].labels)}"
        if name not in fleet.channels:
            raise ConfigError(f"{where} is none of {', '.join(fleet.channels)}", key="forecast.plan")
        if not 0 <= amount < np.inf:
            raise ConfigError(f"{where}: spend must be zero or more, is {amount}", key="forecast.plan")
        channel = fleet.channels.index(name)
        if amount > 0 and not np.any(fleet.units[place].spend[:, channel] > 0):
            raise ConfigError(f"{where} was never paid for: nothing is known of what it brings", key="forecast.plan")
        if given[place, week - 1, channel]:
            message = f"{where} is there twice in one week: add the rows up, or drop one of them"
            raise ConfigError(message, key="forecast.plan")
        given[place, week - 1, channel] = True
        spend[place, week - 1, channel] = amount
    return spend, given


def _controls(fleet: Fleet, rows: Rows | None, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """Values by unit, week and column, and which of them somebody gave."""
    names = _linear(fleet)
    values = np.full((len(fleet.units), ahead, len(names)), np.nan)
    logged = {treatment.name for treatment in fleet.spec.data.treatments if treatment.form == "log"}
    if rows is not None:
        week = _weeks_ahead(fleet, rows, "forecast.controls")
        near = week <= ahead
        seen: set[tuple[int, int]] = set()
        for row, place, when in zip(rows.where, rows.place.tolist(), week.tolist(), strict=True):
            if (place, when) in seen:
                message = (
                    f"{row}: a week of {' / '.join(fleet.units[place].labels)} is there twice: drop one of the rows"
                )
                raise ConfigError(message, key="forecast.controls")
            seen.add((place, when))
        for i, name in enumerate(names):
            for row, value in zip(rows.where, rows.columns[name], strict=True):
                if name in logged and value <= 0:
                    raise ConfigError(f"{row}, column {name}: must be above 0, is {value:g}", key="forecast.controls")
            values[rows.place[near], week[near] - 1, i] = rows.columns[name][near]
    return values, np.isfinite(values)


def _unpaid(unit: Unit) -> np.ndarray:
    """Channels that ran and that nobody pays for."""
    return np.all(np.isnan(unit.spend[unit.observed]), axis=0) & np.any(unit.media != 0, axis=0)


def _longer(unit: Unit, spend: Float[np.ndarray, "week channel"], controls: Float[np.ndarray, "week linear"]) -> Unit:
    ahead = len(spend)
    step = unit.dates[1] - unit.dates[0]
    media = spend / media_price(unit)
    recent = unit.media[-YEAR:][unit.observed[-YEAR:]]
    unpaid = _unpaid(unit)
    if len(recent):
        media[:, unpaid] = recent.mean(axis=0)[unpaid]
    return replace(
        unit,
        dates=np.concatenate([unit.dates, unit.dates[-1] + step * np.arange(1, ahead + 1)]),
        kpi=np.concatenate([unit.kpi, np.zeros(ahead)]),
        observed=np.concatenate([unit.observed, np.ones(ahead, bool)]),
        media=np.concatenate([unit.media, media]),
        spend=np.concatenate([unit.spend, np.where(np.isnan(unit.spend).all(axis=0), np.nan, spend)]),
        controls=np.concatenate([unit.controls, controls]),
        value_per_kpi=np.concatenate([unit.value_per_kpi, np.full(ahead, unit.value_per_kpi[unit.observed][-1])]),
        reported=None,
    )
