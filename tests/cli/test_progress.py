import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from mixfleet.cli import progress
from mixfleet.cli.progress import showing


@dataclass(frozen=True, kw_only=True)
class Event:
    done: int
    ok: int
    total: int = 10
    active: int = 4
    phase: str = "sampling"
    elapsed: float = 30.0
    left: float | None = None


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def text(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_elsewhere_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 6.0, 6.5])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    target = console(terminal=False)
    with showing(target) as show:
        for event in (
            Event(done=1, ok=1, left=270.0),
            Event(done=2, ok=2),
            Event(done=5, ok=4, left=30.0),
            Event(done=10, ok=8, elapsed=61),
        ):
            show(event)
    assert text(target).splitlines() == [
        "sampling: 1/10 units, 1 ok, 0 not ok, 4 active, 30 s, about 4 min 30 s left",
        "sampling: 5/10 units, 4 ok, 1 not ok, 4 active, 30 s, about 30 s left",
        "sampling: 10/10 units, 8 ok, 2 not ok, 4 active, 1 min 01 s",
    ]


def test_on_a_terminal_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    target = console(terminal=True)
    with showing(target) as show:
        show(Event(done=5, ok=4, elapsed=4000.0, left=4000.0))
    assert "5/10 units" in text(target)
    assert "4 ok, 1 not ok" in text(target)
    assert "1 h 06 min, about 1 h 06 min left" in text(target)
