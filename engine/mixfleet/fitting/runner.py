"""Drives an executor over a panel and saves what it finishes; nothing is fitted twice or lost."""

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from mixfleet import run as saved
from mixfleet.config import Business, Spec
from mixfleet.data.frames import FrameKind
from mixfleet.data.panel import Panel, unit_id
from mixfleet.errors import RunError
from mixfleet.fitting import monitoring, tracking
from mixfleet.fitting.event_log import EventLog
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.executors.shards import shard_of, sharded
from mixfleet.fitting.progress import OnEvent, Progress
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage.reader import RunReader, read_run
from mixfleet.storage.run_folder import ResultStore, RunFolder, open_run_folder, open_shard_folder

COMMIT_UNITS = 32
COMMIT_SECONDS = 5.0
"""Finished units are saved at the latest when there are so many, or so long after the last time."""


def execute(
    panel: Panel,
    spec: Spec,
    executor: Executor,
    *,
    devices: tuple[str, ...] = (),
    frame: FrameKind = "pandas",
    on_event: OnEvent | None = None,
) -> saved.Run:
    """The finished run of `panel` under `spec`: new, resumed, or at once if it was finished before.

    Args:
        panel: Checked table.
        spec: All settings.
        executor: Fits units; those that `run.base` has under the same data and settings are taken from there.
        devices: What to note in the manifest.
        frame: Library of the tables of the run.
        on_event: Called with the executor's events, in this thread.

    Raises:
        RunError: The run folder is in use, belongs to something else, or cannot be written; or `run.base` is no run.
        KeyboardInterrupt: SIGINT or SIGTERM; what was finished is saved and the run is marked `_PARTIAL`.
    """
    if spec.run.base is not None and spec.run.scales == "frozen":
        from mixfleet.fitting.executors.carry import Base

        panel = Base(read_run(spec.run.base)).frozen(panel, spec)
    if spec.run.tracking is not None:
        tracking.require()
    with (
        open_run_folder(panel, spec, devices=devices) as folder,
        EventLog(spec.run.log, panel.keys, run=folder.path.name) as log,
    ):
        if not folder.finished:
            if slow := _told_slow(spec, log):
                folder.note("slow", slow)
            if spec.model.structures:
                executor = _averaging(panel, executor, devices, folder)
            else:
                from mixfleet.fitting.driver import path_of  # starts jax, without which a finished run is read

                folder.note("path", path_of(panel, spec))
            if spec.run.base is not None:
                executor = _carrying(spec.run.base, panel, spec, executor, folder)
            _fill(panel, spec, executor, folder, log, on_event)
        folder.finish()
        reader = read_run(folder.place)
        if spec.business not in (Business(), reader.business):
            reader.keep_business(spec.business)
        if spec.run.metrics is not None or spec.run.lineage is not None:
            monitoring.write(reader, metrics_to=spec.run.metrics, lineage_to=spec.run.lineage)
        log.finished(counts=reader.manifest["counts"], result_sha256=reader.manifest["result_sha256"])
        run = saved.open(folder.place, frame=frame)
        if spec.run.tracking is not None and (trouble := tracking.track(run)):
            log("not tracked", level="warning", error=trouble)
            warnings.warn(f"MLflow was not told of run {folder.path.name}: {trouble}", UserWarning, stacklevel=2)
        return run


def execute_shard(
    panel: Panel,
    spec: Spec,
    executor: Executor,
    *,
    devices: tuple[str, ...] = (),
    on_event: OnEvent | None = None,
) -> Path:
    """The folder of the shard `compute.shard` of the run of `panel`, with the results of the shard's units.

    Args and errors as for `execute`; `panel` is the whole fleet's.
    """
    assert spec.compute.shard is not None
    units = shard_of(panel, spec, *map(int, spec.compute.shard.split("/")))
    with (
        open_shard_folder(panel, spec, devices=devices) as folder,
        EventLog(spec.run.log, panel.keys, run=str(spec.run.id), shard=spec.compute.shard) as log,
    ):
        if not folder.finished:
            _told_slow(spec, log)
            own = replace(panel, rejected=(), units=tuple(u for u in panel.units if unit_id(u.labels) in units))
            _fill(own, spec, sharded(executor, panel), folder, log, on_event)
        folder.finish()
        log.finished()
        return folder.path


def _told_slow(spec: Spec, log: EventLog) -> str:
    """Why the fit takes longer than it has to, after the log and the caller were told; empty where it does not."""
    from mixfleet.fitting.driver import slower_here  # starts jax, without which a finished run is read

    if why := slower_here(spec):
        log("slow", level="warning", why=why)
        warnings.warn(why, UserWarning, stacklevel=3)
    return why


