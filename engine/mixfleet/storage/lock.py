"""The right of one process to write one run folder."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mixfleet.errors import RunError
from mixfleet.storage.atomic_files import naming_disk_errors

LOCK_FILE = ".lock"


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock during the block.

    The kernel gives the lock up with the process that held it, so what a killed process leaves behind never
    blocks the next one.

    Raises:
        RunError: Another process holds it; names that process.
    """
    path = folder / LOCK_FILE
    with naming_disk_errors(path, 0):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"run {folder} is being written by {_owner(descriptor)}. "
                "Wait until it has ended, or choose another run.id"
            ) from None
        _sign(path, descriptor)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock. Leaves no file behind.

    Raises:
        RunError: The lock file cannot be read.
    """
    with naming_disk_errors(folder / LOCK_FILE, 0):
        try:
            descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def _sign(path: Path, descriptor: int) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with naming_disk_errors(path, 0):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
