"""How a fit is shown while it goes on, as a bar on a terminal and as plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from mixfleet.fitting.progress import Progress, in_words

LINE_SECONDS = 5.0
"""Shortest time between two plain lines."""


Show = Callable[[Progress], None]


@contextmanager
def showing(console: Console, *, quiet: bool = False) -> Iterator[Show]:
    """A function that shows events on `console`, as long as the block lasts; `quiet`, one that shows none."""
    if quiet:
        yield _nothing
        return
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

        def show(event: Progress) -> None:
            bar.update(task, description=event.phase, completed=event.done, total=event.total, words=in_words(event))

        yield show


def _nothing(event: Progress) -> None:
    del event


class _Lines:
    """Plain lines, not too often, and always one when the last unit is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._last = ""

    def __call__(self, event: Progress) -> None:
        now = time.monotonic()
        finished = event.done == event.total
        if now < self._next and not finished:
            return
        self._next = now + LINE_SECONDS
        line = f"{event.phase}: {in_words(event)}"
        if line != self._last:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._last = line
