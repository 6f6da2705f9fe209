"""What priors of strengths are on, in the table's money; `tests/invariants/test_fast_is_plain.py` has the density."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Model, Prior, Spec, build
from mixfleet.data.panel import Panel
from mixfleet.errors import ConfigError
from mixfleet.models.batch import prepare, structure_of
from mixfleet.models.media import Curves
from mixfleet.models.media.term import media_term
from mixfleet.posterior import prior_draws
from mixfleet.posterior.counterfactual import contributions
from mixfleet.posterior.prior_draws import prior_response
from tests.support.units import odd_unit, panel_of

WORTH = 2.5


def spec_of(panel: Panel, **prior: object) -> Spec:
    return Spec(data=panel.data, prior=build(Prior, prior, key="prior"))


@pytest.fixture
def panel() -> Panel:
    return panel_of(odd_unit(weeks=60, channels=3, value_per_kpi=WORTH))


def brought(panel: Panel, spec: Spec) -> np.ndarray:
    """Value that each channel brings over the fitted weeks under the prior, by draw."""
    member = prepare(panel.units[0], panel, spec)
    value = np.zeros((len(member.arrays["media"]), 1))
    value[: len(member.fitted), 0] = np.where(member.fitted, WORTH, 0.0)
    return prior_response(member, member.arrays["media"], value, media_term(Model(), panel.channels)).total[0]


def test_a_prior_of_roi_is_the_roi_that_tables_have(panel: Panel):
    roi = brought(panel, spec_of(panel, on="roi")) / panel.units[0].spend.sum(axis=0)[:, None]
    np.testing.assert_allclose(np.log(roi).mean(axis=1), 0.2, atol=4 * 0.9 / 512**0.5)
    np.testing.assert_allclose(np.log(roi).std(axis=1), 0.9, rtol=0.15)


def test_a_prior_of_cost_per_kpi_is_in_money(panel: Panel):
    spec = spec_of(panel, on="cost_per_kpi", parameters={"cost_per_kpi": {"from": {"low": 2, "high": 8}}})
    cost = panel.units[0].spend.sum(axis=0)[:, None] / brought(panel, spec) * WORTH
    np.testing.assert_allclose(np.quantile(cost, [0.05, 0.95]), (2, 8), rtol=0.15)


def about_days(days: slice, factor: float, panel: Panel, prior: dict[str, object]) -> np.ndarray:
    """Value that a change of media on some days brings per unit of spend that it adds, under the prior, by draw."""
    spec = spec_of(panel, **prior)
    member, unit = prepare(panel.units[0], panel, spec), panel.units[0]
    term, media = media_term(Model(), panel.channels), member.arrays["media"]
    effect = prior_draws.prior_response(member, media, np.zeros((len(media), 1)), term).effect
    curves = Curves(prior_draws._shapes(member, term, {}), effect)
    changed = media.copy()
    changed[days] *= factor
    worth = np.zeros((len(media), 1, 1))
    worth[: len(member.fitted), 0, 0] = np.where(member.fitted, WORTH, 0.0)
    value = [np.asarray(contributions(path, worth, curves, term=term), float)[0] for path in (changed, media)]
    rows = np.arange(len(unit.dates))[days]
    spent = np.nansum(unit.spend[rows[member.fitted[rows]]], axis=0)
    return (value[0] - value[1]) / ((factor - 1) * spent[:, None])


def test_a_prior_of_mroi_is_the_return_of_one_more_per_cent(panel: Panel):
    mroi = about_days(slice(0, 60), 1.01, panel, {"on": "mroi"})
    np.testing.assert_allclose(np.log(mroi).mean(axis=1), -0.2, atol=4 * 0.9 / 512**0.5)
    np.testing.assert_allclose(np.log(mroi).std(axis=1), 0.9, rtol=0.15)


def test_a_prior_of_some_days_is_about_what_their_media_brought(panel: Panel):
    dates = panel.units[0].dates
    on = {"media": "roi", "start": str(dates[20]), "end": str(dates[29])}
    roi = about_days(slice(20, 30), 0.0, panel, {"on": on})
    np.testing.assert_allclose(np.log(roi).mean(axis=1), 0.2, atol=4 * 0.9 / 512**0.5)
    np.testing.assert_allclose(np.log(roi).std(axis=1), 0.9, rtol=0.15)


def test_a_channel_without_spend_on_those_days_counts_as_organic(panel: Panel):
    spend = panel.units[0].spend.copy()
    spend[20:30, 1] = 0.0
    unit = replace(panel.units[0], spend=spend, media=spend)
    dates = unit.dates
    on = {"media": "roi", "start": str(dates[20]), "end": str(dates[29])}
    own = panel_of(unit)
    assert prepare(unit, own, spec_of(own, on=on)).strength.measures == ("roi", "contribution", "roi")


def test_a_prior_of_contribution_is_a_share_of_the_kpi(panel: Panel):
    share = brought(panel, spec_of(panel, on="contribution")) / WORTH / np.nansum(panel.units[0].kpi)
    np.testing.assert_allclose(np.sqrt(np.mean(share**2)), 0.1, rtol=0.1)


@pytest.mark.parametrize("channels", [1, 2, 5, 12, 30])
@pytest.mark.parametrize("skewed", [False, True])
def test_media_are_not_expected_to_bring_more_than_all_sales_however_many_channels(channels: int, skewed: bool):
    unit = odd_unit(weeks=60, channels=channels)
    if skewed:
        factor = 0.3 ** np.arange(channels)
        unit = replace(unit, media=unit.media * factor, spend=unit.spend * factor)
    panel = panel_of(unit)
    total = (brought(panel, spec_of(panel, on="media_share")) / WORTH).sum(axis=0) / np.nansum(unit.kpi)
    assert 0.2 < np.median(total) < 0.5
    # Two standard errors of a share of 512 draws below 95 %.
    assert np.mean(total < 1) >= 0.95 - 2 * (0.95 * 0.05 / 512) ** 0.5


def test_the_family_of_a_prior_may_differ_by_channel(panel: Panel):
    spec = spec_of(panel, on={"media": "media_share", "channels": {"channel_1": "roi"}})
    assert structure_of(spec, panel, 60).strengths == ("half_student_t", "lognormal", "half_student_t")


def test_paid_media_without_spend_in_the_fitted_weeks_count_as_organic():
    unit = odd_unit(weeks=60, channels=2)
    free = replace(unit, labels=("acme", "FR"), spend=unit.spend * [1.0, 0.0])
    panel = panel_of(unit, free)
    strength = prepare(free, panel, spec_of(panel, on="roi")).strength
    assert strength.measures == ("roi", "contribution")
    # The other units' family, with the median and the 95 % quantile of the usual contribution.
    assert strength.distributions[1].family == "lognormal"
    np.testing.assert_allclose(np.exp(strength.distributions[1].values[0]), 0.06745, rtol=1e-3)


def test_a_cost_has_no_usual_prior(panel: Panel):
    with pytest.raises(ConfigError, match=r"prior.parameters.cost_per_kpi"):
        structure_of(spec_of(panel, on="cost_per_kpi"), panel, 60)
