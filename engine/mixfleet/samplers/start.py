"""Where chains start: modes found by several optimisations at once, and the Laplace approximation at the best one."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt32

from mixfleet.samplers import cholesky
from mixfleet.samplers.hmc import LogDensity, Metric, lanes_of, metric_of

__all__ = ["laplace", "optimise", "scatter"]

OPTIMISER_STEPS = 160
GREATEST_RATE, LEAST_RATE = 0.2, 0.01
"""Learning rate of Adam, from its first step to its last, in units of log and logit coordinates."""

NUDGE = 0.02
"""Half the distance over which gradients are differenced into a Hessian."""

LEAST_CURVATURE = 0.25
"""A coordinate's standard deviation is not believed beyond 2: logs and logits of every default prior stay below."""

ROUNDING = (0.0, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""What may be added to all curvatures of a unit whose mode is a saddle or a ridge; the warm-up learns the rest."""

HOPELESS = 12.0
"""A mode this far below the unit's best, in log density, holds a share of the posterior that no chain should start
with; its chain starts at the best mode instead."""


def optimise(
    log_density: LogDensity,
    centre: Float[Array, "coordinate unit"],
    chains: int,
    key: UInt32[Array, "unit 2"],
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"]]:
    """The highest point that Adam reaches from each chain's jittered start, and the log density there."""
    coordinates = centre.shape[0]
    jitter = jax.vmap(lambda k: jax.random.normal(k, (coordinates, chains), centre.dtype))(key)
    position = lanes_of(centre, chains) + 0.5 * jnp.moveaxis(jitter, 0, 1).reshape(coordinates, -1)
    optimiser = optax.adam(optax.exponential_decay(GREATEST_RATE, OPTIMISER_STEPS, LEAST_RATE / GREATEST_RATE))

    def step(carried: Any, _: Any) -> tuple[Any, None]:
        position, best, top, memory = carried
        value, gradient, _ = log_density(position)
        higher = value > top
        best, top = jnp.where(higher, position, best), jnp.where(higher, value, top)
        # A start outside the density's reach stays where it is; its chain will be sent to the best mode.
        downhill = -jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        update, memory = optimiser.update(downhill, memory)
        return (position + jnp.asarray(update), best, top, memory), None

    nowhere = jnp.full(position.shape[1], -jnp.inf, position.dtype)
    begun = (position, position, nowhere, optimiser.init(position))
    (_, best, top, _), _ = jax.lax.scan(step, begun, None, length=OPTIMISER_STEPS)
    return best, top


def laplace(
    log_density: LogDensity, modes: Float[Array, "coordinate lane"], values: Float[Array, " lane"], units: int
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"], Metric]:
    """Modes with the hopeless ones replaced by the unit's best, their log densities, and the metric at the best.

    The Hessian is differenced from gradients, two per coordinate, spread over the unit's chains.
    """
    coordinates, lanes = modes.shape
    chains = lanes // units
    best = jnp.argmax(values.reshape(units, chains), axis=1)
    top = jnp.max(values.reshape(units, chains), axis=1)
    by_unit = modes.reshape(coordinates, units, chains)
    best_mode = jnp.take_along_axis(by_unit, best[None, :, None], axis=2)
    keep = (values.reshape(units, chains) > top[:, None] - HOPELESS)[None]
    starts = jnp.where(keep, by_unit, best_mode).reshape(coordinates, lanes)
    heights = jnp.where(keep[0], values.reshape(units, chains), top[:, None]).reshape(lanes)

    rounds = -(-2 * coordinates // chains)
    centre = jnp.broadcast_to(best_mode, by_unit.shape)

    def nudged(first: Array) -> Array:
        index = first + jnp.arange(chains)
        sign = jnp.where(index % 2 == 0, 1.0, -1.0).astype(modes.dtype)
        direction = jax.nn.one_hot(index // 2, coordinates, dtype=modes.dtype).T * sign
        position = centre + NUDGE * direction[:, None, :]
        return log_density(position.reshape(coordinates, lanes))[1]

    gradients = jax.lax.map(nudged, jnp.arange(rounds) * chains)
    gradients = gradients.reshape(rounds, coordinates, units, chains)
    gradients = jnp.moveaxis(gradients, (2, 1), (0, 1)).reshape(units, coordinates, rounds * chains)
    plus, minus = gradients[:, :, 0 : 2 * coordinates : 2], gradients[:, :, 1 : 2 * coordinates : 2]
    curvature = -(plus - minus) / (2 * NUDGE)
    curvature = 0.5 * (curvature + jnp.swapaxes(curvature, 1, 2))
    # An unusable Hessian becomes that of a standard normal; the warm-up then learns the metric from the draws.
    usable = jnp.all(jnp.isfinite(curvature), axis=(1, 2), keepdims=True)
    curvature = jnp.where(usable, curvature, jnp.eye(coordinates, dtype=modes.dtype))
    return starts, heights, metric_of(_covariance(curvature))


def _covariance(curvature: Float[Array, "unit coordinate coordinate"]) -> Float[Array, "unit coordinate coordinate"]:
    """Inverses of the curvatures, each made as round as it takes for its least eigenvalue to reach the floor."""
    one = jnp.eye(curvature.shape[-1], dtype=curvature.dtype)

    def round_off(carried: tuple[Array, Array], more: Array) -> tuple[tuple[Array, Array], None]:
        found, kept = carried
        rounded = curvature + more * one
        enough = jnp.all(jnp.isfinite(cholesky.factor(rounded - LEAST_CURVATURE * one)), axis=(1, 2))
        return (found | enough, jnp.where((enough & ~found)[:, None, None], rounded, kept)), None

    nothing = (jnp.zeros(len(curvature), bool), jnp.broadcast_to(one, curvature.shape))
    (_, rounded), _ = jax.lax.scan(round_off, nothing, jnp.array(ROUNDING, curvature.dtype))
    half = cholesky.inverse(cholesky.factor(rounded))
    return jnp.einsum("uji,ujk->uik", half, half, precision="highest")


def scatter(
    log_density: LogDensity,
    modes: Float[Array, "coordinate lane"],
    values: Float[Array, " lane"],
    metric: Metric,
    key: UInt32[Array, "unit 2"],
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"], Float[Array, "coordinate lane"], Array]:
    """A draw of the Laplace approximation around each chain's mode, pulled in where the posterior falls off faster.

    Returns position, log density, gradient and extra.

    A chain that starts far out on a steep side would be stuck there: the step size that suits the bulk is unstable
    where the density drops by hundreds.
    """
    coordinates, lanes = modes.shape
    units = key.shape[0]
    white = jax.vmap(lambda k: jax.random.normal(k, (coordinates, lanes // units), modes.dtype))(key)
    spread = jnp.einsum("uji,ujk->iuk", metric.upper, white, precision="highest").reshape(coordinates, lanes)
    # Of a Gaussian's own draws, one in a million lies further below its mode than this.
    lowest = values - 0.5 * (coordinates + 5 * (2 * coordinates) ** 0.5)

    def pull_in(carried: tuple[Array, Any], share: Array) -> tuple[tuple[Array, Any], None]:
        settled, kept = carried
        position = modes + share * spread
        value, gradient, extra = log_density(position)
        chosen = jax.tree.map(lambda old, new: jnp.where(settled, old, new), kept, (position, value, gradient, extra))
        return (settled | (value > lowest), chosen), None

    shapes = jax.eval_shape(log_density, modes)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (modes, *shapes))
    shares = jnp.array([1.0, 0.5, 0.25, 0.1, 0.0], modes.dtype)
    (_, found), _ = jax.lax.scan(pull_in, (jnp.zeros(lanes, bool), nothing), shares)
    return found
