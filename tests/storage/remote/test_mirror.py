"""Runs in an object store: the same bytes as in a folder, wherever they go on."""

import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mixfleet as mf
from mixfleet import run as saved
from mixfleet.config import Compute, Pooling, RunConfig
from mixfleet.config.model import MediaStructure
from mixfleet.config.spec import Cluster
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting import runner
from mixfleet.fitting.executors.shards import collected, shard_folders
from mixfleet.storage.remote import lease
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.mirror import hold_remote
from mixfleet.storage.remote.object_store import ObjectStore as ObjectStoreOf
from tests.support import mortal_remote, quick
from tests.support.lakes import ObjectStore
from tests.support.stub_engine import brands, engine, fleet, spec

obstore = pytest.importorskip("obstore")

PANEL = fleet(brands(12), [("z", "z")])


def keys(store: ObjectStore, root: str) -> list[str]:
    prefix = root.rpartition("/")[2]
    listed = [entry["path"] for page in obstore.list(store.opened(), prefix=prefix) for entry in page]
    return [name.removeprefix(f"{prefix}/") for name in listed]


@pytest.fixture
def whole(tmp_path: Path) -> saved.Run:
    return runner.execute(PANEL, spec(tmp_path / "runs"), engine(), frame="pyarrow")


def assert_same(run: saved.Run, whole: saved.Run) -> None:
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]
    assert run.roi().equals(whole.roi())
    for labels in (("brand000", "market0"), ("brand002", "market3")):
        one, other = run.unit(*labels).draws(), whole.unit(*labels).draws()
        assert one.draws.keys() == other.draws.keys()
        assert all((one.draws[name] == other.draws[name]).all() for name in one.draws)


def test_a_run_is_written_and_opened_elsewhere(
    environment: ObjectStore, root: str, elsewhere: Callable[[], Path], whole: saved.Run
) -> None:
    run = runner.execute(PANEL, spec(root), engine(), frame="pyarrow")
    assert run.place == f"{root}/r"
    assert_same(run, whole)
    elsewhere()
    for place in (root, f"{root}/r", Path(root) / "r"):
        opened = saved.open(place, frame="pyarrow")
        assert opened.place == f"{root}/r"
        assert_same(opened, whole)
    left = keys(environment, root)
    assert not [key for key in left if "parts/" in key or key.endswith(("/manifest.json", "lease.json", "_PARTIAL"))]
    assert {"latest.json", "r/_SUCCESS", "r/config.yaml", "r/events.jsonl"} < set(left)


def test_a_run_goes_on_elsewhere(
    root: str, elsewhere: Callable[[], Path], whole: saved.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "COMMIT_UNITS", 3)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(PANEL, spec(root), engine(stop_after=7))
    with pytest.raises(RunError, match=r"r is not finished.*run.root=s3://"):
        saved.open(f"{root}/r")
    elsewhere()
    done: list[int] = []
    run = runner.execute(
        PANEL, spec(root), engine(), frame="pyarrow", on_event=lambda event: done.append(event["left"])
    )
    assert done[0] == 12 - 7
    assert_same(run, whole)


def test_a_finished_run_is_opened_at_once(root: str, elsewhere: Callable[[], Path]) -> None:
    settings = spec(root, draws="summary")
    before = runner.execute(PANEL, settings, engine())
    elsewhere()
    run = runner.execute(PANEL, settings, engine(stop_after=0))
    assert run.manifest == before.manifest
    with pytest.raises(RunError, match=r"s3://.* was made from something else: the data differ"):
        runner.execute(fleet(brands(12), seed=1), settings, engine())


def test_a_damaged_part_is_named_and_fitted_again(
    environment: ObjectStore,
    root: str,
    elsewhere: Callable[[], Path],
    whole: saved.Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "COMMIT_UNITS", 3)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(PANEL, spec(root), engine(stop_after=9))
    parts = sorted(key for key in keys(environment, root) if key.endswith(".part"))
    longer, shorter, line = parts[1], parts[2], f"{parts[3]}.line"
    for key, change in ((longer, lambda data: data + b"x"), (shorter, lambda data: data[:-1]), (line, bytes.upper)):
        name = f"{root.rpartition('/')[2]}/{key}"
        data = bytes(obstore.get(environment.opened(), name).bytes())
        obstore.put(environment.opened(), name, change(data))
    elsewhere()
    run = runner.execute(PANEL, spec(root), engine(), frame="pyarrow")
    assert_same(run, whole)
    events = (run.path / "events.jsonl").read_text()
    assert all(f"{root}/{key}" in events for key in parts[1:4])
    assert f"{root}/{parts[0]}" not in events


