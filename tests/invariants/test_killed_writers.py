"""Law 8 for what commands write beside runs: old or new, whole, whatever change of the disk a SIGKILL comes at."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import mortal_writers

SOME = ("plan", "report", "counterfactual")


def killed(folder: Path, step: int, names: tuple[str, ...]) -> dict[str, int]:
    """How often each writer was killed."""
    first = random.SystemRandom().randint(1, min(step, 9))
    command = [sys.executable, "-m", mortal_writers.__name__, str(folder), str(step), str(first), *names]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (first, result.stdout, result.stderr[-3000:])
    return {name: int(kills) for name, kills in (line.split() for line in result.stdout.splitlines())}


def test_a_killed_writer_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    kills = killed(tmp_path / "out", 23, SOME)
    assert set(kills) == set(SOME)
    assert min(kills.values()) >= 1


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", mortal_writers.WRITERS)
def test_a_writer_killed_at_every_change_leaves_the_old_or_the_new(tmp_path: Path, name: str) -> None:
    kills = killed(tmp_path / "out", 1, (name,))
    assert kills[name] >= 8
