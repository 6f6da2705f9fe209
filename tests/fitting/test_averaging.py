"""Averaging: one run per structure, and a run of their average that agrees with them and with itself."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mixfleet as mf
from mixfleet.config import Model, RunConfig, Spec
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from tests.support.quick import ragged_fleet, settings, with_units

MODEL = Model(
    saturation="logistic",
    structures=({"observation": "normal"}, {"saturation": "michaelis_menten"}),  # pyright: ignore[reportArgumentType]
)
NAMES = "geometric, logistic, normal", "geometric, michaelis_menten, ar1"
PANEL = with_units(ragged_fleet(), ragged_fleet().units[:3])
KEYS = ["brand", "market"]


def averaged_spec(root: Path, name: str = "night") -> Spec:
    return replace(settings(PANEL.data), model=MODEL, run=RunConfig(root=str(root), id=name))


pytestmark = pytest.mark.usefixtures("usual_broadcasts")


@pytest.fixture(scope="module")
def run(usual_broadcasts: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return execute(PANEL, averaged_spec(tmp_path_factory.mktemp("averaged")), fit_units)


def alone(run: Run) -> list[Run]:
    return [mf.open(f"{run.path}.structures/{name.replace(', ', '-')}") for name in NAMES]


def test_every_structure_is_a_run_of_its_own(run: Run) -> None:
    table = run.structures()
    weights = table.drop_duplicates([*KEYS, "structure"]).groupby(KEYS)["weight"].sum()
    np.testing.assert_allclose(weights, 1.0)
    for own, structure in zip(alone(run), run.structures()["structure"].unique(), strict=True):
        said = table[table["structure"] == structure].reset_index(drop=True)
        pd.testing.assert_series_equal(own.roi()["q50"], said["q50"])
        assert set(said["fitted"]) <= set(own.status["status"])


def test_the_average_is_the_weighted_mean_of_the_structures(run: Run) -> None:
    table, roi = run.structures(), run.roi().set_index([*KEYS, "channel"])
    mean = (table["mean"] * table["weight"]).groupby([table[key] for key in (*KEYS, "channel")]).sum()
    spread = table.groupby([*KEYS, "channel"])["sd"].max()
    np.testing.assert_array_less(np.abs(roi["mean"] - mean.reindex(roi.index)), 0.1 * spread.reindex(roi.index))
    draws = run.unit(*PANEL.units[0].labels).draws().draws
    counts = np.bincount(draws["structure"][0, :, 0].astype(int), minlength=2)
    own = table[(table[KEYS] == list(PANEL.units[0].labels)).all(axis=1)].drop_duplicates("structure")["weight"]
    np.testing.assert_allclose(counts / counts.sum(), own, atol=1 / counts.sum())


def test_the_report_tells_each_structure_and_what_would_turn_a_verdict(run: Run, tmp_path: Path) -> None:
    page = run.report(tmp_path / "report.html").read_text("utf-8")
    pieces = {name: json.loads(text) for name, text in re.findall(r'id="((?:fleet|unit-)\w*)">(.*?)</script>', page)}
    table, turned = run.structures(), run.insight.confounding()
    for place, labels in enumerate(run.status[KEYS].itertuples(index=False)):
        unit = pieces[f"unit-{place}"]
        own = table[(table[KEYS] == list(labels)).all(axis=1)].set_index(["structure", "channel"])
        for name, weight, said in unit["structures"]:
            assert weight == pytest.approx(own.loc[name]["weight"].iloc[0], rel=1e-3)
            for channel, interval in said.items():
                assert interval == pytest.approx(own.loc[(name, channel), ["mean", "q05", "q95"]].tolist(), rel=1e-3)
        for row in turned[(turned[KEYS] == list(labels)).all(axis=1)].itertuples():
            verdict, correlation = unit["channels"][row.channel]["turned"]
            assert (verdict, correlation) == (row.verdict, pytest.approx(row.correlation, rel=1e-3))
    shown, by_unit = dict(pieces["fleet"]["structures"]), table.drop_duplicates([*KEYS, "structure"])
    assert shown == pytest.approx(by_unit.groupby("structure")["weight"].mean().to_dict())


def test_insight_forecasts_and_plans_carry_it(run: Run) -> None:
    found = run.insight.roi()
    merged = run.roi().merge(found, on=[*KEYS, "channel"])
    np.testing.assert_allclose(merged["mean_x"], merged["mean_y"], rtol=1e-5)
    assert np.isfinite(run.insight.forecast(weeks=4, by=())["mean"]).all()
    assert np.isfinite(run.insight.shapes().query("measure == 'half_saturation'")["mean"]).all()
    assert run.budget().totals["gain"]["mean"] >= 0
    assert "structures" in run.insight.everything()


def test_what_was_interrupted_goes_on_to_the_same_result(run: Run, tmp_path: Path) -> None:
    spec = averaged_spec(tmp_path)
    count = 0

    def stopping(panel, spec, *, skip, on_event):
        nonlocal count
        for result in fit_units(panel, spec, skip=skip, on_event=on_event):
            count += 1
            if count == 5:
                raise KeyboardInterrupt
            yield result

    with pytest.raises(KeyboardInterrupt):
        execute(PANEL, spec, stopping)
    again = execute(PANEL, spec, fit_units)
    assert again.manifest["result_sha256"] == run.manifest["result_sha256"]


@pytest.mark.parametrize("became", ["quarantined", "failed"])
def test_a_structure_without_a_certified_fit_is_left_out(tmp_path: Path, became: str) -> None:
    spec = averaged_spec(tmp_path)

    def one_fails(panel, spec, *, skip, on_event):
        for result in fit_units(panel, spec, skip=skip, on_event=on_event):
            if spec.model.saturation == "logistic" and result.labels == PANEL.units[0].labels:
                # Of a fit that failed there is nothing, not even of parameters that this structure alone has.
                gone = () if became == "quarantined" else ("tables", "draws", "dims", "coords")
                nothing = {name: {} for name in gone}
                yield replace(result, status=became, reason="R-hat is 2", **nothing)
            else:
                yield replace(result, status="ok", reason="")

    run = execute(PANEL, spec, one_fails)
    table = run.structures()
    own = table[(table[KEYS] == list(PANEL.units[0].labels)).all(axis=1)].drop_duplicates("structure")
    np.testing.assert_array_equal(own["weight"], [0.0, 1.0])
    status = run.status.set_index(KEYS).loc[PANEL.units[0].labels]
    assert status["status"] in ("ok_warn", "misfit")
    assert "geometric, logistic, normal is left out: R-hat is 2" in status["reason"]


def test_structures_may_differ_in_their_noise(run: Run) -> None:
    draws = run.unit(*PANEL.units[0].labels).draws().draws
    lasts, place = draws["autocorrelation"][0], draws["structure"][0, :, 0]
    assert not lasts[place == 0].any()
    assert np.all(lasts[place == 1] != 0)
    params = run.params()
    said = params[(params[KEYS] == list(PANEL.units[0].labels)).all(axis=1)].set_index("parameter")
    assert said.loc["autocorrelation", "mean"] == pytest.approx(lasts.mean(), rel=1e-4)
    assert set(run.checks()["kind"]) >= {"autocorrelation", "decisive_week", "forecast"}


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (
            "model.observation",
            {"model": {"observation": "normal", "structures": [{"observation": "ar1"}, {"observation": "normal"}]}},
        ),
        ("model.structures", {"model": {"observation": "ar1", "structures": [{"observation": "ar1"}, {}]}}),
        ("model.structures", {"model": {"structures": [{"saturation": "hill"}]}}),
        ("model.structures", {"model": {"structures": [{"saturation": "hill"}, {"adstock": "geometric"}]}}),
        ("pooling.by", {"pooling": {"by": "brand"}, "data": {"keys": ["brand"]}}),
        ("compute.shard", {"compute": {"shard": "0/2"}}),
        ("run.base", {"run": {"base": "before"}}),
    ],
)
def test_what_cannot_be_averaged_is_refused(key: str, change: dict) -> None:
    structures = {"model": {"structures": [{"saturation": "logistic"}, {"saturation": "hill"}]}}
    with pytest.raises(ConfigError) as caught:
        mf.config.build(Spec, {**structures, **change})
    assert key in str(caught.value)


def test_only_a_fit_averages() -> None:
    with pytest.raises(ConfigError, match="only a fit averages structures"):
        mf.simulate.fleet(model=MODEL)
