"""Results: tables in the table's own units that add up to the KPI."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Model, Output, Spec
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks
from mixfleet.inference.draws import Draws
from mixfleet.models.reference import saturated_adstock
from mixfleet.posterior.summarize import unit_result
from mixfleet.posterior.unit_result import UnitResult
from tests.support.drawn import CHAINS, Drawn, drawn
from tests.support.units import odd_unit, panel_of

COUNT = 64
"""Draws per chain: so few in all that every one stands behind the tables."""


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def independent(**settings: Any) -> Model:
    """A model in whose weeks nothing is expected of past misses."""
    return Model(observation="normal", **settings)


def made(model: Model, value_per_kpi: np.ndarray | None = None, kpi: float = 1.0, media: float = 1.0) -> Drawn:
    other = odd_unit(weeks=66, labels=("other", "FR"), seed=3)
    unit = odd_unit(weeks=60, gap=slice(20, 21), absent=(1,))
    unit = replace(unit, kpi=unit.kpi * kpi, media=unit.media * media, spend=unit.spend * media)
    if value_per_kpi is not None:
        unit = replace(unit, value_per_kpi=value_per_kpi)
    found = drawn(panel_of(other, unit, holdout=6), Spec(model=model, output=Output(draws="full")), count=COUNT)
    return replace(found, draws=as_kept(found))


def as_kept(found: Drawn) -> Draws:
    """Draws that single precision holds in the table's units, as a run keeps them, so that tables agree to 1e-9."""
    scale, draws = found.member.scale, found.draws

    def rounded(values: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
        return (values * factor).astype(np.float32).astype(float) / factor

    media = [
        scale.media[:, None, None] ** MEDIA_POWERS.get(name, 0) for name in found.spec.model.channel_parameters[:-1]
    ]
    mixing = scale.column_mixing(len(draws.coefficients))
    shift = np.where(np.arange(len(mixing)) == 0, scale.kpi_shift, 0.0)[:, None, None]
    coefficients = np.tensordot(mixing, draws.coefficients, axes=1) + shift
    coefficients = coefficients.astype(np.float32).astype(float) - shift
    return draws._replace(
        shape=np.array([rounded(own, factor) for own, factor in zip(draws.shape, media, strict=True)]).reshape(
            draws.shape.shape
        ),
        effect=rounded(draws.effect, scale.kpi),
        observation=rounded(draws.observation, scale.kpi),
        coefficients=np.tensordot(np.linalg.inv(mixing), coefficients, axes=1),
    )


def counted(found: Drawn) -> np.ndarray:
    """Weeks that tables look at: a holdout is among them."""
    return likelihood_weeks(found.member.unit, window=found.spec.model.window, holdout=0)


def result_of(found: Drawn) -> UnitResult:
    return unit_result(found.finished(), found.structure, found.panel, found.spec, judged=lambda checks: ("ok", ""))


@pytest.fixture(scope="module")
def found() -> Drawn:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        return made(independent(saturation="logistic"), value_per_kpi=np.full(60, 2.5))


@pytest.fixture(scope="module")
def result(found: Drawn) -> UnitResult:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        return result_of(found)


def weekly_contributions(found: Drawn) -> np.ndarray:
    """[week, channel, draw, chain] of the plain model, in KPI."""
    series, _ = found.plain
    model = found.spec.model
    names = model.channel_parameters[:-1]
    flat = found.draws.shape.reshape(len(names), 3, -1)

    def of_draw(shape: jax.Array) -> jax.Array:
        return saturated_adstock(jnp.asarray(series.media), dict(zip(names, shape, strict=True)), model)

    response = np.asarray(jax.jit(jax.vmap(of_draw, in_axes=-1, out_axes=-1))(jnp.asarray(flat)))
    return response.reshape(60, 3, COUNT, CHAINS) * found.draws.effect * found.member.scale.kpi


def row(table: Mapping[str, np.ndarray], **labels: str) -> dict[str, float]:
    which = np.all([table[name] == label for name, label in labels.items()], axis=0)
    assert which.sum() == 1
    return {name: values[which][0] for name, values in table.items()}


def test_channels_and_baseline_and_residual_are_the_kpi(found: Drawn, result: UnitResult):
    weeks, unit = counted(found), found.member.unit
    contributions, weekly = result.tables["contributions"], result.tables["weekly"]
    residual = np.sum(unit.kpi[weeks] - weekly["mean"][weeks])
    np.testing.assert_allclose(contributions["mean"].sum() + residual, unit.kpi[weeks].sum(), rtol=1e-9)
    np.testing.assert_allclose(contributions["share"], contributions["mean"] / unit.kpi[weeks].sum(), rtol=1e-12)
    expected = ["channel_0", "channel_1", "channel_2", "baseline", "trend", "seasonality", "control_0"]
    assert list(contributions["component"]) == expected


def test_contributions_are_those_of_the_plain_model(found: Drawn, result: UnitResult):
    total = weekly_contributions(found)[counted(found)].sum(axis=0)
    for c in range(3):
        mine = row(result.tables["contributions"], component=f"channel_{c}")
        np.testing.assert_allclose(mine["mean"], total[c].mean(), rtol=1e-9)
        np.testing.assert_allclose(mine["sd"], total[c].std(ddof=1), rtol=1e-9)
        np.testing.assert_allclose(mine["q05"], np.quantile(total[c], 0.05), rtol=1e-9)
        np.testing.assert_allclose(mine["q95"], np.quantile(total[c], 0.95), rtol=1e-9)


def test_weekly_means_are_those_of_the_plain_model_held_out_weeks_too(found: Drawn, result: UnitResult):
    media = weekly_contributions(found).sum(axis=1)
    linear = np.tensordot(found.plain[0].design, found.draws.coefficients, axes=1) * found.member.scale.kpi
    np.testing.assert_allclose(result.tables["weekly"]["mean"], (media + linear).mean(axis=(1, 2)), rtol=1e-9)
    assert np.all(result.tables["weekly"]["q05"] < result.tables["weekly"]["q95"])
    assert not result.tables["weekly"]["observed"][20]


def test_roi_is_contribution_times_value_over_spend(found: Drawn, result: UnitResult):
    spend = found.member.unit.spend[counted(found)].sum(axis=0)
    roi = result.tables["roi"]
    assert list(roi["channel"]) == ["channel_0", "channel_2"]
    for c in (0, 2):
        mine = row(roi, channel=f"channel_{c}")
        earned = row(result.tables["contributions"], component=f"channel_{c}")
        for name in ("mean", "sd", "q05", "q50", "q95"):
            np.testing.assert_allclose(mine[name], earned[name] * 2.5 / spend[c], rtol=1e-9)
        assert mine["spend"] == spend[c]
        assert 0 < mine["prior_mean"] < np.inf
        assert 0 < mine["prior_q05"] < mine["prior_q50"] < mine["prior_q95"] < np.inf


def test_a_value_that_changes_is_weighed_by_when_the_kpi_came():
    value = np.linspace(1.0, 4.0, 60)
    found = made(independent(saturation="hill"), value_per_kpi=value)
    weeks = counted(found)
    earned = np.sum(weekly_contributions(found)[weeks] * value[weeks, None, None, None], axis=0)
    spend = found.member.unit.spend[weeks].sum(axis=0)
    roi = result_of(found).tables["roi"]
    for i, c in enumerate((0, 2)):
        np.testing.assert_allclose(roi["mean"][i], earned[c].mean() / spend[c], rtol=1e-9)
        np.testing.assert_allclose(roi["sd"][i], earned[c].std(ddof=1) / spend[c], rtol=1e-9)


CURVED = {
    "logistic": independent(saturation="logistic"),
    "hill_saturation_first": independent(saturation="hill", adstock_first=False, normalise=False),
    "none": independent(adstock="none", saturation="none"),
}


@pytest.mark.parametrize("name", CURVED)
def test_curves_are_the_steady_response_and_rise(name):
    found = made(CURVED[name])
    model, draws, unit = found.spec.model, found.draws, found.member.unit
    table = result_of(found).tables["curves"]
    names = model.channel_parameters[:-1]
    for c in (0, 2):
        own = table["channel"] == f"channel_{c}"
        spend, mean = table["spend"][own], table["mean"][own]
        assert np.all(np.diff(mean) > 0)
        assert mean[0] == 0
        np.testing.assert_allclose(spend[-1], 1.5 * unit.spend[:54, c].max(), rtol=1e-12)
        # The plain model at steady media, once the window is full.
        level = spend[10] / found.member.scale.media[c]
        shape = {n: jnp.asarray(draws.shape[i, c].ravel()) for i, n in enumerate(names)}
        steady = jnp.full((model.window, COUNT * CHAINS), level)
        last = saturated_adstock(steady, shape, model)[-1]
        expected = np.mean(np.asarray(last) * draws.effect[c].ravel()) * found.member.scale.kpi
        np.testing.assert_allclose(mean[10], expected, rtol=1e-9)


def test_parameters_are_in_the_tables_units(found: Drawn, result: UnitResult):
    member, draws, params = found.member, found.draws, result.tables["params"]
    in_table = {
        ("decay", "channel_0"): draws.shape[0, 0],
        ("rate", "channel_2"): draws.shape[1, 2] / member.scale.media[2],
        ("effect", "channel_2"): draws.effect[2] * member.scale.kpi,
        ("noise", ""): draws.noise * member.scale.kpi,
        ("trend", ""): draws.coefficients[1] * member.scale.kpi,
        ("control_0", ""): draws.coefficients[-1] * member.scale.kpi / member.scale.control_sd[0],
    }
    for (parameter, channel), values in in_table.items():
        mine = row(params, parameter=parameter, channel=channel)
        np.testing.assert_allclose(mine["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(mine["q25"], np.quantile(values, 0.25), rtol=1e-12)
    # With controls in their own unit, the coefficients explain the KPI from the columns as the table has them.
    assert result.draws["coefficients"].shape == (CHAINS, COUNT, 7)
    coefficients = np.moveaxis(result.draws["coefficients"].astype(float), 2, 0)
    columns = np.array(found.plain[0].design)
    columns[:, -1] = member.unit.controls[:, 0]
    linear = np.tensordot(columns, coefficients, axes=1).mean(axis=(1, 2))
    weekly = result.tables["weekly"]["mean"] - weekly_contributions(found).sum(axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(linear[member.fitted], weekly[member.fitted], rtol=1e-5)


def test_priors_stand_beside_the_posterior_in_the_same_unit(found: Drawn, result: UnitResult):
    params, scale = result.tables["params"], found.member.scale
    rate = row(params, parameter="rate", channel="channel_0")
    np.testing.assert_allclose(rate["prior_mean"], 3.0 / scale.media[0])
    np.testing.assert_allclose(rate["prior_sd"], np.sqrt(3.0) / scale.media[0])
    control = row(params, parameter="control_0", channel="")
    np.testing.assert_allclose(control["prior_sd"], 0.1 * scale.kpi / scale.control_sd[0])
    intercept = row(params, parameter="intercept", channel="")
    at_zero = 0.1 * scale.kpi * scale.control_mean[0] / scale.control_sd[0]
    np.testing.assert_allclose(intercept["prior_sd"], np.hypot(0.5 * scale.kpi, at_zero))


def test_another_currency_is_another_currency_throughout(found: Drawn, result: UnitResult):
    other = result_of(made(independent(saturation="logistic"), value_per_kpi=np.full(60, 2.5), kpi=1024.0, media=8.0))
    tables = result.tables
    for name in ("mean", "sd", "q05", "q95", "prior_mean", "prior_sd"):
        np.testing.assert_allclose(other.tables["roi"][name], tables["roi"][name] * 128, rtol=1e-12)
    for name in ("mean", "sd", "q05", "q50", "q95"):
        mine = tables["contributions"][name] * 1024
        np.testing.assert_allclose(other.tables["contributions"][name], mine, rtol=1e-12)
        np.testing.assert_allclose(other.tables["curves"][name], tables["curves"][name] * 1024, rtol=1e-12)
    present = tables["curves"]["channel"] != "channel_1"
    spend = tables["curves"]["spend"][present]
    np.testing.assert_allclose(other.tables["curves"]["spend"][present], spend * 8, rtol=1e-12)
    for name in ("r2", "mape", "wmape", "coverage90", "holdout_mape"):
        np.testing.assert_allclose(other.tables["fit"][name], tables["fit"][name], rtol=1e-12)
    np.testing.assert_allclose(other.tables["fit"]["crps"], tables["fit"]["crps"] * 1024, rtol=1e-12)


def test_accuracy_is_what_its_name_says(found: Drawn, result: UnitResult):
    weekly, fit = result.tables["weekly"], result.tables["fit"]
    for prefix, which in (("", found.member.fitted), ("holdout_", np.arange(60) >= 54)):
        kpi, mean = weekly["kpi"][which], weekly["mean"][which]
        error = np.abs(kpi - mean)
        np.testing.assert_allclose(fit[f"{prefix}mape"], np.mean(error / kpi))
        np.testing.assert_allclose(fit[f"{prefix}wmape"], error.sum() / kpi.sum())
        np.testing.assert_allclose(fit[f"{prefix}r2"], 1 - np.sum(error**2) / np.sum((kpi - kpi.mean()) ** 2))
        inside = (kpi >= weekly["q05"][which]) & (kpi <= weekly["q95"][which])
        np.testing.assert_allclose(fit[f"{prefix}coverage90"], inside.mean())
        assert 0 < fit[f"{prefix}crps"][0] < 2 * error.mean()


def test_the_score_of_a_certain_forecast_is_its_error(found: Drawn):
    finished = found.finished()
    certain = [np.broadcast_to(np.asarray(part)[..., :1, :1], np.shape(part)) for part in finished.draws]
    draws = type(finished.draws)(*certain)._replace(observation=np.full((1, COUNT, CHAINS), 1e-12))
    result = unit_result(
        replace(finished, draws=draws), found.structure, found.panel, found.spec, judged=lambda checks: ("ok", "")
    )
    weekly, fitted = result.tables["weekly"], found.member.fitted
    error = np.abs(weekly["kpi"] - weekly["mean"])[fitted]
    np.testing.assert_allclose(result.tables["fit"]["crps"], error.mean(), rtol=1e-6)


def test_fitted_values_come_from_every_chain():
    found = drawn(panel_of(odd_unit(weeks=60)), Spec(), count=512)
    finished = found.finished()
    draws = finished.draws
    shifted = draws._replace(effect=draws.effect + np.arange(CHAINS))
    curves = unit_result(
        replace(finished, draws=shifted), found.structure, found.panel, found.spec, judged=lambda checks: ("ok", "")
    ).tables["curves"]
    # Effects differ by chain, so the curve's spread is that of the chains, not of one of them.
    last = curves["channel"] == "channel_0"
    assert curves["q95"][last][-1] > 3 * curves["q05"][last][-1]


@pytest.mark.parametrize("form", ["linear", "log"])
@pytest.mark.parametrize("baseline", ["min", "max", 12.5])
def test_a_treatment_brings_what_its_distance_from_the_baseline_does(form: str, baseline: str | float):
    plain = made(independent())
    data = replace(plain.panel.data, controls=(), treatments=({"name": "price", "baseline": baseline, "form": form},))  # pyright: ignore[reportArgumentType]
    found = drawn(
        replace(plain.panel, data=data, linear=("price",)),
        Spec(model=independent(), output=Output(draws="full")),
        count=COUNT,
    )
    found = replace(found, draws=as_kept(found))
    unit, scale, weeks = found.member.unit, found.member.scale, counted(found)
    price = unit.controls[:, 0]
    moved = np.log(np.where(price > 0, price, 1.0)) if form == "log" else price
    zero = {"min": moved[found.member.fitted].min(), "max": moved[found.member.fitted].max()}.get(str(baseline))
    zero = zero if zero is not None else (np.log(12.5) if form == "log" else 12.5)
    coefficient = found.draws.coefficients[-1] * scale.kpi / scale.control_sd[0]
    total = coefficient * (moved[weeks] - zero).sum()
    mine = result_of(found).tables["contributions"]
    of_price = row(mine, component="price")
    np.testing.assert_allclose(of_price["mean"], total.mean(), rtol=1e-9)
    np.testing.assert_allclose(of_price["sd"], total.std(ddof=1), rtol=1e-9)
    assert of_price["q05"] < of_price["q95"]
    residual = np.sum(unit.kpi[weeks] - result_of(found).tables["weekly"]["mean"][weeks])
    np.testing.assert_allclose(mine["mean"].sum() + residual, unit.kpi[weeks].sum(), rtol=1e-9)


@pytest.mark.parametrize("scaling", ["pymc_marketing", "meridian"])
def test_whatever_the_scales_are_the_tables_are_the_plain_models(scaling: str):
    found = made(independent(scaling=scaling))  # pyright: ignore[reportArgumentType]
    result, scale = result_of(found), found.member.scale
    media = weekly_contributions(found).sum(axis=1)
    linear = np.tensordot(found.plain[0].design, found.draws.coefficients, axes=1) * scale.kpi + scale.kpi_shift
    weeks, unit, contributions = counted(found), found.member.unit, result.tables["contributions"]
    # Weeks without a row have no controls of which either could tell.
    expected = (media + linear).mean(axis=(1, 2))[unit.observed]
    np.testing.assert_allclose(result.tables["weekly"]["mean"][unit.observed], expected, rtol=1e-8)
    residual = np.sum(unit.kpi[weeks] - result.tables["weekly"]["mean"][weeks])
    np.testing.assert_allclose(contributions["mean"].sum() + residual, unit.kpi[weeks].sum(), rtol=1e-9)
    control = (unit.controls[weeks] - unit.controls[found.member.fitted].mean(axis=0)).sum(axis=0) / scale.control_sd
    total = found.draws.coefficients[-1] * scale.kpi * control
    np.testing.assert_allclose(row(contributions, component="control_0")["sd"], total.std(ddof=1), rtol=1e-8)
