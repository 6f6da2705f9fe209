"""Stacking: weights of several structures, by the density that their mixture gives to weeks that were left out.

A structure that is a little worse in every week loses all weight under plain stacking, though the data can hardly tell
it from the others. Weights have a Dirichlet prior here, so that what the data do not decide stays undecided: the
fleet's weights around even ones, and a unit's around the fleet's.

References:
    Yao, Vehtari, Simpson, Gelman (2018), Using stacking to average Bayesian predictive distributions,
    doi:10.1214/17-BA1091.
    Yao, Pirs, Vehtari, Gelman (2022), Bayesian hierarchical stacking, doi:10.1214/21-BA1287.
    Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC,
    arXiv:1507.04544.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet.posterior.importance import BAD_TAIL, pareto_smoothed
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.left_out import week_log_density

__all__ = ["LeftOutScore", "fleet_weights", "known_together", "left_out_score", "stacked"]

PRIOR_WEEKS = 20.0
"""Weeks that the prior of a unit's weights counts for; the fleet's counts for as many of each unit."""

STEPS, CLOSE = 2000, 1e-9
"""Most steps to the best weights, and the change below which they are found."""


class LeftOutScore(NamedTuple):
    """How well one structure tells each fitted week from all the others."""

    log_density: Float[np.ndarray, " week"]
    """In the same unit for every structure."""
    shape: Float[np.ndarray, " week"]
    """Tail of the weights behind it; above `BAD_TAIL` the week decides too much for it to be known."""


def left_out_score(unit: CheckedUnit) -> LeftOutScore:
    """Leave-one-out log densities by Pareto smoothed importance sampling of the draws of curves and noise.

    The baseline's coefficients are integrated out of each week's density given the others, exactly, of independent
    noise and of noise that is autocorrelated. A week of the latter is then told by its neighbours' misses too. To leave
    those out with it, or all later weeks, would ask for what is further away; but it moves the posterior by more than
    weights of its draws can follow, most where a structure fits worst: of US markets two neighbours on either side
    leave the shape above `BAD_TAIL` in a third of all weeks, and the rest tells structures apart no more.
    """
    found = []
    for own in week_log_density(unit)[unit.fitted]:
        weight, shape = pareto_smoothed(-own)
        found.append((np.log(weight @ np.exp(own - own.max())) + own.max(), shape))
    log_density, shape = np.array(found).reshape(-1, 2).T
    return LeftOutScore(log_density, shape)


def known_together(scores: Sequence[LeftOutScore | None]) -> Float[np.ndarray, "week structure"] | None:
    """Log densities of the weeks that every structure tells reliably; None where a structure has no score."""
    found = [score for score in scores if score is not None]
    if len(found) < len(scores):
        return None
    reliable = np.all([score.shape <= BAD_TAIL for score in found], axis=0)
    return np.stack([score.log_density for score in found], axis=1)[reliable]


def stacked(
    log_density: Float[np.ndarray, "week structure"], prior: Float[np.ndarray, " structure"], weeks: float = PRIOR_WEEKS
) -> Float[np.ndarray, " structure"]:
    """Weights, of sum one, of the highest log density of all weeks under the mixture, with a Dirichlet prior.

    The sum over weeks of log(density @ w), plus `weeks` times prior @ log(w), has one maximum, to which expectation
    maximisation climbs.

    Args:
        log_density: Of weeks that were left out.
        prior: Weights without any weeks, of sum one.
        weeks: How many weeks the prior counts for.
    """
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    weight = prior.copy()
    for _ in range(STEPS):
        share = density * weight
        share /= share.sum(axis=1, keepdims=True)
        better = (share.sum(axis=0) + weeks * prior) / (len(density) + weeks)
        moved, weight = np.max(np.abs(better - weight)), better
        if moved < CLOSE:
            break
    return weight


def fleet_weights(
    units: Sequence[Float[np.ndarray, "week structure"]], structures: int
) -> Float[np.ndarray, " structure"]:
    """Weights of the structures in all units together, around even ones."""
    even = np.full(structures, 1 / structures)
    return stacked(np.concatenate([np.zeros((0, structures)), *units]), even, PRIOR_WEEKS * max(len(units), 1))
