"""Levels: what the prior says, beside the KPI and beside what the data say."""

from dataclasses import replace

import numpy as np

from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.levels import level_checks
from tests.support.regressions import regression


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
