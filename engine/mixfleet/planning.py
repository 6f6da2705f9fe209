"""Planning: where the coming weeks' money would bring most, against today's plan, on the draws of a finished run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from mixfleet import risk
from mixfleet.allocation import Allocation, allocate, at_price, for_outcome, for_return
from mixfleet.errors import ConfigError
from mixfleet.fleet import Fleet
from mixfleet.limits import Limits
from mixfleet.outlook import Flighting, Outlook, look_ahead
from mixfleet.plan import Plan, Solution, make_plan

__all__ = ["Aim", "plan_budget"]

Aim = Literal["mean", "cvar", "quantile", "mean_less_spread"]

LEVELS = 33
"""Levels of spend at which each cell's outcome is known."""

GRID_DRAWS = 200
"""Draws behind the choice; the plan that is chosen is then weighed on all of them."""

GOALS = ("total", "target_roi", "target_marginal_roi", "target_outcome")
"""What may set the total; at most one of them."""

QUANTILE_SHARES = (0.5, 1.0, 2.0, 4.0)
"""Shares of worst draws, in multiples of the quantile, whose plans stand for election by their quantile."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of a plan."""

    total: float | None = None
    target_roi: float | None = None
    target_marginal_roi: float | None = None
    target_outcome: float | None = None
    weeks: int = 13
    change: float = 0.3
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    lock: Sequence[str] = ()
    within: Sequence[str] = ()
    aim: Aim = "mean"
    level: float = 0.1
    spread: float = 1.0
    flighting: Flighting = "today"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        goals = [name for name in GOALS if getattr(self, name) is not None]
        if len(goals) > 1:
            raise ConfigError(f"choose one of {' and '.join(goals)}", key="budget")
        for name in (*goals, "level", "weeks"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"must be above zero, is {getattr(self, name)}", key=f"budget.{name}")
        for name, known in (("aim", get_args(Aim)), ("flighting", get_args(Flighting))):
            if getattr(self, name) not in known:
                raise ConfigError(f"must be one of {', '.join(known)}", key=f"budget.{name}")
        if self.level > 1 or self.spread < 0:
            raise ConfigError("level is a share in (0, 1], spread zero or more", key="budget")
        if self.aim != "mean" and goals and goals != ["total"]:
            raise ConfigError(f"{goals[0]} is about the mean", key="budget.aim")
        if self.within and self.target_outcome is not None:
            raise ConfigError("is for all units together, and within keeps them apart", key="budget.target_outcome")


def plan_budget(fleet: Fleet, **wish: Any) -> Plan:
    """The plan that brings most.

    Args:
        fleet: Units and draws of a finished run.
        **wish: Fields of `Wish`:
            total: Spend of all planned cells over the coming weeks; today's by default.
            target_roi: Instead: the greatest total whose outcome is at least so many times it.
            target_marginal_roi: Instead: spend wherever the last unit of money brings so much or more. With a profit
                of m on every unit of outcome, 1 / m is what maximises profit.
            target_outcome: Instead: the least total that brings so much.
            weeks: Weeks that are planned; today's plan is the spend of as many last weeks of the data.
            change: Greatest change of any cell, as a share of today's spend.
            bounds: Selector ("channel=tv,market=DE") to least and greatest multiple of today's spend.
            lock: Selectors of cells that stay.
            within: Key columns; money stays within the units that share them.
            aim: `mean` outcome; `cvar`, the mean of the worst `level` of the draws; `quantile`, the outcome that
                all but a share `level` of the draws exceed; `mean_less_spread`, `spread` sds below the mean.
                All but the mean look at the gain over today's plan.
            level: See `aim`.
            spread: See `aim`.
            flighting: `today`, each cell keeps its weekly pattern; `even`, every week gets the same, and today's
                spend is weighed so too.

    Raises:
        ConfigError: A wish is wrong, or no plan fulfils all of them; says why.
    """
    asked = Wish(**wish)
    if asked.within and (unknown := [name for name in asked.within if name not in fleet.keys]):
        raise ConfigError(f"{unknown[0]!r} is no key column; those are {', '.join(fleet.keys)}", key="budget.within")
    outlook = look_ahead(fleet, asked.weeks, asked.flighting)
    planned = np.flatnonzero(outlook.certified)
    if not len(planned):
        raise ConfigError("no certified unit has a channel with spend: there is nothing to plan", key="budget")
    limits = Limits.of(outlook, change=asked.change, bounds=asked.bounds, lock=asked.lock)
    share = np.linspace(0.0, 1.0, LEVELS)
    levels = limits.low[:, None] + share * (limits.high - limits.low)[:, None]
    draws = min(GRID_DRAWS, fleet.draws)
    solutions = []
    if asked.aim == "mean":
        expected = outlook.expected(levels, draws)
        for rows, total in _purses(outlook, limits, planned, asked):
            solutions.append(Solution(rows, total, _expected_best(levels[rows], expected[rows], total, asked)))
    else:
        outcome = outlook.outcome(np.concatenate([levels, outlook.today[:, None]], axis=1), draws)
        gain = outcome[:, :-1] - outcome[:, -1:]
        for rows, total in _purses(outlook, limits, planned, asked):
            solutions.append(Solution(rows, total, _hedged_best(levels[rows], gain[rows], total, asked)))
    return make_plan(outlook, limits, solutions, aim=asked.aim)


