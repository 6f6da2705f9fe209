"""Scores against their definitions, and those of groups of units against sums made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.analysis.aggregate import totals
from mixfleet.analysis.periods import read_period
from mixfleet.config import Model
from mixfleet.data.panel import Panel
from mixfleet.posterior.scores import SCORES, scores
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

HOLDOUT = 6


def held_out() -> Panel:
    plain = panel()
    return replace(plain, data=replace(plain.data, holdout=HOLDOUT))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5, observation="normal"), of=held_out(), draws=100)


def test_scores_are_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    kpi, draws = rng.gamma(4.0, 10.0, 30), rng.gamma(4.0, 10.0, (30, 200))
    kpi[3] = 0.0
    mean = draws.mean(axis=1)
    found = {name: float(values[0]) for name, values in scores(kpi, mean, np.sort(draws) - mean[:, None]).items()}
    error = np.abs(kpi - mean)
    some = np.arange(30) != 3
    apart = np.abs(draws[:, :, None] - draws[:, None]).mean(axis=(1, 2))
    assert found["r2"] == pytest.approx(1 - np.sum(error**2) / np.sum((kpi - kpi.mean()) ** 2))
    assert found["mape"] == pytest.approx(np.mean(error[some] / kpi[some]))
    assert found["wmape"] == pytest.approx(error.sum() / kpi.sum())
    assert found["crps"] == pytest.approx(np.mean(np.abs(draws - kpi[:, None]).mean(axis=1) - apart / 2))
    inside = (kpi >= np.quantile(draws, 0.05, axis=1)) & (kpi <= np.quantile(draws, 0.95, axis=1))
    assert found["coverage90"] == pytest.approx(inside.mean(), abs=2 / 30)
    assert all(np.isnan(values[0]) for values in scores(kpi[:0], mean[:0], draws[:0]).values())


def test_seen_and_held_out_weeks_are_all_weeks_that_count(run: Run) -> None:
    fleet = run.fleet()
    seen, held = fleet.seen(), fleet.held_out()
    for place, unit in enumerate(fleet.units):
        both = [part.counted(part.units[place]) for part in (seen, held)]
        np.testing.assert_array_equal(both[0] | both[1], fleet.counted(unit))
        assert not np.any(both[0] & both[1])
        assert both[1].sum() == HOLDOUT


@pytest.mark.parametrize("by", ["brand", ()])
def test_a_group_is_judged_by_the_sum_of_its_certified_units(run: Run, by: object) -> None:
    table = run.insight.fit(by=by)
    own = (table[table.brand == "acme"] if by else table).iloc[0]
    chosen = [("acme", "DE"), ("acme", "FR")] + ([] if by else [("bolt", "DE")])
    assert own.units == len(chosen)
    for prefix, fleet in (("", run.fleet().seen()), ("holdout_", run.fleet().held_out())):
        windows = read_period("week", [unit.dates for unit in fleet.units])
        found = dict(zip([unit.labels for unit in fleet.units], totals(fleet, windows, returns=False), strict=True))
        kpi = sum(found[labels].kpi for labels in chosen)
        mean = sum(found[labels].contribution.sum(axis=1) for labels in chosen).mean(axis=-1)
        there = sum(found[labels].weeks for labels in chosen) > 0
        error, cut = np.abs(kpi - mean)[there], kpi[there]
        assert own[f"{prefix}wmape"] == pytest.approx(error.sum() / cut.sum())
        assert own[f"{prefix}r2"] == pytest.approx(1 - np.sum(error**2) / np.sum((cut - cut.mean()) ** 2))
    assert set(table.columns) >= {f"holdout_{name}" for name in SCORES}


def test_a_group_that_holds_no_certified_unit_has_no_scores(run: Run) -> None:
    table = run.insight.fit(by="brand").set_index("brand")
    assert table.loc["core", list(SCORES)].isna().all()
    assert table.loc["core", "excluded"] == 2


def test_without_a_holdout_there_is_none(tmp_path: Path) -> None:
    table = saved_run(tmp_path, Model(window=5)).insight.fit(by=())
    assert not [name for name in table.columns if name.startswith("holdout")]
    assert np.isfinite(table.loc[0, list(SCORES)].astype(float)).all()
