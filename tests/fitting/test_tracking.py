"""MLflow is told of a run once, of all of it but the table, and a fit does not depend on it."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixfleet.config import Model, RunConfig, Spec
from mixfleet.errors import ConfigError
from mixfleet.fitting import monitoring, tracking
from mixfleet.fitting.runner import execute
from mixfleet.posterior.unit_result import TABLES
from mixfleet.run import Run
from mixfleet.storage.reader import read_run
from tests.support.saved_run import made_up, panel

PANEL = panel()


class MlflowException(Exception):
    """As MLflow's."""


class Server:
    """A tracking server with the calls of MLflow's client that are used, and no more."""

    def __init__(self) -> None:
        self.runs: list[SimpleNamespace] = []
        self.experiments: dict[str, str] = {}
        self.refuses: str | None = None

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        if self.refuses == "all":
            raise MlflowException("API request failed")
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def search_runs(self, experiments: list[str], filter_string: str) -> list[SimpleNamespace]:
        tag, value = filter_string.removeprefix("tags.").split(" = ")
        wanted = [run for run in self.runs if run.experiment in experiments]
        return [run for run in wanted if run.tags[tag.strip("`")] == value.strip("'")]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> SimpleNamespace:
        info = SimpleNamespace(run_id=str(len(self.runs)), run_name=run_name, status="RUNNING")
        made = {"params": {}, "metrics": {}, "files": {}}
        self.runs.append(SimpleNamespace(info=info, experiment=experiment, tags=tags, **made))
        return self.runs[-1]

    def _run(self, run_id: str) -> SimpleNamespace:
        return next(run for run in self.runs if run.info.run_id == run_id)

    def delete_run(self, run_id: str) -> None:
        self.runs.remove(self._run(run_id))

    def log_batch(self, run_id: str, params: list[tuple[str, str]]) -> None:
        assert len(params) <= 100
        self._run(run_id).params.update(params)

    def log_metric(self, run_id: str, key: str, value: float) -> None:
        self._run(run_id).metrics[key] = value

    def log_artifacts(self, run_id: str, folder: str) -> None:
        if self.refuses == "files":
            raise ConnectionResetError(104, "Connection reset by peer")
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        self._run(run_id).files.update({str(path.relative_to(folder)): path.read_bytes() for path in paths})

    def set_terminated(self, run_id: str) -> None:
        self._run(run_id).info.status = "FINISHED"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    stand_in = Server()
    modules = {
        "mlflow": SimpleNamespace(
            MlflowClient=lambda: stand_in, exceptions=SimpleNamespace(MlflowException=MlflowException)
        ),
        "mlflow.entities": SimpleNamespace(Param=lambda key, value: (key, value)),
    }
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: modules.get(name) or real(name))
    monkeypatch.setattr(tracking, "require", lambda: None)
    unchanged(monkeypatch)
    return stand_in


def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the environment as it was, whatever is set in it meanwhile."""
    for name in (*tracking.PATIENCE, "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def tracked(root: Path) -> Spec:
    where = RunConfig(root=str(root), id="june", tracking="mlflow")
    return Spec(data=PANEL.data, model=Model(window=5), run=where)


def fit(root: Path) -> Run:
    return execute(PANEL, tracked(root), made_up(2, 6))


def test_a_fleet_is_one_run_with_its_settings_numbers_and_tables(tmp_path: Path, server: Server) -> None:
    run = fit(tmp_path)
    (told,) = server.runs
    assert (told.info.run_name, told.info.status) == ("june", "FINISHED")
    assert list(server.experiments) == ["mixfleet"]
    assert told.tags["mixfleet.result_sha256"] == run.manifest["result_sha256"]
    assert told.params["model.window"] == "5"
    assert told.params["model.adstock"] == "geometric"
    assert json.loads(told.params["data.keys"]) == list(PANEL.keys)
    assert not any(name.startswith(("run.", "compute.")) for name in told.params)
    assert told.metrics["units_ok"] == run.manifest["counts"]["ok"]
    assert told.metrics["certified_share"] == run.ok_share
    names = {"manifest.json", "report.html", *(f"tables/{name}.parquet" for name in ("status", *TABLES))}
    assert set(told.files) == names
    table = pq.read_table(pa.BufferReader(told.files["tables/roi.parquet"]))
    assert table.equals(read_run(run.path).table("roi"))


def test_it_is_told_once_and_again_where_it_was_broken_off(tmp_path: Path, server: Server) -> None:
    server.refuses = "files"
    with pytest.warns(UserWarning, match="MLflow was not told of run june: ConnectionResetError"):
        run = fit(tmp_path)
    assert [told.info.status for told in server.runs] == ["RUNNING"]
    server.refuses = None
    for _ in range(2):
        assert fit(tmp_path).manifest == run.manifest
        assert [told.info.status for told in server.runs] == ["FINISHED"]


def test_a_server_that_is_away_fails_no_fit(tmp_path: Path, server: Server) -> None:
    server.refuses = "all"
    with pytest.warns(UserWarning, match="MlflowException"):
        run = fit(tmp_path)
    assert (run.path / "_SUCCESS").is_file()


def test_without_mlflow_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"run\.tracking: mlflow needs a package .*mixfleet\[mlflow\]"):
        fit(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_mlflow_itself_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged(monkeypatch)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "fleet")
    run = fit(tmp_path / "runs")
    fit(tmp_path / "runs")
    client = importlib.import_module("mlflow").MlflowClient()
    (told,) = client.search_runs([client.get_experiment_by_name("fleet").experiment_id])
    assert (told.info.run_name, told.info.status) == ("june", "FINISHED")
    assert told.data.tags["mixfleet.run_id"] == monitoring.run_uuid(read_run(run.path))
    assert told.data.params["model.window"] == "5"
    assert told.data.metrics["certified_share"] == run.ok_share
    assert {file.path for file in client.list_artifacts(told.info.run_id)} == {"manifest.json", "report.html", "tables"}


@pytest.mark.nightly
def test_mlflow_itself_may_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(UserWarning, match="MLflow was not told of run june: MlflowException"):
        run = fit(tmp_path)
    assert (run.path / "_SUCCESS").is_file()
