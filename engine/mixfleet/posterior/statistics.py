"""Mean, spread and quantiles of draws."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["QUANTILES", "statistics"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def statistics(
    values: Float[np.ndarray, "*row draw"], quantiles: Sequence[str] = tuple(QUANTILES)
) -> dict[str, Float[np.ndarray, "*row"]]:
    """Mean, standard deviation and quantiles of each row over its draws; NaN for a row that holds one."""
    size = values.shape[-1]
    spread = values.std(axis=-1, ddof=1, dtype=float) if size > 1 else 0.0 * values[..., 0]
    found = {"mean": values.mean(axis=-1, dtype=float), "sd": spread}
    ordered = np.sort(values, axis=-1)
    for name in quantiles:
        position = QUANTILES[name] * (size - 1)
        below = int(position)
        lower, upper = ordered[..., below].astype(float), ordered[..., min(below + 1, size - 1)].astype(float)
        # NaN sorts last, so that the mean knows of it and the lower quantiles do not.
        found[name] = np.where(np.isnan(found["mean"]), np.nan, lower + (upper - lower) * (position - below))
    return found
