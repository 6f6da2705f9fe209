"""Curve tables: response curves of every unit and channel, and what they say in one number each."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet import scale
from mixfleet.config import ADSTOCK_PARAMETERS
from mixfleet.fleet import Block, Fleet
from mixfleet.interval import statistics
from mixfleet.panel import Unit
from mixfleet.response import Curves, steady, windows
from mixfleet.tidy import Tidy

__all__ = ["curves", "price", "shapes"]

HIGHEST = 1.5
"""Last level of a curve, in shares of the channel's highest week."""

_HALF = {
    "logistic": lambda rate: np.log(3.0) / rate,
    "hill": lambda slope, half_saturation: half_saturation,
    "tanh": lambda scale: scale * np.arctanh(0.5),
    "michaelis_menten": lambda half_saturation: half_saturation,
    "exponential": lambda rate: np.log(2.0) / rate,
}
"""Media at which a curve reaches half of its ceiling; families without one are not here."""


def curves(fleet: Fleet, points: int) -> pa.Table:
    """KPI a week at steady spend, from nothing to half again the highest week, and the derivative by spend.

    `spend` is media where nothing is paid. `seen` marks levels up to the highest week; `usual` is the mean of the weeks
    in which the channel ran.
    """
    tidy, grid = Tidy(), np.linspace(0.0, HIGHEST, points)
    for head, block, cost in _units(fleet):
        levels = np.broadcast_to(grid[:, None, None], (points, 1, len(fleet.channels)))
        with jax.enable_x64(True):
            found = steady(levels, _curves(block), model=fleet.spec.model)
            level, slope = (np.asarray(part)[:, 0] for part in found)
        spend = np.outer(cost, grid)
        marginal = np.moveaxis(slope, 0, 1).mean(axis=-1) / cost[:, None]
        tidy.add(
            head,
            {"channel": fleet.channels, "level": range(points)},
            {
                "spend": spend,
                **statistics(np.moveaxis(level, 0, 1)),
                "marginal": marginal,
                "seen": np.broadcast_to(grid <= 1.0, spend.shape),
                "usual": _usual(block)[:, None] * cost[:, None],
            },
            where=np.any(block.media[0] != 0, axis=0)[:, None],
        )
    return tidy.table()


def shapes(fleet: Fleet) -> pa.Table:
    """One row per unit, channel and measure.

    `half_saturation`: weekly spend (media where nothing is paid) at which the response is half of its ceiling.
    `saturation`: share of the ceiling that is reached at the usual level. `half_life`: weeks until half of the effect
    has come, between lags in proportion. `mean_lag`: weeks that the effect comes late on average.
    """
    tidy, model = Tidy(), fleet.spec.model
    for head, block, cost in _units(fleet):
        ran = np.any(block.media[0] != 0, axis=0)
        with jax.enable_x64(True):
            weights = _weights(block, fleet)
            usual = np.broadcast_to(_usual(block)[None, None], (1, 1, len(ran)))
            here = np.asarray(steady(usual, _curves(block), model=model)[0])[0, 0]
        total = weights.sum(axis=0)
        measures: dict[str, np.ndarray] = {
            "half_life": half_life(weights),
            "mean_lag": np.einsum("lcd,l->cd", weights, np.arange(len(weights))) / total,
        }
        if model.saturation in _HALF:
            half = _HALF[model.saturation](*block.shape[len(ADSTOCK_PARAMETERS[model.adstock]) :, 0])
            before, ceiling = (total, 1.0) if model.adstock_first else (1.0, total)
            measures["half_saturation"] = half / before * cost[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                measures["saturation"] = here / (block.effect[0] * ceiling)
        for measure, values in measures.items():
            tidy.add({**head, "measure": measure}, {"channel": fleet.channels}, statistics(values), where=ran)
    return tidy.table()


def half_life(weights: Float[np.ndarray, "window channel draw"]) -> Float[np.ndarray, "channel draw"]:
    """Weeks until half of the effect has come; within the week at which it does, in proportion."""
    share = np.cumsum(weights, axis=0) / weights.sum(axis=0)
    lag = np.argmax(share >= 0.5, axis=0)[None]
    reached = np.take_along_axis(share, lag, 0)
    before = np.where(lag > 0, np.take_along_axis(share, np.maximum(lag - 1, 0), 0), 0.0)
    return (lag + (0.5 - before) / (reached - before))[0]


def price(unit: Unit) -> Float[np.ndarray, " channel"]:
    """Spend per unit of media over all of the unit's weeks; 1.0 where nothing is paid."""
    paid, delivered = unit.spend[unit.observed].sum(axis=0), unit.media[unit.observed].sum(axis=0)
    priced = np.isfinite(paid) & (paid > 0) & (delivered > 0)
    return np.where(priced, paid, 1.0) / np.where(priced, delivered, 1.0)


def _units(fleet: Fleet) -> Iterator[tuple[dict[str, Any], Block, Float[np.ndarray, " channel"]]]:
    """Head columns, block, and spend per scaled medium, of every unit."""
    for block in fleet.blocks(1):
        unit, status = fleet.units[block.places[0]], fleet.statuses[block.places[0]]
        holdout, window = fleet.spec.data.holdout or 0, fleet.spec.model.window
        measured = scale.measure(unit, scale.likelihood_weeks(unit, window=window, holdout=holdout))
        head = {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": status}
        yield head, block, measured.media * price(unit)


def _weights(block: Block, fleet: Fleet) -> Float[np.ndarray, "window channel draw"]:
    weights = np.asarray(windows(_curves(block), fleet.spec.model), float)
    # A family without parameters has one window for all.
    weights = weights[:, 0] if weights.ndim > 1 else weights[:, None, None]
    return np.broadcast_to(weights, (len(weights), *block.effect.shape[1:]))


def _usual(block: Block) -> Float[np.ndarray, " channel"]:
    """Mean of the weeks in which each channel ran, on the model's scale."""
    media = block.media[0]
    return media.sum(axis=0) / np.maximum((media != 0).sum(axis=0), 1)


def _curves(block: Block) -> Curves:
    return Curves(block.shape, block.effect)
