"""A trajectory of a block of the Gibbs sampler leads where leapfrog steps lead, and asks for no density twice."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.hierarchy.leapfrog import GroupMetric, trajectory
from mixfleet.inference.adaptation import metric_of

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


def test_a_group_moves_as_one_with_the_metrics_of_its_parts_but_for_units_that_stay() -> None:
    """Velocity, momentum and kicks are those of one matrix with the parts' along its diagonal."""
    random = np.random.default_rng(2)
    units, own, blocks, rows, chains = 2, 3, 2, 2, 4

    def covariances(count: int, size: int) -> np.ndarray:
        roots = np.tril(random.normal(size=(count, size, size))) + 2 * np.eye(size)
        return roots @ np.swapaxes(roots, 1, 2)

    of_units, of_hyper = covariances(units, own), covariances(blocks, rows)
    whole = np.zeros((units * own + blocks * rows,) * 2)
    # A unit's coordinates are apart by the number of units, a block's by that of blocks.
    for number, part in enumerate(of_units):
        places = number + units * np.arange(own)
        whole[np.ix_(places, places)] = part
    for number, part in enumerate(of_hyper):
        places = units * own + number + blocks * np.arange(rows)
        whole[np.ix_(places, places)] = part
    stays = np.zeros(len(whole), bool)
    stays[1 : units * own : units] = True
    given = random.normal(size=(len(whole), chains)) * ~stays[:, None]
    with jax.enable_x64(True):
        parts = metric_of(of_units, "float64"), metric_of(of_hyper, "float64")
        metric = GroupMetric(*parts, jnp.repeat(jnp.array([1.0, 0.0]), chains))
        velocity, momentum = metric.velocity(jnp.asarray(given)), metric.momentum(jnp.asarray(given))
        kicked = metric.inverse_mass_gradient(jnp.asarray(given))
        np.testing.assert_allclose(kicked, whole @ given * ~stays[:, None], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(whole @ momentum, velocity, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.sum(momentum * velocity, axis=0), np.sum(given**2, axis=0), rtol=1e-12)
        assert not np.any(np.asarray(velocity)[stays])
