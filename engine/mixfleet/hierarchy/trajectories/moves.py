"""The two trajectories of a sweep: units given the hyperparameters, and both together; in native code, or in XLA.

What native code knows it moves whole, from the random numbers to the end that is accepted: in XLA half of a sweep is
hundreds of small operations around the likelihood.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hyper
from mixfleet.hierarchy.reparameterization import Pool, hyper_coordinates
from mixfleet.hierarchy.shared_coefficients import prior
from mixfleet.hierarchy.state import EvaluatedPosition, GibbsState, GroupData, hyper_dimension
from mixfleet.hierarchy.trajectories.leapfrog import (
    GroupMetric,
    TrajectoryEnd,
    by_chain,
    group_density,
    steps_of,
    trajectory,
    unit_density,
)
from mixfleet.inference import adaptation, hmc
from mixfleet.inference.native_block import data_of
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet.models.log_density import evaluate_density
from mixfleet_kernels.hmc import Data, Form
from mixfleet_kernels.hmc import trajectory as native
from mixfleet_kernels.likelihood import Series

__all__ = ["density_of", "move_group", "move_units", "prior_of_shared", "series_of"]

MOST_STEPS, MOST_UNIT_STEPS = 32, 64
"""Leapfrog steps at most, of the group's trajectory and of a unit's: one of little noise needs many, in which the
likelihood of the others, that are done, is not evaluated."""

FARTHER = 1.5
"""Length of the group's trajectories where labels have effects, in that of others: hyperparameters move along with
hundreds of units there. Of 64 crossed units the slowest had 660 for 375 effective draws after 512, for 35 % more
gradients; 300 of them take `MOST_STEPS` anyhow. In groups of a brand effective draws grow as gradients do."""

SMALL = 0.5
"""A unit whose own steps are smaller than this, in those of the group's median unit, goes more slowly with its group:
one such unit of 15 held the steps of all at an eighth."""

MOST_FIRST_STEPS = 8
"""Leapfrog steps at most while no metric is learnt and only hyperparameters move: the first step size may be unstable,
and a longer trajectory would carry a spread so far towards zero that its units' coordinates have no value."""


def prior_of_shared(
    pool: Pool, group: GroupData, shared: Hyper
) -> tuple[Float[Array, "week unit chain"], Float[Array, "*column lane"]]:
    """The shared columns' mean by week, and the linear block's covariance along the bases."""
    lasting = pool.structure.gaps > 0
    mean, covariance = prior(group.columns, shared, group.batch.variance, lasting=lasting)
    return mean, covariance.reshape(*covariance.shape[:-2], -1)


def series_of(pool: Pool, group: GroupData, series: Series, shared: Hyper) -> Series:
    """The series as it is given the hyperparameters of coefficients that units share."""
    if not pool.structure.shared:
        return series
    mean, variance = prior_of_shared(pool, group, shared)
    return series._replace(kpi=series.kpi - mean.reshape(series.kpi.shape), variance=variance)


def density_of(pool: Pool, group: GroupData, series: Series, parts: Float[Array, "test lane"]) -> Any:
    """The units' own density, given their series and their parts of joint tests."""
    batch = group.batch
    if pool.joint:
        constants = jnp.repeat(batch.lift_estimate[1], pool.structure.chains, axis=-1)
        batch = batch._replace(lift_estimate=jnp.stack([parts, constants]))

    def density(position: Array, asked: Bool[Array, " lane"] | None = None) -> EvaluatedPosition:
        own = series if asked is None else series._replace(asked=asked.astype(position.dtype))
        return EvaluatedPosition(position, *evaluate_density(position, batch, own, pool.structure))

    return density


def move_units(
    pool: Pool,
    form: Form | None,
    group: GroupData,
    series: Series,
    state: GibbsState,
    length: Float[Array, ""],
) -> tuple[GibbsState, TrajectoryEnd, Int[Array, " unit"]]:
    """Units given the hyperparameters, each accepted on its own.

    Args:
        pool: Structure.
        form: What native code takes the density for; None in XLA.
        group: The group.
        series: From `series_of`.
        state: Where it stands.
        length: Uniform number from which the trajectories' length follows.
    """
    units, chains, dimension = pool.structure.units, pool.structure.chains, pool.structure.dimension
    uniform = uniforms(group.unit_keys, state.number, dimension + 1, units * chains, state.x.dtype)
    step = jnp.exp(state.unit_stepping.log_step)
    # Padding stays where it is.
    steps = jnp.where(group.hierarchy.present > 0, steps_of(length, step, MOST_UNIT_STEPS), 0)
    white, threshold = normals(uniform[:dimension]), uniform[dimension]
    if form is None:
        outcome = trajectory(
            partial(unit_density, pool, group, state.hyper),
            density_of(pool, group, series, state.parts),
            state.found,
            (state.x, state.found),
            state.unit_metric,
            hmc.lanes_of(step, chains),
            hmc.lanes_of(steps, chains),
            white,
            threshold,
        )
    else:
        mean = hierarchies.means(group.hierarchy, state.hyper)
        spread = jnp.broadcast_to(hierarchies.spreads(group.hierarchy, state.hyper)[0][:, None], mean.shape)
        end = native.move_units(
            *_known(pool, form, group, series, state),
            native.Metric(*state.unit_metric),
            native.Trajectory(white, step, steps.astype(step.dtype), threshold),
            *(rows.reshape(pool.rows, units * chains) for rows in (mean, spread)),
        )
        diverged = ~(end.error < hmc.DIVERGENCE)
        outcome = TrajectoryEnd(end.stand.x, EvaluatedPosition(*end.stand[1:]), end.accept, diverged, end.energy)
    accept = jnp.mean(outcome.accept.reshape(units, chains), axis=1)
    stepping = adaptation.adapt_step(state.unit_stepping, jnp.ones(units, bool), accept)
    return state._replace(x=outcome.position, found=outcome.extra, unit_stepping=stepping), outcome, steps


