"""Drives an engine over a panel and saves what it finishes; nothing is fitted twice or lost."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mixfleet import run as saved
from mixfleet.config import Spec
from mixfleet.data.frames import FrameKind
from mixfleet.data.panel import Panel, unit_id
from mixfleet.fitting.progress import OnEvent, Progress
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage.run_folder import RunFolder, open_run_folder

COMMIT_UNITS = 32
COMMIT_SECONDS = 5.0
"""Finished units are saved at the latest when there are so many, or so long after the last time."""

FitUnits = Callable[..., Iterator[UnitResult]]
"""`fit_units(panel, spec, *, skip, on_event)`: results of the units that are not in `skip`, in any order, each once."""


def execute(
    panel: Panel,
    spec: Spec,
    engine: FitUnits,
    *,
    devices: tuple[str, ...] = (),
    frame: FrameKind = "pandas",
    on_event: OnEvent | None = None,
) -> saved.Run:
    """The finished run of `panel` under `spec`: new, resumed, or at once if it was finished before.

    Args:
        panel: Checked table.
        spec: All settings.
        engine: Fits units.
        devices: What to note in the manifest.
        frame: Library of the tables of the run.
        on_event: Called with the engine's events, in this thread.

    Raises:
        RunError: The run folder is in use, belongs to something else, or cannot be written.
        KeyboardInterrupt: SIGINT or SIGTERM; what was finished is saved and the run is marked `_PARTIAL`.
    """
    with open_run_folder(panel, spec, devices=devices) as folder:
        if not folder.finished:
            with _interruptible() as interruption:
                buffer = _Buffer(folder, interruption)
                try:
                    try:
                        _fit_rest(panel, spec, engine, folder, buffer, on_event)
                    finally:
                        buffer.flush()
                    folder.finish()
                except KeyboardInterrupt as interrupt:
                    folder.interrupt(str(interrupt) or "interrupted")
                    raise
        folder.finish()
        return saved.open(folder.path, frame=frame)


def _fit_rest(
    panel: Panel, spec: Spec, engine: FitUnits, folder: RunFolder, buffer: "_Buffer", on_event: OnEvent | None
) -> None:
    for rejection in panel.rejected:
        if unit_id(rejection.labels) not in folder.parts.units:
            buffer.add(UnitResult(labels=rejection.labels, status="rejected", reason=rejection.reason))
    buffer.flush()
    expected = {unit_id(unit.labels) for unit in panel.units} - folder.parts.units

    def relay(event: Progress) -> None:
        # Events come also while no unit finishes, so they keep finished units from waiting.
        buffer.flush_if_due()
        if on_event is not None:
            on_event(event)

    if expected:
        for result in engine(panel, spec, skip=folder.parts.units, on_event=relay):
            unit = unit_id(result.labels)
            assert unit in expected, f"the engine gave {result.labels} twice, or unasked"
            expected.remove(unit)
            buffer.add(result)
            buffer.flush_if_due()
    for unit in panel.units:
        if unit_id(unit.labels) in expected:
            buffer.add(UnitResult(labels=unit.labels, status="failed", reason="the engine gave no result"))
    buffer.flush()


class _Buffer:
    """Finished units that are not saved yet."""

    def __init__(self, folder: RunFolder, interruption: "_Interruption") -> None:
        self._folder, self._interruption = folder, interruption
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
                self._folder.commit(self._results)
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
