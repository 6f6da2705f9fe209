"""Where chains start: modes found by several optimisations at once, and the Laplace approximation at the best one."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt32

from mixfleet.inference import cholesky
from mixfleet.inference.hmc import LogDensity, Metric, lanes_of, metric_of
from mixfleet.inference.random_numbers import normals, uniforms

__all__ = ["SCATTERING", "laplace", "optimise", "scatter"]

OPTIMISER_STEPS = 160
GREATEST_RATE, LEAST_RATE = 0.2, 0.01
"""Learning rate of Adam, from its first step to its last, in units of log and logit coordinates."""

NUDGE = 0.02
"""Half the distance over which gradients are differenced into a Hessian."""

LEAST_CURVATURE = 0.25
"""A coordinate's standard deviation is not believed beyond 2: logs and logits of every default prior stay below."""

ROUNDING = (0.0, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""What may be added to all curvatures of a unit whose mode is a saddle or a ridge; the warm-up learns the rest."""

JITTERING, SCATTERING = 2**32 - 1, 2**32 - 2
"""Numbers that no trajectory reaches, for the random draws made before the first."""

SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""How much of a Laplace draw's distance from its mode is tried, from the whole to none."""

HOPELESS = 12.0
"""A mode this far below the unit's best, in log density, holds a share of the posterior that no chain should start
with; its chain starts at the best mode instead."""


def optimise(
    log_density: LogDensity,
    centre: Float[Array, "coordinate unit"],
    chains: int,
    key: UInt32[Array, "unit 2"],
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"]]:
    """The highest point that Adam reaches from each chain's jittered start, and the log density there.

    Args:
        log_density: Of every lane, compiled: the loops of this module are the host's, so that one compilation of the
            density serves them all.
        centre: Where to start.
        chains: Lanes per unit.
        key: One per unit.
    """
    climb = _begin_climb(centre, chains, key)
    for _ in range(OPTIMISER_STEPS):
        value, gradient, _ = log_density(climb.position)
        climb = _climb(climb, value, gradient)
    return climb.best, climb.top


class _Climb(NamedTuple):
    position: Float[Array, "coordinate lane"]
    best: Float[Array, "coordinate lane"]
    top: Float[Array, " lane"]
    memory: Any


_OPTIMISER = optax.adam(optax.exponential_decay(GREATEST_RATE, OPTIMISER_STEPS, LEAST_RATE / GREATEST_RATE))


@partial(jax.jit, static_argnames="chains")
def _begin_climb(centre: Float[Array, "coordinate unit"], chains: int, key: UInt32[Array, "unit 2"]) -> _Climb:
    coordinates = centre.shape[0]
    jitter = normals(uniforms(key, JITTERING, coordinates, chains * len(key), centre.dtype))
    position = lanes_of(centre, chains) + 0.5 * jitter
    zero_state = jnp.full(position.shape[1], -jnp.inf, position.dtype)
    return _Climb(position, position, zero_state, _OPTIMISER.init(position))


@jax.jit
def _climb(climb: _Climb, value: Float[Array, " lane"], gradient: Float[Array, "coordinate lane"]) -> _Climb:
    position, best, top, memory = climb
    higher = value > top
    best, top = jnp.where(higher, position, best), jnp.where(higher, value, top)
    # A start outside the density's reach stays where it is; its chain will be sent to the best mode.
    downhill = -jnp.where(jnp.isfinite(gradient), gradient, 0.0)
    update, memory = _OPTIMISER.update(downhill, memory)
    return _Climb(position + jnp.asarray(update), best, top, memory)


def laplace(
    log_density: LogDensity, modes: Float[Array, "coordinate lane"], values: Float[Array, " lane"], units: int
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"], Metric]:
    """Modes with the hopeless ones replaced by the unit's best, their log densities, and the metric at the best.

    The Hessian is differenced from gradients, two per coordinate, spread over the unit's chains.
    """
    coordinates, lanes = modes.shape
    starts, heights, best = _choose_modes(modes, values, units)
    firsts = range(0, 2 * coordinates, lanes // units)
    gradients = [log_density(_nudge(best, np.int32(first), lanes // units))[1] for first in firsts]
    return starts, heights, _metric(gradients, units)


@partial(jax.jit, static_argnames="units")
def _choose_modes(
    modes: Float[Array, "coordinate lane"], values: Float[Array, " lane"], units: int
) -> tuple[Float[Array, "coordinate lane"], Float[Array, " lane"], Float[Array, "coordinate unit"]]:
    coordinates, lanes = modes.shape
    by_unit, heights = modes.reshape(coordinates, units, -1), values.reshape(units, -1)
    top = jnp.max(heights, axis=1, keepdims=True)
    best = jnp.take_along_axis(by_unit, jnp.argmax(heights, axis=1)[None, :, None], axis=2)
    keep = heights > top - HOPELESS
    starts = jnp.where(keep[None], by_unit, best).reshape(coordinates, lanes)
    return starts, jnp.where(keep, heights, top).reshape(lanes), best[..., 0]


@partial(jax.jit, static_argnames="chains")
def _nudge(best: Float[Array, "coordinate unit"], first: Array, chains: int) -> Float[Array, "coordinate lane"]:
    """The mode moved along one coordinate in each chain, forth and back, from the `first` such move on."""
    index = first + jnp.arange(chains)
    sign = jnp.where(index % 2 == 0, 1.0, -1.0).astype(best.dtype)
    direction = jax.nn.one_hot(index // 2, len(best), dtype=best.dtype).T * sign[None]
    return (best[..., None] + NUDGE * direction[:, None, :]).reshape(len(best), -1)


@partial(jax.jit, static_argnames="units")
def _metric(gradients: list[Float[Array, "coordinate lane"]], units: int) -> Metric:
    coordinates = gradients[0].shape[0]
    by_unit = jnp.stack([gradient.reshape(coordinates, units, -1) for gradient in gradients], axis=2)
    by_unit = jnp.moveaxis(by_unit.reshape(coordinates, units, -1), 1, 0)
    plus, minus = by_unit[:, :, 0 : 2 * coordinates : 2], by_unit[:, :, 1 : 2 * coordinates : 2]
    curvature = -(plus - minus) / (2 * NUDGE)
    curvature = 0.5 * (curvature + jnp.swapaxes(curvature, 1, 2))
    # An unusable Hessian becomes that of a standard normal; the warm-up then learns the metric from the draws.
    usable = jnp.all(jnp.isfinite(curvature), axis=(1, 2), keepdims=True)
    return metric_of(_covariance(jnp.where(usable, curvature, jnp.eye(coordinates, dtype=curvature.dtype)[None])))


def _covariance(curvature: Float[Array, "unit coordinate coordinate"]) -> Float[Array, "unit coordinate coordinate"]:
    """Inverses of the curvatures, each made as round as it takes for its least eigenvalue to reach the floor."""
    one = jnp.eye(curvature.shape[-1], dtype=curvature.dtype)[None]

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
) -> tuple[Float[Array, "coordinate lane"], tuple[Array, Array, Array]]:
    """A draw of the Laplace approximation around each chain's mode, and what the density says of it.

    It is pulled in towards the mode where the posterior falls off faster. A chain that starts far out on a steep side
    would be stuck there: the step size that suits the bulk is unstable where the density drops by hundreds.
    """
    spread = _spread(metric, key, modes.shape[1])
    tried = _between(modes, spread, SHARES[0])
    found = tried, log_density(tried)
    for share in SHARES[1:]:
        tried = _between(modes, spread, share)
        found = _keep_if_high(values, found, (tried, log_density(tried)))
    return found


@partial(jax.jit, static_argnames="lanes")
def _spread(metric: Metric, key: UInt32[Array, "unit 2"], lanes: int) -> Float[Array, "coordinate lane"]:
    units, coordinates, _ = metric.upper.shape
    white = normals(uniforms(key, SCATTERING, coordinates, lanes, metric.upper.dtype)).reshape(coordinates, units, -1)
    return jnp.einsum("uji,juk->iuk", metric.upper, white, precision="highest").reshape(coordinates, lanes)


@jax.jit
def _between(modes: Array, spread: Array, share: float) -> Float[Array, "coordinate lane"]:
    return modes + jnp.asarray(share, modes.dtype) * spread


@jax.jit
def _keep_if_high(values: Float[Array, " lane"], found: Any, tried: Any) -> Any:
    """`found` in the lanes where it is not too far below the mode, `tried` in the others."""
    position, (value, _, _) = found
    # Of a Gaussian's own draws, one in a million lies further below its mode than this.
    lowest = values - 0.5 * (len(position) + 5 * (2 * len(position)) ** 0.5)
    return jax.tree.map(lambda old, new: jnp.where(value > lowest, old, new), found, tried)
