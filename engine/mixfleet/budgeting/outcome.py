"""What the coming weeks' spend of every cell - a channel in a unit - would bring, draw by draw.

The coming weeks follow the last week of the data, the same for all units; what the last weeks' media still bring is
carried in, and what the coming weeks' media bring afterwards is counted. A unit whose data end some weeks before the
others' is taken to have gone on as in its own last weeks; one whose data end long before is closed and not planned.
Outcomes are what a plan maximises: money where the table says what a KPI is worth, KPI otherwise. Money is of the
plan's currency.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.panel import Unit
from mixfleet.models.media import Curves, FormGroup, MediaTerm, by_form, in_chunks, saturated, window
from mixfleet.posterior.media_prices import media_price, paid_apart
from mixfleet.posterior.unit_series import UnitSeries
from mixfleet_kernels import adstock

__all__ = ["SpendOutcome", "outcome_of_spend", "recent_worth"]

CLOSED = np.timedelta64(91, "D")
"""A unit whose data end longer than this before the fleet's is closed: no money of today's is spent there."""

LANES = 100_000
"""Draws times levels times channels that are evaluated at once: a week of them stays in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class SpendOutcome:
    """The cells of a plan for the coming weeks: every paid channel of every fitted unit that is not closed."""

    fleet: Fleet
    weeks: int
    unit: Int[np.ndarray, " cell"]
    """Place in `fleet.units`."""
    channel: Int[np.ndarray, " cell"]
    certified: Bool[np.ndarray, " cell"]
    """Whether the cell's unit is certified and the cell is not `credited`; other cells keep their spend."""
    credited: Bool[np.ndarray, " cell"]
    """Whether credit notes outweigh what was spent, in the last weeks or in all: no plan follows from such money."""
    apart: Bool[np.ndarray, " cell"]
    """Whether media ran in the last weeks that were paid for in other weeks, or together with those of other weeks."""
    today: Float[np.ndarray, " cell"]
    """Spend of the last weeks, as many as are planned. Weeks that the table does not hold, or that lie before the
    unit's first, count as the mean of those it holds. Of a credited cell without its credit notes; of one `apart`, what
    ran at today's price."""
    pattern: Float[np.ndarray, "cell week"]
    """Share of a cell's spend that each coming week gets, unless somebody says otherwise: that of what was delivered
    in the last weeks, or of what was paid where nothing was delivered."""
    rate: Float[np.ndarray, " unit"]
    """The plan's currency per currency of the unit."""
    worth: Float[np.ndarray, " unit"]
    """Outcome per KPI."""
    last_day: np.datetime64
    """First day of the last week of any unit; the coming weeks begin after it."""

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
        """First days of the coming weeks of a unit, all of them after the last week of any unit."""
        dates = self.fleet.units[place].dates
        step = dates[1] - dates[0]
        behind = (self.last_day - dates[-1]) // step
        return (dates[-1] + step * np.arange(1 + behind, 1 + behind + self.weeks)).astype("datetime64[D]")

    @property
    def closed(self) -> dict[str, str]:
        """Units that are not planned because their data end long before the fleet's, with their last days."""
        units = self.fleet.units
        return {
            " / ".join(units[place].labels): str(units[place].dates[-1].astype("datetime64[D]"))
            for place in np.flatnonzero(_closed(self.fleet, self.last_day))
        }

    @property
    def estimated(self) -> dict[str, int]:
        """Units of which fewer weeks are known than are planned, and how many are."""
        units = (self.fleet.units[place] for place in np.unique(self.unit))
        known = {" / ".join(unit.labels): int(unit.observed[-self.weeks :].sum()) for unit in units}
        return {name: count for name, count in known.items() if count < self.weeks}

    def named(self, cells: Bool[np.ndarray, " cell"]) -> list[str]:
        """Names of some cells, such as those `credited`."""
        fleet = self.fleet
        return [
            f"{fleet.channels[self.channel[cell]]} of {' / '.join(fleet.units[self.unit[cell]].labels)}"
            for cell in np.flatnonzero(cells)
        ]

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
        unit, channels = fleet.units[place], self.channel[rows]
        term = fleet.term.of(tuple(channels.tolist()))
        weeks, before = len(unit.dates), term.window - 1
        history = np.zeros((before, len(rows)))
        known = series.media[max(weeks - before, 0) : weeks, channels]
        history[before - len(known) :] = known
        cost = (fleet.scales[place].media * media_price(unit))[channels] * self.rate[place]
        curves = Curves(series.shape[:, channels][..., picked], series.effect[channels][..., picked])
        with jax.enable_x64(dtype is float):
            made = jax.tree.map(lambda values: jnp.asarray(values, dtype), (history, shape / cost, multiple, curves))
            return np.asarray(_brought(*made, term=term)).swapaxes(0, 1) * dtype(self.worth[place])


