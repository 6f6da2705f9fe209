"""What a prior says before any data, as moments and as draws."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config.priors import Distribution
from mixfleet.models.priors.families import FAMILIES

__all__ = ["DRAWS", "coordinate_moments", "moments", "prior_sample"]

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


def _scipy(prior: Distribution) -> Any:
    return FAMILIES[prior.family].frozen(**prior.hyperparameters)
