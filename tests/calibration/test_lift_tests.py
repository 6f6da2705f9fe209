"""Posteriors with lift tests are the ones that formulas, and long NUTS on plain numpyro models, give."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import MCMC, NUTS

import mixfleet as mf
from mixfleet.config import Inference, Model, Output, Pooling, Prior, Spec, build, preset
from mixfleet.data.experiments.placement import with_experiments
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.data.scaling import likelihood_weeks, measure
from mixfleet.fitting.driver import fit_units
from mixfleet.models.priors.moments import pooled_strength
from mixfleet.models.reference import unit_arguments
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.simulation import fleet as simulate
from tests.support.agreement import LONG_RUN, Agreement, compare, fitted, sampled
from tests.support.shared_data import shared

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("usual_broadcasts")]

LINEAR = Model(adstock="none", saturation="none", seasonality=1, observation="normal")


def with_tests(panel: Panel, rows: list[dict[str, Any]], model: Model, pooling: Pooling | None = None) -> Panel:
    arguments = (panel.units, [], panel.channels, pd.DataFrame(rows), panel.data)
    units, _ = with_experiments(*arguments, window=model.window, days=7, pooling=pooling)
    return replace(panel, units=tuple(replace(unit, warnings=()) for unit in units))


def dates(panel: Panel, first: int, last: int) -> dict[str, str]:
    begin = panel.units[0].dates[0]
    return {"start": str(begin + 7 * first), "end": str(begin + 7 * last + 6)}


@pytest.mark.parametrize("coordinate", ["contribution", pytest.param("effect", marks=pytest.mark.nightly)])
def test_of_a_linear_channel_a_test_is_a_prior(coordinate: str):
    """exp(-rate e) N(y; G e, s), with y = rate s^2 / G, is a half normal of s / G: the prior that needs no test."""
    model = replace(LINEAR, coordinate=coordinate)
    fleet = simulate.fleet(brands=1, markets=1, weeks=80, channels=2, controls=0, model=model, truth="fixed", seed=3)
    panel = read_panel(fleet.table, fleet.data, window=model.window)
    unit = panel.units[0]
    scale = measure(unit, likelihood_weeks(unit, window=model.window, holdout=0))
    sd, rate, rows = 0.06, 4.0, []
    for channel, (first, last) in enumerate([(20, 27), (40, 51)]):
        span = dates(panel, first, last)
        gain = unit.media[first : last + 1, channel].sum() / scale.media[channel] * scale.kpi
        row = {"channel": panel.channels[channel], "spend_control": 0.0, "lift": rate * sd**2 * gain, "se": sd * gain}
        rows.append({"brand": unit.labels[0], "market": unit.labels[1], **span, **row})
    spec = Spec(data=fleet.data, model=model, inference=LONG_RUN, output=Output(draws="full"))

    def draws(panel: Panel, effect: dict[str, Any]) -> Any:
        prior = build(Prior, {"on": "effect", "parameters": {"effect": effect}})
        return fitted(panel, replace(spec, prior=prior))

    told, by_test = draws(with_tests(panel, rows, model), {"family": "exponential", "rate": rate})
    asked, by_prior = draws(panel, {"family": "half_normal", "sd": sd})
    assert told.startswith("ok")
    assert asked.startswith("ok")
    # The constants of the densities differ.
    found = [row for row in compare(by_test, by_prior) if not row.name.startswith("lp")]
    assert [row for row in found if "effect" in row.name and abs(row.shift) > 2 * row.shift_error] == []
    assert [row for row in found if abs(row.shift) > 3.5 * row.shift_error] == []
    assert [row for row in found if abs(row.ratio - 1) > 4 * row.ratio_error] == []
    # The tests say something: without them the posterior is another one.
    _, without = draws(panel, {"family": "exponential", "rate": rate})
    assert max(abs(row.shift) / row.shift_error for row in compare(without, by_prior)) > 10


@pytest.mark.nightly
def test_the_usual_model_with_tests_is_the_plain_one():
    fleet = simulate.fleet(brands=1, markets=1, weeks=60, channels=2, controls=0, truth="fixed", seed=0, experiments=3)
    panel = read_panel(fleet.table, fleet.data, experiments=fleet.experiments)
    spec = Spec(data=fleet.data, inference=LONG_RUN, output=Output(draws="full"))
    status, mine = fitted(panel, spec)
    assert status.startswith("ok")
    rows = compare(mine, sampled(panel, spec))
    assert_same(rows)


def assert_same(rows: list[Agreement]) -> None:
    worse = [row for row in rows if abs(row.shift) > max(0.1, 4 * row.shift_error)]
    assert worse == []


@pytest.mark.nightly
def test_a_test_that_contradicts_a_unit_is_a_doubt_of_that_unit_alone(tmp_path: Path):
    fleet = simulate.fleet(brands=1, markets=3, weeks=120, channels=2, controls=0, truth="fixed", seed=0)
    table, truth = fleet.table.to_pandas(), fleet.truth.to_pandas()
    dates = pd.to_datetime(table["date"]).sort_values().to_numpy("datetime64[D]")
    span = {"start": str(dates[0]), "end": str(dates[-1] + 6), "measured_until": str(dates[-1] + 6), "factor": 0.0}
    tv = truth[truth["channel"] == "tv"].set_index("market")["contribution"]
    right, wrong = tv.index[0], tv.index[1]
    rows = [
        {
            "brand": "brand_001",
            "market": market,
            "channel": "tv",
            **span,
            "lift": -times * tv[market],
            "se": 0.3 * tv[market],
        }
        for market, times in ((right, 1.0), (wrong, 4.0))
    ]
    run = mf.fit(table, data=fleet.data, experiments=pd.DataFrame(rows), run={"root": str(tmp_path)})
    checks = run.checks()
    own = checks[checks["kind"] == "experiment_conflict"].set_index("market")
    assert own["verdict"].to_dict() == {right: "passed", wrong: "doubt"}
    status = run.status.set_index("market")
    assert status.loc[wrong, "status"].startswith("ok_")
    assert own.loc[wrong, "statement"] in status.loc[wrong, "reason"]
    conflicts = run.insight.experiments().set_index("market")["conflict"]
    assert conflicts.to_dict() == {right: False, wrong: True}
    said = [remark.unit[1] for remark in run.summary().remarks if remark.kind == "experiment"]
    assert said == [wrong]


SHARED = Pooling(by="brand", adstock=None, saturation=None, trend=None, seasonality=None, control=None)
MARKETS, NOISY = 4, 0.4


@pytest.fixture(scope="module")
def markets() -> tuple[Panel, Spec]:
    """Four markets of one brand whose only pooled parameter is the effect of one channel, and how they are fitted."""
    fleet = simulate.fleet(
        brands=1, markets=MARKETS, weeks=52, channels=1, controls=0, model=LINEAR, truth="fixed", seed=11
    )
    prior = build(Prior, {"on": "effect", "parameters": {"noise": {"family": "half_normal", "sd": NOISY}}})
    # So noisy that each market needs the others.
    table = fleet.table.to_pandas()
    table["kpi"] += NOISY * table["kpi"].mean() * np.random.default_rng(5).standard_normal(len(table))
    spec = Spec(
        data=fleet.data,
        model=LINEAR,
        prior=prior,
        pooling=SHARED,
        # Differences of four means, which with half the draws are off by the tolerance now and then.
        inference=Inference(ess_target=16_000, ess_floor=8_000, max_draws=24_000),
        output=Output(draws="full"),
    )
    return read_panel(table, fleet.data, window=LINEAR.window, pooling=SHARED), spec


@pytest.fixture(scope="module")
def untested(markets: tuple[Panel, Spec]) -> tuple[np.ndarray, np.ndarray]:
    return means_of(*markets)


@pytest.mark.nightly
def test_a_test_in_one_market_moves_the_others_as_the_joint_model_says(
    markets: tuple[Panel, Spec], untested: tuple[np.ndarray, np.ndarray]
):
    plain, spec = markets
    unit = plain.units[0]
    gain = gain_of(unit)
    row = {"brand": unit.labels[0], "market": unit.labels[1], "channel": plain.channels[0], **dates(plain, 10, 21)}
    told = with_tests(plain, [{**row, "spend_control": 0.0, "lift": 1.2 * gain, "se": 0.03 * gain}], LINEAR)
    mine, joint = np.array(means_of(told, spec)) - np.array(untested)
    # The others move, by more than what the two samplers differ by.
    assert np.max(np.abs(joint[1:])) > 0.1
    np.testing.assert_allclose(mine[1:], joint[1:], atol=0.03)


@pytest.mark.nightly
@pytest.mark.parametrize("error", [0.15, 0.05])
def test_a_test_of_all_markets_together_tells_each_what_the_joint_model_says(
    markets: tuple[Panel, Spec], untested: tuple[np.ndarray, np.ndarray], error: float
):
    plain, spec = markets
    gain = sum(map(gain_of, plain.units))
    row = {"brand": plain.units[0].labels[0], "market": "*", "channel": plain.channels[0], **dates(plain, 10, 21)}
    rows = [{**row, "spend_control": 0.0, "lift": 1.2 * gain, "se": error * gain}]
    told = with_tests(plain, rows, LINEAR, SHARED)
    assert [len(unit.experiments) for unit in told.units] == [1] * MARKETS
    mine, joint = np.array(means_of(told, spec)) - np.array(untested)
    assert np.max(np.abs(joint)) > 0.08
    np.testing.assert_allclose(mine, joint, atol=0.03)


def gain_of(unit: Unit) -> float:
    """KPI of the test's weeks at an effect of one."""
    scale = measure(unit, likelihood_weeks(unit, window=LINEAR.window, holdout=0))
    return float(unit.media[10:22, 0].sum() / scale.media[0] * scale.kpi)


