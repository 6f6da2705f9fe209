"""Allocation against every plan there is, and against linear programming."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from mixfleet.budgeting.solvers import risk
from mixfleet.budgeting.solvers.lagrangian import allocate, at_price, for_outcome, for_return, interpolate, slopes


def hill(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """S-shaped and concave curves."""
    cells = len(levels)
    half, slope, top = (rng.uniform(*limits, size=(cells, 1)) for limits in ((0.2, 0.8), (0.7, 3.0), (1.0, 4.0)))
    return top * levels**slope / (levels**slope + half**slope)


def cells(count: int, levels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, 1, levels) * rng.uniform(0.5, 1.5, size=(count, 1))
    return grid, hill(grid, rng)


@pytest.mark.parametrize("seed", range(8))
def test_no_plan_is_better_than_the_bound_and_the_plan_is_near_it(seed: int) -> None:
    levels, outcome = cells(4, 9, seed)
    total = 0.4 * levels[:, -1].sum()
    found = allocate(levels, outcome, total)
    assert found.spend.sum() == pytest.approx(total)
    best = 0.0
    # All plans on the levels, the last cell taking what is left.
    for choice in itertools.product(range(9), repeat=3):
        spend = levels[np.arange(3), choice]
        rest = total - spend.sum()
        if 0 <= rest <= levels[3, -1]:
            best = max(best, interpolate(levels, outcome, np.r_[spend, rest]).sum())
    assert best <= found.bound + 1e-9
    # What splits a step costs at most one cell's corner, and the gap says how much.
    assert found.outcome >= best - found.gap - 1e-9
    assert found.gap <= max_corner(levels, outcome) + 1e-9


def max_corner(levels: np.ndarray, outcome: np.ndarray) -> float:
    """The greatest distance of a curve below its concave hull."""
    corner = 0.0
    for i in range(len(levels)):
        for a, b in itertools.combinations(range(levels.shape[1]), 2):
            straight = np.interp(levels[i], levels[i, [a, b]], outcome[i, [a, b]])
            corner = max(corner, float((straight - outcome[i])[a : b + 1].max()))
    return corner


@pytest.mark.parametrize("seed", range(4))
def test_concave_curves_have_no_gap_and_equal_margins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = np.linspace(0, 1, 17) * rng.uniform(0.5, 1.5, size=(30, 1))
    outcome = rng.uniform(1, 4, size=(30, 1)) * np.log1p(levels * rng.uniform(1, 5, size=(30, 1)))
    total = 0.5 * levels[:, -1].sum()
    found = allocate(levels, outcome, total)
    assert found.gap <= 1e-9 * found.outcome
    steep = slopes(levels, outcome)
    width = np.diff(levels).ravel()
    program = linprog(-steep.ravel(), A_eq=np.ones((1, width.size)), b_eq=[total], bounds=[(0, most) for most in width])
    assert found.outcome == pytest.approx(-program.fun + outcome[:, 0].sum(), rel=1e-9)
    inside = (found.spend > levels[:, 0] + 1e-9) & (found.spend < levels[:, -1] - 1e-9)
    left = interpolate(levels, outcome, found.spend - 1e-7) - interpolate(levels, outcome, found.spend)
    right = interpolate(levels, outcome, found.spend + 1e-7) - interpolate(levels, outcome, found.spend)
    assert np.all(-left[inside] / 1e-7 >= found.price * (1 - 1e-5))
    assert np.all(right[inside] / 1e-7 <= found.price * (1 + 1e-5))


@pytest.mark.parametrize("seed", range(6))
def test_no_usual_optimiser_does_better_on_s_shaped_curves(seed: int) -> None:
    """A gradient method from today's plan, and a greedy climb of the grid by one step after the other."""
    levels, outcome = cells(8, 65, seed)
    total = 0.35 * levels[:, -1].sum()
    ours = allocate(levels, outcome, total)

    def negative(spend: np.ndarray) -> float:
        return -float(interpolate(levels, outcome, spend).sum())

    start = levels[:, -1] * 0.35
    whole = {"type": "eq", "fun": lambda spend: spend.sum() - total}
    limits = list(zip(levels[:, 0], levels[:, -1], strict=True))
    gradient = minimize(negative, start, method="SLSQP", bounds=limits, constraints=whole)
    assert ours.outcome >= -gradient.fun - 1e-6 * abs(gradient.fun) - ours.gap
    place = np.zeros(8, int)
    rows = np.arange(8)
    while True:
        after = np.minimum(place + 1, levels.shape[1] - 1)
        cost = levels[rows, after] - levels[rows, place]
        room = (cost > 0) & (levels[rows, place].sum() + cost <= total)
        if not room.any():
            break
        gain = np.where(room, (outcome[rows, after] - outcome[rows, place]) / np.where(room, cost, 1), -np.inf)
        place[np.argmax(gain)] += 1
    assert ours.outcome >= outcome[rows, place].sum() - ours.gap


