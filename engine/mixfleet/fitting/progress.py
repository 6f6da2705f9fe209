"""What a fit says about itself while it goes on."""

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mixfleet.posterior.unit_result import UnitResult, certified

__all__ = ["OnEvent", "Progress", "Tally", "in_words", "notebook_listener"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit is."""

    done: int
    """Units that have their final status."""
    ok: int
    """Those of them that are certified."""
    total: int
    active: int
    """Units that are being sampled."""
    phase: str
    elapsed: float
    """Seconds since the fit began."""
    left: float | None = None
    """Seconds that the rest will take at the pace since the first unit was done, which leaves compiling out."""


OnEvent = Callable[[Progress], None]


def in_words(event: Progress) -> str:
    """How far a fit is and how long it will take."""
    counts = f"{event.done}/{event.total} units, {event.ok} ok, {event.done - event.ok} not ok"
    times = f"{event.active} active, {_duration(event.elapsed)}"
    if event.left is not None:
        times += f", about {_duration(event.left)} left"
    return f"{counts}, {times}"


def notebook_listener() -> OnEvent | None:
    """Where this runs in a notebook, what keeps one line under the cell up to date; None elsewhere."""
    if "ipykernel" not in sys.modules:
        return None
    display = importlib.import_module("IPython.display").display
    shown: list[Any] = []

    def listen(event: Progress) -> None:
        line = {"text/plain": f"{event.phase}: {in_words(event)}"}
        if shown:
            shown[0].update(line, raw=True)
        else:
            shown.append(display(line, raw=True, display_id=True))

    return listen


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Tally:
    """Counts what is done and tells the listener."""

    def __init__(self, total: int, on_event: OnEvent | None) -> None:
        self._total, self._on_event = total, on_event
        self._done = self._ok = self._active = 0
        self._began = time.monotonic()
        self._first: float | None = None

    def count(self, result: UnitResult) -> UnitResult:
        """The result, counted."""
        self._done += 1
        self._first = self._first or time.monotonic()
        self._ok += certified(result.status)
        if self._done == self._total:
            self.show("finishing", active=0)
        else:
            self.show("sampling", active=self._active)
        return result

    def show(self, phase: str, *, active: int) -> None:
        """Tells how far the fit is."""
        self._active = active
        if self._on_event is not None:
            now = time.monotonic()
            self._on_event(
                Progress(
                    done=self._done,
                    ok=self._ok,
                    total=self._total,
                    active=active,
                    phase=phase,
                    elapsed=now - self._began,
                    left=self._left(now),
                )
            )

    def _left(self, now: float) -> float | None:
        later = self._done - 1
        if self._first is None or later < 1 or self._done == self._total:
            return None
        return (now - self._first) / later * (self._total - self._done)
