"""Cost of one gradient of every lane within the sampler: density, priors, metric, random numbers, draws entered.

    pytest benchmarks/test_tick.py --benchmark-only

One block of a full tile, on CPU on one thread; `extra_info` holds the device and the microseconds per lane-gradient of
the median block. What channels of several forms cost is `mixed_curves` over the mean of `logistic` and `hill`, and
`mixed_windows` over the mean of `logistic` and `delayed`.
"""

from typing import Any

import jax
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.recovery import FORMS
from mixfleet.config import Compute, Model, Prior, Spec, build
from mixfleet.data.panel import read_panel
from mixfleet.inference.compiled import TICKS, program
from mixfleet.models.batch import padded_weeks, prepare, stack, structure_of
from mixfleet.simulation import fleet as simulate

BLOCKS = 40

ON_GPU = pytest.mark.skipif(jax.default_backend() == "cpu", reason="128 lanes fill a CPU's core, and no GPU")


COLUMNS = build(Prior, {"parameters": {"seasonality": {"family": "laplace", "mean": 0, "scale": 0.05}}})
PARTS: dict[str, dict[str, Any]] = {
    "laplace_columns": {"prior": COLUMNS},
    **{name: {"model": build(Model, form)} for name, form in FORMS.items()},
}


@pytest.mark.parametrize(
    ("weeks", "channels", "lanes", "experiments", "parts"),
    [
        (156, 8, 128, 4, "default"),
        *((156, 8, 128, 0, name) for name in FORMS),
        (156, 8, 128, 0, "laplace_columns"),
        (110, 13, 128, 0, "default"),
        pytest.param(156, 8, 2048, 0, "default", marks=ON_GPU),
    ],
)
def test_tick(benchmark: BenchmarkFixture, weeks: int, channels: int, lanes: int, experiments: int, parts: str) -> None:
    fleet = simulate.fleet(brands=4, markets=4, weeks=weeks, channels=channels, seed=1, experiments=experiments)
    panel = read_panel(fleet.table, fleet.data, experiments=fleet.experiments)
    spec = Spec(data=fleet.data, compute=Compute(lanes=lanes), **PARTS[parts])
    structure, device = structure_of(spec, panel, padded_weeks(weeks)), jax.devices()[0]
    compiled = program(structure, (BLOCKS + 2) * TICKS, device)
    members = [prepare(unit, panel, spec) for unit in panel.units[: structure.units]]
    keys = np.arange(2 * structure.units, dtype=np.uint32).reshape(-1, 2)
    with jax.enable_x64(True):
        batch = compiled.put(stack(members, structure))
        held = [compiled.start(batch, keys, np.full(structure.units, 0.8, structure.dtype)), compiled.empty_buffer()]

        def block() -> None:
            held[:] = compiled.advance(batch, *held)
            jax.block_until_ready(held)

        benchmark.pedantic(block, rounds=BLOCKS, warmup_rounds=2)
    benchmark.extra_info["device"] = f"{device.platform} {device.device_kind}"
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.as_dict()["median"]
        benchmark.extra_info["us_per_lane_gradient"] = seconds / TICKS / structure.lanes * 1e6
