"""Curve tables: response curves of every unit and channel, and what they say in one number each."""

from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Block, Fleet
from mixfleet.config.priors import ADSTOCK_PARAMETERS
from mixfleet.data.panel import Unit
from mixfleet.models.media import Curves, steady, windows
from mixfleet.posterior.statistics import statistics

__all__ = ["curves", "price", "shapes"]

PRICE_DAYS = 91
"""Days over which the price of media is today's: thirteen weeks, so that single payments even out."""

HIGHEST = 1.5
"""Last level of a curve, in shares of the channel's highest week."""

_HALF = {
    "logistic": lambda rate: np.log(3.0) / rate,
    "hill": lambda *shape: shape[1],
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
    long_table, grid = LongTable(), np.linspace(0.0, HIGHEST, points)

    def work(block: Block) -> dict[str, np.ndarray]:
        levels = np.broadcast_to(grid[:, None, None], (points, 1, len(fleet.channels)))
        with jax.enable_x64(True):
            level, slope = (np.asarray(part)[:, 0] for part in steady(levels, _curves(block), model=fleet.spec.model))
        cost = _cost(fleet, block)[:, None]
        return {
            "spend": cost * grid,
            **statistics(np.moveaxis(level, 0, 1)),
            "marginal": np.moveaxis(slope, 0, 1).mean(axis=-1) / cost,
            "seen": np.broadcast_to(grid <= 1.0, (len(cost), points)),
            "usual": _usual(block)[:, None] * cost,
        }

    axes = {"channel": fleet.channels, "level": range(points)}
    for head, ran, values in zip(*_heads(fleet), fleet.walk(work), strict=True):
        long_table.add(head, axes, values, where=ran[:, None])
    return long_table.table()


def shapes(fleet: Fleet) -> pa.Table:
    """One row per unit, channel and measure.

    `half_saturation`: weekly spend (media where nothing is paid) at which the response is half of its ceiling.
    `saturation`: share of the ceiling that is reached at the usual level. `half_life`: weeks until half of the effect
    has come, between lags in proportion. `mean_lag`: weeks that the effect comes late on average.
    """
    long_table = LongTable()

    def work(block: Block) -> dict[str, dict[str, np.ndarray]]:
        return {measure: statistics(values) for measure, values in _shapes(fleet, block).items()}

    for head, ran, measures in zip(*_heads(fleet), fleet.walk(work), strict=True):
        for measure, values in measures.items():
            long_table.add({**head, "measure": measure}, {"channel": fleet.channels}, values, where=ran)
    return long_table.table()


def _shapes(fleet: Fleet, block: Block) -> dict[str, Float[np.ndarray, "channel draw"]]:
    model = fleet.spec.model
    with jax.enable_x64(True):
        usual = np.asarray(steady(_usual(block)[None, None], _curves(block), model=model)[0])[0, 0]
    weights = _weights(fleet, block)
    total = weights.sum(axis=0)
    late = np.einsum("lcd,l->cd", weights, np.arange(len(weights))) / total
    measures = {"half_life": half_life(weights), "mean_lag": late}
    if model.saturation in _HALF:
        half = _HALF[model.saturation](*block.shape[len(ADSTOCK_PARAMETERS[model.adstock]) :, 0])
        before, ceiling = (total, 1.0) if model.adstock_first else (1.0, total)
        measures["half_saturation"] = half / before * _cost(fleet, block)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            measures["saturation"] = usual / (block.effect[0] * ceiling)
    return measures


def half_life(weights: Float[np.ndarray, "window channel draw"]) -> Float[np.ndarray, "channel draw"]:
    """Weeks until half of the effect has come; within the week at which it does, in proportion."""
    share = np.cumsum(weights, axis=0) / weights.sum(axis=0)
    lag = np.argmax(share >= 0.5, axis=0)[None]
    reached = np.take_along_axis(share, lag, 0)
    before = np.where(lag > 0, np.take_along_axis(share, np.maximum(lag - 1, 0), 0), 0.0)
    return (lag + (0.5 - before) / (reached - before))[0]


def price(unit: Unit) -> Float[np.ndarray, " channel"]:
    """Today's spend per unit of media: over the last `PRICE_DAYS`, else all weeks; 1.0 where nothing is paid.

    Money that is still to be spent buys at today's price, not at the average of years of media inflation.
    """
    recent = unit.observed & (unit.dates > unit.dates[-1] - np.timedelta64(PRICE_DAYS, "D"))
    found = np.ones(unit.media.shape[1])
    for weeks in (unit.observed, recent):
        paid, delivered = unit.spend[weeks].sum(axis=0), unit.media[weeks].sum(axis=0)
        priced = np.isfinite(paid) & (paid > 0) & (delivered > 0)
        found = np.where(priced, paid, found) / np.where(priced, delivered, 1.0)
    return found


def _heads(fleet: Fleet) -> tuple[list[dict[str, Any]], list[Bool[np.ndarray, " channel"]]]:
    """Head columns of every unit, and which channels ran in it."""
    heads = [
        {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": status}
        for unit, status in zip(fleet.units, fleet.statuses, strict=True)
    ]
    return heads, [np.any(unit.media != 0, axis=0) for unit in fleet.units]


def _cost(fleet: Fleet, block: Block) -> Float[np.ndarray, " channel"]:
    """Spend for one medium on the model's scale."""
    place = block.places[0]
    return fleet.scales[place].media * price(fleet.units[place])


def _weights(fleet: Fleet, block: Block) -> Float[np.ndarray, "window channel draw"]:
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
