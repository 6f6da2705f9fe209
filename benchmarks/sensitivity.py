"""Other priors by reweighting: CPU seconds, how many units the weights can be trusted in, and whether a refit agrees.

    python -m benchmarks.sensitivity --units 300

A fleet is fitted, told of by its draws' weights, and fitted anew under every alternative. The last row is what two fits
under the run's own priors with other seeds differ by: Monte Carlo error alone.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mixfleet.config import Spec
    from mixfleet.run import Run

BRANDS = 20
NEAR = 0.1
"""Posterior standard deviations."""


def main() -> None:
    """Prints one row per alternative."""
    import mixfleet as mf
    from mixfleet.analysis.tables.sensitivity import powers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=300)
    arguments = parser.parse_args()
    simulated = mf.simulate.fleet(brands=BRANDS, markets=-(-arguments.units // BRANDS))
    table = simulated.table.to_pandas()

    def fitted(spec: "Spec", name: str) -> "Run":
        return mf.fit(table, replace(spec, run=mf.RunConfig(root=folder, id=name)))

    with tempfile.TemporaryDirectory() as folder:
        run = fitted(mf.Spec(data=simulated.data), "usual")
        began = time.process_time()
        weighed = run.insight.sensitivity()
        print(f"{time.process_time() - began:.1f} CPU seconds for {weighed['alternative'].nunique()} alternatives")
        print("| alternative | units told | shift is within 0.1 sd of a refit's | 95 % within | furthest |")
        print("|---" * 5 + "|")
        for i, other in enumerate(powers(run.fleet())):
            own = weighed[(weighed["alternative"] == other.name) & weighed["reliable"]].set_index(KEYS)["shift"]
            _print(other.name, own, run, fitted(other.spec, f"other{i}"))
        again = mf.Spec(data=simulated.data, inference=mf.Inference(seed=1))
        _print("the same priors, another seed", None, run, fitted(again, "again"))


KEYS = ["brand", "market", "channel"]


def _print(name: str, weighed: "pd.Series | None", run: "Run", other: "Run") -> None:
    """One row: how far what weights say of channels is from what a fit says."""
    usual, anew = _brought(run), _brought(other)
    moved = ((anew["mean"] - usual["mean"]) / usual["sd"]).dropna()
    away = (moved if weighed is None else weighed - moved.reindex(weighed.index)).abs().dropna().to_numpy()
    units = run.manifest["units"]
    told = (moved if weighed is None else weighed).index.droplevel("channel").nunique()
    near, wide = np.mean(away < NEAR), np.quantile(away, 0.95)
    print(f"| {name} | {told} of {units} | {near:.1%} | {wide:.3f} | {away.max():.2f} |", flush=True)


def _brought(run: "Run") -> Any:
    """Mean and standard deviation of each channel's contribution."""
    table: Any = run.contributions().rename(columns={"component": "channel"})
    return table[table["channel"].isin(run.roi()["channel"].unique())].set_index(KEYS)[["mean", "sd"]]


if __name__ == "__main__":
    main()
