"""Inputs that practitioners' tables, plans and folders are like, each with what is right for it.

Where a run is needed its draws are made up: what is asked of plans, files and words follows from the table alone.
"""

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

import mixfleet
from mixfleet import runtime
from mixfleet.budgeting.plan import Plan
from mixfleet.cli.main import app
from mixfleet.config import Compute, Data, Model, build
from mixfleet.data.panel import Panel, read_panel
from mixfleet.errors import ConfigError, RunError, TableError
from mixfleet.posterior.media_prices import media_price
from mixfleet.run import Run
from mixfleet.storage.table_files import write_tables
from tests.support.clock import cpu_seconds
from tests.support.saved_run import saved_run
from tests.support.shared_data import shared_case

CHANNELS = "data.channels=[tv,search,social]"

Case = Callable[[str], Path]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Copies a case's folder and goes there."""

    def copied(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(shared_case(name), folder)
        monkeypatch.chdir(folder)
        return folder

    return copied


def call(*arguments: Any) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    assert "unexpected error" not in result.output
    return result


def check(*arguments: str) -> Result:
    return call("check", "data=table", "data.path=input.csv", CHANNELS, *arguments)


def panel(**settings: Any) -> Panel:
    return read_panel("input.csv", build(Data, {"channels": ["tv", "search", "social"], **settings}))


def run_of(found: Panel, root: Path) -> Run:
    return saved_run(root / "runs", Model(), draws=20, of=found)


def fitted_weeks(found: Panel) -> dict[str, int]:
    return {unit.labels[-1]: int(np.sum(unit.observed & np.isfinite(unit.kpi))) for unit in found.units}


def test_cache_chmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_case("cache_chmod")
    monkeypatch.setenv(runtime.CACHE, "")
    monkeypatch.delenv(runtime.CACHE)
    tmp_path.chmod(0o1777)
    runtime.prepare(Compute(cache_dir=str(tmp_path)))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


def test_check_ignores_model(case: Case) -> None:
    case("check_ignores_model")
    said = {
        window: check("data.gaps=absent", f"model.window={window}", "model.seasonality=0", "model.adstock=none")
        for window in (9, 1)
    }
    assert "5 of 87 periods can be fitted" in said[9].output
    assert (said[9].exit_code, said[1].exit_code) == (1, 0)
    assert "0 errors" in said[1].output
    assert all("set model.seasonality to 0" not in one.output for one in said.values())


def test_closed_market_in_plan(case: Case, tmp_path: Path) -> None:
    case("closed_market_in_plan")
    run = run_of(panel(controls=["price"]), tmp_path)
    result = call("budget", run.path)
    plan = Plan.read(run.path / "budget")
    assert set(plan.cells["market"].to_pylist()) == {"plain"}
    assert str(min(plan.weekly["date"].to_pylist())) == "2025-12-29"
    assert plan.totals["spend_today"] == pytest.approx(3241.09, abs=0.01)
    assert re.search(r"Case / closed.* 2024-10-28", result.output)


def test_control_called_trend(case: Case) -> None:
    case("control_called_trend")
    for command in ("check", "fit"):
        result = call(command, "data=table", "data.path=input.csv", CHANNELS, "data.controls=[trend]")
        assert result.exit_code == 2
        assert result.stderr.startswith("ConfigError: data.controls: 'trend'")
        assert "rename the column" in result.stderr
    assert not Path("runs").exists()


def test_cpm_inflation(case: Case, tmp_path: Path) -> None:
    case("cpm_inflation")
    tv = {"name": "tv", "spend": "tv", "impressions": "tv_imp"}
    found = panel(channels=[tv, "search", "social"], controls=["price"])
    unit = next(unit for unit in found.units if unit.labels[-1] == "cpm")
    assert media_price(unit)[0] == pytest.approx(0.14362, abs=5e-6)
    run = run_of(found, tmp_path)
    plan = run.budget(change=0)
    today = plan.table().set_index(["market", "channel"]).loc[("cpm", "tv"), "spend_plan"]
    assert today == pytest.approx(2977.934)
    assert today / media_price(unit)[0] == pytest.approx(20735, abs=1)
    # Of the same money over the same impressions the coming weeks bring what the last ones did, carry-over apart.
    units = run.insight.forecast(plan.by_week(), period="all")
    assert units.query("component == 'tv' and market == 'cpm'").spend.item() == pytest.approx(2977.934)


def test_credit_note(case: Case) -> None:
    case("credit_note")
    found = panel(controls=["price"], allow_negative_media=["tv"])
    unit, spend = found.units[0], pd.read_csv("input.csv").query("market == 'DE'").tv.to_numpy()
    assert spend.min() == -4000
    np.testing.assert_array_equal(unit.media[:, 0], np.maximum(spend, 0))
    assert unit.spend[:, 0].sum() == pytest.approx(3195.457)


@pytest.mark.nightly
def test_the_roi_of_a_credit_note(case: Case, usual_broadcasts: None) -> None:
    case("credit_note")
    data = {"channels": ["tv", "search", "social"], "controls": ["price"], "allow_negative_media": ["tv"]}
    roi = mixfleet.fit("input.csv", data=data, run={"id": "note"}).roi()
    [row] = roi.query("market == 'DE' and channel == 'tv'").to_dict("records")
    assert row["q05"] < 1.548 < row["q95"]


def test_csv_carriage_returns(case: Case) -> None:
    case("csv_carriage_returns")
    assert "its lines end in carriage returns" in check().output
    assert check().exit_code == 0


def test_csv_tabs(case: Case) -> None:
    case("csv_tabs")
    assert "separated by tabs" in check().output
    assert check().exit_code == 0


def test_date_in_the_index(case: Case) -> None:
    case("date_in_the_index")
    table = pd.read_csv("input.csv", parse_dates=["date"])
    for index in ("date", ["brand", "market", "date"]):
        with pytest.raises(TableError, match=r"is in the table's index: pass table\.reset_index\(\)"):
            mixfleet.check(table.set_index(index), {"channels": ["tv", "search", "social"]})


def test_env_leak(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = case("env_leak")
    monkeypatch.setenv("MIXSECRET", "canary-7f3a")
    for arguments in (
        ["--config-dir", ".", "data=leak"],
        ["data=table", "data.channels=[spend_tv]", "data.currency=${oc.${.channel_column}:MIXSECRET}"],
    ):
        result = call("fit", *arguments, "run.root=out", "run.id=x")
        assert result.exit_code == 2
        assert "resolvers are not allowed" in result.stderr
        assert "canary" not in result.output
    assert not (folder / "out").exists()


def test_kpi_as_control(case: Case) -> None:
    case("kpi_as_control")
    for settings in ({"channels": ["tv"], "controls": ["kpi"]}, {"channels": {"tv": {"spend": "kpi"}}}):
        with pytest.raises(ConfigError, match="'kpi' is the KPI"):
            build(Data, settings)


def test_kpi_missing_media_known(case: Case) -> None:
    case("kpi_missing_media_known")
    assert check("data.gaps=absent").exit_code == 0
    assert fitted_weeks(panel(gaps="absent")) == {"DE": 100, "FR": 100}


def test_long_campaign_rows(case: Case) -> None:
    case("long_campaign_rows")
    result = check("data.layout=long", "data.channels=[]")
    assert "set data.repeated_rows to add, which adds them up" in result.output
    assert "tv is the same" not in result.output
    added = panel(layout="long", channels=[], repeated_rows="add")
    rows = pd.read_csv("input.csv").groupby(["market", "channel"]).spend.sum()
    for unit in added.units:
        spends = dict(zip(added.channels, unit.spend.sum(axis=0), strict=True))
        assert spends == pytest.approx(rows[unit.labels[-1]].to_dict())


def test_long_kpi_once(case: Case) -> None:
    case("long_kpi_once")
    result = check("data.layout=long", "data.channels=[]", "pooling.by=brand", "data.min_weeks=0")
    assert result.exit_code == 0
    assert "no periods of KPI" not in result.output
    found = panel(layout="long", channels=[])
    assert fitted_weeks(found)["FR"] == 104
    assert max(unit.kpi.max() for unit in found.units if unit.labels[-1] == "FR") == pytest.approx(1327.8, abs=0.1)


def test_long_path() -> None:
    shared_case("long_path")
    result = call("check", "data=table", f"data.path={'a' * 5000}.csv", "data.channels=[tv]")
    assert result.exit_code in (2, 3)
    assert "no file can be called" in result.stderr


def test_monthly_dates(case: Case) -> None:
    case("monthly_dates")
    result = check()
    assert result.exit_code == 1
    assert "this is monthly data, which cannot be fitted: give weekly or daily data" in result.output
    assert "longer history" not in result.output
    assert "same weekday" not in result.output


def test_national_spend_in_every_market(case: Case) -> None:
    case("national_spend_in_every_market")
    said = check().output
    assert re.search(r"tv .*is the same in Alba / DE, Alba / FR, date by date: if it is one national sum", said)


def test_path_with_parentheses(case: Case) -> None:
    case("path_with_parentheses")
    for name in ("sales (1).csv", "Umsätze 2026.csv"):
        assert call("check", "data=table", f"data.path={name}", CHANNELS).exit_code == 0


def test_plan_csv_round_trip(case: Case, tmp_path: Path) -> None:
    case("plan_csv_round_trip")
    run = run_of(panel(controls=["price"]), tmp_path)
    assert call("budget", run.path, "--weeks", 8).exit_code == 0
    plan = run.path / "budget" / "plan_by_week.csv"
    assert call("forecast", run.path, "--plan", plan).exit_code == 0
    past = pd.read_csv(plan).assign(date="2025-01-06").drop_duplicates(["brand", "market", "channel"])
    past.to_csv("past.csv", index=False)
    assert call("counterfactual", run.path, "--plan", "past.csv").exit_code == 0


def test_plan_dates_stricter_than_table(case: Case, tmp_path: Path) -> None:
    folder = case("plan_dates_stricter_than_table")
    shutil.copy(shared_case("selector_with_comma") / "input.csv", folder)
    run = run_of(read_panel("input.csv", build(Data, {"channels": {"tv": {"spend": "TV, linear"}}})), tmp_path)
    assert call("forecast", run.path, "--plan", "plan.csv").exit_code == 0
    result = call("forecast", run.path, "--plan", "plan_week_ending.csv")
    assert result.exit_code == 2
    assert "plan_week_ending.csv line 2, column date: 2026-01-04 is no week after 2025-12-22" in result.stderr
    assert "its weeks begin on Mondays, such as 2025-12-29 and 2026-01-05" in result.stderr
    Path("grouped.csv").write_text('brand,market,channel,date,spend\nAlba,DE,tv,2025-12-29,"1,500.50"\n')
    result = call("forecast", run.path, "--plan", "grouped.csv")
    assert "grouped.csv line 2, column spend: '1,500.50' cannot be read as a number" in result.stderr


def test_plan_longer_than_history(case: Case, tmp_path: Path) -> None:
    case("plan_longer_than_history")
    run = run_of(panel(controls=["price"]), tmp_path)
    plan = run.budget(weeks=52, change=0)
    weekly = plan.weekly.to_pandas().query("market == 'FR' and channel == 'search'")
    assert len(weekly) == 52
    assert (weekly.spend > 0).all()
    assert weekly.spend.sum() == pytest.approx(3999, rel=0.001)
    assert any("Alba / FR" in note for note in plan.notes)


def test_plan_rows_twice(case: Case, tmp_path: Path) -> None:
    case("plan_rows_twice")
    shutil.copy(shared_case("plan_csv_round_trip") / "input.csv", "input.csv")
    run = run_of(panel(), tmp_path)
    weekly = run.budget(weeks=8).by_week()
    with pytest.raises(ConfigError, match=r"is there twice in one week: add the rows up, or drop one"):
        run.insight.forecast(pd.concat([weekly, weekly]), period="all")
    past = weekly.assign(date="2025-01-06").drop_duplicates(["brand", "market", "channel"])
    with pytest.raises(ConfigError, match="is there twice: add the rows up, or drop one"):
        run.insight.counterfactual(pd.concat([past, past]))


def test_selector_with_comma(case: Case, tmp_path: Path) -> None:
    case("selector_with_comma")
    run = run_of(panel(channels=["TV, linear", "search", "social"]), tmp_path)
    result = call("budget", run.path, "--lock", "channel=TV, linear", "--bound", "channel=TV, linear,market=DE:1:1")
    assert result.exit_code == 0, result.output
    locked = Plan.read(run.path / "budget").cells.to_pandas().query("channel == 'TV, linear'")
    np.testing.assert_array_equal(locked.spend_plan, locked.spend_today)


def test_shard_deleted(case: Case, tmp_path: Path) -> None:
    case("shard_deleted")
    shutil.copy(shared_case("plan_csv_round_trip") / "input.csv", "input.csv")
    run = run_of(panel(), tmp_path)
    for path in (run.path / "posterior.zarr" / "effect").iterdir():
        if path.name != "zarr.json":
            path.unlink()
    row = run.status.iloc[0]
    with pytest.raises(RunError, match=r"posterior\.zarr/effect/c.* cannot be read"):
        mixfleet.open(run.path).unit(*[row[key] for key in run.manifest["keys"]]).draws()


def test_single_series_without_keys(case: Case) -> None:
    case("single_series_without_keys")
    result = check("data.kpi=sales")
    assert result.exit_code == 3
    assert "of one series" in result.stderr
    assert "set data.keys to []" in result.stderr
    assert check("data.kpi=sales", "data.keys=[]").exit_code == 0
    assert len(panel(kpi="sales", keys=[]).units) == 1


def test_xlsx_control_char(tmp_path: Path) -> None:
    import openpyxl

    shared_case("xlsx_control_char")
    [path] = write_tables({"t": pa.table({"brand": ["a\x0bb", "\x1b[2J"]})}, tmp_path / "out", "xlsx")
    rows = list(openpyxl.load_workbook(path)["t"].values)
    assert rows == [("brand",), ("a\\u000bb",), ("\\u001b[2J",)]


@pytest.mark.parametrize("name", ["tag", "deep", "bomb"])
def test_yaml_bombs(case: Case, name: str) -> None:
    folder = case("yaml_bombs")
    arguments = ("check", "--config-dir", ".", f"data={name}")
    result = call(*arguments)
    assert cpu_seconds(lambda: call(*arguments), asked=0.5) < 0.5
    assert result.exit_code == 2
    assert result.stderr.startswith("ConfigError: ")
    assert not (folder / "pwned").exists()


def test_twenty_channels(case: Case) -> None:
    case("twenty_channels")
    found = panel(channels=[f"c{place:02d}" for place in range(20)])
    [doubt] = [one for one in found.units[0].warnings if one.rule == "more_columns_than_rows"]
    assert "most of the result is the prior" in doubt.message
