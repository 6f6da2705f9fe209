"""What a night costs when few units changed: 300 units, twelve of which have one late row, on last night's run; and how
far draws that are weighed anew are from whole fits, after one week more and after four.

python -m benchmarks.only_what_changed late --units 300
python -m benchmarks.only_what_changed weeks --units 50
python -m benchmarks.only_what_changed pooled --units 60
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
    parser.add_argument("what", choices=["late", "weeks", "pooled"])
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--thin", type=int, default=1000, help="draws of a unit that are kept")
    parser.add_argument("--fits", type=int, default=6, help="whole fits that the mean is of")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "late":
            _late_rows(Path(folder), arguments.units)
        elif arguments.what == "weeks":
            _new_weeks(Path(folder), arguments.units, arguments.thin, arguments.fits)
        else:
            _pooled(Path(folder), arguments.units, arguments.thin, arguments.fits)


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

    evening, *_ = fit("evening", rows.loc[~(late & last)])
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


def _new_weeks(folder: Path, units: int, thin: int, fits: int) -> None:
    """Draws of last night's units, weighed anew, beside whole fits, which differ from each other too."""
    import mixfleet as mf

    fleet, rows = _table(units)
    dates = _dates(rows)

    def fit(name: str, table: pd.DataFrame, seed: int = 0, **run: str) -> Any:
        own = {"root": str(folder), "id": name, **run}
        return mf.fit(table, data=fleet.data, run=own, output={"thin": thin}, inference={"seed": seed})

    for weeks in (1, 4):
        base = str(fit(f"before-{weeks}", rows.loc[rows["date"] < dates[-weeks]]).path)
        night = fit(f"night-{weeks}", rows, base=base, scales="frozen", reuse="reweighted")
        whole = [fit(f"whole-{weeks}-{seed}", rows, seed, base=base, scales="frozen") for seed in range(1, fits + 1)]
        _print_agreement(f"{weeks} week(s), {thin} draws kept", night, whole)


def _pooled(folder: Path, units: int, thin: int, fits: int) -> None:
    """Groups of which a week was revised in one, two and four units, weighed whole, beside whole fits."""
    import mixfleet as mf

    fleet, rows = _table(units, markets=10)
    late = rows["date"].eq(_dates(rows)[-2]).to_numpy()
    place = rows.groupby("brand")["market"].rank(method="dense").to_numpy() - 1

    def fit(name: str, table: pd.DataFrame, seed: int = 0, **run: str) -> Any:
        own = {"root": str(folder), "id": name, **run}
        settings = {"output": {"thin": thin}, "inference": {"seed": seed}, "pooling": {"by": "brand"}}
        return mf.fit(table, data=fleet.data, run=own, **settings)

    base = str(fit("before", rows).path)
    for changed in (1, 2, 4):
        factor = np.where(late & (place < changed), 1.03, 1.0)
        revised = rows.assign(kpi=rows["kpi"] * factor)
        night = fit(f"night-{changed}", revised, base=base, scales="frozen", reuse="reweighted")
        whole = [fit(f"whole-{changed}-{seed}", revised, seed) for seed in range(1, fits + 1)]
        _print_agreement(f"a week revised in {changed} of 10 units of each group, {thin} draws kept", night, whole)


def _print_agreement(what: str, night: Any, whole: list[Any]) -> None:
    """How many units were reweighted, how far their ROI is from the whole fits' mean, and why the others were not."""
    status = night.status.set_index(KEYS)
    taken = status.index[status["origin"] == "reweighted"]
    means = pd.concat([run.roi().set_index([*KEYS, "channel"])["mean"] for run in whole], axis=1).to_numpy()
    sd = np.mean([run.roi()["sd"] for run in whole], axis=0)
    found = night.roi().set_index([*KEYS, "channel"])
    fits = len(whole)
    own = pd.MultiIndex.from_arrays([found.index.get_level_values(key) for key in KEYS]).isin(taken)
    # The mean of several fits has an error of its own, which is known from how they differ.
    noise = np.sqrt(np.mean(np.var(means, axis=1, ddof=1)[own] / sd[own] ** 2))
    error = (found["mean"].to_numpy() - means.mean(axis=1)) / sd
    apart = np.sqrt(np.mean(error[own] ** 2) - noise**2 / fits)
    expected = np.sqrt(np.mean(1 / status.loc[taken, "ess_bulk_min"]))
    worst = _worst(found.index, np.where(own, error, 0.0))
    single = [_worst(found.index, np.where(own, (one - means[:, -1]) / sd, 0.0)) for one in means.T[:-1]]
    most, beyond = max(one.max() for one in single), max(int((one > 0.15).sum()) for one in single)
    print(f"{what}: {len(taken)} of {len(status)} units reweighted", flush=True)
    print(f"  ROI against the mean of {fits} whole fits, in posterior sd: error {apart:.3f}, where effective draws")
    print(f"  say {expected:.3f} and one whole fit has {noise:.3f}; the largest of any channel {worst.max():.3f},")
    print(f"  {int((worst > 0.15).sum())} units beyond 0.15; of two whole fits {most:.3f}, {beyond} units", flush=True)
    for reason, count in night.status["why_fitted"].value_counts().items():
        print(f"  {count} {reason}")


def _worst(index: pd.MultiIndex, shift: np.ndarray) -> np.ndarray:
    """Largest shift of a unit's channels."""
    units, _ = pd.factorize(index.droplevel("channel"))
    worst = np.zeros(units.max() + 1)
    np.maximum.at(worst, units, np.abs(shift))
    return worst


def _dates(rows: pd.DataFrame) -> np.ndarray:
    return np.sort(rows["date"].drop_duplicates().to_numpy())


def _table(units: int, weeks: int = 104, markets: int = 20) -> tuple[Any, pd.DataFrame]:
    import mixfleet as mf

    fleet = mf.simulate.fleet(brands=-(-units // markets), markets=markets, weeks=weeks, channels=6)
    rows = fleet.table.to_pandas()
    rows = rows.merge(rows[KEYS].drop_duplicates().head(units), on=KEYS)
    return fleet, rows.sort_values([*KEYS, "date"], ignore_index=True)


if __name__ == "__main__":
    main()
