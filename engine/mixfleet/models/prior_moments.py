"""Prior samples: what a prior law says before any data, as moments and as draws."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config.priors import Distribution

__all__ = ["DRAWS", "coordinate_moments", "moments", "prior_sample"]

DRAWS = 512

QUANTILES = 4096
"""Evenly spaced, that stand for a whole law."""


@lru_cache(maxsize=4096)
def moments(law: Distribution) -> tuple[float, float]:
    """Mean and standard deviation of a prior law."""
    frozen = _scipy(law)
    return float(frozen.mean()), float(frozen.std())


@lru_cache(maxsize=4096)
def prior_sample(law: Distribution, parameter: int, channel: int) -> Float[np.ndarray, " sample"]:
    """Draws of a prior law, the same in every unit, so that units are compared on equal terms."""
    seed = np.random.default_rng([parameter, channel])
    return np.asarray(_scipy(law).rvs(size=DRAWS, random_state=seed))


@lru_cache(maxsize=4096)
def coordinate_moments(law: Distribution) -> tuple[float, float]:
    """Mean and standard deviation of a prior law on the unconstrained scale: log, or probit between two bounds."""
    from scipy.special import ndtri

    values = _scipy(law).ppf((np.arange(QUANTILES) + 0.5) / QUANTILES)
    low, high = law.support
    u = np.log(values) if np.isinf(high) else ndtri((values - low) / (high - low))
    return float(u.mean()), float(u.std())


def _scipy(law: Distribution) -> Any:
    """The law in scipy."""
    from scipy import stats  # takes a second, and is wanted when the first unit is done, not before it is begun

    h = dict(law.hyperparameters)
    match law.family:
        case "normal":
            return stats.norm(h["mean"], h["sd"])
        case "half_normal":
            return stats.halfnorm(scale=h["sd"])
        case "lognormal":
            return stats.lognorm(h["sd_log"], scale=np.exp(h["mean_log"]))
        case "gamma":
            return stats.gamma(h["shape"], scale=1 / h["rate"])
        case "inverse_gamma":
            return stats.invgamma(h["shape"], scale=h["scale"])
        case "exponential":
            return stats.expon(scale=1 / h["rate"])
        case "beta":
            return stats.beta(h["a"], h["b"])
        case "uniform":
            return stats.uniform(h["low"], h["high"] - h["low"])
        case "truncated_normal":
            low, high = (h["low"] - h["mean"]) / h["sd"], (h["high"] - h["mean"]) / h["sd"]
            return stats.truncnorm(low, high, loc=h["mean"], scale=h["sd"])
