"""Importance: draws of one posterior weighed as draws of another, and whether they can be.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
    Zhang, Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution,
    doi:10.1198/tech.2009.08017.
"""

import numpy as np
from jaxtyping import Float

__all__ = ["BAD_TAIL", "effective_draws", "pareto_smoothed", "tail_allows"]

BAD_TAIL = 0.7
"""Shape of the weights' tail above which no sum over them can be trusted."""

FEWEST = 5
"""Draws that a tail needs."""


def tail_allows(shape: float, draws: int) -> bool:
    """Whether sums over so many weights whose tail has this shape can be trusted."""
    return bool(shape < min(BAD_TAIL, 1 - 1 / np.log10(draws)))


def effective_draws(weight: Float[np.ndarray, " draw"]) -> float:
    """Draws that weights which sum to one leave."""
    return float(1 / np.sum(weight**2))


def pareto_smoothed(log_ratio: Float[np.ndarray, " draw"]) -> tuple[Float[np.ndarray, " draw"], float]:
    """Weights that sum to one, their largest smoothed, and the shape k of their tail; infinite where it has none.

    Args:
        log_ratio: Logarithm of the wanted density over the one that was drawn from, up to a constant.
    """
    draws = len(log_ratio)
    log_weight = log_ratio - np.max(log_ratio)
    count = int(min(0.2 * draws, 3 * np.sqrt(draws)))
    shape = np.inf
    order = np.argsort(log_weight, kind="stable")
    if count >= FEWEST and np.ptp(log_weight) > 0:
        tail, cutoff = order[-count:], np.exp(log_weight[order[-count - 1]])
        excess = np.exp(log_weight[tail]) - cutoff
        if excess[-1] > 0 and excess[0] >= 0 and np.count_nonzero(excess > 0) >= FEWEST:
            shape, scale = _generalized_pareto(excess[excess > 0])
            places = (np.arange(count) + 0.5) / count
            # Of a tail without end the highest are infinite, and no weight is above the largest.
            with np.errstate(over="ignore"):
                quantile = scale * (np.expm1(-shape * np.log1p(-places)) / shape if shape else -np.log1p(-places))
            log_weight[tail] = np.log(np.minimum(cutoff + quantile, 1.0))
    elif np.ptp(log_weight) == 0:
        shape = -np.inf
    weight = np.exp(log_weight)
    return weight / weight.sum(), float(shape)


def _generalized_pareto(excess: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    """Shape and scale of what lies above a threshold, in ascending order; the shape drawn a little to 0.5."""
    count = len(excess)
    grid = 30 + int(np.sqrt(count))
    steps = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    slope = 1 / excess[-1] + steps / (3 * excess[int(count / 4 + 0.5) - 1])
    shape = np.mean(np.log1p(-slope[:, None] * excess), axis=1)
    likelihood = count * (np.log(-slope / shape) - shape - 1)
    weight = np.exp(likelihood - likelihood.max())
    best = float(np.sum(slope * weight / weight.sum()))
    found = float(np.mean(np.log1p(-best * excess)))
    return (found * count + 5) / (count + 10), -found / best
