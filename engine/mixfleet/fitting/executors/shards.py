"""Shards: parts of a fleet that are fitted on their own, by any number of machines, and put together again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, unit_id
from mixfleet.errors import RunError, counted
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.progress import OnEvent
from mixfleet.models.batch import padded_weeks
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage.journal import Parts
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.manifest import DONE, PARTS, Fingerprint, read_manifest
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.mirror import fetch_shards
from mixfleet.storage.run_folder import SHARDS, refuse_other

__all__ = ["collected", "shard_folders", "shard_of", "sharded", "shards_of"]


def shard_of(panel: Panel, spec: Spec, part: int, parts: int) -> frozenset[str]:
    """Ids of the units of one of `parts` shards; the same on every machine."""
    return shards_of(panel, spec, parts)[part]


def shards_of(panel: Panel, spec: Spec, parts: int) -> list[frozenset[str]]:
    """Ids of the units of each of `parts` shards; the same on every machine.

    What is sampled together stays together: a pooled group, or a unit alone. Units of one padded length stand side by
    side, so that a shard compiles few programs, and shards have as even a number of units as their groups allow.
    """
    places = list(range(len(panel.units)))
    groups = [[place] for place in places]
    if spec.pooling.by != "none":
        groups = list(spec.pooling.groups(panel.keys, [unit.labels for unit in panel.units]).values())
    ids = [unit_id(unit.labels) for unit in panel.units]

    def order(group: list[int]) -> tuple[int, str]:
        weeks = max(padded_weeks(len(panel.units[place].dates)) for place in group)
        return -weeks, hashlib.sha256("".join(sorted(ids[place] for place in group)).encode()).hexdigest()

    shards, before = [set[str]() for _ in range(parts)], 0
    for group in sorted(groups, key=order):
        # By the middle of the group, so that every one is in exactly one shard.
        shards[(2 * before + len(group)) * parts // (2 * len(ids))].update(ids[place] for place in group)
        before += len(group)
    return [frozenset(shard) for shard in shards]


def sharded(executor: Executor, whole: Panel) -> Executor:
    """An executor that fits the units of the panel that it is given as those of the `whole` panel."""

    def fit(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
        own = {unit_id(unit.labels) for unit in panel.units}
        others = frozenset(unit_id(unit.labels) for unit in whole.units) - own
        return executor(whole, spec, skip=skip | others, on_event=on_event)

    return fit


def shard_folders(run: str | Path) -> list[Path]:
    """The folders of a run's shards, in order; of a run in an object store the local ones, with what the store holds.

    Raises:
        RunError: There are none, some are missing, damaged in the store, or have not finished; says which.
    """
    if (address := Address.of(run)) is None:
        local = Path(run)
        root = local.with_name(f"{local.name}{SHARDS}")
        shards = str(root)
    else:
        shards = f"{address}{SHARDS}"
        root = fetch_shards(Address(shards))
    found = sorted(path for path in root.glob("*-of-*") if path.is_dir())
    counts = sorted({int(path.name.partition("-of-")[2]) for path in found})
    if not found:
        raise RunError(f"{shards} holds no shards; fit them with run.id={Path(run).name} compute.shard=0/4 and so on")
    if len(counts) > 1:
        raise RunError(f"{shards} holds shards of {' and of '.join(map(str, counts))}: remove those that are not meant")
    folders = [root / f"{part}-of-{counts[0]}" for part in range(counts[0])]
    if waiting := [path for path in folders if not (path / DONE).is_file()]:
        names = ", ".join(path.name.replace("-of-", "/") for path in waiting)
        raise RunError(f"shards of {run} that are not finished: {names}; repeat their commands with compute.shard")
    return folders


def collected(folders: list[Path]) -> Executor:
    """An executor that fits nothing: it reads what the shards have committed."""

    def fit(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
        del on_event
        fingerprint = Fingerprint.of(panel, spec)
        wanted = {unit_id(unit.labels) for unit in panel.units} - skip
        for path in folders:
            refuse_other(path, fingerprint, read_manifest(path))
            with hold_lock(path):
                parts = Parts(path / PARTS)
                if parts.damaged:
                    (path / DONE).unlink(missing_ok=True)
                    name = path.name.replace("-of-", "/")
                    raise RunError(f"{path} is damaged: repeat its command with compute.shard={name}")
                own = sorted(parts.units & wanted)
                wanted.difference_update(own)
                yield from parts.read(own)
        if wanted:
            raise RunError(f"no shard holds {counted(len(wanted), 'unit')}: the shards were cut from another table")

    return fit
