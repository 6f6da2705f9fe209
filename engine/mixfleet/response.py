"""Response: what media bring, week by week and draw by draw, under any plan. The curves are those of the kernels.

Everything here is on the model's scale of media and in KPI, for many units at once, and runs on the device in the
precision of its arguments.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.config import ADSTOCK_PARAMETERS, Model
from mixfleet_kernels import adstock, saturation

__all__ = ["Curves", "Response", "respond", "steady", "windows"]


class Curves(NamedTuple):
    """Draws of what shapes the response of every channel."""

    shape: Float[Array, "parameter unit channel draw"]
    """Adstock, then saturation parameters, on the model's scale."""
    effect: Float[Array, "unit channel draw"]
    """In KPI."""


class Response(NamedTuple):
    """Response by week."""

    contribution: Float[Array, "week unit channel draw"]
    """KPI that week owes to the channel's media of that and earlier weeks."""
    slope: Float[Array, "week unit channel draw"]
    """Change of `contribution` when the media marked as moving grow in proportion: per 100 %, at the margin."""


@partial(jax.jit, static_argnames="model")
def respond(
    media: Float[Array, "week unit channel"],
    curves: Curves,
    *,
    model: Model,
    moving: Float[Array, "week unit channel"] | None = None,
) -> Response:
    """Contributions of a media plan, and their slope along `moving`.

    Args:
        media: In shares of each channel's scale; nothing comes before its first week.
        curves: Draws of the channels' curves.
        model: Families, window and order of carry-over and saturation.
        moving: The part of `media` that the slope is about, such as one period's; all of it by default.
    """
    lanes = (*media.shape, curves.effect.shape[-1])
    effect = curves.effect[None]
    weights, parameters = windows(curves, model), _saturation_parameters(curves, model)

    def wide(values: Array) -> Array:
        return jnp.broadcast_to(values[..., None], lanes)

    if model.adstock_first:
        carried = jax.lax.optimization_barrier(adstock.convolve(wide(media), weights))
        share = carried if moving is None else adstock.convolve(wide(moving), weights)
        value, slope, _ = saturation.value_and_partials(model.saturation, carried, parameters)
        return Response(value * effect, slope * share * effect)
    value, slope, _ = saturation.value_and_partials(model.saturation, wide(media), parameters)
    return Response(
        adstock.convolve(value, weights) * effect,
        adstock.convolve(slope * wide(media if moving is None else moving), weights) * effect,
    )


@partial(jax.jit, static_argnames="model")
def steady(
    levels: Float[Array, "level unit channel"], curves: Curves, *, model: Model
) -> tuple[Float[Array, "level unit channel draw"], Float[Array, "level unit channel draw"]]:
    """Weekly KPI with media held at each level for ever, and its derivative by the level."""
    # At a steady level the window only multiplies: before the saturation or after it.
    gain = jnp.broadcast_to(jnp.sum(windows(curves, model), axis=0), curves.effect.shape)[None]
    before, after = (gain, jnp.ones_like(gain)) if model.adstock_first else (jnp.ones_like(gain), gain)
    media = jnp.broadcast_to(levels[..., None], (*levels.shape, curves.effect.shape[-1]))
    value, slope, _ = saturation.value_and_partials(
        model.saturation, media * before, _saturation_parameters(curves, model)
    )
    strength = after * curves.effect[None]
    return value * strength, slope * before * strength


def windows(curves: Curves, model: Model) -> Float[Array, "window *lane"]:
    """Weights of the carry-over window by lag; without lanes where the family has no parameters."""
    count = len(ADSTOCK_PARAMETERS[model.adstock])
    parameters = tuple(curves.shape[:count])
    return adstock.weights(model.adstock, parameters, window=model.window, normalise=model.normalise)


def _saturation_parameters(curves: Curves, model: Model) -> tuple[Array, ...]:
    return tuple(curves.shape[len(ADSTOCK_PARAMETERS[model.adstock]) :])
