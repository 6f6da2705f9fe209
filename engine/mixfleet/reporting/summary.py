"""A run in four sentences, with the verdict on its models: what a page, a terminal and a notebook show first.

Every number in a sentence is one of the tables of `Insight` or of the plan, as it is printed elsewhere.
"""

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import Plan
from mixfleet.errors import counted
from mixfleet.reporting.answers import Sentence, Terms, plan_answer
from mixfleet.reporting.health import FAIL, REVIEW, Health, judge
from mixfleet.reporting.highlights import KINDS, Highlight, highlights
from mixfleet.reporting.numbers import Wording, amount, listing, percent, span

__all__ = ["Summary", "evidence", "summarise"]

NAMED = 4
"""Channels after the first of which it is said what they brought."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a reader sees first of a run."""

    labels: Mapping[str, tuple[str, ...]]
    """Key column to the labels in it."""
    first: str
    last: str
    """First and last day of the data."""
    made: str
    """Day on which the run was finished."""
    terms: Terms
    break_even: float | None
    """The return on spend at which money comes back, where it is one number."""
    sentences: tuple[Sentence, ...]
    remarks: tuple[Highlight, ...]
    """What deserves attention, worst first."""
    health: Health
    step: str
    """day or week: what lies between two rows of the data."""
    command: str
    """What to do next."""

    def __str__(self) -> str:
        """The sentences and the verdict, a line each."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """What a terminal prints."""
        return [*(sentence.text for sentence in self.sentences), self.verdict]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        about = f"{self.subjects}. Data from {self.first} to {self.last}."
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.lines())
        return f"<p>{html.escape(about)}</p><ul>{lines}</ul>"

    def __repr__(self) -> str:
        """The verdict in a line."""
        return f"<mixfleet summary: {self.verdict}>"

    @property
    def verdict(self) -> str:
        """The fleet's health in a sentence."""
        counts = ", ".join(f"{number} {verdict}" for verdict, number in self.health.counts.items() if number)
        reasons = "; ".join(self.health.reasons)
        return f"Model health: {self.health.verdict} ({counts or 'no unit'})" + (f". {reasons}." if reasons else ".")

    @property
    def subjects(self) -> str:
        """Whom the run is about."""
        return "; ".join(f"{key}: {listing(labels, 6)}" for key, labels in self.labels.items())


def evidence(insight: Insight, tables: Callable[[str], pa.Table]) -> dict[str, Rows]:
    """Rows of the tables that `highlights` reads, by its arguments' names; the insight's frame must be pyarrow."""
    return {
        "status": tables("status").to_pylist(),
        "fit": insight.fit().to_pylist(),
        "overlap": insight.overlap().to_pylist(),
        "movement": insight.movement().to_pylist(),
        "checks": insight.checks().to_pylist(),
        "experiments": insight.experiments().to_pylist() if insight.tested else [],
    }


def summarise(
    insight: Insight, found: Mapping[str, Rows], manifest: Mapping[str, Any], plan: Plan | None, place: str
) -> Summary:
    """The sentences on a run.

    Args:
        insight: Of the run; its frame must be pyarrow.
        found: Its `evidence`.
        manifest: The run's manifest.
        plan: The budget plan that the third sentence is about; without one it is about the next unit of money.
        place: The run's folder, as the next command names it.
    """
    fleet, keys = insight.fleet, insight.fleet.keys
    terms = Terms.of(manifest)
    units = [tuple(row[key] for key in keys) for row in found["status"]]
    say = Wording.of(fleet)
    remarks = highlights(**found, keys=keys)  # pyright: ignore[reportArgumentType]
    remarks = [replace(one, text=say(one.text)) for one in remarks]
    health = judge(units, remarks, loosened=say.each(manifest.get("loosened", ())))
    days = [unit.dates[unit.observed] for unit in fleet.units if unit.observed.any()]
    sentences = [
        *_brought(insight, terms),
        *_returns(insight, terms),
        *(_marginal(insight, terms) if plan is None else plan_answer(plan, terms)),
        _doubt(insight, terms, health),
    ]
    # Where nothing was spent, there is no money to plan.
    spent = any(sentence.topic == "returns" for sentence in sentences)
    return Summary(
        labels={key: tuple(dict.fromkeys(unit[i] for unit in units)) for i, key in enumerate(keys)},
        first=str(min(own[0] for own in days))[:10] if days else "",
        last=str(max(own[-1] for own in days))[:10] if days else "",
        made=str(manifest["timings"].get("finished", ""))[:10],
        terms=terms,
        break_even=_break_even(insight, terms),
        sentences=tuple(replace(one, text=say(one.text)) for one in sentences),
        remarks=tuple(remarks),
        health=health,
        step="day" if fleet.spec.data.frequency == "daily" else "week",
        command=f"mixfleet {'budget' if plan is None and spent else 'report'} {place}",
    )


