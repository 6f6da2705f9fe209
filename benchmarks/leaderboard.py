"""Whether the leaderboard of a sweep keeps the truth: fleets drawn from one prior, each fitted under several.

python -m benchmarks.leaderboard --repeats 20 --units 20

Of every repeat it prints whether the prior that the fleet was drawn from is said to be within noise of the best, and
the points' scores beside the best with their standard errors.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from typing import Any

POINTS = {
    "true": {},
    "weak": "weak",
    "tight": "tight",
    "long": {"parameters": {"decay": {"a": 9.0, "b": 3.0}}},
    "small": {"parameters": {"media_share": {"scale": 0.03}}},
}
"""Priors by the point's name; fleets are drawn from the first."""


def main() -> None:
    """Runs every repeat and counts in how many the truth stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--units", type=int, default=20)
    arguments = parser.parse_args()
    kept, began = 0, time.process_time()
    for seed in range(arguments.repeats):
        rows = _repeat(seed, arguments.units)
        kept += rows["true"]["near_best"]
        said = ", ".join(
            f"{name} {row['score']:+.4f} ({row['score_se'] or 0.0:.4f}){'' if row['near_best'] else ' worse'}"
            for name, row in rows.items()
        )
        print(f"{seed}: {said}", flush=True)
    print(
        f"the true prior is within noise of the best in {kept} of {arguments.repeats} repeats; "
        f"{time.process_time() - began:.0f} CPU-s"
    )


def _repeat(seed: int, units: int) -> dict[str, dict[str, Any]]:
    """Rows of the leaderboard by point."""
    import mixfleet as mf
    from mixfleet.cli.sweep import HOLDOUT, PointOutcome, comparison

    fleet = mf.simulate.fleet(brands=-(-units // 5), markets=5, weeks=104, channels=4, seed=seed)
    data = replace(fleet.data, holdout=HOLDOUT)
    table = fleet.table.to_pandas()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [
            PointOutcome(
                number=number,
                changes=(name,),
                run=mf.fit(table, data=data, prior=prior, run={"root": folder, "id": name}),
                error="",
                seconds=0.0,
            )
            for number, (name, prior) in enumerate(POINTS.items())
        ]
        rows = comparison(outcomes).to_pylist()
    return {name: next(row for row in rows if row["changes"] == name) for name in POINTS}


if __name__ == "__main__":
    main()