def outcome_of_spend(
    fleet: Fleet,
    weeks: int,
    *,
    even: bool = False,
    rate: Float[np.ndarray, " unit"] | None = None,
    worth: Float[np.ndarray, " unit"] | None = None,
) -> SpendOutcome:
    """The outcomes over the next `weeks` weeks.

    Args:
        fleet: The units.
        weeks: Weeks to come; today's spend is that of as many last weeks.
        even: Whether every week gets the same; each cell keeps its weekly pattern otherwise.
        rate: The plan's currency per currency of the unit; one by default.
        worth: Outcome per KPI of each unit; its recent worth by default.
    """
    rates = np.ones(len(fleet.units)) if rate is None else rate
    last_day = max((unit.dates[-1] for unit in fleet.units), default=np.datetime64("NaT", "D"))
    found = [_todays_spend(unit, weeks, even=even) for unit in fleet.units]
    cells = [
        (place, channel)
        for place in np.flatnonzero(~_closed(fleet, last_day))
        for channel in np.flatnonzero(np.any(fleet.units[place].spend > 0, axis=0))
    ]
    places, channels = np.array(cells, int).reshape(-1, 2).T
    today = np.array([found[place].money[channel] for place, channel in cells], float)
    pattern = np.array([found[place].pattern[channel] for place, channel in cells], float)
    credited, apart = (
        np.array([getattr(found[place], name)[channel] for place, channel in cells], bool)
        for name in ("credited", "apart")
    )
    return SpendOutcome(
        fleet=fleet,
        weeks=weeks,
        unit=places,
        channel=channels,
        certified=fleet.included[places] & ~credited,
        credited=credited,
        apart=apart,
        today=today * rates[places],
        pattern=pattern.reshape(-1, weeks),
        rate=rates,
        worth=np.array([recent_worth(unit, weeks) for unit in fleet.units]) * rates if worth is None else worth,
        last_day=last_day,
    )


class _Today(NamedTuple):
    """A unit's spend of as many last weeks as are planned."""

    money: Float[np.ndarray, " channel"]
    pattern: Float[np.ndarray, "channel week"]
    credited: Bool[np.ndarray, " channel"]
    apart: Bool[np.ndarray, " channel"]


