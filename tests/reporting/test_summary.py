"""The sentences on a run: every number in them is the table's."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.budgeting.plan import Plan
from mixfleet.config import Model
from mixfleet.data.panel import Panel
from mixfleet.reporting.numbers import amount, percent
from mixfleet.reporting.summary import Summary
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:bn|m|k)?(?: %)?"


def with_currency(plain: Panel, **settings: object) -> Panel:
    return replace(plain, data=replace(plain.data, **settings))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(
        tmp_path_factory.mktemp("runs"),
        Model(window=5),
        of=with_currency(panel(), currency="EUR"),
        draws=20,
    )


@pytest.fixture(scope="module")
def plan(run: Run) -> Plan:
    return run.budget(weeks=6)


@pytest.fixture(scope="module")
def said(run: Run, plan: Plan) -> Summary:
    return run.summary(plan)


def sentence(said: Summary, topic: str) -> str:
    return next(one.text for one in said.sentences if one.topic == topic)


def test_what_media_brought_is_that_of_the_tables(said: Summary, run: Run) -> None:
    own, parts = run.insight.media(by=()).iloc[0], run.insight.contributions(by=())
    *others, best = (row for _, row in parts[parts.kind == "channel"].sort_values("mean").iterrows())
    total = run.insight.contributions(by=()).query("kind == 'channel'")["mean"].sum()
    assert own["mean"] == pytest.approx(total)
    expected = [own["mean"], percent(own["share"]), "90 %", own["q05"], own["q95"], best["mean"]]
    expected += [best["q05"], best["q95"], *(row["mean"] for row in reversed(others))]
    assert re.findall(NUMBER, sentence(said, "brought")) == texts(expected)
    assert f"{best['component']} brought most" in sentence(said, "brought")


def test_returns_and_the_last_money_are_those_of_the_tables(said: Summary, run: Run) -> None:
    whole, last = run.insight.whole_roi(by=()).iloc[0], run.insight.whole_marginal_roi(by=()).iloc[0]
    rows = run.insight.marginal_roi(by=())
    weighed = (rows["mean"] * rows["spend"]).sum() / rows["spend"].sum()
    assert last["mean"] == pytest.approx(weighed)
    expected = [whole["mean"], "90 %", whole["q05"], whole["q95"], last["mean"], last["q05"], last["q95"], 1.0]
    text = sentence(said, "returns")
    assert re.findall(NUMBER, text) == texts(expected)
    assert ("more spend would pay too" in text) == (last["q05"] > 1)


def test_the_plan_is_that_of_its_tables(said: Summary, plan: Plan) -> None:
    totals, cells = plan.totals, plan.table()
    sums = cells[~cells.binding.isin(["not certified", "credit note"])].groupby("channel")
    spends = sums[["spend_today", "spend_plan"]].sum()
    change = spends.spend_plan / spends.spend_today - 1
    text = sentence(said, "next")
    for name, words in re.findall(r"(\w+) \(([-+]\d+) %\)", text):
        assert words == f"{100 * change[name]:+.0f}"
    gain, better = totals["gain"], totals["probability_better"]
    changes = (cells.spend_plan - cells.spend_today).groupby(cells.channel)
    between = changes.apply(lambda own: min(own.clip(lower=0).sum(), -own.clip(upper=0).sum())).sum()
    plain = re.sub(r"\w+ \([-+]\d+ %\)", "", text)
    expected = [
        "6",
        totals["spend_today"],
        between,
        gain["mean"],
        "90 %",
        gain["q05"],
        gain["q95"],
        "99 %" if better > 0.99 else percent(better),
    ]
    assert re.findall(NUMBER, plain) == texts([*expected, *totals["prices"]])


def test_what_to_test_is_least_certain_in_money(said: Summary, run: Run) -> None:
    rows = run.insight.roi(by=())
    rows = rows.assign(width=(rows.q95 - rows.q05) * rows.spend).sort_values("width")
    widest, text = rows.iloc[-1], sentence(said, "doubt")
    expected = [widest["q05"], widest["q95"], percent(widest["spend"] / rows["spend"].sum())]
    assert f"Run a lift test of {widest['channel']} first" in text
    assert re.findall(NUMBER, text[text.index("lift test of") :]) == texts(expected)
    assert "Do not use 3 units (bolt / FR, core / DE, core / FR), which no total holds" in text


def test_without_a_plan_the_next_money_is_that_of_the_margins(run: Run) -> None:
    rows = run.insight.marginal_roi(by=()).sort_values("mean")
    best, least = rows.iloc[-1], rows.iloc[0]
    text = sentence(run.summary(), "next")
    expected = [value for row in (best, least) for value in (row["mean"], row["q05"], row["q95"])]
    assert re.findall(NUMBER, text) == texts(expected)


def test_currency_and_period_are_said(said: Summary) -> None:
    for topic in ("returns", "next"):
        assert " EUR" in sentence(said, topic)
    assert (said.first, said.last) == ("2023-11-06", "2024-08-05")
    assert said.labels == {"brand": ("acme", "bolt", "core"), "market": ("DE", "FR")}
    assert said.health.counts["fail"] == 3
    assert said.verdict.startswith("Model health: fail")


def test_customers_are_no_money(tmp_path: Path) -> None:
    counted = replace(panel(), data=replace(panel().data, kpi="orders", kpi_type="count", revenue_per_kpi=None))
    found = saved_run(tmp_path, Model(window=5), of=counted, draws=20).summary()
    assert found.break_even is None
    assert "ROAS" not in str(found)
    assert "incremental orders" in sentence(found, "returns")


def test_the_next_command_plans_money_only_where_some_was_spent(run: Run, plan: Plan, tmp_path: Path) -> None:
    assert run.summary().command == f"mixfleet budget {run.place}"
    assert run.summary(plan).command == f"mixfleet report {run.place}"
    units = tuple(replace(unit, spend=np.full_like(unit.spend, np.nan)) for unit in panel().units)
    unpaid = saved_run(tmp_path, Model(window=5), of=replace(panel(), units=units), draws=20)
    assert unpaid.summary().command == f"mixfleet report {unpaid.place}"


def test_a_margin_moves_the_break_even(run: Run) -> None:
    found = run.summary(margin=0.4)
    assert found.break_even == 2.5
    assert "2.50" in sentence(found, "returns")


def texts(values: list) -> list[str]:
    return [value if isinstance(value, str) else amount(float(value)) for value in values]
