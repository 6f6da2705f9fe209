"""How well a forecast agrees with what came."""

import numpy as np
from jaxtyping import Float

__all__ = ["SCORES", "scores"]

SCORES = ("r2", "mape", "wmape", "crps", "coverage90")


def scores(
    kpi: Float[np.ndarray, " week"], mean: Float[np.ndarray, " week"], away: Float[np.ndarray, "week draw"]
) -> dict[str, np.ndarray]:
    """Accuracy over all the weeks, in the KPI's unit where it has one.

    Args:
        kpi: What came.
        mean: What was expected.
        away: Draws of the KPI itself less what was expected, in order.
    """
    if not len(kpi):
        return {name: np.array([np.nan]) for name in SCORES}
    error = kpi - mean
    spread = np.sum((kpi - kpi.mean()) ** 2)
    size = away.shape[1]
    # Mean absolute difference between two of the draws, from their order (Hersbach 2000).
    gini = away @ (2 * np.arange(size) - size + 1).astype(away.dtype) * 2 / size**2
    crps = np.abs(away - error[:, None].astype(away.dtype)).mean(axis=1) - 0.5 * gini
    nonzero = kpi != 0
    low, high = away[:, int(0.05 * size)], away[:, int(0.95 * size) - 1]
    found = {
        "r2": 1 - np.sum(error**2) / spread if spread > 0 else np.nan,
        "mape": np.mean(np.abs(error[nonzero] / kpi[nonzero])) if np.any(nonzero) else np.nan,
        "wmape": np.abs(error).sum() / np.abs(kpi).sum() if np.any(nonzero) else np.nan,
        "crps": crps.mean(),
        "coverage90": np.mean((error >= low) & (error <= high)),
    }
    return {name: np.array([value], float) for name, value in found.items()}
