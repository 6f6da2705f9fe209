"""Simulated fleets: what is true of them is in the table beside them."""

from typing import Any

import numpy as np
import pyarrow.compute as pa_compute
import pytest

from mixfleet import config
from mixfleet.config.priors import ADSTOCK_PARAMETERS, SATURATION_PARAMETERS, distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import read_panel
from mixfleet.data.scaling import measure
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.simulation import fleet as simulate
from mixfleet.simulation.truth import draw, saturated_adstock
from mixfleet_kernels.adstock import reference as adstock
from mixfleet_kernels.saturation import reference as saturation

pc: Any = pa_compute  # its functions are made at run time

ADSTOCKS = ("geometric", "binomial", "delayed", "weibull_pdf", "weibull_cdf", "none")
SATURATIONS = ("logistic", "hill", "tanh", "michaelis_menten", "exponential", "root", "log", "none")


def rows_of(table, brand, market):
    return table.filter(pc.and_(pc.equal(table["brand"], brand), pc.equal(table["market"], market)))


def test_same_seed_same_bytes_other_seed_other_fleet():
    a, b, c = (simulate.fleet(brands=2, markets=2, weeks=60, seed=seed) for seed in (1, 1, 2))
    assert a.table.equals(b.table)
    assert a.truth.equals(b.truth)
    assert a.truth_linear.equals(b.truth_linear)
    assert not a.table.equals(c.table)


@pytest.mark.parametrize("ragged", [False, True])
def test_a_unit_is_the_same_in_a_small_and_a_large_fleet(ragged):
    small = simulate.fleet(brands=1, markets=2, weeks=60, ragged=ragged)
    large = simulate.fleet(brands=4, markets=5, weeks=60, ragged=ragged)
    for name in ("table", "truth", "truth_linear"):
        unit = ("brand_001", "market_002")
        assert rows_of(getattr(small, name), *unit).equals(rows_of(getattr(large, name), *unit))


def test_default_fleet_is_read_without_errors():
    fleet = simulate.fleet()
    panel = read_panel(fleet.table, fleet.data)
    assert len(panel.units) == 300
    assert {f.severity for f in panel.findings} <= {"info", "warning"}
    # The prior of a channel has a long tail, of which a unit in some hundreds shows.
    doubts = [f for f in panel.findings if f.severity == "warning"]
    assert {f.rule for f in doubts} <= {"kpi_outlier"}
    assert len({f.unit for f in doubts}) <= 3
    assert len(panel.channels) == 8
    assert len(panel.linear) == 2
    assert {len(unit.dates) for unit in panel.units} == {156}
    assert fleet.truth.num_rows == 2400


@pytest.mark.parametrize("adstock_name", ADSTOCKS)
@pytest.mark.parametrize("saturation_name", ["logistic", "hill"])
def test_the_truth_explains_the_kpi_up_to_the_noise(adstock_name, saturation_name):
    """Rebuilds the KPI with the package's own scale and baseline, and the kernels' references."""
    model = config.Model(adstock=adstock_name, saturation=saturation_name, observation="normal")
    fleet = simulate.fleet(brands=2, markets=1, weeks=104, channels=3, ragged=True, model=model)
    for unit in read_panel(fleet.table, fleet.data).units:
        truth = rows_of(fleet.truth, *unit.labels)
        linear = rows_of(fleet.truth_linear, *unit.labels)
        values = dict(zip(linear["column"].to_pylist(), linear["value"].to_pylist(), strict=True))
        scale = measure(unit, np.ones(len(unit.dates), bool))
        assert scale.kpi == values["kpi_scale"]
        media = scale.scaled_media(unit)
        design = baseline.design(unit.dates, scale.scaled_controls(unit), model=model, fitted_weeks=len(unit.dates))
        fit = design @ [values[name] for name in baseline.column_names(model, fleet.data)]
        for i, name in enumerate(fleet.data.channels):
            row = truth.filter(pc.equal(truth["channel"], name.name)).to_pylist()
            if not row:
                assert not media[:, i].any()
                continue
            weights = adstock.weights(
                adstock_name,
                tuple(row[0][p] for p in ADSTOCK_PARAMETERS[adstock_name]),
                window=model.window,
                normalise=True,
                binomial_offset=0,
                weibull_minmax=False,
            )
            carried = adstock.convolve(media[:, i], weights)
            curve = tuple(row[0][p] for p in SATURATION_PARAMETERS[saturation_name])
            part = row[0]["effect"] * saturation.saturate(saturation_name, carried, curve)
            assert part.sum() * scale.kpi == pytest.approx(row[0]["contribution"], rel=1e-9)
            assert unit.spend[:, i].sum() == pytest.approx(row[0]["spend"], rel=1e-12)
            assert row[0]["roi"] == pytest.approx(row[0]["contribution"] / row[0]["spend"], rel=1e-12)
            fit = fit + part
        residual = (unit.kpi / scale.kpi - fit) / values["noise"]
        assert 0.75 < residual.std() < 1.25
        assert np.abs(residual).max() < 5


