"""Hamiltonian Monte Carlo for a tile of units, one leapfrog step of every lane per tick.

Nobody waits: units differ in step size and in steps per trajectory, and a lane whose trajectory is over decides and
starts the next one within the same tick. The number of steps is drawn before the trajectory, the same for a unit's
chains and independent of where they are, so that the draws may be stopped at any tick without bias.

The chains move in the coordinates of their unit's `Adaptation`, which stand still while draws are kept.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.inference.adaptation import Adaptation, Metric, adapt_step, restarted
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet.inference.sinh_arcsinh import LogDensity, Original, SinhArcsinh
from mixfleet_kernels.reductions import sum_rows

Chosen = TypeVar("Chosen")

__all__ = [
    "TICKS",
    "WINDOW_ROWS",
    "DrawBuffer",
    "HMCState",
    "LogDensity",
    "Point",
    "Trace",
    "acceptance",
    "adopt",
    "advance",
    "begin",
    "energy_balance",
    "lanes_of",
    "leap",
    "point_of",
]

MAX_STEPS = 64
"""Leapfrog steps of one trajectory at most: a bound on the work of a unit whose step size collapses."""

TICKS = 64
"""Gradients of every lane between two visits to the host."""

WINDOW_ROWS = 256
"""Draws per chain, the latest, that a warm-up learns from at most."""

QUARTER_TURN = 1.5707963
"""Length of trajectory, in units of the whitened posterior, after which a Gaussian's draws are independent."""

SHORTEST, LONGEST = 0.8, 1.2
"""Lengths of trajectories, in quarter turns, are uniform between these."""

DIVERGENCE = 1000.0
"""Energy error beyond which a trajectory counts as divergent."""


class Point(NamedTuple):
    """A position of every lane with all that is known there."""

    position: Float[Array, "coordinate lane"]
    gradient: Float[Array, "coordinate lane"]
    inverse_mass_gradient: Float[Array, "coordinate lane"]
    """Covariance times gradient: what half a kick does to the velocity."""
    value: Float[Array, " lane"]
    extra: Any
    """Whatever else the density gave; arrays whose last axis is the lane."""


class HMCState(NamedTuple):
    """Where a tile stands between two ticks."""

    here: Point
    """In the units' adapted coordinates; its extra is an `Original`."""
    start: Point
    """Where the running trajectories began."""
    momentum: Float[Array, "coordinate lane"]
    velocity: Float[Array, "coordinate lane"]
    start_energy: Float[Array, " lane"]
    threshold: Float[Array, " lane"]
    """What the running trajectory's acceptance must exceed: drawn with its momentum and kept, so that the choices made
    by it read a number instead of drawing it anew."""
    steps_left: Int[Array, " unit"]
    transition: Int[Array, " unit"]
    """Trajectories finished, which numbers the random draws."""
    key: UInt32[Array, "unit 2"]
    adaptation: Adaptation


class Trace(NamedTuple):
    """What one tick left behind; where `done` is false the rest is not a draw."""

    done: Bool[Array, " unit"]
    original: Original
    """The draw in the model's own coordinates."""
    energy: Float[Array, " lane"]
    accept: Float[Array, " lane"]
    diverged: Bool[Array, " lane"]


class DrawBuffer(NamedTuple):
    """Draws of a tile's units so far; a row holds position, extra, log density and energy of every chain."""

    rows: Float[Array, "unit draw field chain"]
    filled: Int[Array, " unit"]
    """Draws per chain so far."""
    divergences: Int[Array, " unit"]
    accept: Float[Array, " unit"]
    """Mean acceptance of the last block."""
    balance: Float[Array, "unit chain"]
    """Sum over the draws of `energy_balance`."""


class _Draws(NamedTuple):
    whitened: Float[Array, "coordinate lane"]
    threshold: Float[Array, " lane"]
    length: Float[Array, " unit"]


def lanes_of(values: Float[Array, "*front unit"], chains: int) -> Float[Array, "*front lane"]:
    """One value per unit, repeated for its chains."""
    return jnp.repeat(values, chains, axis=-1)


