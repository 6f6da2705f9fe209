"""What is asked of a budget plan, checked for contradictions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict, get_args

from mixfleet.errors import ConfigError

__all__ = ["GOALS", "Aim", "BudgetOptions", "BudgetRequest", "Range"]

Range = tuple[float, float]
"""Least and greatest; 0 and infinity are no limit."""

Flighting = Literal["today", "even", "free"]
Aim = Literal["mean", "cvar", "quantile", "mean_less_spread", "beat_today"]
Maximand = Literal["outcome", "profit", "kpi"]

NUMBERS = ("total", "target_roi", "target_marginal_roi", "target_outcome", "weeks", "change", "level", "spread")

MOST_CHANGE = 10.0
"""A greater change of a cell is a percentage written as a number."""

MOST_WEEKS, MOST_MONEY = 1040, 1e30
"""Twenty years of plan; and a total beyond what draws can hold."""

MOST_RATE = 1e7

GOALS = ("total", "target_roi", "target_marginal_roi", "target_outcome")
"""What may set the total; at most one of them."""


class BudgetOptions(TypedDict, total=False):
    """The fields of `BudgetRequest`, as keywords of a call."""

    total: float | None
    target_roi: float | None
    target_marginal_roi: float | None
    target_outcome: float | None
    weeks: int
    change: float
    bounds: Mapping[str, Range]
    bounds_money: Mapping[str, Range]
    lock: Sequence[str]
    within: Sequence[str]
    groups: Mapping[str, Range]
    groups_money: Mapping[str, Range]
    shares: Mapping[str, Range]
    ratios: Mapping[tuple[str, str], Range]
    steps: Mapping[str, float]
    flights: Mapping[str, float]
    rates: Mapping[str, float]
    maximise: Maximand
    margin: float | Mapping[str, float] | None
    aim: Aim
    level: float
    spread: float
    flighting: Flighting
    week_bounds: Mapping[str, Range]
    lock_weeks: Sequence[str]
    frontier: bool
    experiment_error: float | None


@dataclass(frozen=True, kw_only=True)
class BudgetRequest:
    """What is asked of a plan."""

    total: float | None = None
    """Spend of all planned cells over the coming weeks; today's by default."""
    target_roi: float | None = None
    """Instead: the greatest total whose outcome is at least so many times it."""
    target_marginal_roi: float | None = None
    """Instead: spend wherever the last unit of money brings so much or more. With a profit of m on every unit of
    outcome, 1 / m is what maximises profit."""
    target_outcome: float | None = None
    """Instead: the least total that brings so much."""
    weeks: int = 13
    """Weeks that are planned; today's plan is the spend of as many last weeks of the data."""
    change: float = 0.3
    """Greatest change of any cell, as a share of today's spend."""
    bounds: Mapping[str, Range] = field(default_factory=dict)
    """Selector ("channel=tv,market=DE") to least and greatest multiple of today's spend of each of its cells."""
    bounds_money: Mapping[str, Range] = field(default_factory=dict)
    """The same in money, for cells that nothing is spent on today too; it goes before `bounds`."""
    lock: Sequence[str] = ()
    """Selectors of cells that stay."""
    within: Sequence[str] = ()
    """Key columns; money stays within the units that share them."""
    groups: Mapping[str, Range] = field(default_factory=dict)
    """Selector to least and greatest spend of its planned cells together, in multiples of today's."""
    groups_money: Mapping[str, Range] = field(default_factory=dict)
    """The same in money; infinity is no limit."""
    shares: Mapping[str, Range] = field(default_factory=dict)
    """Selector to least and greatest share of its cells in the spend of all planned cells."""
    ratios: Mapping[tuple[str, str], Range] = field(default_factory=dict)
    """Two selectors to least and greatest spend of the first's cells per spend of the second's."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Selector to the money that the spend of each of its cells is a multiple of. With more than 33 multiples between
    its limits a cell takes every second, or third. Where few cells spend freely, as much of the total may be left as
    lies between two spends of one cell."""
    flights: Mapping[str, float] = field(default_factory=dict)
    """Selector to the least spend of each of its cells that is not off; off it can be where its limits let it."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Selector of units ("market=US", "all") to the plan's currency per currency of theirs. Every unit needs one;
    without any, those kept with the run hold (`business.rates`), or all money is of one currency. What is said of
    single cells (`bounds_money`, `steps`, `flights`) is in their own currency, all other money in the plan's."""
    maximise: Maximand = "outcome"
    """`outcome`, money where the table says what a KPI is worth; `profit`, `margin` of the KPI less the spend, which
    without a total or target is spent until the last unit of money earns itself; `kpi`, such as customers. Where a
    margin is kept with the run (`business.margin`) profit is the default, but for targets and aims beyond the mean."""
    margin: float | Mapping[str, float] | None = None
    """Earned per KPI before media are paid, in all units or by selector; a share where the KPI is revenue."""
    aim: Aim = "mean"
    """`mean` outcome; `cvar`, the mean of the worst `level` of the draws; `quantile`, the outcome that all but a share
    `level` of the draws exceed; `mean_less_spread`, `spread` sds below the mean; `beat_today`, the
    probability to bring more than today's plan. All but the mean look at the gain over today's plan."""
    level: float = 0.1
    """See `aim`."""
    spread: float = 1.0
    """See `aim`."""
    flighting: Flighting = "today"
    """`today`, each cell keeps its weekly pattern; `even`, every week gets the same, and today's spend is weighed so
    too; `free`, each cell takes the best of several patterns, and the plan is certified among those."""
    week_bounds: Mapping[str, Range] = field(default_factory=dict)
    """Of free weeks, selector and days ("channel=tv@2026-01-05..2026-02-01") to least and greatest multiple of what a
    cell spends in an average week today."""
    lock_weeks: Sequence[str] = ()
    """Selectors and days of weeks that keep what today's pattern spends in them."""
    frontier: bool = False
    """Whether to plan other totals too, from the least to the most that the limits allow."""
    experiment_error: float | None = None
    """Standard error of an experiment, as a share of what it measures; given one, the plan says what measuring each
    channel in each unit is worth. It looks at the mean."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        for name in NUMBERS:
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ConfigError(f"must be a finite number, is {number}", key=f"budget.{name}")
        goals = [name for name in GOALS if getattr(self, name) is not None]
        if len(goals) > 1:
            raise ConfigError(f"choose one of {' and '.join(goals)}", key="budget")
        for name in (*goals, "level", "weeks"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"must be above zero, is {getattr(self, name)}", key=f"budget.{name}")
        if self.weeks > MOST_WEEKS:
            raise ConfigError(f"at most {MOST_WEEKS:,} weeks can be planned, is {self.weeks:,}", key="budget.weeks")
        if self.total is not None and self.total > MOST_MONEY:
            raise ConfigError(f"at most {MOST_MONEY:g} can be planned, is {self.total:g}", key="budget.total")
        if self.change > MOST_CHANGE:
            message = f"is a share of today's spend, so that {self.change:g} is {self.change:.0%}; write 0.3 for 30 %"
            raise ConfigError(message, key="budget.change")
        for selector, rate in self.rates.items():
            if not rate <= MOST_RATE or 0 < rate < 1 / MOST_RATE:
                raise ConfigError(f"{selector}: {rate:g} is no exchange rate", key="budget.rates")
        for name, known in (("aim", Aim), ("flighting", Flighting), ("maximise", Maximand)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(f"must be one of {', '.join(get_args(known))}", key=f"budget.{name}")
        if self.level > 1 or self.spread < 0:
            raise ConfigError("level is a share in (0, 1], spread zero or more", key="budget")
        if self.maximise == "profit" and self.margin is None:
            message = "profit is earned at a margin: give one, such as 0.4, or keep one with mixfleet business"
            raise ConfigError(message, key="budget.margin")
        if self.maximise != "profit" and self.margin is not None:
            raise ConfigError(f"{self.maximise} knows no margin: maximise profit, or give none", key="budget.margin")
        if self.aim != "mean" and goals and self.target is not None:
            raise ConfigError(f"{self.target} is about the mean", key="budget.aim")
        if self.aim != "mean" and self.maximise == "profit" and self.total is None:
            raise ConfigError("needs a total beyond the mean: only the mean says where to stop", key="budget.maximise")
        if self.experiment_error is not None and (self.aim != "mean" or not self.experiment_error > 0):
            message = "must be above zero, and goes with the aim mean only"
            raise ConfigError(message, key="budget.experiment_error")
        if self.flighting != "free" and (self.week_bounds or self.lock_weeks):
            raise ConfigError("weeks are free with flighting free only", key="budget.week_bounds")
        if self.within and self.target_outcome is not None:
            raise ConfigError("is for all units together, and within keeps them apart", key="budget.target_outcome")
        if self.within and self.coupled and self.target is not None:
            message = "cannot be met within several totals at once beside groups, shares, ratios, steps or flights"
            raise ConfigError(message, key=f"budget.{self.target}")

    @property
    def target(self) -> str | None:
        """The name of what sets the total, other than a total."""
        named = next((name for name in GOALS[1:] if getattr(self, name) is not None), None)
        return "maximise" if named is None and self.price is not None else named

    @property
    def price(self) -> float | None:
        """The marginal outcome down to which money is spent, where that sets the total."""
        unsaid = all(getattr(self, name) is None for name in GOALS)
        return 1.0 if self.maximise == "profit" and unsaid else self.target_marginal_roi

    @property
    def coupled(self) -> bool:
        """Whether cells cannot choose alone, at one price."""
        several = self.groups or self.groups_money or self.shares or self.ratios
        return bool(several or self.steps or self.flights)
