"""Which runs of a folder are old enough to go, and their end: given another name in one step, then removed."""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mixfleet.errors import RunError, counted
from mixfleet.storage import atomic_files
from mixfleet.storage.atomic_files import TEMPORARY
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.output_folder import remove_stagings
from mixfleet.storage.remote.address import Address
from mixfleet.storage.retention.remote_runs import AddressedRun, addressed_run, below, remove_addressed
from mixfleet.storage.retention.runs import StoredRun, folders, stored_run

__all__ = ["Verdict", "remove", "verdicts"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to become of a folder, and why."""

    path: Path | Address
    run: StoredRun | AddressedRun | None
    """Of a run that may go; None of what stays."""
    reason: str
    size: int
    """Bytes that would be free, those of its shards and structures too."""


def verdicts(root: Path | Address, keep: timedelta, now: datetime | None = None) -> list[Verdict]:
    """What is to become of each folder in `root`, or of each place below it, by name. Nothing is changed.

    A run goes where it was finished, or if unfinished last written, longer ago than `keep`. It stays where it is the
    one finished last, a run that is kept for its age names it as `run.base`, it is being written, or holds other runs.

    Args:
        root: Folder of runs, or their address in an object store, as `run.root`.
        keep: Age up to which runs are kept.
        now: The time that ages are counted from.

    Raises:
        RunError: `root` is no folder, or a link; or the store cannot be reached.
    """
    now = now or datetime.now(UTC)
    found = {path: _read(path) for path in _places(root)}
    runs = [run for run in found.values() if not isinstance(run, str)]
    young = [run for run in runs if now - run.ended <= keep]
    bases = {base.name: run.name for run in young for base in run.taken_from(runs)}
    latest = max((run for run in runs if run.finished), key=lambda run: run.ended, default=None)
    judged = []
    for path, run in found.items():
        if isinstance(run, str):
            judged.append(Verdict(path=path, run=None, reason=run, size=0))
        else:
            why = "is the run finished last" if run is latest else _why_kept(run, run in young, bases.get(run.name))
            age = f"{'finished' if run.finished else 'unfinished, last written'} {_days(now - run.ended)} ago"
            reason = age if why is None else f"{why}; {age}"
            judged.append(Verdict(path=path, run=None if why else run, reason=reason, size=run.size))
    return judged


def remove(chosen: Sequence[Verdict]) -> list[Verdict]:
    """Removes the runs of those verdicts that have one; what became of each, for something may have come up meanwhile.

    Each is held as its writer would hold it, gets a hidden name, and is then removed: whoever looks finds a whole run
    or none. What a killed call leaves under hidden names the next one removes.

    Raises:
        RunError: A run cannot be removed; those before it are.
    """
    for root in {verdict.path.parent for verdict in chosen if isinstance(verdict.path, Path)}:
        remove_stagings(root)
    return [verdict if verdict.run is None else _removed(verdict, verdict.run) for verdict in chosen]


def _places(root: Path | Address) -> list[Path] | list[Address]:
    if isinstance(root, Address):
        return below(root)
    atomic_files.refuse_link(root)
    if not root.is_dir():
        raise RunError(f"{root} is no folder")
    return list(folders(root))


def _removed(verdict: Verdict, run: StoredRun | AddressedRun) -> Verdict:
    if run.in_use:
        return replace(verdict, run=None, reason="is being written")
    if isinstance(run, AddressedRun):
        return verdict if remove_addressed(run) else replace(verdict, run=None, reason="has changed meanwhile")
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


def _read(path: Path | Address) -> StoredRun | AddressedRun | str:
    """The run of a folder or address, or why it is none to be removed."""
    try:
        return (addressed_run(path) if isinstance(path, Address) else stored_run(path)) or "is no run"
    except RunError as error:
        return str(error)


def _why_kept(run: StoredRun | AddressedRun, young: bool, taken_by: str | None) -> str | None:
    if young:
        return "is young"
    if taken_by is not None:
        return f"is the base of {taken_by}"
    if run.in_use:
        return "is being written"
    if run.holds_others:
        return "holds other runs"
    return None


def _days(age: timedelta) -> str:
    return counted(age.days, "day")