def _break_even(insight: Insight, terms: Terms) -> float | None:
    margin = insight.economics.margin
    if margin is not None:
        numbers = set(margin.values() if isinstance(margin, Mapping) else (margin,))
        return 1 / numbers.pop() if len(numbers) == 1 else None
    return 1.0 if terms.valued else None


def _brought(insight: Insight, terms: Terms) -> Iterator[Sentence]:
    rows = [row for row in insight.media(by=()).to_pylist() if np.isfinite(row["mean"])]
    if not rows:
        return
    own = rows[0]
    text = (
        f"Media brought {amount(own['mean'])} {terms.kpi_unit}, {percent(own['share'])} of all {terms.kpi}; with 90 % "
        f"confidence it was {span(own['q05'], own['q95'])}."
    )
    channels = [row for row in insight.contributions(by=()).to_pylist() if row["kind"] == "channel"]
    if len(channels) > 1:
        best, *others = sorted(channels, key=lambda row: -row["mean"])
        then = [f"{row['component']} {amount(row['mean'])}" for row in others]
        several = f"{', '.join(then[:-1])} and {then[-1]}" if 1 < len(then) <= NAMED else listing(then, NAMED)
        most = f"{amount(best['mean'])} ({span(best['q05'], best['q95'])})"
        text += f" {best['component']} brought most, {most}, then {several}."
    yield Sentence(topic="brought", text=text)


def _returns(insight: Insight, terms: Terms) -> Iterator[Sentence]:
    whole, marginal = insight.whole_roi(by=()).to_pylist(), insight.whole_marginal_roi(by=()).to_pylist()
    if not whole or not np.isfinite(whole[0]["mean"]):
        return
    own, last = whole[0], marginal[0]
    name = "ROAS, " if terms.valued else ""
    text = (
        f"Each {terms.one} spent on media returned {terms.returned(own['mean'])} ({name}90 %: "
        f"{span(own['q05'], own['q95'])}), and the last one {terms.returned(last['mean'])} "
        f"({span(last['q05'], last['q95'])})"
    )
    even = _break_even(insight, terms)
    yield Sentence(topic="returns", text=f"{text}{_verdict(last, even)}.{_before_costs(insight, even)}")


def _verdict(last: Mapping[str, Any], even: float | None) -> str:
    if even is None:
        return ""
    if last["q05"] > even:
        return f": more than the {amount(even)} at which it pays for itself, so more spend would pay too"
    if last["q95"] < even:
        return f": less than the {amount(even)} at which it pays for itself, so part of the spend loses money"
    return f": it pays for itself at {amount(even)}, which is within the interval, so more spend may or may not pay"


def _before_costs(insight: Insight, even: float | None) -> str:
    """That a return of one is no profit yet, where nobody said what a sale earns."""
    if even is None or insight.economics.margin is not None:
        return ""
    return " This is revenue before the cost of what was sold: say the margin to see profit."


def _marginal(insight: Insight, terms: Terms) -> Iterator[Sentence]:
    rows = [row for row in insight.marginal_roi(by=()).to_pylist() if np.isfinite(row["mean"])]
    if not rows:
        return
    best, least = (choose(rows, key=lambda row: row["mean"]) for choose in (max, min))
    text = (
        f"The next {terms.one} brings most in {best['channel']}: {terms.returned(best['mean'])} "
        f"({span(best['q05'], best['q95'])})"
    )
    if len(rows) > 1:
        text += (
            f", and least in {least['channel']}: {terms.returned(least['mean'])} ({span(least['q05'], least['q95'])})"
        )
    yield Sentence(topic="next", text=f"{text}.")


def _doubt(insight: Insight, terms: Terms, health: Health) -> Sentence:
    found = []
    failed = [" / ".join(unit) for unit, verdict in health.units.items() if verdict == FAIL]
    if failed:
        found.append(f"Do not use {counted(len(failed), 'unit')} ({listing(failed, 3)}), which no total holds.")
    for group in health.groups:
        names = [" / ".join(unit) for unit in group.units_of(health.units, REVIEW)]
        if KINDS[group.kind].severity == "doubt" and names:
            such = f", such as {names[0]}" if len(names) > 1 else f" ({names[0]})"
            found.append(f"Use {counted(len(names), 'unit')} with care{such}: {KINDS[group.kind].title}.")
            break
    found.append(_test_first(insight, terms))
    return Sentence(topic="doubt", text=" ".join(part for part in found if part) or "No check found a doubt.")


def _test_first(insight: Insight, terms: Terms) -> str:
    """The channel whose value is least certain, in money: half the width of its interval times its spend."""
    rows = [row for row in insight.roi(by=()).to_pylist() if np.isfinite(row["mean"])]
    if not rows:
        return ""
    widest = max(rows, key=lambda row: (row["q95"] - row["q05"]) * row["spend"])
    whole = sum(row["spend"] for row in rows)
    return (
        f"Run a lift test of {widest['channel']} first: its {terms.ratio} may be anything from "
        f"{span(widest['q05'], widest['q95'])}, and it has {percent(widest['spend'] / whole)} of the spend."
    )
