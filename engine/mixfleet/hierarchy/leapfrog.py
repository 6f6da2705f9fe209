"""One leapfrog trajectory of every lane, each of its own number of steps.

For blocks of a Gibbs sampler: unlike in `hmc`, all lanes begin together and those that are done wait for the others,
because what the next block moves is given to this one.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.inference.adaptation import Metric
from mixfleet.inference.hmc import DIVERGENCE, acceptance
from mixfleet_kernels.reductions import sum_rows

__all__ = ["Located", "TrajectoryEnd", "steps_of", "trajectory"]

Density = Callable[[Float[Array, "coordinate lane"], Bool[Array, " lane"]], Any]
"""Of the units' own positions: what it says there; anything of lanes of the trajectory that are done."""

Known = Callable[[Float[Array, "coordinate lane"]], Any]
"""The same of the lanes that still move."""

Located = tuple[Float[Array, " lane"], Float[Array, "coordinate lane"], Any]
"""Value and gradient where coordinates lie, and whatever comes with them, that the density told among it."""


class TrajectoryEnd(NamedTuple):
    """Where a trajectory ended, accepted or not."""

    position: Float[Array, "coordinate lane"]
    """The end where it was accepted, else the beginning."""
    extra: Any
    """What comes with it."""
    accept: Float[Array, " lane"]
    """Probability of acceptance."""
    diverged: Bool[Array, " lane"]
    energy: Float[Array, " lane"]


def trajectory(
    locate: Callable[[Float[Array, "coordinate lane"], Known], Located],
    density: Density,
    known: Any,
    origin: tuple[Float[Array, "coordinate lane"], Any],
    metric: Metric,
    step: Float[Array, " lane"],
    steps: Int[Array, " lane"],
    white: Float[Array, "coordinate lane"],
    threshold: Float[Array, " lane"],
) -> TrajectoryEnd:
    """One Metropolis-adjusted trajectory.

    All its points are met in one place of the program, the first among them, which is as known: of a second such place
    a compiler would make as much again.

    Args:
        locate: Coordinates, and the density of the positions that they stand for, to value, gradient and what else.
        density: Called once for every step of the longest.
        known: What it says at the origin.
        origin: Where the trajectory begins, with what comes with it.
        metric: Of as many units as the lanes divide into.
        step: Step size.
        steps: Leapfrog steps, drawn independently of the position.
        white: Standard normal numbers.
        threshold: Uniform numbers; a trajectory is accepted where its probability is higher.
    """
    position, extra = origin
    velocity, momentum = metric.velocity(white), metric.momentum(white)

    def step_on(i: Array, carried: tuple[Any, ...]) -> tuple[Any, ...]:
        position, velocity, momentum, first, *_ = carried
        position, moving = position + jnp.where(i == 0, 0, step) * velocity, i <= steps
        value, gradient, extra = locate(
            position, lambda at: jax.lax.cond(i == 0, lambda *_: known, density, at, moving)
        )
        # Half a kick at either end, and between two steps the two halves that meet there.
        kick = jnp.where((i == 0) | (i == steps), 0.5 * step, step)
        velocity = velocity + kick * metric.inverse_mass_gradient(gradient)
        now = position, velocity, momentum + kick * gradient, jnp.where(i == 0, value, first), value, extra
        return jax.tree.map(lambda new, old: jnp.where(moving, new, old), now, carried)

    nothing = jnp.zeros_like(threshold)
    begun = (position, velocity, momentum, nothing, nothing, extra)
    end, velocity, momentum, first, value, found = jax.lax.fori_loop(0, jnp.max(steps) + 1, step_on, begun)
    before, after = 0.5 * sum_rows(white**2) - first, 0.5 * sum_rows(momentum * velocity) - value
    error = after - before
    accept = acceptance(error)
    accepted = threshold < accept
    return TrajectoryEnd(
        *jax.tree.map(lambda new, old: jnp.where(accepted, new, old), (end, found), origin),
        accept=accept,
        diverged=~(error < DIVERGENCE),
        energy=jnp.where(accepted, after, before),
    )


def steps_of(uniform: Float[Array, ""], step: Float[Array, " unit"], most: int) -> Int[Array, " unit"]:
    """Steps of trajectories whose length lies uniformly between a half and one and a half quarter turns."""
    length = 0.5 * jnp.pi * (0.5 + uniform)
    return jnp.clip(jnp.round(length / step), 1, most).astype(jnp.int32)
