"""Media: what they bring, week by week and draw by draw, under any plan. The curves are those of the kernels.

Everything here is on the model's scale of media and in KPI, for many units at once, and runs on the device in the
precision of its arguments.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.config import Model, priors
from mixfleet.config.priors import ADSTOCK_PARAMETERS, Distribution, Parameter
from mixfleet.errors import ConfigError
from mixfleet_kernels import adstock, saturation

__all__ = [
    "Curves",
    "Response",
    "in_chunks",
    "register_adstock",
    "register_saturation",
    "respond",
    "steady",
    "windows",
]


class Curves(NamedTuple):
    """Draws of what shapes the response of every channel."""

    shape: Float[Array | np.ndarray, "parameter unit channel draw"]
    """Adstock, then saturation parameters, on the model's scale."""
    effect: Float[Array | np.ndarray, "unit channel draw"]
    """In KPI."""


class Response(NamedTuple):
    """Response by week."""

    contribution: Float[Array, "week unit channel draw"]
    """KPI that the week owes to the channel's media of that and earlier weeks."""
    derivative: Float[Array, "week unit channel draw"]
    """Of the effect times the saturation, by what is saturated."""


@partial(jax.jit, static_argnames=("model", "first"))
def respond(media: Float[Array, "week unit channel"], curves: Curves, *, model: Model, first: int = 0) -> Response:
    """Contributions of a media plan.

    Args:
        media: In shares of each channel's scale; nothing comes before its first week.
        curves: Draws of the channels' curves.
        model: Families, window and order of carry-over and saturation.
        first: Weeks that are left out of what is returned: history, which only carries over.
    """
    effect, parameters = curves.effect[None], _saturation_parameters(curves, model)
    wide = _wide(media, curves)
    seen = _carried(wide, curves, model)[first:] if model.adstock_first else wide
    # Kept apart, or the compiler carries media over once for the value and once more for the derivative.
    value, derivative, _ = saturation.value_and_partials(
        model.saturation, jax.lax.optimization_barrier(seen), parameters
    )
    if not model.adstock_first:
        value, derivative = _carried(value, curves, model)[first:], derivative[first:]
    return Response(value * effect, derivative * effect)


@partial(jax.jit, static_argnames="model")
def steady(
    levels: Float[Array, "level unit channel"], curves: Curves, *, model: Model
) -> tuple[Float[Array, "level unit channel draw"], Float[Array, "level unit channel draw"]]:
    """Weekly KPI with media held at each level for ever, and its derivative by the level."""
    # At a steady level the window only multiplies: before the saturation or after it.
    gain = jnp.broadcast_to(jnp.sum(windows(curves, model), axis=0), curves.effect.shape)[None]
    before, after = (gain, jnp.ones_like(gain)) if model.adstock_first else (jnp.ones_like(gain), gain)
    media = _wide(levels, curves) * before
    value, slope, _ = saturation.value_and_partials(model.saturation, media, _saturation_parameters(curves, model))
    strength = after * curves.effect[None]
    return value * strength, slope * before * strength


def in_chunks(function: Callable[[Curves], Any], curves: Curves, *, size: int) -> Any:
    """`function` of all draws, at most `size` at a time; what it returns must have the draws as last axis."""
    draws = curves.effect.shape[-1]
    chunks = -(-draws // size)
    length = -(-draws // chunks)

    def split(values: Array) -> Array:
        padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, chunks * length - draws)], mode="edge")
        return jnp.moveaxis(padded.reshape(*values.shape[:-1], chunks, length), -2, 0)

    def join(values: Array) -> Array:
        joined = jnp.moveaxis(values, 0, -2)
        return joined.reshape(*joined.shape[:-2], chunks * length)[..., :draws]

    return jax.tree.map(join, jax.lax.map(function, jax.tree.map(split, curves)))


def windows(curves: Curves, model: Model) -> Float[Array, "window *lane"]:
    """Weights of the carry-over window by lag; without lanes where the family has no parameters."""
    count = len(ADSTOCK_PARAMETERS[model.adstock])
    parameters = tuple(curves.shape[:count])
    return adstock.weights(model.adstock, parameters, window=model.window, normalise=model.normalise)


def _wide(media: Float[Array, "week unit channel"], curves: Curves) -> Float[Array, "week unit channel draw"]:
    return jnp.broadcast_to(media[..., None], (*media.shape, curves.effect.shape[-1]))


def _carried(values: Float[Array, "week *lane"], curves: Curves, model: Model) -> Float[Array, "week *lane"]:
    return adstock.convolve(values, windows(curves, model))


def _saturation_parameters(curves: Curves, model: Model) -> tuple[Array, ...]:
    return tuple(curves.shape[len(ADSTOCK_PARAMETERS[model.adstock]) :])


def register_adstock(name: str, weight: Callable[..., Array], parameters: Mapping[str, Distribution]) -> None:
    """An adstock family for `model.adstock`; it runs in the native kernel too, which takes any window.

    Args:
        name: What settings call it.
        weight: See `mixfleet_kernels.adstock.register`.
        parameters: Usual prior of each parameter, in the order that `weight` takes them.

    Raises:
        ConfigError: There is such a family already, or a parameter of one of the names with another prior.
    """
    _register("adstock", name, parameters, priors.ADSTOCK_PARAMETERS)
    adstock.register(name, tuple(parameters), weight)


def register_saturation(name: str, curve: Callable[..., Array], parameters: Mapping[str, Distribution]) -> None:
    """A saturation family for `model.saturation`; it runs in XLA.

    Args:
        name: What settings call it.
        curve: See `mixfleet_kernels.saturation.register`.
        parameters: Usual prior of each parameter, in the order that `curve` takes them.

    Raises:
        ConfigError: There is such a family already, or a parameter of one of the names with another prior.
    """
    _register("saturation", name, parameters, priors.SATURATION_PARAMETERS)
    saturation.register(name, tuple(parameters), curve)


def _register(
    kind: str, name: str, parameters: Mapping[str, Distribution], families: dict[str, tuple[str, ...]]
) -> None:
    if name in families:
        raise ConfigError(f"there is a family {name!r} already", key=f"model.{kind}")
    added = {key: Parameter(level="channel", support=prior.support, default=prior) for key, prior in parameters.items()}
    priors.add_parameters(added)
    families[name] = tuple(parameters)
