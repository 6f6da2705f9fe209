"""One leapfrog trajectory of every lane, each of its own number of steps, and densities in a group's coordinates.

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

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hyper
from mixfleet.hierarchy.reparameterization import Pool, coordinates, place, place_hyper
from mixfleet.hierarchy.state import EvaluatedPosition, GroupData
from mixfleet.inference.adaptation import Metric
from mixfleet.inference.hmc import DIVERGENCE, acceptance
from mixfleet.inference.initialization import SHARES, lowest_start
from mixfleet_kernels.reductions import sum_rows

__all__ = [
    "GroupMetric",
    "Located",
    "TrajectoryEnd",
    "by_chain",
    "group_density",
    "pulled_in",
    "steps_of",
    "trajectory",
    "unit_density",
]

Density = Callable[[Float[Array, "coordinate lane"], Bool[Array, " lane"]], Any]
"""Of the units' own positions: what it says there; anything of lanes of the trajectory that are done."""

Known = Callable[[Float[Array, "coordinate lane"]], Any]
"""The same of the lanes that still move."""

Located = tuple[Float[Array, " lane"], Float[Array, "coordinate lane"], Any]
"""Value and gradient where coordinates lie, and whatever comes with them, that the density told among it."""


class GroupMetric(NamedTuple):
    """The metric of a whole group's coordinates in a chain: every unit's as the units have them, then the others."""

    units: Metric
    hyper: Metric
    """Of the hyperparameters."""
    speed: Float[Array, " lane"]
    """Of a unit's chain beside the hyperparameters: a unit whose own trajectories need small steps goes slowly, or it
    would ask them of its whole group. Zero for one that stays where it is, whose white numbers are zero too."""

    def inverse_mass_gradient(self, gradient: Float[Array, "coordinate chain"]) -> Float[Array, "coordinate chain"]:
        """As of `Metric`."""
        return self._told(Metric.inverse_mass_gradient, gradient, self.speed**2)

    def velocity(self, white: Float[Array, "coordinate chain"]) -> Float[Array, "coordinate chain"]:
        """As of `Metric`."""
        return self._told(Metric.velocity, white, self.speed)

    def momentum(self, white: Float[Array, "coordinate chain"]) -> Float[Array, "coordinate chain"]:
        """As of `Metric`."""
        return self._told(Metric.momentum, white, jnp.where(self.speed > 0, 1 / self.speed, 0))

    def split(
        self, rows: Float[Array, "coordinate chain"]
    ) -> tuple[Float[Array, "own lane"], Float[Array, "row chain"]]:
        """What belongs to the units, by their lanes, and to the hyperparameters."""
        units, own, _ = self.units.covariance.shape
        return rows[: units * own].reshape(own, -1), rows[units * own :]

    def _told(self, of: Callable[[Metric, Array], Array], rows: Array, factor: Float[Array, " lane"]) -> Array:
        own, hyper = self.split(rows)
        return jnp.concatenate([(factor * of(self.units, own)).reshape(-1, rows.shape[-1]), of(self.hyper, hyper)])


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
    metric: Metric | GroupMetric,
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
        metric: Of as many units as the lanes divide into, or of a group, of which each lane is a chain.
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


def steps_of(uniform: Float[Array, ""], step: Float[Array, " unit"], most: int | Int[Array, ""]) -> Int[Array, " unit"]:
    """Steps of trajectories whose length lies uniformly between a half and one and a half quarter turns."""
    length = 0.5 * jnp.pi * (0.5 + uniform)
    return jnp.clip(jnp.round(length / step), 1, most).astype(jnp.int32)


def unit_density(pool: Pool, group: GroupData, hyper: Hyper, x: Array, density: Any) -> Located:
    """The units' density at coordinates `x` given the hyperparameters."""
    units, chains = pool.structure.units, pool.structure.chains

    def placed_at(x: Array) -> tuple[Array, Array]:
        placed = place(pool, group.hierarchy, group.sites, group.batch.hyper, x.reshape(-1, units, chains), hyper)
        return placed.position.reshape(x.shape), placed.log_change.reshape(-1)

    (position, log_change), back = jax.vjp(placed_at, x)
    found = density(position)
    (gradient,) = back((found.gradient, jnp.ones_like(log_change)))
    return found.value + log_change, gradient, found