def test_carry_over_far_shorter_than_a_period_has_an_effect_too():
    """The Weibull density of every lag is below the least number there is, and its shares are not."""
    prior = config.build(config.Prior, {"parameters": {"adstock_scale": {"family": "fixed", "value": 0.05}}})
    sizes = {"brands": 1, "markets": 1, "weeks": 52, "channels": 2}
    fleet = simulate.fleet(model=config.Model(adstock="weibull_pdf"), prior=prior, **sizes)
    assert all(roi > 0 for roi in fleet.truth["roi"].to_pylist())


@pytest.mark.parametrize("observation", ["normal", "ar1"])
@pytest.mark.parametrize("known", ["prior", "fixed"])
def test_under_a_log_link_the_truth_explains_the_logarithm(known, observation):
    model = config.Model(link="log", observation=observation)
    fleet = simulate.fleet(brands=2, markets=1, weeks=104, channels=3, truth=known, model=model)
    for unit in read_panel(fleet.table, fleet.data, link="log").units:
        truth = rows_of(fleet.truth, *unit.labels)
        linear = rows_of(fleet.truth_linear, *unit.labels)
        values = dict(zip(linear["column"].to_pylist(), linear["value"].to_pylist(), strict=True))
        scale = measure(unit, np.ones(len(unit.dates), bool), model=model)
        assert np.exp(scale.kpi_shift) == pytest.approx(values["kpi_scale"])
        design = baseline.design(unit.dates, scale.scaled_controls(unit), model=model, fitted_weeks=len(unit.dates))
        fit = design @ [values[name] for name in baseline.column_names(model, fleet.data)]
        rows = {name: np.array(truth[name].to_pylist()) for name in (*model.channel_parameters, "contribution")}
        parts = saturated_adstock(scale.scaled_media(unit), rows, model) * rows["effect"]
        fit = fit + parts.sum(axis=1)
        residual = (np.log(unit.kpi / values["kpi_scale"]) - fit) / values["noise"]
        lasts = values.get("autocorrelation", 0.0)
        assert 0.75 < (residual[1:] - lasts * residual[:-1]).std() / np.sqrt(1 - lasts**2) < 1.25
        with_it = np.exp(fit + values["noise"] ** 2 / 2)[:, None]
        missing = (with_it * (1 - np.exp(-parts))).sum(axis=0) * values["kpi_scale"]
        np.testing.assert_allclose(missing, rows["contribution"], rtol=1e-9)


@pytest.mark.parametrize("name", SATURATIONS)
@pytest.mark.parametrize("first", [True, False])
def test_curves_equal_the_kernels_references(name, first):
    model = config.Model(saturation=name, adstock_first=first)
    media = np.abs(np.random.default_rng(0).normal(size=(30, 2)))
    media[::3] = 0.0
    values = {p: np.array([0.4, 0.7]) for p in model.channel_parameters}
    curve = tuple(values[p] for p in SATURATION_PARAMETERS[name])
    settings = {"window": 9, "normalise": True, "binomial_offset": 0, "weibull_minmax": False}
    weights = adstock.weights("geometric", (values["decay"],), **settings)
    if first:
        expected = saturation.saturate(name, adstock.convolve(media, weights), curve)
    else:
        expected = adstock.convolve(saturation.saturate(name, media, curve), weights)
    np.testing.assert_allclose(saturated_adstock(media, values, model), expected, rtol=1e-12, atol=1e-14)


def test_fixed_truth_has_a_realistic_media_share():
    fleet = simulate.fleet(brands=3, markets=3, truth="fixed", ragged=True)
    sales = fleet.table.group_by(["brand", "market"]).aggregate([("kpi", "sum")])["kpi_sum"].to_numpy()
    media = fleet.truth.group_by(["brand", "market"]).aggregate([("contribution", "sum")])["contribution_sum"]
    assert ((media.to_numpy() / sales > 0.25) & (media.to_numpy() / sales < 0.30)).all()
    assert pc.min(fleet.table["kpi"]).as_py() > 0
    panel = read_panel(fleet.table, fleet.data)
    assert fleet.data.kpi_scale is None
    values = {tuple(r[k] for k in ("brand", "market")): r["value"] for r in fleet.truth_linear.to_pylist()}
    for unit in panel.units:
        assert values[unit.labels] == pytest.approx(unit.kpi.max(), rel=1e-12)


