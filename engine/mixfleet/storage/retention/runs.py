"""What a folder of runs holds: which of its folders are runs, how old they are, and what they were fitted from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixfleet.errors import RunError
from mixfleet.storage.lock import is_held
from mixfleet.storage.manifest import MANIFEST, is_finished, read_manifest
from mixfleet.storage.run_folder import SHARDS, STRUCTURES

__all__ = ["AgedRun", "StoredRun", "base_of", "finished_at", "folders", "is_of_run", "stored_run"]


@dataclass(frozen=True, kw_only=True)
class AgedRun:
    """What is known of a run, wherever it lies."""

    name: str
    finished: bool
    ended: datetime
    """When it was finished; of an unfinished one, when it was last written."""
    digest: str | None
    """`result_sha256` of a finished run."""
    base: tuple[str | None, str | None]
    """Name and `result_sha256` of the run whose units it took over."""

    def taken_from(self, runs: Sequence["AgedRun"]) -> list["AgedRun"]:
        """Those of the runs that it took units over from: the one of that name, or if it was renamed its like."""
        name, digest = self.base
        named = [run for run in runs if run.name == name]
        return named or [run for run in runs if digest is not None and run.digest == digest]


@dataclass(frozen=True, kw_only=True)
class StoredRun(AgedRun):
    """A run as its folder has it."""

    path: Path

    @property
    def companions(self) -> tuple[Path, ...]:
        """Folders beside the run that hold its shards, or the runs of its structures."""
        beside = (self.path.with_name(f"{self.path.name}{ending}") for ending in (SHARDS, STRUCTURES))
        return tuple(
            path for path in beside if path.is_dir() and not path.is_symlink() and not (path / MANIFEST).exists()
        )

    @property
    def in_use(self) -> bool:
        """Whether a process writes it."""
        return any(map(is_held, self.written))

    @property
    def size(self) -> int:
        """Bytes of it, those of its shards and structures too."""
        walks = (entry for path in (self.path, *self.companions) for entry in os.walk(path))
        return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in walks for name in names)

    @property
    def written(self) -> tuple[Path, ...]:
        """Every folder of it that a process may be writing."""
        return (self.path, *(part for path in self.companions for part in folders(path)))

    @property
    def holds_others(self) -> bool:
        """Whether there are runs in its folder."""
        within = (path for part in folders(self.path) for path in (part, *folders(part)))
        return any((path / MANIFEST).exists() for path in within)


def folders(root: Path) -> Iterator[Path]:
    """The folders in a folder, by name; links and what is hidden are none."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield path


def stored_run(path: Path) -> StoredRun | None:
    """The run of this folder; None where it is none.

    Raises:
        RunError: It has a manifest that cannot be read.
    """
    if not (path / MANIFEST).is_file():
        return None
    manifest = read_manifest(path)
    if not is_of_run(manifest):
        return None
    finished = is_finished(path)
    ended = finished_at(path, manifest) if finished else _last_written(path)
    digest = manifest.get("result_sha256")
    return StoredRun(name=path.name, path=path, finished=finished, ended=ended, digest=digest, base=base_of(manifest))


def is_of_run(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is one of a run."""
    config = manifest.get("config")
    return isinstance(manifest.get("run_id"), str) and isinstance(config, dict) and isinstance(config.get("run"), dict)


def finished_at(place: object, manifest: Mapping[str, Any]) -> datetime:
    """When the finished run at a place was finished.

    Raises:
        RunError: It does not say.
    """
    try:
        return datetime.fromisoformat(manifest["timings"]["finished"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{place}/{MANIFEST} is damaged: it says not when the run ended") from error


def base_of(manifest: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Name and digest of a run's base; of an unfinished one what its settings name, which may be a folder of runs."""
    taken, named = manifest.get("base"), manifest["config"]["run"].get("base")
    run = taken.get("run") if isinstance(taken, dict) else named
    return Path(run).name if run else None, taken.get("result_sha256") if isinstance(taken, dict) else None


def _last_written(path: Path) -> datetime:
    """When a file of the folder last changed, its lock and drafts left out."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name[0] != ".")
    return datetime.fromtimestamp(max(os.lstat(file).st_mtime for file in files), UTC)
