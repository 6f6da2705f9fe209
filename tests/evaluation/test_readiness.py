"""What a table can tell before any fit, against what fits then tell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixfleet as mf
from mixfleet.evaluation.readiness_parts import PARTS

FEW = {"max_draws": 1024, "ladder": False, "ess_target": 200, "ess_floor": 100, "rhat_max": 1.05}


def simulated(model: mf.Model) -> mf.simulate.Simulated:
    return mf.simulate.fleet(brands=3, markets=4, weeks=130, channels=4, seed=5, model=model)


@pytest.fixture(scope="module")
def fleet() -> mf.simulate.Simulated:
    return simulated(mf.Model())


@pytest.fixture(scope="module")
def rows(fleet: mf.simulate.Simulated) -> pd.DataFrame:
    return fleet.table.to_pandas()


def last_weeks(rows: pd.DataFrame, weeks: int, units: int = 1) -> pd.DataFrame:
    """The table with only the last weeks of the first units."""
    cut = rows["date"] >= sorted(set(rows["date"]))[-weeks]
    names = rows[["brand", "market"]].drop_duplicates().head(units)
    short = rows.merge(names, how="left", indicator=True)["_merge"].eq("both").to_numpy()
    return rows[~short | cut.to_numpy()]


@pytest.mark.parametrize(
    ("model", "least"),
    # Of Hill curves posteriors are far from normal.
    [({"saturation": "logistic", "observation": "normal"}, 0.8), ({"saturation": "logistic"}, 0.8), ({}, 0.7)],
    ids=["independent", "autocorrelated", "hill"],
)
def test_expected_deviations_rank_those_of_the_fits(
    model: dict[str, str], least: float, tmp_path: Path, usual_broadcasts: None
) -> None:
    fleet = simulated(mf.config.build(mf.Model, model))
    found = mf.readiness(fleet.table, data=fleet.data, model=model).channels.to_pandas()
    run = mf.fit(fleet.table, data=fleet.data, model=model, inference=FEW, run={"root": str(tmp_path), "id": "r"})
    both = mf.open(run.path).roi().merge(found, on=["brand", "market", "channel"], suffixes=("", "_ready"))
    assert len(both) == len(found) == 48
    assert stats.spearmanr(both["sd"], both["roi_sd"]).statistic >= least
    assert 0.8 < np.median(both["roi_sd"] / both["sd"]) < 1.3
    np.testing.assert_allclose(both["spend"], both["spend_ready"])
    assert (both["roi_sd"] <= both["prior_roi_sd"]).all()


@pytest.mark.parametrize("weeks", [8, 15, 25])
def test_short_units_are_to_be_pooled_or_to_wait(fleet: mf.simulate.Simulated, rows: pd.DataFrame, weeks: int) -> None:
    data = replace(fleet.data, min_weeks=4)
    units = mf.readiness(last_weeks(rows, weeks), data=data).table
    assert units["weeks"].iloc[0] == weeks
    assert units["verdict"].iloc[0] == "pooled"
    assert "11 other units" in units["reason"].iloc[0]
    alone = rows[(rows["brand"] == "brand_001") & (rows["market"] == "market_001")].tail(weeks)
    one = mf.readiness(alone, data=data).table.iloc[0]
    assert one["verdict"] in ("wait", "test")
    assert one["weeks_needed"] >= 52


def test_a_unit_that_is_refused_has_a_row_that_says_why(fleet: mf.simulate.Simulated, rows: pd.DataFrame) -> None:
    units = mf.readiness(last_weeks(rows, 15), data=fleet.data).table.set_index(["brand", "market"])
    assert units.loc[("brand_001", "market_001"), "verdict"] == "pooled"
    assert units.loc[("brand_001", "market_001"), "weeks_needed"] == fleet.data.min_weeks
    assert "15 of 15 periods" in units.loc[("brand_001", "market_001"), "reason"]
    assert len(units) == 12


def test_information_grows_with_the_weeks_and_shrinks_with_the_noise(
    fleet: mf.simulate.Simulated, rows: pd.DataFrame
) -> None:
    half = mf.readiness(last_weeks(rows, 65, units=12), data=fleet.data).table["left"]
    whole = mf.readiness(rows, data=fleet.data).table["left"]
    assert (half > whole).mean() > 0.8
    loud = rows.assign(kpi=rows["kpi"] * np.random.default_rng(2).lognormal(0.0, 0.5, len(rows)))
    assert (mf.readiness(loud, data=fleet.data).table["left"] > whole).all()


@pytest.mark.parametrize("part", ["overlap", "variation", "breaks", "outliers", "calendar"])
def test_each_part_sees_its_fault(fleet: mf.simulate.Simulated, rows: pd.DataFrame, part: str) -> None:
    rows = rows.query("brand == 'brand_001'").reset_index(drop=True)
    random, spends = np.random.default_rng(3), [channel.spend for channel in fleet.data.channels]
    hurt = rows.copy()
    if part == "overlap":
        for name in spends[1:]:
            hurt[name] = rows[spends[0]] * random.lognormal(0.0, 0.02, len(rows))
    elif part == "variation":
        for name in spends:
            hurt[name] = rows[name].mean() * random.lognormal(0.0, 0.05, len(rows))
    elif part == "breaks":
        late = rows.groupby("market").cumcount() >= 65
        hurt["kpi"] = rows["kpi"] + late * 6 * rows["kpi"].std()
        hurt.loc[rows.groupby("market").cumcount() >= 90, "kpi"] = rows["kpi"]
    elif part == "outliers":
        at = random.choice(len(rows), len(rows) // 20, replace=False)
        hurt.loc[at, "kpi"] = 6.0 * rows["kpi"].iloc[at]
    else:
        hurt = rows.drop(index=rows.index[rows.groupby("market").cumcount().isin(range(40, 60))])
    before, after = (mf.readiness(table, data=replace(fleet.data, gaps="absent")).table for table in (rows, hurt))
    fell = before[list(PARTS)].mean() - after[list(PARTS)].mean()
    assert fell[part] > 0.1
    assert after["score"].mean() < before["score"].mean() - 2
