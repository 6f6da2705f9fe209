"""What a unit's prior says before any data, in original units: draws of the curves, and of what media would bring."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import Curves
from mixfleet.models.media.term import MediaTerm
from mixfleet.models.priors.moments import DRAWS, moments, prior_sample
from mixfleet.posterior.counterfactual import contributions

__all__ = ["Drawn", "prior_contributions", "prior_curves", "prior_value", "strength_moments"]

Drawn = Mapping[str, Float[np.ndarray, "channel sample"]]
"""Draws in place of those of a unit's own prior, by parameter; under `effect` of what the strengths' priors are on."""

ITS_OWN: Drawn = MappingProxyType({})


def prior_curves(
    member: PreparedUnit, media: Float[np.ndarray, "week channel"], term: MediaTerm, drawn: Drawn = ITS_OWN
) -> Curves:
    """Draws of the channels' curves from a unit's prior; `media` are scaled and may be padded.

    Where the prior is on what a channel brings, the effect is what brings so much with the curve of the same draw.
    """
    measure, (a, b, c) = _measures(member, drawn), member.strength.rows[:, :, None]
    curves = Curves(_shapes(member, term, drawn), np.ones(measure.shape))
    if not b.any():
        # An effect is drawn as it is, whatever the curves are.
        return curves._replace(effect=np.exp(-c) * measure * member.scale.kpi)
    response = _mean_response(member, media, curves, term)
    return curves._replace(effect=np.exp((np.log(measure) - b * np.log(response) - c) / a) * member.scale.kpi)


def prior_contributions(
    member: PreparedUnit, term: MediaTerm, drawn: Drawn = ITS_OWN
) -> Float[np.ndarray, "channel sample"]:
    """KPI that each channel would bring in an average week of those that contributions are told of.

    Where the priors are on what channels bring, no curve is drawn.
    """
    measure, (a, b, c) = _measures(member, drawn), member.strength.rows[:, :, None]
    brought = np.exp((np.log(measure) - c) / a) * member.scale.kpi
    if not b.all():
        curves = Curves(_shapes(member, term, drawn), np.ones(measure.shape))
        response = _mean_response(member, member.arrays["media"], curves, term)
        brought = np.where(b == 0, response, 1.0) * brought
    return brought * member.arrays["active"][:, None]


def _shapes(member: PreparedUnit, term: MediaTerm, drawn: Drawn) -> Float[np.ndarray, "parameter channel sample"]:
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


def _mean_response(
    member: PreparedUnit, media: Float[np.ndarray, "week channel"], curves: Curves, term: MediaTerm
) -> Float[np.ndarray, "channel sample"]:
    """Of curves of effect one, over the weeks that contributions are told of; one of absent channels."""
    share = np.zeros((len(media), 1, 1))
    share[: len(member.contribution_weeks), 0, 0] = member.contribution_weeks / member.contribution_weeks.sum()
    response = np.asarray(contributions(media, share, curves, term=term), float)[0]
    return np.where(member.arrays["active"][:, None] > 0, np.maximum(response, np.finfo(np.float32).tiny), 1.0)


def prior_value(
    member: PreparedUnit,
    media: Float[np.ndarray, "week channel"],
    value: Float[np.ndarray, " week"],
    term: MediaTerm,
) -> Float[np.ndarray, "channel sample"]:
    """Value that each channel would bring under the prior, with what a KPI is worth by week; zero in others."""
    curves = prior_curves(member, media, term)
    return np.asarray(contributions(media, value[:, None, None], curves, term=term))[0]


def strength_moments(member: PreparedUnit, term: MediaTerm) -> list[tuple[float, float]]:
    """Mean and standard deviation of each channel's effect under the prior, on the model's scale."""
    strength = member.strength
    if not strength.rows[1].any():
        return [moments(prior) for prior in strength.distributions]
    effect = np.asarray(prior_curves(member, member.arrays["media"], term).effect) / member.scale.kpi
    return list(zip(effect.mean(axis=1).tolist(), effect.std(axis=1).tolist(), strict=True))
