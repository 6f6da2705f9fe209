"""Whole trajectories of units that share hyperparameters, as one native operation of a compiled program each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.hmc.arrays import Data, Form
from mixfleet_kernels.hmc.native import described

__all__ = [
    "GroupEnd",
    "Hierarchy",
    "Hyper",
    "Metric",
    "Pooled",
    "Stand",
    "Trajectory",
    "UnitsEnd",
    "move_group",
    "move_units",
]


class Pooled(NamedTuple):
    """Coordinates that units share a prior of, by row of the hierarchy."""

    coordinates: tuple[int, ...]
    site_mean: Float[Array, "row unit"]
    """What a unit's own data say of it, roughly: this shapes the coordinates that it moves in."""
    site_precision: Float[Array, "row unit"]


class Stand(NamedTuple):
    """Where units stand, and what their own density says there."""

    x: Float[Array, "coordinate lane"]
    """Coordinates under the hyperparameters."""
    position: Float[Array, "coordinate lane"]
    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]


class Metric(NamedTuple):
    """Covariance, its upper Cholesky factor, and the inverse of the lower one."""

    covariance: Float[Array, "block coordinate coordinate"]
    upper: Float[Array, "block coordinate coordinate"]
    inverse: Float[Array, "block coordinate coordinate"]


class Trajectory(NamedTuple):
    """How a trajectory sets off."""

    white: Float[Array, "coordinate lane"]
    """Standard normal numbers."""
    step: Float[Array, " mover"]
    """Size; a mover is a unit, or the whole group."""
    steps: Float[Array, " mover"]
    threshold: Float[Array, " trajectory"]
    """Uniform numbers, of each lane, or of each chain of the group."""


class Hierarchy(NamedTuple):
    """What is known of the hyperparameters beforehand."""

    centre: Float[Array, " row"]
    centre_sd: Float[Array, " row"]
    scale: Float[Array, " row"]
    """Of the spreads' half-normal priors."""
    used: Float[Array, "key row"]
    """One where a key's labels have effects on the row."""
    keys: tuple[Float[Array, "level unit"], ...]
    """One where the unit has the level's label."""
    present: Float[Array, " unit"]
    types: Float[Array, "type row"]
    type_scale: Float[Array, " type"]


class Hyper(NamedTuple):
    """Where the hyperparameters stand: centres, then spreads, effects by label, means and spreads of types."""

    value: Float[Array, "quantity chain"]
    x: Float[Array, "quantity chain"]
    """Their coordinates."""
    metric: Metric
    """Of these; each block is that of every so many-th."""
    white: Float[Array, "quantity chain"]
    """Standard normal numbers."""


class UnitsEnd(NamedTuple):
    """Where units' own trajectories ended: the end where it was accepted, else the beginning."""

    stand: Stand
    accept: Float[Array, " lane"]
    error: Float[Array, " lane"]
    """Of the energy."""
    energy: Float[Array, " lane"]


class GroupEnd(NamedTuple):
    """Where a group's trajectory ended, likewise."""

    stand: Stand
    accept: Float[Array, " chain"]
    hyper: Float[Array, "quantity chain"]


def move_units(
    data: Data,
    form: Form,
    pooled: Pooled,
    stand: Stand,
    metric: Metric,
    trajectory: Trajectory,
    mean: Float[Array, "row lane"],
    spread: Float[Array, "row lane"],
) -> UnitsEnd:
    """One Metropolis-adjusted trajectory of each unit given the hyperparameters.

    Args:
        data: The units'; `kpi` by lane, and `variance` too, which may be a covariance.
        form: What their density is made of.
        pooled: What they share a prior of.
        stand: Where they are.
        metric: Of each unit.
        trajectory: Of each unit.
        mean: Of the pooled coordinates given the hyperparameters.
        spread: Their standard deviations.
    """
    lane = jax.ShapeDtypeStruct(stand.value.shape, stand.value.dtype)
    arrays = (*data, *stand, *pooled[1:], *metric, *trajectory, mean, spread)
    told = _call("mixfleet_move_units", arrays, (*_shapes(stand), lane, lane, lane), **_told(data, form, pooled, stand))
    return UnitsEnd(Stand(*told[:5]), *told[5:])


def move_group(
    data: Data,
    form: Form,
    pooled: Pooled,
    stand: Stand,
    metric: Metric,
    trajectory: Trajectory,
    hierarchy: Hierarchy,
    speed: Float[Array, " unit"],
    hyper: Hyper,
) -> GroupEnd:
    """One Metropolis-adjusted trajectory of all hyperparameters and all units together, in every chain.

    Args:
        data: As for `move_units`.
        form: Likewise.
        pooled: Likewise.
        stand: Likewise.
        metric: Likewise.
        trajectory: Of the group; its white numbers are the units'.
        hierarchy: The group.
        speed: Of each unit; zero where one stays where it is.
        hyper: Where the hyperparameters are.
    """
    quantities, chain = (jax.ShapeDtypeStruct(hyper.x.shape[at:], hyper.x.dtype) for at in (0, 1))
    # Without keys these are no numbers either.
    keys = jnp.concatenate(hierarchy.keys) if hierarchy.keys else hierarchy.used
    known = (*hierarchy[:4], keys, hierarchy.present, hierarchy.types, hierarchy.type_scale)
    arrays = (
        *data,
        *stand,
        *pooled[1:],
        *metric,
        *trajectory,
        *known,
        speed,
        hyper.value,
        hyper.x,
        *hyper.metric,
        hyper.white,
    )
    told = _call(
        "mixfleet_move_group",
        arrays,
        (*_shapes(stand), chain, quantities),
        **_told(data, form, pooled, stand),
        levels=np.array([len(key) for key in hierarchy.keys], np.int64),
        types=np.int64(len(hierarchy.types)),
        blocks=np.int64(len(hyper.metric.covariance)),
    )
    return GroupEnd(Stand(*told[:5]), *told[5:])


def _shapes(stand: Stand) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(part.shape, part.dtype) for part in stand]


def _told(data: Data, form: Form, pooled: Pooled, stand: Stand) -> dict[str, Any]:
    numbers = described(data, form, *stand.x.shape)
    return {
        "told": np.array(numbers, np.int64),
        "pooled": np.array(pooled.coordinates, np.int64),
        "dense": data.variance.ndim == 3,
    }


def _call(
    name: str, arrays: Sequence[Any], results: Sequence[jax.ShapeDtypeStruct], **attributes: Any
) -> Sequence[Array]:
    target = native_library.target(f"{name}_f{8 * results[0].dtype.itemsize}")
    return jax.ffi.ffi_call(target, tuple(results), vmap_method="sequential")(*arrays, **attributes)
