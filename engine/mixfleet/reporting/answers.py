"""What plans, forecasts and other pasts come to, in the reader's words: a sentence, and what follows from it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixfleet.analysis.breakdown import ALL_CHANNELS
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.errors import counted
from mixfleet.reporting.numbers import amount, money, percent, span

__all__ = [
    "Sentence",
    "Terms",
    "counterfactual_answer",
    "forecast_answer",
    "gained",
    "plan_answer",
    "planned_spend",
    "sensitivity_answer",
]

NAMELESS = {"kpi", "y", "target", "value"}
"""Names of a KPI column that say nothing of what it counts."""

KPI = "KPI"
"""What a KPI without a name is called."""

SMALL = 0.01
"""Change of a channel's spend that is not worth a word."""

SETTLED = 0.95
"""Probability from which on a plan is said to be better, rather than likely better."""

FAR = 0.5
"""Posterior standard deviations that another prior moves what a channel brings by, from which on it is worth a word."""

YEAR = 364
"""Days that last year's weeks lie back, so that they begin on the same weekday."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the reader calls the KPI, the money and the return."""

    kpi: str
    currency: str
    money: bool
    """Whether the KPI is money."""
    valued: bool
    """Whether it is, or the table says what money it is worth."""

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> "Terms":
        """From the settings of the table, as the run's manifest has them."""
        data = manifest["config"]["data"]
        earns = data["kpi_type"] == "revenue" and data["revenue_per_kpi"] is None
        named = data["kpi"] if data["kpi"].lower() not in NAMELESS else "revenue" if earns else KPI
        valued = earns or data["revenue_per_kpi"] is not None
        return Terms(kpi=named, currency=data.get("currency") or "", money=earns, valued=valued)

    @property
    def kpi_unit(self) -> str:
        """What an amount of the KPI is followed by: its currency where it is money, else its name."""
        if self.money:
            return self.currency or f"of {self.kpi}"
        return self.kpi if self.kpi != KPI else f"of the {self.kpi}"

    @property
    def ratio(self) -> str:
        """What the return on spend is called."""
        return "ROAS" if self.valued else f"incremental {self.kpi} per {self.currency or 'unit of spend'}"

    @property
    def one(self) -> str:
        """One piece of money."""
        return self.currency or "unit of money"

    def returned(self, value: float) -> str:
        """What one piece of money brought."""
        return money(value, self.currency) if self.valued else f"{amount(value)} incremental {self.kpi}"


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One answer."""

    topic: str
    """brought, returns, next or doubt."""
    text: str


def plan_answer(plan: Plan, terms: Terms) -> Iterator[Sentence]:
    """What a plan moves, what that brings, and what its last money returns."""
    totals, gain = plan.totals, plan.totals["gain"]
    cells = [row for row in plan.cells.to_pylist() if row["binding"] not in KEPT]
    if cells and all(np.isclose(row["lowest"], row["highest"], rtol=1e-9, atol=0.0) for row in cells):
        fixed = f"the limits let no spend move over the next {counted(totals['weeks'], 'week')}"
        yield Sentence(topic="next", text=f"There is nothing to plan: {fixed}.")
        return
    same = abs(totals["spend_plan"] - totals["spend_today"]) <= SMALL * max(totals["spend_today"], 1e-300)
    today, after = (money(totals[name], terms.currency) for name in ("spend_today", "spend_plan"))
    total = f"{today}, as today" if same else f"{after} instead of {today}"
    moves = " and ".join((*_furthest(plan), *_between_units(plan, terms)))
    where = f"with {moves}" if moves else "split nearly as today"
    chance, sure = _chance(totals["probability_better"])
    text = (
        f"Over the next {counted(totals['weeks'], 'week')} spend {total}, {where}: "
        f"that brings {amount(gain['mean'])} {gained(totals['maximise'], terms)} (90 %: "
        f"{span(gain['q05'], gain['q95'])}; chance to beat today's split {chance}{sure})."
    )
    prices = totals["prices"]
    # Where every spend is at a limit, none says what the last money returns.
    between = any(row["binding"] == "" for row in cells)
    if between and len(prices) == 1 and totals["maximise"] == "outcome" and np.isfinite(prices[0]):
        text += f" The plan's last {terms.one} returns {terms.returned(prices[0])}."
    yield Sentence(topic="next", text=text)


def _chance(better: float) -> tuple[str, str]:
    """How likely a plan is to be better, which draws never make certain, and a warning where that is not enough."""
    said = "over 99 %" if better > 0.99 else percent(better)
    return said, "" if better >= SETTLED else ", which is not certain"


def gained(maximise: str, terms: Terms) -> str:
    """What the plan's gain is an amount of."""
    if maximise == "profit":
        return f"{terms.currency} more profit".strip()
    if maximise == "outcome" and terms.valued:
        return f"{terms.currency} more" if terms.currency else "more revenue"
    return f"more {terms.kpi}"


