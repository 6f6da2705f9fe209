"""The best way to spend a total over cells whose outcomes add up, by a price of money.

Each cell - a channel in a unit - has its outcome at a few levels of spend, with straight lines between. At a price of
money every cell chooses for itself the level that earns most; the price at which the cells together spend the total
gives the best plan, however the curves bend. Where several levels are best at once, as at the foot of an S-shaped
curve, the total may fall between two of a cell's choices: what any plan could still add is then reported as the gap,
the difference to the Lagrangian bound, and it is never more than one cell's.

References:
    Everett (1963), Generalized Lagrange Multiplier Method. Shapley and Folkman, in Starr (1969), for the gap.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "REFINED_FROM",
    "Allocation",
    "Solve",
    "allocate",
    "at_price",
    "for_outcome",
    "for_return",
    "interpolate",
    "reach",
    "slopes",
]

HALVINGS = 200
HALVINGS_OF_TOTAL = 40

REFINEMENTS = 3
REFINED_FROM = 1e-6
"""Of the outcome: a smaller gap is left."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A plan and its certificate."""

    spend: Float[np.ndarray, " cell"]
    outcome: float
    """Sum over the cells."""
    prices: tuple[float, ...]
    """Outcome that one more unit of money would bring, and the last one brought, by total."""
    bound: float
    """No plan of the same total, between the levels, has a higher outcome."""
    cell_price: Float[np.ndarray, " cell"]
    """What money costs each cell: the price, and what constraints that it shares with others add."""
    shadow: Mapping[str, float] = field(default_factory=dict)
    """Constraint over several cells -> outcome that one more unit of money would bring if it were looser by so much;
    those that do not bind are left out."""

    @property
    def price(self) -> float:
        """That of the first total."""
        return self.prices[0]

    @property
    def gap(self) -> float:
        """What any plan could add at most."""
        return max(self.bound - self.outcome, 0.0)


Solve = Callable[[np.ndarray, np.ndarray, float | None], Allocation]
"""Levels and outcomes by cell, and a total or None -> the best plan; `allocate` is one."""


def allocate(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], total: float | None
) -> Allocation:
    """The best plan that spends `total`, which must lie between the sums of the lowest and of the highest levels.

    Without a total it is the best plan of all.
    """
    if total is None:
        choice = _choices(levels, outcome, 0.0)
        rows = np.arange(len(levels))
        reached = float(outcome[rows, choice].sum())
        free = np.zeros(len(levels))
        return Allocation(spend=levels[rows, choice], outcome=reached, prices=(0.0,), bound=reached, cell_price=free)
    found = _by_price(levels, outcome, total)
    kept, best = np.arange(len(levels)), found
    for _ in range(REFINEMENTS):
        if best.gap <= REFINED_FROM * abs(best.bound):
            break
        # The cell that falls furthest short of its own best choice tries others; what it spends, the rest do not.
        loss = (outcome - best.price * levels).max(axis=1) - interpolate(
            levels, outcome - best.price * levels, best.spend
        )
        split = kept[int(np.argmax(loss[kept]))]
        kept = kept[kept != split]
        better = _refined(levels, outcome, total, best, split)
        if better is None:
            break
        best = better
    return replace(best, prices=found.prices, cell_price=found.cell_price, bound=max(found.bound, best.outcome))


def at_price(
    levels: Float[np.ndarray, "cell level"],
    outcome: Float[np.ndarray, "cell level"],
    price: float,
    solve: Solve = allocate,
) -> Allocation:
    """The plan that spends as long as money brings `price` or more; its total is what it comes to."""
    found = solve(levels, outcome - price * levels, None)
    spent = price * float(found.spend.sum())
    reached = float(interpolate(levels, outcome, found.spend).sum())
    costs = found.cell_price + price
    return replace(found, outcome=reached, prices=(price,), bound=max(found.bound + spent, reached), cell_price=costs)


def for_return(
    levels: Float[np.ndarray, "cell level"],
    outcome: Float[np.ndarray, "cell level"],
    ratio: float,
    solve: Solve = allocate,
) -> Allocation | None:
    """The plan of the greatest total whose outcome is at least `ratio` times it; None if there is no such plan.

    Of all plans of one total the best one has the highest return, and beyond the total at which `ratio` is met the
    best return only falls; so the total is found by halving.
    """
    high = reach(levels, solve)[1]

    def meets(plan: Allocation) -> bool:
        return float(plan.spend.sum()) > 0 and plan.outcome >= ratio * float(plan.spend.sum())

    if meets(everything := solve(levels, outcome, high)):
        return everything
    start = at_price(levels, outcome, ratio, solve)
    if not meets(start):
        # Spending until the margin earns no more than the ratio is where the surplus over it is greatest.
        return None
    best, low = start, float(start.spend.sum())
    for _ in range(HALVINGS_OF_TOTAL):
        plan = solve(levels, outcome, (low + high) / 2)
        if meets(plan):
            best, low = plan, float(plan.spend.sum())
        else:
            high = (low + high) / 2
    return best


