"""Hamiltonian Monte Carlo for a tile of units, one leapfrog step of every lane per tick.

Nobody waits: units differ in step size and in steps per trajectory, and a lane whose trajectory is over decides and
starts the next one within the same tick. The number of steps is drawn before the trajectory, the same for a unit's
chains and independent of where they are, so that the draws may be stopped at any tick without bias.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
    Hoffman and Gelman (2014), The No-U-Turn Sampler, section 3.2 (dual averaging), arXiv:1111.4246.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.inference import cholesky
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet_kernels.reductions import sum_rows

Chosen = TypeVar("Chosen")

__all__ = [
    "LogDensity",
    "Metric",
    "Point",
    "State",
    "Stepping",
    "Trace",
    "acceptance",
    "adapt_step",
    "advance",
    "begin",
    "energy_balance",
    "lanes_of",
    "leap",
    "metric_of",
    "point_of",
    "restart",
]

MAX_STEPS = 64
"""Leapfrog steps of one trajectory at most: a bound on the work of a unit whose step size collapses."""

QUARTER_TURN = 1.5707963
"""Length of trajectory, in units of the whitened posterior, after which a Gaussian's draws are independent."""

DIVERGENCE = 1000.0
"""Energy error beyond which a trajectory counts as divergent."""

ADAPTATION_GAIN, ADAPTATION_DELAY, ADAPTATION_DECAY = 0.05, 10.0, 0.75
"""Dual averaging's gamma, t0 and kappa, as in Hoffman and Gelman (2014)."""


class Point(NamedTuple):
    """A position of every lane with all that is known there."""

    position: Float[Array, "coordinate lane"]
    gradient: Float[Array, "coordinate lane"]
    inverse_mass_gradient: Float[Array, "coordinate lane"]
    """Covariance times gradient: what half a kick does to the velocity."""
    value: Float[Array, " lane"]
    extra: Any
    """Whatever else the density gave; arrays whose last axis is the lane."""


