"""What a bucket holds was written by others: nothing of it is believed before its digest is checked."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixfleet import run as saved
from mixfleet.errors import RunError
from mixfleet.fitting import runner
from mixfleet.storage.remote import remote_run
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.object_store import ObjectStore
from tests.support.stub_engine import brands, engine, fleet, spec

PANEL = fleet(brands(4))


@pytest.fixture
def finished(root: str, elsewhere: Callable[[], Path]) -> str:
    """The root of one run, seen from another machine."""
    runner.execute(PANEL, spec(root, draws="summary"), engine())
    elsewhere()
    return root


def forge(root: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Replaces the manifest, with all digests right."""
    store = ObjectStore(Address(f"{root}/r"))
    success = json.loads(store.read("_SUCCESS", 1000) or b"")
    manifest = json.loads(store.read(f"{success['manifest'][:16]}-manifest.json", 1 << 20) or b"")
    change(manifest)
    data = json.dumps(manifest).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(f"{sha256[:16]}-manifest.json", data)
    store.put("_SUCCESS", json.dumps({"manifest": sha256}).encode())


def test_there_is_no_run(root: str) -> None:
    with pytest.raises(RunError, match=f"there is no run at {root}"):
        saved.open(root)


@pytest.mark.parametrize("name", ["../out.parquet", "/out.parquet", "summary/../../out.parquet", "..\\out", "a\nb"])
def test_a_name_elsewhere_is_refused(finished: str, tmp_path: Path, name: str) -> None:
    entry = {"size": 3, "sha256": hashlib.sha256(b"bad").hexdigest()}

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = entry

    forge(finished, change)
    with pytest.raises(RunError, match=r"no file of a run|damaged"):
        saved.open(finished)._reader._fetch({name: entry["sha256"]})
    assert not list(tmp_path.rglob("out*"))


@pytest.mark.parametrize("name", ["..", "../r", "r/../../x", "", "a?b"])
def test_the_latest_run_is_below(finished: str, name: str) -> None:
    ObjectStore(Address(finished)).put("latest.json", json.dumps({"run": name}).encode())
    with pytest.raises(RunError, match="names no run there"):
        saved.open(finished)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"manifest": 3}', b'{"manifest": "../../x"}'])
def test_a_damaged_marker_is_named(finished: str, text: bytes) -> None:
    ObjectStore(Address(f"{finished}/r")).put("_SUCCESS", text)
    with pytest.raises(RunError, match=f"{finished}/r.* is (damaged|missing)"):
        saved.open(f"{finished}/r")


def test_nothing_endless_is_fetched(finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_run, "MARKER_BYTES", 100)
    ObjectStore(Address(f"{finished}/r")).put("_SUCCESS", bytes(101))
    with pytest.raises(RunError, match="_SUCCESS has more than the 100 bytes"):
        saved.open(finished)


def test_a_run_that_took_the_place_of_another_is_read_whole(finished: str, elsewhere: Callable[[], Path]) -> None:
    seen_from = saved.open(finished)
    assert seen_from.roi() is not None
    (seen_from.path / "report.html").write_text("of the first")
    store = ObjectStore(Address(f"{finished}/r"))
    store.remove(store.names(""))
    runner.execute(fleet(brands(6)), spec(finished, draws="summary"), engine())
    again = saved.open(finished)
    assert len(again.status) == 6
    assert not (again.path / "report.html").exists()


def test_what_is_said_of_money_is_kept_in_the_store(finished: str, elsewhere: Callable[[], Path]) -> None:
    saved.open(finished).keep(margin=0.25)
    elsewhere()
    assert saved.open(finished).business.margin == {"all": 0.25}
    ObjectStore(Address(f"{finished}/r")).remove(["business.json"])
    assert saved.open(finished).business.margin == {}
