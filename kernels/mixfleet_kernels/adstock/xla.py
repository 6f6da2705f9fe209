"""Adstock in jax, finite in value and gradient everywhere."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

UNROLLED_LAGS = 32
"""Windows up to this length become straight-line code; longer ones a loop, which compiles faster."""

LEAST_BINOMIAL_DECAY = 1e-8
"""Below it every weight but the first, and its gradient, is zero in float64 for windows up to 1e5 weeks."""

LEAST_DELAYED_DECAY = 1e-30
LEAST_SCALE = 1e-12
GREATEST_LOG_HAZARD = 30.0
"""exp(-exp(30)) is zero in float64, while exp(30) times any derivative still fits float32."""


REGISTERED: dict[str, Callable[..., Array]] = {}
"""Weights of further families by lag, from `mixfleet_kernels.adstock.register`."""

_STATIC = ("family", "window", "normalise", "binomial_offset", "weibull_minmax")


@functools.partial(jax.jit, static_argnames=_STATIC, inline=True)
def weights(
    family: str,
    parameters: tuple[Float[Array, "*batch"], ...],
    *,
    window: int,
    normalise: bool,
    binomial_offset: int,
    weibull_minmax: bool,
) -> Float[Array, "window *batch"]:
    """The window's weights; see `mixfleet_kernels.adstock.weights`."""
    if family == "none":
        return jnp.zeros(window).at[0].set(1.0)
    if family == "geometric":
        raw = _powers(parameters[0], window)
        return _shares(raw) if normalise else raw

    first = parameters[0]
    lag = jnp.arange(window, dtype=first.dtype).reshape((window,) + (1,) * first.ndim)
    if family == "binomial":
        log_weight = _log_binomial(lag, first[None], window + binomial_offset)
    elif family == "delayed":
        log_weight = (lag - parameters[1][None]) ** 2 * jnp.log(jnp.maximum(first[None], LEAST_DELAYED_DECAY))
    elif family == "weibull_cdf":
        log_weight = _log_survivors(lag, first[None], parameters[1][None])
    elif family in REGISTERED:
        raw = REGISTERED[family](lag, *(parameter[None] for parameter in parameters))
        return _shares(raw) if normalise else raw
    else:
        log_density = _log_density(lag + 1, first[None], parameters[1][None])
        if weibull_minmax:
            raw = _minmax(_scaled_exp(log_density))
            return _shares(raw) if normalise else raw
        if not normalise:
            return first[None] * jnp.exp(log_density)
        log_weight = log_density
    return _shares(_scaled_exp(log_weight)) if normalise else jnp.exp(log_weight)


@functools.partial(jax.jit, static_argnames=_STATIC, inline=True)
def weights_and_tangents(
    family: str,
    parameters: tuple[Float[Array, "*batch"], ...],
    *,
    window: int,
    normalise: bool,
    binomial_offset: int,
    weibull_minmax: bool,
) -> tuple[Float[Array, "window *batch"], tuple[Float[Array, "window *batch"], ...]]:
    """The weights and their derivatives; see `mixfleet_kernels.adstock.weights_and_tangents`."""

    def value(*moved: Array) -> Array:
        return weights(
            family,
            moved,
            window=window,
            normalise=normalise,
            binomial_offset=binomial_offset,
            weibull_minmax=weibull_minmax,
        )

    tangents = []
    for index in range(len(parameters)):
        direction = tuple(jnp.full_like(p, float(j == index)) for j, p in enumerate(parameters))
        tangents.append(jax.jvp(value, parameters, direction)[1])
    return value(*parameters), tuple(tangents)


@functools.partial(jax.jit, inline=True)
def convolve(media: Float[Array, "week *batch"], weights: Float[Array, "window *batch"]) -> Float[Array, "week *batch"]:
    """Shifted slices of the media, weighted and added; see `mixfleet_kernels.adstock.convolve`."""
    weeks = media.shape[0]
    lags = min(weights.shape[0], weeks)
    weights = weights.reshape(weights.shape + (1,) * (media.ndim - weights.ndim))
    history = jnp.zeros((lags - 1, *media.shape[1:]), media.dtype)
    padded = jnp.concatenate([history, media])
    if lags <= UNROLLED_LAGS:
        total = weights[0][None] * media
        for lag in range(1, lags):
            total = total + weights[lag][None] * padded[lags - 1 - lag : lags - 1 - lag + weeks]
        return total

    def add_lag(total: Array, lag_and_weight: tuple[Array, Array]) -> tuple[Array, None]:
        lag, weight = lag_and_weight
        return total + weight[None] * jax.lax.dynamic_slice_in_dim(padded, lags - 1 - lag, weeks), None

    return jax.lax.scan(add_lag, jnp.zeros_like(media), (jnp.arange(lags), weights[:lags]))[0]


def _powers(base: Float[Array, "*batch"], count: int) -> Float[Array, "count *batch"]:
    """base^0..base^(count-1) by the bits of the exponent: no logarithm, so value and gradient are exact at base 0."""
    exponent = jnp.arange(count).reshape((count,) + (1,) * base.ndim)
    powers, factor = jnp.ones((count, *base.shape), base.dtype), base[None]
    for bit in range((count - 1).bit_length()):
        powers = powers * jnp.where((exponent >> bit) & 1 == 1, factor, 1)
        factor = factor * factor
    return powers


def _log_binomial(lag: Array, decay: Array, denominator: int) -> Array:
    decay = jnp.maximum(decay, LEAST_BINOMIAL_DECAY)
    # log1p keeps the last lag of a Meridian window finite: its base is 1 / window, never zero.
    return (1 - decay) / decay * jnp.log1p(-lag / denominator)


def _log_hazard(time: Array, shape: Array, scale: Array) -> tuple[Array, Array]:
    """Log hazard `z = shape * log(time / scale)`, and exp(z), a straight line where exp(-exp(z)) is zero.

    The line keeps later weeks above earlier ones, so that a window normalised in logarithms still puts
    everything on the first week when the scale is tiny.
    """
    z = shape * (jnp.log(time) - jnp.log(jnp.maximum(scale, LEAST_SCALE)))
    capped = jnp.minimum(z, GREATEST_LOG_HAZARD)
    return z, jnp.exp(capped) * (1 + (z - capped))


def _log_density(time: Array, shape: Array, scale: Array) -> Array:
    """The log density of a Weibull at `time`, less log(shape), which no normalised window needs."""
    z, hazard = _log_hazard(time, shape, scale)
    return z - hazard - jnp.log(time)


def _log_survivors(lag: Array, shape: Array, scale: Array) -> Array:
    _, hazard = _log_hazard(jnp.maximum(lag, 1), shape, scale)
    return -jnp.cumsum(jnp.where(lag == 0, 0, hazard), axis=0)


def _scaled_exp(log_weight: Array) -> Array:
    """exp, divided by its greatest value over the window: at least one weight is 1, none overflows."""
    return jnp.exp(log_weight - jax.lax.stop_gradient(jnp.max(log_weight, axis=0, keepdims=True)))


def _shares(raw: Array) -> Array:
    return raw / jnp.sum(raw, axis=0, keepdims=True)


def _minmax(raw: Array) -> Array:
    least, greatest = jnp.min(raw, axis=0, keepdims=True), jnp.max(raw, axis=0, keepdims=True)
    flat = greatest == least
    spread = (raw - least) / jnp.where(flat, 1, greatest - least)
    return jnp.where(flat, jnp.zeros_like(raw).at[0].set(1), spread)
