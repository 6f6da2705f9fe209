"""The model checks measured: their constants, false alarms, and what they say of worlds that break an assumption.

python -m benchmarks.model_checks constants     # quantiles behind the thresholds, from independent normal numbers
python -m benchmarks.model_checks rates         # alarms by kind in units drawn from the default prior, fitted
python -m benchmarks.model_checks worlds        # coverage and alarms by world; needs MIXFLEET_SHARED_DATA
"""

import argparse
import json
import tempfile

import numpy as np
import pandas as pd
from scipy.stats import norm

WORLDS = "sim_worlds"
SAMPLES = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("constants", "rates", "worlds"))
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    if arguments.what == "constants":
        _constants()
    elif arguments.what == "rates":
        _rates(arguments.units, arguments.seed)
    else:
        _worlds()


def _constants() -> None:
    """How much further out than a normal's the quantiles lie, times the square root of the number of weeks."""
    from mixfleet.posterior.model_checks.check import FALSE_ALARMS
    from mixfleet.posterior.model_checks.residuals import LAGS, ONE_SIDED

    rng = np.random.default_rng(0)
    for weeks in (40, 60, 104, 156, 300, 700):
        errors = rng.standard_normal((SAMPLES, weeks))
        total, variance = np.zeros(SAMPLES), 0.0
        for lag in range(1, LAGS + 1):
            weight = 2 * (1 - lag / (LAGS + 1))
            total += weight * np.sum(errors[:, lag:] * errors[:, :-lag], axis=1)
            variance += weight**2 * (weeks - lag)
        tails = np.sum(errors**4 - 6 * errors**2 + 3, axis=1) / np.sqrt(24 * weeks)
        spread = np.median(np.abs(errors), axis=1) / norm.ppf(0.75)
        outlier = np.quantile(np.max(np.abs(errors), axis=1) / spread, 1 - FALSE_ALARMS)
        found = [
            (np.quantile(values, 1 - FALSE_ALARMS) / ONE_SIDED - 1) * np.sqrt(weeks)
            for values in (total / np.sqrt(variance), tails)
        ]
        print(f"{weeks} weeks: long-run variance {found[0]:.2f}, kurtosis {found[1]:.2f}, outlier {outlier:.2f} sds")


def _rates(units: int, seed: int) -> None:
    import mixfleet as mf

    fleet = mf.simulate.fleet(brands=-(-units // 4), markets=4, weeks=104, channels=2, controls=1, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = mf.fit(
            fleet.table.to_pandas(), data=fleet.data, inference={"ess_target": 800}, run={"root": folder, "id": "r"}
        )
        checks, status = run.checks(), run.status["status"]
    print(status.value_counts().to_string())
    print(_by_kind(checks).to_string())


def _by_kind(checks: pd.DataFrame) -> pd.DataFrame:
    by_kind = checks.groupby("kind")
    return pd.DataFrame(
        {
            "tested": by_kind["statistic"].apply(lambda own: own.notna().mean()),
            "doubt": by_kind["verdict"].apply(lambda own: (own == "doubt").mean()),
            "misfit": by_kind["verdict"].apply(lambda own: (own == "misfit").mean()),
            "median": by_kind["statistic"].median(),
            "threshold": by_kind["threshold"].median(),
        }
    ).round(3)


def _worlds() -> None:
    import mixfleet as mf
    from tests.support.shared_data import shared

    table = pd.read_parquet(shared(f"{WORLDS}/national.parquet"))
    truth = {one["world"]: one for one in json.loads(shared(f"{WORLDS}/national_truth.json").read_text())}
    table["date"] = pd.Timestamp("2020-01-06") + pd.to_timedelta(7 * table["week"], unit="D")
    table["seed"] = table["seed"].astype(str)
    alike: dict[tuple[str, ...], list[str]] = {}
    for world, own in table.groupby("world"):
        alike.setdefault(tuple(own.columns[own.notna().any()]), []).append(str(world))
    for columns, worlds in alike.items():
        data = mf.Data(
            keys=("world", "seed"),
            kpi="sales",
            channels=tuple(mf.Channel(name=name[6:], spend=name) for name in columns if name.startswith("spend_")),
            controls=tuple(name for name in columns if name.startswith("ctrl_")),
        )
        with tempfile.TemporaryDirectory() as folder:
            rows = table.loc[table["world"].isin(worlds), list(columns)]
            run = mf.fit(rows, data=data, run={"root": folder, "id": "r"})
            roi, status, checks = run.roi(), run.status.set_index("world")["status"], run.checks()
        for world in worlds:
            own = roi[(roi["world"] == world) & roi["channel"].isin(truth[world]["true_roas"])]
            true = own["channel"].map(truth[world]["true_roas"])
            said = checks[(checks["world"] == world) & (checks["verdict"] != "passed")]["kind"]
            covered = np.mean((true >= own["q05"]) & (true <= own["q95"]))
            print(f"{world:<24} covers {covered:.2f} of {len(own)}  {status[world]:<8} {', '.join(said)}")


if __name__ == "__main__":
    main()
