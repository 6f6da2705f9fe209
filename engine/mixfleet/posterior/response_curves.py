"""Response curves: the weekly KPI that a channel brings at a steady level of spend."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.data.panel import Unit
from mixfleet.data.scaling import Scale
from mixfleet.models.media import Curves, MediaTerm, held, steady
from mixfleet.posterior.counterfactual import log_link
from mixfleet.posterior.media_prices import media_price

__all__ = ["HIGHEST", "ResponseCurves", "levels", "response_curves", "steady_kpi"]

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
        level: Under a log link, the mean KPI of a week had the channel not been there, which its media multiply; from
            `log_link.MOST` on the curve is level.
    """
    grid, cost = _grid(unit, scale, points)
    with jax.enable_x64(True):
        kpi, slope = (np.moveaxis(part, 0, 1) for part in steady(grid, curves, term=term))
    if level is not None:
        slope = np.where(kpi < log_link.MOST, level[:, None] * np.exp(np.minimum(kpi, log_link.MOST)) * slope, 0.0)
        kpi = log_link.raised(level[:, None], kpi)
    return ResponseCurves(cost[:, None] * grid.T, kpi, slope / cost[:, None, None])


def steady_kpi(
    unit: Unit,
    scale: Scale,
    curves: Curves,
    term: MediaTerm,
    *,
    points: int,
    level: Float[np.ndarray, "channel draw"] | None = None,
) -> tuple[Float[np.ndarray, "level channel"], Float[np.ndarray, "level channel draw"]]:
    """Spend and KPI of `response_curves`, without slopes."""
    grid, cost = _grid(unit, scale, points)
    with jax.enable_x64(True):
        kpi = held(grid, curves, term=term)
    return cost * grid, kpi if level is None else log_link.raised(level, kpi)


def _grid(
    unit: Unit, scale: Scale, points: int
) -> tuple[Float[np.ndarray, "level channel"], Float[np.ndarray, " channel"]]:
    """Levels of every channel on the model's scale, and what media of one there cost."""
    cost = scale.media * media_price(unit)
    return np.repeat(levels(points)[:, None], len(cost), axis=1), cost
