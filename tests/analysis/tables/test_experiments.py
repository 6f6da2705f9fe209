"""Lift tests beside the model: against brute force over a unit's whole media, and a posterior in closed form."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from mixfleet.analysis.tables.experiments import _row
from mixfleet.config import Model, Pooling
from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from mixfleet.simulation.truth import saturated_adstock
from tests.reporting.test_html import Page
from tests.support.lift_tests import day, with_tests
from tests.support.saved_run import panel, saved_run

WINDOW = 5
FIRST, LAST = 20, 23


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = panel()
    row = {"brand": "acme", "market": "DE", "start": day(made, FIRST), "end": day(made, LAST, 6)}
    rows = [
        {**row, "test": "dark", "channel": "tv", "factor": 0, "revenue": -50_000.0, "se": 8000.0, "bias_sd": 6000.0},
        {**row, "test": "more", "channel": "search", "spend_control": 0.0, "roi": 2.0, "se": 0.5},
    ]
    return saved_run(
        tmp_path_factory.mktemp("runs"), Model(window=WINDOW), of=with_tests(made, rows, window=WINDOW), draws=200
    )


def lifts(run: Run, unit: Unit, channel: int) -> np.ndarray:
    """Money that the channel's media of those weeks brought by draw, whenever it came."""
    model, scale = run.fleet().spec.model, measure(unit, likelihood_weeks(unit, window=WINDOW, holdout=0))
    draws = {
        name: values.reshape(-1, *values.shape[2:]).astype(float)
        for name, values in run.unit(*unit.labels).draws().draws.items()
    }
    media = np.concatenate([unit.media, np.zeros((WINDOW, unit.media.shape[1]))]) / scale.media
    dark = media.copy()
    dark[FIRST : LAST + 1, channel] = 0.0
    value = np.concatenate([unit.value_per_kpi, np.zeros(WINDOW)])
    found = []
    for draw in range(len(draws["noise"])):
        own = {
            name: draws[name][draw] / scale.media ** MEDIA_POWERS.get(name, 0) for name in model.channel_parameters[:-1]
        }
        lost = saturated_adstock(media, own, model) - saturated_adstock(dark, own, model)
        found.append(value @ lost[:, channel] * draws["effect"][draw, channel])
    return np.array(found)


def test_the_models_lift_is_the_whole_paths_with_the_media_less_without(run: Run):
    table = run.insight.experiments().set_index("test")
    unit = run.fleet().units[0]
    dark, more = lifts(run, unit, 0), lifts(run, unit, 1)
    np.testing.assert_allclose(table.loc["dark", "with_mean"], -dark.mean(), rtol=1e-6)
    np.testing.assert_allclose(table.loc["dark", "sd"], 10_000.0)
    spent = unit.spend[FIRST : LAST + 1, 1].sum()
    np.testing.assert_allclose(table.loc["more", "with_mean"], more.mean() / spent, rtol=1e-6)
    returns = run.insight.roi().set_index(["brand", "market", "channel"])
    assert abs(table.loc["more", "roi_with"] / returns.loc[(*unit.labels, "search"), "mean"] - 1) < 0.05


def test_a_test_of_several_units_is_one_row_of_their_sum(tmp_path: Path):
    made = panel()
    row = {"brand": "acme", "market": "*", "test": "all", "channel": "tv", "start": day(made, FIRST)}
    row |= {"end": day(made, LAST, 6), "factor": 0, "revenue": -80_000.0, "se": 9000.0}
    told = with_tests(made, [row], window=WINDOW, pooling=Pooling(by="brand"))
    tested = [unit for unit in told.units if unit.experiments]
    assert [unit.labels for unit in tested] == [("acme", "DE"), ("acme", "FR")]
    run = saved_run(tmp_path, Model(window=WINDOW), of=told, draws=200)
    [found] = run.insight.experiments().to_dict("records")
    assert (found["brand"], found["market"], found["status"]) == ("acme", "*", "ok; ok_warn")
    together = sum(-lifts(run, unit, 0) for unit in tested)
    np.testing.assert_allclose(found["with_mean"], np.mean(together), rtol=1e-6)
    np.testing.assert_allclose([found["estimate"], found["sd"]], [-80_000.0, 9000.0])
    # A conflict is one of each unit that took part.
    if found["conflict"]:
        remarks = [remark.unit for remark in run.summary().remarks if remark.kind == "experiment"]
        assert sorted(remarks) == [("acme", "DE"), ("acme", "FR")]


