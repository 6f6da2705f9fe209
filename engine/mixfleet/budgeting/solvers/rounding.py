"""Rounding: from the best plan of a relaxed problem to one that takes admitted spends only, on curves as they are.

Cells that are near to choosing otherwise, and those that lie between two admitted spends or below the hull of their
curve, choose anew in a small mixed-integer program, and the others stay; more cells take part until there is a plan.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.optimize import milp

from mixfleet.budgeting.solvers.lagrangian import interpolate, slopes

__all__ = ["admitted", "rounded"]

CORE = 48
"""Cells that choose anew, at first."""

NODES = 500
"""Of the search tree: a count, not seconds, so that a plan does not depend on the machine."""

NEAR = 1e-9
"""Of a cell's greatest level: what is nearer to a level is there."""


class FreeSpan(NamedTuple):
    """Neighbouring levels of a cell between which every spend is admitted and margins fall."""

    cell: int
    first: int
    last: int


def admitted(
    levels: Float[np.ndarray, "cell level"], joined: Bool[np.ndarray, "cell step"], spend: Float[np.ndarray, " cell"]
) -> Bool[np.ndarray, " cell"]:
    """Which cells' spend is at a level, or between two that are joined."""
    near = NEAR * np.maximum(levels[:, -1:], 1e-300)
    between = (levels[:, :-1] - near <= spend[:, None]) & (spend[:, None] <= levels[:, 1:] + near)
    at_level = np.abs(levels - spend[:, None]) <= near
    return np.asarray(np.concatenate([at_level, between & joined], axis=1).any(axis=1))


def rounded(
    levels: Float[np.ndarray, "cell level"],
    joined: Bool[np.ndarray, "cell step"],
    outcome: Float[np.ndarray, "cell level"],
    spend: Float[np.ndarray, " cell"],
    costs: Float[np.ndarray, " cell"],
    weights: Float[np.ndarray, "row cell"],
    limits: Float[np.ndarray, " row"],
    gap: float,
) -> Float[np.ndarray, " cell"] | None:
    """An admitted plan near the relaxed one, or None if none was found.

    Args:
        levels: Levels of spend.
        joined: Whether spends between two neighbouring levels are admitted.
        outcome: At each level.
        spend: The relaxed plan.
        costs: What money costs each cell there.
        weights: Of the spends in each constraint.
        limits: What `weights @ spend` may be at most.
        gap: By how much plans may fall short of the bound; those that do by more are not looked at.
    """
    gain = outcome - costs[:, None] * levels
    away = np.abs(levels - spend[:, None]) > NEAR * np.maximum(levels[:, -1:], 1e-300)
    regret = gain.max(axis=1) - np.where(away, gain, -np.inf).max(axis=1)
    # Those that must choose anew, then those that can take up what the others leave, then the most indifferent.
    short = gain.max(axis=1) - interpolate(levels, gain, spend) > 1e-9 * np.abs(outcome).max()
    kind = np.where(~admitted(levels, joined, spend) | short, 0, np.where(away.all(axis=1), 1, 2))
    order = np.lexsort((regret, kind))
    size = CORE
    while True:
        core = np.sort(order[:size])
        left = limits - np.delete(weights, core, axis=1) @ np.delete(spend, core)
        runs = [
            FreeSpan(place, *run)
            for place, cell in enumerate(core)
            for run in _runs(levels[cell], joined[cell], outcome[cell])
            if gain[cell, run[0] : run[1] + 1].max() >= gain[cell].max() - gap
        ]
        if (own := _chosen(runs, levels[core], outcome[core], weights[:, core], left)) is not None:
            found = spend.copy()
            found[core] = own
            return found
        if size >= len(levels):
            return None
        size *= 4


def _chosen(
    runs: Sequence[FreeSpan], levels: np.ndarray, outcome: np.ndarray, weights: np.ndarray, limits: np.ndarray
) -> Float[np.ndarray, " cell"] | None:
    """The best admitted spends of a few cells: each takes one run, and moves up along its levels."""
    money, worth, owner, width = [], [], [], []
    for place, run in enumerate(runs):
        money.append(levels[run.cell, run.first])
        worth.append(outcome[run.cell, run.first])
        owner.append(place)
        width.append(1.0)
    for place, run in enumerate(runs):
        for level in range(run.first, run.last):
            step = levels[run.cell, level + 1] - levels[run.cell, level]
            if step > 0:
                money.append(1.0)
                worth.append((outcome[run.cell, level + 1] - outcome[run.cell, level]) / step)
                owner.append(place)
                width.append(step)
    taken, count = np.array(owner), len(runs)
    cell = np.array([run.cell for run in runs])[taken]
    spends = sparse.csr_array((money, (cell, np.arange(len(cell)))), shape=(len(levels), len(cell)))
    one = sparse.csr_array((np.ones(count), (cell[:count], np.arange(count))), shape=(len(levels), len(cell)))
    pieces = np.arange(count, len(cell))
    rows = np.arange(len(pieces))
    entries = np.r_[np.ones(len(pieces)), -np.array(width)[pieces]]
    places = (np.r_[rows, rows], np.r_[pieces, taken[pieces]])
    open_ = sparse.csr_array((entries, places), shape=(len(pieces), len(cell)))
    slack = 1e-10 * np.abs(limits)
    held = sparse.csr_array(weights) @ spends
    constraints: list[Any] = [(held, -np.inf, limits + slack), (one, 1.0, 1.0)]
    if len(pieces):
        constraints.append((open_, -np.inf, 0.0))
    found = milp(
        -np.array(worth),
        integrality=np.arange(len(cell)) < count,
        bounds=(0.0, np.array(width)),
        constraints=constraints,
        options={"node_limit": NODES, "mip_rel_gap": 1e-6},
    )
    if found.x is None:
        return None
    whole = np.r_[np.round(found.x[:count]), found.x[count:]]
    return np.clip(spends @ whole, levels[:, 0], levels[:, -1])


def _runs(
    levels: Float[np.ndarray, " level"], joined: Bool[np.ndarray, " step"], outcome: Float[np.ndarray, " level"]
) -> list[tuple[int, int]]:
    """First and last levels of a cell's runs. A cell with fewer levels repeats its last, which is one choice."""
    count = int(np.argmax(levels)) + 1
    slope = slopes(levels[None], outcome[None])[0]
    runs, first = [], 0
    for level in range(1, count):
        if not joined[level - 1]:
            runs.append((first, level - 1))
            first = level
        elif level - 1 > first and slope[level - 1] > slope[level - 2]:
            runs.append((first, level - 1))
            first = level - 1
    return [*runs, (first, count - 1)]
