"""Density: the unconstrained log-posterior of a tile's lanes, with gradient, in one pass."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from mixfleet_kernels import adstock
from mixfleet_kernels.likelihood import Response, Series, evaluate, respond

from mixfleet import priors
from mixfleet.batch import Structure, Tile
from mixfleet.config import ADSTOCK_PARAMETERS
from mixfleet.coordinates import log_normal_cdf, log_ramp

__all__ = ["Evaluation", "evaluate_density", "natural", "response"]


class Evaluation(NamedTuple):
    """The log-posterior of every lane at its position."""

    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]
    """Kept with every draw: mean response by channel, then the projection onto the linear block's basis."""


class Natural(NamedTuple):
    """Positions as parameters of the model."""

    shape: tuple[Float[Array, "channel lane"], ...]
    """Adstock, then saturation parameters."""
    strength: Float[Array, "channel lane"]
    """Effect or mean contribution, as the coordinate has it."""
    noise: Float[Array, " lane"]


def natural(
    position: Float[Array, "coordinate lane"], hyper: Float[Array, "row coordinate lane"], kind: Structure, tile: Tile
) -> Natural:
    """The parameters at `position`."""
    shapes = len(kind.laws) - 2
    values = tuple(
        priors.constrain(kind.laws[j], *_of_parameter(position, hyper, j, kind)) for j in range(shapes)
    )
    u, _ = _of_parameter(position, hyper, shapes, kind)
    chains = position.shape[-1] // tile.media.shape[-1]
    unit = jnp.repeat(tile.log_strength_unit, chains, axis=-1)
    noise = priors.constrain(kind.laws[-1], position[-1], hyper[:, -1])
    return Natural(shape=values, strength=jnp.exp(log_ramp(u) + unit), noise=noise)


def response(
    media: Float[Array, "week channel lane"], shape: tuple[Float[Array, "channel lane"], ...], kind: Structure
) -> Response:
    """Each channel's response with its derivatives."""
    model = kind.model
    count = len(ADSTOCK_PARAMETERS[model.adstock])
    weights, tangents = adstock.weights_and_tangents(
        model.adstock, shape[:count], window=model.window, normalise=model.normalise
    )
    if model.adstock == "none":
        weights = jnp.ones((1, *media.shape[1:]), media.dtype)
    return respond(
        media,
        weights=weights,
        tangents=tangents,
        family=model.saturation,
        parameters=shape[count:],
        adstock_first=model.adstock_first,
    )


def evaluate_density(
    position: Float[Array, "coordinate lane"], tile: Tile, series: Series, kind: Structure
) -> Evaluation:
    """Log-posterior and gradient at each lane's position.

    Args:
        position: Unconstrained coordinates: parameter by parameter, each over the channels, the noise last.
        tile: The units' data.
        series: `tile.series(kind.chains)`, made once outside the loop that calls this.
        kind: The program's structure.
    """
    chains = position.shape[-1] // tile.media.shape[-1]
    hyper = jnp.repeat(tile.hyper, chains, axis=-1)
    shapes = len(kind.laws) - 2
    drawn = [
        priors.with_slope(priors.constrain, kind.laws[j], *_of_parameter(position, hyper, j, kind))
        for j in range(shapes)
    ]
    prior = [
        priors.with_slope(priors.log_density, kind.laws[j], *_of_parameter(position, hyper, j, kind))
        for j in range(shapes)
    ]
    u, strength_hyper = _of_parameter(position, hyper, shapes, kind)
    ramp, ramp_slope = _with_slope(log_ramp, u)
    jacobian, jacobian_slope = _with_slope(_log_ramp_slope, u)
    log_strength = ramp + jnp.repeat(tile.log_strength_unit, chains, axis=-1)
    noise, noise_slope = priors.with_slope(priors.constrain, kind.laws[-1], position[-1], hyper[:, -1])
    noise_prior, noise_prior_slope = priors.with_slope(
        priors.log_density, kind.laws[-1], position[-1], hyper[:, -1]
    )

    as_mean = kind.model.coordinate != "effect"
    likelihood = evaluate(
        series,
        response(series.media, tuple(value for value, _ in drawn), kind),
        jnp.exp(log_strength),
        jnp.log(noise),
        strength_is_mean=as_mean,
    )
    log_effect = log_strength - jnp.log(likelihood.mean_response) if as_mean else log_strength
    effect_prior, effect_slope = priors.with_slope(
        priors.log_density, kind.laws[shapes], log_effect, strength_hyper
    )
    # d/d log(effect) of everything: the coordinate moves the effect one to one in logarithms, and, where it is the
    # mean contribution, each shape parameter moves the effect against the mean response.
    by_log_effect = likelihood.by_effect * likelihood.effect + effect_slope
    through_mean = by_log_effect / likelihood.mean_response if as_mean else jnp.zeros_like(by_log_effect)
    by_shape = [
        (direct - through_mean * series.active * mean) * slope + prior_slope
        for direct, mean, (_, slope), (_, prior_slope) in zip(
            likelihood.by_shape, likelihood.mean_by_shape, drawn, prior, strict=True
        )
    ]
    by_noise = likelihood.by_log_noise * noise_slope / noise + noise_prior_slope
    value = likelihood.value + noise_prior + jnp.sum(effect_prior + jacobian, axis=0)
    for term, _ in prior:
        value = value + jnp.sum(term, axis=0)
    return Evaluation(
        value=value,
        gradient=jnp.concatenate([*by_shape, by_log_effect * ramp_slope + jacobian_slope, by_noise[None]]),
        extra=jnp.concatenate([likelihood.mean_response, likelihood.projection]),
    )


def _log_ramp_slope(u: Array) -> Array:
    """Log derivative of `log_ramp`: Phi over the ramp."""
    return log_normal_cdf(u) - log_ramp(u)


def _with_slope(function: Callable[[Array], Array], u: Array) -> tuple[Array, Array]:
    return jax.jvp(function, (u,), (jnp.ones_like(u),))


def _of_parameter(
    position: Array, hyper: Array, index: int, kind: Structure
) -> tuple[Float[Array, "channel lane"], Float[Array, "row channel lane"]]:
    """Coordinates and prior data of the channel parameter at `index`."""
    rows = slice(index * kind.channels, (index + 1) * kind.channels)
    return position[rows], hyper[:, rows]
