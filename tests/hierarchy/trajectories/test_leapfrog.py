"""A trajectory of a block of the Gibbs sampler leads where leapfrog steps lead, and asks for no density twice."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Pooling
from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.groups import groups_of, prepared, typical_media
from mixfleet.hierarchy.likelihood_approximation import sites_of_mode
from mixfleet.hierarchy.reparameterization import place
from mixfleet.hierarchy.state import EvaluatedPosition, GroupData
from mixfleet.hierarchy.trajectories.leapfrog import GroupMetric, pulled_in, trajectory
from mixfleet.inference.adaptation import metric_of
from mixfleet.models.batch import stack
from tests.support.quick import ragged_fleet, settings

DIMENSION, CHAINS = 3, 5
STEP = 0.3

pytestmark = pytest.mark.usefixtures("usual_broadcasts")


@pytest.mark.parametrize("steps", [[1, 1, 1, 1, 1], [4, 2, 1, 3, 4]], ids=["one", "many"])
def test_a_trajectory_is_as_many_leapfrog_steps_from_its_origin(steps: list[int]) -> None:
    """Each lane's of its own number of them, whatever is told of it when it is done."""
    random = np.random.default_rng(1)
    root = np.tril(random.normal(size=(DIMENSION, DIMENSION))) + 2 * np.eye(DIMENSION)
    precision, covariance = root @ root.T, np.diag([0.5, 1.0, 2.0])
    origin, white = random.normal(size=(2, DIMENSION, CHAINS))
    threshold = np.array([0.0, 0.0, 0.0, 1.0, 1.0])

    def density(position: Any, asked: Any) -> Any:
        value = jnp.where(asked, -0.5 * jnp.sum(position * (precision @ position), axis=0), jnp.nan)
        return value, jnp.where(asked, -precision @ position, jnp.nan)

    with jax.enable_x64(True):
        found = trajectory(
            lambda x, density: (*density(x), 2 * x),
            density,
            density(jnp.asarray(origin), asked=True),
            (jnp.asarray(origin), jnp.asarray(2 * origin)),
            metric_of(covariance[None], "float64"),
            jnp.full(CHAINS, STEP),
            jnp.asarray(steps, jnp.int32),
            jnp.asarray(white),
            jnp.asarray(threshold),
        )
    position, momentum = origin, np.linalg.inv(np.linalg.cholesky(covariance)).T @ white

    def energy() -> np.ndarray:
        return 0.5 * np.sum(position * (precision @ position), axis=0) + 0.5 * np.sum(
            momentum * (covariance @ momentum), axis=0
        )

    before = energy()
    for i in range(max(steps)):
        moving = i < np.array(steps)
        momentum = np.where(moving, momentum - 0.5 * STEP * precision @ position, momentum)
        position = np.where(moving, position + STEP * covariance @ momentum, position)
        momentum = np.where(moving, momentum - 0.5 * STEP * precision @ position, momentum)
    accept = np.minimum(np.exp(before - energy()), 1)
    np.testing.assert_allclose(found.accept, accept, rtol=1e-9)
    accepted = threshold < accept
    assert accepted.tolist() == [True] * 3 + [False] * 2
    end = np.where(accepted, position, origin)
    np.testing.assert_allclose(found.position, end, rtol=1e-9)
    np.testing.assert_allclose(found.extra, 2 * end, rtol=1e-9)
    np.testing.assert_allclose(found.energy, np.where(accepted, energy(), before), rtol=1e-9)


def test_what_is_known_of_the_origin_is_not_asked_for_again() -> None:
    asked = list[list[bool]]()

    def density(position: Any, moving: Any) -> Any:
        jax.debug.callback(lambda moving: asked.append(moving.tolist()), moving)
        return -0.5 * jnp.sum(position**2, axis=0), -position

    at = jnp.ones((DIMENSION, CHAINS))
    found = trajectory(
        lambda x, density: (*density(x), x),
        density,
        (-0.5 * jnp.sum(at**2, axis=0), -at),
        (at, at),
        metric_of(np.eye(DIMENSION)[None], "float32"),
        jnp.full(CHAINS, STEP, jnp.float32),
        jnp.array([4, 1, 0, 2, 4], jnp.int32),
        at,
        jnp.zeros(CHAINS),
    )
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert np.sum(asked, axis=0).tolist() == [4, 1, 0, 2, 4]
    np.testing.assert_array_equal(np.asarray(found.position)[:, 2], at[:, 2])


