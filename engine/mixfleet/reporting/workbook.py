"""The first sheets of a workbook: what it is about, and the answer in sentences, before the data."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mixfleet.analysis.finance import finance
from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import Plan
from mixfleet.reporting.glossary import GLOSSARY, STATUS_WORDS
from mixfleet.reporting.highlights import KINDS
from mixfleet.reporting.summary import Summary

__all__ = ["front_sheets", "plan_tables"]

TOPICS = {
    "brought": "What media brought",
    "returns": "What the money returned",
    "next": "Where the next money goes",
    "doubt": "What to test or doubt",
}
SHEETS = {
    "summary": "the answer in sentences, the verdict on the models, and what to do about each doubt",
    "finance": "the plan beside today's spend continued and last year: spend, KPI and profit, in lines that add up",
    "plan": "spend today and planned by unit and channel, its gain, and what binds it",
    "roi": "return on spend by unit and channel",
    "status": "each unit, whether it can be used, and why not",
    "returns ...": "return, return at the margin and cost per KPI; by key column, in total, by quarter",
    "contributions ...": "KPI by channel and by part of the baseline",
    "curves": "KPI a week by steady weekly spend",
}
"""Sheets that a reader looks for, and what they hold."""


def front_sheets(said: Summary, manifest: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Cover and summary by name."""
    cover = [
        *((key, ", ".join(labels)) for key, labels in said.labels.items()),
        ("data from", said.first),
        ("data to", said.last),
        ("fitted on", said.made),
        ("run", manifest["run_id"]),
        ("KPI", said.terms.kpi),
        ("currency", said.terms.currency or "not said (data.currency)"),
        ("models", said.health.verdict),
        *((f"sheet {name}", words) for name, words in SHEETS.items()),
        *((f"status {name}", words) for name, words in STATUS_WORDS.items()),
        *GLOSSARY.items(),
    ]
    rows = [
        *((TOPICS[one.topic], one.text) for one in said.sentences),
        ("Models", said.verdict),
        *(
            (f"{KINDS[group.kind].severity}, {group.units} of {len(said.health.units)} units", _remedy(group.kind))
            for group in said.health.groups
        ),
    ]
    return {"cover": _two_columns(("about", "words"), cover), "summary": _two_columns(("about", "answer"), rows)}


def plan_tables(plan: Plan, insight: Insight) -> dict[str, pa.Table]:
    """Tables of a plan by name; those that it may hold besides have names of their own beside the run's."""
    keys = insight.fleet.keys
    groups = {"finance": (), **{f"finance_by_{key}": (key,) for key in keys if len(keys) > 1}}
    # A plan of an earlier version does not hold today's weeks.
    told = "spend_today" in plan.weekly.column_names
    sheets = {name: finance(plan.cells, plan.weekly, insight, by) for name, by in groups.items() if told}
    extra = {f"plan_{name}": table for name, table in plan.extra.items()}
    notes = {"plan_notes": pa.table({"note": plan.notes})} if plan.notes else {}
    return {"plan": plan.cells, **sheets, "plan_by_week": plan.weekly, **extra, **notes}


def _remedy(kind: str) -> str:
    return f"{KINDS[kind].title}. What to do: {KINDS[kind].step}.".replace("`", "")


def _two_columns(names: tuple[str, str], rows: list[tuple[str, str]]) -> pa.Table:
    return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})
