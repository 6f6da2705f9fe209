"""Levels: what the prior says, beside the KPI and beside what the data say."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.levels import level_checks
from tests.support.regressions import Drawn, regression, replaced


def checks(unit: CheckedUnit) -> dict[str, ModelCheck]:
    return {check.kind: check for check in level_checks(unit)}


def test_a_prior_far_below_what_the_data_say_is_named():
    unit = regression(2)
    prior = unit.prior_contribution.copy()
    prior[0] /= 50
    found = checks(replace(unit, prior_contribution=prior))["prior_conflict"]
    assert (found.verdict, found.about) == ("doubt", "tv")
    assert "tv brings" in found.statement


def test_a_prior_of_more_than_the_kpi_is_named():
    unit = regression(2)
    found = checks(replace(unit, prior_contribution=20 * unit.prior_contribution))["prior_beyond_kpi"]
    assert found.verdict == "doubt"
    assert found.statistic > 0.9


def test_a_kpi_that_may_be_negative_has_no_negative_baseline():
    unit = regression(2)
    found = checks(replace(unit, kpi=unit.kpi - unit.kpi.mean()))["negative_baseline"]
    assert np.isnan(found.statistic)
    assert found.verdict == "passed"


def test_the_remedy_of_a_wide_prior_is_not_the_default_again():
    unit = regression(3)
    far = replace(unit, prior_contribution=unit.prior_contribution * 1e3)
    assert "use prior.on=media_share" in checks(far)["prior_beyond_kpi"].statement
    told = checks(replace(far, prior_on="media_share"))["prior_beyond_kpi"].statement
    assert "prior.on" not in told
    assert "smaller prior.parameters.effect.sd" in told


def _wanders(drawn: Drawn) -> np.float64:
    return np.float64(1.0)


@pytest.mark.parametrize("seed", range(4))
def test_columns_that_follow_noise_that_lasts_explain_nothing(seed: int) -> None:
    unit = regression(seed, fault=replaced("noise", _wanders), correlation=0.9)
    assert checks(unit)["unexplained"].verdict == "misfit"
    assert checks(regression(seed, correlation=0.9))["unexplained"].verdict == "passed"


def test_the_share_that_stays_unexplained_hardly_moves_with_the_draws() -> None:
    unit = regression(1, fault=replaced("noise", _wanders), correlation=0.9, draws=800)
    own = unit.marginal
    assert own is not None
    assert own.lasting is not None
    found = []
    for first in range(4):
        some = slice(first, None, 4)
        lasting = replace(own.lasting, residual=own.lasting.residual[:, some])
        marginal = replace(own, residual=own.residual[:, some], noise=own.noise[some], lasting=lasting)
        found.append(checks(replace(unit, marginal=marginal))["unexplained"].statistic)
    assert np.ptp(found) < 0.02
