"""What a unit's prior says before any data, in original units: draws of the curves, and of what media would bring."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import Curves
from mixfleet.models.media.term import MediaTerm
from mixfleet.models.priors.moments import DRAWS, moments, prior_sample
from mixfleet.posterior.counterfactual import contributions, decompose

__all__ = [
    "Drawn",
    "PriorResponse",
    "mean_responses",
    "prior_contributions",
    "prior_response",
    "prior_shapes",
    "strength_moments",
    "strength_response",
]

Drawn = Mapping[str, Float[np.ndarray, "channel sample"]]
"""Draws in place of those of a unit's own prior, by parameter; under `effect` of what the strengths' priors are on."""

ITS_OWN: Drawn = MappingProxyType({})


class PriorResponse(NamedTuple):
    """What a unit's prior says of its media, by draw."""

    effect: Float[np.ndarray, "channel sample"]
    """In KPI."""
    total: Float[np.ndarray, "weight channel sample"]
    """KPI under each weight of the weeks."""


def prior_response(
    member: PreparedUnit,
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    term: MediaTerm,
) -> PriorResponse:
    """Draws from a unit's prior; `media` are scaled and may be padded.

    Where the prior is on what a channel brings, the effect is what brings so much with the curve of the same draw.
    """
    measure, (a, b, c) = _measures(member, ITS_OWN), member.strength.rows[:, :, None]
    shape = prior_shapes(member, term)
    share, *found = _responses(member, media, weights, shape, term, single=True)
    about = _about(member, media, _positive(member, share), shape, term)
    effect = np.exp((np.log(measure) - b * np.log(about) - c) / a) * member.scale.kpi
    return PriorResponse(effect, effect * np.reshape(found, (-1, *effect.shape)))


def prior_contributions(
    member: PreparedUnit, term: MediaTerm, drawn: Drawn = ITS_OWN
) -> Float[np.ndarray, "channel sample"]:
    """KPI that each channel would bring in an average week of those that contributions are told of.

    Where the priors are on what channels bring, no curve is drawn.
    """
    brought = _brought(member, term, drawn)
    return brought[:, _chosen(member, term)]


def _chosen(member: PreparedUnit, term: MediaTerm) -> slice | Int[np.ndarray, " sample"]:
    """Draws of the channels' priors as what is believed of all media together weighs them: all of them without."""
    if not len(member.arrays["total"]):
        return slice(None)
    mean, precision, share = member.arrays["total"]
    total = _brought(member, term, ITS_OWN).sum(axis=0) / member.scale.kpi * share
    away = (total - mean) * precision
    weight = np.exp(-0.5 * (away**2 - np.min(away**2)))
    # Evenly spaced places, so that a draw comes as often as its weight says, but for rounding.
    return np.searchsorted(np.cumsum(weight / weight.sum()), (np.arange(DRAWS) + 0.5) / DRAWS).clip(max=DRAWS - 1)


def _brought(member: PreparedUnit, term: MediaTerm, drawn: Drawn) -> Float[np.ndarray, "channel sample"]:
    """As `prior_contributions`, under the channels' priors alone."""
    measure, (a, b, c) = _measures(member, drawn), member.strength.rows[:, :, None]
    brought = np.exp((np.log(measure) - c) / a) * member.scale.kpi
    changed = _of_changes(member)
    if not b.all() or changed.any():
        media, shape = member.arrays["media"], _shapes(member, term, drawn)
        response = _positive(member, _responses(member, media, np.zeros((len(media), 0)), shape, term)[0])
        # What all media bring goes with what a change of them does as the responses do.
        per_change = response / _about(member, media, response, shape, term)
        brought = np.where(b == 0, response, np.where(changed, per_change, 1.0)) * brought
    return brought * member.arrays["active"][:, None]


def strength_response(
    member: PreparedUnit,
    shape: Float[np.ndarray, "parameter channel sample"],
    term: MediaTerm,
    mean: Float[np.ndarray, "channel sample"] | None = None,
) -> Float[np.ndarray, "channel sample"]:
    """What the priors of strengths are about, of curves of effect one: the mean response, or its change.

    With it a measure and an effect lead to one another as `models.strength` says. `mean` has the `mean_responses`,
    where they are known.
    """
    mean = mean_responses(member, shape, term) if mean is None else mean
    return _about(member, member.arrays["media"], _positive(member, mean), shape, term)


