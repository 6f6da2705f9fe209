"""What a group learns while it warms up: chains out of hopeless modes, and a metric for each of its moves."""

from threading import Event
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Compute, Inference, Model, Pooling, Spec
from mixfleet.data.panel import read_panel
from mixfleet.hierarchy import adaptation
from mixfleet.hierarchy.gibbs import pooled_program
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.reparameterization import place
from mixfleet.hierarchy.sampler import sample_groups
from mixfleet.inference.adaptation import metric_of
from mixfleet.simulation import fleet as simulate

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

CHAINS = 4


def test_a_chain_in_a_hopeless_mode_goes_on_from_another_one() -> None:
    """With its own hyperparameters; a mode that is only a little lower stays."""
    model = Model(observation="normal", adstock="none", saturation="none", trend="none", seasonality=0)
    fleet = simulate.fleet(brands=1, markets=2, weeks=60, channels=1, controls=1, ragged=True, model=model)
    settings: dict[str, Any] = {"inference": Inference(chains=CHAINS), "compute": Compute(precision="float64")}
    spec = Spec(data=fleet.data, model=model, pooling=Pooling(by="brand"), **settings)
    panel = read_panel(fleet.table, fleet.data, seasonality=0, window=model.window, pooling=spec.pooling)
    ((label, units),) = groups_of(panel, spec)
    device = jax.devices("cpu")[0]
    with jax.enable_x64(True), jax.default_device(device):
        group = prepared(label, units, panel, spec)
        program, structure = pooled_program(group.pool, device), group.pool.structure
        keys = np.arange(2 * structure.units, dtype=np.uint32).reshape(-1, 2)
        data, state = adaptation.begin(group, program, keys, keys[:1])
        state, sweep = program.sweeps(data, state)
        fields = np.array(sweep.fields)
        fields[:, -2] = 0.0
        fields[:, -2, 1, 3] = -adaptation.LOST - 1
        fields[:, -2, 0, 2] = -adaptation.LOST + 1
        after, learnt = adaptation._learn(group, program, data, state, [sweep._replace(fields=fields)])
        shape = (-1, structure.units, CHAINS)
        hierarchy, sites, rows, hyper = jax.tree.map(
            jnp.asarray, (after.hierarchy, after.sites, after.batch.hyper, learnt.hyper)
        )
        placed = place(group.pool, hierarchy, sites, rows, jnp.reshape(learnt.x, shape), hyper)
    before, found = (np.array(one.found.position).reshape(shape) for one in (state, learnt))
    np.testing.assert_array_equal(found[:, 1, 3], before[:, 1, 0])
    found[:, 1, 3] = before[:, 1, 3]
    np.testing.assert_array_equal(found, before)
    np.testing.assert_allclose(placed.position, np.asarray(learnt.found.position).reshape(shape), rtol=1e-9, atol=1e-9)
    for part in ("value", "gradient", "extra"):
        told = np.asarray(getattr(learnt.found, part))
        np.testing.assert_array_equal(told[..., CHAINS + 3], told[..., CHAINS])


def test_a_unit_moves_by_what_its_density_is_beside_each_of_the_hyperparameters() -> None:
    """A ridge that hyperparameters carry along: by the draws' covariance alone it would seem wide across."""
    random = np.random.default_rng(3)
    draws, chains, narrow, carried = 4000, 4, 0.1, 2.0
    white = random.normal(size=(2, draws, chains))
    gradient = np.moveaxis(np.stack([-white[0] / narrow, -white[1]]), 0, 1)[None]
    one = metric_of(np.eye(2)[None], "float64")
    joint = metric_of(np.diag([carried**2 + narrow**2, 1.0])[None], "float64")
    metric, stiffness = adaptation._given_hyperparameters(joint, gradient, one)
    np.testing.assert_allclose(metric.covariance[0], np.diag([narrow * carried, 1.0]), rtol=0.05, atol=0.02)
    np.testing.assert_allclose(stiffness, [carried / narrow], rtol=0.05)
    # Beside hyperparameters that carry nothing it is their covariance.
    metric, stiffness = adaptation._given_hyperparameters(one, np.moveaxis(white, 0, 1)[None], one)
    np.testing.assert_allclose(metric.covariance[0], np.eye(2), atol=0.05)
    np.testing.assert_allclose(stiffness, [1.0], rtol=0.05)


@pytest.mark.nightly
def test_a_group_is_certified_though_a_chain_begins_in_a_hopeless_mode() -> None:
    """Of one market of hardly any noise; the chain stood 50 below the others, with R-hat 1.3, on every rung."""
    fleet = simulate.fleet(brands=20, markets=15)
    table = fleet.table.to_pandas()
    settings: dict[str, Any] = {"pooling": Pooling(by="brand"), "inference": Inference(ladder=False)}
    spec = Spec(data=fleet.data, **settings)
    panel = read_panel(table[table["brand"] == "brand_001"], fleet.data, pooling=spec.pooling)
    groups = [prepared(label, units, panel, spec) for label, units in groups_of(panel, spec)]
    finished = [one for one in sample_groups(groups, spec, [jax.devices("cpu")[0]], Event()) if one is not None]
    assert all(unit.verdict.passed for group in finished for unit in group.units)
