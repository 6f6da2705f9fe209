"""One leapfrog trajectory of every lane at once, all of the same number of steps.

For blocks of a Gibbs sampler: unlike in `hmc`, all lanes begin and end together, because what the next block moves is
given to this one.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.inference.hmc import DIVERGENCE, Metric
from mixfleet_kernels.reductions import sum_rows

__all__ = ["Origin", "Outcome", "steps_of", "trajectory"]


class Origin(NamedTuple):
    """A position of every lane with all that is known there."""

    position: Float[Array, "coordinate lane"]
    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    found: Any
    """Whatever else the density gave; arrays whose last axis is the lane."""


class Outcome(NamedTuple):
    """Where a trajectory ended, accepted or not."""

    origin: Origin
    """The end where it was accepted, else the beginning."""
    accepted: Bool[Array, " lane"]
    accept: Float[Array, " lane"]
    """Probability of acceptance."""
    diverged: Bool[Array, " lane"]
    energy: Float[Array, " lane"]


Target = Callable[[Float[Array, "coordinate lane"]], Origin]


def trajectory(
    target: Target,
    origin: Origin,
    metric: Metric,
    step: Float[Array, " lane"],
    steps: Int[Array, ""],
    white: Float[Array, "coordinate lane"],
    threshold: Float[Array, " lane"],
) -> Outcome:
    """One Metropolis-adjusted trajectory.

    Args:
        target: Position to value, gradient and whatever comes with them.
        origin: Where it begins.
        metric: Of as many units as the lanes divide into.
        step: Step size.
        steps: Leapfrog steps, drawn independently of the position.
        white: Standard normal numbers.
        threshold: Uniform numbers; a trajectory is accepted where its probability is higher.
    """
    velocity, momentum, step = metric.velocity(white), metric.momentum(white), step[None]
    before = -origin.value + 0.5 * sum_rows(white**2)

    def leap(_: Any, carried: tuple[Origin, Array, Array, Array]) -> tuple[Origin, Array, Array, Array]:
        here, inverse_mass_gradient, velocity, momentum = carried
        velocity, momentum = velocity + 0.5 * step * inverse_mass_gradient, momentum + 0.5 * step * here.gradient
        here = target(here.position + step * velocity)
        inverse_mass_gradient = metric.inverse_mass_gradient(here.gradient)
        return (
            here,
            inverse_mass_gradient,
            velocity + 0.5 * step * inverse_mass_gradient,
            momentum + 0.5 * step * here.gradient,
        )

    carried = origin, metric.inverse_mass_gradient(origin.gradient), velocity, momentum
    end, _, velocity, momentum = jax.lax.fori_loop(0, steps, leap, carried)
    after = -end.value + 0.5 * sum_rows(momentum * velocity)
    error = after - before
    accept = jnp.where(jnp.isfinite(error), jnp.exp(-jnp.maximum(error, 0.0)), 0.0)
    accepted = threshold < accept
    return Outcome(
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