def mean_responses(
    member: PreparedUnit, shape: Float[np.ndarray, "parameter channel sample"], term: MediaTerm
) -> Float[np.ndarray, "channel sample"]:
    """Mean response of curves of effect one over the weeks that contributions are told of."""
    media = member.arrays["media"]
    return _responses(member, media, np.zeros((len(media), 0)), shape, term)[0]


def prior_shapes(member: PreparedUnit, term: MediaTerm) -> Float[np.ndarray, "parameter channel sample"]:
    """Draws of the curves' parameters, on the model's scale."""
    return _shapes(member, term, ITS_OWN)[..., _chosen(member, term)]


def _shapes(member: PreparedUnit, term: MediaTerm, drawn: Drawn) -> Float[np.ndarray, "parameter channel sample"]:
    """The same under the channels' priors alone."""
    shape = [
        drawn[name] if name in drawn else [prior_sample(prior, i, c) for c, prior in enumerate(row)]
        for i, (name, row) in enumerate(zip(term.parameters, member.priors, strict=True))
    ]
    return np.array(shape).reshape(len(shape), len(member.strength.distributions), DRAWS)


def _measures(member: PreparedUnit, drawn: Drawn) -> Float[np.ndarray, "channel sample"]:
    """What the priors of strengths are on."""
    if "effect" in drawn:
        return drawn["effect"]
    place = len(member.priors) + 1
    return np.array([prior_sample(prior, place, c) for c, prior in enumerate(member.strength.distributions)])


def _responses(
    member: PreparedUnit,
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    shape: Float[np.ndarray, "parameter channel sample"],
    term: MediaTerm,
    *,
    single: bool = False,
) -> Float[np.ndarray, "weight channel sample"]:
    """Of curves of effect one: the mean over the weeks that contributions are told of, then the sum by weight."""
    share = np.zeros((len(media), 1))
    share[: len(member.contribution_weeks), 0] = member.contribution_weeks / member.contribution_weeks.sum()
    curves = Curves(shape, np.ones(shape.shape[1:]))
    return decompose(media, np.concatenate([share, weights], axis=1), curves, term=term, single=single).total


def _positive(
    member: PreparedUnit, response: Float[np.ndarray, "channel sample"]
) -> Float[np.ndarray, "channel sample"]:
    """Mean responses, of which those of absent channels are one."""
    return np.where(member.arrays["active"][:, None] > 0, np.maximum(response, np.finfo(np.float32).tiny), 1.0)


def _of_changes(member: PreparedUnit) -> Bool[np.ndarray, "channel 1"]:
    """Channels whose measure is about a change of media."""
    return np.any(member.strength.weight != 0, axis=0, keepdims=True).T


def _about(
    member: PreparedUnit,
    media: Float[np.ndarray, "week channel"],
    mean: Float[np.ndarray, "channel sample"],
    shape: Float[np.ndarray, "parameter channel sample"],
    term: MediaTerm,
) -> Float[np.ndarray, "channel sample"]:
    """The mean response or, where the measure is about a change of media, the weighted change of the response."""
    some, strength = _of_changes(member), member.strength
    if not some.any():
        return mean
    weight, changed = np.zeros((len(media), 1, media.shape[1])), np.array(media, float)
    weight[: len(strength.weight), 0] = strength.weight
    changed[: len(strength.weight)] *= strength.changed
    curves = Curves(shape, np.ones(shape.shape[1:]))
    before, after = (np.asarray(contributions(path, weight, curves, term=term), float)[0] for path in (media, changed))
    return np.where(some, np.maximum(after - before, np.finfo(np.float32).tiny), mean)


def strength_moments(member: PreparedUnit, prior: PriorResponse) -> list[tuple[float, float]]:
    """Mean and standard deviation of each channel's effect under the prior, on the model's scale."""
    strength = member.strength
    if not strength.rows[1].any() and not len(member.arrays["total"]):
        return [moments(prior) for prior in strength.distributions]
    effect = prior.effect / member.scale.kpi
    return list(zip(effect.mean(axis=1).tolist(), effect.std(axis=1).tolist(), strict=True))
