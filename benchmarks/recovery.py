"""How well fleets with known truth are recovered: share certified, coverage and error of ROI, seconds, memory.

    python -m benchmarks.recovery simulated --units 300
    python -m benchmarks.recovery simulated --units 100 --forms mixed_curves
    python -m benchmarks.recovery pooled --units 300
    python -m benchmarks.recovery crossed --units 300
    python -m benchmarks.recovery brands
    python -m benchmarks.recovery brands --by brand

`simulated` draws a fleet from the default prior, so that its 90 % intervals must cover the truth in 90 % of cases; with
`--forms` its channels, and the model's, have other curves or carry-over, all of them or half of them.
`pooled` draws one whose units share hyperparameters within each brand of 15 markets, and fits it so; `crossed` one
whose units are all one joint posterior, with effects of brands and markets.
`brands` reads 48 series whose generator is not our model (unnormalised adstock, Hill curves in another scale); it is
found through MIXFLEET_SHARED_DATA; `--by brand` lets the markets of a brand share hyperparameters. Times include
compilation: the compile cache is a new, empty folder.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.candidates import CANDIDATES, HILL

HALF = ("search", "display", "print", "video")
"""Channels of which the others differ."""
LOGISTIC = CANDIDATES["logistic"]
FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "logistic": LOGISTIC,
    "hill": CANDIDATES["hill"],
    "delayed": {**LOGISTIC, "adstock": "delayed"},
    "wide": CANDIDATES["wide"],
    "mixed_curves": {**LOGISTIC, "channels": {name: HILL for name in HALF}},
    "mixed_windows": {**LOGISTIC, "channels": {name: {"adstock": "delayed"} for name in HALF}},
    "saturation_first": {**LOGISTIC, "adstock_first": False},
    "without_carry_over": {**LOGISTIC, "channels": {name: {"adstock": "none"} for name in HALF}},
}
"""Settings of the model by the name of its channels' forms; all but the default's with independent noise."""

BRANDS = "sim_param_recovery/brands_6x8"


def main() -> None:
    """Fits one of the fleets in a new process state and prints what was recovered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fleet", choices=("simulated", "pooled", "crossed", "brands"))
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", choices=FORMS, default="default")
    parser.add_argument("--by", choices=("none", "brand"), default="none", help="pooling of brands")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        began = time.perf_counter()
        status, recovered = _brands(arguments, folder) if arguments.fleet == "brands" else _simulated(arguments, folder)
        seconds = time.perf_counter() - began
    _report(arguments.fleet, status, recovered, seconds)


