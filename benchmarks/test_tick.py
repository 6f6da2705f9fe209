"""Cost of one gradient of every lane within the sampler: density, priors, metric, random numbers, draws entered.

    pytest benchmarks/test_tick.py --benchmark-only

One block of a full tile, on one thread; `extra_info` holds the microseconds per lane-gradient of the median block.
"""

import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mixfleet import simulate
from mixfleet.batch import padded_weeks, prepare, stack, structure
from mixfleet.config import Spec
from mixfleet.panel import read_panel
from mixfleet.program import TICKS, program

BLOCKS = 40


@pytest.mark.parametrize(("weeks", "channels"), [(156, 8), (110, 13)])
def test_tick(benchmark: BenchmarkFixture, weeks: int, channels: int) -> None:
    fleet = simulate.fleet(brands=4, markets=4, weeks=weeks, channels=channels, seed=1)
    panel, spec = read_panel(fleet.table, fleet.data), Spec(data=fleet.data)
    kind = structure(spec, panel, padded_weeks(weeks))
    compiled = program(kind, (BLOCKS + 2) * TICKS, jax.devices()[0])
    members = [prepare(unit, panel, spec) for unit in panel.units[: kind.units]]
    keys = np.arange(2 * kind.units, dtype=np.uint32).reshape(-1, 2)
    with jax.enable_x64(True):
        tile = compiled.put(stack(members, kind))
        held = [compiled.start(tile, keys, np.full(kind.units, 0.8, kind.dtype)), compiled.empty_book()]

        def block() -> None:
            held[:] = compiled.advance(tile, *held)
            jax.block_until_ready(held)

        benchmark.pedantic(block, rounds=BLOCKS, warmup_rounds=2)
    lanes = kind.units * kind.chains
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.as_dict()["median"]
        benchmark.extra_info["us_per_lane_gradient"] = seconds / TICKS / lanes * 1e6
