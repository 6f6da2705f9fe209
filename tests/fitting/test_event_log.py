"""Lines of JSON on a fit: each unit once, how it ended, and nothing but names, statuses and times."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixfleet.config import Spec
from mixfleet.errors import RunError
from mixfleet.fitting.event_log import STDERR, EventLog
from mixfleet.fitting.runner import execute, execute_shard
from tests.support.stub_engine import brands, engine, fleet, spec, unit_result

PANEL = fleet(brands(5), [("z", "z")])
ALWAYS = {"time", "level", "event", "run"}


def logged(root: Path, **compute: Any) -> Spec:
    settings = spec(root, "june", draws="summary")
    run = replace(settings.run, log=str(root / "night.jsonl"))
    return replace(settings, run=run, compute=replace(settings.compute, **compute))


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "night.jsonl").read_text().splitlines()]


def test_each_unit_and_each_turn_of_a_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(PANEL, logged(tmp_path), engine(stop_after=2))
    run = execute(PANEL, logged(tmp_path), engine())
    said = lines(tmp_path)
    turns = [line for line in said if line["event"] != "unit"]
    assert [line["event"] for line in turns] == ["started", "interrupted", "resumed", "finished"]
    assert [(line["units"], line["done"]) for line in turns[::2]] == [(6, 0), (6, 3)]
    assert turns[-1]["result_sha256"] == run.manifest["result_sha256"]
    assert turns[-1]["counts"] == run.manifest["counts"]
    units = {tuple(line["unit"].values()): line for line in said if line["event"] == "unit"}
    assert sorted(units) == sorted([*brands(5), ("z", "z")])
    assert sum(line["event"] == "unit" for line in said) == 6
    for labels, line in units.items():
        assert set(line) == ALWAYS | {"unit", "status", "seconds"}
        assert line["unit"] == dict(zip(PANEL.keys, labels, strict=True))
        status = "rejected" if labels == ("z", "z") else unit_result(labels).status
        assert (line["status"], line["level"]) == (status, "info" if status.startswith("ok") else "warning")
    assert {line["run"] for line in said} == {"june"}
    execute(PANEL, logged(tmp_path), engine())
    assert [line["event"] for line in lines(tmp_path)[len(said) :]] == ["finished"]


def test_shards_share_a_file(tmp_path: Path) -> None:
    for shard in ("0/2", "1/2"):
        execute_shard(PANEL, logged(tmp_path, shard=shard), engine())
    said = lines(tmp_path)
    assert {line["shard"] for line in said} == {"0/2", "1/2"}
    # What was rejected is said by who collects them.
    assert sum(line["event"] == "unit" for line in said) == 5
    assert [line["event"] for line in said].count("finished") == 2


def test_an_error_is_named_and_goes_on(tmp_path: Path) -> None:
    def broken(*arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("user:password@host")
        yield

    with pytest.raises(RuntimeError):
        execute(PANEL, logged(tmp_path), broken)
    assert lines(tmp_path)[-1]["event"] == "failed"
    assert lines(tmp_path)[-1]["error"] == "RuntimeError"
    assert "password" not in (tmp_path / "night.jsonl").read_text()


def test_a_log_that_cannot_be_written_is_named_before_anything_is_fitted(tmp_path: Path) -> None:
    settings = logged(tmp_path)
    settings = replace(settings, run=replace(settings.run, log="/nowhere/night.jsonl"))
    with pytest.raises(RunError, match="/nowhere"):
        execute(PANEL, settings, engine())
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "night.jsonl").symlink_to(other)
    with pytest.raises(RunError, match="night"):
        execute(PANEL, logged(tmp_path), engine())
    assert other.read_text() == "mine"


def test_standard_error_takes_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    EventLog(STDERR, ("brand",), run="june")("started", units=2)
    EventLog(None, ("brand",), run="june")("started", units=2)
    assert [json.loads(line)["units"] for line in capsys.readouterr().err.splitlines()] == [2]