def test_everything_and_nothing_can_be_spent() -> None:
    levels, outcome = cells(5, 9, 0)
    for end in (0, -1):
        found = allocate(levels, outcome, float(levels[:, end].sum()))
        np.testing.assert_allclose(found.spend, levels[:, end])
        assert found.gap <= 1e-9


def test_cells_that_cannot_move_stay() -> None:
    levels, outcome = cells(5, 9, 1)
    levels[2], outcome[2] = 0.3, 1.0
    found = allocate(levels, outcome, 2.0)
    assert found.spend[2] == 0.3
    assert found.spend.sum() == pytest.approx(2.0)


def test_at_a_price_each_cell_spends_until_its_margin_is_lower() -> None:
    levels, outcome = cells(20, 33, 2)
    found = at_price(levels, outcome, 1.5)
    assert found.outcome - 1.5 * found.spend.sum() == pytest.approx((outcome - 1.5 * levels).max(axis=1).sum())


def test_the_greatest_total_that_returns_enough() -> None:
    levels, outcome = cells(20, 33, 3)
    everything = outcome[:, -1].sum() / levels[:, -1].sum()
    found = for_return(levels, outcome, everything * 1.3)
    assert found is not None
    assert found.outcome / found.spend.sum() == pytest.approx(everything * 1.3, rel=1e-6)
    more = allocate(levels, outcome, float(found.spend.sum()) * 1.01)
    assert more.bound / more.spend.sum() < everything * 1.3
    whole = for_return(levels, outcome, everything * 0.9)
    assert whole is not None
    np.testing.assert_allclose(whole.spend, levels[:, -1])
    assert for_return(levels, outcome, 1e6) is None


def test_the_least_total_that_brings_enough() -> None:
    levels, outcome = cells(20, 33, 4)
    target = 0.6 * outcome[:, -1].sum()
    found = for_outcome(levels, outcome, target)
    assert found is not None
    assert found.outcome == pytest.approx(target, rel=1e-6)
    assert allocate(levels, outcome, 0.99 * float(found.spend.sum())).bound < target
    assert for_outcome(levels, outcome, 2 * float(outcome[:, -1].sum())) is None


def uncertain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    levels = np.linspace(0.5, 1.5, 17) * rng.uniform(0.5, 1.5, size=(12, 1))
    strength = rng.lognormal(0.0, 0.2 + 0.8 * (np.arange(12) % 2)[:, None], size=(12, 60))
    return levels, np.log1p(3 * levels)[..., None] * strength[:, None]


@pytest.mark.parametrize("objective", ["cvar", "mean_less_spread"])
def test_a_hedged_plan_is_certified_and_beats_the_mean_plan(objective: str) -> None:
    levels, draws = uncertain(0)
    total = 12.0
    goal = risk.worst_draws(0.1) if objective == "cvar" else risk.mean_less_spread(1.5)
    found = risk.hedged(levels, draws, total, goal)
    assert found.spend.sum() == pytest.approx(total)
    assert found.gap <= 2e-3 * abs(found.bound)
    plain = allocate(levels, draws.mean(axis=-1), total)
    assert found.outcome > goal.value(interpolate(levels, draws, plain.spend).sum(axis=0))
    # No random plan of that total passes the bound.
    rng = np.random.default_rng(1)
    for _ in range(200):
        spend = levels[:, 0] + rng.dirichlet(np.ones(12)) * (total - levels[:, 0].sum())
        if np.all(spend <= levels[:, -1]):
            assert goal.value(interpolate(levels, draws, spend).sum(axis=0)) <= found.bound + 1e-9


def test_expected_shortfall_is_the_mean_of_the_worst() -> None:
    assert risk.expected_shortfall(np.arange(10.0), 0.2) == 0.5
    assert risk.expected_shortfall(np.arange(10.0), 1.0) == 4.5
    assert risk.expected_shortfall(np.arange(10.0), 0.25) == pytest.approx((0 + 1 + 2 * 0.5) / 2.5)
