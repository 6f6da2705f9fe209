"""Mean, spread and quantiles of draws."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["QUANTILES", "quantile", "statistics"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def statistics(
    values: Float[np.ndarray, "*row draw"], quantiles: Sequence[str] = tuple(QUANTILES)
) -> dict[str, Float[np.ndarray, "*row"]]:
    """Mean, standard deviation and quantiles of each row over its draws; NaN for a row that holds one."""
    # Starts jax, without which the tables of a run are read.
    from mixfleet_kernels.quantiles import row_statistics

    size = values.shape[-1]
    positions = {name: QUANTILES[name] * (size - 1) for name in quantiles}
    below = [int(position) for position in positions.values()]
    ranks = sorted({*below, *(min(rank + 1, size - 1) for rank in below)})
    told = row_statistics(values, ranks)
    found = {"mean": told.mean, "sd": told.sd if size > 1 else 0.0 * told.mean}
    at = {rank: told.ordered[..., place] for place, rank in enumerate(ranks)}
    for name, position in positions.items():
        lower, upper = at[int(position)], at[min(int(position) + 1, size - 1)]
        found[name] = lower + (upper - lower) * (position - int(position))
    return found


def quantile(values: Float[np.ndarray, " value"], share: float) -> float:
    """`np.quantile` of one row of a few numbers, in a fifth of its time."""
    ordered, rank = np.sort(values), share * (len(values) - 1)
    below = int(rank)
    low, high = ordered[below], ordered[min(below + 1, len(values) - 1)]
    return float(low + (high - low) * (rank - below))
