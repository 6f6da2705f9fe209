"""A unit without weeks has its group's prediction, more weeks narrow it, and the widths are honest."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from mixfleet.api import budget, fit
from mixfleet.config import Inference, Pooling, Prior, RunConfig, Spec
from mixfleet.config.measures import On
from mixfleet.data.panel import read_panel
from mixfleet.evaluation import sbc
from mixfleet.evaluation.sbc import calibrate
from mixfleet.fitting.driver import fit_units
from mixfleet.hierarchy.sampler import FinishedGroup
from mixfleet.inference.diagnostics import diagnose
from mixfleet.models.priors.families import FAMILIES
from mixfleet.run import Run
from mixfleet.simulation import fleet as simulate
from tests.calibration.test_sbc import POOLED, worst

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

BRAND = Pooling(by="brand")
QUICK = Inference(chains=4, ess_target=400, ess_floor=200, rhat_max=1.03, max_draws=2048)
THOROUGH = replace(QUICK, ess_target=1000, ess_floor=1000, max_draws=4096)
"""What a ratio of variances takes to be known to a tenth."""
HELD_OUT = 26
EFFECTS = Prior(on=On(media="effect", organic="effect"))
"""Of truths and of fits: the widths of one fleet are told apart here, and draws hold effects."""
SEEN = (0, 3, 5, 10, 20)


@cache
def markets(brands: int = 1, markets: int = 6) -> simulate.Simulated:
    return simulate.fleet(
        brands=brands, markets=markets, weeks=80, channels=2, controls=1, seed=3, prior=EFFECTS, pooling=BRAND
    )


def is_new(frame: pd.DataFrame) -> pd.Series:
    return frame["market"] == "market_001"


def planned(fleet: simulate.Simulated) -> pd.DataFrame:
    """The table with no KPI in each brand's first market."""
    frame = fleet.table.to_pandas()
    return frame.assign(kpi=frame["kpi"].mask(is_new(frame)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same six markets as a brand for each of `SEEN`, whose first market has so many weeks before the holdout."""
    frame = markets().table.to_pandas()
    last = frame["date"].drop_duplicates().sort_values()
    brands = []
    for seen in SEEN:
        late = frame["date"] >= last.iloc[-HELD_OUT - seen]
        brands.append(frame[late | ~is_new(frame)].assign(brand=f"{seen:02d} weeks"))
    data = replace(markets().data, min_weeks=0, holdout=HELD_OUT)
    place = RunConfig(root=str(tmp_path_factory.mktemp("new")), id="r")
    return fit(pd.concat(brands), Spec(data=data, prior=EFFECTS, pooling=BRAND, inference=THOROUGH, run=place))


def new_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table[is_new(table)].sort_values("brand")  # pyright: ignore[reportCallIssue]


@pytest.mark.slow
@pytest.mark.nightly
def test_few_weeks_are_certified_with_a_warning(run: Run) -> None:
    status = new_rows(run.status)
    assert set(status["status"]) == {"ok_warn"}
    reasons = status["reason"].tolist()
    assert "no periods of KPI" in reasons[0]
    assert "3 periods of KPI" in reasons[1]
    assert not any("group's prediction" in reason for reason in reasons[2:])
    assert not run.status["reason"].str.contains("guess").any()


@pytest.mark.slow
@pytest.mark.nightly
def test_more_weeks_narrow_predictions_and_returns(run: Run) -> None:
    weekly = new_rows(run.weekly())
    weekly = weekly[weekly["date"].isin(sorted(weekly["date"].unique())[-HELD_OUT:])]
    widths = (weekly["q95"] - weekly["q05"]).groupby(weekly["brand"]).mean()
    assert widths["00 weeks"] > widths["05 weeks"] > widths["20 weeks"]  # pyright: ignore[reportCallIssue]
    # Of a channel that the group's markets tell apart, relative to its size: returns are of the weeks seen.
    params = new_rows(run.params()).query("parameter == 'effect'")
    spread = (params["sd"] / params["mean"]).groupby(params["brand"]).mean()
    assert spread["00 weeks"] > spread["20 weeks"]  # pyright: ignore[reportCallIssue]
    roi = new_rows(run.roi())
    assert set(roi["brand"]) == set(weekly["brand"])
    assert np.all(roi["spend"] > 0)


@pytest.mark.slow
@pytest.mark.nightly
def test_what_is_not_known_is_not_said(run: Run) -> None:
    quality = new_rows(run.fit_quality()).iloc[0]
    assert np.isnan(quality["r2"])
    assert quality["holdout_coverage90"] > 0.5
    shares = new_rows(run.contributions()).query("brand == '00 weeks'")
    # Of the KPI of the held-out weeks, over which contributions are told.
    assert shares["share"].notna().all()
    assert shares["mean"].notna().all()
    own = run.insight.pooling().query("brand == '00 weeks' and market == 'market_001' and source == 'unit'")
    assert own["borrowed"].min() > 0.85


def test_a_table_of_plans_goes_all_the_way(tmp_path: Path) -> None:
    """Forecast, insight, report, export and budget with a market that has no KPI at all, and no scale of its own."""
    frame = planned(markets()).drop(columns="kpi_scale")
    data = replace(markets().data, min_weeks=0, kpi_scale=None)
    made = fit(frame, Spec(data=data, pooling=BRAND, inference=QUICK, run=RunConfig(root=str(tmp_path), id="r")))
    first = made.status.iloc[0]
    assert first["status"] == "ok_warn"
    assert "is a guess" in first["reason"]
    assert new_rows(made.roi())["mean"].gt(0).all()
    weekly = new_rows(made.weekly())
    assert not weekly["observed"].any()
    assert (weekly["q05"] < weekly["mean"]).all()
    ahead = new_rows(made.insight.forecast(weeks=4)).query("component == 'kpi'")
    assert ahead["q95"].iloc[0] > ahead["q05"].iloc[0]
    # The same scale as the fit's: a week more of the plan goes on where its last week stood.
    assert abs(ahead["mean"].iloc[0] / 4 / weekly["mean"].mean() - 1) < 1
    assert is_new(made.insight.returns()).sum() == 0
    assert new_rows(made.insight.checks()).empty
    assert made.report().is_file()
    assert made.export(tmp_path / "tables")
    assert is_new(budget(made).table()).any()


@pytest.mark.slow
@pytest.mark.nightly
def test_without_weeks_parameters_are_drawn_from_the_group() -> None:
    """Mean and variance of a pooled parameter are those of centre plus deviation, within Monte Carlo error."""
    data = replace(markets().data, min_weeks=0)
    inference = replace(QUICK, max_draws=4000, ess_floor=1500, ess_target=1500)
    # What the draws hold of a channel's strength is its effect.
    spec = Spec(data=data, prior=EFFECTS, pooling=BRAND, inference=inference)
    panel = read_panel(planned(markets()), data, pooling=BRAND)
    found: list[FinishedGroup] = []
    list(fit_units(panel, spec, on_group=found.append))
    [finished] = found
    unit, pool = finished.finished(0), finished.group.pool
    assert unit.job.member.unit.labels == ("brand_001", "market_001")
    values = np.concatenate([np.asarray(unit.draws.shape, float), np.asarray(unit.draws.effect, float)[None]])
    distribution = unit.job.member.arrays["hyper"]
    theta = np.concatenate(
        [
            FAMILIES[pool.structure.families[j]].unconstrain(values[j], distribution[:, own, None, None])
            for j, _, own in pool.slices()
        ]
    )
    centre, spread = np.asarray(finished.hyper.draws[:2, : len(theta)], float)
    # What is left of the unit's parameter is its deviation, a standard normal whatever the hyperparameters are.
    deviation = (theta - centre) / spread
    for power, moment in ((1, 0.0), (2, 1.0)):
        draws = deviation**power
        with jax.enable_x64(True):
            effective = np.asarray(diagnose(jnp.asarray(draws), np.int32(draws.shape[1])).ess_bulk)
        error = draws.std(axis=(1, 2)) / np.sqrt(effective)
        assert np.all(np.abs(draws.mean(axis=(1, 2)) - moment) < 4 * error), (power, draws.mean(axis=(1, 2)), error)


@pytest.mark.slow
@pytest.mark.nightly
def test_predictions_of_units_without_weeks_cover(tmp_path: Path) -> None:
    """Weeks of a unit err together: of 16 units with a coverage between none and all few are needed to tell."""
    fleet = markets(brands=16, markets=4)
    spec = Spec(data=replace(fleet.data, min_weeks=0), pooling=BRAND, inference=replace(QUICK, ladder=False))
    made = fit(planned(fleet), replace(spec, run=RunConfig(root=str(tmp_path), id="r")))
    expected = new_rows(made.weekly()).drop(columns="kpi")
    came = fleet.table.to_pandas().merge(expected, on=["brand", "market", "date"])
    inside = (came["kpi"] >= came["q05"]) & (came["kpi"] <= came["q95"])
    by_unit = inside.groupby(came["brand"]).mean()
    assert len(by_unit) == 16
    assert 0.78 < by_unit.mean() < 0.99, by_unit


@pytest.mark.slow
@pytest.mark.nightly
def test_ranks_in_groups_with_a_unit_without_weeks_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit of a group that is ranked is the first, which has none."""
    usual = simulate.from_config

    def without(*arguments: Any) -> simulate.Simulated:
        fleet = usual(*arguments)
        return replace(fleet, table=planned(fleet), data=replace(fleet.data, min_weeks=0))

    monkeypatch.setattr(sbc.simulate, "from_config", without)
    found = calibrate(POOLED)
    assert found.statuses.get("rejected", 0) == 0
    assert found.passed, worst(found)