class Metric(NamedTuple):
    """Estimate of each unit's posterior covariance, its upper Cholesky factor, and the inverse of the lower one.

    As they stand, the product of each one's transpose and the lanes needs no copy of it.
    """

    covariance: Float[Array, "unit coordinate coordinate"]
    upper: Float[Array, "unit coordinate coordinate"]
    inverse: Float[Array, "unit coordinate coordinate"]

    def inverse_mass_gradient(self, gradient: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """Covariance times gradient."""
        return _times(self.covariance, gradient)

    def velocity(self, white: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """Velocities whose covariance is the metric's, from standard normal numbers."""
        return _times(self.upper, white)

    def momentum(self, white: Float[Array, "coordinate lane"]) -> Float[Array, "coordinate lane"]:
        """The momenta of those velocities."""
        return _times(self.inverse, white)


def _times(matrices: Float[Array, "unit row column"], lanes: Float[Array, "row lane"]) -> Float[Array, "column lane"]:
    """Each unit's transposed matrix times its lanes."""
    by_unit = lanes.reshape(len(lanes), len(matrices), -1)
    return jnp.einsum("uji,juk->iuk", matrices, by_unit, precision="highest").reshape(-1, lanes.shape[1])


class Stepping(NamedTuple):
    """Each unit's step size and the state of its adaptation."""

    log_step: Float[Array, " unit"]
    log_average: Float[Array, " unit"]
    shortfall: Float[Array, " unit"]
    centre: Float[Array, " unit"]
    updates: Float[Array, " unit"]
    adapting: Bool[Array, " unit"]
    target_accept: Float[Array, " unit"]


class State(NamedTuple):
    """Where a tile stands between two ticks."""

    here: Point
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
    metric: Metric
    stepping: Stepping


class Trace(NamedTuple):
    """What one tick left behind; where `done` is false the rest is not a draw."""

    done: Bool[Array, " unit"]
    position: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]
    value: Float[Array, " lane"]
    energy: Float[Array, " lane"]
    accept: Float[Array, " lane"]
    diverged: Bool[Array, " lane"]


LogDensity = Callable[[Float[Array, "coordinate lane"]], tuple[Array, Array, Any]]
"""Position to (value, gradient, extra) of every lane."""


class _Draws(NamedTuple):
    whitened: Float[Array, "coordinate lane"]
    threshold: Float[Array, " lane"]
    length: Float[Array, " unit"]


def metric_of(covariance: Float[Array, "unit coordinate coordinate"]) -> Metric:
    """The metric of these covariances; not finite where one is not positive definite."""
    factor = cholesky.factor(covariance)
    return Metric(covariance, jnp.swapaxes(factor, 1, 2), cholesky.inverse(factor))


def lanes_of(values: Float[Array, "*front unit"], chains: int) -> Float[Array, "*front lane"]:
    """One value per unit, repeated for its chains."""
    return jnp.repeat(values, chains, axis=-1)


def begin(
    position: Float[Array, "coordinate lane"],
    evaluation: tuple[Array, Array, Array],
    metric: Metric,
    stepping: Stepping,
    key: UInt32[Array, "unit 2"],
) -> State:
    """The state at the start of the first trajectory, with what the density says of the position."""
    point = point_of(position, evaluation, metric)
    lanes, units = position.shape[1], key.shape[0]
    empty = jnp.zeros_like(position)
    state = State(
        here=point,
        start=point,
        momentum=empty,
        velocity=empty,
        start_energy=jnp.zeros(lanes, position.dtype),
        threshold=jnp.zeros(lanes, position.dtype),
        steps_left=jnp.zeros(units, jnp.int32),
        transition=jnp.zeros(units, jnp.int32),
        key=key,
        metric=metric,
        stepping=stepping,
    )
    return _set_off(state, point, _draws(state), jnp.ones(units, bool))


def advance(log_density: LogDensity, state: State, ticks: int) -> tuple[State, Trace]:
    """The state after `ticks` gradients of every lane, and the trace of each tick (leading axis)."""
    return jax.lax.scan(lambda carried, _: _tick(log_density, carried), state, None, length=ticks)


def point_of(position: Float[Array, "coordinate lane"], evaluation: tuple[Array, Array, Any], metric: Metric) -> Point:
    """The point at a position, with value, gradient and all else that the density gave there."""
    value, gradient, extra = evaluation
    return Point(position, gradient, metric.inverse_mass_gradient(gradient), value, extra)


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


def restart(state: State, which: Bool[Array, " unit"]) -> State:
    """Abandons the running trajectories of the units in `which` and sets off anew, under a metric that changed."""
    moved = state._replace(transition=state.transition + which)
    lane = jnp.repeat(which, state.here.position.shape[1] // state.key.shape[0])
    inverse_mass_gradient = jnp.where(
        lane, state.metric.inverse_mass_gradient(state.start.gradient), state.start.inverse_mass_gradient
    )
    return _set_off(moved, state.start._replace(inverse_mass_gradient=inverse_mass_gradient), _draws(moved), which)


def _tick(log_density: LogDensity, state: State) -> tuple[State, Trace]:
    units, lanes = state.key.shape[0], state.here.position.shape[1]
    chains = lanes // units
    step = lanes_of(jnp.exp(state.stepping.log_step), chains)
    here, velocity, momentum = leap(
        lambda position: point_of(position, log_density(position), state.metric),
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

    stepping = adapt_step(state.stepping, done, jnp.mean(accept.reshape(units, chains), axis=1))
    moved = state._replace(
        here=here,
        momentum=momentum,
        velocity=velocity,
        steps_left=steps_left,
        transition=state.transition + done,
        stepping=stepping,
    )
    trace = Trace(
        done=done,
        position=settled.position,
        extra=settled.extra,
        value=settled.value,
        energy=jnp.where(accepted, energy, state.start_energy),
        accept=accept,
        diverged=~(error < DIVERGENCE),
    )
    return _set_off(moved, settled, _draws(moved), done), trace


def _set_off(state: State, origin: Point, draws: _Draws, which: Bool[Array, " unit"]) -> State:
    """Starts a trajectory at `origin` in the units of `which`; the others go on."""
    units, lanes = state.key.shape[0], origin.position.shape[1]
    chains = lanes // units
    velocity, momentum = state.metric.velocity(draws.whitened), state.metric.momentum(draws.whitened)
    energy = -origin.value + 0.5 * sum_rows(draws.whitened**2)
    steps = jnp.round(draws.length / jnp.exp(state.stepping.log_step)).astype(jnp.int32)
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


def _draws(state: State) -> _Draws:
    """Random numbers of each unit's running trajectory, a function of its key and the trajectory's number."""
    coordinates, lanes = state.here.position.shape
    chains = lanes // state.key.shape[0]
    uniform = uniforms(state.key, state.transition, coordinates + 2, lanes, state.here.position.dtype)
    return _Draws(
        whitened=normals(uniform[:coordinates]),
        threshold=uniform[coordinates],
        length=QUARTER_TURN * (0.5 + uniform[coordinates + 1, ::chains]),
    )


def adapt_step(stepping: Stepping, done: Bool[Array, " unit"], accept: Float[Array, " unit"]) -> Stepping:
    """The stepping after one more trajectory, in the units whose trajectory is `done` and whose step is adapting."""
    updates = stepping.updates + 1
    weight = 1 / (updates + ADAPTATION_DELAY)
    shortfall = (1 - weight) * stepping.shortfall + weight * (stepping.target_accept - accept)
    log_step = stepping.centre - jnp.sqrt(updates) / ADAPTATION_GAIN * shortfall
    forget = updates**-ADAPTATION_DECAY
    log_average = forget * log_step + (1 - forget) * stepping.log_average
    adapted = stepping._replace(log_step=log_step, log_average=log_average, shortfall=shortfall, updates=updates)
    return _choose(done & stepping.adapting, adapted, stepping)


def _choose(which: Bool[Array, " last"], yes: Chosen, no: Chosen) -> Chosen:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), yes, no)
