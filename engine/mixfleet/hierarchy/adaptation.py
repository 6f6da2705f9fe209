"""Pooled warm-up: where a group's chains begin, and what sites, metrics and step sizes they learn before they count."""

from threading import Event
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from mixfleet.hierarchy.gibbs import GibbsSweep, PooledProgram
from mixfleet.hierarchy.groups import Prepared, typical_media
from mixfleet.hierarchy.likelihood_approximation import sites_of_draws, sites_of_mode
from mixfleet.hierarchy.state import GibbsState, GroupData, adapting, hyper_blocks, settle, state_of
from mixfleet.hierarchy.trajectories.leapfrog import by_chain
from mixfleet.inference import initialization
from mixfleet.inference.adaptation import HARDER_ACCEPT, Metric, covariance_between, metric_of, shrunken_covariance
from mixfleet.models.batch import UnitBatch, stack

__all__ = ["begin", "warm_up"]

WINDOWS = (3, 7, 13)
"""Blocks of sweeps after which sites and metrics are learnt; the blocks since the last one are their window."""

SETTLING = 3
"""Blocks after the last window, for the step sizes alone."""

LOST = 8.0
"""A unit's chain whose mean log density over a window lies so far below the median chain's is in a mode that no chain
should be in: later windows' means of chains in one mode differ by less than 4. With 12 a chain stayed 8 to 11 below,
where its unit made a spread of the whole group six times as wide."""

GRADIENTS_SHARE = 0.5
"""How far the metric of a unit's own moves is from the covariance of its draws on the way to what gradients tell."""