def move_group(
    pool: Pool,
    form: Form | None,
    group: GroupData,
    series: Series,
    state: GibbsState,
    uniform: Float[Array, "number chain"],
) -> tuple[GibbsState, Int[Array, "1"]]:
    """Hyperparameters and coordinates of all units together; the latter stay while no metric is learnt yet.

    Args:
        pool: As for `move_units`.
        form: Likewise.
        group: Likewise.
        series: Likewise.
        state: Likewise.
        uniform: Numbers of the hyperparameters, then the threshold, one that is not used, and the length.
    """
    rows, lanes = hyper_dimension(pool), pool.structure.lanes
    step = jnp.exp(state.hyper_stepping.log_step)
    most = jnp.where(state.together > 0, MOST_STEPS, MOST_FIRST_STEPS)
    steps = steps_of(uniform[rows + 2, 0], step / (FARTHER if pool.levels else 1), most)
    own_step, present = jnp.exp(state.unit_stepping.log_step) / state.stiffness, group.hierarchy.present > 0
    usual = jnp.sort(jnp.where(present, own_step, jnp.inf))[(jnp.sum(present) - 1) // 2]
    speed = jnp.where(present, jnp.minimum(own_step / (SMALL * usual), 1), 0) * state.together
    # Between the numbers of shared coefficients and those of parts of joint tests.
    number = state.number.astype(jnp.uint32) + jnp.uint32(3 * 2**29)
    numbers = normals(uniforms(group.unit_keys, number, len(state.x), lanes, state.x.dtype))
    white = (hmc.lanes_of(speed, pool.structure.chains) > 0) * numbers, normals(uniform[:rows])
    move = _move_in_xla if form is None else partial(_move_natively, form)
    x, hyper, found, accept = move(pool, group, series, state, speed, step, steps, white, uniform[rows])
    stepping = adaptation.adapt_step(state.hyper_stepping, jnp.ones(1, bool), jnp.mean(accept)[None])
    return state._replace(x=x, hyper=hyper, found=found, hyper_stepping=stepping), steps


def _move_in_xla(
    pool: Pool,
    group: GroupData,
    series: Series,
    state: GibbsState,
    speed: Float[Array, " unit"],
    step: Float[Array, "1"],
    steps: Int[Array, "1"],
    white: tuple[Float[Array, "coordinate lane"], Float[Array, "quantity chain"]],
    threshold: Float[Array, " chain"],
) -> tuple[Array, Hyper, EvaluatedPosition, Array]:
    chains, lanes = pool.structure.chains, pool.structure.lanes
    metric = GroupMetric(state.joint_metric, state.hyper_metric, hmc.lanes_of(speed, chains))
    density = density_of(pool, group, series, state.parts)
    here = hyper_coordinates(pool, group.hierarchy, group.sites, state.hyper)
    outcome = trajectory(
        partial(group_density, pool, group, metric, state.hyper, state.found.value),
        lambda position, _: density(position),
        state.found,
        (jnp.concatenate([state.x.reshape(-1, chains), here]), (state.hyper, by_chain(pool, state.found))),
        metric,
        hmc.lanes_of(step, chains),
        hmc.lanes_of(steps, chains),
        jnp.concatenate([white[0].reshape(-1, chains), white[1]]),
        threshold,
    )
    (x, _), (hyper, found) = metric.split(outcome.position), outcome.extra
    return x, hyper, jax.tree.map(lambda values: values.reshape(*values.shape[:-2], lanes), found), outcome.accept


def _move_natively(
    form: Form,
    pool: Pool,
    group: GroupData,
    series: Series,
    state: GibbsState,
    speed: Float[Array, " unit"],
    step: Float[Array, "1"],
    steps: Int[Array, "1"],
    white: tuple[Float[Array, "coordinate lane"], Float[Array, "quantity chain"]],
    threshold: Float[Array, " chain"],
) -> tuple[Array, Hyper, EvaluatedPosition, Array]:
    end = native.move_group(
        *_known(pool, form, group, series, state),
        native.Metric(*state.joint_metric),
        native.Trajectory(white[0], step, steps.astype(step.dtype), threshold),
        native.Hierarchy(*group.hierarchy),
        speed,
        native.Hyper(
            hierarchies.moved(state.hyper),
            hyper_coordinates(pool, group.hierarchy, group.sites, state.hyper),
            native.Metric(*state.hyper_metric),
            white[1],
        ),
    )
    hyper = hierarchies.with_moved(state.hyper, end.hyper)
    return end.stand.x, hyper, EvaluatedPosition(*end.stand[1:]), end.accept


def _known(
    pool: Pool, form: Form, group: GroupData, series: Series, state: GibbsState
) -> tuple[Data, Form, native.Pooled, native.Stand]:
    """What native code is told of the units, however they move."""
    coordinates = tuple(row for _, _, own in pool.slices() for row in range(own.start, own.stop))
    return (
        data_of(group.batch)._replace(kpi=series.kpi, variance=series.variance),
        form,
        native.Pooled(coordinates, group.sites.mean, group.sites.precision),
        native.Stand(state.x, *state.found),
    )
