"""Joint allocation against every plan there is, and budgets with limits on sums, shares and ratios."""

import itertools

import numpy as np
import pytest

from mixfleet.budgeting.solvers.lagrangian import allocate, interpolate
from mixfleet.budgeting.solvers.linear_program import BudgetPool, Constraint, Joint, Segments
from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.budgeting.solvers.test_lagrangian import cells
from tests.support.saved_run import saved_run

FIRST = np.array([True, True, False, False])
ALL = np.ones(4, bool)


def joint(
    *constraints: tuple[np.ndarray, float],
    levels: int = 9,
    pools: tuple[BudgetPool, ...] = (BudgetPool("", ALL, 1.0),),
) -> Joint:
    made = tuple(Constraint(f"c{i}", weight != 0, weight, limit) for i, (weight, limit) in enumerate(constraints))
    return Joint(constraints=made, pools=pools, joined=np.ones((len(pools[0].cells), levels - 1), bool))


@pytest.mark.parametrize("seed", range(10))
def test_no_plan_that_keeps_the_constraints_is_better_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels, outcome = cells(4, 9, seed)
    total = 0.5 * levels[:, -1].sum()
    weight = np.where(FIRST, 1.0, 0.0)
    limit = rng.uniform(0.3, 0.5) * levels[FIRST, -1].sum()
    share = np.array([0.7, -0.3, -0.3, -0.3])
    solve = joint((weight, limit), (share, 0.0))
    found = solve(levels, outcome, total)
    assert found.spend.sum() == pytest.approx(total)
    assert found.spend[:2].sum() <= limit + 1e-9
    assert found.spend[0] <= 0.3 * total + 1e-9
    best = 0.0
    for choice in itertools.product(range(9), repeat=3):
        spend = levels[np.arange(3), choice]
        spend = np.r_[spend, total - spend.sum()]
        if 0 <= spend[3] <= levels[3, -1] and weight @ spend <= limit and share @ spend <= 0:
            best = max(best, interpolate(levels, outcome, spend).sum())
    assert best <= found.bound + 1e-9
    assert found.outcome >= best - found.gap - 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_without_constraints_it_is_the_allocation_by_price(seed: int) -> None:
    levels, outcome = cells(40, 33, seed)
    total = 0.4 * levels[:, -1].sum()
    plain = allocate(levels, outcome, total)
    found = joint(levels=33, pools=(BudgetPool("", np.ones(40, bool), 1.0),))(levels, outcome, total)
    assert found.bound == pytest.approx(plain.bound, rel=1e-9)
    assert found.price == pytest.approx(plain.price, rel=1e-6)
    assert found.gap <= 1e-4 * plain.outcome + plain.gap
    free = joint(levels=33)(levels[:4], outcome[:4], None)
    assert free.outcome == pytest.approx(outcome[:4].max(axis=1).sum())


def test_cells_pay_the_shadow_prices_of_their_constraints() -> None:
    levels = np.tile(np.linspace(0, 1, 65), (4, 1))
    outcome = np.log1p(4 * levels) * np.array([4.0, 3.0, 1.0, 1.0])[:, None]
    weight = FIRST.astype(float)
    found = joint((weight, 0.5), levels=65)(levels, outcome, 1.5)
    assert found.spend[:2].sum() == pytest.approx(0.5)
    assert set(found.shadow) == {"c0"}
    np.testing.assert_allclose(found.cell_price, found.price + weight * found.shadow["c0"])
    looser = joint((weight, 0.55), levels=65)(levels, outcome, 1.5)
    assert looser.outcome - found.outcome == pytest.approx(0.05 * found.shadow["c0"], rel=0.1)


def test_hulls_are_those_of_every_chord() -> None:
    levels, outcome = cells(12, 17, 5)
    segments = Segments.of(levels, outcome)
    for cell in range(12):
        own = segments.cell == cell
        assert np.all(np.diff(segments.slope[own]) < 1e-12)
        corners = levels[cell, 0] + np.r_[0.0, np.cumsum(segments.width[own])]
        heights = outcome[cell, 0] + np.r_[0.0, np.cumsum(segments.slope[own] * segments.width[own])]
        for i, spend in enumerate(levels[cell]):
            chords = [
                np.interp(spend, levels[cell, [a, b]], outcome[cell, [a, b]])
                for a, b in itertools.combinations(range(17), 2)
                if a <= i <= b
            ]
            assert np.interp(spend, corners, heights) == pytest.approx(max(chords))


