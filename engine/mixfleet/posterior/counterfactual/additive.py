"""What one unit's channels bring by window of time, and against the same past without a window's media.

Everything is in KPI and its value, draw by draw, carry-over included. Arrays are [channel, week, draw] inside, so that
carry-over and sums over weeks are products of matrices, which is several times as fast as adding week by week.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixfleet.config.model import MediaForm
from mixfleet.models.media import Curves, FormGroup, MediaTerm, by_form, in_chunks, native_curves, saturated, window
from mixfleet_kernels import adstock
from mixfleet_kernels.response import Response, respond, slopes

__all__ = [
    "Difference",
    "by_week",
    "by_window",
    "contributions",
    "decompose",
    "responses",
    "value_weights",
    "weekly",
    "whole",
]

CHUNK = 100
"""Draws that are evaluated at once: so few that a unit's response stays in the processor's cache."""

ROUNDING = 1e-12
"""Share of a level below which a difference of two levels is rounding, of which steep curves would make something."""


class Difference(NamedTuple):
    """By window: contributions, and what the window's media make of a difference."""

    contribution: Float[Array | np.ndarray, "window channel draw"]
    """KPI in the window's weeks."""
    lost: Float[Array | np.ndarray, "weight window channel draw"]
    """What would be missing without the window's media, weighed by each column of the weights."""
    slope: Float[Array | np.ndarray, "weight window channel draw"]
    """Its change per 100 % more of the window's media, at the margin."""
    within: Float[Array | np.ndarray, "window channel draw"]
    """Of `lost` under the first weight, what would be missing in the window's own weeks."""


@partial(jax.jit, static_argnames="term")
def contributions(
    media: Float[Array | np.ndarray, "week channel"],
    within: Float[Array | np.ndarray, "week window channel"],
    curves: Curves,
    *,
    term: MediaTerm,
) -> Float[Array, "window channel draw"]:
    """KPI by window, the weeks of which each channel may weigh differently; a channel axis of 1 is for all."""
    wide = jnp.moveaxis(jnp.broadcast_to(within, (*within.shape[:2], media.shape[1])), -1, 0)

    def of_form(group: FormGroup, part: Curves) -> Array:
        value = _respond(group.own(media, 1), part, window(part, group.form), group.form).value
        return jnp.moveaxis(_weighed(value, group.own(wide, 0)) * part.effect[:, None], 1, 0)

    return in_chunks(lambda part: by_form(term, part, of_form, axis=-2), curves, size=CHUNK)


def value_weights(
    counted: Bool[np.ndarray, " week"], value: Float[np.ndarray, " week"]
) -> tuple[Float[np.ndarray, "week weight"], float]:
    """What a week counts and, unless all weeks have one price, what its KPI is worth; and that price, else 1.

    The sum under the last weight times the price is the value.
    """
    weights = np.stack([counted, np.where(counted, value, 0.0)], axis=1)
    prices = np.unique(value[counted])
    return (weights[:, :1], float(prices[0])) if len(prices) == 1 else (weights, 1.0)


def decompose(
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    curves: Curves,
    *,
    term: MediaTerm,
    single: bool = False,
) -> Response:
    """What each channel brings under each weight of the weeks, and what all bring together week by week.

    In native code where it has the channels' forms, which needs no program compiled; else in XLA. `single` precision
    will do where nothing is subtracted from it that is nearly the same.
    """
    if (own := native_curves(curves, term)) is None:
        return Response(*map(np.asarray, _decompose(media, weights, curves, term=term)))
    return respond(np.asarray(media), np.asarray(weights), own, single=single)


@partial(jax.jit, static_argnames="term")
def _decompose(media: Array, weights: Array, curves: Curves, *, term: MediaTerm) -> tuple[Array, Array, Array]:
    def of_chunk(part: Curves) -> tuple[Array, Array, Array]:
        value = _values(media, part, term) * part.effect[:, None]
        return jnp.moveaxis(_weighed(value, _for_all(weights, media)), 1, 0), jnp.sum(value, axis=0), value

    total, together, apart = in_chunks(of_chunk, curves, size=CHUNK)
    return total, together, jnp.mean(apart, axis=-1).T


def responses(
    media: Float[np.ndarray, "week channel"], curves: Curves, *, term: MediaTerm
) -> Float[np.ndarray, "channel week draw"]:
    """KPI that each channel brings week by week, of a few draws, one after another."""
    none, draws = np.zeros((len(media), 0)), np.shape(curves.effect)[-1]
    each = (Curves(curves.shape[..., d : d + 1], curves.effect[..., d : d + 1]) for d in range(draws))
    return np.stack([decompose(media, none, one, term=term).mean.T for one in each], axis=-1)


