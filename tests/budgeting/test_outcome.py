"""Today's spend of units that are closed, young, full of holes, or whose media were credited."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.budgeting.outcome import outcome_of_spend
from mixfleet.config import Model
from mixfleet.data.panel import Unit
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

CHANGED, OTHER = ("acme", "DE"), ("bolt", "DE")
TV, SEARCH = 0, 1


def run_with(root: Path, change: Callable[[Unit], Unit], weeks: int = 40) -> Run:
    """A run of which one unit is changed."""
    made = panel(weeks=weeks)
    units = tuple(change(unit) if unit.labels == CHANGED else unit for unit in made.units)
    return saved_run(root, Model(window=5), draws=20, of=replace(made, units=units))


def own(run: Run, labels: tuple[str, ...], **request: object) -> tuple[dict[str, float], dict[str, float]]:
    """Spend of today and of the plan by channel."""
    table = run.budget(**request).table()
    table = table[(table.brand == labels[0]) & (table.market == labels[1])].set_index("channel")
    return table.spend_today.to_dict(), table.spend_plan.to_dict()


def with_spend(unit: Unit, channel: int, weeks: slice, money: float) -> Unit:
    spend, media = unit.spend.copy(), unit.media.copy()
    spend[weeks, channel] = money
    media[weeks, channel] = max(money, 0.0)
    return replace(unit, spend=spend, media=media)


def test_a_closed_unit_is_named_and_its_money_is_not_todays(tmp_path: Path) -> None:
    run = run_with(tmp_path, lambda unit: replace(unit, dates=unit.dates - 7 * 60))
    plan = run.budget(weeks=8)
    last = max(unit.dates[-1] for unit in run.fleet().units)
    assert (plan.by_week().date > last.astype(object)).all()
    assert CHANGED not in set(zip(plan.table().brand, plan.table().market, strict=True))
    [closed] = [unit for unit in run.fleet().units if unit.labels == CHANGED]
    assert plan.totals["closed_units"] == {"acme / DE": str(closed.dates[-1])}
    assert any("acme / DE" in note for note in plan.notes)
    alive = [unit for unit in run.fleet().units if unit.labels in (OTHER, ("acme", "FR"))]
    money = sum(np.nansum(unit.spend[-8:]) for unit in alive)
    assert plan.totals["spend_today"] == pytest.approx(money)


def test_a_plan_that_is_longer_than_the_history_goes_on_at_its_mean(tmp_path: Path) -> None:
    short = slice(-12, None)

    def young(unit: Unit) -> Unit:
        names = ("dates", "kpi", "observed", "media", "spend", "controls", "value_per_kpi")
        return replace(unit, **{name: getattr(unit, name)[short] for name in names})

    run = run_with(tmp_path, young)
    plan = run.budget(weeks=30)
    today, _ = own(run, CHANGED, weeks=30)
    unit = next(unit for unit in run.fleet().units if unit.labels == CHANGED)
    assert today["search"] == pytest.approx(30 * unit.spend[:, SEARCH].mean())
    weekly = plan.by_week()
    weekly = weekly[(weekly.brand == "acme") & (weekly.market == "DE") & (weekly.channel == "search")].spend
    assert weekly.iloc[:18].nunique() == 1
    assert weekly.iloc[0] > 0
    # The other one has a hole.
    assert plan.totals["estimated_units"] == {"acme / DE": 12, "acme / FR": 29}
    assert any("acme / DE (12)" in note for note in plan.notes)


def test_weeks_that_the_table_does_not_hold_are_not_weeks_without_spend(tmp_path: Path) -> None:
    def holes(unit: Unit) -> Unit:
        observed = unit.observed.copy()
        observed[[-5, -4]] = False
        there = observed[:, None]
        spend, media = (np.where(there, values, 0.0) for values in (unit.spend, unit.media))
        kpi, value = np.where(observed, unit.kpi, np.nan), np.where(observed, unit.value_per_kpi, 0.0)
        return replace(unit, observed=observed, spend=spend, media=media, kpi=kpi, value_per_kpi=value)

    run = run_with(tmp_path, holes)
    today, _ = own(run, CHANGED, weeks=8)
    unit = next(unit for unit in run.fleet().units if unit.labels == CHANGED)
    assert today["search"] == pytest.approx(8 * unit.spend[-8:, SEARCH][unit.observed[-8:]].mean())


@pytest.mark.parametrize("weeks", [slice(-1, None), slice(0, None)], ids=["one", "all"])
def test_credit_notes_stop_no_plan(tmp_path: Path, weeks: slice) -> None:
    def credited(unit: Unit) -> Unit:
        unit = with_spend(unit, SEARCH, weeks, -1e6)
        return with_spend(unit, SEARCH, slice(-3, -2), 70.0)

    run = run_with(tmp_path, credited)
    today, plan = own(run, CHANGED, weeks=8)
    whole = run.budget(weeks=8)
    unit = next(unit for unit in run.fleet().units if unit.labels == CHANGED)
    assert plan["search"] == today["search"] == pytest.approx(np.maximum(unit.spend[-8:, SEARCH], 0.0).sum())
    assert whole.totals["credited_cells"] == ["search of acme / DE"]
    assert any("search of acme / DE" in note for note in whole.notes)
    assert "acme / DE" not in whole.totals["excluded_units"]
    table = whole.table()
    assert table[table.binding == "credit note"].channel.tolist() == ["search"]
    assert whole.totals["spend_plan"] == pytest.approx(whole.totals["spend_today"])
    assert np.isfinite(whole.totals["gain"]["mean"])


def test_a_credit_note_is_no_week_of_negative_advertising(tmp_path: Path) -> None:
    run = run_with(tmp_path, lambda unit: with_spend(unit, SEARCH, slice(-2, -1), -1.0))
    outcome = outcome_of_spend(run.fleet(), 8)
    assert (outcome.pattern >= 0).all()
    np.testing.assert_allclose(outcome.pattern.sum(axis=1), 1.0)
    unit = next(unit for unit in run.fleet().units if unit.labels == CHANGED)
    place = [unit.labels for unit in run.fleet().units].index(CHANGED)
    cell = np.flatnonzero((outcome.unit == place) & (outcome.channel == SEARCH))[0]
    assert outcome.today[cell] == pytest.approx(unit.spend[-8:, SEARCH].sum())
    assert not outcome.credited.any()


def test_coming_weeks_follow_what_ran_and_not_the_days_of_payment(tmp_path: Path) -> None:
    def billed(unit: Unit) -> Unit:
        spend = unit.spend.copy()
        spend[:, TV] = 0.0
        spend[::4, TV] = 400.0
        return replace(unit, spend=spend)

    run = run_with(tmp_path, billed)
    weekly = run.budget(weeks=8, change=0).by_week()
    planned = weekly[(weekly.brand == CHANGED[0]) & (weekly.market == CHANGED[1]) & (weekly.channel == "tv")].spend
    [unit] = [unit for unit in run.fleet().units if unit.labels == CHANGED]
    ran = unit.media[-8:, TV]
    assert planned.sum() == pytest.approx(800)
    np.testing.assert_allclose(planned, 800 * ran / ran.sum())


def test_a_channel_billed_outside_the_last_weeks_is_not_idle_today(tmp_path: Path) -> None:
    def billed(unit: Unit) -> Unit:
        spend, media = unit.spend.copy(), unit.media.copy()
        spend[:, TV], media[:, TV] = 0.0, 100.0
        spend[4, TV] = 2000.0
        return replace(unit, spend=spend, media=media)

    run = run_with(tmp_path, billed)
    plan = run.budget(weeks=8, change=0)
    today, _ = own(run, CHANGED, weeks=8, change=0)
    # 2,000 for 40 weeks of 100 each: 8 weeks cost 400.
    assert today["tv"] == pytest.approx(400)
    assert plan.totals["cells_paid_apart"] == ["tv of acme / DE"]
    assert any("tv of acme / DE" in note for note in plan.notes)


def test_a_years_bill_within_the_last_weeks_is_not_theirs_alone(tmp_path: Path) -> None:
    def billed(unit: Unit) -> Unit:
        spend, media = unit.spend.copy(), unit.media.copy()
        spend[:, TV], media[:, TV] = 0.0, 100.0
        spend[-3, TV] = 2000.0
        return replace(unit, spend=spend, media=media)

    run = run_with(tmp_path, billed)
    today, _ = own(run, CHANGED, weeks=8, change=0)
    assert today["tv"] == pytest.approx(400)
