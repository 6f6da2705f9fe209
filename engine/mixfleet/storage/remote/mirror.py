"""A run in progress in an object store: what the local folder commits is put there, and fetched where it goes on.

lease.json       says which process may write (see `mixfleet.storage.remote.lease`)
manifest.json    as of a run folder, while the run is in progress
config.yaml, events.jsonl, _PARTIAL, _DONE as of a run folder
parts/<name>     a part, named by number and digest, and `parts/<name>.line`, its line of the journal, which commits it

When the run is finished, what `mixfleet.storage.remote.remote_run` reads is put there, `_SUCCESS` last and by one
process only, and these are removed. The store is what counts: a local folder of another machine, or of a commit that
never reached the store, is brought to its state.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from mixfleet.errors import RunError
from mixfleet.storage import atomic_files
from mixfleet.storage.draws_zarr import DIGESTS
from mixfleet.storage.journal import JOURNAL, read_line
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.manifest import ARCHIVE, CONFIG, DONE, EVENTS, LATEST, MANIFEST, PARTIAL, PARTS, SUCCESS
from mixfleet.storage.remote.address import Address, make_root
from mixfleet.storage.remote.lease import LEASE, Lease, hold_lease
from mixfleet.storage.remote.object_store import MANY, ObjectStore, TooLargeError
from mixfleet.storage.remote.remote_run import MARKER_BYTES, TEXT_BYTES, clear, has_digest, key_of, settle

__all__ = ["Copy", "LocalOnly", "Mirror", "fetch_shards", "hold_remote"]

_LINE = ".line"
_IN_PROGRESS = (PARTIAL, MANIFEST, LEASE)
_FINAL = re.compile(r"(^|/)[0-9a-f]{16}-[^/]+$")
_SHARD = re.compile(r"\d+-of-\d+")


class Copy(Protocol):
    """Where else a run folder goes, as it is written."""

    @property
    def place(self) -> str:
        """What opens the run: its folder or its address."""
        ...

    @property
    def damaged(self) -> list[str]:
        """Objects that were found damaged; what they held is to be fitted again."""
        ...

    def put(self, name: str) -> None:
        """A file of the folder was written."""
        ...

    def remove(self, name: str) -> None:
        """A file of the folder was removed."""
        ...

    def put_part(self, name: str, line: bytes) -> None:
        """A part was committed, with this line of the journal."""
        ...

    def commit(self, files: Mapping[str, Any], manifest: str) -> None:
        """All files of the finished run are there; nothing but the marker is missing.

        Args:
            files: Of the manifest.
            manifest: Digest of the manifest.
        """
        ...

    def clean_up(self) -> None:
        """The run is finished; what it needed while it was in progress can go."""
        ...


class LocalOnly:
    """No copy: a folder on a disk."""

    def __init__(self, folder: Path) -> None:
        """Of the folder."""
        self.place = str(folder)
        self.damaged: list[str] = []

    def put(self, name: str) -> None:
        """Nothing to do, as below."""

    def remove(self, name: str) -> None:
        """See `put`."""

    def put_part(self, name: str, line: bytes) -> None:
        """See `put`."""

    def commit(self, files: Mapping[str, Any], manifest: str) -> None:
        """See `put`."""

    def clean_up(self) -> None:
        """See `put`."""


class Mirror:
    """A copy in an object store, which this process alone may write."""

    def __init__(self, store: ObjectStore, lease: Lease | None) -> None:
        """Of the run at the store's address.

        Args:
            store: At the run's address.
            lease: The held one; none for a finished run, of which nothing is written.
        """
        self.place = str(store.address)
        self.damaged: list[str] = []
        self._store, self._lease = store, lease
        self._folder = store.address.folder
        self._final: frozenset[str] = frozenset()
        """Keys of the files of the run that this process has finished."""
        self._clean = False

    def put(self, name: str) -> None:
        """Put a file of the folder under its own name."""
        self._require()
        self._store.put(name, (self._folder / name).read_bytes())

    def remove(self, name: str) -> None:
        """Remove a file that was put."""
        self._require()
        self._store.remove([name])

    def put_part(self, name: str, line: bytes) -> None:
        """Put a part, then its line, which commits it."""
        self._require()
        self._store.put(f"{PARTS}/{name}", (self._folder / PARTS / name).read_bytes())
        self._store.put(f"{PARTS}/{name}{_LINE}", line)

    def commit(self, files: Mapping[str, Any], manifest: str) -> None:
        """Put the finished run's files and manifest, and the marker, which only one process can.

        Raises:
            RunError: Another process has finished the run, or has taken it over; or a file of the folder is damaged.
        """
        final = [*self._listed(files).items(), (MANIFEST, manifest)]
        with ThreadPoolExecutor(MANY) as pool:
            list(pool.map(lambda one: self._put_final(*one), final))
        self._require()
        if self._store.swap(SUCCESS, json.dumps({"manifest": manifest}).encode(), None) is None:
            raise RunError(f"another process has finished run {self.place}: open it, or choose another run.id")
        self._final = frozenset(key_of(*one) for one in final)

    def clean_up(self) -> None:
        """Remove what a run in progress needs and what a killed attempt at its end left; note it as finished last."""
        if not self._clean:
            there = self._store.names("")
            needless = [name for name in there if name in _IN_PROGRESS or name.startswith(f"{PARTS}/")]
            if self._final:
                needless += [name for name in there if name not in self._final and _FINAL.search(name)]
            self._store.remove(needless)
            root, _, name = self.place.rpartition("/")
            ObjectStore(Address(root)).put(LATEST, json.dumps({"run": name}).encode())
            self._clean = True

    def _listed(self, files: Mapping[str, Any]) -> dict[str, str]:
        """Digest of every single file, by its name in the folder."""
        listed = {name: entry["sha256"] for name, entry in files.items()}
        if ARCHIVE in listed:
            del listed[ARCHIVE]
            lines = atomic_files.read_checked(self._folder / DIGESTS, listed[DIGESTS]).decode().splitlines()
            listed |= {f"{ARCHIVE}/{name}": digest for digest, _, name in (line.partition("  ") for line in lines)}
        return listed

    def _put_final(self, name: str, sha256: str) -> None:
        self._require()
        self._store.put(key_of(name, sha256), atomic_files.read_checked(self._folder / name, sha256))

    def _require(self) -> None:
        if self._lease is not None:
            self._lease.require()

    def restore(self) -> None:
        """Bring the local folder to the state of the store."""
        success = self._store.read(SUCCESS, MARKER_BYTES)
        if success is not None:
            settle(self._store, success, alone=True)
            return
        manifest = self._store.read(MANIFEST, TEXT_BYTES)
        if manifest is None or not _holds(self._folder / MANIFEST, manifest):
            clear(self._folder)
        atomic_files.remove_file(self._folder / SUCCESS)
        if manifest is None:
            return
        atomic_files.replace_bytes(self._folder / MANIFEST, manifest)
        for name in (CONFIG, EVENTS, DONE):
            data = self._store.read(name, TEXT_BYTES)
            if data is None:
                atomic_files.remove_file(self._folder / name)
            else:
                atomic_files.replace_bytes(self._folder / name, data)
        self._restore_parts()

    def _restore_parts(self) -> None:
        """Fetch the parts; what is damaged is named, and its line removed, so that its units are fitted again."""
        folder = self._folder / PARTS
        atomic_files.make_own_folder(folder)
        keys = [name for name in self._store.names(PARTS) if name.endswith(_LINE)]
        with ThreadPoolExecutor(MANY) as pool:
            lines = list(pool.map(self._restored, keys))
        lost = [key for key, line in zip(keys, lines, strict=True) if not line]
        self.damaged = [f"{self.place}/{key.removesuffix(_LINE)}" for key in lost]
        if self._lease is not None:
            self._store.remove(lost)
        atomic_files.replace_bytes(folder / JOURNAL, b"".join(lines))

    def _restored(self, key: str) -> bytes:
        """The line at a key, once its part is in the folder; empty where either is damaged."""
        try:
            line = self._store.read(key, TEXT_BYTES) or b""
            record = read_line(line)
            if record is None or key != f"{PARTS}/{record['part']}{_LINE}":
                return b""
            path = self._folder / PARTS / record["part"]
            if not has_digest(path, record["sha256"]):
                data = self._store.read(f"{PARTS}/{record['part']}", min(record["size"], atomic_files.MOST_BYTES))
                if data is None or hashlib.sha256(data).hexdigest() != record["sha256"]:
                    return b""
                atomic_files.replace_bytes(path, data)
            return line
        except TooLargeError:
            return b""


@contextmanager
def hold_remote(address: Address) -> Iterator[Mirror]:
    """The copy of a run, new or to be resumed, whose local folder is in the state of the store; held during the block.

    Raises:
        RunError: Another process holds it, here or elsewhere; or the store cannot be reached.
    """
    make_root()
    atomic_files.make_own_folder(address.folder)
    with hold_lock(address.folder):
        store = ObjectStore(address)
        finished = store.read(SUCCESS, MARKER_BYTES) is not None
        with nullcontext() if finished else hold_lease(address, address.folder) as lease:
            mirror = Mirror(store, lease)
            mirror.restore()
            yield mirror


def fetch_shards(root: Address) -> Path:
    """The local folder of the shards that lie below an address, each in the state of the store.

    Raises:
        RunError: A part of one is damaged; names the object. Its shard is no longer finished.
    """
    make_root()
    local = root.joined("shard").folder.parent
    names = [name for name in ObjectStore(root).folders() if _SHARD.fullmatch(name)]
    for path in local.glob("*"):
        if path.name not in names:
            atomic_files.remove_tree(path)
    for name in names:
        store = ObjectStore(root.joined(name))
        atomic_files.make_own_folder(local / name)
        with hold_lock(local / name):
            mirror = Mirror(store, None)
            mirror.restore()
        if mirror.damaged:
            store.remove([DONE])
            said = f"{', '.join(mirror.damaged[:3])} is damaged"
            raise RunError(f"{said}: repeat its command with compute.shard={name.replace('-of-', '/')}")
    return local


def _holds(path: Path, data: bytes) -> bool:
    return has_digest(path, hashlib.sha256(data).hexdigest())
