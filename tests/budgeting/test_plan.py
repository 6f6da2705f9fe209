"""Budget plans of made-up runs: limits, totals, margins, and outcomes against brute force."""

from pathlib import Path

import numpy as np
import pytest

from mixfleet.budgeting.outcome import outcome_of_spend
from mixfleet.budgeting.plan import Plan
from mixfleet.config import Model
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, Scale, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from mixfleet.simulation.truth import saturated_adstock
from tests.support.saved_run import saved_run

MODEL = Model(window=5, saturation="hill", adstock="delayed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), MODEL, draws=20)


@pytest.fixture(scope="module")
def plan(run: Run) -> Plan:
    return run.budget(weeks=8, change=0.5)


def test_outcomes_are_those_of_the_counterfactual(run: Run) -> None:
    fleet = run.fleet()
    spend_outcome = outcome_of_spend(fleet, 8)
    spend = spend_outcome.today * 1.3
    found = spend_outcome.outcome(spend[:, None], fleet.draws)[:, 0]
    for cell in np.flatnonzero(spend_outcome.certified):
        unit, channel = fleet.units[spend_outcome.unit[cell]], spend_outcome.channel[cell]
        scale = measure(unit, likelihood_weeks(unit, window=5, holdout=0))
        draws = run.unit(*unit.labels).draws().draws
        cost = unit.spend[:, channel].sum() / unit.media[:, channel].sum()
        value = unit.value_per_kpi[-8:].mean()

        def brought(
            ahead: np.ndarray, own: dict, unit: Unit = unit, channel: int = channel, scale: Scale = scale
        ) -> float:
            media = np.zeros((len(unit.dates) + 8 + 4, 3))
            media[: len(unit.dates)] = unit.media
            media[len(unit.dates) : -4, channel] = ahead
            shapes = MODEL.channel_parameters[:-1]
            parameters = {name: own[name] / scale.media ** MEDIA_POWERS.get(name, 0) for name in shapes}
            parts = saturated_adstock(media / scale.media, parameters, MODEL) * own["effect"]
            return parts[len(unit.dates) :, channel].sum()

        for draw in (0, 7):
            own = {name: values.reshape(-1, *values.shape[2:])[draw].astype(float) for name, values in draws.items()}
            recent = unit.spend[-8:, channel]
            ahead = recent / recent.sum() * spend[cell] / cost
            expected = (brought(ahead, own) - brought(0 * ahead, own)) * value
            assert found[cell, draw] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("adstock_first", [True, False])
def test_single_precision_and_weekly_spends_say_the_same(tmp_path: Path, adstock_first: bool) -> None:
    model = Model(window=5, saturation="hill", adstock_first=adstock_first)
    fleet = saved_run(tmp_path, model, draws=20).fleet()
    spend_outcome = outcome_of_spend(fleet, 8)
    levels = spend_outcome.today[:, None] * np.array([0.5, 1.0, 1.4])
    exact = spend_outcome.outcome(levels, fleet.draws)
    single = spend_outcome.outcome(levels, fleet.draws, exact=False)
    weekly = spend_outcome.outcome(levels, fleet.draws, spend_outcome.pattern[:, None] * levels[..., None])
    size = np.nanmax(np.abs(exact))
    np.testing.assert_allclose(single, exact, rtol=1e-4, atol=1e-6 * size)
    np.testing.assert_allclose(weekly, exact, rtol=1e-9)


def test_a_plan_spends_the_total_within_its_limits(plan: Plan) -> None:
    table = plan.table()
    planned = table[table.binding != "not certified"]
    assert planned.spend_plan.sum() == pytest.approx(planned.spend_today.sum())
    assert (planned.spend_plan >= 0.5 * planned.spend_today - 1e-9).all()
    assert (planned.spend_plan <= 1.5 * planned.spend_today + 1e-9).all()
    assert plan.totals["gain"]["mean"] > 0
    assert 0.5 < plan.totals["probability_better"] <= 1
    assert plan.totals["gap_share"] < 0.02
    assert planned.gain_mean.sum() == pytest.approx(plan.totals["gain"]["mean"])


def test_margins_are_equal_where_nothing_binds(run: Run) -> None:
    plan = run.budget(weeks=8, change=1.0, bounds={"channel=search": (0.0, 3.0)})
    free = plan.table().query("binding == ''")
    assert len(free) >= 2
    price = plan.totals["prices"][0]
    # Straight lines between 33 levels: a margin may lie between those of its two neighbours.
    np.testing.assert_allclose(free.marginal_roi_plan, price, rtol=0.1)


def test_units_that_are_not_certified_keep_their_spend_and_are_named(plan: Plan) -> None:
    table = plan.table()
    left = table[table.binding == "not certified"]
    assert set(left.status) == {"quarantined", "misfit"}
    np.testing.assert_array_equal(left.spend_plan, left.spend_today)
    assert left.gain_mean.isna().all()
    assert plan.totals["excluded_units"] == ["bolt / FR", "core / DE", "core / FR"]
    assert plan.totals["excluded_spend"] == pytest.approx(left.spend_today.sum())


def test_locks_and_bounds_hold(run: Run) -> None:
    plan = run.budget(
        weeks=8, lock=["market=FR"], bounds={"channel=tv": (0.9, 1.1), "channel=tv,brand=bolt": (1.0, 2.0)}
    )
    table = plan.table().set_index(["brand", "market", "channel"])
    assert table.loc[("acme", "FR")].spend_plan.tolist() == table.loc[("acme", "FR")].spend_today.tolist()
    assert set(table.loc[("acme", "FR")].binding) == {"locked"}
    change = table.loc[("acme", "DE", "tv")].change
    assert -0.1 - 1e-9 <= change <= 0.1 + 1e-9
    assert table.loc[("bolt", "DE", "tv")].change >= -1e-9


def test_money_can_stay_within_a_market(run: Run) -> None:
    table = run.budget(weeks=8, within=["market"]).table()
    for _, own in table.groupby("market"):
        assert own.spend_plan.sum() == pytest.approx(own.spend_today.sum())


def test_targets_set_the_total(run: Run) -> None:
    plan = run.budget(weeks=8, change=1.0, target_marginal_roi=1.0)
    table = plan.table()
    free = table[table.binding.isin(["", "highest"])]
    assert (free.marginal_roi_plan > 0.8).all()
    everything = run.budget(weeks=8, change=1.0, total=2 * plan.totals["spend_today"])
    whole = everything.totals["outcome_plan"]["mean"] / everything.totals["spend_plan"]
    found = run.budget(weeks=8, change=1.0, target_roi=whole * 1.2)
    target = 0.8 * plan.totals["outcome_plan"]["mean"]
    least = run.budget(weeks=8, change=1.0, target_outcome=target)
    assert least.totals["outcome_plan"]["mean"] == pytest.approx(target, rel=1e-3)
    assert least.totals["spend_plan"] < plan.totals["spend_plan"]
    reached = found.totals["outcome_plan"]["mean"] / found.totals["spend_plan"]
    assert reached == pytest.approx(whole * 1.2, rel=1e-3)


@pytest.mark.parametrize("aim", ["cvar", "quantile", "mean_less_spread"])
def test_every_aim_gives_a_plan_of_the_total(run: Run, aim: str) -> None:
    plan = run.budget(weeks=8, change=0.5, aim=aim, level=0.2)
    assert plan.totals["spend_plan"] == pytest.approx(plan.totals["spend_today"])
    assert plan.totals["gain"]["mean"] > 0


def test_the_weeks_add_up_and_follow_the_data(run: Run, plan: Plan) -> None:
    weekly = plan.by_week()
    assert len(weekly) == 8 * len(plan.table())
    total = weekly.groupby(["brand", "market", "channel"]).spend.sum()
    expected = plan.table().set_index(["brand", "market", "channel"]).spend_plan
    np.testing.assert_allclose(total, expected.reindex(total.index))
    # Units end four weeks apart: money of today is spent in one calendar, after the last week of them all.
    last = {unit.dates[-1] for unit in run.fleet().units}
    assert len(last) == 2
    first = weekly.groupby(["brand", "market"]).date.min()
    assert {np.datetime64(day) for day in first} == {max(last) + np.timedelta64(7, "D")}


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"total": 1.0}, "spend at least .* Allow more change"),
        ({"total": 1e12}, "spend at most"),
        ({"lock": ["market=DE", "market=FR"], "total": 1.0}, "6 cells are locked"),
        ({"target_roi": 1e9}, "no plan within the limits returns"),
        ({"target_outcome": 1e12}, "all at their highest bring"),
        ({"target_outcome": 1.0, "within": ["market"]}, "within keeps them apart"),
        ({"target_roi": 2.0, "aim": "cvar"}, "target_roi is about the mean"),
        ({"total": 1.0, "target_roi": 2.0}, "choose one of"),
        ({"bounds": {"channel=radio": (0, 1)}}, "names no channel"),
        ({"bounds": {"region=DE": (0, 1)}}, "none of channel, brand, market"),
        ({"bounds": {"tv": (0, 1)}}, "not of the form"),
        ({"bounds": {"channel=tv": (2, 1)}}, "0 <= low <= high"),
        ({"aim": "greed"}, "must be one of mean"),
        ({"within": ["region"]}, "no key column"),
        ({"weeks": 0}, "above zero"),
    ],
)
def test_wishes_that_cannot_be_met_are_explained(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": 8, **asked_for})
