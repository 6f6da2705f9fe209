"""`mixfleet budget`, `report` and `export` on a saved run."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pytest
from typer.testing import CliRunner, Result

from mixfleet.budgeting.plan import Plan
from mixfleet.cli.main import app
from mixfleet.config import Model
from mixfleet.config.presets import read_settings
from mixfleet.reporting.numbers import amount
from mixfleet.run import Run
from tests.support.saved_run import saved_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_a_plan_is_printed_and_saved(run: Run, tmp_path: Path) -> None:
    result = call(
        "budget", run.path, "--weeks", 6, "--bound", "channel=tv:0.5:2", "--lock", "market=FR", "--out", tmp_path
    )
    assert result.exit_code == 0, result.output
    for words in ("next 6 weeks", "90 % interval", "not in the plan: bolt / FR, core / DE, core / FR"):
        assert words in result.output
    last = result.output.replace("\n", " ").split("Over the next 6 weeks")[-1]
    assert "The plan's last unit of money returns" in last
    assert f"next: mixfleet forecast {run.path} --plan {tmp_path / 'plan_by_week.csv'}" in last
    saved = Plan.read(tmp_path)
    again = run.budget(weeks=6, bounds={"channel=tv": (0.5, 2.0)}, lock=["market=FR"])
    pd.testing.assert_frame_equal(saved.table(), again.table())
    assert pyarrow.csv.read_csv(tmp_path / "plan.csv").num_rows == saved.cells.num_rows


def test_where_no_spend_may_move_or_all_is_at_a_limit_no_last_money_is_priced(run: Run, tmp_path: Path) -> None:
    still = call("budget", run.path, "--change", 0, "--weeks", 6, "--out", tmp_path / "still")
    said = still.output.replace("\n", " ")
    assert "There is nothing to plan: the limits let no spend move over the next 6 weeks." in said
    today = answer(call("budget", run.path, "--weeks", 6, "--out", tmp_path / "today", "--json"))["spend_today"]
    most = call("budget", run.path, "--weeks", 6, "--total", 1.3 * today, "--out", tmp_path / "most")
    said = most.output.replace("\n", " ")
    assert "Over the next 6 weeks spend" in said
    assert "The plan's last" not in said


def test_every_wish_can_be_made_on_the_command_line(run: Run, tmp_path: Path) -> None:
    options = {
        "--weeks": 6,
        "--change": 1.0,
        "--bound-money": "channel=tv,market=FR:1:50",
        "--group": "channel=search:0.8:1.1",
        "--group-money": "market=DE:10:",
        "--share": "channel=tv::0.5",
        "--ratio": "channel=tv:channel=search::2",
        "--step": "channel=search:5",
        "--flight": "channel=tv:2",
        "--rate": "2",
        "--margin": "0.3",
        "--maximise": "profit",
        "--flighting": "free",
        "--week-bound": "all@2020-01-01..2030-01-01::4",
        "--lock-weeks": "channel=tv,market=DE@2024-08-05..2024-08-25",
        "--experiment-error": 0.2,
        "--out": tmp_path,
    }
    result = call("budget", run.path, *(part for pair in options.items() for part in pair), "--frontier")
    assert result.exit_code == 0, result.output
    for words in ("profit gain", "other totals", "experiments most worth their while"):
        assert words in result.output
    saved = Plan.read(tmp_path)
    again = run.budget(
        weeks=6,
        change=1.0,
        bounds_money={"channel=tv,market=FR": (1, 50)},
        groups={"channel=search": (0.8, 1.1)},
        groups_money={"market=DE": (10, float("inf"))},
        shares={"channel=tv": (0, 0.5)},
        ratios={("channel=tv", "channel=search"): (0, 2)},
        steps={"channel=search": 5},
        flights={"channel=tv": 2},
        rates={"all": 2},
        margin=0.3,
        maximise="profit",
        flighting="free",
        week_bounds={"all@2020-01-01..2030-01-01": (0, 4)},
        lock_weeks=["channel=tv,market=DE@2024-08-05..2024-08-25"],
        experiment_error=0.2,
        frontier=True,
    )
    pd.testing.assert_frame_equal(saved.table(), again.table())
    pd.testing.assert_frame_equal(saved.frontier(), again.frontier())
    pd.testing.assert_frame_equal(saved.experiments(), again.experiments())


def test_by_default_everything_lies_in_the_folder_of_the_run(run: Run) -> None:
    found = answer(call("budget", run.path.parent, "--weeks", 6, "--json"))
    assert found["gain"]["mean"] > 0
    assert (run.path / "budget" / "plan.csv").is_file()
    assert answer(call("report", run.path, "--json"))["report"] == str(run.path / "report.html")
    assert (run.path / "report.html").is_file()


def test_what_a_kpi_earns_is_said_on_the_command_line(run: Run, tmp_path: Path) -> None:
    given = ("--margin", "0.4", "--margin", "market=DE:0.3", "--customer-value", "50", "--retention", "1,0.5")
    answer(call("export", run.path, "--out", tmp_path, "--format", "parquet", "--json", *given))
    own = pd.read_parquet(tmp_path / "returns.parquet")
    insight = run.insight.valued(margin={"all": 0.4, "market=DE": 0.3}, customer_value=50.0, retention=(1.0, 0.5))
    pd.testing.assert_frame_equal(own, insight.returns())
    found = answer(call("report", run.path, "--out", tmp_path / "r.html", "--json", *given))
    assert "marginal_ltv_cac" in Path(found["report"]).read_text("utf-8")
    wrong = call("report", run.path, "--margin", "a lot")
    assert wrong.exit_code == 2
    assert "not of the form 0.4 or market=DE:0.3" in wrong.output


def test_the_coming_weeks_are_written_for_a_plan(run: Run, tmp_path: Path) -> None:
    run.budget(weeks=6).save(tmp_path)
    found = answer(call("forecast", run.path, "--plan", tmp_path / "plan_by_week.csv", "--by", "brand", "--json"))
    own = pyarrow.csv.read_csv(found["forecast"]).to_pandas()
    expected = run.insight.forecast(tmp_path / "plan_by_week.csv", by="brand", period="week")
    assert own["mean"].to_numpy() == pytest.approx(expected["mean"].to_numpy(), nan_ok=True)
    assert set(own.brand) == {"acme", "bolt"}
    total = run.insight.forecast(tmp_path / "plan_by_week.csv", by=()).set_index("component").loc["kpi"]
    assert f"expect {amount(total['mean'])} of the KPI (90 %: {amount(total['q05'])}" in found["summary"][0]
    assert any("held at their mean" in line.lower() for line in found["summary"][1:])


def test_another_past_is_answered_in_a_sentence(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("brand,market,channel,date,spend\nacme,DE,tv,2023-12-04,0\n")
    found = answer(call("counterfactual", run.path, "--plan", other, "--json"))
    row = run.insight.counterfactual(other, by=()).query("channel == 'all channels' and measure == 'value'").iloc[0]
    spent = amount(row["spend_actual"] - row["spend_plan"])
    assert f"With {spent} less spent than was, media would have brought {amount(-row['mean'])}" in found["summary"][0]


def test_what_hangs_on_priors_is_said_of_each_of_them(run: Run, tmp_path: Path) -> None:
    others = tmp_path / "priors.yaml"
    others.write_text("same: {intercept: {family: normal, mean: 0.5, sd: 0.5}}\nfar: {decay: {a: 900, b: 1}}\n")
    found = answer(call("sensitivity", run.path, "--priors", others, "--out", tmp_path / "tables", "--json"))
    table = run.insight.sensitivity(read_settings(others))
    units = table.groupby(["brand", "market"]).ngroups
    same, far, doubt = found["summary"]
    assert same.startswith(f"same: told of {units} of {units} units; 0 of {table['reliable'].sum()} channels")
    assert far == f"far: told of 0 of {units} units."
    assert "only another fit can tell" in doubt
    assert pyarrow.csv.read_csv(found["sensitivity"]).num_rows == len(table)


def test_every_table_is_exported(run: Run, tmp_path: Path) -> None:
    found = answer(call("export", run.path, "--out", tmp_path, "--format", "csv", "--json"))
    names = {Path(file).stem for file in found["files"]}
    assert {"status", "returns", "contributions_by_brand", "returns_total_quarterly", "curves", "movement"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--total", 1), "the limits make the plan spend at least"),
        (("--bound", "tv"), "not of the form channel=tv,market=DE:0.5:2"),
        (("--aim", "greed"), "must be one of mean"),
        (("--ratio", "channel=tv:1:2"), "not of the form channel=tv:channel=search:1:2"),
        (("--step", "channel=tv:many"), "not of the form channel=tv:1000"),
        (("--group", "channel=tv:1.4:2"), "cannot all hold: channel=tv at least 1.4 x today's"),
    ],
)
def test_a_plan_that_cannot_be_made_is_explained(run: Run, arguments: tuple, message: str) -> None:
    result = call("budget", run.path, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    result = call("report", tmp_path)
    assert result.exit_code == 2
    assert "no run folder" in result.output


def test_money_is_kept_with_a_run_on_the_command_line(run: Run) -> None:
    try:
        money = ("--margin", "0.4", "--rate", "market=FR:0.5", "--rate", "1")
        found = answer(call("business", run.path, *money, "--json"))
        assert found["rates"] == {"market=FR": 0.5, "all": 1.0}
        planned = answer(call("budget", run.path, "--out", run.path / "b", "--json"))
        assert planned["maximise"] == "profit"
        shown = call("business", run.path)
        assert "margin: {'all': 0.4}" in shown.output
        assert "customer_value: not said" in shown.output
    finally:
        shutil.rmtree(run.path / "business", ignore_errors=True)
