"""What a request makes of the outcomes of spend - cells, levels, curves, constraints - and its best plans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mixfleet.budgeting.bounds import Limits
from mixfleet.budgeting.constraints import side_constraints
from mixfleet.budgeting.flighting import WeekLimits, best_weeks, climbed
from mixfleet.budgeting.outcome import SpendOutcome
from mixfleet.budgeting.plan import Decision
from mixfleet.budgeting.request import BudgetRequest
from mixfleet.budgeting.solvers import risk
from mixfleet.budgeting.solvers.lagrangian import (
    Allocation,
    Solve,
    allocate,
    at_price,
    for_outcome,
    for_return,
    interpolate,
    reach,
)
from mixfleet.budgeting.solvers.linear_program import BudgetPool, Constraint, Joint
from mixfleet.budgeting.spend_grid import Levels
from mixfleet.errors import ConfigError, counted

__all__ = ["GRID_DRAWS", "Problem"]

Solution = tuple[Int[np.ndarray, " cell"], Allocation]
"""Cells, and the best plan of them."""

GRID_DRAWS = 200
"""Draws behind the choice; the plan that is chosen is then weighed on all of them."""

QUANTILE_SHARES = (0.5, 1.0, 2.0, 4.0)
"""Shares of worst draws, in multiples of the quantile, whose plans stand for election by their quantile."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a plan is the answer to."""

    asked: BudgetRequest
    spend_outcome: SpendOutcome
    limits: Limits
    planned: Int[np.ndarray, " planned"]
    """Places of the cells that may move, among all."""
    levels: Levels
    weeks: WeekLimits
    weekly: Float[np.ndarray, "cell level week"] | None
    """Of all cells at their levels, where weeks are free."""
    constraints: tuple[Constraint, ...]
    pools: tuple[BudgetPool, ...]
    curves: Float[np.ndarray, "planned level *draw"]
    """Expected outcome; for aims beyond the mean, the gain over today's plan draw by draw."""

    @staticmethod
    def of(asked: BudgetRequest, spend_outcome: SpendOutcome) -> "Problem":
        """Sets the problem up.

        Raises:
            ConfigError: The request names what there is not, or there is nothing to plan.
        """
        keys = spend_outcome.fleet.keys
        if unknown := [name for name in asked.within if name not in keys]:
            raise ConfigError(f"{unknown[0]!r} is no key column; those are {', '.join(keys)}", key="budget.within")
        planned = np.flatnonzero(spend_outcome.certified)
        if not len(planned):
            raise ConfigError("no certified unit has a channel with spend: there is nothing to plan", key="budget")
        limits = Limits.of(
            spend_outcome, change=asked.change, bounds=asked.bounds, bounds_money=asked.bounds_money, lock=asked.lock
        )
        weeks = WeekLimits.of(spend_outcome, asked.week_bounds, asked.lock_weeks)
        limits = weeks.within(spend_outcome, limits)
        levels = Levels.of(spend_outcome, limits, steps=asked.steps, flights=asked.flights)
        free = asked.flighting == "free"
        weekly = best_weeks(spend_outcome, levels.spend, weeks, limits.locked) if free else None
        return Problem(
            asked=asked,
            spend_outcome=spend_outcome,
            limits=limits,
            planned=planned,
            levels=levels,
            weeks=weeks,
            weekly=weekly,
            constraints=side_constraints(
                spend_outcome,
                planned,
                groups=asked.groups,
                groups_money=asked.groups_money,
                shares=asked.shares,
                ratios=asked.ratios,
            ),
            pools=_pools(spend_outcome, planned, asked.within),
            curves=_curves(spend_outcome, levels.spend, weekly, asked)[planned],
        )

    @property
    def total(self) -> float:
        """What is spent where no target says otherwise."""
        return float(self.spend_outcome.today[self.planned].sum()) if self.asked.total is None else self.asked.total

    def reach(self) -> tuple[float, float]:
        """The least and the greatest total that there are plans of.

        Raises:
            ConfigError: Constraints tie several totals together.
        """
        levels = self.levels.spend[self.planned]
        if self.asked.coupled:
            if len(self.pools) > 1:
                raise ConfigError("cannot be told within several totals that are tied together", key="budget.frontier")
            return reach(levels, self._joint())
        ends = [(levels[pool.cells, 0].sum(), levels[pool.cells, -1].sum(), pool.share) for pool in self.pools]
        return (
            max(float(low / share) for low, _, share in ends if share),
            min(float(high / share) for _, high, share in ends if share),
        )

    def pool_cells(self) -> list[Int[np.ndarray, " cell"]]:
        """Places of the cells of each solution."""
        return [self.planned] if self.asked.coupled else [self.planned[pool.cells] for pool in self.pools]

    def decide(self, total: float) -> Decision:
        """The best plan.

        Raises:
            ConfigError: No plan keeps all limits, or meets the target.
        """
        spend, solutions = self.spend_outcome.today.copy(), self._solve(total)
        for cells, found in solutions:
            spend[cells] = found.spend
        today = self.spend_outcome.pattern * spend[:, None]
        weekly = today if self.weekly is None else interpolate(self.levels.spend, self.weekly, spend)
        weekly[~self.spend_outcome.certified] = today[~self.spend_outcome.certified]
        return Decision(spend, weekly, self._binding(spend, solutions), [found for _, found in solutions])

    def climb(self, decision: Decision) -> Decision:
        """The decision with better weeks, where they are free and the mean is what counts."""
        if self.weekly is None or self.asked.aim != "mean":
            return decision
        weekly = climbed(self.spend_outcome, decision.weekly, self.weeks, self.limits.locked)
        return decision._replace(weekly=weekly)

    def _solve(self, total: float) -> list[Solution]:
        """One solution for every pool, or one for all where constraints tie them together."""
        levels = self.levels.spend[self.planned]
        if self.asked.coupled:
            return [(self.planned, self._best(levels, self.curves, total, self._joint()))]
        found = []
        for pool in self.pools:
            rows, own = pool.cells, total * pool.share
            if self.asked.target is None:
                self._check_reach(levels, own, pool)
            own = float(np.clip(own, levels[rows, 0].sum(), levels[rows, -1].sum()))
            found.append((self.planned[rows], self._best(levels[rows], self.curves[rows], own, allocate)))
        return found

    def _joint(self) -> Joint:
        return Joint(constraints=self.constraints, pools=self.pools, joined=self.levels.joined[self.planned])

    def _binding(self, spend: Float[np.ndarray, " cell"], solutions: Sequence[Solution]) -> list[str]:
        """What keeps each cell where it is: its limits, constraints over several cells, or what it may take."""
        held: list[list[str]] = [[] for _ in spend]
        for cells, found in solutions:
            for constraint in self.constraints:
                for cell in cells[constraint.cells] if constraint.name in found.shadow else ():
                    held[cell].append(constraint.name)
        own = self.limits.binding(spend, self.spend_outcome.today)
        found = zip(own, held, self.levels.binding(spend), strict=True)
        return [limit or "; ".join(names) or admitted for limit, names, admitted in found]

    def _best(self, levels: np.ndarray, curves: np.ndarray, total: float, solve: Solve) -> Allocation:
        asked = self.asked
        if asked.aim == "mean":
            return _expected_best(levels, curves, total, asked, solve)
        mixes = not (asked.steps or asked.flights)
        if asked.aim == "quantile":
            return risk.by_quantile(levels, curves, total, asked.level, QUANTILE_SHARES, solve=solve, mixes=mixes)
        if asked.aim == "beat_today":
            return risk.beating(levels, curves, total, solve=solve, mixes=mixes)
        cvar = asked.aim == "cvar"
        objective = risk.worst_draws(asked.level) if cvar else risk.mean_less_spread(asked.spread)
        return risk.hedged(levels, curves, total, objective, solve=solve, mixes=mixes)

    def _check_reach(self, levels: np.ndarray, total: float, pool: BudgetPool) -> None:
        low, high = (float(levels[pool.cells, end].sum()) for end in (0, -1))
        locked = int(self.limits.locked[self.planned[pool.cells]].sum())
        where = f" for {pool.name}" if pool.name else ""
        kept = f"; {counted(locked, 'cell is', 'cells are')} locked" if locked else ""
        slack = 1e-9 * max(abs(total), high)
        if total < low - slack:
            raise ConfigError(
                f"the limits make the plan spend at least {low:,.2f}{where}, the total is {_money(total)}{kept}. "
                "Allow more change, lower some bounds or raise the total",
                key="budget.total",
            )
        if total > high + slack:
            raise ConfigError(
                f"the limits let the plan spend at most {high:,.2f}{where}, the total is {_money(total)}{kept}. "
                "Allow more change, raise some bounds or lower the total",
                key="budget.total",
            )