def planned_spend(plan: Plan) -> dict[str, tuple[float, float]]:
    """Channel to its spend today and in the plan, of the cells that are planned."""
    found: dict[str, tuple[float, float]] = {}
    for row in plan.cells.to_pylist():
        if row["binding"] not in KEPT:
            before, after = found.get(row["channel"], (0.0, 0.0))
            found[row["channel"]] = (before + row["spend_today"], after + row["spend_plan"])
    return found


def _furthest(plan: Plan) -> Iterator[str]:
    """The two channels whose spend goes furthest up, and the two whose goes furthest down, with their changes."""
    sums = planned_spend(plan)
    ordered = sorted(sums, key=lambda name: sums[name][1] - sums[name][0])
    for word, names, sign in (("more on", ordered[:-3:-1], 1), ("less on", ordered[:2], -1)):
        said = []
        for name in names:
            before, after = sums[name]
            if sign * (after - before) > SMALL * before:
                said.append(f"{name} ({f'{100 * (after / before - 1):+.0f} %' if before else 'new'})")
        if said:
            yield f"{word} {' and '.join(said)}"


def _between_units(plan: Plan, terms: Terms) -> Iterator[str]:
    """What channels lose in some units and gain in others, which their sums do not show."""
    up, down = Counter[str](), Counter[str]()
    for row in plan.cells.to_pylist():
        change = row["spend_plan"] - row["spend_today"]
        (up if change > 0 else down)[row["channel"]] += abs(change)
    moved = sum(min(up[name], down[name]) for name in up)
    if moved > SMALL * plan.totals["spend_today"]:
        yield f"{money(moved, terms.currency)} moved between units"


def forecast_answer(
    fleet: Fleet, rows: Sequence[Mapping[str, Any]], days: Sequence[str], terms: Terms, *, planned: bool
) -> Iterator[Sentence]:
    """What the coming weeks bring, beside the same weeks of the year before.

    Args:
        fleet: Of the run.
        rows: Of `Insight.forecast` for the whole fleet and period.
        days: First and last of the coming weeks, as in 2026-01-05.
        terms: The reader's words.
        planned: Whether there is a plan of spend; nothing is spent without one.
    """
    parts = {row["component"]: row for row in rows}
    if "kpi" not in parts or not np.isfinite(parts["kpi"]["mean"]):
        return
    own = parts["kpi"]
    media = sum(row["mean"] for row in rows if row["kind"] == "channel")
    before, known = _year_before(fleet, days)
    there = before > 0 and known == own["units"]
    year = f", {100 * (own['mean'] / before - 1):+.0f} % against the same weeks a year before" if there else ""
    text = (
        f"From {days[0]} to {days[1]} expect {amount(own['mean'])} {terms.kpi_unit} (90 %: "
        f"{span(own['q05'], own['q95'])}){year}; media bring {percent(media / own['mean'])} of it"
        f"{'' if planned else ', by what past media still bring: no spend was given for these weeks'}."
    )
    yield Sentence(topic="next", text=text)
    doubts = [
        f"{own['excluded']} of {own['units'] + own['excluded']} units are left out, as their numbers cannot be used"
        if own["excluded"]
        else "",
        f"taken to spend nothing, as the plan has no row of it: {own['unplanned']}" if own["unplanned"] else "",
        f"held at their mean, as nobody said what they will be: {own['held']}" if own["held"] else "",
        f"far outside what the fit has seen: {own['beyond']}" if own["beyond"] else "",
    ]
    said = "; ".join(doubt for doubt in doubts if doubt)
    if said:
        yield Sentence(topic="doubt", text=f"{said[0].upper()}{said[1:]}.")


