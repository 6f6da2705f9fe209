"""A test's paths are the unit's own media, but for its days; what cannot be placed is refused by row and column."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixfleet.config import Experiments, Pooling
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.experiments.experiment import Experiment, experiments_table, read_experiments
from mixfleet.data.panel import Panel
from mixfleet.errors import TableError
from tests.support.lift_tests import day, with_tests
from tests.support.units import odd_unit, panel_of

WINDOW = 5
UNIT = odd_unit(weeks=40, value_per_kpi=2.0)
PANEL = panel_of(UNIT, odd_unit(weeks=40, seed=3, labels=("other", "FR")))
OWN = {"brand": "acme", "market": "DE", "channel": "channel_0"}
MEDIA = UNIT.media[:, 0]


def placed(panel: Panel = PANEL, **cells: Any) -> Experiment:
    usual = {**OWN, "start": day(panel, 10), "end": day(panel, 12, 6), "lift": 500.0, "se": 100.0}
    row = {name: value for name, value in {**usual, **cells}.items() if value is not None}
    [test] = with_tests(panel, [row], window=WINDOW).units[0].experiments
    return test


def refused(panel: Panel = PANEL, **cells: Any) -> str:
    with pytest.raises(TableError) as error:
        placed(panel, **cells)
    return str(error.value)


def whole(test: Experiment, path: np.ndarray, first: int) -> np.ndarray:
    """The unit's media with the path in its place, and a window of nothing behind."""
    media = np.concatenate([np.zeros(WINDOW - 1), MEDIA, np.zeros(WINDOW)])
    begin = first
    media[begin : begin + len(path)] = path[:, 0]
    return media[WINDOW - 1 :]


def test_switched_off_media_are_zero_on_the_tests_days_and_as_they_were_elsewhere():
    test = placed(factor=0, lift=-500.0)
    expected = np.concatenate([MEDIA, np.zeros(WINDOW)])
    np.testing.assert_array_equal(whole(test, test.control, 10), expected)
    expected[10:13] = 0
    np.testing.assert_array_equal(whole(test, test.test, 10), expected)
    # Three weeks of the test and four of carry-over behind as many weeks of history.
    np.testing.assert_array_equal(test.worth, [0] * 4 + [1] * 7)
    assert (test.estimate, test.sd) == (-500.0, 100.0)


def test_what_was_not_known_before_the_held_out_weeks_is_not_in_the_fit():
    panel = panel_of(UNIT, holdout=8)

    def told(**cells: Any) -> tuple[int, set[str]]:
        row = {
            **OWN,
            "start": day(panel, 28),
            "end": day(panel, 31, 6),
            "factor": 2,
            "lift": 500.0,
            "se": 100.0,
            **cells,
        }
        found = with_tests(panel, [row], window=WINDOW)
        return len(found.units[0].experiments), {finding.rule for finding in found.findings}

    assert told()[0] == 1
    assert told(end=day(panel, 32)) == (0, {"experiment_held_out"})
    assert told(measured_until=day(panel, 33)) == (0, {"experiment_held_out"})
    assert told(start=day(panel, 34), end=day(panel, 39))[0] == 0


def test_a_week_moves_by_the_share_of_its_days():
    test = placed(start=day(PANEL, 10, 5), end=day(PANEL, 11, 0), factor=1.7)
    assert np.allclose(test.test[4:6, 0], MEDIA[10:12] * (1 + 0.7 * np.array([2, 1]) / 7))
    assert np.array_equal(np.flatnonzero(test.test[:, 0] != test.control[:, 0]) + 6, [10, 11])


def test_money_is_weighed_by_what_a_kpi_is_worth_and_a_return_by_the_money_that_moved():
    spent = MEDIA[10:13].sum()
    assert set(placed(factor=2, lift=None, revenue=900.0).worth) == {0.0, 2.0}
    test = placed(lift=None, roi=1.5, se=0.2, bias_sd=0.15)
    np.testing.assert_allclose([test.estimate, test.sd], [1.5 * spent, 0.25 * spent])
    np.testing.assert_array_equal(test.control[4:7], 0.0)
    np.testing.assert_array_equal(test.test[4:7, 0], MEDIA[10:13])
    gone_dark = placed(factor=0, lift=None, roi=1.5, se=0.2)
    np.testing.assert_allclose(gone_dark.estimate, -1.5 * spent)