def test_a_group_moves_as_one_with_the_metrics_of_its_parts_each_unit_at_its_speed() -> None:
    """Velocity, momentum and kicks are those of one matrix with the parts' along its diagonal; some units stay."""
    random = np.random.default_rng(2)
    units, own, blocks, rows, chains = 3, 3, 2, 2, 4
    speed = np.array([1.0, 0.0, 0.3])

    def covariances(count: int, size: int) -> np.ndarray:
        roots = np.tril(random.normal(size=(count, size, size))) + 2 * np.eye(size)
        return roots @ np.swapaxes(roots, 1, 2)

    of_units, of_hyper = covariances(units, own), covariances(blocks, rows)
    whole = np.zeros((units * own + blocks * rows,) * 2)
    # A unit's coordinates are apart by the number of units, a block's by that of blocks.
    for number, part in enumerate(of_units):
        places = number + units * np.arange(own)
        whole[np.ix_(places, places)] = speed[number] ** 2 * part
    for number, part in enumerate(of_hyper):
        places = units * own + number + blocks * np.arange(rows)
        whole[np.ix_(places, places)] = part
    stays = np.zeros(len(whole), bool)
    stays[1 : units * own : units] = True
    given = random.normal(size=(len(whole), chains)) * ~stays[:, None]
    with jax.enable_x64(True):
        parts = metric_of(of_units, "float64"), metric_of(of_hyper, "float64")
        metric = GroupMetric(*parts, jnp.repeat(jnp.asarray(speed), chains))
        velocity, momentum = metric.velocity(jnp.asarray(given)), metric.momentum(jnp.asarray(given))
        kicked = metric.inverse_mass_gradient(jnp.asarray(given))
        np.testing.assert_allclose(kicked, whole @ given, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(whole @ momentum, velocity, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.sum(momentum * velocity, axis=0), np.sum(given**2, axis=0), rtol=1e-12)
        assert not np.any(np.asarray(velocity)[stays])


def test_chains_begin_at_their_coordinates_but_where_the_density_is_far_below_that_of_the_mode() -> None:
    """Here it falls off steeply in one unit, so that its chains begin at the mode, and hardly in the others."""
    panel = ragged_fleet()
    spec = replace(settings(panel.data), pooling=Pooling(by="crossed"))
    [(label, units)] = groups_of(panel, spec)
    random = np.random.default_rng(3)
    with jax.enable_x64(True):
        group = prepared(label, units, panel, spec)
        pool, structure = group.pool, group.pool.structure
        by_unit = structure.dimension, structure.units, structure.chains
        batch, mode = stack(group.members, structure), random.normal(size=by_unit[:2])
        covariance = np.tile(np.eye(structure.dimension), (structure.units, 1, 1))
        sites, _ = sites_of_mode(pool, np.asarray(batch.hyper), typical_media(group), mode, covariance)
        nothing: Any = np.zeros((structure.units, 2), np.uint32)
        data = GroupData(batch, group.hierarchy, sites, group.columns, group.joint, nothing, nothing[:1])
        data = jax.tree.map(jnp.asarray, data)
        hyper = hierarchies.zero_state(data.hierarchy, structure.chains)
        modes = np.repeat(mode, structure.chains, axis=1)
        steep = jnp.repeat(jnp.where(jnp.arange(structure.units) == 1, 1e6, 1e-6), structure.chains)

        def density(position: Any) -> EvaluatedPosition:
            value = -0.5 * steep * jnp.sum((position - modes) ** 2, axis=0)
            return EvaluatedPosition(position, value, 0 * position, 0 * position)

        x = random.normal(size=modes.shape)
        at, found = pulled_in(pool, data, hyper, density, jnp.asarray(x), jnp.asarray(modes))
        there = place(pool, data.hierarchy, data.sites, data.batch.hyper, at.reshape(by_unit), hyper).position
        at, found, there = (np.asarray(one).reshape(by_unit) for one in (at, found.position, there))
    np.testing.assert_allclose(found, there, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.repeat(mode[:, 1, None], structure.chains, axis=1), rtol=1e-5, atol=1e-5)
    others = np.arange(structure.units) != 1
    np.testing.assert_allclose(at[:, others], x.reshape(by_unit)[:, others], rtol=1e-5, atol=1e-6)
