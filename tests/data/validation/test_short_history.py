"""Units of few weeks or none: refused alone, taken into a group, and measured by it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixfleet.config import Data, Pooling, Spec
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.models.batch import FAINT, prepare
from mixfleet.simulation import fleet as simulate

BRAND = Pooling(by="brand")
PLANNED = 20


@pytest.fixture(scope="module")
def fleet() -> simulate.Simulated:
    """Two brands in three markets, of one size in every market."""
    return simulate.fleet(brands=2, markets=3, weeks=60, channels=2, controls=1, truth="fixed")


def table(fleet: simulate.Simulated, weeks: int) -> pd.DataFrame:
    """The fleet, its first unit with a KPI in so few weeks only, or with planned weeks where there are none."""
    frame = fleet.table.to_pandas()
    own = frame.index[(frame["brand"] == "brand_001") & (frame["market"] == "market_001")]
    frame = frame.drop(own[: -(weeks or PLANNED)])
    if not weeks:
        frame.loc[own[-PLANNED:], "kpi"] = np.nan
    return frame


def read(frame: pd.DataFrame, data: Data, pooling: Pooling = BRAND, **changes: Any) -> Panel:
    return read_panel(frame, replace(data, min_weeks=0, **changes), pooling=pooling)


def new_unit(panel: Panel) -> Unit:
    assert not panel.rejected
    return panel.units[0]


@pytest.mark.parametrize("weeks", [0, 3])
def test_alone_it_is_refused_with_the_remedy(fleet: simulate.Simulated, weeks: int) -> None:
    panel = read(table(fleet, weeks), fleet.data, Pooling())
    [refused] = panel.rejected
    assert refused.labels == ("brand_001", "market_001")
    assert "pooling.by" in refused.reason
    assert "min_weeks" in refused.reason


@pytest.mark.parametrize("weeks", [0, 3, 20])
def test_pooled_it_is_refused_only_below_min_weeks(fleet: simulate.Simulated, weeks: int) -> None:
    refused = read_panel(table(fleet, weeks), fleet.data, pooling=BRAND).rejected
    assert [one.labels for one in refused] == [("brand_001", "market_001")]
    assert not read(table(fleet, weeks), fleet.data).rejected


def test_a_group_without_two_others_lends_nothing(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0)
    frame = frame[(frame["brand"] == "brand_002") | (frame["market"] != "market_002")]
    [refused] = read(frame, fleet.data).rejected
    assert "1 unit of its group" in refused.reason
    assert not read(frame, fleet.data, Pooling(by="crossed")).rejected


def test_a_single_planned_week_is_refused(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0)
    [refused] = read(frame.drop(frame.index[: PLANNED - 1]), fleet.data).rejected
    assert "single row" in refused.reason


def test_weeks_to_come_without_a_kpi_are_planned(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0)
    today = np.datetime64(frame["date"].iloc[0]) - 1
    panel = read_panel(frame.iloc[:PLANNED], replace(fleet.data, min_weeks=0), pooling=BRAND, today=today)
    assert "date_future" not in {finding.rule for finding in panel.findings}


def peaks(frame: pd.DataFrame) -> pd.Series:
    others = frame[(frame["brand"] == "brand_001") & (frame["market"] != "market_001")]
    return others.groupby("market")["kpi"].agg(lambda kpi: kpi.abs().max())


def test_the_scale_is_the_groups_median_by_the_best_yardstick(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0)
    assert new_unit(read(frame, fleet.data)).kpi_scale == pytest.approx(peaks(frame).median())
    size = {"market_001": 7.0, "market_002": 2.0, "market_003": 3.0}
    frame["people"] = frame["market"].map(size)
    per_head = np.median([peak / size[market] for market, peak in peaks(frame).items()])
    lent = new_unit(read(frame, fleet.data, population="people"))
    assert lent.kpi_scale == pytest.approx(7 * per_head)
    assert "is a guess, its group's median by population" in lent.warnings[0].message
    frame = table(fleet, 3)
    means = frame[(frame["brand"] == "brand_001")].groupby("market")["kpi"].mean()
    above = np.median([peak / means[market] for market, peak in peaks(frame).items()])  # pyright: ignore[reportCallIssue]
    assert new_unit(read(frame, fleet.data)).kpi_scale == pytest.approx(means["market_001"] * above)  # pyright: ignore[reportCallIssue]


def test_a_prescribed_scale_is_no_guess(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0).assign(size=1234.0)
    unit = new_unit(read(frame, fleet.data, kpi_scale="size"))
    assert unit.kpi_scale == 1234.0
    [warning] = unit.warnings
    assert "its group's prediction" in warning.message
    assert "guess" not in warning.message


@pytest.mark.parametrize("weeks", [4, 20])
def test_with_more_weeks_its_own_scale_counts(fleet: simulate.Simulated, weeks: int) -> None:
    assert new_unit(read(table(fleet, weeks), fleet.data)).kpi_scale is None


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("changes", [{}, {"effect": None}])
def test_a_unit_without_weeks_is_prepared(fleet: simulate.Simulated, changes: dict[str, Any], held_out: bool) -> None:
    """By planned rows without a KPI, or by rows that are all held out."""
    frame = table(fleet, PLANNED if held_out else 0)
    pooling = replace(BRAND, **changes)
    panel = read(frame, fleet.data, pooling, holdout=PLANNED if held_out else None)
    spec = Spec(data=panel.data, pooling=pooling)
    member = prepare(panel.units[0], panel, spec)
    assert not member.fitted.any()
    assert member.contribution_weeks.all()
    assert member.scale.trend_weeks == PLANNED
    np.testing.assert_allclose(member.design[[0, -1], 1], [-0.5, 0.5])
    arrays = member.arrays
    assert all(np.all(np.isfinite(values)) for values in arrays.values())
    assert np.all(arrays["weight"][:PLANNED] == FAINT)
    assert not any(arrays[name].any() for name in ("basis", "variance", "kpi"))
    np.testing.assert_array_equal(arrays["active"], 1.0)
    np.testing.assert_allclose(arrays["media"].max(axis=0), 1.0)
    # The loading is what the prior says of the coefficients.
    sd = [spec.prior.distribution(structure, unit={}).hyperparameters["sd"] for structure in ("intercept", "trend")]
    np.testing.assert_allclose(np.linalg.norm(member.loading[:2], axis=1), sd)


def test_plans_do_not_stretch_the_groups_calendar(fleet: simulate.Simulated) -> None:
    frame = table(fleet, 0)
    own = frame["kpi"].isna()
    frame.loc[own, "date"] += pd.Timedelta(weeks=26)
    panel = read_panel(frame, replace(fleet.data, min_weeks=0), pooling=BRAND, today=np.datetime64("2030-01-01"))
    spec = Spec(data=panel.data, pooling=BRAND)
    label, units = groups_of(panel, spec)[0]
    group = prepared(label, units, panel, spec)
    row = group.shared.parameters.index("trend")
    first, last = units[1].dates[[0, -1]]
    for member, loading in zip(group.members, group.shared.loadings, strict=True):
        calendar = (member.unit.dates - first) / (last - first) - 0.5
        np.testing.assert_allclose(member.design @ loading[:, row], calendar, atol=1e-12)