def test_ragged_fleets_start_and_end_apart_and_lack_channels():
    fleet = simulate.fleet(brands=5, markets=4, ragged=True)
    panel = read_panel(fleet.table, fleet.data)
    assert not panel.rejected
    assert len({unit.dates[0] for unit in panel.units}) > 3
    assert len({unit.dates[-1] for unit in panel.units}) > 3
    absent = sum((~unit.media.any(axis=0)).sum() for unit in panel.units)
    assert 0.05 < absent / 160 < 0.3
    assert fleet.truth.num_rows == 160 - absent


LAWS = {
    "normal": distribution("normal", mean=0.3, sd=2.0),
    "half_normal": distribution("half_normal", sd=0.5),
    "lognormal": distribution("lognormal", mean_log=-0.7, sd_log=0.4),
    "gamma": distribution("gamma", shape=3.0, rate=2.0),
    "inverse_gamma": distribution("inverse_gamma", shape=6.0, scale=2.0),
    "exponential": distribution("exponential", rate=4.0),
    "beta": distribution("beta", a=1.0, b=3.0),
    "uniform": distribution("uniform", low=0.2, high=0.9),
    "truncated_normal": distribution("truncated_normal", mean=0.1, sd=0.3, low=0.0, high=1.0),
}
MOMENTS = {
    "normal": (0.3, 2.0),
    "half_normal": (0.39894, 0.30141),
    "lognormal": (0.53794, 0.22408),
    "gamma": (1.5, 0.86603),
    "inverse_gamma": (0.4, 0.2),
    "exponential": (0.25, 0.25),
    "beta": (0.25, 0.19365),
    "uniform": (0.55, 0.20207),
    "truncated_normal": (0.27869, 0.19139),
}
"""Mean and standard deviation of each distribution, from its formulas."""


@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_their_distribution(name):
    """z below 5 for the mean of 40,000 draws: a false alarm in 2 million, 0.05 sd caught always."""
    rng = np.random.default_rng(11)
    draws = np.array([draw(LAWS[name], rng) for _ in range(40_000)])
    mean, sd = MOMENTS[name]
    assert abs(draws.mean() - mean) < 5 * sd / 200
    assert draws.std() == pytest.approx(sd, rel=0.05)
    low, high = LAWS[name].support
    assert (draws >= low).all()
    assert (draws <= high).all()


def test_overrides_reach_the_truth():
    override = config.Override(
        parameter="decay",
        unit=FrozenMapping({"brand": "brand_002"}),
        channel="tv",
        hyperparameters=FrozenMapping({"a": 9000.0, "b": 1000.0}),
    )
    fleet = simulate.fleet(brands=2, markets=3, weeks=60, prior=config.Prior(overrides=(override,)))
    decay = {(r["brand"], r["market"], r["channel"]): r["decay"] for r in fleet.truth.to_pylist()}
    assert all(
        (abs(value - 0.9) < 0.02) == (brand == "brand_002") for (brand, _, c), value in decay.items() if c == "tv"
    )


def test_settings_and_arguments_make_the_same_fleet():
    settings = config.Simulation(brands=2, markets=1, weeks=40, channels=2, controls=0, seed=3, truth="fixed")
    a = simulate.from_config(settings, config.Prior(), config.Model(), config.Pooling())
    b = simulate.fleet(brands=2, markets=1, weeks=40, channels=2, controls=0, seed=3, truth="fixed")
    assert a.table.equals(b.table)
    assert a.data == b.data


def test_centres_of_channels_of_one_type_are_alike():
    simulation, prior, model = config.Simulation(brands=400, channels=4), config.Prior(), config.Model()
    pooling = config.Pooling(by="brand", types={"first": ["tv", "social"]}, type=0.2)
    groups = [(f"brand_{b}", "market_001") for b in range(400)]
    centres = np.array(
        [simulate.pooled_truth(labels, simulation, prior, model, pooling).centre["effect"] for labels in groups]
    )
    correlation = np.corrcoef(centres.T)
    # The type's mean has variance one, a channel of it 0.2 squared around it.
    assert abs(correlation[0, 2] - 1 / 1.04) < 0.02
    assert np.all(np.abs(correlation[1, [0, 2, 3]]) < 0.2)


def test_a_type_of_a_channel_that_is_not_simulated_is_refused():
    with pytest.raises(ConfigError, match=r"pooling\.types\.first: 'radio' is no channel"):
        simulate.fleet(channels=2, pooling=config.Pooling(by="brand", types={"first": ["tv", "radio"]}))
