"""Spends at which each cell's outcome is known, and which of them a plan may take.

A cell may take any spend between its limits, or only multiples of a step, or nothing or at least a flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.budgeting.bounds import Limits, cells_of
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.errors import ConfigError

__all__ = ["LEVELS", "Levels"]

LEVELS = 33


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels of every cell, rising; a cell with fewer repeats its last."""

    spend: Float[np.ndarray, "cell level"]
    joined: Bool[np.ndarray, "cell step"]
    """Whether a plan may spend what lies between two neighbouring levels."""
    step: Float[np.ndarray, " cell"]
    """What spends are multiples of; zero where they are not."""
    flight: Float[np.ndarray, " cell"]
    """Least spend of a cell that spends."""

    @staticmethod
    def of(
        spend_outcome: SpendOutcome, limits: Limits, *, steps: Mapping[str, float], flights: Mapping[str, float]
    ) -> "Levels":
        """Levels between the limits.

        Where there are more multiples of a step than levels, the levels are every second of them, or third, and so on.

        Args:
            spend_outcome: The cells.
            limits: Least and greatest spend of each.
            steps: Selector to the money, in the cell's own currency, that its spends are multiples of; the last one
                that fits a cell holds.
            flights: Selector to the least spend of a cell that is not off.

        Raises:
            ConfigError: A number is none, or a cell is left without a level.
        """
        step, flight = (_by_cell(spend_outcome, limits, *named) for named in ((steps, "steps"), (flights, "flights")))
        share = np.linspace(0.0, 1.0, LEVELS)
        spend = limits.low[:, None] + share * (limits.high - limits.low)[:, None]
        joined = np.ones((len(spend), LEVELS - 1), bool)
        for cell in map(int, np.flatnonzero((step > 0) | (flight > 0))):
            low, high = float(limits.low[cell]), float(limits.high[cell])
            own = _admitted(low, high, float(step[cell]), float(flight[cell]))
            if not len(own):
                raise ConfigError(
                    _nothing_left(spend_outcome, cell, low, high, step[cell], flight[cell]), key="budget.steps"
                )
            spend[cell] = own[np.minimum(np.arange(LEVELS), len(own) - 1)]
            joined[cell] = step[cell] == 0
            joined[cell, 0] &= own[0] > 0
        return Levels(spend=spend, joined=joined, step=step, flight=flight)

    def binding(self, spend: Float[np.ndarray, " cell"]) -> list[str]:
        """What keeps each cell at an admitted spend: its step, or its least flight."""
        at_least = (self.flight > 0) & (spend > 0) & (spend <= self.flight * (1 + 1e-9))
        return np.where(at_least, "least flight", np.where(self.step > 0, "step", "")).tolist()


def _admitted(low: float, high: float, step: float, flight: float) -> Float[np.ndarray, " level"]:
    """Levels of a cell of which not every spend is admitted."""
    off, least = np.zeros(1 if low == 0 and flight > 0 else 0), max(low, flight)
    if step == 0:
        on = np.linspace(least, high, LEVELS - len(off)) if least <= high else np.zeros(0)
        return np.r_[off, on]
    # A little less, so that a limit which is a multiple but for rounding is one.
    first, last = int(np.ceil(least / step - 1e-9)), int(np.floor(high / step + 1e-9))
    count = max(last - first + 1, 0)
    every = -(-count // (LEVELS - len(off))) if count else 1
    return np.r_[off, step * np.arange(first, last + 1, every)]


def _by_cell(
    spend_outcome: SpendOutcome, limits: Limits, numbers: Mapping[str, float], name: str
) -> Float[np.ndarray, " cell"]:
    found = np.zeros(len(spend_outcome.today))
    for selector, number in numbers.items():
        if not 0 < number < np.inf:
            raise ConfigError(f"{selector}: must be money above zero, is {number}", key=f"budget.{name}")
        rows = cells_of(spend_outcome, selector, key=f"budget.{name}")
        found[rows] = number * spend_outcome.rate[spend_outcome.unit[rows]]
    found[limits.locked | (limits.high == 0) | ~spend_outcome.certified] = 0.0
    return found


def _nothing_left(spend_outcome: SpendOutcome, cell: int, low: float, high: float, step: float, flight: float) -> str:
    unit = " / ".join(spend_outcome.fleet.units[spend_outcome.unit[cell]].labels)
    wanted = " and ".join(
        text
        for text, number in ((f"a multiple of {step:,.10g}", step), (f"at least {flight:,.10g}", flight))
        if number > 0
    )
    channel = spend_outcome.fleet.channels[spend_outcome.channel[cell]]
    return (
        f"no spend of {channel} in {unit} between {low:,.2f} and {high:,.2f} is {wanted}. Allow more change, or lock it"
    )
