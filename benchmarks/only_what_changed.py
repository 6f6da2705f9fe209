"""What a night costs when few units changed: 300 units, twelve of which have one late row, on last night's run.

python -m benchmarks.only_what_changed late --units 300
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KEYS = ["brand", "market"]


def main() -> None:
    """Runs the measurement that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["late", "weeks"])
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--thin", type=int, default=1000, help="draws of a unit that are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "late":
            _late_rows(Path(folder), arguments.units)
        else:
            _new_weeks(Path(folder), arguments.units, arguments.thin)


def _late_rows(folder: Path, units: int) -> None:
    """Units on which a row of the last night came late are fitted, the others carried over with equal digests."""
    import mixfleet as mf

    fleet, rows = _table(units)
    chosen = rows[KEYS].drop_duplicates().iloc[:: max(1, units // 12)].head(12)
    late = rows.merge(chosen, how="left", indicator=True)["_merge"].eq("both").to_numpy()
    last = rows["date"].eq(rows["date"].max()).to_numpy()
    few = rows.merge(rows[KEYS].drop_duplicates().tail(4), on=KEYS)
    mf.fit(few, data=fleet.data, run={"root": str(folder), "id": "warm"})

    def fit(name: str, table: pd.DataFrame, **run: str) -> tuple[Any, float, float]:
        began, cpu = time.perf_counter(), time.process_time()
        made = mf.fit(table, data=fleet.data, run={"root": str(folder), "id": name, **run})
        return made, time.perf_counter() - began, time.process_time() - cpu

    evening, *_ = fit("evening", rows[~(late & last)])
    whole, *full = fit("whole", rows)
    night, *short = fit("night", rows, base=str(evening.path))
    before, after, again = (run.status.set_index(KEYS)["digest"] for run in (evening, night, whole))
    print(
        f"{units} units, {len(chosen)} with a late row: {night.manifest['base']['carried']} carried over, "
        f"{int((before == after).sum())} with last night's digest"
    )
    print(
        f"equal to the whole run: {night.manifest['result_sha256'] == whole.manifest['result_sha256']}, "
        f"unit by unit {int((after == again).sum())}"
    )
    print(
        f"whole run {full[0]:.1f} s, {full[1]:.1f} CPU-s; the night {short[0]:.1f} s, {short[1]:.1f} CPU-s: "
        f"1/{full[0] / short[0]:.1f} by the clock, 1/{full[1] / short[1]:.1f} of CPU-seconds"
    )


def _new_weeks(folder: Path, units: int, thin: int) -> None:
    """Draws of last night's units, weighed anew, beside whole fits."""
    import mixfleet as mf

    fleet, rows = _table(units)
    dates = np.sort(rows["date"].unique())

    def fit(name: str, table: pd.DataFrame, seed: int = 0, **run: str) -> Any:
        own = {"root": str(folder), "id": name, **run}
        return mf.fit(table, data=fleet.data, run=own, output={"thin": thin}, inference={"seed": seed})

    for weeks in (1, 4):
        base = str(fit(f"before {weeks}".replace(" ", "-"), rows[rows["date"] < dates[-weeks]]).path)
        for scales in ("frozen", "own"):
            name = f"{weeks}-{scales}"
            night = fit(f"night-{name}", rows, base=base, scales=scales, reuse="reweighted")
            whole, other = (fit(f"whole-{name}-{seed}", rows, seed, base=base, scales=scales) for seed in (0, 1))
            status = night.status.set_index(KEYS)
            taken = status.index[status["origin"] == "reweighted"]
            moved, noise = _shift(night, whole).reindex(taken), _shift(other, whole)
            print(
                f"{weeks} week(s), {scales} scales, {thin} draws: {len(taken)} of {units} reweighted, "
                f"{int((moved > 0.15).sum())} of them beyond 0.15 sd; largest shift of a channel's effect: "
                f"median {moved.median():.3f}, most {moved.max():.3f}; of two whole fits "
                f"{noise.median():.3f}, {noise.max():.3f}",
                flush=True,
            )


def _shift(one: Any, two: Any) -> pd.Series:
    """Largest difference of a unit's mean effects, in standard deviations of the second run."""
    params = [run.params().query("parameter == 'effect'").set_index([*KEYS, "channel"]) for run in (one, two)]
    shift = ((params[0]["mean"] - params[1]["mean"]) / params[1]["sd"]).abs()
    return shift.groupby(level=KEYS).max()


def _table(units: int, weeks: int = 104) -> tuple[Any, pd.DataFrame]:
    import mixfleet as mf

    fleet = mf.simulate.fleet(brands=-(-units // 20), markets=20, weeks=weeks, channels=6)
    rows = fleet.table.to_pandas()
    rows = rows.merge(rows[KEYS].drop_duplicates().head(units), on=KEYS)
    return fleet, rows.sort_values([*KEYS, "date"], ignore_index=True)


if __name__ == "__main__":
    main()