def for_outcome(
    levels: Float[np.ndarray, "cell level"],
    outcome: Float[np.ndarray, "cell level"],
    target: float,
    solve: Solve = allocate,
) -> Allocation | None:
    """The plan of the least total whose outcome is at least `target`; None if no plan reaches it.

    The outcome of the best plan only grows with the total, as long as no curve falls.
    """
    low, high = reach(levels, solve)
    best = solve(levels, outcome, high)
    if best.outcome < target:
        return None
    for _ in range(HALVINGS_OF_TOTAL):
        plan = solve(levels, outcome, (low + high) / 2)
        if plan.outcome >= target:
            best, high = plan, (low + high) / 2
        else:
            low = (low + high) / 2
    return best


def interpolate(
    levels: Float[np.ndarray, "cell level"],
    values: Float[np.ndarray, "cell level ..."],
    spend: Float[np.ndarray, " cell"],
) -> Float[np.ndarray, "cell ..."]:
    """Values at each cell's spend, on straight lines between its levels."""
    rows = np.arange(len(levels))
    above = np.clip((levels < spend[:, None]).sum(axis=1), 1, levels.shape[1] - 1)
    low, high = levels[rows, above - 1], levels[rows, above]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high > low, (spend - low) / (high - low), 0.0)
    share = share.reshape(-1, *[1] * (values.ndim - 2))
    return values[rows, above - 1] * (1 - share) + values[rows, above] * share


def slopes(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"]
) -> Float[np.ndarray, "cell step"]:
    """Outcome per money between neighbouring levels; zero where two levels are one."""
    width, rise = np.diff(levels), np.diff(outcome)
    return np.where(width > 0, rise / np.where(width > 0, width, 1.0), 0.0)


def reach(levels: Float[np.ndarray, "cell level"], solve: Solve) -> tuple[float, float]:
    """The least and the greatest total that there are plans of."""
    least, most = (float(solve(levels, sign * levels, None).spend.sum()) for sign in (-1.0, 1.0))
    return least, most


def _by_price(levels: np.ndarray, outcome: np.ndarray, total: float) -> Allocation:
    steepness = slopes(levels, outcome)
    # At `dear` the cells spend no more than the total, at `cheap` no less.
    dear, cheap = float(steepness.max(initial=0.0)) + 1.0, float(steepness.min(initial=0.0)) - 1.0
    for _ in range(HALVINGS):
        price = (dear + cheap) / 2
        if not cheap < price < dear:
            break
        if _spent(levels, _choices(levels, outcome, price)) > total:
            cheap = price
        else:
            dear = price
    spend = _filled(levels, _choices(levels, outcome, dear), _choices(levels, outcome, cheap), total)
    bound = min(_dual(levels, outcome, price, total) for price in (dear, cheap))
    reached = float(interpolate(levels, outcome, spend).sum())
    price = max(dear, float(steepness.min(initial=0.0)))
    costs = np.full(len(levels), price)
    return Allocation(spend=spend, outcome=reached, prices=(price,), bound=bound, cell_price=costs)


def _refined(levels: np.ndarray, outcome: np.ndarray, total: float, best: Allocation, split: int) -> Allocation | None:
    """The best plan with one cell at a level of its own, if it is better."""
    gain = outcome[split] - best.price * levels[split]
    rest, found = np.delete(np.arange(len(levels)), split), None
    low, high = float(levels[rest, 0].sum()), float(levels[rest, -1].sum())
    # A level that loses more than the gap is in no better plan.
    for level in np.flatnonzero(gain.max() - gain < best.gap):
        own = float(levels[split, level])
        if not low <= total - own <= high:
            continue
        others = _by_price(levels[rest], outcome[rest], total - own)
        reached = others.outcome + float(outcome[split, level])
        if reached > (best if found is None else found).outcome:
            spend = best.spend.copy()
            spend[rest], spend[split] = others.spend, own
            found = replace(best, spend=spend, outcome=reached)
    return found


def _choices(levels: np.ndarray, outcome: np.ndarray, price: float) -> Int[np.ndarray, " cell"]:
    # The first of equals, which is the cheapest.
    return np.argmax(outcome - price * levels, axis=1)


def _spent(levels: np.ndarray, choice: Int[np.ndarray, " cell"]) -> float:
    return float(levels[np.arange(len(levels)), choice].sum())


def _dual(levels: np.ndarray, outcome: np.ndarray, price: float, total: float) -> float:
    return float((outcome - price * levels).max(axis=1).sum() + price * total)


def _filled(levels: np.ndarray, few: np.ndarray, many: np.ndarray, total: float) -> Float[np.ndarray, " cell"]:
    """Between two choices of equal worth: one cell after the other moves up until the total is spent."""
    rows = np.arange(len(levels))
    spend, more = levels[rows, few].copy(), levels[rows, many] - levels[rows, few]
    # Widest steps first, so that the one that is taken in part, where straight lines may cut a corner, is narrow.
    order = np.argsort(-more, kind="stable")
    room = total - spend.sum() - (np.cumsum(more[order]) - more[order])
    spend[order] += np.clip(room, 0.0, more[order])
    return spend
