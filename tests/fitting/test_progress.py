"""How long a fit will take is told by what came after the first unit."""

import pytest

from mixfleet.fitting import progress
from mixfleet.fitting.progress import Progress, Tally, in_words
from mixfleet.posterior.unit_result import UnitResult


def test_the_time_left_leaves_compiling_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    told: list[Progress] = []
    tally = Tally(10, told.append)
    # Sixty seconds of compiling, then a unit a second.
    for done in range(10):
        now = 60.0 + done
        tally.count(UnitResult(labels=(str(done),), status="ok", reason=""))
    assert told[0].left is None
    assert [event.left for event in told[1:]] == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, None]
    assert in_words(told[1]).endswith("1 min 01 s, about 8 s left")
    assert "left" not in in_words(told[-1])
