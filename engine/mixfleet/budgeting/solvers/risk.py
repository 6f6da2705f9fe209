"""Risk: plans for more than the expected outcome - for the mean less its spread, or the mean of the worst draws.

A concave objective of the outcome draws is climbed by plans that are best for weighted draws: each weighting is a
problem that `allocation` solves, and the best mixture of the plans so far gives the next weights. The plan is that
mixture of spends; the weights bound what any plan could reach.

References:
    Dantzig and Wolfe (1960). Rockafellar and Uryasev (2000), Optimization of Conditional Value-at-Risk.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog, minimize

from mixfleet.budgeting.solvers.lagrangian import Allocation, Solve, allocate, interpolate

__all__ = ["beating", "by_quantile", "expected_shortfall", "hedged", "mean_less_spread", "worst_draws"]

ROUNDS = 40
TOLERANCE = 1e-4
"""Of the objective's size: when the bound is so near, the climb ends."""


SHARES = (0.05, 0.2, 0.5, 1.0)
SPREADS = (0.5, 1.0, 2.0)
"""Of worst draws, and in sds: the plans that stand for election by their probability to gain."""


class Objective(NamedTuple):
    """A concave function of the outcome's draws."""

    value: Callable[[Float[np.ndarray, " draw"]], float]
    mixture: Callable[[Float[np.ndarray, "plan draw"]], tuple[Float[np.ndarray, " plan"], Float[np.ndarray, " draw"]]]
    """Of plans' outcomes: shares of the best mixture, and the objective's weights of the draws there."""


def hedged(
    levels: Float[np.ndarray, "cell level"],
    draws: Float[np.ndarray, "cell level draw"],
    total: float,
    objective: Objective,
    *,
    solve: Solve = allocate,
    mixes: bool = True,
) -> Allocation:
    """The plan of that total with the highest objective of the summed outcome, its outcome in the objective's unit.

    Args:
        levels: Levels of spend.
        draws: Outcome at each level.
        total: What is spent.
        objective: A concave function of the summed outcome's draws.
        solve: What finds the best plan for weighted draws.
        mixes: Whether a mixture of two plans is a plan: not where cells spend in steps.
    """
    weights, shares = np.full(draws.shape[-1], 1 / draws.shape[-1]), np.zeros(0)
    plans: list[np.ndarray] = []
    outcomes: list[np.ndarray] = []
    bound, best, found = np.inf, -np.inf, None
    for _ in range(ROUNDS):
        own = solve(levels, draws @ weights, total)
        if outcomes:
            # A concave objective lies below its tangent, which the weights are.
            here = shares @ np.array(outcomes)
            bound = min(bound, objective.value(here) + own.bound - float(weights @ here))
            if bound - best <= TOLERANCE * abs(bound):
                break
        plans.append(own.spend)
        outcomes.append(interpolate(levels, draws, own.spend).sum(axis=0))
        shares, weights = objective.mixture(np.array(outcomes))
        mixed = shares @ np.array(plans)
        for candidate in (mixed, own.spend) if mixes else (own.spend,):
            reached = objective.value(interpolate(levels, draws, candidate).sum(axis=0))
            if reached > best:
                best, found = reached, replace(own, spend=candidate)
    assert found is not None
    return replace(found, outcome=float(best), bound=float(max(bound, best)))


def expected_shortfall(outcome: Float[np.ndarray, " draw"], share: float) -> float:
    """Mean of the worst `share` of the draws (CVaR)."""
    ordered = np.sort(outcome)
    weight = np.clip(share * len(ordered) - np.arange(len(ordered)), 0.0, 1.0)
    return float(weight @ ordered / weight.sum())


def worst_draws(share: float) -> Objective:
    """The mean of the worst `share` of the draws."""

    def mixture(outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Over shares of the plans, a threshold, and each draw's distance below it.
        plans, draws = outcomes.shape
        cost = np.r_[np.zeros(plans), -1.0, np.full(draws, 1 / (share * draws))]
        below = np.hstack([-outcomes.T, np.ones((draws, 1)), -np.eye(draws)])
        whole = np.r_[np.ones(plans), np.zeros(1 + draws)][None]
        limits = [(0, None)] * plans + [(None, None)] + [(0, None)] * draws
        size = np.abs(outcomes).max() or 1.0
        below[:, :plans] /= size
        found = linprog(cost, A_ub=below, b_ub=np.zeros(draws), A_eq=whole, b_eq=[1.0], bounds=limits)
        assert found.status == 0, found.message
        return found.x[:plans], -found.ineqlin.marginals

    return Objective(lambda outcome: expected_shortfall(outcome, share), mixture)


def mean_less_spread(risk: float) -> Objective:
    """The mean less `risk` standard deviations."""

    def value(outcome: np.ndarray) -> float:
        return float(outcome.mean() - risk * outcome.std())

    def slope(outcome: np.ndarray) -> np.ndarray:
        spread = outcome.std()
        away = (outcome - outcome.mean()) / spread if spread > 0 else np.zeros_like(outcome)
        return (1 - risk * away) / len(outcome)

    def mixture(outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = np.abs(outcomes).max() or 1.0
        start = np.full(len(outcomes), 1 / len(outcomes))
        found = minimize(
            lambda shares: -value(shares @ outcomes) / size,
            start,
            jac=lambda shares: -(outcomes @ slope(shares @ outcomes)) / size,
            bounds=[(0, 1)] * len(outcomes),
            constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
        )
        shares = np.clip(found.x, 0, None)
        shares /= shares.sum()
        return shares, slope(shares @ outcomes)

    return Objective(value, mixture)


def by_quantile(
    levels: Float[np.ndarray, "cell level"],
    draws: Float[np.ndarray, "cell level draw"],
    total: float,
    share: float,
    multiples: Sequence[float],
    *,
    solve: Solve = allocate,
    mixes: bool = True,
) -> Allocation:
    """Of the plans that are best for the worst draws, at several shares of them, the one of the highest quantile.

    A quantile is not concave and nothing certifies its best plan: the bound is infinite.
    """
    plans = [
        hedged(levels, draws, total, worst_draws(min(1.0, share * multiple)), solve=solve, mixes=mixes)
        for multiple in multiples
    ]
    reached = [float(np.quantile(interpolate(levels, draws, plan.spend).sum(axis=0), share)) for plan in plans]
    best = int(np.argmax(reached))
    return replace(plans[best], outcome=reached[best], bound=float("inf"))


def beating(
    levels: Float[np.ndarray, "cell level"],
    gain: Float[np.ndarray, "cell level draw"],
    total: float,
    *,
    solve: Solve = allocate,
    mixes: bool = True,
) -> Allocation:
    """Of plans that weigh risk more and less, the one whose gain is above zero in most draws; of equals, the greatest.

    A probability is not concave and nothing certifies its best plan: the bound is infinite. The outcome is the
    probability.
    """
    objectives = (*map(worst_draws, SHARES), *map(mean_less_spread, SPREADS))
    plans = [hedged(levels, gain, total, objective, solve=solve, mixes=mixes) for objective in objectives]
    gains = [interpolate(levels, gain, plan.spend).sum(axis=0) for plan in plans]
    best = max(range(len(plans)), key=lambda i: (float(np.mean(gains[i] > 0)), float(gains[i].mean())))
    return replace(plans[best], outcome=float(np.mean(gains[best] > 0)), bound=float("inf"))
