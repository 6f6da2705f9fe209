"""What finance asks for: last year, today's spend continued and the plan side by side, in lines that add up."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from mixfleet.analysis.economics import unit_rates
from mixfleet.analysis.insight import Insight
from mixfleet.errors import RunError

__all__ = ["finance"]

YEAR = 364
"""Days that last year's weeks lie back, so that they begin on the same weekday."""

COLUMNS = ("last_year", "today", "plan")

LEFT_OUT = "units not in totals"
UNEXPLAINED = "unexplained"
SUBTOTAL = "units in totals"
TOTAL = "total"

Lines = Mapping[tuple[str, str], np.ndarray]
"""By measure and line: a unit's number in each of `COLUMNS`."""


def finance(cells: pa.Table, weekly: pa.Table, insight: Insight, by: Sequence[str] = ()) -> pa.Table:
    """Spend, KPI and, where a KPI has a margin, profit of the coming weeks, by line; all are means.

    Columns: `last_year`, what the same weeks of the year before spent and brought; `today`, what is expected if the
    spend of the last weeks goes on; `plan`; and the plan less each of them. Lines are the channels, the terms of the
    baseline and `unexplained`, the KPI that came less what the model expects of it. They add up to `units in totals`,
    and with `units not in totals`, whose KPI nobody forecasts, to `total`. `unit_weeks` says how many weeks of all
    units a column holds: where last year has fewer than the plan, its sums are of those only, and where it has none,
    they are empty.

    Money is in the currency of the plan's rates.

    Args:
        cells: Of a plan, one row per unit and channel.
        weekly: Of the same plan, one row per unit, channel and coming week.
        insight: Of the run that the plan was made from.
        by: Key columns to sum by; by default all is one sum.

    Raises:
        RunError: An earlier version made the plan.
    """
    if "spend_today" not in weekly.column_names:
        raise RunError("the plan was made by an earlier version, without today's weeks: repeat mixfleet budget")
    arrow, keys = replace(insight, frame="pyarrow"), insight.fleet.keys
    sums: dict[tuple[str, ...], dict[tuple[str, str], np.ndarray]] = defaultdict(dict)
    for labels, lines in _units(cells, weekly, arrow).items():
        group = sums[tuple(labels[keys.index(key)] for key in by)]
        for line, values in lines.items():
            group[line] = group.get(line, 0.0) + values
    rows = [row for group, lines in sorted(sums.items()) for row in _rows(dict(zip(by, group, strict=True)), lines)]
    names = (*by, "measure", "line", *COLUMNS, "plan_less_today", "plan_less_last_year")
    return pa.table({name: pa.array([row[name] for row in rows]) for name in names})


def _rows(head: dict[str, str], lines: dict[tuple[str, str], np.ndarray]) -> Iterator[dict[str, Any]]:
    """The lines in order, each measure with its total; a column without any week has no numbers."""
    weeks = lines.pop(("unit_weeks", TOTAL))
    nothing = np.where(weeks > 0, 0.0, np.nan)
    for measure in ("spend", "kpi", "profit"):
        own = {line: values + nothing for (name, line), values in lines.items() if name == measure}
        if measure != "profit":
            left_out = own.pop(LEFT_OUT, nothing)
            subtotal = np.sum([nothing, *own.values()], axis=0)
            own |= {SUBTOTAL: subtotal, LEFT_OUT: left_out, TOTAL: subtotal + left_out}
        for line, values in own.items():
            yield _row({**head, "measure": measure, "line": line}, values)
    yield _row({**head, "measure": "unit_weeks", "line": TOTAL}, weeks)


def _row(head: Mapping[str, str], values: np.ndarray) -> dict[str, Any]:
    last_year, today, plan = values.tolist()
    columns = dict(zip(COLUMNS, (last_year, today, plan), strict=True))
    return {**head, **columns, "plan_less_today": plan - today, "plan_less_last_year": plan - last_year}


def _units(cells: pa.Table, weekly: pa.Table, insight: Insight) -> dict[tuple[str, ...], Lines]:
    """Every fitted unit's lines, in the plan's currency."""
    fleet = insight.fleet
    days = weekly["date"].to_numpy().astype("M8[D]")
    window = (days.min() - YEAR, days.max() - YEAR)
    ahead = {name: insight.forecast(_spends(weekly, name)) for name in ("spend_today", "spend")}
    now, then = (_by_unit(ahead[name], fleet.keys) for name in ("spend_today", "spend"))
    before = _by_unit(insight.contributions(period=window), fleet.keys)
    came = _by_unit(insight.media(period=window), fleet.keys)
    earned, rate = _margins(cells, insight), _rates(cells, insight)
    spent = _spent(weekly, insight, window)
    found = {}
    for unit, included in zip(fleet.units, fleet.included, strict=True):
        own = unit.labels
        parts = [_parts(table.get(own, ())) for table in (before, now, then)]
        kpi = sum(row["kpi"] for row in came.get(own, ()))
        weeks = [sum(row["weeks"] for row in came.get(own, ())), *(_weeks(one.get(own, ())) for one in (now, then))]
        lines = {("spend", channel): values * rate[own][1] for channel, values in spent[own].items()}
        lines |= _kpi_lines(parts, kpi, rate[own][0])
        if own in earned:
            total = np.sum([values for (name, _), values in lines.items() if name == "kpi"], axis=0)
            cost = np.sum([values for (name, _), values in lines.items() if name == "spend"], axis=0)
            lines[("profit", TOTAL)] = earned[own] * total - cost
        if not included:
            lines = _left_out(lines, kpi * rate[own][0])
        found[own] = lines | {("unit_weeks", TOTAL): np.array(weeks, float)}
    return found