def _averaging(panel: Panel, executor: Executor, devices: tuple[str, ...], folder: RunFolder) -> Executor:
    from mixfleet.fitting.averaging import averaging  # few fits average structures

    def fit_run(spec: Spec, on_event: OnEvent | None) -> RunReader:
        return read_run(execute(panel, spec, executor, devices=devices, on_event=on_event).place)

    return averaging(folder.place, fit_run)


def _carrying(path: str, panel: Panel, spec: Spec, executor: Executor, folder: RunFolder) -> Executor:
    from mixfleet.fitting.executors.carry import Base, carrying  # few fits have a base

    try:
        base = Base(read_run(path))
    except RunError as error:
        raise RunError(f"run.base cannot be read: {error}") from None
    others = base.others(panel, spec)
    same = frozenset(unit_id(unit.labels) for unit in panel.units) - others.keys()
    sha256 = base.reader.manifest["result_sha256"]
    differences = base.other_settings(panel, spec)
    told = {"other_settings": differences} if differences else {}
    folder.note("base", {"run": base.reader.place, "result_sha256": sha256, "carried": len(same), **told})
    folder.carried, folder.why_fitted = base.digests(same), others
    if spec.run.reuse == "reweighted":
        from mixfleet.fitting.executors.reweighting import reweighting

        executor = reweighting(base, others, executor)
    return carrying(base, others, executor)


def _fill(
    panel: Panel, spec: Spec, executor: Executor, store: ResultStore, log: EventLog, on_event: OnEvent | None
) -> None:
    """Commits every unit of the panel that the store lacks, and leaves it resumable where it is interrupted."""
    with _interruptible() as interruption:
        done = len(store.units)
        log("resumed" if done else "started", units=len(panel.units) + len(panel.rejected), done=done)
        buffer = _Buffer(store, log, interruption)
        try:
            try:
                _fit_rest(panel, spec, executor, store, buffer, on_event)
            finally:
                buffer.flush()
            store.finish()
        except KeyboardInterrupt as interrupt:
            store.interrupt(str(interrupt) or "interrupted")
            raise


def _fit_rest(
    panel: Panel, spec: Spec, executor: Executor, store: ResultStore, buffer: "_Buffer", on_event: OnEvent | None
) -> None:
    for rejection in panel.rejected:
        if unit_id(rejection.labels) not in store.units:
            buffer.add(UnitResult(labels=rejection.labels, status="rejected", reason=rejection.reason))
    buffer.flush()
    expected = {unit_id(unit.labels) for unit in panel.units} - store.units

    def relay(event: Progress) -> None:
        # Events come also while no unit finishes, so they keep finished units from waiting.
        buffer.flush_if_due()
        if on_event is not None:
            on_event(event)

    if expected:
        for result in executor(panel, spec, skip=store.units, on_event=relay):
            unit = unit_id(result.labels)
            assert unit in expected, f"the executor gave {result.labels} twice, or unasked"
            expected.remove(unit)
            buffer.add(result)
            buffer.flush_if_due()
    for unit in panel.units:
        if unit_id(unit.labels) in expected:
            buffer.add(UnitResult(labels=unit.labels, status="failed", reason="the executor gave no result"))
    buffer.flush()


class _Buffer:
    """Finished units that are not saved yet."""

    def __init__(self, store: ResultStore, log: EventLog, interruption: "_Interruption") -> None:
        self._store, self._log, self._interruption = store, log, interruption
        self._results: list[UnitResult] = []
        self._saved_at = time.monotonic()

    def add(self, result: UnitResult) -> None:
        self._results.append(result)

    def flush_if_due(self) -> None:
        if len(self._results) >= COMMIT_UNITS or time.monotonic() - self._saved_at >= COMMIT_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._results:
            with self._interruption.held():
                self._store.commit(self._results)
                for result in self._results:
                    self._log.unit(result)
                self._results.clear()
        self._saved_at = time.monotonic()


class _Interruption:
    """The first signal ends the work, once nothing is being saved; later ones wait until it has ended in order."""

    def __init__(self) -> None:
        self._holding = False
        self._waiting: KeyboardInterrupt | None = None
        self._over = False

    def handle(self, number: int, _: FrameType | None) -> None:
        """What to do at a signal."""
        if self._over:
            return
        self._over = True
        name = "" if number == signal.SIGINT else signal.Signals(number).name
        interrupt = KeyboardInterrupt(name) if name else KeyboardInterrupt()
        if not self._holding:
            raise interrupt
        self._waiting = interrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing in the block is interrupted; what would have done so is raised after it."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting is not None:
            interrupt, self._waiting = self._waiting, None
            raise interrupt


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    """SIGTERM ends the block as Ctrl-C does. Only the main thread can have it so; others change nothing."""
    interruption = _Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # Who starts a command with signals ignored, as nohup does, means it.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, interruption.handle)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