@pytest.mark.parametrize(
    ("cells", "with_it", "without"),
    [
        ({"spend_control": 0.0}, 1.0, 0.0),
        ({"spend_test": 1.5}, 1.5, 1.0),
        ({"spend_test": 1.5, "spend_control": 0.5}, 1.5, 0.5),
        ({"delta_spend": 0.25}, 1.0, 0.75),
        ({"delta_spend": 0.25, "spend_control": 1.0}, 1.25, 1.0),
    ],
)
def test_what_is_not_said_of_spend_is_what_was_paid(cells: dict[str, float], with_it: float, without: float):
    spent = MEDIA[10:13].sum()
    test = placed(**{name: share * spent for name, share in cells.items()})
    np.testing.assert_allclose(test.test[4:7, 0], with_it * MEDIA[10:13])
    np.testing.assert_allclose(test.control[4:7, 0], without * MEDIA[10:13])


def test_a_test_may_run_off_the_series_and_stop_being_measured():
    last = placed(start=day(PANEL, 38), end=day(PANEL, 39, 6), spend_control=0)
    np.testing.assert_array_equal(last.test[:, 0], np.concatenate([MEDIA[34:], np.zeros(4)]))
    np.testing.assert_array_equal(last.worth, [0] * 4 + [1] * 6)
    short = placed(factor=2, measured_until=day(PANEL, 13, 1))
    np.testing.assert_allclose(short.worth, [0] * 4 + [1] * 3 + [2 / 7])


def test_pymc_marketings_tests_are_of_a_steady_level():
    rows = [{**OWN, "x": 400.0, "delta_x": 200.0, "delta_y": 30.0, "sigma": 5.0}]
    [test] = with_tests(PANEL, rows, window=WINDOW).units[0].experiments
    np.testing.assert_array_equal(test.control, np.full((WINDOW, 1), 400.0))
    np.testing.assert_array_equal(test.test, np.full((WINDOW, 1), 600.0))
    np.testing.assert_array_equal(test.worth, [0, 0, 0, 0, 1])
    assert (test.estimate, test.sd) == (30.0, 5.0)


def test_robyns_lift_is_of_its_spend_against_none_and_its_confidence_a_p_value():
    rows = [
        {
            **{**OWN, "channel": "spend_channel_0", "liftStartDate": day(PANEL, 10), "liftEndDate": day(PANEL, 12, 6)},
            **{"liftAbs": 500.0, "spend": MEDIA[10:13].sum(), "confidence": 0.95, "metric": "kpi"},
            "calibration_scope": "immediate",
        }
    ]
    [test] = with_tests(PANEL, rows, window=WINDOW).units[0].experiments
    np.testing.assert_allclose(test.test[4:7, 0], MEDIA[10:13])
    np.testing.assert_array_equal(test.control[4:7, 0], 0.0)
    np.testing.assert_array_equal(test.worth, [0] * 4 + [1] * 3)
    np.testing.assert_allclose(test.sd, 500 / 1.959964, rtol=1e-6)
    assert test.channels == ("channel_0",)


def test_meridian_geox_and_geolift_say_the_same_in_their_words():
    period = {**OWN, "start": day(PANEL, 10), "end": day(PANEL, 12, 6)}
    spent = MEDIA[10:13].sum()
    tests = [
        with_tests(PANEL, [{**period, **row}], window=WINDOW).units[0].experiments[0]
        for row in (
            {"roi_mean": 1.5, "roi_sd": 0.3},
            {"estimate": 1.5, "lower": 1.5 - 0.3 * 1.644854, "upper": 1.5 + 0.3 * 1.644854, "level": 0.9}
            | {"incr.cost": spent, "precision": 0.5},
        )
    ]
    for test in tests:
        np.testing.assert_allclose([test.estimate, test.sd], [1.5 * spent, 0.3 * spent], rtol=1e-5)
        np.testing.assert_allclose(test.control[4:7, 0], 0.0, atol=1e-9)
    geolift = {
        "incremental": 600.0,
        "ATT": 20.0,
        "Lower.Conf.Int": 20 - 2 * 1.959964,
        "Upper.Conf.Int": 20 + 2 * 1.959964,
    }
    [test] = with_tests(PANEL, [{**period, **geolift, "spend_control": 0.0}], window=WINDOW).units[0].experiments
    np.testing.assert_allclose([test.estimate, test.sd], [600.0, 60.0], rtol=1e-5)


