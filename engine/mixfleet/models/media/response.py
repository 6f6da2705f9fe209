"""Response: draws of curves, and what they make of media. The one place that puts carry-over and saturation together.

Functions take the draws of channels of one form; `by_form` calls such a function for each form and joins what it gives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.config.model import STRUCTURE, MediaForm
from mixfleet.models.media.term import FormGroup, MediaTerm, joined
from mixfleet_kernels import adstock, native_library, response, saturation
from mixfleet_kernels.channel_form import ADSTOCKS, SATURATIONS, ChannelForm

__all__ = [
    "Curves",
    "by_form",
    "held",
    "in_chunks",
    "native_curves",
    "native_forms",
    "saturated",
    "steady",
    "window",
    "windows",
]


class Curves(NamedTuple):
    """Draws of what shapes the response of every channel."""

    shape: Float[Array | np.ndarray, "parameter *unit channel draw"]
    """The parameters of `MediaTerm.parameters`, on the model's scale; anything where a channel has not that one."""
    effect: Float[Array | np.ndarray, "*unit channel draw"]
    """In KPI."""


def by_form(term: MediaTerm, curves: Curves, function: Callable[[FormGroup, Curves], Any], *, axis: int) -> Any:
    """`function` of each form's channels and of the draws of their own parameters, joined along its channel axis."""

    def own(group: FormGroup) -> Curves:
        shape = curves.shape[np.array(group.parameters)] if group.parameters else curves.shape
        shape = shape if group.form.parameters else curves.shape[:0]
        return Curves(group.own(shape, -2), group.own(curves.effect, -2))

    return joined(term, [function(group, own(group)) for group in term.groups], axis)


def window(curves: Curves, form: MediaForm) -> Float[Array, "window *unit channel draw"]:
    """Weights of the carry-over window by lag."""
    if form.alternatives:
        return _of_structure(curves, form, [window(*own) for own in _alternatives(curves, form)])
    parameters = tuple(curves.shape[: len(form.adstock_parameters)])
    found = adstock.weights(form.adstock, parameters, **form.window_options)
    # A family without parameters has one window for all.
    if parameters:
        return found
    found = found.astype(curves.effect.dtype).reshape(-1, *[1] * np.ndim(curves.effect))
    return jnp.broadcast_to(found, (len(found), *np.shape(curves.effect)))


def windows(curves: Curves, term: MediaTerm) -> Float[Array, "window *unit channel draw"]:
    """Weights of every channel's window by lag, zero beyond a shorter one's last."""

    def of_form(group: FormGroup, own: Curves) -> Array:
        found = window(own, group.form)
        return jnp.pad(found, [(0, term.window - len(found)), *[(0, 0)] * (found.ndim - 1)])

    return by_form(term, curves, of_form, axis=-2)


def saturated(
    media: Float[Array, "*week channel draw"], curves: Curves, form: MediaForm, *, week: int
) -> tuple[Float[Array, "*week channel draw"], Float[Array, "*week channel draw"]]:
    """The saturation of media and its derivative; `week` is the axis of the media that draws do not have."""
    if form.alternatives:
        found = [saturated(media, *own, week=week) for own in _alternatives(curves, form)]
        return _of_structure(curves, form, found, week=week)
    parameters = tuple(jnp.expand_dims(parameter, week) for parameter in curves.shape[len(form.adstock_parameters) :])
    return saturation.value_and_partials(form.saturation, media, parameters)[:2]


def _alternatives(curves: Curves, form: MediaForm) -> list[tuple[Curves, MediaForm]]:
    """Each structure's form of the channels, and the draws of its parameters; NaN in draws of another structure."""
    places = {name: place for place, name in enumerate(form.parameters)}
    rows = [np.array([places[name] for name in own.parameters], int) for own in form.alternatives]
    return [(curves._replace(shape=curves.shape[own]), one) for own, one in zip(rows, form.alternatives, strict=True)]


def _of_structure(curves: Curves, form: MediaForm, found: list[Any], *, week: int | None = None) -> Any:
    """What was found under each structure, picked draw by draw."""
    place = jnp.asarray(curves.shape[form.parameters.index(STRUCTURE)])
    place = place if week is None else jnp.expand_dims(place, week)

    def pick(*values: Array) -> Array:
        chosen = values[0]
        for number, other in enumerate(values[1:], start=1):
            chosen = jnp.where(place == number, other, chosen)
        return chosen

    return jax.tree.map(pick, *found)


def native_forms(term: MediaTerm) -> tuple[ChannelForm, ...] | None:
    """The channels' forms where native code has them all."""

    def known(form: MediaForm) -> bool:
        return not form.alternatives and form.adstock in ADSTOCKS and form.saturation in SATURATIONS

    if not native_library.available() or not all(map(known, term.forms)):
        return None
    return tuple(
        ChannelForm(
            form.adstock,
            1 if form.adstock == "none" else form.window,
            form.normalise,
            form.window_convention == "pymc_marketing",
            form.saturation,
            form.adstock_first,
        )
        for form in term.forms
    )


def native_curves(curves: Curves, term: MediaTerm) -> response.Curves | None:
    """The draws as native code takes them, where it has the channels' forms."""
    if (forms := native_forms(term)) is None:
        return None
    places = [[term.parameters.index(name) for name in form.parameters] for form in term.forms]
    return response.Curves(forms, places, np.asarray(curves.shape), np.asarray(curves.effect))


def steady(
    levels: Float[np.ndarray, "level channel"], curves: Curves, *, term: MediaTerm
) -> tuple[Float[np.ndarray, "level channel draw"], Float[np.ndarray, "level channel draw"]]:
    """One unit's weekly KPI with media held at each level for ever, and its derivative by the level.

    In native code where it has the channels' forms, which needs no program compiled; else in XLA.
    """
    if (own := native_curves(curves, term)) is None:
        kpi, slope = _steady(levels, curves, term=term)
        return np.asarray(kpi), np.asarray(slope)
    return response.saturate(levels, own)


def held(
    levels: Float[np.ndarray, "level channel"], curves: Curves, *, term: MediaTerm
) -> Float[np.ndarray, "level channel draw"]:
    """The KPI of `steady` alone."""
    if (own := native_curves(curves, term)) is None:
        return np.asarray(_steady(levels, curves, term=term)[0])
    return response.held(levels, own)


@partial(jax.jit, static_argnames="term")
def _steady(levels: Array, curves: Curves, *, term: MediaTerm) -> tuple[Array, Array]:
    def of_form(group: FormGroup, own: Curves) -> tuple[Array, Array]:
        # At a steady level the window only multiplies: before the saturation or after it.
        gain, own_levels = jnp.sum(window(own, group.form), axis=0)[None], group.own(levels, -1)
        one = jnp.ones_like(gain)
        before, after = (gain, one) if group.form.adstock_first else (one, gain)
        media = jnp.broadcast_to(own_levels[..., None], (*own_levels.shape, own.effect.shape[-1])) * before
        value, slope = saturated(media, own, group.form, week=0)
        strength = after * own.effect[None]
        return value * strength, slope * before * strength

    return by_form(term, curves, of_form, axis=-2)


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
