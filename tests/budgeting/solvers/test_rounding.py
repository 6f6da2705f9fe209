"""Steps, flights and limits in money: small problems against every plan there is, and plans of a made-up run."""

import itertools

import numpy as np
import pytest

from mixfleet.budgeting.solvers.linear_program import BudgetPool, Constraint, Joint
from mixfleet.config import Model
from mixfleet.data.panel import Panel
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.budgeting.solvers.test_lagrangian import cells
from tests.support.saved_run import panel, saved_run


@pytest.mark.parametrize("seed", range(12))
def test_plans_in_steps_are_the_best_there_are(seed: int) -> None:
    """Four cells of nine levels each: all 6,561 plans."""
    levels, outcome = cells(4, 9, seed)
    total = 0.45 * levels[:, -1].sum()
    weight = np.array([1.0, 1.0, 0.0, 0.0])
    limit = 0.35 * levels[:2, -1].sum()
    tie = Constraint("tie", weight > 0, weight, limit)
    whole = BudgetPool("", np.ones(4, bool), 1.0)
    found = Joint(constraints=(tie,), pools=(whole,), joined=np.zeros((4, 8), bool))(levels, outcome, total)
    assert np.isclose(levels, found.spend[:, None]).any(axis=1).all()
    widest = np.diff(levels).max()
    best = -np.inf
    for choice in itertools.product(range(9), repeat=4):
        spend = levels[np.arange(4), choice]
        if total - widest - 1e-9 <= spend.sum() <= total + 1e-9 and weight @ spend <= limit + 1e-9:
            best = max(best, outcome[np.arange(4), choice].sum())
    assert found.outcome == pytest.approx(best)
    assert best <= found.bound + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_flights_are_off_or_long_enough(seed: int) -> None:
    levels, outcome = cells(6, 17, seed)
    joined = np.ones((6, 16), bool)
    # The first three are off, or spend at least their eighth level.
    for cell in range(3):
        levels[cell, 1:] = np.linspace(levels[cell, 8], levels[cell, -1], 16)
        joined[cell, 0] = False
    total = 0.3 * levels[:, -1].sum()
    whole = BudgetPool("", np.ones(6, bool), 1.0)
    found = Joint(constraints=(), pools=(whole,), joined=joined)(levels, outcome, total)
    assert found.spend.sum() == pytest.approx(total)
    for cell in range(3):
        assert found.spend[cell] == pytest.approx(0, abs=1e-9) or found.spend[cell] >= levels[cell, 1] - 1e-9
    best = -np.inf
    for on in itertools.product([False, True], repeat=3):
        own, value = levels.copy(), outcome.copy()
        for cell in range(3):
            own[cell], value[cell] = (levels[cell], outcome[cell]) if on[cell] else (0.0, outcome[cell, 0])
            if on[cell]:
                own[cell, 0], value[cell, 0] = levels[cell, 1], outcome[cell, 1]
        if own[:, 0].sum() <= total <= own[:, -1].sum():
            best = max(best, Joint(constraints=(), pools=(whole,), joined=joined)(own, value, total).outcome)
    # Curves that are no hull may leave a corner, which the gap tells.
    assert found.outcome >= best - found.gap - 1e-9
    assert best <= found.bound + 1e-9


def idle_panel() -> Panel:
    """As usual, and acme / DE has not paid for tv for half a year."""
    made = panel()
    first = made.units[0]
    media, spend = first.media.copy(), first.spend.copy()
    media[-20:, 0] = spend[-20:, 0] = 0.0
    idle = type(first)(**{**vars(first), "media": media, "spend": spend})
    return type(made)(**{**vars(made), "units": (idle, *made.units[1:])})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, saturation="hill"), draws=20, of=idle_panel())


def test_spends_are_multiples_of_their_step(run: Run) -> None:
    plan = run.budget(weeks=8, change=1.0, steps={"channel=search": 25.0})
    table = plan.table().query("binding != 'not certified'")
    search = table[table.channel == "search"]
    np.testing.assert_allclose(search.spend_plan / 25, np.round(search.spend_plan / 25), atol=1e-9)
    assert "step" in set(search.binding)
    total, today = plan.totals["spend_plan"], plan.totals["spend_today"]
    assert today - 25 * 8 <= total <= today + 1e-6
    assert 0 <= plan.totals["gap_share"] < 0.05
    assert plan.totals["gain"]["mean"] > 0


@pytest.mark.parametrize("aim", ["cvar", "mean_less_spread"])
def test_other_aims_keep_to_steps(run: Run, aim: str) -> None:
    plan = run.budget(weeks=8, change=1.0, aim=aim, level=0.3, steps={"channel=search": 25.0})
    search = plan.table().query("binding != 'not certified' and channel == 'search'")
    np.testing.assert_allclose(search.spend_plan / 25, np.round(search.spend_plan / 25), atol=1e-9)


def test_flights_are_nothing_or_enough(run: Run) -> None:
    plan = run.budget(weeks=8, change=1.0, flights={"channel=search": 900.0})
    search = plan.table().query("binding != 'not certified' and channel == 'search'")
    assert ((search.spend_plan < 1e-9) | (search.spend_plan >= 900 - 1e-9)).all()
    assert plan.totals["spend_plan"] == pytest.approx(plan.totals["spend_today"])


def test_what_is_not_planned_needs_no_step(run: Run) -> None:
    """The quarantined units' tv spends less than one."""
    own = run.budget(weeks=8, change=1.0, steps={"market=FR": 400.0}).table().set_index(["brand", "market"])
    assert (own.loc[("bolt", "FR")].binding == "not certified").all()
    assert (own.loc[("bolt", "FR")].spend_plan == own.loc[("bolt", "FR")].spend_today).all()


def test_the_same_wish_gives_the_same_plan(run: Run) -> None:
    asked_for = {"weeks": 8, "change": 1.0, "steps": {"channel=search": 25.0}, "groups": {"channel=tv": (0.9, 1.1)}}
    first, second = (run.budget(**asked_for) for _ in range(2))
    assert first.table().equals(second.table())
    assert first.by_week().equals(second.by_week())


def test_cells_without_spend_today_can_get_some(run: Run) -> None:
    usual = run.budget(weeks=8).table().set_index(["brand", "market", "channel"])
    assert usual.loc[("acme", "DE", "tv")].binding == "no spend today"
    plan = run.budget(weeks=8, bounds_money={"channel=tv,market=DE,brand=acme": (3.0, 30.0)})
    cell = plan.table().set_index(["brand", "market", "channel"]).loc[("acme", "DE", "tv")]
    assert 3.0 <= cell.spend_plan <= 30.0
    assert cell.spend_today == 0
    assert cell.binding != "no spend today"
    weekly = plan.by_week().query("brand == 'acme' and market == 'DE' and channel == 'tv'")
    np.testing.assert_allclose(weekly.spend, cell.spend_plan / 8)


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"steps": {"channel=search": 1e6}}, "is a multiple of 1,000,000. Allow more change, or lock it"),
        ({"flights": {"channel=search": 1e6}}, "is at least 1,000,000"),
        ({"steps": {"channel=search": 0.0}}, "must be money above zero"),
        ({"bounds_money": {"channel=tv": (5.0, 1.0)}}, "0 <= low <= high"),
        ({"bounds_money": {"channel=tv": (5.0, np.inf)}}, "0 <= low <= high"),
        ({"steps": {"channel=search": 25.0}, "total": 1e9}, "cannot all hold: the total at least"),
    ],
)
def test_what_cannot_be_admitted_is_explained(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": 8, **asked_for})
