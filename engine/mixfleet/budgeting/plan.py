"""Plan: what to spend on every channel of every unit, beside today's spend, and what it is expected to change."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.budgeting.bounds import Limits
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.budgeting.solvers.lagrangian import Allocation
from mixfleet.data.formats.parquet_file import read_parquet
from mixfleet.data.frames import FrameKind, to_frame
from mixfleet.errors import ConfigError, RunError, counted
from mixfleet.posterior.statistics import statistics
from mixfleet.storage.output_folder import read_output
from mixfleet.storage.table_files import write_tables

__all__ = ["KEPT", "Decision", "Plan", "make_plan"]

EXTRA = ("frontier", "experiments")
"""Tables that a plan may hold besides."""

STEP = 1e-4
"""Of a cell's greatest spend: how far the margin is looked at."""


KEPT = ("not certified", "credit note")
"""What is binding on cells that are not planned and have no outcome."""

NAMED = 10
"""Units or cells that one note names; the others are counted."""


class Decision(NamedTuple):
    """What a plan spends, and how it was found."""

    spend: Float[np.ndarray, " cell"]
    weekly: Float[np.ndarray, "cell week"]
    binding: Sequence[str]
    """What keeps each cell where it is; empty where nothing does and its margin is the price."""
    found: Sequence[Allocation]
    """Of the planned cells, by pool."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A budget plan. Outcomes are beyond those of spending nothing, carry-over after the last week included."""

    cells: pa.Table
    """One row per unit and paid channel: keys, status, channel, spend today and in the plan, limits, outcomes, gain,
    marginal ROI, and what is binding. A unit that is not certified keeps its spend and has no outcome, and so does a
    channel whose credit notes outweigh its spend; a unit that is closed is not there."""
    weekly: pa.Table
    """One row per unit, channel and coming week: keys, status, channel, date, spend and today's spend continued, in the
    unit's currency."""
    totals: dict[str, Any]
    """Of all planned cells together: see `make_plan`."""
    extra: Mapping[str, pa.Table] = field(default_factory=dict)
    """Tables that were asked for besides: see `EXTRA`."""
    remarks: tuple[str, ...] = ()
    """What else is to be said beside it: see `mixfleet.budgeting.plan_money.money_notes`."""
    frame: FrameKind = "pandas"

    def __repr__(self) -> str:
        """Spend, gain and how sure it is."""
        gain, spends = self.totals["gain"], (self.totals["spend_today"], self.totals["spend_plan"])
        return (
            f"<mixfleet plan: spend {spends[0]:,.0f} -> {spends[1]:,.0f}, gain {gain['mean']:,.0f} "
            f"({gain['q05']:,.0f} to {gain['q95']:,.0f}), "
            f"better than today's in {self.totals['probability_better']:.0%} of the draws>"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the totals, and today's spend beside the plan's by channel."""
        sums: dict[str, list[float]] = {}
        for row in self.cells.select(["channel", "binding", "spend_today", "spend_plan", "gain_mean"]).to_pylist():
            if row["binding"] not in KEPT:
                own = sums.setdefault(row["channel"], [0.0, 0.0, 0.0])
                for i, name in enumerate(("spend_today", "spend_plan", "gain_mean")):
                    own[i] += row[name]
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{value:,.0f}</td>" for value in values) + "</tr>"
            for name, values in sums.items()
        )
        head = "<tr><th>channel</th><th>today</th><th>plan</th><th>gain</th></tr>"
        return f"<p>{html.escape(repr(self)[1:-1])}</p><table>{head}{rows}</table>"

    @property
    def gain_words(self) -> str:
        """What its gains are of."""
        return "profit gain" if self.totals["maximise"] == "profit" else "gain"

    @property
    def notes(self) -> list[str]:
        """Sentences about what is left out of the plan, or rests on less than it should, with names."""
        closed = [f"{name} (to {day})" for name, day in self.totals.get("closed_units", {}).items()]
        few = [f"{name} ({count})" for name, count in self.totals.get("estimated_units", {}).items()]
        credited, apart = (self.totals.get(name, ()) for name in ("credited_cells", "cells_paid_apart"))
        told = (
            ("not planned, as their data end long before those of the other units", closed),
            (f"fewer than {counted(self.totals['weeks'], 'week')} known, so today's spend is the mean of those", few),
            ("kept as they are, as credit notes outweigh what was spent", credited),
            ("billed in other weeks than they ran in, so today's spend is what ran at the usual price", apart),
        )
        return [*(f"{text}: {_names(names)}" for text, names in told if names), *self.remarks]

    def save(self, folder: Path) -> list[Path]:
        """Write the plan as Parquet, to be read again, and as CSV, to be looked at.

        Raises:
            RunError: It cannot be written; a plan that was there before is unchanged.
        """
        tables = {"plan": self.cells, "plan_by_week": self.weekly, **self.extra}
        totals = json.dumps(self.totals, indent=1).encode()
        return write_tables(tables, folder, "parquet", "csv", name="plan", more={"plan.json": totals})

    @staticmethod
    def read(folder: Path) -> "Plan":
        """The plan that `save` wrote.

        Raises:
            RunError: There is none, it cannot be read, or its files do not belong together.
        """
        files = read_output(folder, "plan", "repeat mixfleet budget")
        try:
            tables = {name: read_parquet(data) for name, data in files.items() if name.endswith(".parquet")}
            extra = {name: tables[f"{name}.parquet"] for name in EXTRA if f"{name}.parquet" in tables}
            totals = json.loads(files["plan.json"])
            cells, weekly = tables["plan.parquet"], tables["plan_by_week.parquet"]
            return Plan(cells=cells, weekly=weekly, totals=totals, extra=extra)
        except (OSError, LookupError, ValueError, pa.ArrowException) as error:
            raise RunError(f"{folder} holds no plan that can be read: {error}; repeat mixfleet budget") from error

    def table(self) -> Any:
        """The cells as a frame."""
        return to_frame(self.cells, self.frame)

    def by_week(self) -> Any:
        """The weekly spends as a frame."""
        return to_frame(self.weekly, self.frame)

    def frontier(self) -> Any:
        """The best plans of other totals as a frame; see `mixfleet.budgeting.frontier.efficient_frontier`.

        Raises:
            ConfigError: It was not asked for.
        """
        return self._asked("frontier", "frontier=True")

    def experiments(self) -> Any:
        """What experiments are worth to the plan, as a frame.

        See `mixfleet.budgeting.value_of_information.experiment_values`.

        Raises:
            ConfigError: They were not asked for.
        """
        return self._asked("experiments", "experiment_error=0.2")

    def _asked(self, name: str, request: str) -> Any:
        if name not in self.extra:
            raise ConfigError(f"was not asked for: plan with {request}", key=f"budget.{name}")
        return to_frame(self.extra[name], self.frame)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def make_plan(spend_outcome: SpendOutcome, limits: Limits, decision: Decision, said: Mapping[str, str]) -> Plan:
    """Weighs a decision against today's plan on all draws.

    The totals hold what was `said` - `aim`, `maximise` and `flighting` -, `spend_today`, `spend_plan`; statistics of
    `outcome_today`, `outcome_plan` and `gain`; `probability_better`; `gap`, what any other plan could add to the aim at
    most, in all and as a share of the expected outcome; `prices`, the marginal ROI at which money was handed out, by
    pool; `shadow_prices`, what one more unit of money would bring where a constraint over several cells binds, by
    constraint; the units left out as they are not certified; `closed_units` with their last days, `estimated_units`
    with the weeks that are known of them where these are fewer than planned, `credited_cells` and `cells_paid_apart`.
    Where profit is maximised, outcomes are margins before media are paid, gains are of profit, and the cells' column
    `margin` holds what a KPI of the unit earns.
    """
    spend, fleet = decision.spend, spend_outcome.fleet
    step = np.maximum(np.maximum(limits.high, spend_outcome.today) * STEP, 1e-9)
    outcome = _outcomes(spend_outcome, decision, step)
    cost = spend - spend_outcome.today if said["maximise"] == "profit" else np.zeros(len(spend))
    cells = _cells(spend_outcome, limits, decision, step, outcome, cost)
    if said["maximise"] == "profit":
        margin = (spend_outcome.worth / spend_outcome.rate)[spend_outcome.unit]
        cells = cells.append_column("margin", pa.array(margin))
    planned = spend_outcome.certified
    today, after = (outcome[planned, i].sum(axis=0) for i in range(2))
    gain = after - today - float(cost[planned].sum())
    gap = sum(found.gap for found in decision.found)
    left_out = ~fleet.included[spend_outcome.unit]
    units = {fleet.units[place].labels for place in spend_outcome.unit[left_out]} | set(fleet.missing)
    totals = {
        **said,
        "weeks": spend_outcome.weeks,
        "units": len({int(place) for place in spend_outcome.unit[planned]}),
        "cells": int(planned.sum()),
        "spend_today": float(spend_outcome.today[planned].sum()),
        "spend_plan": float(spend[planned].sum()),
        "outcome_today": _row(today),
        "outcome_plan": _row(after),
        "gain": _row(gain),
        "probability_better": float(np.mean(gain > 0)),
        "gap": float(gap),
        "gap_share": float(gap / abs(after.mean())) if after.mean() else float("nan"),
        "prices": [price for found in decision.found for price in found.prices],
        "shadow_prices": {name: price for found in decision.found for name, price in found.shadow.items()},
        "included_statuses": fleet.included_statuses,
        "excluded": len(units),
        "excluded_units": sorted(" / ".join(labels) for labels in units),
        "excluded_spend": float(spend_outcome.today[left_out].sum()),
        "closed_units": spend_outcome.closed,
        "estimated_units": spend_outcome.estimated,
        "credited_cells": spend_outcome.named(spend_outcome.credited),
        "cells_paid_apart": spend_outcome.named(spend_outcome.apart),
    }
    return Plan(cells=cells, weekly=_weekly(spend_outcome, decision), totals=totals)


def _outcomes(
    spend_outcome: SpendOutcome, decision: Decision, step: Float[np.ndarray, " cell"]
) -> Float[np.ndarray, "cell level draw"]:
    """Of today's spend and the plan's, and of both with a step more."""
    more = step / np.where(decision.spend > 0, decision.spend, 1.0)
    follows = np.where(
        (decision.spend > 0)[:, None], decision.weekly * more[:, None], spend_outcome.pattern * step[:, None]
    )
    today = spend_outcome.pattern * spend_outcome.today[:, None]
    weekly = np.stack(
        [today, decision.weekly, today + spend_outcome.pattern * step[:, None], decision.weekly + follows], axis=1
    )
    return spend_outcome.outcome(weekly.sum(axis=-1), spend_outcome.fleet.draws, weekly)


def _cells(
    spend_outcome: SpendOutcome,
    limits: Limits,
    decision: Decision,
    step: Float[np.ndarray, " cell"],
    outcome: Float[np.ndarray, "cell level draw"],
    cost: Float[np.ndarray, " cell"],
) -> pa.Table:
    mean, spend, rate = outcome.mean(axis=-1), decision.spend, spend_outcome.rate[spend_outcome.unit]
    gain = statistics(outcome[:, 1] - outcome[:, 0] - cost[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.where(spend_outcome.today > 0, spend / spend_outcome.today - 1, np.nan)
    own = {"rate": rate, "spend_today_own": spend_outcome.today / rate, "spend_plan_own": spend / rate}
    columns: dict[str, Any] = {
        **spend_outcome.names(),
        "spend_today": spend_outcome.today,
        "spend_plan": spend,
        "change": change,
        "lowest": limits.low,
        "highest": limits.high,
        "outcome_today": mean[:, 0],
        "outcome_plan": mean[:, 1],
        **{f"gain_{name}": values for name, values in gain.items()},
        "marginal_roi_today": (mean[:, 2] - mean[:, 0]) / step,
        "marginal_roi_plan": (mean[:, 3] - mean[:, 1]) / step,
        "binding": _binding(spend_outcome, decision),
        **(own if spend_outcome.converted else {}),
    }
    return pa.table(columns)


def _binding(spend_outcome: SpendOutcome, decision: Decision) -> np.ndarray:
    uncertified, credited = KEPT
    kept = np.where(spend_outcome.fleet.included[spend_outcome.unit], credited, uncertified)
    return np.where(spend_outcome.certified, np.array(decision.binding, object), kept)


def _weekly(spend_outcome: SpendOutcome, decision: Decision) -> pa.Table:
    days: list[date] = []
    for place in spend_outcome.unit:
        days += spend_outcome.days(place).tolist()
    names = {
        name: np.repeat(np.array(values, object), spend_outcome.weeks) for name, values in spend_outcome.names().items()
    }
    rate = spend_outcome.rate[spend_outcome.unit][:, None]
    own, today = (
        (weekly / rate).reshape(-1)
        for weekly in (decision.weekly, spend_outcome.pattern * spend_outcome.today[:, None])
    )
    converted = {"spend_converted": decision.weekly.reshape(-1)} if spend_outcome.converted else {}
    return pa.table({**names, "date": pa.array(days, pa.date32()), "spend": own, **converted, "spend_today": today})


def _row(draws: Float[np.ndarray, " draw"]) -> dict[str, float]:
    return {name: float(value) for name, value in statistics(draws).items()}
