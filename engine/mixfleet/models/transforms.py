"""Transforms: from a position's coordinates to parameters, adstock windows and each channel's response."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.parameters import Block
from mixfleet.models.priors.families import FAMILIES
from mixfleet.models.strength import log_strength
from mixfleet_kernels import adstock
from mixfleet_kernels.likelihood import respond

__all__ = ["Evaluation", "Natural", "natural", "response", "windows"]


class Evaluation(NamedTuple):
    """The log posterior of every lane at its position."""

    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]
    """Kept with every draw: mean response by channel, then the projection onto the linear block's basis, or, where
    the coefficients are sampled, their values along it."""


class Natural(NamedTuple):
    """Positions as parameters of the model."""

    shape: tuple[Float[Array, "channel lane"], ...]
    """Adstock, then saturation parameters."""
    strength: Float[Array, "channel lane"]
    """Effect or mean contribution, as the coordinate has it."""
    observation: tuple[Float[Array, " lane"], ...]
    """Parameters of the observation, its scale first."""


def natural(
    position: Float[Array, "coordinate lane"],
    hyper: Float[Array, "row coordinate lane"],
    structure: Structure,
    batch: UnitBatch,
) -> Natural:
    """The parameters at `position`."""
    layout = structure.layout

    def value(block: Block, rows: slice | int) -> Array:
        return FAMILIES[block.family].constrain(position[rows], hyper[:, rows])

    chains = position.shape[-1] // batch.media.shape[-1]
    unit = jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    return Natural(
        shape=tuple(value(block, block.rows) for block in layout.shapes),
        strength=jnp.exp(log_strength(position[layout.effect.rows], structure.strengths) + unit),
        observation=tuple(value(block, block.first) for block in layout.observation),
    )


def response(
    media: Float[Array, "week channel lane"], shape: tuple[Float[Array, "channel lane"], ...], structure: Structure
) -> Float[Array, "week channel lane"]:
    """Each channel's adstocked and saturated media."""
    weights, tangents, parameters = windows(shape, media.shape[1:], structure)
    return respond(
        media,
        weights=weights,
        tangents=tangents,
        family=structure.model.saturation,
        parameters=parameters,
        adstock_first=structure.model.adstock_first,
    ).value


def windows(
    shape: tuple[Array, ...], extent: tuple[int, ...], structure: Structure
) -> tuple[Float[Array, "window channel lane"], tuple[Array, ...], tuple[Array, ...]]:
    """The adstock windows, their tangents, and the parameters that are left for the saturation."""
    model = structure.model
    count = len(structure.layout.adstock)
    if count == 0:
        return jnp.ones((1, *extent), structure.dtype), (), shape
    weights, tangents = adstock.weights_and_tangents(
        model.adstock, shape[:count], window=model.window, normalise=model.normalise
    )
    return weights, tangents, shape[count:]
