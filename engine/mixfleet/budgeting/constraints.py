"""Limits on the spend of many cells together - its sum, its share of the total, or the ratio of two.

They speak of the cells that are planned; what is spent on others is in no sum.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.budgeting.bounds import cells_of
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.budgeting.request import Range
from mixfleet.budgeting.solvers.linear_program import Constraint
from mixfleet.errors import ConfigError

__all__ = ["side_constraints"]


class Sum(NamedTuple):
    """What a selector's spend is held against."""

    text: str
    cells: Bool[np.ndarray, " cell"]
    against: Float[np.ndarray, " cell"]
    """Weights of the spends that the limits are multiples of; all zero where they are money."""
    money: float
    """What the limits are multiples of besides."""
    unit: str


def side_constraints(
    spend_outcome: SpendOutcome,
    planned: Int[np.ndarray, " planned"],
    *,
    groups: Mapping[str, Range],
    groups_money: Mapping[str, Range],
    shares: Mapping[str, Range],
    ratios: Mapping[tuple[str, str], Range],
) -> tuple[Constraint, ...]:
    """The constraints over the planned cells.

    Args:
        spend_outcome: All cells.
        planned: Those that are planned.
        groups: Selector to least and greatest multiple of what is spent on its cells today.
        groups_money: Selector to least and greatest spend of its cells together.
        shares: Selector to least and greatest share of its cells in the spend of all.
        ratios: Two selectors to least and greatest spend of the first per spend of the second.

    Raises:
        ConfigError: A selector names no planned cell, or a range is none.
    """

    def of(selector: str, key: str) -> Bool[np.ndarray, " planned"]:
        found = cells_of(spend_outcome, selector, key=key)[planned]
        if not found.any():
            raise ConfigError(f"{selector!r} names no channel in a certified unit", key=key)
        return found

    nothing, everything = np.zeros(len(planned)), np.ones(len(planned))
    found: list[Constraint] = []
    for selector, limits in groups.items():
        cells = of(selector, "budget.groups")
        today = float(spend_outcome.today[planned][cells].sum())
        if not today > 0:
            raise ConfigError(f"nothing is spent on {selector} today: use groups_money", key="budget.groups")
        found += _rows(Sum(selector, cells, nothing, today, " x today's"), limits, key="budget.groups")
    for selector, limits in groups_money.items():
        cells = of(selector, "budget.groups_money")
        found += _rows(Sum(selector, cells, nothing, 1.0, ""), limits, key="budget.groups_money")
    for selector, limits in shares.items():
        cells = of(selector, "budget.shares")
        if limits[0] > 1:
            raise ConfigError(f"{selector}: is a share, up to 1, is {limits[0]:g}", key="budget.shares")
        found += _rows(Sum(selector, cells, everything, 0.0, " of the total"), limits, key="budget.shares")
    for (selector, other), limits in ratios.items():
        cells, base = of(selector, "budget.ratios"), of(other, "budget.ratios").astype(float)
        found += _rows(Sum(selector, cells, base, 0.0, f" x {other}"), limits, key="budget.ratios")
    return tuple(found)


def _rows(sum_: Sum, limits: Range, *, key: str) -> list[Constraint]:
    low, high = limits
    if not 0 <= low <= high:
        raise ConfigError(f"{sum_.text}: must be 0 <= low <= high, is {low}..{high}", key=key)
    own, found = sum_.cells.astype(float), []
    if low > 0:
        text = f"{sum_.text} at least {low:,.10g}{sum_.unit}"
        found.append(Constraint(text, sum_.cells, low * sum_.against - own, -low * sum_.money))
    if np.isfinite(high):
        text = f"{sum_.text} at most {high:,.10g}{sum_.unit}"
        found.append(Constraint(text, sum_.cells, own - high * sum_.against, high * sum_.money))
    return found