def _purses(outlook: Outlook, limits: Limits, planned: np.ndarray, asked: Wish) -> list[tuple[np.ndarray, float]]:
    """Cells that share a total, and that total; with several, each gets the share of the whole that it has today.

    Raises:
        ConfigError: The limits do not let a purse spend its total.
    """
    fleet = outlook.fleet
    places = [fleet.keys.index(name) for name in asked.within]
    names = [tuple(fleet.units[unit].labels[place] for place in places) for unit in outlook.unit[planned]]
    today = float(outlook.today[planned].sum())
    purses = []
    for name in sorted(set(names)):
        rows = planned[[own == name for own in names]]
        own = float(outlook.today[rows].sum())
        total = own if asked.total is None else asked.total * own / today
        low, high = float(limits.low[rows].sum()), float(limits.high[rows].sum())
        if all(getattr(asked, goal) is None for goal in GOALS[1:]):
            _check_feasible(total, low, high, "/".join(name), int(limits.locked[rows].sum()))
        purses.append((rows, float(np.clip(total, low, high))))
    return purses


def _check_feasible(total: float, low: float, high: float, name: str, locked: int) -> None:
    where = f" for {name}" if name else ""
    kept = f"; {locked} cells are locked" if locked else ""
    slack = 1e-9 * max(abs(total), high)
    if total < low - slack:
        raise ConfigError(
            f"the limits make the plan spend at least {low:,.2f}{where}, the total is {total:,.2f}{kept}. "
            "Allow more change, lower some bounds or raise the total",
            key="budget.total",
        )
    if total > high + slack:
        raise ConfigError(
            f"the limits let the plan spend at most {high:,.2f}{where}, the total is {total:,.2f}{kept}. "
            "Allow more change, raise some bounds or lower the total",
            key="budget.total",
        )


def _expected_best(
    levels: Float[np.ndarray, "cell level"], expected: Float[np.ndarray, "cell level"], total: float, asked: Wish
) -> Allocation:
    if asked.target_marginal_roi is not None:
        return at_price(levels, expected, asked.target_marginal_roi)
    if asked.target_outcome is not None:
        least = for_outcome(levels, expected, asked.target_outcome)
        if least is None:
            most = float(expected[:, -1].sum())
            message = (
                f"no plan within the limits brings {asked.target_outcome:,.2f}; all at their highest bring {most:,.2f}"
            )
            raise ConfigError(f"{message}. Lower the target, or allow more change", key="budget.target_outcome")
        return least
    if asked.target_roi is None:
        return allocate(levels, expected, total)
    found = for_return(levels, expected, asked.target_roi)
    if found is None:
        best = at_price(levels, expected, asked.target_roi)
        reached = best.outcome / max(float(best.spend.sum()), 1e-300)
        raise ConfigError(
            f"no plan within the limits returns {asked.target_roi:g} times its spend; where the last unit of money "
            f"returns so much, the whole returns {reached:.3g} times. Lower the target, or the least spends",
            key="budget.target_roi",
        )
    return found


def _hedged_best(
    levels: Float[np.ndarray, "cell level"], gain: Float[np.ndarray, "cell level draw"], total: float, asked: Wish
) -> Allocation:
    if asked.aim == "cvar":
        return risk.hedged(levels, gain, total, risk.worst_draws(asked.level))
    if asked.aim == "mean_less_spread":
        return risk.hedged(levels, gain, total, risk.mean_less_spread(asked.spread))
    return risk.by_quantile(levels, gain, total, asked.level, QUANTILE_SHARES)
