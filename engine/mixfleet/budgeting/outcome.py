"""Outlook: what the coming weeks' spend of every cell - a channel in a unit - would bring, draw by draw.

The coming weeks follow the last week of the data; what the last weeks' media still bring is carried in, and what the
coming weeks' media bring afterwards is counted. Outcomes are what a wish maximises: money where the table says what a
KPI is worth, KPI otherwise. Money is of the plan's currency.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.config import Model
from mixfleet.config.priors import ADSTOCK_PARAMETERS
from mixfleet.data.panel import Unit
from mixfleet.models.media import Curves, in_chunks, windows
from mixfleet.posterior.response_curves import media_price
from mixfleet.posterior.unit_series import UnitSeries
from mixfleet_kernels import adstock, saturation

__all__ = ["SpendOutcome", "outcome_of_spend", "recent_worth"]

LANES = 100_000
"""Draws times levels times channels that are evaluated at once: a week of them stays in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class SpendOutcome:
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
    """Share of a cell's spend that each coming week gets, unless somebody says otherwise."""
    rate: Float[np.ndarray, " unit"]
    """The plan's currency per currency of the unit."""
    worth: Float[np.ndarray, " unit"]
    """Outcome per KPI."""

    def outcome(
        self,
        levels: Float[np.ndarray, "cell level"],
        draws: int,
        weekly: Float[np.ndarray, "cell level week"] | None = None,
        *,
        exact: bool = True,
    ) -> Float[np.ndarray, "cell level draw"]:
        """What each cell brings at each level of spend beyond what it would at none; NaN if not certified.

        Args:
            levels: Money over all weeks.
            draws: How many of the fleet's draws are looked at, evenly spaced.
            weekly: The same by week; by the cells' patterns unless it is given.
            exact: In double precision; in single precision it is known to six digits, several times as fast.
        """
        found = np.full((*levels.shape, draws), np.nan, float if exact else np.float32)
        for rows, part in self.by_unit(levels, draws, weekly, exact=exact):
            found[rows] = part
        return found

    def expected(
        self,
        levels: Float[np.ndarray, "cell level"],
        draws: int,
        weekly: Float[np.ndarray, "cell level week"] | None = None,
    ) -> Float[np.ndarray, "cell level"]:
        """The mean of `outcome` over its draws, each in single precision."""
        found = np.full(levels.shape, np.nan)
        for rows, part in self.by_unit(levels, draws, weekly, exact=False):
            found[rows] = part.mean(axis=-1, dtype=float)
        return found

    def by_unit(
        self,
        levels: Float[np.ndarray, "cell level"],
        draws: int,
        weekly: Float[np.ndarray, "cell level week"] | None = None,
        *,
        exact: bool,
    ) -> Iterator[tuple[Int[np.ndarray, " own"], Float[np.ndarray, "own level draw"]]]:
        """Places and outcomes of each certified unit's cells, unit after unit; see `outcome`."""
        fleet = self.fleet
        cells = [np.flatnonzero((self.unit == place) & self.certified) for place in range(len(fleet.units))]

        def work(place: int, series: UnitSeries) -> tuple[np.ndarray, np.ndarray] | None:
            rows = cells[place]
            if not len(rows):
                return None
            # [week, level, cell]; levels of one pattern share its carry-over.
            shape = self.pattern[rows].T[:, None] if weekly is None else weekly[rows].transpose(2, 1, 0)
            multiple = levels[rows].T if weekly is None else np.ones((1, len(rows)))
            return rows, self._of_unit(place, series, rows, shape, multiple, draws, float if exact else np.float32)

        return (found for found in fleet.walk(work) if found is not None)

    @property
    def converted(self) -> bool:
        """Whether a unit's currency is another than the plan's."""
        return bool(np.any(self.rate != 1))

    def days(self, place: int) -> np.ndarray:
        """First days of the coming weeks of a unit."""
        dates = self.fleet.units[place].dates
        return (dates[-1] + (dates[1] - dates[0]) * np.arange(1, self.weeks + 1)).astype("datetime64[D]")

    def names(self) -> dict[str, list[str]]:
        """Columns that say which cell is which: keys, status, channel."""
        fleet = self.fleet
        return {
            **{key: [fleet.units[place].labels[i] for place in self.unit] for i, key in enumerate(fleet.keys)},
            "status": [fleet.statuses[place] for place in self.unit],
            "channel": [fleet.channels[channel] for channel in self.channel],
        }

    def _of_unit(
        self,
        place: int,
        series: UnitSeries,
        rows: Int[np.ndarray, " cell"],
        shape: Float[np.ndarray, "week base cell"],
        multiple: Float[np.ndarray, "level cell"],
        draws: int,
        dtype: type,
    ) -> Float[np.ndarray, "cell level draw"]:
        fleet = self.fleet
        own = series.effect.shape[-1]
        picked = (np.arange(draws) * own) // draws
        unit, model = fleet.units[place], fleet.spec.model
        weeks, before = len(unit.dates), model.window - 1
        channels = self.channel[rows]
        history = np.zeros((before, len(rows)))
        known = series.media[max(weeks - before, 0) : weeks, channels]
        history[before - len(known) :] = known
        cost = (fleet.scales[place].media * media_price(unit))[channels] * self.rate[place]
        curves = Curves(series.shape[:, channels][..., picked], series.effect[channels][..., picked])
        with jax.enable_x64(dtype is float):
            made = jax.tree.map(lambda values: jnp.asarray(values, dtype), (history, shape / cost, multiple, curves))
            return np.asarray(_brought(*made, model=model)).swapaxes(0, 1) * dtype(self.worth[place])