def begin(
    group: Prepared, program: PooledProgram, unit_keys: np.ndarray, key: np.ndarray
) -> tuple[GroupData, GibbsState]:
    """The group on its device, and where its chains begin: at the units' modes, hyperparameters from their sites."""
    pool, structure = group.pool, group.pool.structure
    batch: UnitBatch = jax.device_put(stack(group.alone, structure), program.device)

    def density(position: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = program.evaluate(batch, position)
        return found.value, found.gradient, found.extra

    modes, values = initialization.optimise(density, batch.centre, structure.chains, unit_keys)
    modes, values, metric = initialization.laplace(density, modes, values, structure.units)
    by_unit = modes.reshape(structure.dimension, structure.units, structure.chains)
    best = np.argmax(values.reshape(structure.units, structure.chains), axis=1)
    mode = by_unit[:, np.arange(structure.units), best]
    sites, covariance = sites_of_mode(
        pool, np.asarray(batch.hyper), typical_media(group), mode, np.asarray(metric.covariance, float)
    )
    of_group = (stack(group.members, structure), group.hierarchy, sites, group.columns, group.joint, unit_keys, key)
    data = GroupData(*jax.device_put(of_group, program.device))
    unit_metric = metric_of(covariance, structure.dtype)
    spread = initialization.scattered(unit_metric, unit_keys, modes).reshape(by_unit.shape)
    pooled = np.zeros(structure.dimension, bool)
    for _, _, own in pool.slices():
        pooled[own] = True
    x = np.where(pooled[:, None, None], spread, mode[..., None] + 0.5 * spread).astype(structure.dtype)
    of_chains = np.broadcast_to(mode[..., None], x.shape).astype(structure.dtype)
    places = [jax.device_put(one.reshape(structure.dimension, -1), program.device) for one in (x, of_chains)]
    here, hyper, shared, parts, found, moved = program.prelude(data, *places)
    late = np.asarray(moved, float)[len(moved) // 4 :]
    variance, blocks = np.var(late, axis=(0, 2)) + 1e-4, hyper_blocks(pool)
    by_block = variance.reshape(len(variance) // blocks, blocks).T
    hyper_metric = metric_of(by_block[:, :, None] * np.eye(len(variance) // blocks), structure.dtype)
    return data, state_of(pool, found, here, hyper, shared, parts, unit_metric, hyper_metric)


def warm_up(
    group: Prepared,
    program: PooledProgram,
    data: GroupData,
    state: GibbsState,
    target_accept: float,
    stop: Event,
    *,
    anew: bool,
) -> tuple[GroupData, GibbsState, Int[np.ndarray, " unit"]]:
    """The group and its state after a warm-up from where it stands, and the gradients of a unit's chain in it.

    Args:
        group: On the host.
        program: Of its structure.
        data: The group on its device, with sites to begin with.
        state: Where it stands.
        target_accept: Acceptance that step sizes aim for.
        stop: Ends the warm-up at once, when set.
        anew: Whether sites and metrics are learnt; else the step sizes alone.
    """
    units = group.pool.structure.units
    state, window, gradients = adapting(state, target_accept), list[GibbsSweep](), np.zeros(units, int)
    diverged = np.zeros(units, bool)
    for block in range(1 if anew else WINDOWS[-1] + 1, WINDOWS[-1] + SETTLING + 1):
        if stop.is_set():
            break
        state, sweep = program.sweeps(data, state)
        gradients = gradients + np.asarray(sweep.steps).sum(axis=0)
        window.append(sweep)
        if block > WINDOWS[-2]:
            diverged |= np.asarray(sweep.diverged).any(axis=(0, 2))
        if block in WINDOWS:
            data, state = _learn(group, program, data, state, window)
            window = []
        if block == WINDOWS[-1]:
            # A few such units would send the whole group up the ladder.
            aims = np.where(diverged, HARDER_ACCEPT, target_accept).astype(group.pool.structure.dtype)
            state = state._replace(unit_stepping=state.unit_stepping._replace(target_accept=aims))
    return data, settle(state), gradients


def _learn(
    group: Prepared, program: PooledProgram, data: GroupData, state: GibbsState, window: list[GibbsSweep]
) -> tuple[GroupData, GibbsState]:
    """Sites from a window of draws, and metrics from the same draws in the coordinates that the sites shape."""
    structure, old = group.pool.structure, data.sites
    source = _sources(np.mean([np.asarray(sweep.fields)[:, -2] for sweep in window], axis=(0, 1)))
    told = [[np.asarray(part, float) for part in program.pulls(data, sweep)] for sweep in window]
    values, pull = (_taken(np.concatenate(parts), source) for parts in zip(*told, strict=True))
    position = np.concatenate([np.asarray(sweep.fields)[:, : structure.dimension] for sweep in window])
    mean_position = _taken(position, source).mean((0, 3))
    sites = sites_of_draws(group.pool, np.asarray(data.batch.hyper), np.asarray(old.level), mean_position, values, pull)
    present = np.asarray(data.hierarchy.present) > 0
    known = present & np.all([np.isfinite(part).all(axis=0) for part in sites], axis=0)
    sites = jax.tree.map(lambda new, old: np.where(known, new, old), sites, old)
    data = data._replace(sites=jax.device_put(sites, program.device))
    shaped = [[np.asarray(part) for part in program.coordinates(data, sweep)] for sweep in window]
    x, gradient, hyper_x = (np.concatenate(parts) for parts in zip(*shaped, strict=True))
    # Each draw with the hyperparameters beside which it was drawn: beside others it lies off its unit's ridge.
    x, gradient = (np.where(present[:, None], _taken(part, source), 0) for part in (x, gradient))
    # A chain that goes on from another one keeps its own hyperparameters.
    last = window[-1]._replace(fields=_taken(window[-1].fields, source))
    here = np.where(present[:, None], np.asarray(program.coordinates(data, last)[0])[-1], 0)
    found = jax.tree.map(
        lambda values: np.reshape(_taken(values, source), (*values.shape[:-2], -1)), by_chain(group.pool, state.found)
    )
    joint_metric = _learnt(np.moveaxis(x, 2, 0), state.joint_metric)
    unit_metric, stiffness = _given_hyperparameters(joint_metric, np.moveaxis(gradient, 2, 0), state.unit_metric)
    blocks = hyper_blocks(group.pool)
    by_block = hyper_x.reshape(len(hyper_x), hyper_x.shape[1] // blocks, blocks, structure.chains)
    state = state._replace(
        x=jax.device_put(here.reshape(structure.dimension, -1), program.device),
        found=jax.device_put(found, program.device),
        unit_metric=unit_metric,
        joint_metric=joint_metric,
        stiffness=stiffness,
        hyper_metric=_learnt(np.moveaxis(by_block, 2, 0), state.hyper_metric),
        together=np.ones_like(state.together),
    )
    return data, adapting(state)


def _sources(height: Float[np.ndarray, "unit chain"]) -> Int[np.ndarray, "unit chain"]:
    """The chain that each chain of a unit goes on from: itself, or one that is not in a hopeless mode.

    A chain whose mean log density lies far below the unit's median chain's would stay there and hold up its group.
    """
    source = np.tile(np.arange(height.shape[1]), (len(height), 1))
    lost = height < np.median(height, axis=1, keepdims=True) - LOST
    for own, away in zip(source, lost, strict=True):
        own[away] = np.resize(own[~away], np.sum(away))
    return source


def _taken(values: Any, source: Int[np.ndarray, "unit chain"]) -> np.ndarray:
    """Values of every unit's chains, each chain's those of its source."""
    values = np.asarray(values)
    return np.take_along_axis(values, np.broadcast_to(source, values.shape), axis=-1)


def _learnt(draws: Float[np.ndarray, "unit draw coordinate chain"], metric: Metric) -> Metric:
    """The metric of the draws of each unit, or block, shrunk towards the old one as in `inference.adaptation.learn`."""
    flat = _flat(draws)
    centred = flat - flat.mean(axis=2, keepdims=True)
    scatter = centred @ np.swapaxes(centred, 1, 2)
    covariance = shrunken_covariance(scatter, flat.shape[2], np.asarray(metric.covariance, float))
    return metric_of(covariance, metric.covariance.dtype)


def _given_hyperparameters(
    joint: Metric, gradients: Float[np.ndarray, "unit draw coordinate chain"], metric: Metric
) -> tuple[Metric, Float[np.ndarray, " unit"]]:
    """The metric by which each unit moves while hyperparameters stay, and `GibbsState.stiffness`.

    The draws are those of many hyperparameters, and beside each of them a unit of little noise is a ridge elsewhere.
    Gradients are of one each.

    Args:
        joint: Metric of the same draws.
        gradients: Of the units' density given the hyperparameters, beside which each was drawn.
        metric: Before.
    """
    flat = _flat(np.where(np.isfinite(gradients), gradients, 0))
    squares = flat @ np.swapaxes(flat, 1, 2)
    curvature = shrunken_covariance(squares, flat.shape[2], np.linalg.inv(np.asarray(metric.covariance, float)))
    between, stiffest = covariance_between(np.asarray(joint.covariance, float), curvature, GRADIENTS_SHARE)
    dtype = joint.covariance.dtype
    return metric_of(between, dtype), np.sqrt(stiffest).astype(dtype)


def _flat(draws: Float[np.ndarray, "unit draw coordinate chain"]) -> Float[np.ndarray, "unit coordinate number"]:
    """All chains' draws side by side, in double precision."""
    units, count, coordinate, chains = draws.shape
    return np.moveaxis(draws.astype(float), 2, 1).reshape(units, coordinate, count * chains)
