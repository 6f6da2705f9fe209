"""A finished run told to an MLflow tracking server: one run of it for the whole fleet.

Where the server is, and how it is entered, MLflow's own environment variables say (`MLFLOW_TRACKING_URI`,
`MLFLOW_TRACKING_TOKEN`, `MLFLOW_EXPERIMENT_NAME`), so that no address with a password stands in settings.

| MLflow has | of the run |
|---|---|
| parameters | settings, but for where and how it was computed |
| metrics | the gauges that Prometheus gets |
| tags | name, version, `result_sha256`, and an id by which a second telling finds the first |
| artifacts | `manifest.json`, every summary table (not the table that was fitted), the report |

References:
    MLflow tracking, https://mlflow.org/docs/latest/ml/tracking.
"""

import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mixfleet.errors import ConfigError, MixfleetError
from mixfleet.fitting import monitoring
from mixfleet.posterior.unit_result import TABLES
from mixfleet.run import Run
from mixfleet.storage.reader import RunReader, read_run

__all__ = ["require", "track"]

RUN_ID = "mixfleet.run_id"
"""Tag that finds a run again."""

LONGEST = 500
"""Characters of a parameter, as servers of any version take them."""

AT_ONCE = 100
"""Parameters of one request, as the protocol allows."""

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""Unless the environment says otherwise: a server that is away holds a fit up for seconds, not for minutes."""


def require() -> None:
    """Refuses a fit that could not be told, before it begins.

    Raises:
        ConfigError: MLflow is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        words = "mlflow needs a package that is not there: pip install 'mixfleet[mlflow]'"
        raise ConfigError(words, key="run.tracking")


def track(run: Run) -> str | None:
    """Tells MLflow of a finished run, once; why it could not be told, or None. A fit never fails by it."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    # What is fitted is nobody else's affair.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = importlib.import_module("mlflow")
    try:
        _tell(mlflow.MlflowClient(), run)
    # ImportError: of a store that needs more than the client.
    except (mlflow.exceptions.MlflowException, MixfleetError, ImportError, OSError, ValueError) as error:
        return type(error).__name__
    return None


def _tell(client: Any, run: Run) -> None:
    reader = read_run(run.place)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mixfleet")
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    own = monitoring.run_uuid(reader)
    found = client.search_runs([experiment], filter_string=f"tags.`{RUN_ID}` = '{own}'")
    if any(told.info.status == "FINISHED" for told in found):
        return
    for broken_off in found:
        client.delete_run(broken_off.info.run_id)
    manifest = reader.manifest
    tags = {RUN_ID: own, "mixfleet.version": manifest["versions"]["mixfleet"]}
    tags["mixfleet.result_sha256"] = manifest["result_sha256"]
    made = client.create_run(experiment, run_name=reader.path.name, tags=tags).info.run_id
    entities = importlib.import_module("mlflow.entities")
    settings = [entities.Param(key, value) for key, value in _settings(manifest["config"])]
    for start in range(0, len(settings), AT_ONCE):
        client.log_batch(made, params=settings[start : start + AT_ONCE])
    for gauge, value in _numbers(reader):
        client.log_metric(made, gauge, value)
    with tempfile.TemporaryDirectory() as folder:
        _write_files(run, reader, Path(folder))
        client.log_artifacts(made, folder)
    client.set_terminated(made)


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that say what was fitted, by dotted name."""
    for group, values in config.items():
        if group not in ("run", "compute"):
            for name, value in values.items():
                text = value if isinstance(value, str) else json.dumps(value)
                yield f"{group}.{name}", text[:LONGEST]


def _numbers(reader: RunReader) -> Iterator[tuple[str, float]]:
    for name, _, labels, value in monitoring.gauges(reader):
        if value is not None and name != "info":
            yield "_".join((name, *labels.values())), float(value)


def _write_files(run: Run, reader: RunReader, folder: Path) -> None:
    """What becomes artifacts."""
    (folder / "manifest.json").write_text(json.dumps(reader.manifest, indent=1))
    (folder / "tables").mkdir()
    for name in ("status", *TABLES):
        pq.write_table(reader.table(name), folder / "tables" / f"{name}.parquet")
    if run.keeps_draws and run.ok_share:
        run.report(folder / "report.html")
