"""Response curves: the weekly KPI that a channel brings at a steady level of spend."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.data.panel import Unit
from mixfleet.data.scaling import Scale
from mixfleet.models.media import Curves, MediaTerm, steady
from mixfleet.posterior.media_prices import media_price

__all__ = ["HIGHEST", "ResponseCurves", "levels", "response_curves"]

HIGHEST = 1.5
"""Last level of a curve, in shares of the channel's highest week."""


class ResponseCurves(NamedTuple):
    """Curves of one unit's channels."""

    spend: Float[np.ndarray, "channel level"]
    """A week; media where nothing is paid."""
    kpi: Float[np.ndarray, "channel level draw"]
    slope: Float[np.ndarray, "channel level draw"]
    """Derivative of the KPI by spend."""


def levels(points: int) -> Float[np.ndarray, " level"]:
    """Levels of a curve in shares of the channel's highest week, from nothing to `HIGHEST`."""
    return np.linspace(0.0, HIGHEST, points)


def response_curves(
    unit: Unit,
    scale: Scale,
    curves: Curves,
    term: MediaTerm,
    *,
    points: int,
    level: Float[np.ndarray, "channel draw"] | None = None,
) -> ResponseCurves:
    """Response to media held at each of `levels` for ever.

    Args:
        unit: Says what media cost.
        scale: On which the unit was fitted.
        curves: Its draws.
        term: Form of each channel's response.
        points: How many levels.
        level: Under a log link, the mean KPI of a week had the channel not been there, which its media multiply.
    """
    grid, cost = levels(points), scale.media * media_price(unit)
    media = np.broadcast_to(grid[:, None], (points, len(cost)))
    with jax.enable_x64(True):
        kpi, slope = (np.moveaxis(part, 0, 1) for part in steady(media, curves, term=term))
    if level is not None:
        kpi, slope = level[:, None] * np.expm1(kpi), level[:, None] * np.exp(kpi) * slope
    return ResponseCurves(np.outer(cost, grid), kpi, slope / cost[:, None, None])
