"""What a folder of runs holds: which of its folders are runs, how old they are, and what they were fitted from."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixfleet.errors import RunError
from mixfleet.storage.manifest import MANIFEST, is_finished, read_manifest
from mixfleet.storage.run_folder import SHARDS, STRUCTURES

__all__ = ["StoredRun", "folders", "stored_run"]


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as its folder has it."""

    path: Path
    finished: bool
    ended: datetime
    """When it was finished; of an unfinished one, when it was last written."""
    digest: str | None
    """`result_sha256` of a finished run."""
    base: tuple[str | None, str | None]
    """Name and `result_sha256` of the run whose units it took over."""

    @property
    def companions(self) -> tuple[Path, ...]:
        """Folders beside the run that hold its shards, or the runs of its structures."""
        beside = (self.path.with_name(f"{self.path.name}{ending}") for ending in (SHARDS, STRUCTURES))
        return tuple(
            path for path in beside if path.is_dir() and not path.is_symlink() and not (path / MANIFEST).exists()
        )

    @property
    def written(self) -> tuple[Path, ...]:
        """Every folder of it that a process may be writing."""
        return (self.path, *(part for path in self.companions for part in folders(path)))

    def taken_from(self, runs: Sequence["StoredRun"]) -> list["StoredRun"]:
        """Those of the runs that it took units over from: the one of that name, or if it was renamed its like."""
        name, digest = self.base
        named = [run for run in runs if run.path.name == name]
        return named or [run for run in runs if digest is not None and run.digest == digest]

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
    config = manifest.get("config")
    if not (
        isinstance(manifest.get("run_id"), str) and isinstance(config, dict) and isinstance(config.get("run"), dict)
    ):
        return None
    finished = is_finished(path)
    try:
        ended = datetime.fromisoformat(manifest["timings"]["finished"]) if finished else _last_written(path)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path / MANIFEST} is damaged: it says not when the run ended") from error
    digest = manifest.get("result_sha256")
    return StoredRun(path=path, finished=finished, ended=ended, digest=digest, base=_base(manifest))


def _base(manifest: dict[str, Any]) -> tuple[str | None, str | None]:
    """Of an unfinished run what its settings name, which may be a folder of runs."""
    taken, named = manifest.get("base"), manifest["config"]["run"].get("base")
    run = taken.get("run") if isinstance(taken, dict) else named
    return Path(run).name if run else None, taken.get("result_sha256") if isinstance(taken, dict) else None


def _last_written(path: Path) -> datetime:
    """When a file of the folder last changed, its lock and drafts left out."""
    files = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name[0] != ".")
    return datetime.fromtimestamp(max(os.lstat(file).st_mtime for file in files), UTC)
