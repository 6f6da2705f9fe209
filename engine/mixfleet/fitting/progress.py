"""What a fit says about itself while it goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mixfleet.posterior.unit_result import UnitResult

__all__ = ["OnEvent", "Progress", "Tally"]


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


OnEvent = Callable[[Progress], None]


class Tally:
    """Counts what is done and tells the listener."""

    def __init__(self, total: int, on_event: OnEvent | None) -> None:
        self._total, self._on_event = total, on_event
        self._done = self._ok = self._active = 0
        self._began = time.monotonic()

    def count(self, result: UnitResult) -> UnitResult:
        """The result, counted."""
        self._done += 1
        self._ok += result.status.startswith("ok")
        if self._done == self._total:
            self.show("finishing", active=0)
        else:
            self.show("sampling", active=self._active)
        return result

    def show(self, phase: str, *, active: int) -> None:
        """Tells how far the fit is."""
        self._active = active
        if self._on_event is not None:
            elapsed = time.monotonic() - self._began
            self._on_event(
                Progress(
                    done=self._done,
                    ok=self._ok,
                    total=self._total,
                    active=active,
                    phase=phase,
                    elapsed=elapsed,
                )
            )
