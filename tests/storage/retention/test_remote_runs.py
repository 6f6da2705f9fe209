"""Old runs of an object store go as those of a folder do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mixfleet import run as saved
from mixfleet.errors import RunError
from mixfleet.fitting.runner import execute
from mixfleet.storage import run_folder
from mixfleet.storage.remote import lease
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.lease import hold_lease
from mixfleet.storage.remote.object_store import ObjectStore
from mixfleet.storage.retention import remote_runs
from mixfleet.storage.retention.prune import remove, verdicts
from tests.support.stub_engine import brands, engine, fleet, spec

PANEL = fleet(brands(2))
KEEP = timedelta(days=30)
LATER = datetime.now(UTC) + timedelta(days=31)


@pytest.fixture(autouse=True)
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was just written counts as left alone, and a lease as stale, at once."""
    monkeypatch.setattr(remote_runs, "STALE_SECONDS", 0.0)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.4)


def fit(root: str, name: str, stop_after: int | None = None, **run: Any) -> saved.Run:
    settings = spec(root, name, draws="summary")
    return execute(PANEL, replace(settings, run=replace(settings.run, **run)), engine(stop_after=stop_after))


def told(root: str, now: datetime = LATER) -> dict[str, str]:
    return {verdict.path.name: verdict.reason for verdict in verdicts(Address(root), KEEP, now)}


def test_old_runs_go_and_what_is_needed_stays(root: str, elsewhere: Callable[[], Path]) -> None:
    fit(root, "base")
    with pytest.raises(KeyboardInterrupt):
        fit(root, "broken", stop_after=1)
    old = fit(root, "old")
    ObjectStore(Address(root)).put("notes/readme.txt", b"no run")
    ObjectStore(Address(root)).put("old.shards/0-of-1/parts/x", b"part")
    fit(root, "last")
    assert set(told(root, datetime.now(UTC)).values()) == {
        "is no run", "is the run finished last; finished 0 days ago", "is young; finished 0 days ago",
        "is young; unfinished, last written 0 days ago",
    }  # fmt: skip
    elsewhere()
    found = verdicts(Address(root), KEEP, LATER)
    assert {verdict.path.name for verdict in found if verdict.run} == {"base", "broken", "old"}
    assert all(verdict.size > 500 for verdict in found if verdict.run)
    remove([verdict for verdict in found if verdict.path.name != "base"])
    left = ObjectStore(Address(root)).names("")
    assert {name.partition("/")[0] for name in left} == {"base", "last", "latest.json", "notes"}
    with pytest.raises(RunError, match="there is no run"):
        saved.open(old.place)
    assert saved.open(root).place == f"{root}/last"


def test_a_base_of_a_younger_run_stays(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(run_folder, "_now", lambda: (datetime.now(UTC) - timedelta(days=40)).isoformat())
        fit(root, "base")
        fit(root, "alone")
    fit(root, "next", base=f"{root}/base")
    assert told(root, datetime.now(UTC)) == {
        "alone": "finished 40 days ago",
        "base": "is the base of next; finished 40 days ago",
        "next": "is the run finished last; finished 0 days ago",
    }


def test_a_run_that_is_written_or_has_changed_stays(root: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(root, "broken", stop_after=1)
    fit(root, "last")
    found = verdicts(Address(root), KEEP, LATER)
    (tmp_path / "elsewhere").mkdir()
    with (
        hold_lease(Address(f"{root}/broken"), tmp_path / "elsewhere"),
        pytest.raises(RunError, match="broken is being written by process"),
    ):
        remove(found)
    fit(root, "broken")
    assert "has changed meanwhile" in {verdict.reason for verdict in remove(found)}
    assert saved.open(f"{root}/broken").counts


def test_what_a_killed_call_leaves_is_removed_later(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(root, "old")
    fit(root, "last")
    with monkeypatch.context() as dying:
        dying.setattr(lease.Lease, "require", die)
        with pytest.raises(KeyboardInterrupt):
            remove(verdicts(Address(root), KEEP, LATER))
    with pytest.raises(RunError, match="is not finished"):
        saved.open(f"{root}/old")
    assert told(root)["old"].startswith("unfinished, last written")
    remove(verdicts(Address(root), KEEP, LATER))
    assert not ObjectStore(Address(root)).names("old")


def die(_: Any) -> None:
    raise KeyboardInterrupt