def begin(
    position: Float[Array, "coordinate lane"],
    evaluation: tuple[Array, Array, Array],
    adaptation: Adaptation,
    key: UInt32[Array, "unit 2"],
) -> HMCState:
    """The state at the start of the first trajectory, with what the density says of the position.

    Args:
        position: In the model's own coordinates.
        evaluation: Value, gradient and extra there.
        adaptation: Whatever is known before.
        key: One per unit.
    """
    value, gradient, extra = evaluation
    original = Original(position, value, extra)
    lanes, units = position.shape[1], key.shape[0]
    moved = adaptation.coordinates.move(original, gradient, lanes // units)
    point = _point_at(moved, original, adaptation.metric)
    empty = jnp.zeros_like(position)
    state = HMCState(
        here=point,
        start=point,
        momentum=empty,
        velocity=empty,
        start_energy=jnp.zeros(lanes, position.dtype),
        threshold=jnp.zeros(lanes, position.dtype),
        steps_left=jnp.zeros(units, jnp.int32),
        transition=jnp.zeros(units, jnp.int32),
        key=key,
        adaptation=adaptation,
    )
    return _set_off(state, point, _draws(state), jnp.ones(units, bool))


def advance(log_density: LogDensity, state: HMCState, ticks: int) -> tuple[HMCState, Trace]:
    """The state after `ticks` gradients of every lane, and the trace of each tick (leading axis).

    Args:
        log_density: In the model's own coordinates.
        state: Between two ticks.
        ticks: How many.
    """
    chains = state.here.position.shape[1] // len(state.key)
    mapped = state.adaptation.coordinates.density(log_density, chains)
    return jax.lax.scan(lambda carried, _: _tick(mapped, carried), state, None, length=ticks)


def adopt(state: HMCState, coordinates: SinhArcsinh, metric: Metric, which: Bool[Array, " unit"]) -> HMCState:
    """The state in new coordinates and under a new metric in the units of `which`, whose chains stay where they are.

    Their running trajectories are abandoned, and the adaptation of their step sizes begins anew.
    """
    old, stepping = state.adaptation, state.adaptation.stepping
    chains = state.here.position.shape[1] // len(state.key)
    again = restarted(stepping.log_average, stepping.adapting, stepping.target_accept)
    matrices = which[:, None, None]
    new = Adaptation(
        coordinates=_choose(which, coordinates, old.coordinates),
        metric=jax.tree.map(lambda yes, no: jnp.where(matrices, yes, no), metric, old.metric),
        stepping=_choose(which, again, stepping),
    )
    original = state.start.extra
    gradient = old.coordinates.forget(state.start.position, state.start.gradient, chains)
    there = _point_at(new.coordinates.move(original, gradient, chains), original, new.metric)
    moved = state._replace(adaptation=new, transition=state.transition + which)
    return _set_off(moved, there, _draws(moved), which)


def point_of(position: Float[Array, "coordinate lane"], evaluation: tuple[Array, Array, Any], metric: Metric) -> Point:
    """The point at a position, with value, gradient and all else that the density gave there."""
    value, gradient, extra = evaluation
    return Point(position, gradient, metric.inverse_mass_gradient(gradient), value, extra)


def _point_at(moved: tuple[Array, Array, Array], original: Original, metric: Metric) -> Point:
    position, value, gradient = moved
    return point_of(position, (value, gradient, original), metric)


def leap(
    evaluate: Callable[[Float[Array, "coordinate lane"]], Point],
    here: Point,
    velocity: Float[Array, "coordinate lane"],
    momentum: Float[Array, "coordinate lane"],
    step: Float[Array, "*#one lane"],
) -> tuple[Point, Float[Array, "coordinate lane"], Float[Array, "coordinate lane"]]:
    """One leapfrog step of every lane: the point it leads to, and velocity and momentum there."""
    velocity = velocity + 0.5 * step * here.inverse_mass_gradient
    momentum = momentum + 0.5 * step * here.gradient
    here = evaluate(here.position + step * velocity)
    return here, velocity + 0.5 * step * here.inverse_mass_gradient, momentum + 0.5 * step * here.gradient


def acceptance(error: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Probability that a trajectory with this error of its energy is accepted; none where it is not finite."""
    return jnp.where(jnp.isfinite(error), jnp.exp(-jnp.maximum(error, 0.0)), 0.0)


def energy_balance(accept: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """What is zero on average over trajectories that begin in equilibrium: acceptance less 2 where energy fell.

    A reversible move that keeps volume has E exp(-error) = 1 because E[exp(-error); error > 0] = P(error < 0), and the
    same with signs turned. The mean of exp(-error) may have no variance; this difference stays within [-1, 1].
    """
    return jnp.where(accept < 1, accept, -1.0)


def _tick(log_density: LogDensity, state: HMCState) -> tuple[HMCState, Trace]:
    units, lanes = state.key.shape[0], state.here.position.shape[1]
    chains = lanes // units
    step = lanes_of(jnp.exp(state.adaptation.stepping.log_step), chains)
    here, velocity, momentum = leap(
        lambda position: point_of(position, log_density(position), state.adaptation.metric),
        state.here,
        state.velocity,
        state.momentum,
        step,
    )
    steps_left = state.steps_left - 1
    done = steps_left <= 0
    energy = -here.value + 0.5 * sum_rows(momentum * velocity)
    error = energy - state.start_energy
    accept = acceptance(error)
    accepted = state.threshold < accept
    settled = _choose(accepted, here, state.start)

    stepping = adapt_step(state.adaptation.stepping, done, jnp.mean(accept.reshape(units, chains), axis=1))
    moved = state._replace(
        here=here,
        momentum=momentum,
        velocity=velocity,
        steps_left=steps_left,
        transition=state.transition + done,
        adaptation=state.adaptation._replace(stepping=stepping),
    )
    trace = Trace(
        done=done,
        original=settled.extra,
        energy=jnp.where(accepted, energy, state.start_energy),
        accept=accept,
        diverged=~(error < DIVERGENCE),
    )
    return _set_off(moved, settled, _draws(moved), done), trace


def _set_off(state: HMCState, origin: Point, draws: _Draws, which: Bool[Array, " unit"]) -> HMCState:
    """Starts a trajectory at `origin` in the units of `which`; the others go on."""
    units, lanes = state.key.shape[0], origin.position.shape[1]
    chains = lanes // units
    metric, stepping = state.adaptation.metric, state.adaptation.stepping
    velocity, momentum = metric.velocity(draws.whitened), metric.momentum(draws.whitened)
    energy = -origin.value + 0.5 * sum_rows(draws.whitened**2)
    steps = jnp.round(draws.length / jnp.exp(stepping.log_step)).astype(jnp.int32)
    lane = jnp.repeat(which, chains)
    return state._replace(
        here=_choose(lane, origin, state.here),
        start=_choose(lane, origin, state.start),
        momentum=jnp.where(lane, momentum, state.momentum),
        velocity=jnp.where(lane, velocity, state.velocity),
        start_energy=jnp.where(lane, energy, state.start_energy),
        threshold=jnp.where(lane, draws.threshold, state.threshold),
        steps_left=jnp.where(which, jnp.clip(steps, 1, MAX_STEPS), state.steps_left),
    )


def _draws(state: HMCState) -> _Draws:
    """Random numbers of each unit's running trajectory, a function of its key and the trajectory's number."""
    coordinates, lanes = state.here.position.shape
    chains = lanes // state.key.shape[0]
    uniform = uniforms(state.key, state.transition, coordinates + 2, lanes, state.here.position.dtype)
    return _Draws(
        whitened=normals(uniform[:coordinates]),
        threshold=uniform[coordinates],
        length=QUARTER_TURN * (SHORTEST + (LONGEST - SHORTEST) * uniform[coordinates + 1, ::chains]),
    )


def _choose(which: Bool[Array, " last"], yes: Chosen, no: Chosen) -> Chosen:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
