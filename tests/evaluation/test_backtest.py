"""Backtests of made-up runs: scores against brute force, origins that are ordinary runs, and who is left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.csv
import pytest
from typer.testing import CliRunner

import mixfleet
from mixfleet.cli.main import app
from mixfleet.config import Model, RunConfig, Spec
from mixfleet.data.panel import Panel, unit_id
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.evaluation.backtest import backtest
from mixfleet.evaluation.forecast_scores import bands, score_forecasts
from mixfleet.fitting.runner import execute
from mixfleet.models import baseline
from mixfleet.run import Run
from mixfleet.simulation.truth import saturated_adstock
from tests.support.saved_run import made_up, panel, saved_run

HORIZON, HELD = 6, 8
MODEL = Model(window=5, observation="normal")
WEEKS = 80


def judged(root: Path, made: Panel) -> tuple[Run, pd.DataFrame]:
    held = replace(made, data=replace(made.data, holdout=HELD))
    run = saved_run(root, MODEL, of=held, draws=10)
    return run, score_forecasts(run.fleet(), HORIZON).to_pandas()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, pd.DataFrame]:
    return judged(tmp_path_factory.mktemp("runs"), panel(weeks=WEEKS))


def foretold(run: Run, labels: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """KPI of the horizon, and draws of it by week."""
    unit = next(unit for unit in run.fleet().units if unit.labels == labels)
    fitted = likelihood_weeks(unit, window=5, holdout=HELD)
    scale, weeks = measure(unit, fitted), len(unit.dates)
    draws = run.unit(*labels).draws().draws
    flat = {name: values.reshape(-1, *values.shape[2:]).astype(float) for name, values in draws.items()}
    count = len(flat["noise"])
    design = baseline.design(unit.dates, unit.controls, model=MODEL, fitted_weeks=weeks - HELD)
    # The noise of a week is the same in every table.
    chance = np.random.default_rng(int(unit_id(labels)[:12], 16)).standard_normal((weeks, count))
    found = np.zeros((weeks, count))
    for draw in range(count):
        own = {
            name: flat[name][draw] / scale.media ** MEDIA_POWERS.get(name, 0) for name in MODEL.channel_parameters[:-1]
        }
        media = saturated_adstock(unit.media / scale.media, own, MODEL) @ flat["effect"][draw]
        found[:, draw] = media + design @ flat["coefficients"][draw]
    after = slice(weeks - HELD, weeks - HELD + HORIZON)
    return unit.kpi[after], np.stack([found[after], chance[after] * flat["noise"]])


def crps(kpi: np.ndarray, outcome: np.ndarray) -> float:
    """By its definition, all pairs of draws."""
    distance = np.abs(outcome - kpi[:, None]).mean(axis=1)
    return float(np.mean(distance - 0.5 * np.abs(outcome[:, :, None] - outcome[:, None]).mean(axis=(1, 2))))


@pytest.mark.parametrize(("horizon", "own"), [("1-4", slice(0, 4)), ("5-6", slice(4, 6)), ("1-6", slice(0, 6))])
@pytest.mark.parametrize("labels", [("acme", "DE"), None])
def test_scores_are_those_of_a_forecast_from_the_origin(
    found: tuple[Run, pd.DataFrame], horizon: str, own: slice, labels: tuple[str, str] | None
) -> None:
    run, table = found
    members = [labels] if labels else [("acme", "DE"), ("bolt", "DE")]
    parts = [foretold(run, one) for one in members]
    kpi = sum(part[0] for part in parts)[own]
    expected, noise = sum(part[1] for part in parts)[:, own]
    here = table[(table.brand == "acme") & (table.market == "DE")] if labels else table[table.brand.isna()]
    row = here[(here.market == "DE") & (here.horizon == horizon) & (here.forecast == "model")].iloc[0]
    mean = expected.mean(axis=1)
    assert row.r2 == pytest.approx(1 - np.sum((kpi - mean) ** 2) / np.sum((kpi - kpi.mean()) ** 2), rel=1e-6)
    assert row.wmape == pytest.approx(np.abs(kpi - mean).sum() / kpi.sum(), rel=1e-6)
    assert row.crps == pytest.approx(crps(kpi, expected + noise), rel=1e-6)
    assert row.weeks == len(kpi)
    assert row.units == len(members)


def test_benchmarks_know_the_past_only(found: tuple[Run, pd.DataFrame]) -> None:
    run, table = found
    unit = next(unit for unit in run.fleet().units if unit.labels == ("acme", "DE"))
    origin = len(unit.dates) - HELD
    kpi = unit.kpi[origin : origin + HORIZON]
    own = table[(table.brand == "acme") & (table.market == "DE") & (table.horizon == "1-6")].set_index("forecast")
    said = {"last_year": unit.kpi[origin - 52 : origin - 52 + HORIZON], "last_value": unit.kpi[origin - 1]}
    for name, values in said.items():
        assert own.loc[name, "crps"] == pytest.approx(np.abs(kpi - values).mean())
        assert own.loc[name, "skill"] == pytest.approx(1 - own.loc["model", "crps"] / own.loc[name, "crps"])
        assert np.isnan(own.loc[name, "coverage90"])
    assert set(own.origin) == {unit.dates[origin - 1].item()}


def test_sums_hold_certified_units_that_end_together(found: tuple[Run, pd.DataFrame]) -> None:
    sums = found[1][found[1].status.isna()]
    # acme and bolt end on two days, and so does the fleet; of bolt / FR nothing is certified.
    assert set(zip(sums.brand.fillna("-"), sums.market.fillna("-"), strict=True)) == {
        ("bolt", "-"),
        ("-", "DE"),
        ("-", "FR"),
    }
    assert set(sums[sums.market == "FR"].excluded) == {2}
    units = found[1][found[1].status.notna()]
    assert {"quarantined", "ok"} <= set(units.status)


def test_a_short_past_has_no_last_year(tmp_path: Path) -> None:
    _, table = judged(tmp_path, panel(weeks=40))
    assert set(table.forecast) == {"model", "last_value"}


def test_a_unit_that_begins_after_the_origin_has_no_past(tmp_path: Path) -> None:
    whole = panel(weeks=WEEKS)
    first = whole.units[0]
    names = ("dates", "kpi", "observed", "media", "spend", "controls", "value_per_kpi")
    late = replace(first, **{name: getattr(first, name)[-5:] for name in names}, kpi_scale=9000.0)
    _, table = judged(tmp_path, replace(whole, units=(late, *whole.units[1:])))
    own = table[(table.brand == "acme") & (table.market == "DE")].set_index("horizon")
    assert set(own.forecast) == {"model"}
    assert own.weeks.to_dict() == {"1-4": 1, "5-6": 2, "1-6": 3}
    assert set(own.origin) == {(first.dates[-HELD - 1]).item()}


def test_bands_cut_the_horizon() -> None:
    assert bands(13) == [(1, 4), (5, 13), (1, 13)]
    assert bands(3) == [(1, 3)]
    assert bands(26) == [(1, 4), (5, 13), (14, 26), (1, 26)]


class Fits:
    """Stands in for `mixfleet.fit`: real run folders, made-up draws."""

    def __init__(self) -> None:
        self.held: list[int | None] = []

    def __call__(self, table: Any, spec: Spec, *, on_event: Any = None) -> Run:
        self.held.append(spec.data.holdout)
        return execute(replace(panel(weeks=WEEKS), data=spec.data), spec, made_up(2, 5))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    fits = Fits()
    monkeypatch.setattr("mixfleet.evaluation.backtest.fit", fits)
    return fits


def settings(root: Path) -> Spec:
    return Spec(data=panel().data, model=MODEL, run=RunConfig(root=str(root), id="b"))


def test_each_origin_is_a_run_and_none_is_fitted_twice(fits: Fits, tmp_path: Path) -> None:
    done = backtest(None, settings(tmp_path), origins=3, horizon=6, every=4)
    assert fits.held == [14, 10, 6]
    assert [run.path.name for run in done.runs] == ["14", "10", "6"]
    origins = done.scores().origin.unique()
    assert len(origins) == 4  # units end on two days, four weeks apart
    pd.testing.assert_frame_equal(pd.read_parquet(done.folder / "backtest.parquet"), done.table.to_pandas())
    assert pyarrow.csv.read_csv(done.folder / "backtest.csv").num_rows == done.table.num_rows
    before = {path: path.stat().st_mtime_ns for path in done.folder.glob("origins/*/_SUCCESS")}
    again = backtest(None, settings(tmp_path), origins=3, horizon=6, every=4)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(again.scores(), done.scores())
    rows = done.summary().to_pylist()
    certified = done.table.to_pandas().query("status in ['ok', 'ok_warn', 'ok_retried'] and forecast == 'model'")
    own = certified[(certified.origin == rows[0]["origin"]) & (certified.horizon == rows[0]["horizon"])]
    assert rows[0]["wmape"] == pytest.approx(own.wmape.median())
    assert rows[0]["units"] == len(own)


@pytest.mark.parametrize(
    ("asked_for", "change", "message"),
    [
        ({"origins": 0}, {}, "origins: must be 1 or more"),
        ({"horizon": 0}, {}, "horizon: must be 1 or more"),
        ({"every": 0}, {}, "every: must be 1 or more"),
        ({}, {"data": {"holdout": 4}}, "data.holdout: is what each origin sets"),
        ({}, {"output": {"draws": "summary"}}, "output.draws: must be thin or full"),
        ({}, {"run": {"id": None}}, "run.id: name the folder"),
        ({}, {"run": {"root": "s3://bucket/runs", "id": "b"}}, "run.root: backtests are kept in a folder"),
        ({}, {"dates": {}}, "dates: unknown group"),
    ],
)
def test_a_wrong_wish_is_refused(fits: Fits, tmp_path: Path, asked_for: dict, change: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backtest(None, settings(tmp_path), **asked_for, **change)
    assert message in str(caught.value)
    assert not fits.held


def test_the_command_prints_the_table(fits: Fits, tmp_path: Path) -> None:
    given = ["backtest", f"run.root={tmp_path}", "run.id=b", "data=table", "--origins", "2", "--horizon", "5", "--json"]
    channels = "data.channels={tv: {spend: tv_cost, impressions: tv_views}, search: {spend: search}}"
    rest = ["data.organic=[newsletter]", "data.controls=[price]", "data.gaps=absent", "model.window=5", channels]
    done = CliRunner().invoke(app, [*given, *rest])
    assert done.exit_code == 1, done.output  # some units are quarantined
    assert fits.held == [10, 5]
    assert '"command": "backtest"' in done.stdout.splitlines()[-1]
    assert "wMAPE" in done.stderr


def test_the_package_names_it() -> None:
    assert mixfleet.backtest is backtest
