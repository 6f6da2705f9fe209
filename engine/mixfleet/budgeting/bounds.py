"""How far a plan may move each cell from today's spend - by channel, unit, or any key column."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.analysis.selectors import read_selector
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.errors import ConfigError

__all__ = ["Limits", "cells_of"]

CHANNEL = "channel"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Least and greatest spend of each cell."""

    low: Float[np.ndarray, " cell"]
    high: Float[np.ndarray, " cell"]
    locked: Bool[np.ndarray, " cell"]
    """Cells that someone said must stay."""

    @staticmethod
    def of(
        spend_outcome: SpendOutcome,
        *,
        change: float,
        bounds: Mapping[str, tuple[float, float]],
        bounds_money: Mapping[str, tuple[float, float]],
        lock: Sequence[str],
    ) -> "Limits":
        """Limits around today's spend.

        Args:
            spend_outcome: The cells.
            change: Greatest change of any cell, as a share of today's spend: 0.3 is 30 % less to 30 % more.
            bounds: Selector, such as "channel=tv" or "brand=acme,market=DE", to least and greatest multiple of
                today's spend; where several hold for a cell, the last one does. Where nothing is spent today,
                nothing is a multiple of it.
            bounds_money: The same in money, for each of its cells in its own currency; it goes before `bounds`.
            lock: Selectors of cells that stay as they are.

        Raises:
            ConfigError: A limit is no range, or a selector names nothing that there is.
        """
        if not change >= 0:
            raise ConfigError(f"must be zero or more, is {change}", key="budget.change")
        least, most = (
            np.full(len(spend_outcome.today), max(0.0, 1 - change)),
            np.full(len(spend_outcome.today), 1 + change),
        )
        for rows, low, high in _ranges(spend_outcome, bounds, "budget.bounds"):
            least[rows], most[rows] = low, high
        least, most = least * spend_outcome.today, most * spend_outcome.today
        rate = spend_outcome.rate[spend_outcome.unit]
        for rows, low, high in _ranges(spend_outcome, bounds_money, "budget.bounds_money"):
            least[rows], most[rows] = low * rate[rows], high * rate[rows]
        locked = np.zeros(len(spend_outcome.today), bool)
        for selector in lock:
            locked |= cells_of(spend_outcome, selector, key="budget.lock")
        least[locked] = most[locked] = spend_outcome.today[locked]
        return Limits(low=least, high=most, locked=locked)

    def binding(self, spend: Float[np.ndarray, " cell"], today: Float[np.ndarray, " cell"]) -> list[str]:
        """What keeps each cell from moving on; empty where nothing does and its margin is the price of money."""
        width = np.maximum(self.high, 1e-300) * 1e-9
        return [
            "locked"
            if locked
            else "no spend today"
            if base == most == 0
            else "lowest"
            if at_low
            else "highest"
            if at_high
            else ""
            for locked, base, most, at_low, at_high in zip(
                self.locked, today, self.high, spend <= self.low + width, spend >= self.high - width, strict=True
            )
        ]


def _ranges(
    spend_outcome: SpendOutcome, ranges: Mapping[str, tuple[float, float]], key: str
) -> Iterator[tuple[Bool[np.ndarray, " cell"], float, float]]:
    for selector, (low, high) in ranges.items():
        if not 0 <= low <= high < np.inf:
            raise ConfigError(f"{selector}: must be 0 <= low <= high, is {low}..{high}", key=key)
        yield cells_of(spend_outcome, selector, key=key), low, high


def cells_of(spend_outcome: SpendOutcome, selector: str, *, key: str) -> Bool[np.ndarray, " cell"]:
    """The cells that a selector such as "channel=tv,market=DE" names.

    Raises:
        ConfigError: It cannot be read, or no cell is like that.
    """
    fleet = spend_outcome.fleet
    found = np.ones(len(spend_outcome.today), bool)
    for column, label in read_selector(selector, key=key).items():
        if column == CHANNEL:
            values = np.array(fleet.channels, object)[spend_outcome.channel]
        elif column in fleet.keys:
            place = fleet.keys.index(column)
            values = np.array([unit.labels[place] for unit in fleet.units], object)[spend_outcome.unit]
        else:
            known = ", ".join((CHANNEL, *fleet.keys))
            raise ConfigError(f"{selector!r}: {column!r} is none of {known}", key=key)
        found &= values == label
    if not found.any():
        raise ConfigError(f"{selector!r} names no channel in a unit that is paid for", key=key)
    return found
