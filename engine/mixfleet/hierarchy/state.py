"""Where a group of units stands between two sweeps, and what its warm-up learns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hierarchy, Hyper
from mixfleet.hierarchy.joint_tests import JointTests
from mixfleet.hierarchy.reparameterization import Pool, Sites
from mixfleet.hierarchy.shared_coefficients import Columns
from mixfleet.inference import adaptation
from mixfleet.inference.adaptation import Metric, Stepping
from mixfleet.models.batch import UnitBatch, batch_shapes

__all__ = [
    "EvaluatedPosition",
    "GibbsState",
    "GroupData",
    "adapting",
    "group_shapes",
    "hyper_blocks",
    "hyper_dimension",
    "settle",
    "stack_hyper",
    "state_of",
    "with_smaller_steps",
]

TOGETHER_ACCEPT = 0.86
"""Acceptance, at least, that steps of a whole group of fewer than `MANY_UNITS` aim for: the best of 0.7, 0.8 and
0.86 on groups of 8 units. Of 64 crossed units 0.8 takes 768 to 1,024 draws and 0.86 takes 768 to 896."""

MANY_UNITS = 128
"""Units among which a few of little noise leave, by rounding, an error of the energy that smaller steps do not lower:
300 crossed units had steps of 0.04 with 0.86 and 0.06 with 0.8, and the median hyperparameter 837 and 1,502 effective
draws of 2,048."""

FIRST_HYPER_STEP = 0.2
"""Step size of the centres' and spreads' move before any, in units of the whitened posterior."""


class GroupData(NamedTuple):
    """The data of one group, on device."""

    batch: UnitBatch
    hierarchy: Hierarchy
    sites: Sites
    columns: Columns
    joint: JointTests
    unit_keys: UInt32[Array, "unit 2"]
    key: UInt32[Array, "1 2"]


class EvaluatedPosition(NamedTuple):
    """What the units' own density says of their positions."""

    position: Float[Array, "coordinate lane"]
    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]


class GibbsState(NamedTuple):
    """Where a group stands between two sweeps."""

    x: Float[Array, "coordinate lane"]
    hyper: Hyper
    shared: Hyper
    """Of the coefficients that units share."""
    parts: Float[Array, "test lane"]
    """Of the estimates of joint tests, and the estimates of others, in standard deviations of each; none where there
    are no joint tests."""
    found: EvaluatedPosition
    unit_metric: Metric
    """Of units that move given the hyperparameters."""
    joint_metric: Metric
    """Of units that move with them."""
    stiffness: Float[Array, " unit"]
    """Root of the greatest mean curvature of a unit's density given the hyperparameters, in the joint metric."""
    hyper_metric: Metric
    """Of each of `hyper_blocks`."""
    unit_stepping: Stepping
    hyper_stepping: Stepping
    number: Int[Array, ""]
    together: Float[Array, ""]
    """One if units move with the hyperparameters, zero while no metric is learnt yet."""


def group_shapes(pool: Pool) -> GroupData:
    """Shapes and types of a group of this structure."""
    structure, rows = pool.structure, pool.rows
    units, channels, shared = structure.units, structure.channels, structure.shared

    def array(*shape: int, dtype: Any = structure.dtype) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    def hierarchy(rows: int, types: int) -> Hierarchy:
        keys = tuple(array(levels, units) for levels in pool.levels)
        used, by_type = array(len(keys), rows), (array(types, rows), array(types))
        return Hierarchy(array(rows), array(rows), array(rows), used, keys, array(units), *by_type)

    by_row = array(rows, units)
    return GroupData(
        batch=batch_shapes(structure),
        hierarchy=hierarchy(rows, pool.types),
        sites=Sites(by_row, by_row, by_row, by_row, array(channels, units), array(channels, units)),
        columns=Columns(
            array(units, structure.weeks, shared), array(structure.columns, shared, units), hierarchy(shared, 0)
        ),
        joint=JointTests(array(pool.joint, structure.evidence.rows if pool.joint else 0, units), array(pool.joint)),
        unit_keys=array(units, 2, dtype=jnp.uint32),
        key=array(1, 2, dtype=jnp.uint32),
    )


def hyper_dimension(pool: Pool) -> int:
    """Coordinates of the second move."""
    return (2 + len(pool.levels) + sum(pool.levels)) * pool.rows + 2 * pool.types