def test_a_contradiction_is_told_with_what_is_missed() -> None:
    levels, outcome = cells(4, 9, 0)
    least = float(levels[FIRST, -1].sum()) - 0.1
    solve = joint((-FIRST.astype(float), -least), (np.r_[0.0, 0.0, 1.0, 1.0], 9.0))
    with pytest.raises(ConfigError, match=r"cannot all hold: .*c0") as raised:
        solve(levels, outcome, least - 0.5)
    assert "0.50)" in str(raised.value)
    assert "the total at most" in str(raised.value)
    assert "c1" not in str(raised.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, saturation="hill"), draws=20)


def spends(run: Run, **asked_for: object) -> tuple[dict, dict, object]:
    plan = run.budget(**{"weeks": 8, "change": 0.5, **asked_for})
    table = plan.table().query("binding != 'not certified'")
    return table.groupby("channel").spend_plan.sum(), table.groupby("channel").spend_today.sum(), plan


def test_sums_shares_and_ratios_hold_and_are_named(run: Run) -> None:
    free, today, plain = spends(run)
    rises = "search" if free["search"] > today["search"] else "tv"
    after, _, plan = spends(run, groups={f"channel={rises}": (0.0, 1.05)})
    assert after[rises] == pytest.approx(1.05 * today[rises])
    assert after.sum() == pytest.approx(today.sum())
    assert f"channel={rises} at most 1.05 x today's" in set(plan.table().binding)
    assert plan.totals["gap_share"] < 0.02
    assert plan.totals["gain"]["mean"] < plain.totals["gain"]["mean"]
    assert plan.totals["shadow_prices"][f"channel={rises} at most 1.05 x today's"] > 0
    money = 0.9 * today["tv"]
    assert spends(run, groups_money={"channel=tv": (money, money)})[0]["tv"] == pytest.approx(money)
    share = 0.9 * today["tv"] / today.sum()
    assert spends(run, shares={"channel=tv": (0.0, share)})[0]["tv"] <= share * today.sum() * (1 + 1e-9)
    ratio = 1.2 * today["tv"] / today["search"]
    after = spends(run, ratios={("channel=tv", "channel=search"): (ratio, np.inf)})[0]
    assert after["tv"] >= ratio * after["search"] * (1 - 1e-9)


@pytest.mark.parametrize("aim", ["cvar", "quantile", "mean_less_spread"])
def test_constraints_hold_for_every_aim(run: Run, aim: str) -> None:
    after, today, _ = spends(run, aim=aim, level=0.2, groups={"channel=tv": (1.1, 1.2)})
    assert 1.1 - 1e-9 <= after["tv"] / today["tv"] <= 1.2 + 1e-9
    assert after.sum() == pytest.approx(today.sum())


def test_constraints_hold_for_every_target(run: Run) -> None:
    limits = {"groups": {"channel=tv": (0.0, 0.9)}}
    _, today, plain = spends(run, **limits)
    roi = plain.totals["outcome_plan"]["mean"] / plain.totals["spend_plan"]
    for target in ({"target_roi": 1.02 * roi}, {"target_marginal_roi": plain.totals["prices"][0]}):
        after, _, plan = spends(run, **limits, **target)
        assert after["tv"] <= 0.9 * today["tv"] * (1 + 1e-9)
        assert plan.totals["gap_share"] < 0.02
    goal = 0.95 * plain.totals["outcome_plan"]["mean"]
    after, _, plan = spends(run, **limits, target_outcome=goal)
    assert after["tv"] <= 0.9 * today["tv"] * (1 + 1e-9)
    assert plan.totals["outcome_plan"]["mean"] == pytest.approx(goal, rel=1e-2)


def test_money_stays_within_markets_under_constraints(run: Run) -> None:
    plan = run.budget(weeks=8, within=["market"], groups={"channel=tv": (0.8, 0.9)})
    for _, own in plan.table().groupby("market"):
        assert own.spend_plan.sum() == pytest.approx(own.spend_today.sum())
    assert len(plan.totals["prices"]) == 2


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"groups": {"channel=tv": (1.6, 2.0)}}, r"cannot all hold: channel=tv at least 1.6 x today's \(missed by"),
        ({"shares": {"channel=tv": (0.9, 1.0), "channel=search": (0.5, 1.0)}}, "channel=tv at least 0.9 of the total"),
        ({"groups": {"channel=radio": (0, 1)}}, "names no channel"),
        ({"groups": {"brand=core": (0, 1)}}, "names no channel"),
        ({"groups": {"channel=tv": (2, 1)}}, "0 <= low <= high"),
        ({"shares": {"channel=tv": (1.2, 2)}}, "up to 1"),
        ({"groups": {"channel=tv": (0, 1)}, "within": ["market"], "target_roi": 2.0}, "several totals at once"),
    ],
)
def test_constraints_that_cannot_be_kept_are_explained(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": 8, **asked_for})
