"""Density: the unconstrained log-posterior of a tile's lanes, with gradient, in one pass."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.config.priors import ADSTOCK_PARAMETERS
from mixfleet.models import families
from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.bijectors import log_softplus_normal, log_softplus_normal_slope
from mixfleet_kernels import adstock
from mixfleet_kernels.likelihood import Series, likelihood, respond
from mixfleet_kernels.reductions import sum_rows

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
    position: Float[Array, "coordinate lane"],
    hyper: Float[Array, "row coordinate lane"],
    structure: Structure,
    batch: UnitBatch,
) -> Natural:
    """The parameters at `position`."""
    shapes = len(structure.laws) - 2
    values = tuple(
        families.constrain(structure.laws[j], *_of_parameter(position, hyper, j, structure)) for j in range(shapes)
    )
    u, _ = _of_parameter(position, hyper, shapes, structure)
    chains = position.shape[-1] // batch.media.shape[-1]
    unit = jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    noise = families.constrain(structure.laws[-1], position[-1], hyper[:, -1])
    return Natural(shape=values, strength=jnp.exp(_log_strength(u, structure) + unit), noise=noise)


def response(
    media: Float[Array, "week channel lane"], shape: tuple[Float[Array, "channel lane"], ...], structure: Structure
) -> Float[Array, "week channel lane"]:
    """Each channel's adstocked and saturated media."""
    model = structure.model
    weights, tangents, parameters = _windows(shape, media.shape[1:], structure)
    return respond(
        media,
        weights=weights,
        tangents=tangents,
        family=model.saturation,
        parameters=parameters,
        adstock_first=model.adstock_first,
    ).value


def evaluate_density(
    position: Float[Array, "coordinate lane"], batch: UnitBatch, series: Series, structure: Structure
) -> Evaluation:
    """Log-posterior and gradient at each lane's position.

    Args:
        position: Unconstrained coordinates: parameter by parameter, each over the channels, the noise last.
        batch: The units' data.
        series: `batch.series(kind.chains)`, made once outside the loop that calls this.
        structure: The program's structure.
    """
    chains = position.shape[-1] // batch.media.shape[-1]
    hyper = jnp.repeat(batch.hyper, chains, axis=-1)
    shapes = len(structure.laws) - 2
    drawn, prior = _shapes(position, hyper, structure)
    u, strength_hyper = _of_parameter(position, hyper, shapes, structure)
    softplus_normal, softplus_normal_slope = _with_slope(partial(_log_strength, structure=structure), u)
    jacobian, jacobian_slope = _with_slope(partial(_log_slope, structure=structure), u)
    log_strength = softplus_normal + jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    noise, noise_slope = families.with_slope(families.constrain, structure.laws[-1], position[-1], hyper[:, -1])
    noise_prior, noise_prior_slope = families.with_slope(
        families.log_density, structure.laws[-1], position[-1], hyper[:, -1]
    )

    as_mean = structure.model.coordinate != "effect"
    weights, tangents, parameters = _windows(tuple(value for value, _ in drawn), u.shape, structure)
    data = likelihood(
        series,
        weights,
        tangents,
        structure.model.saturation,
        parameters,
        jnp.exp(log_strength),
        jnp.log(noise),
        strength_is_mean=as_mean,
        adstock_first=structure.model.adstock_first,
        unit_media=batch.media,
        decay=drawn[0][0] if structure.model.adstock == "geometric" else None,
        normalised=structure.model.normalise,
    )
    log_effect = log_strength - jnp.log(data.mean_response) if as_mean else log_strength
    effect_prior, effect_slope = families.with_slope(
        families.log_density, structure.laws[shapes], log_effect, strength_hyper
    )
    # d/d log(effect) of everything: the coordinate moves the effect one to one in logarithms, and, where it is the
    # mean contribution, each shape parameter moves the effect against the mean response.
    by_log_effect = data.by_effect * data.effect + effect_slope
    through_mean = by_log_effect / data.mean_response * series.active if as_mean else jnp.zeros_like(by_log_effect)
    by_shape = [
        (direct - through_mean * mean) * slope + prior_slope
        for direct, mean, (_, slope), (_, prior_slope) in zip(
            data.by_shape, data.mean_by_shape, drawn, prior, strict=True
        )
    ]
    by_noise = data.by_log_noise * noise_slope / noise + noise_prior_slope
    logs = sum((log for log, _ in prior), effect_prior + jacobian)
    return Evaluation(
        value=data.value + noise_prior + sum_rows(logs),
        gradient=jnp.concatenate([*by_shape, by_log_effect * softplus_normal_slope + jacobian_slope, by_noise[None]]),
        extra=jnp.concatenate([data.mean_response, data.projection]),
    )


def _log_strength(u: Array, structure: Structure) -> Array:
    """The strength's logarithm, in its unit: bent where the law has mass at zero, which a lognormal has not."""
    return u if structure.laws[-2] == "lognormal" else log_softplus_normal(u)


def _log_slope(u: Array, structure: Structure) -> Array:
    """Log of the derivative of `_log_strength`."""
    return jnp.zeros_like(u) if structure.laws[-2] == "lognormal" else log_softplus_normal_slope(u)


def _shapes(
    position: Array, hyper: Array, structure: Structure
) -> tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]]:
    """Adstock and saturation parameters, and their log priors, each with its slope in the coordinate."""
    rows = [(structure.laws[j], *_of_parameter(position, hyper, j, structure)) for j in range(len(structure.laws) - 2)]
    drawn = [families.with_slope(families.constrain, *row) for row in rows]
    return drawn, [families.with_slope(families.log_density, *row) for row in rows]


def _windows(
    shape: tuple[Array, ...], extent: tuple[int, ...], structure: Structure
) -> tuple[Float[Array, "window channel lane"], tuple[Array, ...], tuple[Array, ...]]:
    """The adstock windows, their tangents, and the parameters that are left for the saturation."""
    model = structure.model
    count = len(ADSTOCK_PARAMETERS[model.adstock])
    if count == 0:
        return jnp.ones((1, *extent), structure.dtype), (), shape
    weights, tangents = adstock.weights_and_tangents(
        model.adstock, shape[:count], window=model.window, normalise=model.normalise
    )
    return weights, tangents, shape[count:]


def _with_slope(function: Callable[[Array], Array], u: Array) -> tuple[Array, Array]:
    return jax.jvp(function, (u,), (jnp.ones_like(u),))


def _of_parameter(
    position: Array, hyper: Array, index: int, structure: Structure
) -> tuple[Float[Array, "channel lane"], Float[Array, "row channel lane"]]:
    """Coordinates and prior data of the channel parameter at `index`."""
    rows = slice(index * structure.channels, (index + 1) * structure.channels)
    return position[rows], hyper[:, rows]
