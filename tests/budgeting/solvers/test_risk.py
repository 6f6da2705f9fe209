"""What a plan maximises, in which currency, and with which probability it beats today's."""

import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.support.saved_run import saved_run

KEYS = ["brand", "market", "channel"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, saturation="hill"), draws=20)


def test_profit_is_spent_until_the_last_money_earns_itself(run: Run) -> None:
    margin = {"all": 0.2, "market=DE": 0.1}
    plan = run.budget(weeks=8, change=1.0, maximise="profit", margin=margin)
    table = plan.table().query("binding != 'not certified'")
    free = table[table.binding == ""]
    np.testing.assert_allclose(free.marginal_roi_plan, 1.0, rtol=0.15)
    assert (table[table.binding == "highest"].marginal_roi_plan > 0.95).all()
    gain = plan.totals["gain"]["mean"]
    assert gain == pytest.approx(table.gain_mean.sum())
    expected = table.outcome_plan - table.spend_plan - (table.outcome_today - table.spend_today)
    np.testing.assert_allclose(table.gain_mean, expected)
    # No total does better.
    for factor in (0.7, 0.9, 1.1):
        other = run.budget(
            weeks=8, change=1.0, maximise="profit", margin=margin, total=factor * plan.totals["spend_plan"]
        )
        assert other.totals["gain"]["mean"] <= gain + 1e-2 * abs(gain)


def test_customers_are_counted_not_weighed(run: Run) -> None:
    plan = run.budget(weeks=8, maximise="kpi")
    money = run.budget(weeks=8)
    kpi, worth = (one.table().set_index(KEYS).outcome_today for one in (plan, money))
    ratio = (worth / kpi).dropna()
    assert ratio.between(2.0, 3.0).all()
    assert plan.totals["maximise"] == "kpi"


def test_rates_convert_what_is_summed(run: Run) -> None:
    plain = run.budget(weeks=8)
    same = run.budget(weeks=8, rates={"all": 1.0})
    assert "rate" not in plain.table().columns
    np.testing.assert_array_equal(plain.table().spend_plan, same.table().spend_plan)
    # All money in tenths: the same plan, ten times the figures.
    tenth = run.budget(weeks=8, rates={"all": 10.0})
    np.testing.assert_allclose(tenth.table().spend_plan_own, plain.table().spend_plan, rtol=1e-6)
    assert tenth.totals["gain"]["mean"] == pytest.approx(10 * plain.totals["gain"]["mean"], rel=1e-5)
    np.testing.assert_allclose(tenth.by_week().spend, plain.by_week().spend, rtol=1e-6, atol=1e-9)
    mixed = run.budget(weeks=8, change=0.5, rates={"all": 1.0, "market=DE": 4.0}, bounds_money={"channel=tv": (1, 100)})
    table = mixed.table()
    german = table.market == "DE"
    np.testing.assert_allclose(table.rate, np.where(german, 4.0, 1.0))
    np.testing.assert_allclose(table.spend_today_own * table.rate, table.spend_today)
    tv = (table.channel == "tv") & (table.binding != "not certified")
    assert table[tv].spend_plan_own.between(1 - 1e-9, 100 + 1e-9).all()
    np.testing.assert_allclose(table[tv].highest, 100 * table[tv].rate)
    own = table.set_index(KEYS).outcome_today
    usual = plain.table().set_index(KEYS).outcome_today
    np.testing.assert_allclose(own.dropna(), (usual * table.set_index(KEYS).rate).dropna(), rtol=1e-6)
    weekly = mixed.by_week().groupby(KEYS)[["spend", "spend_converted"]].sum()
    np.testing.assert_allclose(weekly.spend, table.set_index(KEYS).spend_plan_own.reindex(weekly.index))
    np.testing.assert_allclose(weekly.spend_converted, table.set_index(KEYS).spend_plan.reindex(weekly.index))


def test_the_plan_most_likely_to_beat_todays(run: Run) -> None:
    plan = run.budget(weeks=8, change=0.1, aim="beat_today")
    for aim in ("mean", "cvar"):
        other = run.budget(weeks=8, change=0.1, aim=aim)
        assert plan.totals["probability_better"] >= other.totals["probability_better"] - 1e-9
    assert plan.totals["gap"] == float("inf")


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"maximise": "profit"}, "profit is earned at a margin: give one"),
        ({"margin": 0.4}, "outcome knows no margin: maximise profit"),
        ({"maximise": "joy"}, "must be one of outcome, profit, kpi"),
        ({"maximise": "profit", "margin": {"market=DE": 0.2}}, "says nothing about"),
        ({"maximise": "profit", "margin": 0.2, "aim": "cvar"}, "needs a total"),
        ({"rates": {"market=DE": 2.0}}, "says nothing about"),
        ({"rates": {"all": 0.0}}, "must be above zero"),
        ({"rates": {"market=IT": 1.0}}, "names no unit"),
        ({"aim": "beat_today", "target_roi": 1.0}, "is about the mean"),
    ],
)
def test_contradictions_are_explained(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": 8, **asked_for})
