"""What watches over fits is told: by the formats' own rules, and as the run's tables have it."""

import json
import re
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from mixfleet.config import RunConfig
from mixfleet.errors import RunError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from tests.support.quick import ragged_fleet, settings, with_units

SAMPLE = re.compile(r'^(mixfleet_\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, usual_broadcasts: None) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("watched")
    panel = with_units(ragged_fleet(), ragged_fleet().units[:2])
    where = RunConfig(
        root=str(folder / "runs"), id="june", metrics=str(folder / "m.prom"), lineage=str(folder / "lineage.json")
    )
    return execute(panel, replace(settings(panel.data), run=where), fit_units), folder


def test_metrics_are_prometheus_text_and_those_of_the_tables(told: tuple[Run, Path]) -> None:
    run, folder = told
    text, values = (folder / "m.prom").read_text("utf-8"), {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if not line.startswith("#"):
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert f"# TYPE {found[1]} gauge" in text
            values[found[1], found[2] or ""] = float(found[3])
    for status, count in run.manifest["counts"].items():
        assert values["mixfleet_units", f'status="{status}"'] == count
    table = run.status
    ok = table[table["status"].str.startswith("ok")]
    assert values["mixfleet_certified_share", ""] == len(ok) / len(table)
    assert values["mixfleet_rhat_max", ""] == ok["rhat_max"].max()
    assert values["mixfleet_ess_min", ""] == ok["ess_bulk_min"].min()
    assert ("mixfleet_info", 'run="june",version="' + run.manifest["versions"]["mixfleet"] + '"') in values


def test_lineage_is_an_event_that_names_what_was_read_and_written(told: tuple[Run, Path]) -> None:
    run, folder = told
    event = json.loads((folder / "lineage.json").read_text("utf-8"))
    assert {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"} == set(event)
    assert event["eventType"] == "COMPLETE"
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
    assert event["outputs"][0]["name"] == str(run.path.absolute())
    assert event["inputs"][0]["facets"]["version"]["datasetVersion"] == run.manifest["fingerprint"]["data"]
    for facet in (event["run"]["facets"]["mixfleet_result"], event["inputs"][0]["facets"]["version"]):
        assert {"_producer", "_schemaURL"} <= set(facet)
    assert event["run"]["facets"]["mixfleet_result"]["result_sha256"] == run.manifest["result_sha256"]


def test_a_finished_run_tells_again_and_a_folder_that_is_not_there_is_named(told: tuple[Run, Path]) -> None:
    run, folder = told
    panel = with_units(ragged_fleet(), ragged_fleet().units[:2])
    spec = replace(settings(panel.data), run=RunConfig(root=str(folder / "runs"), id="june", metrics="/nowhere/m.prom"))
    with pytest.raises(RunError, match="/nowhere"):
        execute(panel, spec, fit_units)
    before = (folder / "m.prom").read_bytes()
    spec = replace(spec, run=replace(spec.run, metrics=str(folder / "m.prom")))
    assert execute(panel, spec, fit_units).path == run.path
    assert (folder / "m.prom").read_bytes() == before
