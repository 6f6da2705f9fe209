"""What a prior says before any data, as moments and as draws."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config.priors import Distribution
from mixfleet.models.priors.families import FAMILIES

__all__ = ["DRAWS", "coordinate_moments", "moments", "pooled_strength", "prior_sample"]

DRAWS = 512

QUANTILES = 4096
"""Evenly spaced, that stand for a whole prior."""


@lru_cache(maxsize=4096)
def moments(prior: Distribution) -> tuple[float, float]:
    """Mean and standard deviation of a prior."""
    frozen = _scipy(prior)
    return float(frozen.mean()), float(frozen.std())


@lru_cache(maxsize=4096)
def prior_sample(prior: Distribution, parameter: int, channel: int) -> Float[np.ndarray, " sample"]:
    """Draws of a prior, the same in every unit, so that units are compared on equal terms."""
    seed = np.random.default_rng([parameter, channel])
    return np.asarray(_scipy(prior).rvs(size=DRAWS, random_state=seed))


@lru_cache(maxsize=4096)
def coordinate_moments(prior: Distribution) -> tuple[float, float]:
    """Mean and standard deviation of a prior on the unconstrained scale: log, or probit between two bounds."""
    from scipy.special import ndtri

    values = _scipy(prior).ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    low, high = prior.support
    u = np.log(values) if np.isinf(high) else ndtri((values - low) / (high - low))
    return float(u.mean()), float(u.std())


KEPT = 0.25
"""Least share of the variance of a pooled strength's prior that is left to the centre."""

UPPER = 0.95
"""Quantile at which the prior of a unit's pooled strength is the one that is stated."""


@lru_cache(maxsize=4096)
def pooled_strength(prior: Distribution, scale: float, parts: int) -> tuple[float, float, float]:
    """The centre of a pooled strength's logarithm such that the prior of one unit is about the one that is stated.

    A unit lies around the centre by as many normal parts, each with a half-normal spread, whose squares add up to
    `scale^2` times a chi-squared variable. With them the unit's log strength is to have the prior's 95 % quantile, and
    the variance that a normal has from that to the prior's median; a logarithm of a prior with mass at zero is skewed
    to the left, and a normal of its moments would expect far too much now and then.

    Args:
        prior: Of the strength, positive.
        scale: Prior scale of each spread.
        parts: How many there are: the unit's own, and one per key column.

    Returns:
        Mean and standard deviation of the centre, and the standard deviation of the normal that has the unit's median
        and 95 % quantile.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri
    from scipy.stats import chi2

    middle, upper = np.log(_scipy(prior).ppf([0.5, UPPER]))
    variance = float((upper - middle) / ndtri(UPPER)) ** 2
    centre = max(variance - parts * scale**2, KEPT * variance)
    total = np.sqrt(centre + scale**2 * chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, parts))
    reach = brentq(lambda x: float(ndtr(x / total).mean()) - UPPER, 0.0, 10 * float(total.max()))
    return float(upper - reach), float(np.sqrt(centre)), float(reach / ndtri(UPPER))


def _scipy(prior: Distribution) -> Any:
    return FAMILIES[prior.family].frozen(**prior.hyperparameters)
