"""Saturation in jax: value and closed-form derivatives together, finite everywhere."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

Partials = tuple[Array, Array, tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames="family", inline=True)
def value_and_partials(family: str, media: Array, parameters: tuple[Array, ...]) -> Partials:
    """f, df/dmedia and df/dparameter; see `mixfleet_kernels.saturation.value_and_partials`."""
    return _CURVES[family](media, *parameters)


@functools.partial(jax.jit, static_argnames="family", inline=True)
def saturate(family: str, media: Array, parameters: tuple[Array, ...]) -> Array:
    """f, differentiated by its closed forms; see `mixfleet_kernels.saturation.saturate`."""
    return _DIFFERENTIABLE[family](media, *parameters)


def _logistic(media: Array, rate: Array) -> Partials:
    value = jnp.tanh(rate * media / 2)
    slope = (1 - value) * (1 + value) / 2
    return value, rate * slope, (media * slope,)


def _hill(media: Array, slope: Array, half_saturation: Array) -> Partials:
    size, sign, zero = _parts(media)
    # The logarithm of the ratio, not the difference of two: it stays accurate at media near half_saturation.
    log_ratio = jnp.log(jnp.where(zero, half_saturation, size) / half_saturation)
    z = slope * log_ratio
    tail = jnp.exp(-jnp.abs(z))
    larger = 1 / (1 + tail)
    smaller = tail * larger
    value = jnp.where(zero, 0, jnp.where(z < 0, smaller, larger))
    spread = jnp.where(zero, 0, larger * smaller)
    elasticity = slope * spread
    by_media = elasticity / jnp.where(zero, 1, size)
    return sign * value, by_media, (sign * log_ratio * spread, -sign * elasticity / half_saturation)


def _tanh(media: Array, scale: Array) -> Partials:
    ratio = media / scale
    value = jnp.tanh(ratio)
    by_media = (1 - value) * (1 + value) / scale
    return value, by_media, (-ratio * by_media,)


def _michaelis_menten(media: Array, half_saturation: Array) -> Partials:
    total = half_saturation + jnp.abs(media)
    value = media / total
    # One division after the other: the square of the total could leave float32.
    return value, half_saturation / total / total, (-value / total,)


def _exponential(media: Array, rate: Array) -> Partials:
    size, sign, _ = _parts(media)
    less_one = jnp.expm1(-rate * size)
    left = 1 + less_one
    return -sign * less_one, rate * left, (media * left,)


def _root(media: Array, exponent: Array) -> Partials:
    size, sign, zero = _parts(media)
    safe = jnp.where(zero, 1, size)
    log_size = jnp.log(safe)
    value = jnp.where(zero, 0, jnp.exp(exponent * log_size))
    return sign * value, exponent * value / safe, (sign * value * log_size,)


def _log(media: Array, rate: Array) -> Partials:
    size, sign, _ = _parts(media)
    grown = rate * size
    left = 1 / (1 + grown)
    return sign * jnp.log1p(grown), rate * left, (media * left,)


def _none(media: Array) -> Partials:
    return media, jnp.ones_like(media), ()


def _parts(media: Array) -> tuple[Array, Array, Array]:
    """Size, sign, and where the media counts as zero: subnormal numbers do, NaN does not."""
    size = jnp.abs(media)
    return size, jnp.sign(media), size < jnp.finfo(media.dtype).tiny


def register(family: str, curve: Callable[..., Array]) -> None:
    """See `mixfleet_kernels.saturation.register`."""

    def value_and_partials(media: Array, *parameters: Array) -> Partials:
        size, sign, zero = _parts(media)
        safe = jnp.where(zero, 1, size)
        parameters = tuple(jnp.broadcast_to(parameter, safe.shape) for parameter in parameters)
        value, pull_back = jax.vjp(curve, safe, *parameters)
        by_size, *by_parameter = pull_back(jnp.ones_like(value))
        return (
            jnp.where(zero, 0, sign * value),
            jnp.where(zero, 0, by_size),
            tuple(jnp.where(zero, 0, sign * partial) for partial in by_parameter),
        )

    _CURVES[family] = value_and_partials
    _DIFFERENTIABLE[family] = _with_closed_derivatives(value_and_partials)


def _with_closed_derivatives(curve: Callable[..., Partials]) -> Callable[..., Array]:
    @jax.custom_jvp
    def value(media: Array, *parameters: Array) -> Array:
        return curve(media, *parameters)[0]

    @value.defjvp
    def value_and_tangent(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        result, by_media, by_parameter = curve(*primals)
        moved = by_media * tangents[0]
        for partial, tangent in zip(by_parameter, tangents[1:], strict=True):
            moved = moved + partial * tangent
        return result, moved

    return value


_CURVES: dict[str, Callable[..., Partials]] = {
    "logistic": _logistic,
    "hill": _hill,
    "tanh": _tanh,
    "michaelis_menten": _michaelis_menten,
    "exponential": _exponential,
    "root": _root,
    "log": _log,
    "none": _none,
}
_DIFFERENTIABLE = {family: _with_closed_derivatives(curve) for family, curve in _CURVES.items()}
