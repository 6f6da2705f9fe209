"""A finished run in an object store: its files come to the local folder as they are asked for, checked first.

_SUCCESS                     holds the digest of the manifest: only with it do the objects count as a result
<digest>-manifest.json       as of a run folder (see `mixfleet.storage.run_folder`)
summary/<digest>-roi.parquet and so on: every file that the manifest lists, with the start of its digest in its name, so
                             that no process, however late, replaces what another one has committed
business.json                what was said of money and years after the fit, if anything, behind its digest
latest.json                  beside the runs, names the one finished last
"""

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mixfleet.errors import ConfigError, RunError
from mixfleet.storage import atomic_files
from mixfleet.storage.lock import LOCK_FILE, hold_lock
from mixfleet.storage.manifest import LATEST, MANIFEST, SUCCESS
from mixfleet.storage.remote.address import Address, make_root
from mixfleet.storage.remote.lease import LEASE_TOKEN
from mixfleet.storage.remote.object_store import MANY, ObjectStore

__all__ = [
    "MARKER_BYTES",
    "TEXT_BYTES",
    "RemoteRun",
    "clear",
    "has_digest",
    "key_of",
    "open_remote",
    "read_success",
    "settle",
]

TEXT_BYTES = 256 << 20
"""Most bytes of a manifest or a list of digests."""
MARKER_BYTES = 1 << 20
"""Most bytes of a marker and of what was said of money."""
_DIGEST = re.compile("[0-9a-f]{64}")
_REMEDY = "fit again with another run.id"


@dataclass(frozen=True)
class RemoteRun:
    """A finished run in a store."""

    address: Address
    folder: Path
    """The local folder that stands for it."""

    def fetch(self, files: Mapping[str, str]) -> None:
        """See that files are in the local folder.

        Args:
            files: Digest by name.

        Raises:
            RunError: One is missing in the store, or is not the one that was committed; names it.
        """
        missing = [
            (name, sha256) for name, sha256 in files.items() if not has_digest(self.folder / _inside(name), sha256)
        ]
        if missing:
            store = ObjectStore(self.address)
            with ThreadPoolExecutor(MANY) as pool:
                list(pool.map(lambda one: self._fetch(store, *one), missing))

    def keep(self, name: str, data: bytes) -> None:
        """Leave in the store what is said after the fit, in one object with its digest."""
        ObjectStore(self.address).put(name, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)

    def kept(self, name: str) -> bytes | None:
        """What `keep` left last; None where nothing was said.

        Raises:
            RunError: It is damaged.
        """
        found = ObjectStore(self.address).read(name, MARKER_BYTES)
        if found is None:
            return None
        digest, _, data = found.partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            raise RunError(f"{self.address}/{name} is damaged; remove it, and say again what it said")
        return data

    def _fetch(self, store: ObjectStore, name: str, sha256: str) -> None:
        data = read_object(store, name, sha256, atomic_files.MOST_BYTES)
        path = self.folder / name
        atomic_files.make_folder(path.parent)
        atomic_files.replace_bytes(path, data)


def read_success(store: ObjectStore) -> tuple[bytes, bytes] | None:
    """The marker and the manifest of a finished run; None where the run is not finished.

    Raises:
        RunError: One is damaged.
    """
    success = store.read(SUCCESS, MARKER_BYTES)
    return None if success is None else (success, read_object(store, MANIFEST, _committed(store, success), TEXT_BYTES))


def open_remote(address: Address) -> RemoteRun:
    """The finished run at an address, or the one finished last of the runs below it; its manifest is fetched.

    Args:
        address: Of the run, or of what runs lie below.

    Raises:
        RunError: There is no finished run, or its manifest is damaged.
    """
    store = ObjectStore(address)
    success = store.read(SUCCESS, MARKER_BYTES)
    if success is None:
        latest = store.read(LATEST, MARKER_BYTES)
        if latest is None:
            raise RunError(_absent(store))
        address = _latest(address, latest)
        store = ObjectStore(address)
        success = store.read(SUCCESS, MARKER_BYTES)
        if success is None:
            raise RunError(_absent(store))
    make_root()
    atomic_files.make_own_folder(address.folder)
    settle(store, success, alone=False)
    return RemoteRun(address, address.folder)