def _simulated(arguments: argparse.Namespace, folder: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    import mixfleet as mf

    markets = 15
    pooling = mf.Pooling(by={"pooled": "brand", "crossed": "crossed"}.get(arguments.fleet, "none"))
    brands = -(-arguments.units // markets)
    model = mf.config.build(mf.Model, FORMS[arguments.forms])
    fleet = mf.simulate.fleet(brands=brands, markets=markets, seed=arguments.seed, pooling=pooling, model=model)
    table = fleet.table.to_pandas()
    keys = fleet.data.keys
    few = table[list(keys)].drop_duplicates().head(arguments.units)
    run = mf.fit(table.merge(few, on=list(keys)), data=fleet.data, model=model, pooling=pooling, run={"root": folder})
    if pooling.by != "none":
        _report_spreads(run.table("pooling").to_pandas())
    truth = fleet.truth.to_pandas()[["brand", "market", "channel", "roi", "contribution"]]
    return run.status, _merged(run.roi(), truth, ["brand", "market", "channel"])


def _brands(arguments: argparse.Namespace, folder: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    import mixfleet as mf
    from tests.support.shared_data import shared

    table = pd.read_parquet(shared(f"{BRANDS}.parquet"))
    channels = tuple(mf.Channel(name=name.split("_", 1)[1], spend=name) for name in table if name.startswith("x"))
    data = mf.Data(
        keys=("brand", "geo"), kpi="y", channels=channels, controls=tuple(c for c in table if c.startswith("c"))
    )
    model = FORMS[arguments.forms]
    run = mf.fit(table, data=data, model=model, pooling={"by": arguments.by}, run={"root": folder})
    rows = [
        {"brand": brand["brand"], "geo": geo, "channel": channel, "roi": roi}
        for brand in json.loads(shared(f"{BRANDS}_truth.json").read_text())
        for geo, by_channel in brand["roas"].items()
        for channel, roi in by_channel.items()
    ]
    return run.status, _merged(run.roi(), pd.DataFrame(rows), ["brand", "geo", "channel"])


def _merged(fitted: pd.DataFrame, truth: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    merged = fitted.merge(truth, on=keys, how="inner")
    merged["covered"] = merged["roi"].between(merged["q05"], merged["q95"])
    merged["error"] = (merged["mean"] - merged["roi"]).abs() * merged["spend"]
    merged["true"] = merged["roi"] * merged["spend"]
    return merged


def _report(fleet: str, status: pd.DataFrame, recovered: pd.DataFrame, seconds: float) -> None:
    certified = recovered.loc[recovered["status"].str.startswith("ok")]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ok = status["status"].str.startswith("ok").mean()
    ess = status[["ess_bulk_min", "ess_tail_min"]].min(axis=1).sum()
    print(f"{fleet}: {len(status)} units, {platform.machine()}, {os.cpu_count()} cores")
    used = time.process_time()
    print(f"  {seconds:.1f} s with compilation, {len(status) / seconds:.2f} units/s, {ess / seconds:,.0f} min-ESS/s")
    print(f"  {used:.1f} CPU-seconds, imports among them")
    median, most = _gradients(status)
    print(f"  certified {ok:.1%}, peak memory {peak:.2f} GiB")
    print(f"  gradients per min-ESS, warm-up included: {median:.1f} (median unit), {most:.1f} (90 %)")
    if fleet == "simulated":
        median, most = _gradients(status, warm_up=False)
        print(f"  while sampling, at most: {median:.1f} (median unit), {most:.1f} (90 %)")
    print("  " + status["status"].value_counts().to_string().replace("\n", "\n  "))
    print(f"  90 % ROI intervals cover {certified['covered'].mean():.1%} of {len(certified)} channels")
    by_channel = certified.groupby("channel").agg(
        covered=("covered", "mean"), error=("error", "sum"), true=("true", "sum"), fitted=("mean", "median")
    )
    relative = certified["error"] / certified["true"].abs()
    # The median of a normal law's absolute value is 0.67 sd, and a 90 % interval is 3.29 sd wide.
    stated = np.median(0.674 / 3.29 * (certified["q95"] - certified["q05"]) / certified["mean"].abs())
    print(f"  error of a unit's contribution: median {np.median(relative):.1%}, by its intervals {stated:.1%}")
    by_channel["contribution error"] = by_channel["error"] / by_channel["true"]
    truth = certified.groupby("channel")["roi"].median()
    by_channel["true ROI"], by_channel["fitted ROI"] = truth, by_channel["fitted"]
    print(by_channel[["covered", "contribution error", "true ROI", "fitted ROI"]].round(3).to_string())


def _report_spreads(table: pd.DataFrame) -> None:
    spreads = table.drop_duplicates(["parameter", "channel", "source", "sd"])
    found = spreads.groupby("source").agg(
        least_ess=("ess_bulk", "min"), median_ess=("ess_bulk", "median"), most_rhat=("rhat", "max")
    )
    print("spreads by source\n" + found.round(3).to_string())


def _gradients(status: pd.DataFrame, *, warm_up: bool = True) -> np.ndarray:
    """Median and 90 % quantile; without the warm-up of units alone, but with those that it learns from."""
    from mixfleet.inference.hmc import TICKS
    from mixfleet.inference.scheduler import HARDER_PATIENCE, SETTLING, WINDOWS

    blocks = (WINDOWS[-1] + SETTLING) * np.where(status["rung"] > 0, HARDER_PATIENCE, 1)
    least = 0 if warm_up else blocks * TICKS * status["chains"]
    return np.quantile((status["gradients"] - least) / status[["ess_bulk_min", "ess_tail_min"]].min(axis=1), (0.5, 0.9))


if __name__ == "__main__":
    main()
