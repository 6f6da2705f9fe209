"""Of all who want to write a run exactly one may, and a holder that died does not hold others up for ever."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixfleet.errors import RunError
from mixfleet.storage.remote import lease as leases
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.lease import LEASE, hold_lease
from mixfleet.storage.remote.object_store import ObjectStore

STALE = 0.8


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(leases, "STALE_SECONDS", STALE)


@pytest.fixture
def run(root: str) -> Address:
    return Address(f"{root}/r")


def folder(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def die(run: Address, folder: Path) -> None:
    """As a process does that held the lease and was killed."""
    held = hold_lease(run, folder)
    lease = held.__enter__()
    lease._stop.set()
    lease._thread.join()
    # What the block ends with is not to happen.
    lease._lost = True


def test_a_second_writer_is_refused_and_told_who_the_first_is(run: Address, tmp_path: Path) -> None:
    here, there = folder(tmp_path, "here"), folder(tmp_path, "there")
    with hold_lease(run, here) as lease:
        with pytest.raises(RunError, match=rf"{run} is being written by process \d+ on .* since .*another run.id"):
            hold_lease(run, there).__enter__()
        time.sleep(2 * STALE)
        lease.require()
    start = time.monotonic()
    with hold_lease(run, there):
        assert time.monotonic() - start < STALE


def test_a_dead_holder_is_waited_for_and_replaced(run: Address, tmp_path: Path) -> None:
    die(run, folder(tmp_path, "here"))
    start = time.monotonic()
    with hold_lease(run, folder(tmp_path, "there")) as lease:
        assert time.monotonic() - start >= STALE
        lease.require()


def test_a_dead_process_of_this_machine_is_replaced_at_once(
    run: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder(tmp_path, "here")
    die(run, here)
    monkeypatch.setattr(leases, "STALE_SECONDS", 600.0)
    with hold_lease(run, here) as lease:
        lease.require()


def test_who_was_silent_for_long_writes_nothing_more(run: Address, tmp_path: Path) -> None:
    with hold_lease(run, folder(tmp_path, "here")) as asleep:
        asleep._stop.set()
        asleep._thread.join()
        with hold_lease(run, folder(tmp_path, "there")) as lease:
            with pytest.raises(RunError, match=f"another process has taken over run {run}"):
                asleep.require()
            lease.require()
    # The one that lost it has left the other's lease alone.
    assert json.loads(ObjectStore(run).read(LEASE, 1000) or b"")["released"]


def test_a_beat_whose_answer_was_lost_is_ones_own(
    run: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 60.0)
    with hold_lease(run, folder(tmp_path, "here")) as lease:
        swap, lost = ObjectStore.swap, []

        def answerless(store: ObjectStore, key: str, data: bytes, tag: str | None) -> str | None:
            written = swap(store, key, data, tag)
            if not lost:
                lost.append(key)
                raise RunError("no answer")
            return written

        monkeypatch.setattr(ObjectStore, "swap", answerless)
        with pytest.raises(RunError, match="no answer"):
            lease._renew()
        lease._renew()
        lease.require()


def test_of_many_contenders_exactly_one_wins(run: Address, tmp_path: Path) -> None:
    die(run, folder(tmp_path, "dead"))
    over = threading.Event()

    def contend(number: int) -> str:
        try:
            with hold_lease(run, folder(tmp_path, str(number))):
                over.wait(20)
                return "held"
        except RunError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(contend, number) for number in range(4)]
        deadline = time.monotonic() + 20
        while sum(one.done() for one in waiting) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        over.set()
        told = [one.result() for one in waiting]
    assert told.count("held") == 1
    assert sum("is being written by process" in one for one in told) == 3


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"token": ["x"], "pid": {}}'])
def test_a_lease_that_says_nothing_is_held_until_it_is_stale(run: Address, tmp_path: Path, text: bytes) -> None:
    ObjectStore(run).put(LEASE, text)
    start = time.monotonic()
    with hold_lease(run, folder(tmp_path, "here")):
        assert time.monotonic() - start >= STALE
