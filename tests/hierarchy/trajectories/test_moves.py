"""The native trajectories of a sweep end where those in XLA end."""

from typing import Any

import jax
import numpy as np
import pytest

from mixfleet.config import Compute, Inference, Model, Pooling, Spec
from mixfleet.data.panel import read_panel
from mixfleet.hierarchy import adaptation
from mixfleet.hierarchy.gibbs import PooledProgram, native_form
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.state import adapting
from mixfleet.simulation import fleet as simulate
from mixfleet_kernels import native_library

pytestmark = [
    pytest.mark.usefixtures("usual_broadcasts"),
    pytest.mark.skipif(not native_library.available(), reason="the native library was not built"),
]


ALIKE = 2
"""Sweeps that are compared: trajectories part, each a hundred times as fast as the one before."""


@pytest.mark.parametrize(
    ("pooling", "model", "chains"),
    [
        # So few chains fill no whole vector, of so many two threads take a part each.
        pytest.param(Pooling(by="brand"), Model(), 3, id="by_brand"),
        pytest.param(
            Pooling(by="crossed", keys={"adstock": ("brand",)}, types={"online": ("search", "social")}),
            Model(),
            64,
            id="crossed_of_types",
        ),
        pytest.param(
            Pooling(by="crossed", adstock=None),
            Model(observation="normal", saturation="logistic"),
            8,
            id="independent",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            Pooling(by="brand", trend=None, seasonality=None, control=None),
            Model(),
            4,
            id="none_shared",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_sweeps_end_where_those_in_xla_do(pooling: Pooling, model: Model, chains: int) -> None:
    """In double precision, on from where a metric is learnt."""
    fleet = simulate.fleet(brands=2, markets=3, weeks=60, channels=3, controls=1, ragged=True, model=model)
    settings: dict[str, Any] = {"inference": Inference(chains=chains), "compute": Compute(precision="float64")}
    spec = Spec(data=fleet.data, model=model, pooling=pooling, **settings)
    panel = read_panel(
        fleet.table, fleet.data, seasonality=model.seasonality, window=model.window, pooling=spec.pooling
    )
    label, units = groups_of(panel, spec)[0]
    device = jax.devices("cpu")[0]
    with jax.enable_x64(True), jax.default_device(device):
        group = prepared(label, units, panel, spec)
        form = native_form(group.pool, "cpu")
        assert form is not None
        native, in_xla = (PooledProgram(group.pool, device, of) for of in (form, None))
        keys = np.arange(2 * group.pool.structure.units, dtype=np.uint32).reshape(-1, 2)
        data, state = adaptation.begin(group, in_xla, keys, keys[:1])
        state, drawn = adapting(state, spec.inference.target_accept), []
        for _ in range(4):
            state, sweep = in_xla.sweeps(data, state)
            drawn.append(sweep)
        data, state = adaptation._learn(group, in_xla, data, state, drawn)
        state, _ = in_xla.sweeps(data, state)
        found, expected = (
            jax.tree.map(lambda values: np.asarray(values)[:ALIKE], program.sweeps(data, state)[1])
            for program in (native, in_xla)
        )
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8 * np.max(np.abs(other), initial=1.0))
    start = np.asarray(state.found.position).reshape(-1, group.pool.structure.units, chains)[:, : len(units)]
    assert np.mean(found.fields[-1, : len(start), : len(units)] != start) > 0.5
