"""The best plan where linear constraints tie cells together, as a channel's spend in all units.

Over the concave hulls of the cells' curves the best plan is a linear program. Its shadow prices tell each cell what
its money costs, and weak duality bounds every plan. In a vertex of it at most as many cells as there are constraints
lie between two choices of their own (Shapley and Folkman); there alone the plan falls short of the bound, and the gap
says by how much. Constraints that contradict each other are found by letting all give way as little as possible.

References:
    Everett (1963). Shapley and Folkman, in Starr (1969). Bixby et al. (1992), doi:10.1287/opre.40.5.885, for the
    sifting. Chinneck (2008), Feasibility and Infeasibility in Optimization, for the elastic program.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.optimize import linprog

from mixfleet.budgeting.solvers.lagrangian import Allocation, allocate, interpolate
from mixfleet.budgeting.solvers.rounding import admitted, rounded
from mixfleet.errors import ConfigError

__all__ = ["BudgetPool", "Constraint", "Joint"]

TOLERANCE = 1e-9
"""Of the largest figure: what is nearer to zero is zero."""

SIFTED = 4_000
"""Segments that the linear program starts with; those whose price turns out to be wrong join."""

SLACK = 1e-7
"""Of the greatest spend: a constraint that is broken by more cannot be kept."""

CORNER = 1e-4
"""Of the outcome: a smaller gap is not worth a mixed-integer program."""

PENALTY = 1e4
"""Of the steepest slope: what it costs to break a constraint, while the segments that would keep it are left out."""

_NOT_ROUNDED = (
    "no plan was found whose spends are steps or flights and that keeps all limits and the total. "
    "Allow more change, smaller steps, or another total"
)


class Constraint(NamedTuple):
    """`weight @ spend` is at most `limit`."""

    name: str
    """As a reader would say it."""
    cells: Bool[np.ndarray, " cell"]
    """Those that the name is about."""
    weight: Float[np.ndarray, " cell"]
    limit: float


class BudgetPool(NamedTuple):
    """Cells that share a total."""

    name: str
    cells: Bool[np.ndarray, " cell"]
    share: float
    """Of the whole total."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Finds plans that keep all constraints; called as `allocation.allocate` is."""

    constraints: tuple[Constraint, ...]
    pools: tuple[BudgetPool, ...]
    joined: Bool[np.ndarray, "cell step"]
    """Whether spends between two neighbouring levels of a cell are admitted."""

    def __call__(
        self, levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], total: float | None
    ) -> Allocation:
        """The best plan that spends the total, or of any total where it is None.

        Raises:
            ConfigError: The constraints contradict each other, or the cells' own limits; says which, and by how much.
        """
        rows = (*self.constraints, *self._totals(total, levels))
        segments = Segments.of(levels, outcome)
        guess = 0.0 if total is None else allocate(levels, outcome, total).price
        spend, duals = _solved(levels, segments, rows, guess)
        weights = np.array([row.weight for row in rows]).reshape(-1, len(levels))
        costs = duals @ weights
        limits = np.array([row.limit for row in rows])
        bound = float((outcome - costs[:, None] * levels).max(axis=1).sum() + duals @ limits)
        reached = float(interpolate(levels, outcome, spend).sum())
        relaxed = not admitted(levels, self.joined, spend).all()
        if relaxed or bound - reached > CORNER * abs(bound):
            gap = np.inf if relaxed else bound - reached
            other = rounded(levels, self.joined, outcome, spend, costs, weights, limits, gap)
            if other is None and relaxed:
                raise ConfigError(_NOT_ROUNDED, key="budget.steps")
            if other is not None and (relaxed or float(interpolate(levels, outcome, other).sum()) > reached):
                spend, reached = other, float(interpolate(levels, outcome, other).sum())
        kept = len(self.constraints)
        small = TOLERANCE * float(np.abs(segments.slope).max(initial=0.0))
        shadow = {row.name: float(dual) for row, dual in zip(rows[:kept], duals, strict=False) if dual > small}
        # Of a total's two rows, at most and at least, one binds.
        prices = tuple(map(float, duals[kept::2] - duals[kept + 1 :: 2])) or (0.0,)
        return Allocation(
            spend=spend, outcome=reached, prices=prices, bound=max(bound, reached), cell_price=costs, shadow=shadow
        )

    def _totals(self, total: float | None, levels: np.ndarray) -> list[Constraint]:
        if total is None:
            return []
        found, width = [], np.diff(levels)
        widest = float(np.where(self.joined, 0.0, width).max(initial=0.0))
        # Cells that move freely take up what a step leaves over; without them so much may be left.
        left = widest if float(np.where(self.joined, width, 0.0).sum()) < widest else 0.0
        for pool in self.pools:
            own, weight = total * pool.share, pool.cells.astype(float)
            name = f"the total{' of ' if pool.name else ''}{pool.name}"
            found += [
                Constraint(f"{name} at most {own:,.2f}", pool.cells, weight, own),
                Constraint(f"{name} at least {own - left:,.2f}", pool.cells, -weight, left - own),
            ]
        return found