def test_what_cannot_be_placed_is_refused_with_row_column_and_remedy():
    assert "tests, row 1, column channel: 'tv' is none of channel_0" in refused(channel="tv", factor=2)
    assert "is no unit of the table, such as acme / DE" in refused(market="XX", factor=2)
    assert "* / * is 2 units, which are not pooled: only units of one group can be measured together" in refused(
        brand="*", market="*", factor=2
    )
    assert "must be zero or more and not 1" in refused(factor=1)
    assert "media of those days are not known" in refused(end=day(PANEL, 41), factor=2)
    assert "nothing says what the media of the test were" in refused()
    assert "nothing says how sure the estimate is" in refused(se=None, factor=2)
    assert "one estimate is needed, lift, revenue or roi; the row has lift and roi" in refused(roi=1.0, factor=2)
    assert "below zero where media were cut" in refused(factor=0)
    assert "the media of the test's days are those without it" in refused(spend_test=MEDIA[10:13].sum())
    assert "less than nothing" in refused(delta_spend=1e6)
    assert "leaves out its estimate 500" in refused(se=None, lower=600.0, upper=700.0, factor=2)
    assert "a factor for all of them" in refused(channel="channel_0+channel_1", spend_test=10.0)
    gap = panel_of(odd_unit(weeks=40, gap=slice(14, 15)), PANEL.units[1])
    assert "measured_until" in refused(gap, factor=2)
    assert placed(gap, factor=2, measured_until=day(PANEL, 13, 6)).worth.sum() == 4


TWO = panel_of(*(odd_unit(weeks=40, seed=i, labels=("acme", m), absent=(1,) * i) for i, m in enumerate(("DE", "FR"))))
TOGETHER = {"brand": "acme", "market": "*", "channel": "channel_0", "start": day(TWO, 10), "end": day(TWO, 12, 6)}


def parts(**cells: Any) -> list[Experiment]:
    row = {**TOGETHER, "lift": 500.0, "se": 100.0, **cells}
    panel = with_tests(
        TWO, [{k: v for k, v in row.items() if v is not None}], window=WINDOW, pooling=Pooling(by="brand")
    )
    return [test for unit in panel.units for test in unit.experiments]


def test_several_units_of_a_group_have_parts_in_a_test_of_them_together():
    spent = np.array([unit.spend[10:13, 0].sum() for unit in TWO.units])
    first, second = parts(factor=2)
    assert first.together == second.together == ("acme", "*")
    np.testing.assert_allclose([first.share, second.share], spent / spent.sum())
    assert [test.estimate for test in (first, second)] == [500.0, 500.0]
    np.testing.assert_allclose(first.own_sd**2 + second.own_sd**2, first.sd**2)
    for test, unit in zip((first, second), TWO.units, strict=True):
        np.testing.assert_allclose(test.test[4:7, 0], 2 * unit.media[10:13, 0])
    # Spend is that of all of them, each having spent as much more as it did of it; so is the money of a return.
    for cells in ({"spend_control": 0.4 * spent.sum()}, {"delta_spend": 0.6 * spent.sum()}):
        for test, unit in zip(parts(**cells), TWO.units, strict=True):
            np.testing.assert_allclose(test.control[4:7, 0], 0.4 * unit.media[10:13, 0])
    for test in parts(lift=None, roi=1.5, se=0.2):
        np.testing.assert_allclose([test.estimate, test.sd], [1.5 * spent.sum(), 0.2 * spent.sum()])
    assert len(parts(market="DE + FR", factor=2)) == 2


