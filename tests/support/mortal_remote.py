"""A run in an object store that does not live to its end: `python -m tests.support.mortal_remote ROOT`.

A line is printed for each unit, so that who started it can choose when it ends. The store is the environment's.
"""

import sys

from mixfleet.fitting import runner
from mixfleet.storage.remote import lease
from tests.support.stub_engine import brands, engine, fleet, spec

PANEL = fleet(brands(24), [("z", "z")])
BEAT_SECONDS, STALE_SECONDS = 0.1, 0.8
PAUSE_SECONDS = 0.05


def main() -> None:
    """The run."""
    runner.COMMIT_UNITS = 1
    lease.BEAT_SECONDS, lease.STALE_SECONDS = BEAT_SECONDS, STALE_SECONDS
    settings = spec(sys.argv[1], draws="summary")
    runner.execute(
        PANEL, settings, engine(pause=PAUSE_SECONDS), on_event=lambda event: print(event["left"], flush=True)
    )


if __name__ == "__main__":
    main()
