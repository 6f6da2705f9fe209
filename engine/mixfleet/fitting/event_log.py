"""A line of JSON for each thing that happens to a fit, for whatever collects logs: names, statuses and times, no data.

| event | when | fields |
|---|---|---|
| slow | before the others, where native code does not run | `why`, with the remedy |
| started, resumed | before the first unit | `units`, `done` |
| unit | a unit's result is saved | `unit` (key columns), `status`, `seconds` |
| interrupted | by a signal | |
| failed | by an error | `error`, its class |
| finished | the run, or shard, is committed | `seconds`; of a run `counts` and `result_sha256` |

Each line has `time`, `level`, `event` and `run` too, and of a part of a fleet `shard`.
"""

import json
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from mixfleet.errors import RunError
from mixfleet.posterior.unit_result import UnitResult, certified
from mixfleet.storage import atomic_files

__all__ = ["STDERR", "EventLog"]

STDERR = "stderr"


class EventLog:
    """Where the events of one fit go; in a `with` block it also says how the block ended, if not well."""

    def __init__(self, path: str | None, keys: tuple[str, ...], **context: Any) -> None:
        """A log that nothing was written to.

        Args:
            path: A file to append to, `stderr`, or None for nowhere.
            keys: Key columns.
            **context: What each line says besides.
        """
        self._path, self._keys, self._context = path, keys, context
        self._began = time.monotonic()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del error, trace
        if kind is None:
            return
        # The error itself says more than that the log cannot be written either.
        with suppress(RunError):
            if issubclass(kind, KeyboardInterrupt):
                self("interrupted", level="warning")
            else:
                self("failed", level="error", error=kind.__name__)

    def __call__(self, event: str, *, level: str = "info", **details: Any) -> None:
        """Says that something happened.

        Raises:
            RunError: The file cannot be written.
        """
        if self._path is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "level": level, "event": event, **self._context, **details})
        if self._path == STDERR:
            print(line, file=sys.stderr, flush=True)
        else:
            # In one write, so that shards may share a file.
            atomic_files.append_bytes(Path(self._path).expanduser(), f"{line}\n".encode())

    def unit(self, result: UnitResult) -> None:
        """Says that a unit's result is saved."""
        labels = dict(zip(self._keys, result.labels, strict=True))
        level = "info" if certified(result.status) else "warning"
        seconds = round(result.diagnostics.get("seconds", 0.0), 3)
        self("unit", level=level, unit=labels, status=result.status, seconds=seconds)

    def finished(self, **details: Any) -> None:
        """Says that all is committed."""
        self("finished", seconds=round(time.monotonic() - self._began, 3), **details)