def means_of(panel: Panel, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Mean log effect of each market, by the sampler and by NUTS; their distributions agree."""
    mine = {result.labels: log_effects(result, panel) for result in fit_units(panel, spec)}
    joint = joint_effects(panel, spec)
    for place, own in enumerate(panel.units):
        here, there = mine[own.labels], joint[..., place].ravel()
        assert abs(here.mean() - there.mean()) / there.std() < 0.1
        assert abs(here.std() / there.std() - 1) < 0.1
    return np.array([mine[own.labels].mean() for own in panel.units]), joint.mean(axis=(0, 1))


def log_effects(result: UnitResult, panel: Panel) -> np.ndarray:
    # Of so noisy a KPI the model explains next to nothing, which is a doubt about it and not about its draws.
    assert result.status in ("ok", "ok_warn", "misfit"), result.reason
    unit = next(one for one in panel.units if one.labels == result.labels)
    scale = measure(unit, likelihood_weeks(unit, window=LINEAR.window, holdout=0))
    return np.log(np.asarray(result.draws["effect"], float).ravel() / scale.kpi)


def joint_effects(panel: Panel, spec: Spec) -> np.ndarray:
    """Log effects of the markets by NUTS on all of them at once."""
    units = [unit_arguments(unit, panel, spec) for unit in panel.units]
    kpi_scale = [measure(unit, likelihood_weeks(unit, window=LINEAR.window, holdout=0)).kpi for unit in panel.units]
    of_several = [test for unit in panel.units for test in unit.experiments if test.together][:1]
    # Without key columns a unit lies around the centre by one part, its own.
    mean, sd, _ = pooled_strength(units[0][1].channel["effect"][0], spec.pooling.scale("effect") or 0.0, 1)

    def model() -> None:
        centre = numpyro.sample("centre", dist.Normal(mean, sd))
        spread = numpyro.sample("spread", dist.HalfNormal(spec.pooling.scale("effect")))
        with numpyro.plate("market", len(units)):
            away = numpyro.sample("away", dist.Normal(0, 1))
            noise = numpyro.sample("noise", dist.HalfNormal(NOISY))
        theta, together = numpyro.deterministic("theta", centre + spread * away), jnp.float64(0.0)
        for place, (series, priors) in enumerate(units):
            effect, design = jnp.exp(theta[place]), jnp.asarray(series.design[series.fitted])
            around = dist.LowRankMultivariateNormal(
                effect * series.media[series.fitted, 0] + design @ jnp.asarray(priors.coefficient_mean),
                cov_factor=design * jnp.asarray(priors.coefficient_sd)[None],
                cov_diag=jnp.full(len(design), noise[place] ** 2),
            )
            numpyro.sample(f"kpi_{place}", around, obs=jnp.asarray(series.kpi[series.fitted]))
            for number, test in enumerate(series.tests):
                lift = effect * float(test.worth @ (test.test - test.control)[:, 0])
                if of_several:
                    together = together + kpi_scale[place] * lift
                else:
                    numpyro.sample(f"lift_{place}_{number}", dist.Normal(lift, test.sd), obs=test.estimate)
        for test in of_several:
            numpyro.sample("lift", dist.Normal(together, test.sd), obs=test.estimate)

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        chains = MCMC(
            NUTS(model, dense_mass=True, target_accept_prob=0.95),
            num_warmup=1000,
            num_samples=9000,
            num_chains=4,
            chain_method="sequential",
            progress_bar=False,
        )
        chains.run(jax.random.key(1))
        return np.asarray(chains.get_samples(group_by_chain=True)["theta"])


GEOLIFT_TEST = {"channel": "facebook", "start": "2021-09-01", "end": "2021-09-15", "spend_control": 0.0}


@pytest.mark.nightly
@pytest.mark.parametrize("case", ["positive", "negative"])
def test_the_lift_of_a_national_series_holds_what_a_geo_test_found(case: str, tmp_path: Path):
    """GeoLift's example: 15 % in 15 days of September, 13 to 17 %, beside a KPI that media bought by demand follow."""
    table = pd.read_csv(shared(f"sim_geolift_calibration/national_{case}.csv"), parse_dates=["date"])
    tested = table["facebook_lift_share"].notna()
    kpi = float(table.loc[tested, "kpi_sales"].sum())
    lift = kpi * 0.15 / 1.15
    row = {**GEOLIFT_TEST, "lift": lift, "lower": lift * 13 / 15, "upper": lift * 17 / 15, "level": 0.9}
    pd.DataFrame([row]).to_csv(tmp_path / "tests.csv", index=False)
    # The days of the test do not count twice, as `check` advises; misses of daily sales last.
    run = mf.fit(
        table.assign(kpi_sales=table["kpi_sales"].mask(tested)).drop(columns="facebook_lift_share"),
        data={
            "keys": [],
            "kpi": "kpi_sales",
            "channels": {"facebook": {"spend": "spend_facebook"}},
            "frequency": "daily",
            "gaps": "absent",
            "experiments": {"path": str(tmp_path / "tests.csv")},
        },
        model=replace(preset("model", "daily"), observation="ar1"),
        run={"root": str(tmp_path)},
    )
    [status] = run.status["status"]
    assert status.startswith("ok")
    [found] = run.insight.experiments().to_dict("records")
    share = {name: found[name] / (kpi - found[name]) for name in ("with_q025", "with_q975", "without_q975")}
    assert share["with_q025"] < 0.15 < share["with_q975"]
    # Without the test more is believed, and the two are said to disagree.
    assert share["without_q975"] > 0.17
    assert found["conflict"]
    if case == "negative":
        # Its returns were 1.6 all along.
        [roi] = run.roi().to_dict("records")
        assert roi["q05"] < 1.6 < roi["q95"]
