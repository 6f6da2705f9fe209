"""How the spend of a cell is spread over the coming weeks, where a plan may choose that.

Weeks of a cell are tied together by carry-over, cells are not. So at every level of spend each cell takes the best of
some candidate patterns - today's, even, alternating weeks, bursts of several lengths and starts - and the allocation
over cells stays what it is. Its certificate is about plans whose weeks follow these candidates. The plan that is chosen
then climbs further, week by week at the same spend, as far as its expected outcome rises.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.budgeting.bounds import Limits, cells_of
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.budgeting.solvers.lagrangian import interpolate
from mixfleet.errors import ConfigError

__all__ = ["WeekLimits", "best_weeks", "candidates", "climbed"]

COARSE = 4
"""Every so many levels are looked at to choose among the candidates."""

DRAWS = 50
"""Draws behind the choice."""

BURSTS = (0.25, 0.5)
"""Lengths of a burst, as shares of the weeks."""

HALVINGS = 60

CLIMBS = 4
STEPS = (0.05, 0.2, 0.8)
"""Of an average week: how far a climb moves at most, steepest week first."""

PROBE = 0.02
"""Of an average week: how far a margin is looked at."""


@dataclass(frozen=True, kw_only=True)
class WeekLimits:
    """Least and greatest spend of each cell in each coming week."""

    low: Float[np.ndarray, "cell week"]
    high: Float[np.ndarray, "cell week"]

    @staticmethod
    def of(spend_outcome: SpendOutcome, bounds: Mapping[str, tuple[float, float]], lock: Sequence[str]) -> "WeekLimits":
        """Limits of the weeks.

        Args:
            spend_outcome: The cells.
            bounds: Selector and days, such as "channel=tv@2026-01-05..2026-02-01", to least and greatest multiple of
                what the cell spends in an average week today, for each week that begins on one of these days.
            lock: The same of weeks that keep what today's plan spends in them.

        Raises:
            ConfigError: It is not of that form, or names no coming week of a cell.
        """
        low = np.zeros(spend_outcome.pattern.shape)
        high = np.full(spend_outcome.pattern.shape, np.inf)
        average = np.broadcast_to(spend_outcome.today[:, None] / spend_outcome.weeks, low.shape)
        for text, (least, most) in bounds.items():
            if not 0 <= least <= most:
                message = f"{text}: must be 0 <= low <= high, is {least}..{most}"
                raise ConfigError(message, key="budget.week_bounds")
            weeks = _weeks(spend_outcome, text, "budget.week_bounds")
            low[weeks] = least * average[weeks]
            high[weeks] = most * average[weeks] if np.isfinite(most) else np.inf
        for text in lock:
            weeks = _weeks(spend_outcome, text, "budget.lock_weeks")
            low[weeks] = high[weeks] = (spend_outcome.pattern * spend_outcome.today[:, None])[weeks]
        return WeekLimits(low=low, high=high)

    def within(self, spend_outcome: SpendOutcome, limits: Limits) -> Limits:
        """The cells' limits, as far as their weeks let them be reached.

        Raises:
            ConfigError: The weeks of a cell cannot add up to what its limits say.
        """
        low = np.where(limits.locked, limits.low, np.maximum(limits.low, self.low.sum(axis=1)))
        high = np.where(limits.locked, limits.high, np.minimum(limits.high, self.high.sum(axis=1)))
        if len(wrong := np.flatnonzero(spend_outcome.certified & (low > high * (1 + 1e-9)))):
            cell = wrong[0]
            unit = " / ".join(spend_outcome.fleet.units[spend_outcome.unit[cell]].labels)
            raise ConfigError(
                f"the weeks of {spend_outcome.fleet.channels[spend_outcome.channel[cell]]} in {unit} add up to "
                f"{self.low[cell].sum():,.2f} to {self.high[cell].sum():,.2f}, its limits are "
                f"{limits.low[cell]:,.2f} to {limits.high[cell]:,.2f}. Loosen one of them",
                key="budget.week_bounds",
            )
        return replace(limits, low=np.minimum(low, high), high=high)

    def spread(
        self, amount: Float[np.ndarray, "cell level"], pattern: Float[np.ndarray, "cell week"]
    ) -> Float[np.ndarray, "cell level week"]:
        """Weeks that add up to each amount, in proportion to the pattern as far as their limits let them."""
        if not self.low.any() and np.isinf(self.high).all():
            return amount[..., None] * pattern[:, None]
        # A week that the pattern leaves out still takes what the others cannot.
        shape = np.maximum(pattern, 1e-9 * pattern.max(axis=1, keepdims=True))[:, None]
        low, high = self.low[:, None], np.minimum(self.high[:, None], amount.max(axis=1)[:, None, None])
        high = np.maximum(high, low)
        little, much = np.zeros((*amount.shape, 1)), amount[..., None] / shape.min(axis=-1, keepdims=True) + 1e-300
        for _ in range(HALVINGS):
            factor = (little + much) / 2
            short = np.clip(factor * shape, low, high).sum(axis=-1, keepdims=True) < amount[..., None]
            little, much = np.where(short, factor, little), np.where(short, much, factor)
        found = np.clip(much * shape, low, high)
        # What halving leaves over goes where there is room.
        off = amount[..., None] - found.sum(axis=-1, keepdims=True)
        room = np.where(off > 0, high - found, found - low)
        return found + off * room / np.maximum(room.sum(axis=-1, keepdims=True), 1e-300)


def best_weeks(
    spend_outcome: SpendOutcome,
    levels: Float[np.ndarray, "cell level"],
    limits: WeekLimits,
    kept: Bool[np.ndarray, " cell"],
) -> Float[np.ndarray, "cell level week"]:
    """Of each cell at each level, the candidate that is expected to bring most; those to be kept keep today's."""
    coarse = levels[:, ::COARSE]
    best, weekly = np.full(levels.shape, -np.inf), np.zeros((*levels.shape, spend_outcome.weeks))
    for pattern in (
        spend_outcome.pattern,
        *(np.broadcast_to(one, spend_outcome.pattern.shape) for one in candidates(spend_outcome.weeks)),
    ):
        spread = limits.spread(levels, pattern)
        found = spend_outcome.expected(coarse, min(DRAWS, spend_outcome.fleet.draws), spread[:, ::COARSE])
        value = np.stack([interpolate(coarse, found, level) for level in levels.T], axis=1)
        # Not by rounding alone, and the first, which is today's, where cells are kept or not certified.
        better = (value > best + 1e-9 * np.abs(value)) & ~kept[:, None] | np.isneginf(best)
        best, weekly = np.where(better, value, best), np.where(better[..., None], spread, weekly)
    weekly[kept] = levels[kept][..., None] * spend_outcome.pattern[kept][:, None]
    return weekly


