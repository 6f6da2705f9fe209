"""A bad night, rehearsed: a fleet of which one unit in twenty is poisoned, two kills and a full disk.

    python -m benchmarks.rehearsal --units 500

The table is fitted once undisturbed. Then it goes through the command line as a nightly
job would: killed twice while it runs, then with files that may not grow beyond a limit, in place of a full disk,
then to its end, and the report is written. What must hold: the broken sessions end with the exit codes that the
documentation names, the last one with 1, as some units are not ok, poisoned units have a reason, and every result is
the undisturbed one to the byte.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

MIXFLEET = str(Path(sys.executable).with_name("mixfleet"))

POISONED = 20
"""One unit in so many."""

KILLS = (0.2, 0.5)
"""Shares of the units that are committed when a session is killed."""

LARGEST_FILE = 256
"""KiB of a file while the disk is full: journal and tables need more."""


def main() -> None:
    """Runs the rehearsal and prints what held; exits with 1 where something did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        held = _rehearse(Path(folder), arguments.units)
    for what, right in held.items():
        print(f"{'yes' if right else 'NO '}  {what}")
    sys.exit(not all(held.values()))


def _rehearse(folder: Path, units: int) -> dict[str, bool]:
    import mixfleet as mf

    fleet = mf.simulate.fleet(brands=-(-units // 20), markets=20, weeks=104, channels=6)
    rows = fleet.table.to_pandas()
    names = rows[["brand", "market"]].drop_duplicates().head(units)
    rows = rows.merge(names, on=["brand", "market"])
    poisoned = names.iloc[::POISONED]
    bad = rows.merge(poisoned, how="left", indicator=True)["_merge"].eq("both").to_numpy()
    table = folder / "sales.csv"
    _spoiled(rows, bad).to_csv(table, index=False)
    whole = mf.fit(str(table), data=fleet.data, run={"root": str(folder), "id": "undisturbed"})
    command = _command(folder, table, fleet.data)
    run = folder / "night"
    codes = [_killed(command, run, int(share * units)) for share in KILLS]
    small_files = ["bash", "-c", f'ulimit -f {LARGEST_FILE} && exec "$@"', "-"]
    full = subprocess.run([*small_files, *command], capture_output=True, text=True)
    began = time.perf_counter()
    last = subprocess.run([*command, "--json"], capture_output=True, text=True)
    print(f"{units} units; the last session took {time.perf_counter() - began:.0f} s")
    print(full.stderr.strip(), last.stderr.strip()[-1000:], sep="\n")
    report = subprocess.run([MIXFLEET, "report", str(run)], capture_output=True)
    night = mf.open(run).status
    both = night.merge(whole.status, on=["brand", "market"], suffixes=("", "_whole"))
    equal = both["digest"] == both["digest_whole"]
    victims = night.merge(poisoned, on=["brand", "market"])
    answer = json.loads(last.stdout.strip().splitlines()[-1])
    return {
        f"two sessions were killed: {codes}": codes == [-signal.SIGKILL] * 2,
        f"the full disk is said, with exit code 2: {full.returncode}": full.returncode == 2
        and "Traceback" not in full.stderr,
        f"the last session ends with 1: {last.returncode}": last.returncode == 1 == answer["exit_code"],
        f"every unit has a status: {len(night)}": len(night) == units,
        f"poisoned units are not ok, or say what is doubted: {victims['status'].value_counts().to_dict()}": bool(
            ((victims["status"] != "ok") & (victims["reason"].str.len() > 0)).all()
        ),
        f"units whose result is the undisturbed one's: {int(equal.sum())}": len(both) == units and bool(equal.all()),
        "the morning's report is written": report.returncode == 0 and (run / "report.html").stat().st_size > 10_000,
    }


def _spoiled(rows: pd.DataFrame, bad: np.ndarray) -> pd.DataFrame:
    """The table with each poisoned unit spoiled in one of five ways."""
    rows, spends = rows.copy(), [name for name in rows if name.startswith("spend_")]
    unit = rows.groupby(["brand", "market"]).ngroup().to_numpy()
    way = unit // POISONED % 5
    week = rows.groupby(["brand", "market"]).cumcount().to_numpy()
    rows["kpi"] = rows["kpi"].astype(object)
    rows.loc[bad & (way == 0) & (week == 50), "kpi"] = "n/a?"
    rows.loc[bad & (way == 1), "kpi"] = 7.0
    rows.loc[bad & (way == 2) & (week == 60), "kpi"] = 1e300
    rows.loc[bad & (way == 3) & (week == 70), spends[0]] = -1e9
    return rows.drop(index=rows.index[bad & (way == 4) & (week > 10) & (week < 95)])


def _command(folder: Path, table: Path, data: object) -> list[str]:
    """The nightly command, with its settings in a file."""
    import yaml

    from mixfleet.config.schema import to_mapping

    settings = folder / "my" / "data"
    settings.mkdir(parents=True)
    (settings / "night.yaml").write_text(yaml.safe_dump({**to_mapping(data), "source": "table", "path": str(table)}))
    return [MIXFLEET, "fit", "--config-dir", str(folder / "my"), "data=night", f"run.root={folder}", "run.id=night"]


def _killed(command: list[str], run: Path, units: int) -> int:
    """The exit status of a session that is killed once so many units are committed."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as session:
        while session.poll() is None and _committed(run) < units:
            time.sleep(0.1)
        session.kill()
        return session.wait()


def _committed(run: Path) -> int:
    """Units whose results are in the journal, as the run's events say."""
    try:
        lines = (run / "events.jsonl").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return 0
    return sum(json.loads(line).get("units", 0) for line in lines if '"committed"' in line)


if __name__ == "__main__":
    main()
