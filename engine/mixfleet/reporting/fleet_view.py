"""What the page shows of a fleet as a whole: over time, between years, by channel, and where a plan moves money."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixfleet.analysis.insight import Insight
from mixfleet.analysis.periods import read_period
from mixfleet.analysis.tables.predictive import ComponentMeans, Means, component_means
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.reporting.answers import YEAR, Terms
from mixfleet.reporting.numbers import Wording, amount, percent, span

if TYPE_CHECKING:
    # Starts the models, which a page without a comparison does without.
    from mixfleet.analysis.comparison import Comparison

__all__ = [
    "channel_shares",
    "controls_in_words",
    "history",
    "monthly",
    "moves",
    "other_priors",
    "over_time",
    "parts",
    "since",
    "structures",
    "turned",
    "waterfall",
    "weights",
]

MOVES = 25
"""Cells of a plan that are listed, those that it moves furthest."""

LARGEST = 12
"""Amounts spent of which is told what other priors would say, the largest."""

MOST_ALERTS = 12
"""Changes since an earlier run that are listed, of each sort."""

EASILY = 0.2
"""Correlation with KPI and media below which a cause that the table lacks is called weak."""

PERIODS_IN_YEAR = {"weekly": 52, "daily": 364}

HISTORY = {"weekly": 52, "daily": 182}
"""Periods before a forecast that are shown with it."""


def monthly(insight: Insight) -> ComponentMeans:
    """Mean KPI by component and month, of units and of the fleet."""
    return component_means(insight.fleet, read_period("month", [unit.dates for unit in insight.fleet.units]))


def over_time(insight: Insight, means: ComponentMeans) -> Mapping[str, Any] | None:
    """KPI of an average period by component and month, of the units in totals; None where there are none.

    Args:
        insight: Of the run.
        means: Its `monthly` means.
    """
    total = means.total
    if total is None or not np.isfinite(total.mean).all():
        return None
    days = _days(insight)
    counts = np.bincount(read_period("month", [days]).index(days))
    weeks = dict(zip(read_period("month", [days]).names, counts.tolist(), strict=True))
    return _average(means, total._replace(weeks=np.array([weeks.get(name, 0) for name in means.periods])))


def parts(means: ComponentMeans) -> list[Mapping[str, Any]]:
    """KPI of an average period by component and month, of each unit."""
    return [_average(means, own) for own in means.units]


def _average(means: ComponentMeans, own: Means) -> Mapping[str, Any]:
    """Per period, for months hold four or five, and how many each holds; of the months that hold any."""
    there = own.weeks > 0
    average = own.mean[there] / own.weeks[there][:, None]
    months = [name for name, some in zip(means.periods, there, strict=True) if some]
    by_component = dict(zip(means.components, average.T, strict=True))
    return {"month": months, "weeks": own.weeks[there].tolist(), "mean": by_component}


def waterfall(insight: Insight) -> Mapping[str, Any] | None:
    """What changed between two windows of as many periods each: the last year and the one before, or halves."""
    days = _days(insight)
    year = PERIODS_IN_YEAR[insight.fleet.spec.data.frequency]
    size = min(year, len(days) // 2)
    if size < 1:
        return None
    before, after = days[-2 * size : -size], days[-size:]
    windows = [(str(own[0])[:10], str(own[-1])[:10]) for own in (before, after)]
    rows = [row for row in insight.waterfall(*windows, by=()).to_pylist() if np.isfinite(row["mean"])]
    steps = [[row["component"], row["mean"], row["q05"], row["q95"]] for row in rows]
    if not rows:
        return None
    return {"before": windows[0], "after": windows[1], "periods": size, "per": rows[0]["per"], "steps": steps}


def channel_shares(returns: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[Any]]:
    """Channel, its share of spend, its share of what media returned, ROI and marginal ROI with intervals."""
    rows = [row for row in returns.get("roi", []) if np.isfinite(row["mean"])]
    margins = {row["channel"]: row for row in returns.get("marginal_roi", [])}
    spend = sum(row["spend"] for row in rows)
    value = sum(row["spend"] * row["mean"] for row in rows)
    return [
        [
            row["channel"],
            row["spend"] / spend,
            row["spend"] * row["mean"] / value,
            [row["mean"], row["q05"], row["q95"]],
            [margins[row["channel"]][name] for name in ("mean", "q05", "q95")],
        ]
        for row in rows
    ]


def since(changes: "Comparison", keys: Sequence[str], say: Wording) -> dict[str, Any]:
    """What changed since an earlier run: units by what became of them, alerts, and the returns that moved furthest.

    A return's move is in posterior standard deviations of the earlier run.
    """
    moved = [row for row in changes.roi.to_pylist() if row["difference"] and math.isfinite(row["in_sd"])]
    moved.sort(key=lambda row: -abs(row["in_sd"]))
    return {
        "units": dict(Counter(changes.units["change"].to_pylist())),
        "alerts": say.each(changes.alerts[:MOST_ALERTS]),
        "more": max(len(changes.alerts) - MOST_ALERTS, 0),
        "moved": [
            [[row[key] for key in keys], row["channel"], row["before"], row["after"], row["in_sd"]]
            for row in moved[:MOST_ALERTS]
        ],
    }


def other_priors(insight: Insight, roi: Sequence[Mapping[str, Any]], say: Wording) -> list[list[Any]]:
    """What other priors would say of the largest amounts spent; nothing where `Insight.sensitivity` cannot tell.

    Args:
        insight: Of the run.
        roi: Returns by unit and channel.
        say: How the reader sees numbers.

    Returns:
        Unit, channel, spend, and the alternative that moves the channel furthest, by how many posterior standard
        deviations, and by what ratio: None where the draws tell of no alternative.
    """
    keys, rows = insight.fleet.keys, [row for row in roi if row["status"] in insight.fleet.summed]
    if not rows or insight.pooled or insight.averaged:
        return []
    largest = sorted(rows, key=lambda row: -row["spend"])[:LARGEST]
    furthest: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in insight.sensitivity(units={tuple(row[key] for key in keys) for row in largest}).to_pylist():
        own = (*(row[key] for key in keys), row["channel"])
        if row["reliable"] and (own not in furthest or abs(row["shift"]) > abs(furthest[own]["shift"])):
            furthest[own] = row
    found = []
    for row in largest:
        unit = tuple(row[key] for key in keys)
        moved = furthest.get((*unit, row["channel"]), {})
        name = say(moved["alternative"]) if moved else None
        found.append([unit, row["channel"], row["spend"], name, moved.get("shift"), moved.get("ratio")])
    return found


def turned(rows: Sequence[Mapping[str, Any]], summed: Collection[str]) -> list[list[Any]]:
    """By channel: in how many units it pays for itself and in how many it does not, and how many a weak cause turns.

    Args:
        rows: Of `Insight.confounding`.
        summed: Statuses of the units in totals.
    """
    found: dict[str, list[Any]] = {}
    for row in rows:
        if row["status"] in summed and math.isfinite(row["correlation"]):
            own = found.setdefault(row["channel"], [row["channel"], 0, 0, 0])
            own[1 if row["verdict"] == "above" else 2] += 1
            own[3] += row["correlation"] < EASILY
    return list(found.values())


def structures(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Of one unit: each structure, its weight, and what it says by itself of the ROI of each channel."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        own = found.setdefault(row["structure"], [row["structure"], row["weight"], {}])
        if row["channel"]:
            own[2][row["channel"]] = [row["mean"], row["q05"], row["q95"]]
    return list(found.values())


def weights(units: Sequence[Sequence[Mapping[str, Any]]]) -> list[list[Any]]:
    """Each structure and its mean weight over the units."""
    found: dict[str, list[float]] = {}
    for rows in units:
        for name, weight, _ in structures(rows):
            found.setdefault(name, []).append(weight)
    return [[name, float(np.mean(own))] for name, own in found.items()]


def moves(plan: Plan, keys: Sequence[str]) -> Mapping[str, Any]:
    """Where a plan moves money: by unit, and the cells that it moves furthest."""
    rows = [row for row in plan.cells.to_pylist() if row["binding"] not in KEPT]
    units: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        sums = units.setdefault(tuple(row[key] for key in keys), [0.0, 0.0, 0.0])
        for i, name in enumerate(("spend_today", "spend_plan", "gain_mean")):
            sums[i] += row[name]
    rows.sort(key=lambda row: -abs(row["spend_plan"] - row["spend_today"]))
    cells = [
        [
            " / ".join(row[key] for key in keys),
            *(row[name] for name in ("channel", "spend_today", "spend_plan")),
            [row[f"gain_{name}"] for name in ("mean", "q05", "q95")],
            row["marginal_roi_plan"],
        ]
        for row in rows[:MOVES]
    ]
    return {"units": [[list(unit), *sums] for unit, sums in units.items()], "cells": cells, "all": len(rows)}


def history(insight: Insight, subject: Mapping[str, str], periods: Sequence[str]) -> Mapping[str, Any]:
    """KPI of the periods before a forecast, and of the same ones a year before it, of the units of a subject in totals.

    Args:
        insight: Of the run.
        subject: Key column to label; of the whole fleet there is none.
        periods: Names of the forecast's periods.
    """
    fleet, keys = insight.fleet, insight.fleet.keys
    fixed = [(keys.index(key), label) for key, label in subject.items()]
    own = [
        unit
        for unit, ok in zip(fleet.units, fleet.included, strict=True)
        if (ok or len(subject) == len(keys)) and all(unit.labels[i] == label for i, label in fixed)
    ]
    kind = "quarter" if "Q" in periods[0] else {4: "year", 7: "month"}.get(len(periods[0]), "week")
    sums: dict[str, float] = {}
    for unit in own:
        windows = read_period(kind, [unit.dates])
        for name, value in zip(np.array(windows.names)[windows.index(unit.dates)], unit.kpi, strict=True):
            sums[name] = sums.get(name, 0.0) + (float(value) if np.isfinite(value) else np.nan)
    shown = sorted(name for name in sums if name < periods[0])[-HISTORY[fleet.spec.data.frequency] :]
    last = [sums.get(_year_before(name, kind), np.nan) for name in periods]
    return {"period": shown, "kpi": [sums[name] for name in shown], "last_year": last}


def controls_in_words(
    unit: Any, counted: np.ndarray, names: Sequence[str], params: Sequence[Mapping[str, Any]], terms: Terms, step: str
) -> list[str]:
    """What price, promotion and other controls of a unit go with, a sentence each.

    Args:
        unit: The unit's data.
        counted: Which of its weeks were fitted.
        names: Controls and treatments, in the order of the unit's columns.
        params: The unit's rows of the table of parameters.
        terms: The reader's words.
        step: day or week.
    """
    found, kpi = [], float(np.mean(unit.kpi[counted])) if counted.any() else np.nan
    rows = {row["parameter"]: row for row in params if not row["channel"]}
    for i, name in enumerate(names):
        values, row = unit.controls[counted, i], rows.get(name)
        spread = float(values.std()) if len(values) else 0.0
        if row is None or spread == 0 or not kpi > 0:
            continue
        sure = "" if row["q05"] * row["q95"] > 0 else "; the data do not say in which direction"
        low, high = (row[name] * spread for name in ("q05", "q95"))
        found.append(
            f"{name} higher by its usual spread ({amount(spread)}) goes with {amount(row['mean'] * spread)} "
            f"{terms.kpi_unit} a {step} (90 %: {span(low, high)}), {percent(row['mean'] * spread / kpi)} of an average "
            f"{step}{sure}."
        )
    return found


def _days(insight: Insight) -> np.ndarray:
    """Days on which a unit in totals counts."""
    fleet = insight.fleet
    own = [
        unit.dates[fleet.counted(unit)[: len(unit.dates)]]
        for unit, ok in zip(fleet.units, fleet.included, strict=True)
        if ok
    ]
    return np.unique(np.concatenate(own)) if own else np.zeros(0, "M8[D]")


def _year_before(name: str, kind: str) -> str:
    if kind == "week":
        return str(np.datetime64(name) - YEAR)
    return str(int(name[:4]) - 1) + name[4:]
