"""Old runs go, whole; what is young, in use, rested on or no run stays."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mixfleet.errors import RunError
from mixfleet.fitting.runner import execute, execute_shard
from mixfleet.storage import atomic_files
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.retention.prune import remove, verdicts
from tests.support.stub_engine import brands, engine, fleet, spec

PANEL = fleet(brands(3))
KEEP = timedelta(days=30)


def run_in(root: Path, name: str, **run: Any) -> Path:
    settings = spec(root, name, draws="summary")
    return execute(PANEL, replace(settings, run=replace(settings.run, **run)), engine()).path


def after(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def going(root: Path, days: float = 31) -> list[str]:
    return [verdict.path.name for verdict in verdicts(root, KEEP, after(days)) if verdict.run]


def reasons(root: Path, days: float = 31) -> dict[str, str]:
    return {verdict.path.name: verdict.reason for verdict in verdicts(root, KEEP, after(days))}


def aged(path: Path, days: float) -> None:
    """The finished run as if it had ended so long ago."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["timings"]["finished"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    (path / "manifest.json").write_text(json.dumps(manifest))


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_old_runs_go_and_the_last_one_stays(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run_in(tmp_path, name)
    aged(tmp_path / "a", 31)
    aged(tmp_path / "b", 29)
    before = tree(tmp_path)
    assert going(tmp_path, 0) == ["a"]
    assert reasons(tmp_path, 0)["b"] == "is young; finished 29 days ago"
    assert going(tmp_path, 100) == ["a", "b"]
    assert reasons(tmp_path, 100)["c"] == "is the run finished last; finished 100 days ago"
    assert tree(tmp_path) == before
    found = [verdict for verdict in verdicts(tmp_path, KEEP, after(0)) if verdict.run]
    assert found[0].size == sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert remove(found) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c", "latest.json"]


def test_the_base_of_a_young_run_stays_but_not_the_base_of_that(tmp_path: Path) -> None:
    for name, base in (("one", None), ("two", "one"), ("three", "two"), ("four", None)):
        run_in(tmp_path, name, base=base and str(tmp_path / base))
    for name, days in (("one", 50), ("two", 40), ("three", 20), ("four", 10)):
        aged(tmp_path / name, days)
    assert going(tmp_path, 0) == ["one"]
    assert reasons(tmp_path, 0)["two"] == "is the base of three; finished 40 days ago"


def test_a_base_is_known_by_its_digest_and_by_the_name_that_an_unfinished_run_was_given(tmp_path: Path) -> None:
    run_in(tmp_path, "one")
    run_in(tmp_path, "two", base=str(tmp_path / "one"))
    run_in(tmp_path, "three")
    os.rename(tmp_path / "one", tmp_path / "renamed")
    settings = spec(tmp_path, "resumable", draws="summary")
    settings = replace(settings, run=replace(settings.run, base=str(tmp_path / "three")))
    with pytest.raises(KeyboardInterrupt):
        execute(fleet(brands(3), seed=1), settings, engine(stop_after=1))
    run_in(tmp_path, "last")
    for name, days in (("renamed", 50), ("two", 1), ("three", 50)):
        aged(tmp_path / name, days)
    assert reasons(tmp_path, 0)["renamed"].startswith("is the base of two")
    aged(tmp_path / "two", 50)
    assert going(tmp_path, 0) == ["renamed", "two"]
    assert reasons(tmp_path, 0)["three"].startswith("is the base of resumable")


def test_an_unfinished_run_goes_by_when_it_was_last_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(PANEL, spec(tmp_path, "killed", draws="summary"), engine(stop_after=1))
    assert going(tmp_path, 29) == []
    assert reasons(tmp_path)["killed"] == "unfinished, last written 31 days ago"
    found = verdicts(tmp_path, KEEP, after(31))
    run_in(tmp_path, "killed")
    assert [verdict.reason for verdict in remove(found)] == ["has changed meanwhile"]
    assert (tmp_path / "killed" / "_SUCCESS").is_file()


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run_in(tmp_path, name)
    found = verdicts(tmp_path, KEEP, after(31))
    with hold_lock(tmp_path / "a"):
        assert going(tmp_path) == ["b"]
        assert [verdict.reason for verdict in remove(found)[:2]] == ["is being written", found[1].reason]
    assert (tmp_path / "a" / "_SUCCESS").is_file()
    assert going(tmp_path) == ["a"]


def test_shards_go_with_their_run_and_not_while_one_is_written(tmp_path: Path) -> None:
    settings = spec(tmp_path, "june", draws="summary")
    shards = [replace(settings, compute=replace(settings.compute, shard=f"{i}/2")) for i in range(2)]
    folders = [execute_shard(PANEL, shard, engine()) for shard in shards]
    assert reasons(tmp_path)["june.shards"] == "is no run"
    run_in(tmp_path, "june")
    run_in(tmp_path, "last")
    with hold_lock(folders[1]):
        assert reasons(tmp_path)["june"].startswith("is being written")
    remove(verdicts(tmp_path, KEEP, after(31)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "latest.json"]


def test_what_is_no_run_stays(tmp_path: Path) -> None:
    run_in(tmp_path / "elsewhere", "run")
    (tmp_path / "notes").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"schema_version": 1, "nodes": {}}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text("{")
    (tmp_path / "a_file").write_text("x")
    run_in(tmp_path, "outer")
    run_in(tmp_path / "outer", "inner")
    run_in(tmp_path, "last")
    before = tree(tmp_path)
    found = reasons(tmp_path)
    assert found.pop("damaged").startswith(f"{tmp_path / 'damaged' / 'manifest.json'} is damaged")
    assert found.pop("outer").startswith("holds other runs")
    assert {found.pop(name) for name in ("notes", "other", "elsewhere")} == {"is no run"}
    assert list(found) == ["last"]
    remove(verdicts(tmp_path, KEEP, after(31)))
    assert tree(tmp_path) == before


def test_nothing_follows_links(tmp_path: Path) -> None:
    root, other = tmp_path / "runs", tmp_path / "other"
    kept = run_in(other, "kept")
    run_in(root, "a")
    run_in(root, "last")
    (root / "link").symlink_to(kept)
    (root / "a" / "to_kept").symlink_to(kept)
    (root / "a.shards").symlink_to(other)
    assert going(root) == ["a"]
    remove(verdicts(root, KEEP, after(31)))
    assert sorted(path.name for path in root.iterdir()) == ["a.shards", "last", "latest.json", "link"]
    assert (kept / "_SUCCESS").is_file()
    (tmp_path / "linked").symlink_to(root)
    with pytest.raises(RunError, match="is a link"):
        verdicts(tmp_path / "linked", KEEP)
    with pytest.raises(RunError, match="is no folder"):
        verdicts(tmp_path / "nowhere", KEEP)


def test_a_run_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in(tmp_path, "a")
    run_in(tmp_path, "last")

    def killed(path: Path) -> None:
        assert path.name.startswith(".a.tmp-")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(verdicts(tmp_path, KEEP, after(31)))
    assert not (tmp_path / "a").exists()
    assert len(list(tmp_path.glob(".a.tmp-*"))) == 1
    assert remove(verdicts(tmp_path, KEEP, after(31)))[0].path == tmp_path / "last"
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in(tmp_path, "a")
    run_in(tmp_path, "last")

    def refused(old: Path, new: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    found = verdicts(tmp_path, KEEP, after(31))
    with pytest.raises(RunError, match="Permission denied"):
        remove(found)
    assert (tmp_path / "a" / "_SUCCESS").is_file()
