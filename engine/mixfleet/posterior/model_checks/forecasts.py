"""Forecasts: whether the unit's last quarters came as the weeks before them said, by the model's own intervals.

Given a draw's parameters the mean of a quarter, the baseline integrated out and all earlier weeks known, is normal with
known moments. The errors of several quarters in those standard deviations are independent standard normal under the
model, and their sum of squares chi-squared: rolling origins, exact, without a refit. The parameters of curves and noise
are those of the whole fit, which makes the check mild, never loud.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import chdtri

from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Marginal, settled

__all__ = ["block_errors", "forecast_check"]

QUARTERS = 4
SHORTEST = 40
"""Weeks before the first of the quarters."""

TOO_SURE, FAR_TOO_SURE = 2.0, 4.0
"""Root mean square error of quarters, in the model's own standard deviations, that goes unsaid, and that misleads."""


def forecast_check(unit: CheckedUnit) -> ModelCheck:
    """Of the last four quarters, each foretold from all weeks before it."""
    length = max(1, unit.season // 4)
    places = np.flatnonzero(unit.fitted)
    count = min(QUARTERS, (len(places) - SHORTEST * length // 13) // length)
    if unit.marginal is None or count < 2:
        return untested("forecast")
    blocks = [places[len(places) - (b + 1) * length : len(places) - b * length] for b in range(count)]
    errors = np.stack([block_errors(unit.marginal, places[places < block[0]], block) for block in blocks])
    own = settled(errors, 1.0)
    size = float(np.sqrt(np.mean(own**2)))
    threshold = max(float(np.sqrt(chdtri(count, FALSE_ALARMS) / count)), TOO_SURE)
    said = (
        f"the last {count} quarters came {size:.1f} times as far from what the weeks before said as intervals allow: "
        "forecasts are too sure; use model=moving, or a control for what changed"
    )
    return concluded("forecast", size, threshold, said, misfit=FAR_TOO_SURE)


def block_errors(marginal: Marginal, before: np.ndarray, block: np.ndarray) -> Float[np.ndarray, " draw"]:
    """Mean KPI of a block of weeks less what the weeks before say of it, in standard deviations, by draw."""
    used = marginal.variance > 0
    basis, variance = marginal.basis[:, used], marginal.variance[used]
    past, ahead = basis[before], basis[block].mean(axis=0)
    noise = marginal.noise**2
    # The posterior of the coefficients along the basis, from the weeks before: one eigendecomposition for all draws.
    scale = np.sqrt(variance)
    strength, axes = np.linalg.eigh((scale[:, None] * (past.T @ past)) * scale)
    shrink = 1 / (noise + np.maximum(strength, 0.0)[:, None])
    turned = axes.T @ (scale[:, None] * (past.T @ marginal.residual[before]))
    along = axes.T @ (scale * ahead)
    mean = along @ (shrink * turned)
    spread = noise * (along**2 @ shrink) + noise / len(block)
    return (marginal.residual[block].mean(axis=0) - mean) / np.sqrt(spread)
