"""What past weeks would have brought under another media plan than the one that ran."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.breakdown import ALL_CHANNELS, by_subject, with_all
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.periods import Windows
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.given_rows import read_rows
from mixfleet.errors import ConfigError
from mixfleet.models.baseline import component_rows
from mixfleet.posterior.counterfactual import contributions, log_link
from mixfleet.posterior.media_prices import past_prices
from mixfleet.posterior.statistics import statistics
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["alternative"]

KEY = "counterfactual.plan"


class Change(NamedTuple):
    """A unit's or group's KPI under the plan less that under the media that ran; the last channel is all together."""

    kpi: Float[np.ndarray, "window channel draw"]
    value: Float[np.ndarray, "window channel draw"]
    spend_actual: Float[np.ndarray, "window channel"]
    spend_plan: Float[np.ndarray, "window channel"]
    weeks: Float[np.ndarray, " window"]

    DRAWN = ("kpi", "value")


def alternative(fleet: Fleet, plan: Any, by: Any, windows: Windows) -> pa.Table:
    """Two rows per subject, window and channel: the `kpi` and its `value` that the plan would have added.

    A week's change counts in the week in which it comes, carry-over of earlier weeks of the plan included. Money buys
    media at the price of the week that it is planned for. Where channels multiply each other (`model.link=log`) a
    channel's row is of its plan alone, and that of all channels, of the whole plan, is not their sum.

    Args:
        fleet: Of a finished run.
        plan: Table or path with the key columns, `channel`, `date` and `spend`: what would have been spent in place of
            what was; what it does not name stays as it was.
        by: Key columns to sum by; None for units.
        windows: Windows of time.

    Raises:
        ConfigError: The plan names what is not there, twice, or an amount that is none.
        TableError: The plan cannot be read or lacks a column.
    """
    spends = _spends(fleet, plan)

    def account(place: int, series: UnitSeries) -> Change:
        return _change(fleet, place, series, spends[place], windows)

    long_table, axes = LongTable(), {"period": windows.names, "channel": (*fleet.channels, ALL_CHANNELS)}
    for head, found in by_subject(fleet, by, account, _summarise):
        for measure in ("kpi", "value"):
            long_table.add(
                {**head, "measure": measure}, axes, {**found[measure], **found["spend"]}, where=found["there"]
            )
    return long_table.table()


def _summarise(change: Change) -> dict[str, Any]:
    spend = {"spend_actual": change.spend_actual, "spend_plan": change.spend_plan}
    there = (change.weeks > 0)[:, None]
    return {"kpi": statistics(change.kpi), "value": statistics(change.value), "spend": spend, "there": there}


def _change(
    fleet: Fleet, place: int, series: UnitSeries, planned: Float[np.ndarray, "week channel"], windows: Windows
) -> Change:
    unit, weeks = fleet.units[place], len(fleet.units[place].dates)
    inside = windows.index(unit.dates)[:, None] == np.arange(len(windows.names))
    within = inside & series.counted[:weeks, None]
    named = np.isfinite(planned)
    media = series.media.copy()
    # The scale is that of the media that ran, on which the unit was fitted.
    media[:weeks][named] = (planned / past_prices(unit) / fleet.scales[place].media)[named]
    weights = np.zeros((fleet.weeks, 2 * len(windows.names)))
    weights[:weeks] = np.concatenate([within, within * series.value[:weeks, None]], axis=1)
    kpi, value = np.split(_changed(fleet, series, media, weights), 2)
    paid = np.nan_to_num(unit.spend)
    actual, asked = (
        np.einsum("tw,tc->wc", within.astype(float), spend) for spend in (paid, np.where(named, planned, paid))
    )
    return Change(kpi, value, with_all(actual), with_all(asked), within.sum(axis=0).astype(float))


def _changed(
    fleet: Fleet, series: UnitSeries, media: Float[np.ndarray, "week channel"], weights: Float[np.ndarray, "week sum"]
) -> Float[np.ndarray, "sum channel draw"]:
    """Weighted sums of what other media change; where channels multiply, each alone and then all together."""
    if series.log_link:
        parts = log_link.logarithms(series, component_rows(fleet.spec.model, fleet.spec.data), fleet.term)
        added = log_link.by_channel(series, media, fleet.term) - parts.media
        added = np.concatenate([added, added.sum(axis=0, keepdims=True)])
        return np.einsum("ts,ctd->scd", weights, log_link.raised(parts.expected, added), optimize=True)
    with jax.enable_x64(True):
        now, then = (
            np.asarray(contributions(one, weights[:, :, None], series.curves, term=fleet.term))
            for one in (series.media, media)
        )
    return with_all(then - now)


def _spends(fleet: Fleet, plan: Any) -> list[Float[np.ndarray, "week channel"]]:
    """Spend of every unit's weeks; NaN where the plan says nothing."""
    rows = read_rows(fleet, plan, ("channel", "spend"), KEY)
    spends = [np.full(unit.media.shape, np.nan) for unit in fleet.units]
    for row, place, day, name, amount in zip(
        rows.where, rows.place, rows.dates, rows.columns["channel"], rows.columns["spend"], strict=True
    ):
        unit = fleet.units[place]
        where = f"{row}: {name} of {' / '.join(unit.labels)} on {day}"
        week = int(np.searchsorted(unit.dates, day))
        if name not in fleet.channels:
            raise ConfigError(f"{where} is none of {', '.join(fleet.channels)}", key=KEY)
        if week == len(unit.dates) or unit.dates[week] != day:
            step = (unit.dates[1] - unit.dates[0]).astype(int)
            weeks = f"{unit.dates[0]} to {unit.dates[-1]}, every {step} days from the first"
            raise ConfigError(f"{where} is no week of {weeks}", key=KEY)
        if not 0 <= amount < np.inf:
            raise ConfigError(f"{where}: spend must be zero or more, is {amount}", key=KEY)
        channel = fleet.channels.index(name)
        if amount > 0 and not np.any(unit.spend[:, channel] > 0):
            raise ConfigError(f"{where} was never paid for: nothing is known of what it brings", key=KEY)
        if np.isfinite(spends[place][week, channel]):
            raise ConfigError(f"{where} is there twice: add the rows up, or drop one of them", key=KEY)
        spends[place][week, channel] = amount
    return spends