def group_density(
    pool: Pool,
    group: GroupData,
    metric: GroupMetric,
    hyper: Hyper,
    reference: Float[Array, " lane"],
    at: Float[Array, "coordinate chain"],
    density: Any,
) -> Located:
    """The group's density, relative to the units' values at `reference`; hyperparameters in the shapes of `hyper`."""
    units, chains = pool.structure.units, pool.structure.chains
    present = jnp.broadcast_to(group.hierarchy.present[:, None] > 0, (units, chains))

    def placed_at(at: Array) -> tuple[tuple[Array, Array], Hyper]:
        x, moved = metric.split(at)
        here, volume = place_hyper(pool, group.hierarchy, group.sites, moved, hyper)
        placed = place(pool, group.hierarchy, group.sites, group.batch.hyper, x.reshape(-1, units, chains), here)
        log_prior = jnp.sum(jnp.where(present, placed.log_change, 0), axis=0) + hierarchies.log_prior(here) + volume
        return (placed.position.reshape(x.shape), log_prior), here

    (position, log_prior), back, here = jax.vjp(placed_at, at, has_aux=True)
    found = density(position)
    inside = present.reshape(-1)
    (gradient,) = back((jnp.where(inside[None], found.gradient, 0), jnp.ones_like(log_prior)))
    change = jnp.sum(jnp.where(inside, found.value - reference, 0).reshape(units, chains), axis=0)
    value = jnp.where(hierarchies.representable(here), change + log_prior, -jnp.inf)
    return value, gradient, (here, by_chain(pool, found))


def pulled_in(
    pool: Pool, group: GroupData, hyper: Hyper, density: Any, x: Array, mode: Array
) -> tuple[Array, EvaluatedPosition]:
    """Where chains begin: at coordinates `x`, or on the way there from the mode where they would be stuck.

    What a unit of little noise says of its parameters is a thin ridge, which normal numbers hardly ever meet: its
    chains would spend the warm-up on the way there, and the metric be learnt from that.

    Args:
        pool: Structure.
        group: The group.
        hyper: Hyperparameters.
        density: Of the units' own positions.
        x: Coordinates.
        mode: Positions where the units' own density is highest.

    Returns:
        The coordinates, and what the density says there.
    """
    by_unit = (-1, pool.structure.units, pool.structure.chains)
    known = group.hierarchy, group.sites, group.batch.hyper
    origin = coordinates(pool, *known, mode.reshape(by_unit), hyper).reshape(x.shape)

    def tried(
        carried: tuple[Array, EvaluatedPosition, Array], share: Array
    ) -> tuple[tuple[Array, EvaluatedPosition, Array], None]:
        best, found, highest = carried
        at = origin + share * (x - origin)
        there = density(place(pool, *known, at.reshape(by_unit), hyper).position.reshape(x.shape))
        highest = jnp.where(share > 0, highest, there.value)
        near = (share == 0) | (there.value > lowest_start(highest, len(x)))
        best, found = jax.tree.map(lambda new, old: jnp.where(near, new, old), (at, there), (best, found))
        return (best, found, highest), None

    nothing = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(density, mode))
    begun = (origin, nothing, nothing.value)
    (at, found, _), _ = jax.lax.scan(tried, begun, jnp.asarray(SHARES[::-1], x.dtype))
    return at, found


def by_chain(pool: Pool, found: EvaluatedPosition) -> EvaluatedPosition:
    """The same with the units apart from the chains, which move together."""
    units, chains = pool.structure.units, pool.structure.chains
    return jax.tree.map(lambda values: values.reshape(*values.shape[:-1], units, chains), found)
