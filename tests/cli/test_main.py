import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import mixfleet
from mixfleet import api
from mixfleet.cli.main import app
from mixfleet.config import Model, Spec
from mixfleet.errors import RunError
from mixfleet.evaluation.sbc import Calibration
from mixfleet.fitting import runner
from mixfleet.fitting.progress import OnEvent, Progress
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.run import Run
from tests.support.saved_run import saved_run
from tests.support.stub_engine import brands, engine, fleet, unit_result

_STUB = next(result for result in map(unit_result, brands(20)) if result.status != "failed")
_HOLDOUT = {"holdout_crps": np.array([2.0]), "holdout_r2": np.array([0.5])}
FITTED = replace(_STUB, tables={**_STUB.tables, "fit": {**_STUB.tables["fit"], **_HOLDOUT}})
"""A result with tables and draws, judged on a holdout."""

Fate = Callable[[int, UnitResult], UnitResult]


def certified(index: int, result: UnitResult) -> UnitResult:
    del index
    return replace(result, status="ok", reason="")


def every_third_quarantined(index: int, result: UnitResult) -> UnitResult:
    if index % 3:
        return certified(index, result)
    return replace(result, status="quarantined", reason=f"R-hat 1.0{index % 10} of effect[tv]")


class FakeFit:
    """Stands in for `mixfleet.fit`: real run folders, invented results."""

    def __init__(self, *, units: int = 6, fate: Fate = certified) -> None:
        self.units = units
        self.fate = fate
        self.specs: list[Spec] = []
        self.failure: Callable[[Spec], BaseException | None] = lambda spec: None

    def __call__(self, table: Any, spec: Spec, *, on_event: OnEvent) -> Any:
        assert table is None
        self.specs.append(spec)
        if failure := self.failure(spec):
            raise failure
        return runner.execute(fleet(brands(self.units)), spec, self.engine, on_event=on_event)

    def engine(
        self, panel: Any, spec: Spec, *, skip: frozenset[str], on_event: Callable[[Any], None]
    ) -> Iterator[UnitResult]:
        for i, unit in enumerate(panel.units):
            yield self.fate(i, replace(FITTED, labels=unit.labels))
            on_event(Progress(done=i + 1, ok=i + 1, total=self.units, active=2, phase="sampling", elapsed=i / 10))


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> FakeFit:
    fake = FakeFit()
    monkeypatch.setitem(vars(mixfleet), "fit", fake)
    # Its draws are of no model, so that no sentence can be made of them.
    monkeypatch.setattr(Run, "keeps_draws", False)
    return fake


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and cache: commands write only where they are told."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in (
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return folder


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def answer(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout.splitlines()[-1])


def test_a_fit_that_is_all_ok_exits_0(fit: FakeFit, elsewhere: Path) -> None:
    result = call("fit", "data=example", "run.id=r1")
    assert result.exit_code == 0, result.output
    assert "100.0%" in result.stdout
    assert "6 units in" in result.stdout
    assert "run: runs/r1" in result.stdout
    assert "6/6 units" in result.stderr
    assert fit.specs[0].data.holdout is None
    assert [path.name for path in elsewhere.iterdir()] == ["runs"]


def test_a_fit_ends_with_its_answer_and_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved_run(tmp_path / "runs", Model(window=5))
    monkeypatch.setitem(vars(mixfleet), "fit", lambda table, spec, on_event: run)
    result = call("fit", "data=example", "--json")
    found = answer(result)
    assert found["summary"] == run.summary().lines()
    assert found["next"] == f"mixfleet budget {run.path}"
    for line in (*found["summary"], f"next: {found['next']}"):
        assert line in result.stderr


def test_a_fit_with_units_that_are_not_ok_exits_1_and_names_them(fit: FakeFit) -> None:
    fit.fate = every_third_quarantined
    result = call("fit", "data=example", "--json")
    assert result.exit_code == 1
    assert "brand000 / market3: quarantined: R-hat 1.03 of effect[tv]" in result.stderr
    found = answer(result)
    assert (found["units"], found["ok"], found["not_ok"], found["exit_code"]) == (6, 4, 2, 1)
    assert found["statuses"] == {"ok": 4, "quarantined": 2}
    assert Path(found["run"]).is_dir()
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(("least", "code"), [("0.7", 1), ("0.6", 0), ("0", 0)])
def test_some_units_that_are_not_ok_need_not_fail_a_night(fit: FakeFit, least: str, code: int) -> None:
    fit.fate = every_third_quarantined
    result = call("fit", "data=example", "--fail-under", least, "--json")
    assert result.exit_code == answer(result)["exit_code"] == code
    assert answer(result)["not_ok"] == 2


