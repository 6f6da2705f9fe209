"""Scale: there and back again, blind to what is held out, and the same for the same table in another currency."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Model, Spec, Treatment
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import lent_spread, likelihood_weeks, measure
from mixfleet.models.batch import prepare
from tests.support.units import odd_unit, panel_of

UNIT = odd_unit(weeks=70, gap=slice(30, 32), absent=(1,))
FITTED = likelihood_weeks(UNIT, window=9, holdout=8)


def rescaled(unit: Unit, *, media: float = 1.0, kpi: float = 1.0, controls: float = 1.0) -> Unit:
    return replace(
        unit,
        media=unit.media * media,
        spend=unit.spend * media,
        kpi=unit.kpi * kpi,
        controls=unit.controls * controls,
    )


def arrays(unit: Unit, holdout: int = 8) -> dict[str, np.ndarray]:
    panel = panel_of(unit, holdout=holdout)
    return prepare(unit, panel, Spec(data=panel.data)).arrays


def test_scaled_values_go_back_to_the_tables_own():
    measured = measure(UNIT, FITTED)
    known = UNIT.observed
    np.testing.assert_allclose(measured.scaled_kpi(UNIT)[known] * measured.kpi, UNIT.kpi[known], rtol=1e-15)
    np.testing.assert_allclose(measured.scaled_media(UNIT) * measured.media, UNIT.media, rtol=1e-15)
    controls = measured.scaled_controls(UNIT) * measured.control_sd + measured.control_mean
    np.testing.assert_allclose(controls[known], UNIT.controls[known], rtol=1e-14)


def test_fitted_weeks_have_a_highest_value_of_one_and_standard_controls():
    measured = measure(UNIT, FITTED)
    assert np.max(np.abs(measured.scaled_kpi(UNIT)[FITTED])) == 1.0
    past = measured.scaled_media(UNIT)[:62]
    np.testing.assert_array_equal(past.max(axis=0), [1.0, 0.0, 1.0])
    controls = measured.scaled_controls(UNIT)
    found = [controls[FITTED].mean(), controls[UNIT.observed].std()]
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-13)


def test_weeks_after_a_hole_wait_until_their_carry_over_is_known():
    expected = UNIT.observed.copy()
    expected[30:40] = False
    expected[-8:] = False
    np.testing.assert_array_equal(FITTED, expected)
    np.testing.assert_array_equal(likelihood_weeks(UNIT, window=1, holdout=0), UNIT.observed)


def test_a_prescribed_scale_is_taken_as_it_is():
    assert measure(replace(UNIT, kpi_scale=12345.0), FITTED).kpi == 12345.0


def test_held_out_weeks_tell_nothing():
    held = np.arange(70) >= 62
    other = replace(UNIT, kpi=np.where(held, 1e9, UNIT.kpi), media=np.where(held[:, None], 1e7, UNIT.media))
    one, two = measure(UNIT, FITTED), measure(other, FITTED)
    for name in ("kpi", "media", "control_mean", "control_sd"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    mine, others = arrays(UNIT), arrays(other)
    for name in mine.keys() - {"media"}:
        np.testing.assert_array_equal(mine[name], others[name], err_msg=name)
    np.testing.assert_array_equal(mine["media"][:62], others["media"][:62])


def test_a_control_is_measured_in_every_week_that_is_known():
    """It is an input: one that first moves after the fit is to have a prior that means something there."""
    held = np.arange(70) >= 62
    still = np.where(held[:, None], [[500.0]] + np.arange(70.0)[:, None], 3.0)
    measured = measure(replace(UNIT, controls=still), FITTED)
    assert measured.control_mean[0] == 3.0
    assert measured.control_varies[0]
    np.testing.assert_allclose(measured.control_sd, still[UNIT.observed].std(axis=0))
    scaled = measured.scaled_controls(replace(UNIT, controls=still))
    np.testing.assert_array_equal(scaled[:62], 0.0)
    assert np.abs(scaled).max() < 5


def test_a_constant_control_borrows_the_spread_of_other_units():
    constant = measure(replace(UNIT, controls=np.full((70, 1), 3.0)), FITTED)
    one, two = measure(UNIT, FITTED), measure(rescaled(UNIT, controls=7.0), FITTED)
    lent = lent_spread([one, constant, two])
    np.testing.assert_allclose(lent[:, 0], [1.0, one.control_sd[0] * 5.0, 1.0])
    np.testing.assert_array_equal(lent_spread([constant]), 1.0)


@pytest.mark.parametrize("power", [-20, -1, 3, 40])
def test_powers_of_two_change_no_bit(power):
    factor = 2.0**power
    mine = arrays(UNIT)
    for other in (rescaled(UNIT, media=factor), rescaled(UNIT, kpi=factor), rescaled(UNIT, controls=factor)):
        for name, expected in arrays(other).items():
            np.testing.assert_array_equal(mine[name], expected, err_msg=name)


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e6, 1e12])
def test_another_currency_changes_rounding_alone(factor):
    mine = measure(UNIT, FITTED)
    other = rescaled(UNIT, media=factor, kpi=factor, controls=factor)
    theirs = measure(other, FITTED)
    for name in ("scaled_kpi", "scaled_media", "scaled_controls"):
        expected = getattr(mine, name)(UNIT)
        np.testing.assert_allclose(getattr(theirs, name)(other), expected, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("constant", [0.0, 3.0, 1e9 + 0.1])
def test_a_constant_control_becomes_zero(constant):
    unit = replace(UNIT, controls=np.full((70, 1), constant))
    measured = measure(unit, FITTED)
    assert measured.control_sd[0] == 1.0
    np.testing.assert_allclose(measured.scaled_controls(unit), 0.0, atol=1e-6)


def test_treatments_are_told_against_their_baseline_and_controls_against_their_mean():
    unit = odd_unit(weeks=70, linear=4)
    treatments = (
        Treatment(name="low"),
        Treatment(name="high", baseline="max", form="log"),
        Treatment(name="own", baseline=7),
    )
    fitted = likelihood_weeks(unit, window=9, holdout=8)
    scale = measure(unit, fitted, 8, treatments=treatments)
    seen = unit.controls[fitted]
    np.testing.assert_allclose(
        scale.reference, [seen[:, 0].mean(), seen[:, 1].min(), np.log(seen[:, 2].max()), 7.0], rtol=1e-14
    )
    columns = np.column_stack([unit.controls[:, :2], np.log(unit.controls[:, 2]), unit.controls[:, 3]])
    np.testing.assert_allclose(scale.controls_against(unit, scale.reference), columns - scale.reference, atol=1e-12)
    np.testing.assert_allclose(scale.scaled_controls(unit)[fitted].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scale.usual_controls[2], np.exp(np.log(seen[:, 2]).mean()), rtol=1e-13)


def test_a_treatment_that_never_moved_brings_nothing():
    unit = replace(UNIT, controls=np.where(UNIT.observed[:, None], 10.0, 0.0))
    scale = measure(unit, FITTED, treatments=[Treatment(name="price", baseline=4)])  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(scale.controls_against(unit, scale.reference), 0.0, atol=1e-12)


def test_scales_of_the_peers():
    pymc, meridian = (measure(UNIT, FITTED, 8, model=Model(scaling=name)) for name in ("pymc_marketing", "meridian"))
    usual = measure(UNIT, FITTED, 8)
    assert (pymc.kpi, pymc.kpi_shift) == (usual.kpi, 0.0)
    np.testing.assert_array_equal(pymc.media, usual.media)
    np.testing.assert_array_equal(pymc.scaled_controls(UNIT), UNIT.controls)
    kpi = meridian.scaled_kpi(UNIT)[FITTED]
    np.testing.assert_allclose([kpi.mean(), kpi.std()], [0.0, 1.0], atol=1e-12)
    past = UNIT.media[:62]
    medians = [np.median(past[past[:, c] > 0, c]) if past[:, c].any() else 1.0 for c in range(3)]
    np.testing.assert_allclose(meridian.media, medians, rtol=1e-15)
    np.testing.assert_array_equal(meridian.scaled_controls(UNIT), usual.scaled_controls(UNIT))
    for scale in (pymc, meridian):
        np.testing.assert_array_equal(scale.reference, usual.control_mean)
        np.testing.assert_array_equal(scale.usual_controls, usual.control_mean)


def test_under_a_log_link_the_logarithm_is_scaled():
    usual, log = measure(UNIT, FITTED, 8), measure(UNIT, FITTED, 8, model=Model(link="log"))
    known = UNIT.observed
    np.testing.assert_allclose(log.scaled_kpi(UNIT)[known], np.log(usual.scaled_kpi(UNIT)[known]), atol=1e-14)
    assert np.all(log.scaled_kpi(UNIT)[~known] == 0.0)
    both = measure(UNIT, FITTED, 8, model=Model(link="log", scaling="meridian"))
    scaled = both.scaled_kpi(UNIT)[FITTED]
    np.testing.assert_allclose([scaled.mean(), scaled.std()], [0.0, 1.0], atol=1e-11)
