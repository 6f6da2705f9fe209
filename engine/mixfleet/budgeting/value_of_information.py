"""What a plan would gain if somebody measured what a channel brings in a unit.

At the plan's price of money every cell chooses alone, so what is known of one is worth the same whatever is known of
the others. With perfect information the cell would choose its level draw by draw; an experiment gives a result that
scatters around the truth, and the cell chooses by what the result says of the draws. Both are compared with choosing
now, on average over results that are to be expected. A result changes no price: that holds as long as one cell is
small beside the whole.

References:
    Raiffa and Schlaifer (1961), Applied Statistical Decision Theory. Strong, Oakley and Brennan (2014),
    doi:10.1177/0272989X12465490.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.budgeting.plan import Decision
from mixfleet.budgeting.problem import Problem

__all__ = ["experiment_values", "perfect_value", "sample_value"]

DRAWS = 400
"""Draws that stand for what is known."""

RESULTS = 1_024
"""Results at most that an experiment is reckoned to have."""

TAILS = 5.0
"""Standard errors beyond the outermost draws that results may lie."""


def experiment_values(problem: Problem, decision: Decision, error: float) -> pa.Table:
    """One row per planned cell, the most worthwhile experiment first.

    Columns: keys, status, `channel`; `spend_today`; mean and sd of what that `brings`; `perfect_value`, what it is
    worth to know the cell's curve; and `experiment_value`, what it is worth to measure what today's spend brings - of a
    cell that is off, its greatest spend - with a standard error of `error` times its mean. Values are outcome over the
    planned weeks, before what the experiment costs.
    """
    spend_outcome, spend = problem.spend_outcome, problem.levels.spend
    draws = min(DRAWS, spend_outcome.fleet.draws)
    price = np.zeros(len(spend))
    for cells, found in zip(problem.pool_cells(), decision.found, strict=True):
        price[cells] = found.cell_price
    tried = np.where(spend_outcome.today > 0, spend_outcome.today, spend[:, -1])
    weekly = None
    if problem.weekly is not None:
        weekly = np.concatenate([problem.weekly, (spend_outcome.pattern * tried[:, None])[:, None]], axis=1)
    found = np.full((len(spend), 4), np.nan)
    levels = np.concatenate([spend, tried[:, None]], axis=1)
    for rows, outcome in spend_outcome.by_unit(levels, draws, weekly, exact=False):
        for cell, curve in zip(rows, outcome.astype(float), strict=True):
            worth, brings = curve[:-1] - price[cell] * spend[cell][:, None], curve[-1]
            value = sample_value(worth, brings, error * abs(float(brings.mean())))
            found[cell] = brings.mean(), brings.std(), perfect_value(worth), value
    order = problem.planned[np.argsort(-found[problem.planned, 3], kind="stable")]
    columns: dict[str, Any] = {name: np.array(labels, object)[order] for name, labels in spend_outcome.names().items()}
    numbers = zip(("brings_mean", "brings_sd", "perfect_value", "experiment_value"), found[order].T, strict=True)
    return pa.table(
        {**columns, "spend_today": spend_outcome.today[order], **dict(numbers), "error": np.full(len(order), error)}
    )


def perfect_value(worth: Float[np.ndarray, "choice draw"]) -> float:
    """What it is worth to know the draw before choosing."""
    return max(float(worth.max(axis=0).mean() - worth.mean(axis=1).max()), 0.0)


def sample_value(worth: Float[np.ndarray, "choice draw"], truth: Float[np.ndarray, " draw"], sd: float) -> float:
    """What it is worth to see `truth` with a normal error before choosing.

    Every result weighs the draws by how likely they make it. The results are a grid, on which each draw's likelihoods
    add up to one, so that the value is never below zero, nor above the perfect one.
    """
    low, high = float(truth.min()), float(truth.max())
    if not high > low:
        return 0.0
    # Finer than the grid could tell, an experiment is taken to be as fine as it can.
    sd = max(sd, (high - low) / RESULTS * 2)
    low, high = low - TAILS * sd, high + TAILS * sd
    results = np.linspace(low, high, max(64, int(np.ceil(2 * (high - low) / sd))))
    likelihood = np.exp(-0.5 * ((results[:, None] - truth) / sd) ** 2)
    likelihood /= likelihood.sum(axis=0)
    chosen = (likelihood @ worth.T).max(axis=1).sum() / len(truth)
    return max(float(chosen - worth.mean(axis=1).max()), 0.0)