def _money(value: float) -> str:
    return f"{value:,.2f}" if value < 1e15 else f"{value:g}"


def _curves(
    spend_outcome: SpendOutcome,
    levels: Float[np.ndarray, "cell level"],
    weekly: np.ndarray | None,
    asked: BudgetRequest,
) -> np.ndarray:
    draws = min(GRID_DRAWS, spend_outcome.fleet.draws)
    if asked.aim == "mean":
        return spend_outcome.expected(levels, draws, weekly)
    today = spend_outcome.outcome(spend_outcome.today[:, None], draws, exact=False)
    return spend_outcome.outcome(levels, draws, weekly, exact=False) - today


def _pools(
    spend_outcome: SpendOutcome, planned: Int[np.ndarray, " planned"], within: Sequence[str]
) -> tuple[BudgetPool, ...]:
    """Cells that share a total; with several, each gets the share of the whole that it has today."""
    fleet = spend_outcome.fleet
    places = [fleet.keys.index(name) for name in within]
    names = ["/".join(fleet.units[unit].labels[place] for place in places) for unit in spend_outcome.unit[planned]]
    today = spend_outcome.today[planned]
    found = []
    for name in sorted(set(names)):
        cells = np.array([own == name for own in names], bool)
        found.append(BudgetPool(name, cells, float(today[cells].sum() / today.sum()) if within else 1.0))
    return tuple(found)


def _expected_best(
    levels: Float[np.ndarray, "cell level"],
    expected: Float[np.ndarray, "cell level"],
    total: float,
    asked: BudgetRequest,
    solve: Solve,
) -> Allocation:
    if asked.price is not None:
        return at_price(levels, expected, asked.price, solve)
    if asked.target_outcome is not None:
        least = for_outcome(levels, expected, asked.target_outcome, solve)
        if least is None:
            highest = solve(levels, levels, None).spend
            most = float(interpolate(levels, expected, highest).sum())
            message = (
                f"no plan within the limits brings {asked.target_outcome:,.2f}; all at their highest bring {most:,.2f}"
            )
            raise ConfigError(f"{message}. Lower the target, or allow more change", key="budget.target_outcome")
        return least
    if asked.target_roi is None:
        return solve(levels, expected, total)
    found = for_return(levels, expected, asked.target_roi, solve)
    if found is None:
        best = at_price(levels, expected, asked.target_roi, solve)
        reached = best.outcome / max(float(best.spend.sum()), 1e-300)
        raise ConfigError(
            f"no plan within the limits returns {asked.target_roi:g} times its spend; where the last unit of money "
            f"returns so much, the whole returns {reached:.3g} times. Lower the target, or the least spends",
            key="budget.target_roi",
        )
    return found
