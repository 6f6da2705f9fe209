"""The frontier of a plan, and what experiments are worth to it, against brute force."""

from pathlib import Path

import numpy as np
import pytest

from mixfleet.budgeting.plan import Plan
from mixfleet.budgeting.value_of_information import perfect_value, sample_value
from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.support.saved_run import saved_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, saturation="hill"), draws=40)


@pytest.fixture(scope="module")
def plan(run: Run) -> Plan:
    return run.budget(weeks=8, change=0.5, frontier=True, experiment_error=0.2)


def test_the_frontier_rises_and_holds_todays_total(run: Run, plan: Plan) -> None:
    table = plan.frontier()
    today = plan.totals["spend_today"]
    assert table.spend.iloc[0] == pytest.approx(0.5 * today)
    assert table.spend.iloc[-1] == pytest.approx(1.5 * today)
    assert (np.diff(table.outcome_mean) > 0).all()
    assert (table.outcome_q05 < table.outcome_mean).all()
    assert (table.gap_share < 0.02).all()
    own = table[table.today].iloc[0]
    assert own.gain_mean == pytest.approx(plan.totals["gain"]["mean"], rel=1e-4)
    assert own.marginal_roi == pytest.approx(plan.totals["prices"][0])
    other = run.budget(weeks=8, change=0.5, total=float(table.spend.iloc[3]))
    assert table.outcome_mean.iloc[3] == pytest.approx(other.totals["outcome_plan"]["mean"], rel=1e-4)
    # Money in between brings what the margins at both ends say.
    average = np.diff(table.outcome_mean) / np.diff(table.spend)
    assert (average <= 1.1 * table.marginal_roi.to_numpy()[:-1]).all()
    assert (average >= 0.9 * table.marginal_roi.to_numpy()[1:]).all()


@pytest.mark.parametrize(
    "asked_for",
    [
        {"groups": {"channel=tv": (0.8, 1.1)}},
        {"within": ["market"]},
        {"maximise": "profit", "margin": 0.2},
        {"target_marginal_roi": 2.0},
        {"aim": "cvar"},
        {"steps": {"channel=search": 20.0}},
    ],
)
def test_every_plan_has_a_frontier(run: Run, asked_for: dict) -> None:
    table = run.budget(weeks=8, change=0.5, frontier=True, **asked_for).frontier()
    assert len(table) >= 12
    assert (np.diff(table.spend) > 0).all()
    assert np.isfinite(table.gain_mean).all()


def test_perfect_information_is_worth_the_average_regret() -> None:
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(3, 50))
    regret = [max(worth[:, draw]) - worth[np.argmax(worth.mean(axis=1)), draw] for draw in range(50)]
    assert perfect_value(worth) == pytest.approx(np.mean(regret))
    assert perfect_value(np.tile([[1.0], [2.0]], (1, 5))) == 0.0


@pytest.mark.parametrize("sd", [0.05, 0.3, 1.0])
def test_an_experiment_is_worth_what_its_simulated_results_are(sd: float) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=40)
    worth = np.stack([np.zeros(40), truth - 0.1, 2 * truth - 0.6 + rng.normal(scale=0.3, size=40)])
    drawn = rng.integers(40, size=40_000)
    results = truth[drawn] + sd * rng.normal(size=40_000)
    weights = np.exp(-0.5 * ((results[:, None] - truth) / sd) ** 2)
    choice = np.argmax(weights @ worth.T, axis=1)
    simulated = worth[choice, drawn].mean() - worth.mean(axis=1).max()
    assert sample_value(worth, truth, sd) == pytest.approx(simulated, abs=0.02)


def test_the_better_the_experiment_the_more_it_is_worth() -> None:
    rng = np.random.default_rng(2)
    truth = rng.gamma(2.0, size=80)
    worth = np.stack([np.zeros(80), truth - 2.0, 1.7 * truth - 4.0])
    values = [sample_value(worth, truth, sd) for sd in (1e-9, 0.1, 0.5, 2.0, 500.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(perfect_value(worth), rel=1e-2)
    assert values[-1] == pytest.approx(0.0, abs=1e-3)
    assert sample_value(worth, np.ones(80), 0.1) == 0.0


def test_experiments_are_ranked_by_what_they_are_worth(run: Run, plan: Plan) -> None:
    table = plan.experiments()
    assert len(table) == plan.totals["cells"]
    assert (np.diff(table.experiment_value) <= 1e-12).all()
    assert (table.experiment_value <= table.perfect_value + 1e-9).all()
    assert (table.experiment_value >= 0).all()
    assert table.perfect_value.iloc[0] > 0
    blunt = run.budget(weeks=8, change=0.5, experiment_error=2.0).experiments()
    assert blunt.experiment_value.sum() < table.experiment_value.sum()
    np.testing.assert_allclose(blunt.perfect_value.sum(), table.perfect_value.sum())
    free = run.budget(weeks=8, flighting="free", within=["market"], experiment_error=0.2).experiments()
    assert np.isfinite(free.experiment_value).all()


def test_both_are_saved_and_read_again(plan: Plan, run: Run, tmp_path: Path) -> None:
    plan.save(tmp_path)
    again = Plan.read(tmp_path)
    assert again.frontier().equals(plan.frontier())
    assert again.experiments().equals(plan.experiments())
    assert (tmp_path / "frontier.csv").is_file()
    run.budget(weeks=8).save(tmp_path)
    with pytest.raises(ConfigError, match="was not asked for: plan with frontier=True"):
        Plan.read(tmp_path).frontier()


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"experiment_error": 0.0}, "must be above zero"),
        ({"experiment_error": 0.2, "aim": "cvar"}, "aim mean only"),
        ({"frontier": True, "within": ["market"], "groups": {"channel=tv": (0, 1)}}, "several totals"),
    ],
)
def test_what_cannot_be_told_is_refused(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": 8, **asked_for})
