"""Frontier: what the best plan of every total would bring, from the least that the limits allow to the most."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.budgeting.plan import Decision
from mixfleet.budgeting.problem import Problem
from mixfleet.posterior.statistics import statistics

__all__ = ["POINTS", "efficient_frontier"]

POINTS = 12
"""Totals, evenly spaced; today's is one more."""


def efficient_frontier(problem: Problem) -> pa.Table:
    """One row per total.

    Columns: `spend`; whether it is `today`'s; mean, q05 and q95 of `outcome` and of `gain` over today's plan; `roi`;
    `marginal_roi`, what one more unit of money would bring; and `gap_share`, what any other plan of that total could
    add to the aim, as a share of its outcome.

    Raises:
        ConfigError: Constraints and steps leave no plan of a total in between.
    """
    low, high = problem.reach()
    today = float(problem.spend_outcome.today[problem.planned].sum())
    totals = np.union1d(np.linspace(low, high, POINTS), [today] if low <= today <= high else [])
    decisions = [_decided(problem, float(total)) for total in totals]
    outcome = _outcomes(problem, decisions)
    cost = np.array([float(decision.spend[problem.planned].sum()) for decision in decisions])
    spent = cost - today if problem.asked.maximise == "profit" else np.zeros(len(cost))
    gain = statistics(outcome[1:] - outcome[0] - spent[:, None])
    reached = statistics(outcome[1:])
    names = ("mean", "q05", "q95")
    gaps = np.array([sum(found.gap for found in decision.found) for decision in decisions])
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "spend": cost,
            "today": np.isclose(cost, today, rtol=1e-9),
            **{f"outcome_{name}": reached[name] for name in names},
            **{f"gain_{name}": gain[name] for name in names},
            "roi": reached["mean"] / cost,
            "marginal_roi": [decision.found[0].price for decision in decisions],
            "gap_share": gaps / np.abs(reached["mean"]),
        }
    return pa.table(columns)


def _decided(problem: Problem, total: float) -> Decision:
    fixed = replace(problem.asked, total=total, target_roi=None, target_marginal_roi=None, target_outcome=None)
    return replace(problem, asked=fixed).decide(total)


def _outcomes(problem: Problem, decisions: list[Decision]) -> Float[np.ndarray, "plan draw"]:
    """Of today's plan, then of each; summed over the planned cells as they come, as there may be many."""
    spend_outcome = problem.spend_outcome
    today = spend_outcome.pattern * spend_outcome.today[:, None]
    weekly = np.stack([today, *(decision.weekly for decision in decisions)], axis=1)
    total = np.zeros((weekly.shape[1], spend_outcome.fleet.draws))
    for _, part in spend_outcome.by_unit(weekly.sum(axis=-1), spend_outcome.fleet.draws, weekly, exact=False):
        total += part.sum(axis=0, dtype=float)
    return total
