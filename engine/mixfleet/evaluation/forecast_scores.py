"""How well a run foretold the weeks that it did not see, and how well a glance at the past would have.

The model is given the media and controls that came, as a plan would give them; the KPI it has to foretell. Two
benchmarks know nothing but the KPI: the same week of the year before, and the last week seen.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mixfleet.analysis.aggregate import gather
from mixfleet.analysis.breakdown import subjects
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.predictive import weekly_kpi
from mixfleet.data.extrapolation import beyond
from mixfleet.data.panel import Unit
from mixfleet.posterior.scores import SCORES, scores
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["BENCHMARKS", "MODEL", "bands", "score_forecasts"]

MODEL, BENCHMARKS = "model", ("last_year", "last_value")
"""What is judged."""

BANDS = (4, 13, 26, 52)
"""Last weeks of the bands that a horizon is cut into: a month, a quarter, half a year, a year."""

YEAR_DAYS = 364
"""A year in whole weeks, so that weekdays stay what they are."""


class Foretold(NamedTuple):
    """A unit's or group's weeks after its origin; zero in weeks that do not count."""

    kpi: Float[np.ndarray, " week"]
    expected: Float[np.ndarray, "week draw"]
    noise: Float[np.ndarray, "week draw"]
    benchmarks: Float[np.ndarray, "benchmark week"]
    """NaN where the past does not reach so far."""
    weeks: Int[np.ndarray, " week"]
    """Unit-weeks that count."""

    DRAWN = ("expected", "noise")


def score_forecasts(fleet: Fleet, horizon: int) -> pa.Table:
    """Scores by unit and by sum of certified units, horizon and forecast.

    Args:
        fleet: Of a run with a holdout of at least `horizon` weeks.
        horizon: Weeks after the origin that are judged.

    Returns:
        Key columns (null where a row sums over them), `status` (null for a sum), `units`, `excluded`, `origin` (the
        last day seen), `beyond` (controls and channels that go far outside what was seen until then), `horizon` (e.g.
        1-4, weeks after it), `forecast` (model, last_year or last_value), `weeks`, r2, mape, wmape, crps (of a
        benchmark its mean absolute error), coverage90 (of the model only) and `skill` (of a benchmark: by how much the
        model's CRPS is smaller, as a share). Sums of units that end on different days are left out, as is a benchmark
        that the past does not reach.
    """
    held = fleet.held_out()

    def work(place: int, series: UnitSeries) -> tuple[Foretold, Any]:
        foretold = _foretell(held, place, series, horizon)
        return foretold, _judge(foretold)

    groupings = [(), *((key,) for key in fleet.keys if len(fleet.keys) > 1)]
    aggregation = gather(held, held.walk(work), groupings)
    long_table = LongTable()
    # Of a unit that begins later too.
    origins = {unit.labels: unit.dates[-1] - held.ahead * (unit.dates[1] - unit.dates[0]) for unit in held.units}
    for unit, (head, judged) in zip(held.units, subjects(held, None, aggregation, _judge), strict=True):
        own = {"units": 1, "excluded": 0, "origin": origins[unit.labels], "beyond": _beyond(held, unit)}
        _add(long_table, {**head, **own}, judged, horizon)
    for columns in groupings:
        for (group, _), (head, judged) in zip(
            aggregation.groups[columns], subjects(held, columns, aggregation, _judge), strict=True
        ):
            if len(days := {origins[labels] for labels in group.units}) == 1:
                summed = dict.fromkeys((*fleet.keys, "status", "beyond"))
                own = {
                    name: value for name, value in head.items() if name not in ("excluded_units", "included_statuses")
                }
                _add(long_table, {**summed, **own, "origin": days.pop()}, judged, horizon)
    return long_table.table()


def _beyond(held: Fleet, unit: Unit) -> str:
    """Controls and channels of the weeks after the origin that the fit could say little of."""
    origin = max(len(unit.dates) - held.ahead, 0)
    seen, later = unit.observed & (np.arange(len(unit.dates)) < origin), np.arange(len(unit.dates)) >= origin
    linear = held.columns[len(held.columns) - unit.controls.shape[1] :]
    found = beyond(linear, unit.controls[seen], unit.controls[later])
    found |= beyond(held.channels, unit.media[seen], unit.media[later], channels=True)
    return "; ".join(f"{name}: {words}" for name, words in found.items())


def bands(horizon: int) -> list[tuple[int, int]]:
    """First and last week of each band of a horizon, then of the whole."""
    ends = [*(end for end in BANDS if end < horizon), horizon]
    cut = list(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))
    return cut if len(cut) == 1 else [*cut, (1, horizon)]


def _foretell(fleet: Fleet, place: int, series: UnitSeries, horizon: int) -> Foretold:
    unit, own = fleet.units[place], weekly_kpi(fleet, place, series)
    origin = len(unit.dates) - fleet.ahead
    late = min(max(-origin, 0), horizon)
    kpi, expected, noise, there = (
        np.concatenate([np.zeros((late, *part.shape[1:]), part.dtype), part[max(origin, 0) :]])[:horizon]
        for part in own
    )
    benchmarks = np.where(there > 0, _benchmarks(unit, origin, horizon), 0.0)
    return Foretold(kpi=kpi, expected=expected, noise=noise, benchmarks=benchmarks, weeks=there)


def _benchmarks(unit: Unit, origin: int, horizon: int) -> Float[np.ndarray, "benchmark week"]:
    past = unit.kpi[: max(origin, 0)]
    known = past[np.isfinite(past)]
    year = YEAR_DAYS // int((unit.dates[1] - unit.dates[0]) / np.timedelta64(1, "D"))
    # The same week of the latest year that the origin has seen whole.
    back = origin + np.arange(horizon) % year - year
    last_year = np.where(back >= 0, unit.kpi[np.maximum(back, 0)], np.nan)
    return np.stack([last_year, np.full(horizon, known[-1] if len(known) else np.nan)])


def _judge(foretold: Foretold) -> dict[str, Float[np.ndarray, "band forecast"]]:
    """Scores by band and forecast."""
    cut = bands(len(foretold.kpi))
    found = {name: np.full((len(cut), 1 + len(BENCHMARKS)), np.nan) for name in (*SCORES, "skill", "weeks")}
    outcome = np.sort(foretold.expected + foretold.noise, axis=-1)
    for i, (first, last) in enumerate(cut):
        own = np.arange(first - 1, last)
        own = own[foretold.weeks[own] > 0]
        mean = foretold.expected[own].mean(axis=-1)
        forecasts = [(mean, outcome[own] - mean[:, None])]
        forecasts += [(line[own], np.zeros((len(own), 1))) for line in foretold.benchmarks]
        for j, (expected, away) in enumerate(forecasts):
            for name, value in scores(foretold.kpi[own], expected, away).items():
                found[name][i, j] = value[0]
        found["weeks"][i] = len(own)
    found["coverage90"][:, 1:] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        found["skill"][:, 1:] = 1 - found["crps"][:, :1] / found["crps"][:, 1:]
    return found


def _add(long_table: LongTable, head: dict[str, Any], judged: dict[str, np.ndarray], horizon: int) -> None:
    axes = {"horizon": [f"{first}-{last}" for first, last in bands(horizon)], "forecast": (MODEL, *BENCHMARKS)}
    long_table.add(head, axes, judged, where=np.isfinite(judged["crps"]))