def test_shards_of_a_fleet_are_fitted_and_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(panel: Any, spec: Spec, *, skip: frozenset[str], on_event: Any) -> Iterator[UnitResult]:
        return engine()(panel, spec, skip=skip, on_event=None)

    monkeypatch.setattr(api, "fit_units", silent)
    fleet_of_four = ["data=simulated", "run.id=june", "output.draws=summary"]
    fleet_of_four += [f"data.simulated.{name}={size}" for name, size in (("brands", 2), ("markets", 2), ("weeks", 40))]
    early = call("collect", "runs/june")
    assert early.exit_code == RunError.exit_code
    assert "holds no shards" in early.stderr
    for shard in ("0/2", "1/2"):
        result = call("fit", *fleet_of_four, f"compute.shard={shard}")
        assert result.exit_code == 0, result.stderr
        assert "when all are done: mixfleet collect runs/june" in result.stdout
    found = answer(call("collect", "runs/june", "--fail-under", "0", "--json"))
    assert (found["command"], found["run"], found["units"]) == ("collect", "runs/june", 4)
    assert mixfleet.open("runs/june").manifest["units"] == 4
    whole = answer(call("fit", *fleet_of_four, "run.id=whole", "--fail-under", "0", "--json"))
    assert [mixfleet.open(run["run"]).manifest["result_sha256"] for run in (found, whole)] == [
        mixfleet.open("runs/june").manifest["result_sha256"]
    ] * 2
    again = answer(call("fit", *fleet_of_four, "run.id=again", "run.base=runs", "--fail-under", "0", "--json"))
    assert again["carried"] == 4 - again["statuses"].get("failed", 0)
    assert again["ok"] == whole["ok"]


def test_two_runs_are_compared(fit: FakeFit) -> None:
    call("fit", "data=example", "run.id=monday", "output.draws=summary")
    same = call("compare", "runs/monday", "runs/monday")
    assert same.exit_code == 0, same.output
    assert "units: 6 same; 0 alerts" in same.stdout
    fit.fate = every_third_quarantined
    call("fit", "data=example", "run.id=tuesday", "output.draws=summary")
    result = call("compare", "runs/monday", "runs/tuesday", "--json")
    assert result.exit_code == 1
    found = answer(result)
    assert found["units"] == {"same": 4, "status": 2}
    assert found["alerts"][0] == "brand000 / market0: is quarantined, was ok"
    assert found["not_split"] == "a run kept no draws"
    assert sorted(Path(file).name for file in found["files"]) == [
        "change_links.csv",
        "changed_units.csv",
        "changes.csv",
    ]


def test_only_twenty_reasons_are_printed(fit: FakeFit) -> None:
    fit.units, fit.fate = 75, every_third_quarantined
    result = call("fit", "data=example", "run.id=many")
    assert result.stdout.count(": quarantined: ") == 20
    assert "and 5 more: see runs/many/summary/status.parquet" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["data=example", "inference.drws=3"], "inference.drws"),
        (["data=example", "inference.chains=0"], "inference.chains"),
        (["data=example", "--nonsense"], "--nonsense"),
        ([], "data"),
    ],
)
def test_a_wrong_setting_exits_2_with_one_message(fit: FakeFit, arguments: list[str], key: str) -> None:
    result = call("fit", *arguments, "--json")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ConfigError: {key}: ")
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    assert (answer(result)["error"], answer(result)["key"]) == ("ConfigError", key)
    assert fit.specs == []


@pytest.mark.parametrize(("source", "key"), [("table", "data.path"), ("simulated", "data.source")])
def test_a_check_of_no_table_exits_2(source: str, key: str) -> None:
    result = call("check", f"data={source}", "--json")
    assert result.exit_code == 2
    assert answer(result)["key"] == key