@partial(jax.jit, static_argnames="term")
def weekly(
    media: Float[Array | np.ndarray, "week channel"], curves: Curves, *, term: MediaTerm
) -> Float[Array, "week draw"]:
    """KPI that all channels together bring, week by week."""

    def of_chunk(part: Curves) -> Array:
        return jnp.einsum("ctd,cd->td", _values(media, part, term), part.effect)

    return in_chunks(of_chunk, curves, size=CHUNK)


@partial(jax.jit, static_argnames="term")
def by_week(
    media: Float[Array | np.ndarray, "week channel"],
    moved: Float[Array | np.ndarray, "week channel"],
    curves: Curves,
    *,
    term: MediaTerm,
) -> tuple[Float[Array, "channel week draw"], Float[Array, "channel week draw"]]:
    """What each channel brings week by week, and its slope by a part of its media."""

    def of_form(group: FormGroup, part: Curves) -> tuple[Array, Array]:
        lags, moving = window(part, group.form), group.own(moved, 1)
        found = _respond(group.own(media, 1), part, lags, group.form)
        if group.form.adstock_first:
            slope = found.derivative * _spread(moving, lags)
        else:
            slope = _carried(found.derivative * moving.T[:, :, None], lags)
        effect = part.effect[:, None]
        return found.value * effect, slope * effect

    return in_chunks(lambda part: by_form(term, part, of_form, axis=0), curves, size=CHUNK)


def whole(
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    curves: Curves,
    *,
    term: MediaTerm,
) -> tuple[Float[np.ndarray, "weight channel draw"], Float[np.ndarray, "weight channel draw"]]:
    """All weeks as one window: what the channels bring under each weight, and its slope by all of their media.

    In native code or in XLA, as `decompose`.
    """
    if (own := native_curves(curves, term)) is None:
        kpi, along = _whole(media, weights, curves, term=term)
        return np.asarray(kpi), np.asarray(along)
    return slopes(np.asarray(media), np.asarray(weights), own)


@partial(jax.jit, static_argnames="term")
def _whole(media: Array, weights: Array, curves: Curves, *, term: MediaTerm) -> tuple[Array, Array]:
    def of_form(group: FormGroup, part: Curves) -> tuple[Array, Array]:
        own, lags = group.own(media, 1), window(part, group.form)
        found = _respond(own, part, lags, group.form)
        slope = found.derivative * found.level
        if not group.form.adstock_first:
            slope = _carried(slope, lags)
        effect = part.effect[:, None]
        sums = (_weighed(values, _for_all(weights, own)) * effect for values in (found.value, slope))
        kpi, along = (jnp.moveaxis(total, 1, 0) for total in sums)
        return kpi, along

    return in_chunks(lambda part: by_form(term, part, of_form, axis=-2), curves, size=CHUNK)


@partial(jax.jit, static_argnames=("term", "span"))
def by_window(
    media: Float[Array | np.ndarray, "week channel"],
    weights: Float[Array | np.ndarray, "week weight"],
    index: Int[Array | np.ndarray, " week"],
    starts: Int[Array | np.ndarray, " window"],
    curves: Curves,
    *,
    term: MediaTerm,
    span: int,
) -> Difference:
    """Each window against the past without its media.

    Args:
        media: In shares of each channel's scale.
        weights: What a week counts, and what else it is worth; the first is that of the contributions.
        index: Window of each week, -1 for none.
        starts: First week of each window, -1 for one that the unit has not.
        curves: Draws of the channels' curves.
        term: Form of each channel's response.
        span: Weeks of the longest window.
    """
    after = span + term.window - 1
    count = len(starts)
    of_window = (index[:, None] == jnp.arange(count)[None]) * weights[:, :1]
    # So that no window reaches beyond the last week.
    media, weights = (jnp.pad(values, ((0, after), (0, 0))) for values in (media, weights))
    index = jnp.pad(index, (0, after), constant_values=-1)

    def of_form(group: FormGroup, part: Curves) -> Difference:
        known, lags = group.own(media, 1), window(part, group.form)
        actual = _respond(known, part, lags, group.form)

        def of_one(place: tuple[Array, Array]) -> tuple[Array, Array, Array]:
            number, start = place
            first = jnp.maximum(start, 0)

            def cut(values: Array, axis: int = 0) -> Array:
                return jax.lax.dynamic_slice_in_dim(values, first, after, axis)

            inside = (cut(index) == number).astype(media.dtype) * (start >= 0)
            own = cut(known) * inside[:, None]
            here = _Response(*(cut(values, 1) for values in actual))
            lost, slope = _lost(own, inside, here, part, lags, group.form)
            weight = cut(weights)
            columns = jnp.concatenate([weight, weight[:, :1] * inside[:, None]], axis=1)
            every = _weighed(lost, _for_all(columns, own))
            return every[:, :-1], _weighed(slope, _for_all(weight, own)), every[:, -1]

        lost, slope, within = jax.lax.map(of_one, (jnp.arange(count), starts))
        effect = part.effect[:, None]
        contribution = _weighed(actual.value[:, : len(of_window)], _for_all(of_window, known)) * effect
        return Difference(
            contribution=jnp.moveaxis(contribution, 1, 0),
            lost=jnp.moveaxis(lost * effect[None], 2, 0),
            slope=jnp.moveaxis(slope * effect[None], 2, 0),
            within=within * part.effect[None],
        )

    return in_chunks(lambda part: by_form(term, part, of_form, axis=-2), curves, size=CHUNK)