def test_a_damaged_object_is_named(environment: ObjectStore, root: str, elsewhere: Callable[[], Path]) -> None:
    runner.execute(PANEL, spec(root), engine())
    prefix, there = root.rpartition("/")[2], keys(environment, root)
    for what in ("roi.parquet", "c.0", "manifest.json", "posterior.sha256"):
        hit = [f"{prefix}/{key}" for key in there if key.endswith(f"-{what}")]
        before = [bytes(obstore.get(environment.opened(), name).bytes()) for name in hit]
        for name in hit:
            environment.put(name, b"[]")
        elsewhere()
        with pytest.raises(RunError, match=rf"{root}/r/.*{what} is damaged"):
            read_all(saved.open(root, frame="pyarrow"))
        for name, data in zip(hit, before, strict=True):
            environment.put(name, data)
        read_all(saved.open(root, frame="pyarrow"))


def read_all(run: saved.Run) -> None:
    run.roi()
    run.unit("brand000", "market0").draws()


def test_of_two_finishers_one_is_refused(root: str, elsewhere: Callable[[], Path], monkeypatch: Any) -> None:
    """A process that lost its lease and does not know it yet cannot commit over the one that has finished."""
    with pytest.raises(KeyboardInterrupt):
        runner.execute(PANEL, spec(root), engine(stop_after=9))
    store = ObjectStoreOf(Address(f"{root}/r"))
    elsewhere()
    with hold_remote(Address(f"{root}/r")) as mirror:
        monkeypatch.setattr(mirror, "_require", lambda: None)
        store.put("_SUCCESS", b'{"manifest": "another"}')
        (Address(f"{root}/r").folder / "manifest.json").write_bytes(b"{}")
        with pytest.raises(RunError, match="another process has finished run s3://"):
            mirror.commit({}, hashlib.sha256(b"{}").hexdigest())


def test_units_are_taken_from_a_base_in_a_store(root: str, elsewhere: Callable[[], Path], tmp_path: Path) -> None:
    runner.execute(PANEL, spec(root, draws="summary"), engine())
    elsewhere()
    later = replace(spec(root, draws="summary"), run=RunConfig(root=str(tmp_path / "later"), id="r", base=root))
    run = runner.execute(PANEL, later, engine())
    failed = sum(row["status"] == "failed" for row in run.table("status").to_pylist())
    assert run.manifest["base"] == {
        "run": f"{root}/r",
        "result_sha256": run.manifest["result_sha256"],
        "carried": 12 - failed,
    }


def test_shards_are_collected_from_a_store(
    environment: ObjectStore, root: str, elsewhere: Callable[[], Path], whole: saved.Run
) -> None:
    settings = spec(root)
    for part in (0, 1):
        elsewhere()
        runner.execute_shard(PANEL, replace(settings, compute=Compute(shard=f"{part}/2")), engine())
        if part == 0:
            with pytest.raises(RunError, match="not finished: 1/2"):
                shard_folders(f"{root}/r")
    elsewhere()
    run = runner.execute(PANEL, settings, collected(shard_folders(f"{root}/r")), frame="pyarrow")
    assert_same(run, whole)
    hit = next(key for key in keys(environment, root) if key.startswith("r.shards/1-of-2") and key.endswith(".part"))
    environment.put(f"{root.rpartition('/')[2]}/{hit}", b"none")
    elsewhere()
    with pytest.raises(RunError, match=rf"{root}/{hit} is damaged: repeat its command with compute.shard=1/2"):
        shard_folders(f"{root}/r")
    runner.execute_shard(PANEL, replace(settings, compute=Compute(shard="1/2")), engine())
    assert len(shard_folders(f"{root}/r")) == 2


def test_no_key_is_in_a_run(environment: ObjectStore, root: str, tmp_path: Path, capfd: Any) -> None:
    run = runner.execute(PANEL, spec(root, draws="summary"), engine())
    prefix = root.rpartition("/")[2]
    held = [path.read_bytes() for path in run.path.rglob("*") if path.is_file()]
    stored = [f"{prefix}/{key}" for key in keys(environment, root)]
    held += [bytes(obstore.get(environment.opened(), name).bytes()) for name in stored]
    held.append("".join(capfd.readouterr()).encode())
    assert not any(environment.secret.encode() in text for text in held)
    with pytest.raises(ConfigError, match="environment variables"):
        spec("s3://key:secret@lake/runs")