def _kpi_lines(parts: Sequence[Mapping[str, float]], kpi: float, rate: float) -> dict[tuple[str, str], np.ndarray]:
    names = dict.fromkeys(name for one in parts for name in one)
    lines = {("kpi", name): rate * np.array([one.get(name, 0.0) for one in parts]) for name in names}
    residue = kpi - sum(parts[0].values())
    return lines | {("kpi", UNEXPLAINED): rate * np.array([residue, 0.0, 0.0])}


def _left_out(lines: Lines, kpi: float) -> dict[tuple[str, str], np.ndarray]:
    """Of a unit that no total holds: its spend, and the KPI that came."""
    spend = np.sum([values for (name, _), values in lines.items() if name == "spend"] or [np.zeros(3)], axis=0)
    return {("spend", LEFT_OUT): spend, ("kpi", LEFT_OUT): np.array([kpi, np.nan, np.nan])}


def _spends(weekly: pa.Table, name: str) -> pa.Table:
    """The plan's weeks with another column as what is spent, of units that have yet to come."""
    columns = [column for column in weekly.column_names if not column.startswith("spend")]
    table = weekly.select([*columns, name])
    return table.rename_columns([*columns, "spend"])


def _by_unit(table: pa.Table, keys: Sequence[str]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        found[tuple(row[key] for key in keys)].append(row)
    return found


def _parts(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {row["component"]: row["mean"] for row in rows if row["kind"] != "total"}


def _weeks(rows: Sequence[Mapping[str, Any]]) -> float:
    return next((row["weeks"] for row in rows), 0)


def _spent(weekly: pa.Table, insight: Insight, window: tuple[Any, Any]) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """Spend by unit and channel in each of `COLUMNS`, in the unit's currency."""
    fleet = insight.fleet
    found: dict[tuple[str, ...], dict[str, np.ndarray]] = {unit.labels: {} for unit in fleet.units}
    for unit in fleet.units:
        inside = fleet.counted(unit)[: len(unit.dates)] & (unit.dates >= window[0]) & (unit.dates <= window[1])
        for name, spent in zip(fleet.channels, np.nansum(unit.spend[inside], axis=0).tolist(), strict=True):
            if np.any(unit.spend[:, fleet.channels.index(name)] > 0):
                found[unit.labels][name] = np.array([spent, 0.0, 0.0])
    for row in weekly.to_pylist():
        own = found[tuple(row[key] for key in fleet.keys)]
        own.setdefault(row["channel"], np.zeros(3))[1:] += (row["spend_today"], row["spend"])
    return found


def _rates(cells: pa.Table, insight: Insight) -> dict[tuple[str, ...], tuple[float, float]]:
    """What a unit's KPI and its spend are multiplied by to be in the plan's currency."""
    fleet, data = insight.fleet, insight.fleet.spec.data
    money = data.kpi_type == "revenue" and data.revenue_per_kpi is None
    converted = "rate" in cells.column_names
    own = {tuple(row[key] for key in fleet.keys): row["rate"] for row in cells.to_pylist() if converted}
    kept = unit_rates(
        fleet.spec.business.rates if converted else {},
        fleet.keys,
        [unit.labels for unit in fleet.units],
        absent=fleet.missing,
        key="business.rates",
    )
    by_unit = {unit.labels: own.get(unit.labels, rate) for unit, rate in zip(fleet.units, kept.tolist(), strict=True)}
    return {labels: (rate if money else 1.0, rate) for labels, rate in by_unit.items()}


def _margins(cells: pa.Table, insight: Insight) -> dict[tuple[str, ...], float]:
    """What a KPI of each unit earns in the plan's currency, where somebody said it."""
    economics, fleet = insight.economics, insight.fleet
    if "margin" not in economics.given:
        return {}
    rates = _rates(cells, insight)
    units = [unit.labels for unit in fleet.units]
    margins = economics.per_kpi(fleet.keys, units, fleet.missing)[:, economics.given.index("margin")]
    # Of a KPI that is money, the lines are converted already.
    return {own: margin * rates[own][1] / rates[own][0] for own, margin in zip(units, margins.tolist(), strict=True)}
