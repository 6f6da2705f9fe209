"""Plan: what to spend on every channel of every unit, beside today's spend, and what it is expected to change."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from mixfleet.allocation import Allocation
from mixfleet.errors import RunError
from mixfleet.export import write_tables
from mixfleet.frame import FrameKind, to_frame
from mixfleet.interval import statistics
from mixfleet.limits import Limits
from mixfleet.outlook import Outlook

__all__ = ["Plan", "Solution", "make_plan"]

STEP = 1e-4
"""Of a cell's greatest spend: how far the margin is looked at."""


class Solution(NamedTuple):
    """The best plan of some cells."""

    cells: Int[np.ndarray, " cell"]
    found: Allocation


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A budget plan. Outcomes are beyond those of spending nothing, carry-over after the last week included."""

    cells: pa.Table
    """One row per unit and paid channel: keys, status, channel, spend today and in the plan, limits, outcomes, gain,
    marginal ROI, and what is binding. A unit that is not certified keeps its spend and has no outcome."""
    weekly: pa.Table
    """One row per unit, channel and coming week: keys, status, channel, date, spend."""
    totals: dict[str, Any]
    """Of all planned cells together: see `make_plan`."""
    frame: FrameKind = "pandas"

    def __repr__(self) -> str:
        """Spend, gain and how sure it is."""
        gain, spends = self.totals["gain"], (self.totals["spend_today"], self.totals["spend_plan"])
        return (
            f"<mixfleet plan: spend {spends[0]:,.0f} -> {spends[1]:,.0f}, gain {gain['mean']:,.0f} "
            f"({gain['q05']:,.0f} to {gain['q95']:,.0f}), "
            f"better than today's in {self.totals['probability_better']:.0%} of the draws>"
        )

    def save(self, folder: Path) -> list[Path]:
        """Write the plan as Parquet, to be read again, and as CSV, to be looked at."""
        tables = {"plan": self.cells, "plan_by_week": self.weekly}
        written = [path for kind in ("parquet", "csv") for path in write_tables(tables, folder, kind)]
        totals = folder / "plan.json"
        totals.write_text(json.dumps(self.totals, indent=1))
        return [*written, totals]

    @staticmethod
    def read(folder: Path) -> "Plan":
        """The plan that `save` wrote.

        Raises:
            RunError: There is none, or it cannot be read.
        """
        try:
            cells, weekly = (pq.read_table(folder / f"{name}.parquet") for name in ("plan", "plan_by_week"))
            return Plan(cells=cells, weekly=weekly, totals=json.loads((folder / "plan.json").read_text()))
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} holds no plan that can be read: {error}. Repeat mixfleet budget") from error

    def table(self) -> Any:
        """The cells as a frame."""
        return to_frame(self.cells, self.frame)

    def by_week(self) -> Any:
        """The weekly spends as a frame."""
        return to_frame(self.weekly, self.frame)


def make_plan(
    outlook: Outlook,
    limits: Limits,
    solutions: Sequence[Solution],
    binding: Callable[[np.ndarray, Sequence[Solution]], Sequence[str]],
    *,
    aim: str,
) -> Plan:
    """Weighs the solutions against today's plan on all draws.

    The totals hold `spend_today`, `spend_plan`; statistics of `outcome_today`, `outcome_plan` and `gain`;
    `probability_better`; `gap`, what any other plan could add to the aim at most, in all and as a share of the
    expected outcome; `prices`, the marginal ROI at which money was handed out, by purse; `shadow_prices`, what one more
    unit of money would bring where a constraint over several cells binds, by constraint; and the units left out.
    """
    spend = outlook.today.copy()
    for solution in solutions:
        spend[solution.cells] = solution.found.spend
    step = np.maximum(np.maximum(limits.high, outlook.today) * STEP, 1e-9)
    levels = np.stack([outlook.today, spend, outlook.today + step, spend + step], axis=1)
    outcome = outlook.outcome(levels, outlook.fleet.draws)
    planned = np.concatenate([solution.cells for solution in solutions])
    cells = _cells(outlook, limits, spend, step, outcome, binding(spend, solutions))
    today, after = (outcome[planned, i].sum(axis=0) for i in range(2))
    gap = sum(solution.found.gap for solution in solutions)
    left = np.setdiff1d(np.arange(len(spend)), planned)
    fleet = outlook.fleet
    units = {fleet.units[place].labels for place in outlook.unit[left]} | set(fleet.missing)
    totals = {
        "aim": aim,
        "weeks": outlook.weeks,
        "units": len({int(place) for place in outlook.unit[planned]}),
        "cells": len(planned),
        "spend_today": float(outlook.today[planned].sum()),
        "spend_plan": float(spend[planned].sum()),
        "outcome_today": _row(today),
        "outcome_plan": _row(after),
        "gain": _row(after - today),
        "probability_better": float(np.mean(after > today)),
        "gap": float(gap),
        "gap_share": float(gap / abs(after.mean())) if after.mean() else float("nan"),
        "prices": [price for solution in solutions for price in solution.found.prices],
        "shadow_prices": {name: price for solution in solutions for name, price in solution.found.shadow.items()},
        "excluded": len(units),
        "excluded_units": sorted(" / ".join(labels) for labels in units),
        "excluded_spend": float(outlook.today[left].sum()),
    }
    return Plan(cells=cells, weekly=_weekly(outlook, spend), totals=totals)


def _cells(
    outlook: Outlook,
    limits: Limits,
    spend: Float[np.ndarray, " cell"],
    step: Float[np.ndarray, " cell"],
    outcome: Float[np.ndarray, "cell level draw"],
    binding: Sequence[str],
) -> pa.Table:
    mean = outcome.mean(axis=-1)
    gain = statistics(outcome[:, 1] - outcome[:, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(outlook.today > 0, spend / outlook.today - 1, np.nan)
    columns: dict[str, Any] = {
        **_names(outlook),
        "spend_today": outlook.today,
        "spend_plan": spend,
        "change": change,
        "lowest": limits.low,
        "highest": limits.high,
        "outcome_today": mean[:, 0],
        "outcome_plan": mean[:, 1],
        **{f"gain_{name}": values for name, values in gain.items()},
        "marginal_roi_today": (mean[:, 2] - mean[:, 0]) / step,
        "marginal_roi_plan": (mean[:, 3] - mean[:, 1]) / step,
        "binding": np.where(outlook.certified, np.array(binding, object), "not certified"),
    }
    return pa.table(columns)


def _weekly(outlook: Outlook, spend: Float[np.ndarray, " cell"]) -> pa.Table:
    days: list[date] = []
    for place in outlook.unit:
        days += outlook.days(place).tolist()
    names = {name: np.repeat(np.array(values, object), outlook.weeks) for name, values in _names(outlook).items()}
    amounts = (outlook.pattern * spend[:, None]).reshape(-1)
    return pa.table({**names, "date": pa.array(days, pa.date32()), "spend": amounts})


def _names(outlook: Outlook) -> dict[str, list[str]]:
    fleet = outlook.fleet
    return {
        **{key: [fleet.units[place].labels[i] for place in outlook.unit] for i, key in enumerate(fleet.keys)},
        "status": [fleet.statuses[place] for place in outlook.unit],
        "channel": [fleet.channels[channel] for channel in outlook.channel],
    }


def _row(draws: Float[np.ndarray, " draw"]) -> dict[str, float]:
    return {name: float(value) for name, value in statistics(draws).items()}