def outcome_of_spend(
    fleet: Fleet,
    weeks: int,
    *,
    even: bool = False,
    rate: Float[np.ndarray, " unit"] | None = None,
    worth: Float[np.ndarray, " unit"] | None = None,
) -> SpendOutcome:
    """The outlook over the next `weeks` weeks.

    Args:
        fleet: The units.
        weeks: Weeks to come; today's spend is that of as many last weeks.
        even: Whether every week gets the same; each cell keeps its weekly pattern otherwise.
        rate: The plan's currency per currency of the unit; one by default.
        worth: Outcome per KPI of each unit; its recent worth by default.
    """
    cells: list[tuple[int, int, float, np.ndarray]] = []
    rates = np.ones(len(fleet.units)) if rate is None else rate
    for place, unit in enumerate(fleet.units):
        last = np.zeros((weeks, len(fleet.channels)))
        recent = np.nan_to_num(unit.spend[-weeks:])
        last[weeks - len(recent) :] = recent
        paid = np.nan_to_num(unit.spend).sum(axis=0) > 0
        for channel in np.flatnonzero(paid):
            today = float(last[:, channel].sum())
            follows = not even and today > 0
            pattern = last[:, channel] / today if follows else np.full(weeks, 1 / weeks)
            cells.append((place, int(channel), today * rates[place], pattern))
    places, channels, today, pattern = zip(*cells, strict=True) if cells else ((), (), (), np.zeros((0, weeks)))
    return SpendOutcome(
        fleet=fleet,
        weeks=weeks,
        unit=np.array(places, int),
        channel=np.array(channels, int),
        certified=fleet.certified[np.array(places, int)],
        today=np.array(today, float),
        pattern=np.array(pattern, float).reshape(-1, weeks),
        rate=rates,
        worth=np.array([recent_worth(unit, weeks) for unit in fleet.units]) * rates if worth is None else worth,
    )


def recent_worth(unit: Unit, weeks: int) -> float:
    """Money per KPI over the last weeks, in the unit's currency."""
    last = unit.value_per_kpi[-weeks:][unit.observed[-weeks:]]
    return float(last.mean()) if len(last) else float(unit.value_per_kpi[unit.observed][-1])


@partial(jax.jit, static_argnames="model")
def _brought(
    history: Float[Array, "lag cell"],
    shape: Float[Array, "week base cell"],
    multiple: Float[Array, "level cell"],
    curves: Curves,
    *,
    model: Model,
) -> Float[Array, "level cell draw"]:
    """KPI after the history, less what comes of the history alone; one base for all levels, or one for each."""
    before, levels = history.shape[0], max(shape.shape[1], multiple.shape[0])
    after = jnp.zeros((before, *shape.shape[1:]), shape.dtype)

    def of_chunk(part: Curves) -> Array:
        parameters = tuple(part.shape[len(ADSTOCK_PARAMETERS[model.adstock]) :])
        weights = windows(part, model)
        if not model.adstock_first:
            # Every week's saturated media arrive in full, this week or later.
            value = saturation.saturate(model.saturation, _wide(shape * multiple[None], part), parameters)
            return jnp.sum(value, axis=0) * (part.effect * jnp.sum(weights, axis=0))[None]
        past = jnp.concatenate([history, jnp.zeros((shape.shape[0] + before, history.shape[1]), history.dtype)])
        carried_in = adstock.convolve(_wide(past, part), weights)[before:]
        coming = _wide(jnp.concatenate([shape, after]), part)
        if weights.ndim > 1:
            weights = jnp.broadcast_to(weights[:, None], (weights.shape[0], *coming.shape[1:]))
        # Carry-over is linear: a base is carried once for all its multiples.
        carried = adstock.convolve(coming, weights)

        def add_week(total: Array, week: tuple[Array, Array]) -> tuple[Array, None]:
            past, now = week
            seen = past[None] + now * multiple[..., None]
            with_, without = (
                saturation.saturate(model.saturation, media[None], parameters)[0] for media in (seen, past)
            )
            return total + (with_ - without[None]), None

        start = jnp.zeros((levels, *part.effect.shape), part.effect.dtype)
        return jax.lax.scan(add_week, start, (carried_in, carried))[0] * part.effect[None]

    return in_chunks(of_chunk, curves, size=max(1, LANES // (levels * history.shape[1])))


def _wide(media: Float[Array, "week *cell"], curves: Curves) -> Float[Array, "week *cell draw"]:
    return jnp.broadcast_to(media[..., None], (*media.shape, curves.effect.shape[-1]))