def settle(store: ObjectStore, success: bytes, *, alone: bool) -> None:
    """Let the local folder be that of the finished run in the store: its manifest, and no files of another one.

    Args:
        store: Of the run.
        success: The marker that commits it.
        alone: Whether this process holds the folder's lock already.

    Raises:
        RunError: The marker or the manifest is damaged; or the folder belonged to another run, and a process holds it.
    """
    folder = store.address.folder
    sha256 = _committed(store, success)
    if has_digest(folder / MANIFEST, sha256) and (folder / SUCCESS).is_file():
        return
    manifest = read_object(store, MANIFEST, sha256, TEXT_BYTES)
    if not has_digest(folder / MANIFEST, sha256):
        if alone:
            clear(folder)
        else:
            with hold_lock(folder):
                clear(folder)
    atomic_files.replace_bytes(folder / MANIFEST, manifest)
    atomic_files.replace_bytes(folder / SUCCESS, success)


def clear(folder: Path) -> None:
    """Remove what a local folder holds of an earlier run, all but what says who holds it. The caller holds its lock."""
    for path in list(folder.iterdir()):
        if path.name not in (LOCK_FILE, LEASE_TOKEN):
            atomic_files.remove_tree(path) if path.is_dir() else atomic_files.remove_file(path)


def key_of(name: str, sha256: str) -> str:
    """Where a file of a finished run lies: by its name and digest."""
    place = PurePosixPath(name)
    return str(place.with_name(f"{sha256[:16]}-{place.name}"))


def read_object(store: ObjectStore, name: str, sha256: str, most: int) -> bytes:
    """A file of a finished run, which has that digest (hex).

    Raises:
        RunError: It is missing, larger than `most` bytes or damaged; names the object.
    """
    if not _DIGEST.fullmatch(sha256):
        raise RunError(f"{store.address} is damaged: {sha256[:80]!r} is no digest; {_REMEDY}")
    key = key_of(_inside(name), sha256)
    data = store.read(key, most)
    if data is None:
        raise RunError(f"{store.address}/{key} is missing; {_REMEDY}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{store.address}/{key} is damaged; {_REMEDY}")
    return data


def has_digest(path: Path, sha256: str) -> bool:
    """Whether there is a file of that digest (hex)."""
    try:
        return atomic_files.file_sha256(path) == sha256
    except OSError:
        return False


def _inside(name: str) -> str:
    """The name of a file inside a run's folder.

    Raises:
        RunError: It is that of a file elsewhere.
    """
    parts = name.split("/")
    if not all(part.strip(".") and part.isprintable() and "\\" not in part for part in parts):
        raise RunError(f"the run names {name!r}, which is no file of a run; {_REMEDY}")
    return name


def _latest(address: Address, data: bytes) -> Address:
    try:
        name = str(json.loads(data)["run"])
        run = address.joined(name)
        if run.name != name:
            raise ValueError(f"{name!r} is no name of a run")
        return run
    except (ValueError, LookupError, TypeError, RecursionError, ConfigError) as error:
        raise RunError(f"{address}/{LATEST} names no run there. Name the run itself") from error


def _committed(store: ObjectStore, success: bytes) -> str:
    """Digest of the manifest that the marker commits."""
    try:
        return str(json.loads(success)["manifest"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError(f"{store.address}/{SUCCESS} is damaged; {_REMEDY}") from error


def _absent(store: ObjectStore) -> str:
    address = store.address
    if store.size(MANIFEST) is None:
        return f"there is no run at {address}: it has no {SUCCESS}"
    root = address.url.rpartition("/")[0]
    resumed = f"run.root={root} and run.id={address.name}"
    return f"run {address} is not finished. Resume it with the same configuration, {resumed}"
