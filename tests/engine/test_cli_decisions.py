"""`mixfleet budget`, `report` and `export` on a saved run."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pytest
from typer.testing import CliRunner, Result

from mixfleet.cli import app
from mixfleet.config import Model
from mixfleet.plan import Plan
from mixfleet.saved import Run
from tests.engine.saved_run import saved_run


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
    for words in ("next 6 weeks", "90 % interval", "not certified: bolt / FR, core / DE, core / FR"):
        assert words in result.output
    saved = Plan.read(tmp_path)
    again = run.budget(weeks=6, bounds={"channel=tv": (0.5, 2.0)}, lock=["market=FR"])
    pd.testing.assert_frame_equal(saved.table(), again.table())
    assert pyarrow.csv.read_csv(tmp_path / "plan.csv").num_rows == saved.cells.num_rows


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