def test_a_run_folder_in_use_exits_2(fit: FakeFit) -> None:
    fit.failure = lambda spec: RunError("run runs/x is in use by process 12")
    result = call("fit", "data=example")
    assert result.exit_code == 2
    assert result.stderr.startswith("RunError: run runs/x is in use")


def test_a_table_that_cannot_be_read_exits_3_with_its_findings(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("brand,market,date,sales\na,b,2024-01-01,3\n")
    result = call("check", "data=table", f"data.path={path}", "data.channels=[tv]")
    assert result.exit_code == 3
    assert "error    column_missing: " in result.stderr
    assert "has no column kpi" in result.stderr
    assert "has no column tv" in result.stderr


def test_a_check_of_the_example_finds_no_error() -> None:
    result = call("check", "data=example", "--json")
    assert result.exit_code == 0, result.output
    assert answer(result)["findings"]["error"] == 0
    assert [row["verdict"] for row in answer(result)["readiness"]].count("alone") > 70
    assert "units can be told alone; median readiness" in call("check", "data=example").output


def test_a_check_with_a_unit_that_cannot_be_modelled_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("brand,market,date,kpi,tv\na,b,2024-01-01,3,1\na,b,2024-01-08,4,1\n")
    result = call("check", "data=table", f"data.path={path}", "data.channels=[tv]")
    assert result.exit_code == 1, result.output


def test_an_interrupted_fit_exits_130_and_says_how_to_go_on(fit: FakeFit, monkeypatch: pytest.MonkeyPatch) -> None:
    fit.failure = lambda spec: KeyboardInterrupt()
    arguments = ["fit", "data=example", "prior.parameters={media_share: {scale: 1}}", "run.root=there"]
    monkeypatch.setattr(sys, "argv", ["mixfleet", *arguments])
    result = call(*arguments)
    assert result.exit_code == 130
    spec = fit.specs[0]
    resume = "mixfleet fit data=example 'prior.parameters={media_share: {scale: 1}}' run.root=there"
    assert f"interrupted; to go on: {resume} run.id={spec.run.id}" in result.stderr


def test_a_sweep_fits_every_point_and_compares_them(fit: FakeFit) -> None:
    result = call("fit", "-m", "data=example", "prior=default,weak,tight", "run.id=s", "--json")
    assert result.exit_code == 0, result.output
    assert [spec.prior.parameters["effect"].values[0] for spec in fit.specs] == [0.5, 1.5, 0.25]
    assert {spec.data.holdout for spec in fit.specs} == {13}
    rows = pq.read_table("runs/s/sweep.parquet").to_pylist()
    assert [row["run"] for row in rows] == [f"runs/s/points/{n}" for n in range(3)]
    assert [row["changes"] for row in rows] == ["prior=default", "prior=weak", "prior=tight"]
    assert {row["certified"] for row in rows} == {1.0}
    assert rows[0]["roi_shift"] == 0.0
    assert {(row["holdout_crps"], row["holdout_r2"], row["error"]) for row in rows} == {(2.0, 0.5, None)}
    assert answer(result)["points"] == rows
    assert answer(result)["exit_code"] == 0


def test_a_failing_point_does_not_stop_the_others(fit: FakeFit) -> None:
    fit.failure = lambda spec: (
        RuntimeError("out of memory") if spec.prior.parameters["effect"].values[0] == 1.5 else None
    )
    result = call("fit", "-m", "data=example", "prior=default,weak,tight,nope", "run.id=s")
    assert result.exit_code == 1
    assert "point 1 failed: RuntimeError: out of memory" in result.stdout
    assert "point 3 failed: ConfigError: prior: no 'nope'" in result.stdout
    rows = pq.read_table("runs/s/sweep.parquet").to_pylist()
    assert [(row["point"], row["certified"]) for row in rows] == [(0, 1.0), (2, 1.0), (1, None), (3, None)]


def test_a_sweep_without_a_usable_point_exits_2(fit: FakeFit) -> None:
    result = call("fit", "-m", "data=example", "inference.chains=0,1")
    assert result.exit_code == 2
    assert result.stderr.startswith("ConfigError: inference.chains: ")
    assert fit.specs == []


def test_a_sweep_keeps_a_holdout_that_is_given(fit: FakeFit) -> None:
    call("fit", "-m", "data=example", "data.holdout=4,8")
    assert [spec.data.holdout for spec in fit.specs] == [4, 8]


def test_an_interrupted_sweep_says_how_to_go_on(fit: FakeFit, monkeypatch: pytest.MonkeyPatch) -> None:
    fit.failure = lambda spec: KeyboardInterrupt() if spec.run.id == "1" else None
    arguments = ["fit", "-m", "data=example", "inference.seed=1,2,3"]
    monkeypatch.setattr(sys, "argv", ["mixfleet", *arguments])
    result = call(*arguments)
    assert result.exit_code == 130
    assert len(fit.specs) == 2
    root = Path(fit.specs[0].run.root)
    rows = pq.read_table(root.parent / "sweep.parquet").to_pylist()
    assert [row["changes"] for row in rows] == ["inference.seed=1"]
    found = mixfleet.leaderboard(root.parent)
    assert (found.table.num_rows, found.points) == (1, 3)
    assert "2 not fitted yet" in (root.parent / "leaderboard.html").read_text()
    assert f"mixfleet fit -m data=example inference.seed=1,2,3 run.root=runs run.id={root.parent.name}" in result.stderr


def test_a_sweep_that_is_interrupted_again_keeps_the_longer_leaderboard(fit: FakeFit) -> None:
    arguments = ["fit", "-m", "data=example", "inference.seed=1,2,3", "run.id=s"]
    fit.failure = lambda spec: KeyboardInterrupt() if spec.run.id == "2" else None
    assert call(*arguments).exit_code == 130
    fit.failure = lambda spec: KeyboardInterrupt()
    assert call(*arguments).exit_code == 130
    assert mixfleet.leaderboard("runs/s").table.num_rows == 2


def test_a_sweep_that_is_resumed_fits_no_point_twice(fit: FakeFit) -> None:
    for _ in range(2):
        assert call("fit", "-m", "data=example", "inference.seed=1,2", "run.id=s").exit_code == 0
    assert len(list(Path("runs/s/points").iterdir())) == 2 + Path("runs/s/points/latest.json").exists()


def test_help_names_the_groups() -> None:
    result = call("fit", "--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "prior=default|meridian|pymc_marketing|tight|weak" in text
    assert "--config-dir" in text


def test_doctor_says_what_runs_where() -> None:
    result = call("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = answer(result)
    assert found["versions"]["mixfleet"] == mixfleet.__version__
    assert found["devices"]
    assert found["kernels"].startswith(("native", "xla"))
    assert found["cache"]["usable"]
    assert found["config_path"]


@pytest.mark.parametrize(("p", "code", "verdict"), [(0.4, 0, "calibrated"), (1e-6, 1, "NOT calibrated")])
def test_a_calibration_ends_with_its_verdict(
    p: float, code: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"quantity": ["decay[tv]"], "replicates": [8], "p_value": [p], "shift": [0.1], "spread": [1.0]}
    found = Calibration(table=pa.table(columns), statuses={"ok": 8})
    monkeypatch.setitem(vars(mixfleet), "calibrate", lambda spec, on_event: found)
    result = call("calibrate", "data=simulated", "--json")
    assert result.exit_code == code
    assert (answer(result)["passed"], answer(result)["quantities"][0]["p_value"]) == (code == 0, p)
    assert any(line.startswith(verdict) for line in result.stderr.splitlines())


@pytest.mark.parametrize(("on", "code"), [("media_share", 0), ("effect", 1)])
def test_priors_are_told_before_any_fit(on: str, code: int) -> None:
    result = call("prior", "data=example", f"prior.on={on}", "--json")
    assert result.exit_code == code, result.output
    found = answer(result)
    assert sum(row["channel"] == "all" for row in found["rows"]) == 95
    assert {row["prior_on"] for row in found["rows"]} == {on, None}
    assert found["statements"][0].startswith("before any data media bring ")
    assert [line[9:] for line in result.stderr.splitlines() if line.startswith("warning: ")] == found["warnings"]
    assert bool(found["warnings"]) == bool(code)


def test_only_a_simulated_fleet_is_calibrated() -> None:
    result = call("calibrate", "data=example", "--json")
    assert result.exit_code == 2
    assert answer(result)["key"] == "data.source"
