"""Response curves: the weekly KPI that a channel brings at a steady level of spend."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.data.panel import Unit
from mixfleet.data.scaling import Scale
from mixfleet.models.media import Curves, MediaTerm, steady

__all__ = ["HIGHEST", "ResponseCurves", "levels", "media_price", "response_curves"]

PRICE_DAYS = 91
"""Days over which the price of media is today's: thirteen weeks, so that single payments even out."""

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


def media_price(unit: Unit) -> Float[np.ndarray, " channel"]:
    """Today's spend per unit of media: over the last `PRICE_DAYS`, else all weeks; 1.0 where nothing is paid.

    Money that is still to be spent buys at today's price, not at the average of years of media inflation.
    """
    recent = unit.observed & (unit.dates > unit.dates[-1] - np.timedelta64(PRICE_DAYS, "D"))
    found = np.ones(unit.media.shape[1])
    # Credit notes lower the price, but where they outweigh the spend only the spend itself says what media cost.
    booked = np.maximum(unit.spend, 0.0)
    for weeks, spend in ((unit.observed, booked), (unit.observed, unit.spend), (recent, unit.spend)):
        paid, delivered = spend[weeks].sum(axis=0), unit.media[weeks].sum(axis=0)
        priced = np.isfinite(paid) & (paid > 0) & (delivered > 0)
        found = np.where(priced, paid, found) / np.where(priced, delivered, 1.0)
    return found


def response_curves(unit: Unit, scale: Scale, curves: Curves, term: MediaTerm, *, points: int) -> ResponseCurves:
    """Response to media held at each of `levels` for ever.

    Args:
        unit: Says what media cost.
        scale: On which the unit was fitted.
        curves: Its draws.
        term: Form of each channel's response.
        points: How many levels.
    """
    grid, cost = levels(points), scale.media * media_price(unit)
    media = np.broadcast_to(grid[:, None, None], (points, 1, len(cost)))
    draws = Curves(curves.shape[:, None], curves.effect[None])
    with jax.enable_x64(True):
        kpi, slope = (np.moveaxis(np.asarray(part)[:, 0], 0, 1) for part in steady(media, draws, term=term))
    return ResponseCurves(np.outer(cost, grid), kpi, slope / cost[:, None, None])
