"""The same of an object store: which places below an address are runs, how old they are, and their end."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mixfleet.errors import ConfigError
from mixfleet.storage import atomic_files
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.manifest import MANIFEST, SUCCESS, parse_manifest
from mixfleet.storage.remote.address import Address, make_root
from mixfleet.storage.remote.lease import LEASE, STALE_SECONDS, hold_lease
from mixfleet.storage.remote.object_store import Entry, ObjectStore
from mixfleet.storage.remote.remote_run import TEXT_BYTES, clear, read_success
from mixfleet.storage.retention.runs import AgedRun, base_of, finished_at, is_of_run
from mixfleet.storage.run_folder import SHARDS, STRUCTURES

__all__ = ["AddressedRun", "addressed_run", "below", "remove_addressed"]


@dataclass(frozen=True, kw_only=True)
class AddressedRun(AgedRun):
    """A run as its store has it."""

    path: Address
    size: int
    """Bytes of it, those of its shards and structures too; its lease left out."""
    written: datetime
    """When an object of it was written last, by the store's clock."""
    holds_others: bool
    """Whether there are runs below it."""

    @property
    def in_use(self) -> bool:
        """Whether a process writes it: who does renews its lease."""
        return datetime.now(UTC) - self.written < timedelta(seconds=2 * STALE_SECONDS)


def below(root: Address) -> list[Address]:
    """The places right below an address, by name; those whose names no run may have are left out."""
    found = []
    for name in ObjectStore(root).folders():
        try:
            found.append(root.joined(name))
        except ConfigError:
            continue
    return found


def addressed_run(address: Address) -> AddressedRun | None:
    """The run at an address; None where there is none.

    Raises:
        RunError: It has a manifest that cannot be read.
    """
    store = ObjectStore(address)
    committed = read_success(store)
    data = store.read(MANIFEST, TEXT_BYTES) if committed is None else committed[1]
    manifest = None if data is None else parse_manifest(str(address), data)
    if manifest is None or not is_of_run(manifest):
        return None
    own = store.entries("")
    entries = [*own, *(entry for _, part in _companions(address) for entry in part)]
    written = max(entry.modified for entry in entries)
    return AddressedRun(
        name=address.name,
        path=address,
        finished=committed is not None,
        ended=written if committed is None else finished_at(address, manifest),
        digest=manifest.get("result_sha256"),
        base=base_of(manifest),
        size=sum(entry.size for entry in entries if entry.key != LEASE),
        written=written,
        holds_others=any("/" in entry.key and entry.key.endswith((f"/{SUCCESS}", f"/{MANIFEST}")) for entry in own),
    )


def remove_addressed(run: AddressedRun) -> bool:
    """Remove a run from its store, and what this machine has of it; False where it has changed since it was judged.

    For readers it is gone in one step. What a killed call leaves is an unfinished run, which goes at its time.

    Raises:
        RunError: A process writes it, or the store cannot be reached.
    """
    make_root()
    atomic_files.make_own_folder(run.path.folder)
    with hold_lock(run.path.folder):
        with hold_lease(run.path, run.path.folder) as lease:
            now = addressed_run(run.path)
            if now is None or (now.finished, now.digest, now.size) != (run.finished, run.digest, run.size):
                return False
            store = ObjectStore(run.path)
            committed = read_success(store)
            if committed is not None:
                store.put(MANIFEST, committed[1])
                store.remove([SUCCESS])
            for companion, entries in _companions(run.path):
                companion.remove(entry.key for entry in entries)
            lease.require()
            store.remove(name for name in store.names("") if name not in (MANIFEST, LEASE))
            store.remove([MANIFEST])
            store.remove([LEASE])
        clear(run.path.folder)
    return True


def _companions(address: Address) -> list[tuple[ObjectStore, list[Entry]]]:
    """What lies beside a run of its shards and of the runs of its structures."""
    stores = [ObjectStore(Address(f"{address}{ending}")) for ending in (SHARDS, STRUCTURES)]
    return [(store, store.entries("")) for store in stores]
