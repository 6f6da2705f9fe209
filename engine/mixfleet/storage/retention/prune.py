"""Which runs of a folder are old enough to go, and their end: given another name in one step, then removed."""

import os
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mixfleet.errors import RunError, counted
from mixfleet.storage import atomic_files
from mixfleet.storage.atomic_files import TEMPORARY
from mixfleet.storage.lock import hold_lock, is_held
from mixfleet.storage.output_folder import remove_stagings
from mixfleet.storage.retention.runs import StoredRun, folders, stored_run

__all__ = ["Verdict", "remove", "verdicts"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to become of a folder, and why."""

    path: Path
    run: StoredRun | None
    """Of a run that may go; None of what stays."""
    reason: str
    size: int
    """Bytes that would be free, those of its shards and structures too."""


def verdicts(root: Path, keep: timedelta, now: datetime | None = None) -> list[Verdict]:
    """What is to become of each folder in `root`, by name. Nothing is changed.

    A run goes where it was finished, or if unfinished last written, longer ago than `keep`. It stays where it is the
    one finished last, a run that is kept for its age names it as `run.base`, it is being written, or holds other runs.

    Args:
        root: Folder of runs, as `run.root`.
        keep: Age up to which runs are kept.
        now: The time that ages are counted from.

    Raises:
        RunError: `root` is no folder, or a link.
    """
    atomic_files.refuse_link(root)
    if not root.is_dir():
        raise RunError(f"{root} is no folder")
    now = now or datetime.now(UTC)
    found: dict[Path, StoredRun | str] = {path: _read(path) for path in folders(root)}
    runs = [run for run in found.values() if isinstance(run, StoredRun)]
    young = [run for run in runs if now - run.ended <= keep]
    bases = {base.path: run.path.name for run in young for base in run.taken_from(runs)}
    latest = max((run for run in runs if run.finished), key=lambda run: run.ended, default=None)
    judged = []
    for path, run in found.items():
        if isinstance(run, str):
            judged.append(Verdict(path=path, run=None, reason=run, size=0))
        else:
            why = "is the run finished last" if run is latest else _why_kept(run, run in young, bases.get(path))
            age = f"{'finished' if run.finished else 'unfinished, last written'} {_days(now - run.ended)} ago"
            reason = age if why is None else f"{why}; {age}"
            judged.append(Verdict(path=path, run=None if why else run, reason=reason, size=_size(run)))
    return judged


def remove(chosen: Sequence[Verdict]) -> list[Verdict]:
    """Removes the runs of those verdicts that have one; what became of each, for something may have come up meanwhile.

    Each is held as its writer would hold it, gets a hidden name, and is then removed: whoever looks finds a whole run
    or none. What a killed call leaves under hidden names the next one removes.

    Raises:
        RunError: A run cannot be removed; those before it are.
    """
    for root in {verdict.path.parent for verdict in chosen}:
        remove_stagings(root)
    return [verdict if verdict.run is None else _removed(verdict, verdict.run) for verdict in chosen]


def _removed(verdict: Verdict, run: StoredRun) -> Verdict:
    if any(map(is_held, run.written)):
        return replace(verdict, run=None, reason="is being written")
    with ExitStack() as held:
        for folder in run.written:
            held.enter_context(hold_lock(folder))
        # It may have been resumed, or made anew, since it was judged.
        if _read(run.path) != run:
            return replace(verdict, run=None, reason="has changed meanwhile")
        for path in [_hidden(path) for path in (*run.companions, run.path)]:
            atomic_files.remove_tree(path)
    return verdict


def _hidden(path: Path) -> Path:
    """The folder under a name that no reader looks for, and that writers take for what a killed one left."""
    hidden = path.with_name(f".{path.name[:80]}{TEMPORARY}{uuid.uuid4().hex}")
    atomic_files.rename(path, hidden)
    return hidden


def _read(path: Path) -> StoredRun | str:
    """The run of a folder, or why it is none to be removed."""
    try:
        return stored_run(path) or "is no run"
    except RunError as error:
        return str(error)


def _why_kept(run: StoredRun, young: bool, taken_by: str | None) -> str | None:
    if young:
        return "is young"
    if taken_by is not None:
        return f"is the base of {taken_by}"
    if any(map(is_held, run.written)):
        return "is being written"
    if run.holds_others:
        return "holds other runs"
    return None


def _size(run: StoredRun) -> int:
    walks = (entry for path in (run.path, *run.companions) for entry in os.walk(path))
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in walks for name in names)


def _days(age: timedelta) -> str:
    return counted(age.days, "day")
