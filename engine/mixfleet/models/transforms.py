"""Transforms: from a position's coordinates to parameters, adstock windows and each channel's response."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.media import joined
from mixfleet.models.parameters import Block
from mixfleet.models.priors.families import FAMILIES
from mixfleet.models.strength import log_strength
from mixfleet_kernels import adstock
from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.likelihood import LEAST_MEAN_RESPONSE, Series, expand, respond

__all__ = [
    "Evaluation",
    "Natural",
    "block_values",
    "decay_of",
    "measured_response",
    "natural",
    "response",
    "scale_ratios",
    "windows",
    "without_sampled",
]


Values = TypeVar("Values", Array, np.ndarray)
"""On device, or brought to the host."""


class Evaluation(NamedTuple):
    """The log posterior of every lane at its position."""

    value: Float[Array, " lane"]
    gradient: Float[Array, "coordinate lane"]
    extra: Float[Array, "extra lane"]
    """Kept with every draw: mean response by channel, then the projection onto the linear block's basis, or, where
    the coefficients are sampled, their values along it, or, where their scales are learned, the coefficients' means."""


class Natural(NamedTuple):
    """Positions as parameters of the model."""

    shape: tuple[Float[Array, "row lane"], ...]
    """Of each of `ParameterLayout.shapes`, over the channels that have it."""
    strength: Float[Array, "channel lane"]
    """Effect or mean contribution, as the coordinate has it."""
    observation: tuple[Float[Array, " lane"], ...]
    """Parameters of the observation, its scale first, then scales of the baseline's coefficients."""


def natural(
    position: Float[Array, "coordinate lane"],
    hyper: Float[Array, "row coordinate lane"],
    structure: Structure,
    batch: UnitBatch,
) -> Natural:
    """The parameters at `position`."""
    layout = structure.layout
    chains = position.shape[-1] // batch.media.shape[-1]
    unit = jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    return Natural(
        shape=tuple(block_values(block, position, hyper) for block in layout.shapes),
        strength=jnp.exp(log_strength(position[layout.effect.rows], structure.strengths) + unit),
        observation=tuple(
            FAMILIES[block.family].constrain(position[block.first], hyper[:, block.first])
            for block in layout.observation
        ),
    )


def without_sampled(
    series: Series, coefficients: Float[Array, "sampled lane"], batch: UnitBatch
) -> tuple[Series, Float[Array, "column sampled lane"]]:
    """The series less what the sampled columns make of these coefficients, and the columns along the basis."""
    chains = series.kpi.shape[-1] // batch.media.shape[-1]
    along = jnp.repeat(batch.along, chains, axis=-1)
    made = expand(series.basis, jnp.sum(along * coefficients[None], axis=1))
    return series._replace(kpi=series.kpi - made), along


def scale_ratios(scales: Sequence[Values], batch: UnitBatch, structure: Structure) -> Values:
    """Each coefficient's standard deviation over the one that stands for its scale's prior; one where it is known."""
    library, chains = library_of(batch.reference), len(scales[0]) // batch.reference.shape[-1]
    ratios = library.stack(list(scales)) / library.repeat(batch.reference, chains, axis=-1)
    known = library.ones_like(ratios[:1])
    of_column = np.zeros(structure.columns, int)
    for place, (_, columns) in enumerate(structure.scales, start=1):
        of_column[list(columns)] = place
    return library.concatenate([known, ratios])[of_column]


def block_values(
    block: Block, position: Float[Array, "coordinate *lane"], hyper: Float[Array, "row column *#lane"]
) -> Float[Array, "row *lane"]:
    """The parameter at the block's coordinates, or its known values."""
    if block.fixed:
        return jnp.broadcast_to(hyper[0, block.rows], (block.size, *position.shape[1:]))
    return FAMILIES[block.family].constrain(position[block.rows], hyper[:, block.rows])


def response(
    media: Float[Array, "week channel lane"], shape: tuple[Float[Array, "row lane"], ...], structure: Structure
) -> Float[Array, "week channel lane"]:
    """Each channel's adstocked and saturated media."""
    slots = structure.layout.to_slots(shape)
    weights, tangents, parameters = windows(slots, media.shape[1:], structure)
    return respond(
        media,
        weights=weights,
        tangents=tangents,
        family=tuple(form.saturation for form in structure.term.forms),
        parameters=parameters,
        adstock_first=tuple(form.adstock_first for form in structure.term.forms),
    ).value


def measured_response(
    slots: tuple[Float[Array, "channel lane"], ...],
    mean: Float[Array, "channel lane"],
    mean_by_shape: tuple[Float[Array, "channel lane"], ...],
    media: Float[Array, "week channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> tuple[Float[Array, "channel lane"], tuple[Float[Array, "channel lane"], ...]]:
    """What the measures of strengths are proportional to, at an effect of one, and its derivatives by slot.

    That is the mean response, given with its own derivatives, or the weighted change of the response.
    """
    chains = media.shape[-1] // batch.media.shape[-1]
    changed, weight = (jnp.repeat(values, chains, axis=-1) for values in (batch.changed_media, batch.change_weight))
    weights, tangents, parameters = windows(slots, media.shape[1:], structure)
    forms = structure.term.forms
    before, after = (
        respond(
            path,
            weights=weights,
            tangents=tangents,
            family=tuple(form.saturation for form in forms),
            parameters=parameters,
            adstock_first=tuple(form.adstock_first for form in forms),
        )
        for path in (media, changed)
    )
    some = jnp.any(weight != 0, axis=0)

    def change(whole: Array, before: Array, after: Array) -> Array:
        return jnp.where(some, jnp.sum(weight * (after - before), axis=0), whole)

    value = jnp.maximum(change(mean, before.value, after.value), LEAST_MEAN_RESPONSE)
    return value, tuple(map(change, mean_by_shape, before.partials, after.partials))


def windows(
    slots: tuple[Array, ...], extent: tuple[int, ...], structure: Structure
) -> tuple[Float[Array, "window channel lane"], tuple[Array, ...], tuple[Array, ...]]:
    """The adstock windows, their tangents by slot, and the slots that are left for the saturation."""
    term, count = structure.term, structure.layout.adstock_slots
    if count == 0:
        return jnp.ones((1, *extent), structure.dtype), (), slots
    parts = []
    for group in term.groups:
        form, own = group.form, group.own(slots[:count], 0)
        channels = len(group.channels or term.forms)
        known = len(form.adstock_parameters)
        if known:
            weights, tangents = adstock.weights_and_tangents(form.adstock, own[:known], **form.window_options)
        else:
            weights, tangents = jnp.ones((1, channels, extent[1]), structure.dtype), ()
        longer = [(0, term.window - len(weights)), (0, 0), (0, 0)]
        padded = [jnp.pad(values, longer) if longer[0][1] else values for values in (weights, *tangents)]
        nothing = jnp.zeros((term.window, channels, extent[1]), structure.dtype)
        parts.append((padded[0], (*padded[1:], *[nothing] * (count - known))))
    weights, tangents = joined(term, parts, 1)
    return weights, tangents, slots[count:]


def decay_of(
    slots: tuple[Float[Array, "channel lane"], ...], structure: Structure
) -> Float[Array, "channel lane"] | None:
    """The decays where every window is geometric and of one kind, which the native kernel carries by recursion."""
    forms = structure.term.forms
    kinds = {(form.adstock, form.window, form.normalise) for form in forms}
    return slots[0] if len(kinds) == 1 and forms[0].adstock == "geometric" else None
