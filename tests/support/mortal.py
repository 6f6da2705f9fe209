"""Runs of the real engine that do not live to their end.

`python -m tests.support.mortal FOLDER SEED KILLS` forks a run for each kill, from a process that has imported all but
started nothing, and kills it at a random moment. Prints how many were killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import mixfleet
from mixfleet.fitting import runner
from tests.support.quick import settings, simulated

BRANDS = 24
"""Two units of each: enough that most kills find some of them unfinished, on fast machines too."""
MOST_FINISHED = 2
MOST_SECONDS = 0.3


def run_whole(folder: Path, on_event: Any = None) -> Any:
    """The run from which others are cut short, or its continuation."""
    fleet = simulated(brands=BRANDS)
    spec = settings(fleet.data)
    return mixfleet.fit(fleet.table, spec, run={"root": str(folder.parent), "id": folder.name}, on_event=on_event)


def run_forked(folder: Path, pipe: int) -> None:
    """Body of a fork: tells through the pipe how many units are done."""
    runner.COMMIT_UNITS = 1
    run_whole(folder, lambda event: os.write(pipe, bytes([event.done])))


def kill_one(folder: Path, moments: random.Random) -> bool:
    """Starts a run, or its continuation, and kills it; whether it was still alive."""
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.close(here)
        run_forked(folder, there)
        os._exit(0)
    os.close(there)
    wanted = moments.randint(0, MOST_FINISHED)
    with open(here, "rb", buffering=0) as events:
        while (done := events.read(1)) and done[0] < wanted:
            pass
        time.sleep(moments.uniform(0.0, MOST_SECONDS))
        os.kill(child, signal.SIGKILL)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    """Kills as often as asked."""
    folder, moments = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    print(sum(kill_one(folder, moments) for _ in range(int(sys.argv[3]))))


if __name__ == "__main__":
    main()