class Segments(NamedTuple):
    """Pieces of all cells' concave hulls: steeper ones of a cell come first."""

    cell: Int[np.ndarray, " segment"]
    width: Float[np.ndarray, " segment"]
    slope: Float[np.ndarray, " segment"]

    @staticmethod
    def of(levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"]) -> "Segments":
        """Upper hulls by Andrew's monotone chain, all cells at once."""
        rows, size = np.arange(len(levels)), np.ones(len(levels), int)
        corners = np.zeros(levels.shape, int)
        for level in range(1, levels.shape[1]):
            while True:
                last, before = corners[rows, size - 1], corners[rows, np.maximum(size - 2, 0)]
                run, rise = levels[:, level] - levels[rows, before], outcome[:, level] - outcome[rows, before]
                own_run = levels[rows, last] - levels[rows, before]
                own_rise = outcome[rows, last] - outcome[rows, before]
                below = (size >= 2) & (own_rise * run <= rise * own_run)
                if not below.any():
                    break
                size -= below
            new = np.flatnonzero(levels[:, level] > levels[rows, corners[rows, size - 1]])
            corners[new, size[new]] = level
            size[new] += 1
        cell, place = np.nonzero(np.arange(levels.shape[1] - 1)[None] < (size - 1)[:, None])
        low, high = corners[cell, place], corners[cell, place + 1]
        width = levels[cell, high] - levels[cell, low]
        return Segments(cell, width, (outcome[cell, high] - outcome[cell, low]) / width)


def _solved(
    levels: np.ndarray, segments: Segments, rows: tuple[Constraint, ...], guess: float
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " row"]]:
    """Spends and shadow prices of the linear program, from a guess of the price.

    Segments far from their price are taken whole or not at all, and looked at again once prices are known.
    """
    weights, room = _system(segments, rows, levels[:, 0])
    size, steepest = max(float(levels.max(initial=0.0)), 1e-300), float(np.abs(segments.slope).max(initial=0.0)) or 1.0
    room, width, slope = room / size, segments.width / size, segments.slope / steepest
    worth = slope - guess / steepest
    open_ = np.zeros(len(slope), bool)
    open_[np.argsort(np.abs(worth), kind="stable")[:SIFTED]] = True
    filled = np.where(worth > 0, width, 0.0)
    while True:
        left = room - weights @ np.where(open_, 0.0, filled)
        found = linprog(
            np.r_[-slope[open_], np.full(len(rows), PENALTY)],
            A_ub=sparse.hstack([weights[:, open_], -sparse.eye_array(len(rows))]).tocsc(),
            b_ub=left,
            bounds=np.stack(
                [np.zeros(open_.sum() + len(rows)), np.r_[width[open_], np.full(len(rows), np.inf)]], axis=1
            ),
            method="highs-ds",
        )
        assert found.status == 0, found.message
        duals = np.maximum(-found.ineqlin.marginals, 0.0)
        worth = slope - duals @ weights
        wrong = ~open_ & np.where(filled > 0, worth < -TOLERANCE, worth > TOLERANCE)
        filled[open_] = found.x[: open_.sum()]  # the rest is by how much each constraint is broken
        if not wrong.any():
            break
        open_ |= wrong
    if found.x[open_.sum() :].max(initial=0.0) > SLACK:
        raise ConfigError(_contradiction(levels, segments, rows), key="budget")
    spend = levels[:, 0] + np.bincount(segments.cell, filled * size, minlength=len(levels))
    return np.clip(spend, levels[:, 0], levels.max(axis=1)), duals * steepest


def _system(
    segments: Segments, rows: tuple[Constraint, ...], low: np.ndarray
) -> tuple[sparse.csc_array, Float[np.ndarray, " row"]]:
    weights = np.array([row.weight for row in rows]).reshape(-1, len(low))
    return sparse.csc_array(weights[:, segments.cell]), np.array([row.limit for row in rows]) - weights @ low


def _contradiction(levels: np.ndarray, segments: Segments, rows: tuple[Constraint, ...]) -> str:
    """Which constraints cannot hold together, by those that give way and those that make them."""
    weights, room = _system(segments, rows, levels[:, 0])
    size = max(float(levels.max(initial=0.0)), 1e-300)
    count = len(segments.cell)
    found = linprog(
        np.r_[np.zeros(count), np.ones(len(rows))],
        A_ub=sparse.hstack([weights, -sparse.eye_array(len(rows))]).tocsc(),
        b_ub=room / size,
        bounds=[*((0, width / size) for width in segments.width), *[(0, None)] * len(rows)],
        method="highs-ds",
    )
    assert found.status == 0, found.message
    missed = found.x[count:] * size
    small = TOLERANCE * max(float(np.abs(room).max(initial=0.0)), size)
    told = [f"{row.name} (missed by {by:,.2f})" for row, by in zip(rows, missed, strict=True) if by > small]
    pressing = [
        row.name
        for row, by, dual in zip(rows, missed, found.ineqlin.marginals, strict=True)
        if by <= small and dual < -TOLERANCE
    ]
    return (
        f"within the limits of the cells these cannot all hold: {'; '.join([*told, *pressing])}. "
        "Loosen one of them, or allow more change"
    )
