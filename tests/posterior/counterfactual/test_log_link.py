"""A model of the KPI's logarithm: its tables against the plain formula, week by week, and by taking media away."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Model, Output, Spec, Treatment
from mixfleet.data.scaling import likelihood_weeks
from mixfleet.models.media import Curves
from mixfleet.models.reference import saturated_adstock
from mixfleet.posterior.counterfactual import log_link
from mixfleet.posterior.response_curves import response_curves, steady_kpi
from mixfleet.posterior.statistics import statistics
from mixfleet.posterior.summarize import unit_result
from mixfleet.posterior.unit_result import UnitResult
from tests.support.drawn import CHAINS, Drawn, drawn
from tests.support.units import odd_unit, panel_of

COUNT = 32
MODEL = Model(link="log", observation="normal", adstock_first=False)


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def found() -> Drawn:
    other = odd_unit(weeks=66, labels=("other", "FR"), seed=3)
    unit = odd_unit(weeks=60, gap=slice(20, 21), absent=(1,), value_per_kpi=2.5)
    panel = panel_of(other, unit, holdout=6)
    data = replace(panel.data, controls=(), treatments=(Treatment(name="control_0", form="log"),))
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        spec = Spec(model=MODEL, output=Output(draws="full"))
        return drawn(replace(panel, data=data), spec, count=COUNT, spread=0.2)


@pytest.fixture(scope="module")
def result(found: Drawn) -> UnitResult:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        return unit_result(found.finished(), found.structure, found.panel, found.spec, judged=lambda _: ("ok", ""))


def expected(found: Drawn, media: np.ndarray) -> np.ndarray:
    """Mean KPI [week, draw] under scaled media, from the log-normal's own formula."""
    series, _ = found.plain
    names = MODEL.channel_parameters[:-1]
    shapes = found.draws.shape.reshape(len(names), 3, -1)
    effects = found.draws.effect.reshape(3, -1)

    def of_draw(shape: jax.Array, effect: jax.Array) -> jax.Array:
        return saturated_adstock(jnp.asarray(media), dict(zip(names, shape, strict=True)), MODEL) @ effect

    logs = jax.jit(jax.vmap(of_draw, in_axes=(-1, -1), out_axes=-1))(jnp.asarray(shapes), jnp.asarray(effects))
    linear = series.design @ found.draws.coefficients.reshape(series.design.shape[1], -1)
    noise = found.draws.noise.reshape(-1)
    return np.exp(np.asarray(logs) + linear + found.member.scale.kpi_shift + noise**2 / 2)


def counted(found: Drawn) -> np.ndarray:
    return likelihood_weeks(found.member.unit, window=MODEL.window, holdout=0)


def row(table: dict[str, np.ndarray], name: str, label: str) -> dict[str, float]:
    (place,) = np.flatnonzero(table[name] == label)
    return {key: values[place] for key, values in table.items()}


def test_the_expected_kpi_is_the_mean_of_the_log_normal(found: Drawn, result: UnitResult):
    there = found.member.unit.observed
    mean = expected(found, found.plain[0].media)
    np.testing.assert_allclose(result.tables["weekly"]["mean"][there], mean.mean(axis=1)[there], rtol=1e-5)
    low, high = result.tables["weekly"]["q05"], result.tables["weekly"]["q95"]
    assert np.all(low > 0)
    assert np.all(low < high)


def test_contributions_add_up_to_it_and_roi_is_what_would_be_missing(found: Drawn, result: UnitResult):
    weeks, unit = counted(found), found.member.unit
    media = found.plain[0].media
    now = expected(found, media)[weeks]
    contributions = result.tables["contributions"]
    np.testing.assert_allclose(contributions["mean"].sum(), now.sum(axis=0).mean(), rtol=1e-5)
    for c in (0, 2):
        gone = np.where(np.arange(3) == c, 0.0, media)
        missing = 2.5 * (now - expected(found, gone)[weeks]).sum(axis=0) / unit.spend[weeks, c].sum()
        mine = row(result.tables["roi"], "channel", f"channel_{c}")
        np.testing.assert_allclose([mine["mean"], mine["sd"]], [missing.mean(), missing.std(ddof=1)], rtol=1e-4)
        assert 0 < mine["prior_q05"] < mine["prior_q95"] < 2.5 * unit.kpi[weeks].sum() / unit.spend[weeks, c].sum()
    # Together channels bring what would be missing without all of them, in proportion to what each adds to the log.
    all_gone = (now - expected(found, np.zeros_like(media))[weeks]).sum(axis=0)
    shares = [row(contributions, "component", f"channel_{c}")["mean"] for c in range(3)]
    np.testing.assert_allclose(np.sum(shares), all_gone.mean(), rtol=1e-5)
    assert shares[1] == 0.0
    price = row(contributions, "component", "control_0")
    assert price["q05"] < price["q95"]


def test_a_curve_is_the_kpi_of_steady_media_on_top_of_the_rest(found: Drawn, result: UnitResult):
    weeks, media = counted(found), found.plain[0].media
    names = MODEL.channel_parameters[:-1]
    curves = result.tables["curves"]
    top = {key: values[curves["channel"] == "channel_0"][-1] for key, values in curves.items()}
    rest = expected(found, np.where(np.arange(3) == 0, 0.0, media))[weeks].mean(axis=0)
    steady = np.full((40, 3), 1.5)
    shapes, effects = found.draws.shape.reshape(len(names), 3, -1), found.draws.effect.reshape(3, -1)
    last = [
        float(saturated_adstock(jnp.asarray(steady), dict(zip(names, shape, strict=True)), MODEL)[-1, 0])
        for shape in np.moveaxis(shapes, -1, 0)
    ]
    np.testing.assert_allclose(top["mean"], np.mean(rest * np.expm1(np.array(last) * effects[0])), rtol=1e-4)
    assert len(last) == COUNT * CHAINS


def test_a_curve_past_the_largest_number_is_told_as_the_most_that_has_a_spread(found: Drawn):
    member, term = found.member, found.structure.term
    shape, effect = (part.reshape(-1, 3, COUNT * CHAINS) for part in (found.draws.shape, found.draws.effect))
    steep, level = Curves(shape, effect[0] * np.geomspace(1, 1e6, COUNT * CHAINS)), np.full((3, COUNT * CHAINS), 1e5)
    curves = response_curves(member.unit, member.scale, steep, term, points=9, level=level)
    spend, kpi = steady_kpi(member.unit, member.scale, steep, term, points=9, level=level)
    np.testing.assert_array_equal(spend, curves.spend.T)
    np.testing.assert_allclose(kpi, curves.kpi.swapaxes(0, 1), rtol=1e-12)
    assert np.isclose(kpi.max(), 1e5 * np.exp(log_link.MOST))
    assert kpi[-1].min() < 1e7
    assert np.all(np.diff(kpi, axis=0) >= 0)
    assert np.all(np.isfinite(curves.slope))
    assert np.all(curves.slope[curves.kpi == kpi.max()] == 0)
    assert all(np.all(np.isfinite(told)) for told in statistics(kpi, ("q05", "q50", "q95")).values())