def _todays_spend(unit: Unit, weeks: int, *, even: bool) -> _Today:
    net = np.nan_to_num(unit.spend)
    known = np.flatnonzero(unit.observed[-weeks:]) - min(weeks, len(unit.dates))

    def last(spend: Float[np.ndarray, "week channel"]) -> Float[np.ndarray, "channel week"]:
        # A week that the table does not hold is no week without spend.
        found = np.repeat(spend[known].mean(axis=0)[:, None], weeks, axis=1)
        found[:, known] = spend[known].T
        return found

    # Credit notes return money, they are no pattern that the coming weeks follow. Nor are payments where the table
    # says what was delivered: a quarter's bill is paid in one week and runs in all.
    money, booked, delivered = last(net).sum(axis=1), last(np.maximum(net, 0.0)), last(np.maximum(unit.media, 0.0))
    whole, ran = booked.sum(axis=1), delivered.sum(axis=1)
    credited = ((whole > 0) & (money <= 0)) | (np.any(net > 0, axis=0) & (net.sum(axis=0) <= 0))
    shape = np.where((ran > 0)[:, None], delivered, booked)
    size = np.where(ran > 0, ran, whole)
    follows = (size > 0) & (not even)
    pattern = np.where(follows[:, None], shape / np.where(size > 0, size, 1.0)[:, None], 1 / weeks)
    lately = unit.observed.copy()
    lately[:-weeks] = False
    apart = paid_apart(net[lately], unit.media[lately]) & np.any(net > 0, axis=0) & ~credited
    money = np.where(apart, ran * media_price(unit), np.where(credited, whole, money))
    return _Today(money, pattern, credited, apart)


def _closed(fleet: Fleet, last_day: np.datetime64) -> Bool[np.ndarray, " unit"]:
    return np.array([last_day - unit.dates[-1] > CLOSED for unit in fleet.units], bool)


def recent_worth(unit: Unit, weeks: int) -> float:
    """Money per KPI over the last weeks, in the unit's currency."""
    last = unit.value_per_kpi[-weeks:][unit.observed[-weeks:]]
    return float(last.mean()) if len(last) else float(unit.value_per_kpi[unit.observed][-1])


@partial(jax.jit, static_argnames="term")
def _brought(
    history: Float[Array, "lag cell"],
    shape: Float[Array, "week base cell"],
    multiple: Float[Array, "level cell"],
    curves: Curves,
    *,
    term: MediaTerm,
) -> Float[Array, "level cell draw"]:
    """KPI after the history, less what comes of the history alone; one base for all levels, or one for each."""
    before, levels = history.shape[0], max(shape.shape[1], multiple.shape[0])
    after = jnp.zeros((before, *shape.shape[1:]), shape.dtype)

    def of_form(group: FormGroup, part: Curves) -> Array:
        form, weights = group.form, window(part, group.form)
        before_, shape_, multiple_ = (group.own(values, -1) for values in (history, shape, multiple))

        def saturate(media: Array) -> Array:
            return saturated(media[None], part, form, week=0)[0][0]

        if not form.adstock_first:
            # Every week's saturated media arrive in full, this week or later.
            value = saturated(_wide(shape_ * multiple_[None], part), part, form, week=0)[0]
            return jnp.sum(value, axis=0) * (part.effect * jnp.sum(weights, axis=0))[None]
        past = jnp.concatenate([before_, jnp.zeros((shape_.shape[0] + before, before_.shape[1]), before_.dtype)])
        carried_in = adstock.convolve(_wide(past, part), weights)[before:]
        coming = _wide(jnp.concatenate([shape_, group.own(after, -1)]), part)
        # Carry-over is linear: a base is carried once for all its multiples.
        lags = jnp.broadcast_to(weights[:, None], (weights.shape[0], *coming.shape[1:]))
        carried = adstock.convolve(coming, lags)

        def add_week(total: Array, week: tuple[Array, Array]) -> tuple[Array, None]:
            past, now = week
            return total + (saturate(past[None] + now * multiple_[..., None]) - saturate(past)[None]), None

        start = jnp.zeros((levels, *part.effect.shape), part.effect.dtype)
        return jax.lax.scan(add_week, start, (carried_in, carried))[0] * part.effect[None]

    def of_chunk(part: Curves) -> Array:
        return by_form(term, part, of_form, axis=-2)

    return in_chunks(of_chunk, curves, size=max(1, LANES // (levels * history.shape[1])))


def _wide(media: Float[Array, "week *cell"], curves: Curves) -> Float[Array, "week *cell draw"]:
    return jnp.broadcast_to(media[..., None], (*media.shape, curves.effect.shape[-1]))