def killed(root: str, left: int, seconds: float = 0.0) -> None:
    """Starts the run in a process of its own, and kills it so long after so many units are left."""
    command = [sys.executable, "-m", "tests.support.mortal_remote", root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) <= left:
                time.sleep(seconds)
                break
        process.kill()


def test_a_killed_run_goes_on_elsewhere(
    environment: ObjectStore, root: str, elsewhere: Callable[[], Path], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", mortal_remote.BEAT_SECONDS)
    monkeypatch.setattr(lease, "STALE_SECONDS", mortal_remote.STALE_SECONDS)
    killed(root, left=14)
    elsewhere()
    left: list[int] = []
    settings = spec(root, draws="summary")
    run = runner.execute(mortal_remote.PANEL, settings, engine(), on_event=lambda event: left.append(event["left"]))
    assert left[0] in (14, 15)
    whole = runner.execute(mortal_remote.PANEL, spec(tmp_path / "whole", draws="summary"), engine())
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]


@pytest.mark.nightly
@pytest.mark.usefixtures("usual_broadcasts")
@pytest.mark.parametrize("kind", ["structures", "pooled", "ray"])
def test_runs_of_every_kind_are_kept_in_a_store(
    kind: str, environment: ObjectStore, root: str, elsewhere: Callable[[], Path], tmp_path: Path
) -> None:
    """Fitted by the real engine: averaged structures, which are runs of their own, pooled groups, on a Ray cluster."""
    own = quick.settings(quick.ragged_fleet().data)
    if kind == "structures":
        model = replace(
            own.model, structures=(MediaStructure(saturation="logistic"), MediaStructure(saturation="hill"))
        )
        own = replace(own, model=model)
    elif kind == "pooled":
        own = replace(own, pooling=Pooling(by="brand"))
    else:
        pytest.importorskip("ray")
        own = replace(own, compute=replace(own.compute, executor="ray", ray=Cluster(units=3)))
    table = quick.simulated().table
    run = mf.fit(table, replace(own, run=RunConfig(root=root, id="r")))
    whole = mf.fit(table, replace(own, run=RunConfig(root=str(tmp_path / "runs"), id="r")))
    assert run.place == f"{root}/r"
    elsewhere()
    opened = saved.open(root, frame="pyarrow")
    assert opened.manifest["result_sha256"] == whole.manifest["result_sha256"]
    assert opened.insight.roi().num_rows
    beside = {key.split("/")[0] for key in keys(environment, root)} - {"latest.json"}
    assert beside == ({"r", "r.structures"} if kind == "structures" else {"r"})
    # What is finished there is opened at once.
    assert mf.fit(table, replace(own, run=RunConfig(root=root, id="r"))).manifest == opened.manifest


@pytest.mark.nightly
def test_a_run_killed_again_and_again_goes_on_elsewhere(
    environment: ObjectStore, root: str, elsewhere: Callable[[], Path], monkeypatch: Any, tmp_path: Path
) -> None:
    """At random moments, the last commits and the end among them."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", mortal_remote.BEAT_SECONDS)
    monkeypatch.setattr(lease, "STALE_SECONDS", mortal_remote.STALE_SECONDS)
    settings, moments = spec(root, draws="summary"), random.Random(7)
    for left in (22, 18, 15, 11, 8, 5, 3, 1, 1, 1):
        elsewhere()
        killed(root, left, moments.uniform(0.0, 0.4))
    elsewhere()
    run = runner.execute(mortal_remote.PANEL, settings, engine())
    whole = runner.execute(mortal_remote.PANEL, spec(tmp_path / "whole", draws="summary"), engine())
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]
    assert saved.open(root).manifest == run.manifest
    final = [key for key in keys(environment, root) if re.search("/[0-9a-f]{16}-", key)]
    assert len(final) == len(run.manifest["files"]) + 1, "files of attempts that were killed are left"


def test_lineage_names_the_bucket_and_the_place_in_it(root: str, tmp_path: Path) -> None:
    settings = spec(root, draws="summary")
    settings = replace(settings, run=replace(settings.run, lineage=str(tmp_path / "lineage.json")))
    runner.execute(PANEL, settings, engine())
    [output] = json.loads((tmp_path / "lineage.json").read_text())["outputs"]
    assert f"{output['namespace']}/{output['name']}" == f"{root}/r"
    assert output["namespace"] == "s3://lake"
