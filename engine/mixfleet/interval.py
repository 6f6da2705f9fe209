"""Interval: mean, spread and quantiles of draws."""

import numpy as np
from jaxtyping import Float

__all__ = ["QUANTILES", "STATISTICS", "statistics"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
STATISTICS = ("mean", "sd", *QUANTILES)
"""Names of the columns that `statistics` gives, in order."""


def statistics(values: Float[np.ndarray, "*row draw"]) -> dict[str, Float[np.ndarray, "*row"]]:
    """Mean, standard deviation and quantiles of each row over its draws; NaN for a row that holds one."""
    ordered = np.sort(values, axis=-1)
    size = ordered.shape[-1]
    found = {"mean": ordered.mean(axis=-1), "sd": ordered.std(axis=-1, ddof=1) if size > 1 else 0 * ordered[..., 0]}
    for name, share in QUANTILES.items():
        position = share * (size - 1)
        below = int(position)
        lower, upper = ordered[..., below], ordered[..., min(below + 1, size - 1)]
        # NaN sorts last, so that the mean knows of it and the lower quantiles do not.
        found[name] = np.where(np.isnan(found["mean"]), np.nan, lower + (upper - lower) * (position - below))
    return found
