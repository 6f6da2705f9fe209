"""Throughput of a whole fit, from the table to the finished run folder, compiling included.

    pytest benchmarks/test_fit.py --benchmark-only

Each fit runs once, in a process of its own with an empty compile cache. `extra_info` holds what makes the time a
result: the share of certified units, and the effective draws that they brought per second.
"""

from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.fleet import fit_alone, yield_of
from mixfleet.config import Compute, Data, RunConfig, Spec, preset
from mixfleet.simulation import fleet as simulate

FLEETS = {"simulated_50": (10, 5), "simulated_300": (20, 15)}
"""Brands and markets; 156 weeks, 8 channels and 2 controls each."""


def data_of(fleet: str, folder: Path) -> Data:
    if fleet == "example":
        return preset("data", "example")
    brands, markets = FLEETS[fleet]
    simulated = simulate.fleet(brands=brands, markets=markets, truth="fixed")
    pq.write_table(simulated.table, folder / "table.parquet")
    return replace(simulated.data, path=str(folder / "table.parquet"))


@pytest.mark.parametrize("fleet", [*FLEETS, "example"])
def test_fit(benchmark: BenchmarkFixture, fleet: str, tmp_path: Path) -> None:
    spec = Spec(
        data=data_of(fleet, tmp_path),
        compute=Compute(cache_dir=str(tmp_path / "cache")),
        run=RunConfig(root=str(tmp_path / "runs")),
    )
    run, cost = benchmark.pedantic(fit_alone, args=(spec,), rounds=1, iterations=1)
    brought = yield_of(run)
    benchmark.extra_info.update(
        asdict(cost),
        units=brought.units,
        share_certified=brought.certified / brought.units,
        units_per_second=brought.units / cost.seconds,
        min_ess_per_second=brought.min_ess / cost.seconds,
        counts=run.counts,
    )
    assert brought.certified