def hyper_blocks(pool: Pool) -> int:
    """Parts of these coordinates, each with a metric of its own: of every channel, in the order of the channels.

    A matrix of all of them would be known from too few draws. Where labels have effects there are more coordinates than
    a window has draws, even a channel's: of 300 crossed units steps were 0.04 with such matrices and are 0.06 with each
    coordinate alone. A type has several channels, so that there it is one part.
    """
    if pool.levels and pool.rows:
        return hyper_dimension(pool)
    return 1 if pool.types else pool.structure.channels


def stack_hyper(pool: Pool, hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "quantity row chain"]:
    """Hyperparameters as they are reported: centre, spreads, effects of each key's labels, all unconstrained.

    Where channels have types, also the mean and standard deviation of the row's type: in rows without one the row's
    own centre and spread again, so that every quantity can be judged.
    """
    scales, centre = hierarchies.spreads(hierarchy, hyper), hierarchies.centres(hierarchy, hyper)
    quantities = [
        centre[None],
        scales,
        *(levels * scale[None] for levels, scale in zip(hyper.levels, scales[1:], strict=True)),
    ]
    if pool.types:
        typed = jnp.sum(hierarchy.types, axis=0)[:, None] > 0
        mean, sd = hierarchies.centre_priors(hierarchy, hyper)
        quantities.append(jnp.stack([jnp.where(typed, mean, centre), jnp.where(typed, sd, scales[0])]))
    return jnp.concatenate(quantities)


def state_of(
    pool: Pool,
    found: EvaluatedPosition,
    x: Float[Array, "coordinate lane"],
    hyper: Hyper,
    shared: Hyper,
    parts: Float[Array, "test lane"],
    unit_metric: Metric,
    hyper_metric: Metric,
) -> GibbsState:
    """The state before the first sweep."""
    dtype = pool.structure.dtype
    return GibbsState(
        x=x,
        hyper=hyper,
        shared=shared,
        parts=parts,
        found=found,
        unit_metric=unit_metric,
        joint_metric=unit_metric,
        stiffness=np.ones(pool.structure.units, dtype),  # pyright: ignore[reportArgumentType]
        hyper_metric=hyper_metric,
        unit_stepping=_first_stepping(pool.structure.units, adaptation.FIRST_STEP, dtype),
        hyper_stepping=_first_stepping(1, FIRST_HYPER_STEP, dtype),
        number=np.int32(0),  # pyright: ignore[reportArgumentType]
        together=np.zeros((), dtype),  # pyright: ignore[reportArgumentType]
    )


def adapting(state: GibbsState, target_accept: float | None = None) -> GibbsState:
    """The state with the adaptation of step sizes begun again around the present ones.

    Step sizes are the host's between two sweeps: for a sum of them no program is worth compiling.

    Args:
        state: Between two sweeps.
        target_accept: Acceptance to aim for from now on; as before where None.
    """

    def again(stepping: Stepping, least: float) -> Stepping:
        log_average, target = _values(stepping.log_average), _values(stepping.target_accept)
        target = target if target_accept is None else np.full_like(target, max(target_accept, least))
        return adaptation.restarted(log_average, _values(np.ones(len(log_average), bool)), target)

    together = TOGETHER_ACCEPT if len(state.unit_stepping.log_step) < MANY_UNITS else 0.0
    return state._replace(
        unit_stepping=again(state.unit_stepping, 0.0), hyper_stepping=again(state.hyper_stepping, together)
    )


def settle(state: GibbsState) -> GibbsState:
    """The state with the averaged step sizes from now on."""

    def settled(stepping: Stepping) -> Stepping:
        on_host = Stepping(*map(_values, stepping))
        return adaptation.settle(on_host, _values(np.ones(len(on_host.log_step), bool)))

    return state._replace(unit_stepping=settled(state.unit_stepping), hyper_stepping=settled(state.hyper_stepping))


def with_smaller_steps(state: GibbsState, which: Bool[np.ndarray, " unit"], factor: float) -> GibbsState:
    """The state with settled step sizes that are smaller by a factor in the units of `which`."""
    stepping = state.unit_stepping
    smaller = _values(stepping.log_step) + np.where(which, np.log(factor), 0).astype(stepping.log_step.dtype)
    # A warm-up begins from the average.
    return state._replace(unit_stepping=stepping._replace(log_step=smaller, log_average=smaller))


def _first_stepping(units: int, step: float, dtype: str) -> Stepping:
    """Step sizes before the first sweep."""
    arrays: Any = np.full(units, np.log(step), dtype), np.ones(units, bool), np.zeros(units, dtype)
    return adaptation.restarted(*arrays)


def _values(array: Any) -> Any:
    """The array on the host, which annotations of what is shared with compiled programs call jax's."""
    return np.asarray(array)
