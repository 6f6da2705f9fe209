"""Pooled state: where a group of units stands between two sweeps, and what its warm-up learns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from mixfleet.batch import Tile, tile_shapes
from mixfleet.coefficients import Columns
from mixfleet.hierarchy import Hierarchy, Hyper
from mixfleet.samplers import hmc, warmup
from mixfleet.samplers.hmc import Metric, Stepping
from mixfleet.transport import Pool, Sites

__all__ = ["Found", "Group", "State", "begin", "group_shapes", "hyper_dimension", "learn", "settle"]

FIRST_HYPER_STEP = 0.2
"""Step size of the centres' and spreads' move before any, in units of the whitened posterior."""


_metric_of = jax.jit(hmc.metric_of)


class Group(NamedTuple):
    """The data of one group, on device."""

    tile: Tile
    hierarchy: Hierarchy
    sites: Sites
    columns: Columns
    unit_keys: UInt32[Array, "unit 2"]
    key: UInt32[Array, "1 2"]


class Found(NamedTuple):
    """What the units' own density says of their positions."""

    position: Float[Array, "coordinate lane"]
    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]


class State(NamedTuple):
    """Where a group stands between two sweeps."""

    x: Float[Array, "coordinate lane"]
    hyper: Hyper
    shared: Hyper
    """Of the coefficients that units share."""
    found: Found
    unit_metric: Metric
    hyper_metric: Metric
    unit_stepping: Stepping
    hyper_stepping: Stepping
    number: Int[Array, ""]


def group_shapes(pool: Pool) -> Group:
    """Shapes and types of a group of this structure."""
    kind, rows = pool.kind, pool.rows
    units, channels, shared = kind.units, kind.channels, kind.shared

    def array(*shape: int, dtype: Any = kind.dtype) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    def hierarchy(rows: int, types: int) -> Hierarchy:
        keys = tuple(array(levels, units) for levels in pool.levels)
        used, by_type = array(len(keys), rows), (array(types, rows), array(types))
        return Hierarchy(array(rows), array(rows), array(rows), used, keys, array(units), *by_type)

    by_row = array(rows, units)
    return Group(
        tile=tile_shapes(kind),
        hierarchy=hierarchy(rows, pool.types),
        sites=Sites(by_row, by_row, by_row, by_row, array(channels, units), array(channels, units)),
        columns=Columns(array(units, kind.weeks, shared), array(kind.columns, shared, units), hierarchy(shared, 0)),
        unit_keys=array(units, 2, dtype=jnp.uint32),
        key=array(1, 2, dtype=jnp.uint32),
    )


def hyper_dimension(pool: Pool) -> int:
    """Coordinates of the second move."""
    return (2 + len(pool.levels)) * pool.rows + 2 * pool.types


def begin(
    pool: Pool,
    found: Found,
    x: Float[Array, "coordinate lane"],
    hyper: Hyper,
    shared: Hyper,
    unit_covariance: Float[Array, "unit coordinate coordinate"],
    hyper_covariance: Float[Array, "1 coordinate coordinate"],
    target_accept: float,
) -> State:
    """The state before the first sweep."""
    kind = pool.kind
    return State(
        x=x,
        hyper=hyper,
        shared=shared,
        found=found,
        unit_metric=_metric_of(unit_covariance),
        hyper_metric=_metric_of(hyper_covariance),
        unit_stepping=_first_stepping(kind.units, warmup.FIRST_STEP, target_accept, kind.dtype),
        hyper_stepping=_first_stepping(1, FIRST_HYPER_STEP, target_accept, kind.dtype),
        number=jnp.int32(0),
    )


def learn(
    state: State, x: Float[np.ndarray, "draw coordinate unit chain"], moved: Float[np.ndarray, "draw coordinate chain"]
) -> State:
    """The state with metrics learnt from a window of draws, and the adaptation of step sizes begun again."""
    unit = _learnt(np.moveaxis(x, 2, 0), state.unit_metric)
    hyper = _learnt(moved[None], state.hyper_metric)

    def again(stepping: Stepping) -> Stepping:
        return warmup.restarted(stepping.log_average, stepping.adapting, stepping.target_accept)

    return state._replace(
        unit_metric=unit,
        hyper_metric=hyper,
        unit_stepping=again(state.unit_stepping),
        hyper_stepping=again(state.hyper_stepping),
    )


def settle(state: State) -> State:
    """The state with the averaged step sizes from now on."""

    def settled(stepping: Stepping) -> Stepping:
        return warmup.settle(stepping, jnp.ones(len(stepping.log_step), bool))

    return state._replace(unit_stepping=settled(state.unit_stepping), hyper_stepping=settled(state.hyper_stepping))


def _learnt(draws: Float[np.ndarray, "unit draw coordinate chain"], metric: Metric) -> Metric:
    """The metric of each unit's draws, shrunk towards the old one as in `warmup.learn_metric`."""
    units, count, coordinate, chains = draws.shape
    flat = np.moveaxis(draws.astype(float), 2, 1).reshape(units, coordinate, count * chains)
    centred = flat - flat.mean(axis=2, keepdims=True)
    scatter = centred @ np.swapaxes(centred, 1, 2)
    old = np.asarray(metric.covariance, float)
    covariance = (scatter + coordinate * old) / (count * chains + coordinate)
    return _metric_of(jnp.asarray(covariance, metric.covariance.dtype))


def _first_stepping(units: int, step: float, target_accept: float, dtype: str) -> Stepping:
    """Step sizes before the first sweep."""
    log_step = jnp.full(units, np.log(step), dtype)
    return warmup.restarted(log_step, jnp.ones(units, bool), jnp.full(units, target_accept, dtype))
