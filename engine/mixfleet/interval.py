"""Interval: mean, spread and quantiles of draws."""

import numpy as np
from jaxtyping import Float

__all__ = ["QUANTILES", "statistics"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def statistics(values: Float[np.ndarray, "*row draw"]) -> dict[str, Float[np.ndarray, "*row"]]:
    """Mean, standard deviation and quantiles of each row over its draws; NaN for a row that holds one."""
    size = values.shape[-1]
    found = {"mean": values.mean(axis=-1), "sd": values.std(axis=-1, ddof=1) if size > 1 else 0 * values[..., 0]}
    # Draws are kept in single precision, in which they are put in order twice as fast.
    ordered = np.sort(values.astype(np.float32), axis=-1)
    for name, share in QUANTILES.items():
        position = share * (size - 1)
        below = int(position)
        lower, upper = ordered[..., below].astype(float), ordered[..., min(below + 1, size - 1)].astype(float)
        # NaN sorts last, so that the mean knows of it and the lower quantiles do not.
        found[name] = np.where(np.isnan(found["mean"]), np.nan, lower + (upper - lower) * (position - below))
    return found
