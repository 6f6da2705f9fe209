"""Allocation: the best way to spend a total over cells whose outcomes add up, by a price of money.

Each cell - a channel in a unit - has its outcome at a few levels of spend, with straight lines between. At a price of
money every cell chooses for itself the level that earns most; the price at which the cells together spend the total
gives the best plan, however the curves bend. Where several levels are best at once, as at the foot of an S-shaped
curve, the total may fall between two of a cell's choices: what any plan could still add is then reported as the gap,
the difference to the Lagrangian bound, and it is never more than one cell's.

References:
    Everett (1963), Generalized Lagrange Multiplier Method. Shapley and Folkman, in Starr (1969), for the gap.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Allocation", "allocate", "at_price", "for_outcome", "for_return", "interpolate", "slopes"]

HALVINGS = 200


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A plan and its certificate."""

    spend: Float[np.ndarray, " cell"]
    outcome: float
    """Sum over the cells."""
    price: float
    """Outcome that one more unit of money would bring, and the last one brought."""
    bound: float
    """No plan of the same total, between the levels, has a higher outcome."""

    @property
    def gap(self) -> float:
        """What any plan could add at most."""
        return max(self.bound - self.outcome, 0.0)


def allocate(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], total: float
) -> Allocation:
    """The best plan that spends `total`, which must lie between the sums of the lowest and of the highest levels."""
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
    return Allocation(spend=spend, outcome=reached, price=max(dear, float(steepness.min(initial=0.0))), bound=bound)


def at_price(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], price: float
) -> Allocation:
    """The plan that spends as long as money brings `price` or more; its total is what it comes to."""
    choice = _choices(levels, outcome, price)
    rows = np.arange(len(levels))
    spend, reached = levels[rows, choice], float(outcome[rows, choice].sum())
    return Allocation(spend=spend, outcome=reached, price=price, bound=reached)


def for_return(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], ratio: float
) -> Allocation | None:
    """The plan of the greatest total whose outcome is at least `ratio` times it; None if there is no such plan.

    Of all plans of one total the best one has the highest return, and beyond the total at which `ratio` is met the
    best return only falls; so the total is found by halving.
    """
    low, high = float(levels[:, 0].sum()), float(levels[:, -1].sum())

    def meets(plan: Allocation) -> bool:
        return float(plan.spend.sum()) > 0 and plan.outcome >= ratio * float(plan.spend.sum())

    if meets(everything := allocate(levels, outcome, high)):
        return everything
    start = at_price(levels, outcome, ratio)
    if not meets(start):
        # Spending until the margin earns no more than the ratio is where the surplus over it is greatest.
        return None
    best, low = start, float(start.spend.sum())
    for _ in range(60):
        plan = allocate(levels, outcome, (low + high) / 2)
        if meets(plan):
            best, low = plan, float(plan.spend.sum())
        else:
            high = (low + high) / 2
    return best


def for_outcome(
    levels: Float[np.ndarray, "cell level"], outcome: Float[np.ndarray, "cell level"], target: float
) -> Allocation | None:
    """The plan of the least total whose outcome is at least `target`; None if no plan reaches it.

    The outcome of the best plan only grows with the total, as long as no curve falls.
    """
    low, high = float(levels[:, 0].sum()), float(levels[:, -1].sum())
    best = allocate(levels, outcome, high)
    if best.outcome < target:
        return None
    for _ in range(60):
        plan = allocate(levels, outcome, (low + high) / 2)
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
