"""What gives units their results: this process, an earlier run, shards that were fitted elsewhere."""

from collections.abc import Iterator
from typing import Protocol

from mixfleet.config import Spec
from mixfleet.data.panel import Panel
from mixfleet.fitting.progress import OnEvent
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["Executor"]


class Executor(Protocol):
    """Gives results of the units that are not in `skip`, in any order, each once.

    A unit's result follows from the panel and the settings alone, so executors differ in where it is computed only.
    """

    def __call__(
        self, panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None
    ) -> Iterator[UnitResult]:
        """The results; events come in the caller's thread, while the iterator is being read."""
        ...