def test_without_a_test_is_the_posterior_of_everything_else():
    """A normal prior and a normal measurement: posterior draws, weighed back to the prior."""
    random = np.random.default_rng(1)
    prior_sd, sd, estimate = 1.0, 1.5, 1.2
    precision = 1 / prior_sd**2 + 1 / sd**2
    lift = random.normal(estimate / sd**2 / precision, precision**-0.5, 40_000)
    path = np.ones((1, 1))
    test = Experiment(
        **{"name": "t", "channels": ("tv",), "start": "", "end": "", "places": (0,), "measure": "roi"},
        **{"test": path, "control": 0 * path, "worth": np.ones(1)},
        **{"given": estimate / 4, "given_se": 0.8 * sd / 4, "bias_sd": 0.6 * sd / 4, "per": 4.0},
    )
    row = _row(test, lift, 10 * lift[None], np.array([5.0]))
    assert abs(row["without_mean"]) < 0.02
    np.testing.assert_allclose([row["without_q025"], row["without_q975"]], [-1.96 / 4, 1.96 / 4], atol=0.03)
    spread = np.hypot(prior_sd, sd)
    expected = [-1.96 * spread / 4, 1.96 * spread / 4]
    np.testing.assert_allclose([row["expected_q025"], row["expected_q975"]], expected, atol=0.03)
    assert abs(row["tail"] - 2 * norm.sf(estimate / spread)) < 0.02
    np.testing.assert_allclose([row["roi_with"], row["roi_without"]], [2 * lift.mean(), 0.0], atol=0.05)
    assert (row["k_hat"] < 0.7, row["conflict"], row["statement"][:6]) == (True, False, "agrees")


def test_a_test_that_outweighs_all_else_says_so_and_a_conflict_is_named():
    random = np.random.default_rng(2)
    path = np.ones((1, 1))
    test = Experiment(
        **{"name": "t", "channels": ("tv",), "start": "", "end": "", "places": (0,), "measure": "lift"},
        **{"test": path, "control": 0 * path, "worth": np.ones(1)},
        **{"given": 8.0, "given_se": 2.0, "bias_sd": 0.0, "per": 1.0},
    )
    # The posterior of lift ~ N(0, 1) and this test; then one that the test alone has made.
    apart = _row(test, random.normal(1.6, 0.8**0.5, 20_000), np.zeros((1, 20_000)), np.zeros(1))
    assert apart["conflict"]
    assert "at odds" in apart["statement"]
    assert np.isnan(apart["roi_with"])
    alone = _row(test, random.normal(8.0, 2.0, 20_000), np.zeros((1, 20_000)), np.zeros(1))
    assert alone["k_hat"] > 0.7
    assert "fit without it to know" in alone["statement"]


def test_report_and_export_hold_the_tests(run: Run, tmp_path: Path):
    table = run.insight.everything()["experiments"]
    assert table["test"].to_pylist() == ["dark", "more"]
    fleet = json.loads(Page(run.report(tmp_path / "report.html").read_text("utf-8")).pieces["fleet"])
    assert [row[1] for row in fleet["tests"]] == ["dark", "more"]
    assert any("lift test" in remark["text"] for remark in fleet["remarks"]) == any(table["conflict"].to_pylist())
    assert run.manifest["experiments"]["tests"] == 2
    assert run.manifest["experiments"]["sha256"]


def test_a_run_without_tests_says_so(tmp_path: Path):
    insight = saved_run(tmp_path, Model(window=WINDOW)).insight
    with pytest.raises(ConfigError, match=r"data\.experiments"):
        insight.experiments()
    assert "experiments" not in insight.everything()


def test_other_tests_are_another_run(run: Run, tmp_path: Path):
    made = panel()
    saved_run(tmp_path, Model(window=WINDOW), of=made)
    row = {"brand": "acme", "market": "DE", "start": day(made, 2), "end": day(made, 3, 6), "channel": "tv", "factor": 2}
    other = with_tests(made, [{**row, "lift": 10.0, "se": 5.0}], window=WINDOW)
    with pytest.raises(Exception, match="the data differ"):
        saved_run(tmp_path, Model(window=WINDOW), of=replace(other, findings=()))