def climbed(
    spend_outcome: SpendOutcome,
    weekly: Float[np.ndarray, "cell week"],
    limits: WeekLimits,
    kept: Bool[np.ndarray, " cell"],
) -> Float[np.ndarray, "cell week"]:
    """Weeks of the same sums that are expected to bring no less, but for those to be kept."""
    spend, found = weekly.sum(axis=1), weekly
    moving = spend_outcome.certified & ~kept & (spend > 0)
    average = spend[:, None] / spend_outcome.weeks
    few, many = min(DRAWS, spend_outcome.fleet.draws), min(4 * DRAWS, spend_outcome.fleet.draws)
    for _ in range(CLIMBS):
        probes = found[:, None] + PROBE * average[..., None] * np.eye(spend_outcome.weeks)
        margin = spend_outcome.expected(probes.sum(axis=-1), few, probes)
        margin = margin - margin.mean(axis=1, keepdims=True)
        uphill = margin / np.maximum(np.abs(margin).max(axis=1, keepdims=True), 1e-300)
        tried = [found]
        for step in STEPS:
            pattern = np.maximum(found + step * average * np.where(moving[:, None], uphill, 0.0), 0.0)
            pattern = np.where(moving[:, None], pattern, 1.0)
            tried.append(limits.spread(spend[:, None], pattern / pattern.sum(axis=1, keepdims=True))[:, 0])
        options = np.where(moving[:, None, None], np.stack(tried, axis=1), found[:, None])
        reached = np.nan_to_num(spend_outcome.expected(options.sum(axis=-1), many, options))
        # The first of equals: nothing moves by rounding alone.
        better = reached > reached[:, :1] * (1 + 1e-6)
        choice = np.where(better.any(axis=1), np.argmax(reached, axis=1), 0)
        found = options[np.arange(len(options)), choice]
    return found


def candidates(weeks: int) -> Iterator[Float[np.ndarray, " week"]]:
    """Patterns other than today's, each adding up to one."""
    place = np.arange(weeks)
    shapes = [np.ones(weeks), place % 2 == 0, place % 2 == 1, *(place % 4 == start for start in range(4))]
    for share in BURSTS:
        length = max(1, round(share * weeks))
        starts = dict.fromkeys(np.linspace(0, weeks - length, 1 + 2 * round(1 / share) // 2).astype(int).tolist())
        shapes += [(place >= start) & (place < start + length) for start in starts]
    return (shape / shape.sum() for shape in shapes if shape.any())


def _weeks(spend_outcome: SpendOutcome, text: str, key: str) -> Bool[np.ndarray, "cell week"]:
    selector, _, days = text.rpartition("@")
    first, _, last = days.partition("..")
    try:
        ends = np.datetime64(first, "D"), np.datetime64(last or first, "D")
    except ValueError as error:
        message = f"{text!r} is not of the form channel=tv@2026-01-05..2026-02-01"
        raise ConfigError(message, key=key) from error
    begin = np.stack([spend_outcome.days(place) for place in spend_outcome.unit])
    found = cells_of(spend_outcome, selector, key=key)[:, None] & (begin >= ends[0]) & (begin <= ends[1])
    if not found.any():
        span = f"{begin.min()} to {begin.max()}"
        raise ConfigError(f"{text!r} names no coming week; they begin on {span}", key=key)
    return found
