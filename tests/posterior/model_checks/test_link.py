"""The link: never said of noise that is added, said of noise in per cent, and what it explains said no more."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy.stats import kstest

from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.judge import judge_model
from mixfleet.posterior.model_checks.link import in_logarithms, link_checks
from tests.support.regressions import Drawn, Fault, regression, replaced


def _link(unit: CheckedUnit) -> ModelCheck:
    [own] = link_checks(unit, (), lambda _: ())
    return own


WEEKS = 260


def _in_per_cent(share: float) -> Fault:
    """Sales that swing by 85 per cent over the year, and noise that is such a share of what is expected."""

    def change(drawn: Drawn) -> Drawn:
        swing = 0.85 * np.sin(2 * np.pi * np.arange(len(drawn.baseline)) / 52)
        expected = np.maximum(drawn.baseline + swing + drawn.response @ drawn.effect, 0.1)
        return replace(
            drawn, baseline=drawn.baseline + swing, errors=expected * np.expm1(share * drawn.errors) / drawn.noise
        )

    return change


@pytest.mark.parametrize("correlation", [None, 0.7])
def test_noise_that_is_added_is_never_taken_for_noise_in_per_cent(correlation: float | None) -> None:
    found = [_link(regression(seed, correlation=correlation)) for seed in range(12)]
    assert {check.verdict for check in found} == {"passed"}
    # By Markov's inequality one in 150 is above 5, were nothing fitted.
    assert max(check.statistic for check in found) < 5


def test_heavy_tails_alone_are_no_matter_of_the_link() -> None:
    tails = replaced("errors", lambda drawn: drawn.rng.standard_t(2, size=len(drawn.errors)))
    assert {_link(regression(seed, fault=tails)).verdict for seed in range(12)} == {"passed"}


def test_noise_in_per_cent_is_named_with_its_remedy() -> None:
    found = [judge_model(regression(seed, weeks=WEEKS, fault=_in_per_cent(0.2)))[0] for seed in range(5)]
    said = [link.statement for link in found if link.verdict != "passed"]
    assert {link.kind for link in found} == {"link"}
    assert len(said) >= 4
    assert all("model.link=log" in statement for statement in said)


def test_doubts_that_the_logarithm_would_not_show_are_its_notes() -> None:
    unit = regression(0, weeks=WEEKS, fault=_in_per_cent(0.2))

    def check(kind: str, verdict: Literal["passed", "doubt", "misfit"]) -> ModelCheck:
        return ModelCheck(kind=kind, statistic=1.0, threshold=1.0, verdict=verdict, statement="said")

    others = [check(kind, "doubt") for kind in ("kpi_outlier", "level_break", "forecast")]
    again = [check("kpi_outlier", "passed"), check("level_break", "misfit")]
    link, outlier, broken, forecast = link_checks(unit, others, lambda _: again)
    assert (link.verdict, outlier.verdict, broken.verdict, forecast.verdict) == ("doubt", "note", "doubt", "doubt")
    assert "see link" in outlier.statement
    assert broken.statement == forecast.statement == "said"


def test_residuals_in_logarithms_are_standard_normal_where_noise_is_in_per_cent() -> None:
    told = in_logarithms(regression(3, weeks=WEEKS, fault=_in_per_cent(0.2)))
    assert told.log_link
    assert kstest(told.residual[told.fitted][:, 0], "norm").pvalue > 0.001


def test_weeks_without_sales_are_named_and_sales_below_zero_are_asked_nothing() -> None:
    unit = regression(1, weeks=WEEKS, fault=_in_per_cent(0.3))
    closed = np.arange(WEEKS) % 40 == 5
    own = _link(replace(unit, kpi=np.where(closed, 0.0, unit.kpi)))
    assert f"{closed.sum()} periods of zero" in own.statement
    assert np.isnan(_link(replace(unit, kpi=np.where(closed, -1.0, unit.kpi))).statistic)
    assert np.isnan(_link(replace(unit, log_link=True)).statistic)


def test_a_unit_whose_draws_expect_less_than_nothing_in_every_week_is_not_judged() -> None:
    unit = regression(0, weeks=WEEKS, fault=_in_per_cent(0.2))
    assert _link(unit).statistic >= _link(unit).threshold
    expected = unit.expected.copy()
    expected[:, 0] = -1.0
    assert np.isnan(_link(replace(unit, expected=expected)).statistic)
