"""What a unit's prior says before any data, in original units: draws of the curves, and of what media would bring."""

import numpy as np
from jaxtyping import Float

from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import Curves
from mixfleet.models.media.term import MediaTerm
from mixfleet.models.priors.moments import DRAWS, moments, prior_sample
from mixfleet.posterior.counterfactual import contributions

__all__ = ["prior_curves", "prior_value", "strength_moments"]


def prior_curves(member: PreparedUnit, media: Float[np.ndarray, "week channel"], term: MediaTerm) -> Curves:
    """Draws of the channels' curves from a unit's prior; `media` are scaled and may be padded.

    Where the prior is on what a channel brings, the effect is what brings so much with the curve of the same draw.
    """
    priors, strength, channels = member.priors, member.strength, media.shape[1]
    shape = np.array([[prior_sample(prior, i, c) for c, prior in enumerate(row)] for i, row in enumerate(priors)])
    measure = np.array([prior_sample(prior, len(priors) + 1, c) for c, prior in enumerate(strength.distributions)])
    curves = Curves(shape.reshape(len(priors), channels, DRAWS), np.ones((channels, DRAWS)))
    a, b, c = strength.rows[:, :, None]
    if not b.any():
        # An effect is drawn as it is, whatever the curves are.
        return curves._replace(effect=np.exp(-c) * measure * member.scale.kpi)
    share = np.zeros((len(media), 1, 1))
    share[: len(member.contribution_weeks), 0, 0] = member.contribution_weeks / member.contribution_weeks.sum()
    response = np.asarray(contributions(media, share, curves, term=term), float)[0]
    response = np.where(member.arrays["active"][:, None] > 0, np.maximum(response, np.finfo(np.float32).tiny), 1.0)
    return curves._replace(effect=np.exp((np.log(measure) - b * np.log(response) - c) / a) * member.scale.kpi)


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
