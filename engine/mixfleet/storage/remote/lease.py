"""The right of one process, of all machines, to write one run in an object store.

An object that its holder writes anew every few seconds, each time on condition that it is still the version the holder
wrote last; so of two writers one is refused by the store itself. Who finds it held watches it: a version that changes
has a live holder, one that does not change for `STALE_SECONDS` may be taken over. No clocks are compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixfleet.errors import RunError
from mixfleet.storage import atomic_files
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.object_store import ObjectStore, Tagged

__all__ = ["LEASE", "LEASE_TOKEN", "Lease", "hold_lease"]

LEASE = "lease.json"
LEASE_TOKEN = ".lease"
"""File of the local folder with the token of the process of this machine that held the lease last."""

BEAT_SECONDS = 20.0
STALE_SECONDS = 90.0
REQUEST_SECONDS = 15.0
"""Longest time of one request."""

_MOST = 1 << 16


class Lease:
    """The held lease; a thread of its own renews it."""

    def __init__(self, store: ObjectStore, words: dict[str, Any], tag: str) -> None:
        """Used by `hold_lease` only."""
        self._store, self._words, self._tag = store, words, tag
        self._lost = False
        self._renewed = time.monotonic()
        self._guard, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mixfleet-lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """To be asked before what only the holder may do.

        Raises:
            RunError: Another process has taken the lease over, or may have.
        """
        if not self._lost and time.monotonic() - self._renewed > STALE_SECONDS:
            self._renew()
        if self._lost:
            raise RunError(
                f"another process has taken over run {self._store.address}, for this one said nothing for "
                f"{STALE_SECONDS:.0f} seconds; it writes nothing more. Wait until the other has ended"
            )

    def release(self) -> None:
        """Give the lease up, so that the next one need not wait."""
        self._stop.set()
        self._thread.join()
        with self._guard, suppress(RunError):
            if not self._lost:
                self._store.swap(LEASE, _text(self._words | {"released": True}), self._tag)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            # A store that cannot be reached is tried again; `require` knows how long it was silent.
            with suppress(RunError):
                self._renew()
            if self._lost:
                return

    def _renew(self) -> None:
        with self._guard:
            while True:
                self._words["beat"] += 1
                asked = time.monotonic()
                tag = self._store.swap(LEASE, _text(self._words), self._tag)
                if tag is not None:
                    self._tag, self._renewed = tag, asked
                    return
                found = self._store.tagged(LEASE, _MOST)
                if found is None or _holder(found).get("token") != self._words["token"]:
                    self._lost = True
                    return
                # An earlier beat was written although its answer never came.
                self._tag = found.tag


@contextmanager
def hold_lease(address: Address, folder: Path) -> Iterator[Lease]:
    """Hold the lease of a run during the block.

    Args:
        address: The run's.
        folder: The local one that stands for it, whose lock this process holds: a lease that another process held from
            there ended with it, and is taken over at once.

    Raises:
        RunError: Another process holds it; names that process. Or the store cannot be reached, or cannot write on
            condition.
    """
    store = ObjectStore(address, seconds=REQUEST_SECONDS)
    token = uuid.uuid4().hex
    words = {
        "token": token,
        "beat": 0,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    own = _token_in(folder)
    # Before the lease, so that a kill in between leaves one that is known as ours.
    atomic_files.replace_bytes(folder / LEASE_TOKEN, f"{token}\n{own}".encode())
    lease = Lease(store, words, _acquired(store, words, own))
    try:
        atomic_files.replace_bytes(folder / LEASE_TOKEN, token.encode())
        yield lease
    finally:
        lease.release()


def _acquired(store: ObjectStore, words: dict[str, Any], own: str) -> str:
    """The tag of the lease that was taken."""
    while True:
        found = store.tagged(LEASE, _MOST)
        if found is not None:
            holder = _holder(found)
            if not holder.get("released") and str(holder.get("token")) not in own.split():
                _await_end(store, found)
        tag = store.swap(LEASE, _text(words), None if found is None else found.tag)
        if tag is not None:
            return tag


def _await_end(store: ObjectStore, found: Tagged) -> None:
    """Watch a held lease until it may be taken over.

    Raises:
        RunError: Its holder lives.
    """
    start = time.monotonic()
    while time.monotonic() - start < STALE_SECONDS:
        time.sleep(BEAT_SECONDS / 4)
        now = store.tagged(LEASE, _MOST)
        if now is None or now.tag == found.tag:
            continue
        holder = _holder(now)
        if holder.get("released"):
            return
        who = "process {pid} on {host} since {since}".format_map(
            {name: str(holder.get(name, "unknown"))[:100] for name in ("pid", "host", "since")}
        )
        raise RunError(
            f"run {store.address} is being written by {who}. Wait until it has ended, or choose another run.id"
        )


def _holder(found: Tagged) -> dict[str, Any]:
    try:
        holder = json.loads(found.data)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _token_in(folder: Path) -> str:
    try:
        return (folder / LEASE_TOKEN).read_text("ascii")[:1000]
    except (OSError, ValueError):
        return ""


def _text(words: dict[str, Any]) -> bytes:
    return json.dumps(words).encode()
