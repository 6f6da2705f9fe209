"""Displacement: how far what media bring would move, if the model had what a check says that it leaves out.

What is left out biases the rest by as much as it goes with it (Cinelli and Hazlett 2020). Draws know how much that is:
with directions D of length one in time, and s = D'r for a draw's standardised residuals r, the coefficients of D would
be (I - var s)^-1 E[s] in standard deviations of the noise, and the mean of a contribution c would move by cov(c, s)
times those. What the baseline adds to var s is known given the rest of a draw, where it is integrated out, and is not
taken from draws. The model is taken to be linear where its posterior is.

Likewise they know how far it would move if weeks weighed otherwise: with A the draws' deviations of the expected KPI
and e what is left of the KPI, both in standard deviations of the noise, and W the weights, what combines the draws,
independent standard normal before, has the mean (I + A'(W - I)A)^-1 A'(W - I)e (Bishop, Etherton and Majumdar 2001).

References:
    Cinelli, Hazlett (2020), Making sense of sensitivity: extending omitted variable bias, doi:10.1111/rssb.12348.
    Bishop, Etherton, Majumdar (2001), Adaptive sampling with the ensemble transform Kalman filter,
    doi:10.1175/1520-0493(2001)129<0420:ASWTET>2.0.CO;2.
"""

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.posterior.model_checks.checked_unit import LEAST_LEFT, CheckedUnit, Marginal

__all__ = ["MISLEADING", "displacement", "moves_media", "reweighed", "weeks_alone"]

MISLEADING = 0.78
"""Posterior standard deviations by which a contribution may move unsaid: an interval of 90 % then still holds 80 %."""


def moves_media(
    unit: CheckedUnit,
    directions: Float[np.ndarray, "week direction"],
    *,
    brings: Float[np.ndarray, "channel week direction"] | None = None,
    against: float = 0.0,
) -> bool:
    """Whether with these in the model some channel would bring so much more or less that its interval misleads.

    Asked of few units, and a reason to say no more of an alarm: so of all draws.
    """
    unit = unit if unit.whole is None else unit.whole()
    return bool(np.any(np.abs(displacement(unit, directions, brings=brings, against=against)) >= MISLEADING))


def displacement(
    unit: CheckedUnit,
    directions: Float[np.ndarray, "week direction"],
    *,
    brings: Float[np.ndarray, "channel week direction"] | None = None,
    against: float = 0.0,
) -> Float[np.ndarray, " channel"]:
    """By how many posterior standard deviations each channel's contribution would move with these in the model.

    Args:
        unit: What the checks look at.
        directions: In KPI, as autocorrelated noise is added to; zero in weeks that were not fitted. Of what the model
            fits all but wholly by itself it is taken to leave `LEAST_LEFT`: what it still misses moves media the more.
        brings: What a channel brings by a direction with a coefficient of one; directions are no channel's without.
        against: Variance of the noise over that of each direction's coefficient by its prior; zero where any
            coefficient is as likely.
    """
    columns = unit.as_residuals(directions)
    size = np.maximum(np.sqrt(np.sum(columns**2, axis=0)), np.finfo(float).tiny)
    axes, length, mix = np.linalg.svd(columns / size, full_matrices=False)
    used = length > 1e-6 * length.max(initial=0.0)
    axes, of_directions = axes[:, used], mix[used].T / length[used] / size[:, None]
    # In one deviation for all draws: how a large miss varies with their noise is nothing that media could take up.
    size = unit.noise / unit.noise.mean()
    scores = axes.T @ (_of_media(unit) * size)
    mean = scores.mean(axis=1)
    scores -= mean[:, None]
    draws = scores.shape[1]
    known = np.eye(len(mean)) - scores @ scores.T / draws + against * of_directions.T @ of_directions
    if unit.marginal is not None:
        shrink = np.mean(_shrink(unit.marginal) * size**2, axis=1)
        of_baseline = axes.T @ unit.marginal.basis
        known -= of_baseline * shrink @ of_baseline.T
    left, turn = np.linalg.eigh(known)
    coefficients = turn @ (turn.T @ mean / np.maximum(left, LEAST_LEFT))
    spread = unit.contribution.std(axis=1)
    moved = unit.contribution @ (coefficients @ scores) / draws
    if brings is not None:
        moved += brings[:, unit.fitted].sum(axis=1) @ (of_directions @ coefficients) * unit.noise.mean()
    return np.where(spread > 0, moved / np.where(spread > 0, spread, 1.0), 0.0)


def reweighed(unit: CheckedUnit, weight: Float[np.ndarray, " week"]) -> Float[np.ndarray, " channel"]:
    """By how many posterior standard deviations each channel's contribution would move, were weeks weighed so.

    Args:
        unit: What the checks look at.
        weight: Of each week's noise, in multiples of the precision that it has in all of them.
    """
    draws, more = len(unit.noise), np.where(unit.fitted, weight - 1.0, 0.0)
    away = (unit.expected - unit.expected.mean(axis=1, keepdims=True)) / (unit.noise.mean() * np.sqrt(draws))
    along = unit.as_residuals(away)
    precision, turn = np.linalg.eigh(np.eye(draws) + along.T @ (more[:, None] * along))
    pulled = turn.T @ (along.T @ (more * unit.residual.mean(axis=1)))
    shift = turn @ (pulled / np.maximum(precision, LEAST_LEFT)) / np.sqrt(draws)
    own = unit.contribution
    spread = own.std(axis=1)
    moved = (own - own.mean(axis=1, keepdims=True)) @ shift
    return np.where(spread > 0, moved / np.where(spread > 0, spread, 1.0), 0.0)


def _of_media(unit: CheckedUnit) -> Float[np.ndarray, "week draw"]:
    """Residuals with the baseline at its mean given a draw's media: they go with media as much, and vary less."""
    if unit.marginal is None:
        return unit.residual
    known = unit.marginal
    return (known.residual - known.basis @ (_shrink(known) * (known.basis.T @ known.residual))) / known.noise


def _shrink(known: Marginal) -> Float[np.ndarray, "column draw"]:
    """Variance of the baseline's coefficients given a draw's media, over that of the noise."""
    return known.variance[:, None] / (known.variance[:, None] + known.noise**2)


def weeks_alone(weeks: Bool[np.ndarray, " week"]) -> Float[np.ndarray, "week direction"]:
    """Directions that leave these weeks out: one for each."""
    return np.eye(len(weeks))[:, weeks]
