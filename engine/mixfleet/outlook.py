"""Outlook: what the coming weeks' spend of every cell - a channel in a unit - would bring, draw by draw.

The coming weeks follow the last week of the data. They repeat the weekly pattern of as many last weeks, or spread the
spend evenly; what the last weeks' media still bring is carried in, and what the coming weeks' media bring afterwards
is counted. Outcomes are money where the table says what a KPI is worth, KPI otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixfleet.config import Model
from mixfleet.curve_tables import price
from mixfleet.fleet import Block, Fleet
from mixfleet.response import Curves, in_chunks, respond

__all__ = ["Flighting", "Outlook", "look_ahead"]

Flighting = Literal["today", "even"]

LANES = 12_000
"""Draws times levels times channels that are evaluated at once, so that they stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The cells of a plan for the coming weeks. Every paid channel of every fitted unit is one, certified or not."""

    fleet: Fleet
    weeks: int
    unit: Int[np.ndarray, " cell"]
    """Place in `fleet.units`."""
    channel: Int[np.ndarray, " cell"]
    certified: Bool[np.ndarray, " cell"]
    today: Float[np.ndarray, " cell"]
    """Spend of the last weeks, as many as are planned."""
    pattern: Float[np.ndarray, "cell week"]
    """Share of a cell's spend that each coming week gets."""

    def outcome(self, levels: Float[np.ndarray, "cell level"], draws: int) -> Float[np.ndarray, "cell level draw"]:
        """What each cell brings at each level of spend beyond what it would at none; NaN if not certified."""
        found = np.full((*levels.shape, draws), np.nan, np.float32)
        for rows, part in self._by_unit(levels, draws):
            found[rows] = part
        return found

    def expected(self, levels: Float[np.ndarray, "cell level"], draws: int) -> Float[np.ndarray, "cell level"]:
        """The mean of `outcome` over its draws."""
        found = np.full(levels.shape, np.nan)
        for rows, part in self._by_unit(levels, draws):
            found[rows] = part.mean(axis=-1)
        return found

    def _by_unit(self, levels: np.ndarray, draws: int):
        fleet = self.fleet
        picked = (np.arange(draws) * fleet.draws) // draws
        cells = [np.flatnonzero((self.unit == place) & self.certified) for place in range(len(fleet.units))]

        def work(block: Block) -> tuple[np.ndarray, np.ndarray] | None:
            rows = cells[block.places[0]]
            return (rows, self._of_unit(block, rows, levels[rows], picked)) if len(rows) else None

        return (found for found in fleet.walk(work) if found is not None)

    def _of_unit(
        self, block: Block, rows: Int[np.ndarray, " cell"], levels: Float[np.ndarray, "cell level"], picked: np.ndarray
    ) -> Float[np.ndarray, "cell level draw"]:
        fleet, place = self.fleet, block.places[0]
        unit, model = fleet.units[place], fleet.spec.model
        weeks, before = len(unit.dates), model.window - 1
        channels = self.channel[rows]
        history = np.zeros((before, len(rows)))
        known = block.media[0][max(weeks - before, 0) : weeks, channels]
        history[before - len(known) :] = known
        cost = (fleet.scale(place).media * price(unit))[channels]
        # [week, level, cell]: what is delivered in the coming weeks for each level of spend.
        ahead = self.pattern[rows].T[:, None] * (levels / cost[:, None]).T[None]
        media = np.concatenate(
            [np.broadcast_to(history[:, None], (before, *ahead.shape[1:])), ahead, np.zeros((before, *ahead.shape[1:]))]
        )
        last = unit.value_per_kpi[-self.weeks :][unit.observed[-self.weeks :]]
        worth = float(last.mean()) if len(last) else float(unit.value_per_kpi[unit.observed][-1])
        curves = Curves(block.shape[:, :1, channels][..., picked], block.effect[:1, channels][..., picked])
        with jax.enable_x64(True):
            found = _brought(media, curves, model=model, before=before)
            return np.asarray(found, np.float32).swapaxes(0, 1) * worth


def look_ahead(fleet: Fleet, weeks: int, flighting: Flighting = "today") -> Outlook:
    """The outlook over the next `weeks` weeks."""
    cells: list[tuple[int, int, float, np.ndarray]] = []
    even = np.full(weeks, 1 / weeks)
    for place, unit in enumerate(fleet.units):
        last = np.zeros((weeks, len(fleet.channels)))
        recent = np.nan_to_num(unit.spend[-weeks:])
        last[weeks - len(recent) :] = recent
        paid = np.nan_to_num(unit.spend).sum(axis=0) > 0
        for channel in np.flatnonzero(paid):
            today = float(last[:, channel].sum())
            follows = flighting == "today" and today > 0
            cells.append((place, int(channel), today, last[:, channel] / today if follows else even))
    places, channels, today, pattern = zip(*cells, strict=True) if cells else ((), (), (), np.zeros((0, weeks)))
    return Outlook(
        fleet=fleet,
        weeks=weeks,
        unit=np.array(places, int),
        channel=np.array(channels, int),
        certified=fleet.certified[np.array(places, int)],
        today=np.array(today, float),
        pattern=np.array(pattern, float).reshape(-1, weeks),
    )


@partial(jax.jit, static_argnames=("model", "before"))
def _brought(
    media: Float[Array, "week level cell"], curves: Curves, *, model: Model, before: int
) -> Float[Array, "level cell draw"]:
    """KPI after the history, less what comes of the history alone."""
    levels, cells = media.shape[1:]
    # The last level is no spend at all.
    nothing = media[:, :1].at[before:].set(0.0)
    plans = jnp.concatenate([media, nothing], axis=1)

    def of_chunk(part: Curves) -> Array:
        wide = jax.tree.map(lambda values: jnp.broadcast_to(values, _widened(values, levels + 1)), part)
        total = jnp.sum(respond(plans, wide, model=model, first=before).contribution, axis=0)
        return total[:-1] - total[-1:]

    return in_chunks(of_chunk, curves, size=max(1, LANES // (levels * cells)))


def _widened(values: Array, levels: int) -> Sequence[int]:
    """The shape with as many units as there are levels."""
    return (*values.shape[:-3], levels, *values.shape[-2:])
