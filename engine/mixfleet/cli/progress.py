"""Progress: how a fit is shown while it goes on, as a bar on a terminal and as plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 5.0
"""Shortest time between two plain lines."""


class Event(Protocol):
    """What a fit says about itself now and then."""

    @property
    def done(self) -> int:
        """Units that have their final status."""
        ...

    @property
    def ok(self) -> int:
        """Those of them that are certified."""
        ...

    @property
    def total(self) -> int:
        """Units to fit, without those that were rejected or done before."""
        ...

    @property
    def active(self) -> int:
        """Units that are being sampled."""
        ...

    @property
    def phase(self) -> str:
        """What goes on, in a word or two."""
        ...

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began."""
        ...


Show = Callable[[Event], None]


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """A function that shows events on `console`, as long as the block lasts."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, words="")

        def show(event: Event) -> None:
            bar.update(task, description=event.phase, completed=event.done, total=event.total, words=_words(event))

        yield show


class _Lines:
    """Plain lines, not too often, and always one when the last unit is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._last = ""

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        finished = event.done == event.total
        if now < self._next and not finished:
            return
        self._next = now + LINE_SECONDS
        line = f"{event.phase}: {_words(event)}"
        if line != self._last:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._last = line


def _words(event: Event) -> str:
    counts = f"{event.done}/{event.total} units, {event.ok} ok, {event.done - event.ok} not ok"
    times = f"{event.active} active, {_duration(event.elapsed)}"
    if 0 < event.done < event.total:
        times += f", about {_duration(event.elapsed / event.done * (event.total - event.done))} left"
    return f"{counts}, {times}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