class _Response(NamedTuple):
    """Response by week, of an effect of 1."""

    level: Float[Array, "channel week draw"]
    """What is saturated: media, carried over first or not."""
    value: Float[Array, "channel week draw"]
    derivative: Float[Array, "channel week draw"]
    """Of the saturation by the level."""


def _values(
    media: Float[Array | np.ndarray, "week channel"], curves: Curves, term: MediaTerm
) -> Float[Array, "channel week draw"]:
    """Responses of an effect of 1."""

    def of_form(group: FormGroup, part: Curves) -> Array:
        return _respond(group.own(media, 1), part, window(part, group.form), group.form).value

    return by_form(term, curves, of_form, axis=0)


def _respond(
    media: Float[Array | np.ndarray, "week channel"],
    curves: Curves,
    lags: Float[Array, "lag channel draw"],
    form: MediaForm,
) -> _Response:
    if form.adstock_first:
        level = _spread(media, lags)
    else:
        level = jnp.broadcast_to(media.T[:, :, None], (*media.T.shape, curves.effect.shape[-1]))
    # Kept apart, or the compiler carries media over once for the value and once more for the derivative.
    value, derivative = saturated(jax.lax.optimization_barrier(level), curves, form, week=1)
    return _Response(level, value if form.adstock_first else _carried(value, lags), derivative)


def _lost(
    own: Float[Array, "week channel"],
    inside: Float[Array, " week"],
    here: _Response,
    curves: Curves,
    lags: Float[Array, "lag channel draw"],
    form: MediaForm,
) -> tuple[Float[Array, "channel week draw"], Float[Array, "channel week draw"]]:
    """What would be missing without a window's own media, and the slope by them."""
    if not form.adstock_first:
        moving = here.derivative * own.T[:, :, None]
        value = saturated(here.level, curves, form, week=1)[0] * inside[None, :, None]
        return _carried(value, lags), _carried(moving, lags)
    moving = _spread(own, lags)
    rest = here.level - moving
    rest = jnp.where(jnp.abs(rest) > ROUNDING * jnp.abs(here.level), rest, 0.0)
    return here.value - saturated(rest, curves, form, week=1)[0], here.derivative * moving


def _spread(
    media: Float[Array | np.ndarray, "week channel"], lags: Float[Array, "lag channel draw"]
) -> Float[Array, "channel week draw"]:
    """Media carried over."""
    window, weeks = len(lags), len(media)
    padded = jnp.pad(media, ((window - 1, 0), (0, 0)))
    lagged = jnp.stack([padded[window - 1 - lag : window - 1 - lag + weeks] for lag in range(window)], axis=1)
    return jnp.einsum("tlc,lcd->ctd", lagged, lags)


def _carried(
    values: Float[Array, "channel week draw"], lags: Float[Array, "lag channel draw"]
) -> Float[Array, "channel week draw"]:
    return jnp.moveaxis(adstock.convolve(jnp.moveaxis(values, 1, 0), lags), 0, 1)


def _weighed(
    values: Float[Array, "channel week draw"], weights: Float[Array, "channel week weight"]
) -> Float[Array, "channel weight draw"]:
    """Sums over weeks; a product of matrices for each channel."""
    return jnp.einsum("ctd,ctk->ckd", values, weights)


def _for_all(
    weights: Float[Array | np.ndarray, "week weight"], media: Float[Array | np.ndarray, "week channel"]
) -> Array:
    """The same weights for every channel."""
    return jnp.broadcast_to(weights, (media.shape[1], *weights.shape))
