"""Lift tests against everything else: chances in closed form, false alarms and power, and what is said of an alarm."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from mixfleet.data.experiments.experiment import Experiment
from mixfleet.posterior.model_checks.check import FALSE_ALARMS
from mixfleet.posterior.model_checks.experiments import ToldTest, expected, experiment_check, without
from mixfleet.posterior.model_checks.judge import judge_model
from tests.support.regressions import regression

DRAWS, UNITS, PLANTED = 1000, 1000, 100


def lift_test(given: float, se: float, *, name: str = "dark", per: float = 1.0) -> Experiment:
    path = np.ones((1, 1))
    return Experiment(
        name=name,
        channels=("tv",),
        start="2024-03-04",
        end="2024-03-31",
        places=(0,),
        test=0 * path,
        control=path,
        worth=np.ones(1),
        measure="lift" if per == 1.0 else "roi",
        given=given,
        given_se=se,
        bias_sd=0.0,
        per=per,
    )


def told(rng: np.random.Generator, *, tests: int = 1, known: float = 1.0, off: float = 0.0) -> tuple[ToldTest, ...]:
    """A unit whose tests are each of a lift of its own, known to so many standard errors of a test without it.

    Args:
        rng: Draws the truth, the estimates and the posterior.
        tests: How many.
        known: Standard deviation of the lift without the test; the test's standard error is one.
        off: Standard deviations, of what is foretold, that the last test's estimate is off by.
    """
    found = []
    for place in range(tests):
        truth = known * rng.standard_normal()
        estimate = truth + rng.standard_normal()
        if place == tests - 1 and off:
            estimate = off * np.hypot(known, 1.0)
        share = known**2 / (1 + known**2)
        lift = share * estimate + share**0.5 * rng.standard_normal(DRAWS)
        found.append(ToldTest(lift_test(estimate, 1.0, name=f"test {place}"), lift))
    return tuple(found)


@pytest.mark.parametrize("per", [1.0, -4.0])
def test_the_chance_is_that_of_the_prior_where_nothing_else_is_known(per: float):
    random, known, estimate = np.random.default_rng(1), 0.7, 2.2
    share = known**2 / (1 + known**2)
    lift = share * estimate + share**0.5 * random.standard_normal(40_000)
    test = lift_test(estimate / per, 1 / abs(per), per=per)
    found = without(test, lift)
    spread = np.hypot(known, 1.0)
    assert found.shape < 0.7
    assert found.tail == pytest.approx(2 * norm.sf(estimate / spread), rel=0.1)
    away = 1.96 * spread / abs(per)
    np.testing.assert_allclose(expected(test, lift, found.weight), [-away, away], rtol=0.05)


@pytest.mark.parametrize(("tests", "known"), [(1, 0.3), (1, 1.0), (3, 1.0), (1, 3.0)])
def test_units_of_the_model_alarm_at_the_stated_rate_however_many_tests_they_have(tests: int, known: float):
    random = np.random.default_rng(2)
    units = UNITS // tests
    checks = [experiment_check(told(random, tests=tests, known=known)) for _ in range(units)]
    alarms = sum(check.verdict != "passed" for check in checks)
    # Three standard deviations of a count at the stated rate.
    assert alarms <= units * FALSE_ALARMS + 3 * (units * FALSE_ALARMS) ** 0.5
    assert {check.verdict for check in checks} <= {"passed", "doubt"}


@pytest.mark.parametrize(("known", "off"), [(0.3, 4.5), (1.0, 4.5), (1.5, 4.5)])
def test_a_test_that_is_off_is_found(known: float, off: float):
    random = np.random.default_rng(3)
    checks = [experiment_check(told(random, tests=2, known=known, off=off)) for _ in range(PLANTED)]
    assert np.mean([check.verdict == "doubt" for check in checks]) >= 0.9


def test_a_statement_names_the_test_how_far_it_is_out_and_what_to_do():
    random = np.random.default_rng(4)
    check = experiment_check(told(random, tests=2, off=6.0))
    assert (check.about, check.verdict) == ("test 1, tv", "doubt")
    assert check.statistic > check.threshold == pytest.approx(norm.isf(FALSE_ALARMS / 4))
    for part in (
        "test 1, a lift test of tv from 2024-03-04 to 2024-03-31, measured a lift of",
        "(95 %)",
        "once in",
        "bias_sd",
    ):
        assert part in check.statement


def test_a_test_that_says_more_than_everything_else_is_not_checked():
    check = experiment_check(told(np.random.default_rng(5), known=20.0))
    assert (check.verdict, np.isnan(check.statistic)) == ("passed", True)


def test_units_without_tests_have_no_such_check_and_others_have_one():
    unit = regression(0)
    plain = judge_model(unit)
    assert "experiment_conflict" not in {check.kind for check in plain}
    random = np.random.default_rng(6)
    assert judge_model(replace(unit, tests=told(random)))[:-1] == plain
    assert judge_model(replace(unit, tests=told(random, off=9.0)))[-1].verdict == "doubt"