def test_a_unit_whose_media_a_test_did_not_move_has_no_part_in_it():
    [alone] = parts(channel="channel_1", factor=2)
    assert (alone.together, alone.share) == ((), 1.0)
    with pytest.raises(TableError, match="the media of the test's days are those without it"):
        parts(spend_test=sum(unit.spend[10:13, 0].sum() for unit in TWO.units))


def test_what_several_units_cannot_have_together_is_refused():
    with pytest.raises(TableError, match="is a level of one unit's media"):
        parts(start=None, end=None, x=400.0, delta_x=200.0)
    rows = [{**TOGETHER, "test": "a", "factor": 2, "lift": 500.0, "se": 100.0}] * 2
    with pytest.raises(TableError, match="'a' is the name of an earlier test of the same units"):
        with_tests(TWO, rows, window=WINDOW, pooling=Pooling(by="brand"))
    with pytest.raises(TableError, match=r"acme / \* is 2 units, which are of several pooled groups"):
        with_tests(TWO, rows, window=WINDOW, pooling=Pooling(by="market"))


def test_all_faults_are_told_at_once():
    rows = [{**OWN, "start": day(PANEL, 10), "end": day(PANEL, 9), "factor": 2, "lift": 1.0, "se": 1.0}] * 2
    with pytest.raises(TableError) as error:
        with_tests(PANEL, rows, window=WINDOW)
    assert len(error.value.findings) == 2


def test_a_national_test_in_the_fitted_weeks_is_doubted_and_a_regional_one_is_not():
    alone = panel_of(UNIT)
    row = {**OWN, "start": day(PANEL, 10), "end": day(PANEL, 12, 6), "factor": 2, "lift": 500.0, "se": 100.0}
    found = with_tests(alone, [row], window=WINDOW)
    assert [finding.rule for finding in found.units[0].warnings] == ["experiment_twice"]
    assert not with_tests(PANEL, [row], window=WINDOW).units[0].warnings


def test_an_estimate_against_its_media_is_doubted_before_it_is_refused():
    row = {**OWN, "start": day(PANEL, 10), "end": day(PANEL, 12, 6), "factor": 0, "se": 100.0}
    for lift, rules in ((150.0, []), (300.0, ["experiment_sign"])):
        found = with_tests(PANEL, [{**row, "lift": lift}], window=WINDOW)
        assert [finding.rule for finding in found.units[0].warnings] == rules


def test_a_saved_table_gives_the_tests_back():
    rows = [
        {**OWN, "start": day(PANEL, 10), "end": day(PANEL, 12, 6), "factor": 2, "lift": 500.0, "se": 100.0},
        {**OWN, "channel": "channel_0+channel_1", "start": day(PANEL, 1), "end": day(PANEL, 2), "factor": 0}
        | {"roi": 1.0, "se": 0.5},
    ]
    units = with_tests(PANEL, rows, window=WINDOW).units
    table = experiments_table(PANEL.keys, [(unit.labels, unit.experiments) for unit in units])
    back = read_experiments(table, PANEL.keys)
    assert list(back) == [("acme", "DE")]
    for test, again in zip(units[0].experiments, back["acme", "DE"], strict=True):
        for name, value in vars(test).items():
            np.testing.assert_array_equal(getattr(again, name), value)
    joint = parts(factor=2)
    back = read_experiments(experiments_table(PANEL.keys, [(("acme", "DE"), tuple(joint))]), PANEL.keys)
    assert [(test.together, test.share) for test in back["acme", "DE"]] == [(t.together, t.share) for t in joint]


def test_columns_have_the_names_that_settings_give_them():
    row = {
        **OWN,
        "from": day(PANEL, 10),
        "end": day(PANEL, 12, 6),
        "factor": 2,
        "lift": 500.0,
        "se": 100.0,
        "note": "a",
    }
    with pytest.raises(TableError, match="first and last day"):
        with_tests(PANEL, [row], window=WINDOW)
    named = replace(PANEL.data, experiments=Experiments(columns=FrozenMapping({"start": "from"})))
    found = with_tests(replace(PANEL, data=named), [row], window=WINDOW)
    assert found.units[0].experiments[0].start == day(PANEL, 10)
    assert [finding.column for finding in found.findings] == ["note"]
