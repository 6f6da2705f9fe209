"""The finance sheet against the forecast, the plan and the table that it is drawn from; its lines add up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixfleet.config import Model
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

RATES = {"all": 1.0, "market=FR": 0.5}
CERTIFIED = [("acme", "DE"), ("acme", "FR"), ("bolt", "DE")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), of=panel(weeks=70)).keep(margin=0.4, rates=RATES)


def lines(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    return table[table.measure == measure].set_index("line")


def test_lines_add_up_and_groups_add_up_to_the_whole(run: Run) -> None:
    plan = run.budget(weeks=8)
    whole, markets = run.finance(plan), run.finance(plan, by=["market"])
    for measure in ("spend", "kpi"):
        own = lines(whole, measure)
        parts = own.drop(index=["units in totals", "units not in totals", "total"])
        columns = ["last_year", "today", "plan"]
        assert parts[columns].sum().to_numpy() == pytest.approx(own.loc["units in totals", columns].to_numpy(float))
        both = own.loc["units in totals"] + own.loc["units not in totals"]
        assert own.loc["total", "last_year"] == pytest.approx(both.last_year)
    summed = markets.groupby(["measure", "line"])[["last_year", "today", "plan"]].sum()
    for _, row in whole[(whole.measure != "kpi") | ~whole.line.isin(["total", "units not in totals"])].iterrows():
        assert summed.loc[(row.measure, row.line)].to_numpy() == pytest.approx([row.last_year, row.today, row.plan])
    assert (whole.plan - whole.today).to_numpy() == pytest.approx(whole.plan_less_today.to_numpy(), nan_ok=True)


def test_columns_are_the_forecast_the_plan_and_the_table(run: Run) -> None:
    plan = run.budget(weeks=8)
    found = run.finance(plan)
    kpi = lines(found, "kpi")
    expected = run.insight.forecast(plan.by_week(), by=()).set_index("component")
    for component in ("tv", "search", "newsletter", "baseline", "trend", "price"):
        assert kpi.loc[component, "plan"] == pytest.approx(expected.loc[component, "mean"])
    assert kpi.loc["units in totals", "plan"] == pytest.approx(expected.loc["expected", "mean"])
    spend, cells = lines(found, "spend"), plan.table()
    planned = cells[[pair in CERTIFIED for pair in zip(cells.brand, cells.market, strict=True)]]
    for channel in ("tv", "search"):
        own = planned[planned.channel == channel]
        assert spend.loc[channel, "today"] == pytest.approx(own.spend_today.sum())
        assert spend.loc[channel, "plan"] == pytest.approx(own.spend_plan.sum())
    days = np.array(plan.by_week().date, "M8[D]") - 364
    came = paid = 0.0
    for unit in run.fleet().units:
        inside = unit.observed & (unit.dates >= days.min()) & (unit.dates <= days.max())
        came += unit.kpi[inside].sum()
        paid += RATES.get(f"market={unit.labels[1]}", 1.0) * np.nansum(unit.spend[inside])
    assert kpi.loc["total", "last_year"] == pytest.approx(came)
    assert spend.loc["total", "last_year"] == pytest.approx(paid)


def test_profit_is_the_margin_of_the_kpi_less_the_spend(run: Run) -> None:
    plan = run.budget(weeks=8)
    markets = run.finance(plan, by=["market"])
    earned = 0.0
    for market, rate in (("DE", 1.0), ("FR", 0.5)):
        own = markets[markets.market == market]
        earned += 0.4 * rate * lines(own, "kpi").loc["units in totals", "plan"]
        earned -= lines(own, "spend").loc["units in totals", "plan"]
    assert lines(run.finance(plan), "profit").loc["total", "plan"] == pytest.approx(earned)
    gain = lines(run.finance(plan), "profit").loc["total", "plan_less_today"]
    # The plan counts what media still bring after its last week too.
    assert 0 < gain < plan.totals["gain"]["mean"] * 1.5


def test_a_year_that_the_table_does_not_have_is_empty(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=5))
    found = run.finance(run.budget(weeks=6)).set_index(["measure", "line"])
    assert found.loc[("unit_weeks", "total"), "last_year"] == 0
    assert found.drop(index=("unit_weeks", "total")).last_year.isna().all()
    assert ("profit", "total") not in found.index