def counterfactual_answer(rows: Sequence[Mapping[str, Any]], terms: Terms) -> Iterator[Sentence]:
    """What other spend would have changed.

    Args:
        rows: Of `Insight.counterfactual` for the whole fleet and period.
        terms: The reader's words.
    """
    measure = "value" if terms.valued else "kpi"
    own = next((row for row in rows if row["channel"] == ALL_CHANNELS and row["measure"] == measure), None)
    if own is None or not np.isfinite(own["mean"]):
        return
    spend = own["spend_plan"] - own["spend_actual"]
    more = "more" if own["mean"] >= 0 else "less"
    low, high = sorted((abs(own["q05"]), abs(own["q95"]))) if own["q05"] * own["q95"] > 0 else (own["q05"], own["q95"])
    unit = (terms.currency or "of revenue") if terms.valued else terms.kpi
    sign = "more" if spend >= 0 else "less"
    text = (
        f"With {money(abs(spend), terms.currency)} {sign} spent than was, media would have brought "
        f"{amount(abs(own['mean']))} {unit} {more} (90 %: {span(low, high)})."
    )
    yield Sentence(topic="next", text=text)
    if own["excluded"]:
        yield Sentence(
            topic="doubt", text=f"Left out, as their numbers cannot be used: {counted(own['excluded'], 'unit')}."
        )


def sensitivity_answer(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Iterator[Sentence]:
    """How much of what channels bring hangs on the priors, one sentence per alternative.

    Args:
        rows: Of `Insight.sensitivity`.
        keys: Names of the columns that name a unit.
    """
    untold = fitted = False
    for name in dict.fromkeys(row["alternative"] for row in rows):
        own = [row for row in rows if row["alternative"] == name]
        units = {tuple(row[key] for key in keys) for row in own}
        told = [row for row in own if row["reliable"]]
        reached = {tuple(row[key] for key in keys) for row in told}
        untold |= len(told) < len(own)
        anew = {tuple(row[key] for key in keys) for row in told if row["basis"] == "refitted"}
        fitted |= bool(anew)
        text = f"{name}: told of {len(reached)} of {counted(len(units), 'unit')}"
        text += f", {len(anew)} of them by another fit" if anew else ""
        if told:
            far = sum(abs(row["shift"]) > FAR for row in told)
            most = max(told, key=lambda row: abs(row["shift"]))
            text += (
                f"; {far} of {counted(len(told), 'channel')} would bring something else by more than {FAR:g} posterior "
                f"standard deviations, the most {' / '.join(most[key] for key in keys)}, {most['channel']}: "
                f"{most['shift']:+.1f} ({100 * (most['ratio'] - 1):+.0f} %)"
            )
        yield Sentence(topic="next", text=f"{text}.")
    if untold:
        yield Sentence(
            topic="doubt",
            text="What is not told of failed a gate under those priors: nothing can be said of it there."
            if fitted
            else "Where the draws do not reach what other priors lead to, only another fit can tell: ask with --refit "
            "(in Python mixfleet.sensitivity).",
        )


def _year_before(fleet: Fleet, days: Sequence[str]) -> tuple[float, int]:
    """KPI of the units in totals over the same weeks a year before, and how many units have all of them."""
    found, known = 0.0, 0
    first, last = (np.datetime64(day, "D") - YEAR for day in days)
    for unit, ok in zip(fleet.units, fleet.included, strict=True):
        inside = (unit.dates >= first) & (unit.dates <= last)
        whole = unit.dates[0] <= first and last <= unit.dates[-1]
        if ok and inside.any() and np.all(np.isfinite(unit.kpi[inside])) and whole:
            found, known = found + float(unit.kpi[inside].sum()), known + 1
    return found, known
