"""One leapfrog trajectory of every lane at once, all of the same number of steps.

For blocks of a Gibbs sampler: unlike in `hmc`, all lanes begin and end together, because what the next block moves is
given to this one.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.inference.adaptation import Metric
from mixfleet.inference.hmc import DIVERGENCE, LogDensity, Point, acceptance, leap, point_of
from mixfleet_kernels.reductions import sum_rows

__all__ = ["TrajectoryEnd", "steps_of", "trajectory"]


class TrajectoryEnd(NamedTuple):
    """Where a trajectory ended, accepted or not."""

    origin: Point
    """The end where it was accepted, else the beginning."""
    accepted: Bool[Array, " lane"]
    accept: Float[Array, " lane"]
    """Probability of acceptance."""
    diverged: Bool[Array, " lane"]
    energy: Float[Array, " lane"]


def trajectory(
    log_density: LogDensity,
    origin: Point,
    metric: Metric,
    step: Float[Array, " lane"],
    steps: Int[Array, ""],
    white: Float[Array, "coordinate lane"],
    threshold: Float[Array, " lane"],
) -> TrajectoryEnd:
    """One Metropolis-adjusted trajectory.

    Args:
        log_density: Position to value, gradient and whatever comes with them.
        origin: Where it begins.
        metric: Of as many units as the lanes divide into.
        step: Step size.
        steps: Leapfrog steps, drawn independently of the position.
        white: Standard normal numbers.
        threshold: Uniform numbers; a trajectory is accepted where its probability is higher.
    """
    velocity, momentum = metric.velocity(white), metric.momentum(white)
    before = -origin.value + 0.5 * sum_rows(white**2)

    def step_on(_: Any, carried: tuple[Point, Array, Array]) -> tuple[Point, Array, Array]:
        return leap(lambda position: point_of(position, log_density(position), metric), *carried, step)

    end, velocity, momentum = jax.lax.fori_loop(0, steps, step_on, (origin, velocity, momentum))
    after = -end.value + 0.5 * sum_rows(momentum * velocity)
    error = after - before
    accept = acceptance(error)
    accepted = threshold < accept
    return TrajectoryEnd(
        origin=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, origin),
        accepted=accepted,
        accept=accept,
        diverged=~(error < DIVERGENCE),
        energy=jnp.where(accepted, after, before),
    )


def steps_of(uniform: Float[Array, ""], step: Float[Array, ""], most: int) -> Int[Array, ""]:
    """Steps of a trajectory whose length lies uniformly between a half and one and a half quarter turns."""
    length = 0.5 * jnp.pi * (0.5 + uniform)
    return jnp.clip(jnp.round(length / step), 1, most).astype(jnp.int32)
