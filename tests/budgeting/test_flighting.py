"""Free weeks: patterns against brute force, limits of weeks, and what they add to a plan."""

import numpy as np
import pytest

from mixfleet.budgeting.flighting import WeekLimits, best_weeks, candidates, climbed
from mixfleet.budgeting.outcome import outcome_of_spend
from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.support.saved_run import saved_run

WEEKS = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, saturation="hill"), draws=20)


def test_every_cell_takes_its_best_pattern(run: Run) -> None:
    fleet = run.fleet()
    spend_outcome = outcome_of_spend(fleet, WEEKS)
    levels = spend_outcome.today[:, None] * np.linspace(0.5, 1.5, 33)
    none = np.zeros(len(levels), bool)
    weekly = best_weeks(spend_outcome, levels, WeekLimits.of(spend_outcome, {}, ()), none)
    np.testing.assert_allclose(weekly.sum(axis=-1), levels)
    reached = spend_outcome.expected(levels, fleet.draws, weekly)
    patterns = [spend_outcome.pattern, *(np.tile(one, (len(levels), 1)) for one in candidates(WEEKS))]
    tried = [spend_outcome.expected(levels, fleet.draws, levels[..., None] * pattern[:, None]) for pattern in patterns]
    best = np.max(tried, axis=0)[spend_outcome.certified]
    # The choice looks at every fourth level and at part of the draws.
    assert np.all(reached[spend_outcome.certified] >= 0.995 * best)
    np.testing.assert_allclose(reached[spend_outcome.certified][:, ::4], best[:, ::4], rtol=1e-3)


def test_the_climb_brings_more_with_the_same_money(run: Run) -> None:
    fleet = run.fleet()
    spend_outcome = outcome_of_spend(fleet, WEEKS)
    limits = WeekLimits.of(spend_outcome, {"all@2020-01-01..2030-01-01": (0.2, 2.5)}, ())
    start = limits.spread(spend_outcome.today[:, None], spend_outcome.pattern)[:, 0]
    kept = spend_outcome.channel == 0
    found = climbed(spend_outcome, start, limits, kept)
    np.testing.assert_allclose(found.sum(axis=1), start.sum(axis=1))
    np.testing.assert_array_equal(found[kept], start[kept])
    assert (found >= limits.low - 1e-6).all()
    assert (found <= limits.high + 1e-6).all()
    before, after = (
        spend_outcome.expected(one.sum(axis=1)[:, None], fleet.draws, one[:, None])[:, 0] for one in (start, found)
    )
    moved = spend_outcome.certified & ~kept
    assert (after[moved] >= before[moved] * (1 - 1e-6)).all()
    assert after[moved].sum() > 1.001 * before[moved].sum()


def test_candidates_are_patterns() -> None:
    for weeks in (1, 2, 5, 13, 26):
        shapes = list(candidates(weeks))
        assert len(shapes) >= (1 if weeks == 1 else 3)
        for shape in shapes:
            assert shape.shape == (weeks,)
            assert shape.sum() == pytest.approx(1)
            assert (shape >= 0).all()


def test_weeks_within_limits_add_up_in_proportion() -> None:
    limits = WeekLimits(low=np.array([[1.0, 0.0, 0.0, 0.0]]), high=np.array([[2.0, np.inf, 3.0, 1.0]]))
    pattern = np.array([[0.0, 0.5, 0.5, 0.0]])
    found = limits.spread(np.array([[5.0, 9.0, 1.0]]), pattern)[0]
    np.testing.assert_allclose(found[0], [1, 2, 2, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], [1, 5, 3, 0], atol=1e-6)
    np.testing.assert_allclose(found[2], [1, 0, 0, 0], atol=1e-6)


def test_free_weeks_bring_more_and_keep_the_total(run: Run) -> None:
    usual, free = (run.budget(weeks=WEEKS, change=0.3, flighting=name) for name in ("today", "free"))
    assert free.totals["gain"]["mean"] > usual.totals["gain"]["mean"]
    assert free.totals["spend_plan"] == pytest.approx(free.totals["spend_today"])
    assert free.totals["outcome_today"]["mean"] == pytest.approx(usual.totals["outcome_today"]["mean"])
    weekly = free.by_week().groupby(["brand", "market", "channel"]).spend.sum()
    expected = free.table().set_index(["brand", "market", "channel"]).spend_plan
    np.testing.assert_allclose(weekly, expected.reindex(weekly.index))
    assert (free.by_week().spend >= 0).all()


@pytest.mark.parametrize("aim", ["cvar", "mean_less_spread"])
def test_free_weeks_serve_other_aims(run: Run, aim: str) -> None:
    plan = run.budget(weeks=WEEKS, flighting="free", aim=aim)
    assert plan.totals["gain"]["mean"] > 0


def test_weeks_can_be_locked_and_bounded(run: Run) -> None:
    weekly = run.budget(weeks=WEEKS, flighting="free").by_week()
    days = sorted(set(weekly[weekly.market == "DE"].date))
    first, last = days[1], days[3]
    plan = run.budget(
        weeks=WEEKS,
        flighting="free",
        lock=["channel=tv,market=DE"],
        lock_weeks=[f"channel=search,market=DE@{first}"],
        week_bounds={f"channel=search,market=DE@{days[2]}..{last}": (0.5, 1.0)},
    )
    own = plan.by_week().query("market == 'DE' and channel == 'search' and status != 'quarantined'")
    usual = run.budget(weeks=WEEKS, change=0.0).by_week().query("market == 'DE' and channel == 'search'")
    today = plan.table().query("market == 'DE' and channel == 'search'").set_index("brand").spend_today
    for brand, rows in own.groupby("brand"):
        spends = rows.set_index("date").spend
        kept = usual[usual.brand == brand].set_index("date").spend
        assert spends[first] == pytest.approx(kept[first])
        assert (spends[days[2] : last] >= 0.5 * today[brand] / WEEKS - 1e-6).all()
        assert (spends[days[2] : last] <= 1.0 * today[brand] / WEEKS + 1e-6).all()
    table = plan.table().query("market == 'DE' and channel == 'tv'")
    np.testing.assert_allclose(table.spend_plan, table.spend_today)


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"flighting": "today", "lock_weeks": ["all@2024-01-01"]}, "free only"),
        ({"lock_weeks": ["all"]}, "not of the form"),
        ({"lock_weeks": ["all@soon"]}, "not of the form"),
        ({"lock_weeks": ["all@1999-01-04"]}, "names no coming week; they begin on"),
        ({"week_bounds": {"all@2020-01-01..2030-01-01": (2.0, 3.0)}}, "add up to .* Loosen one"),
        ({"week_bounds": {"all@2020-01-01..2030-01-01": (2.0, 1.0)}}, "0 <= low <= high"),
    ],
)
def test_weeks_that_cannot_be_are_explained(run: Run, asked_for: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.budget(**{"weeks": WEEKS, "flighting": "free", **asked_for})
