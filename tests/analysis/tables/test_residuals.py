"""Residual checks: on series whose pattern is known, and in a table of made-up runs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixfleet.analysis.tables.predictive import weekly_kpi
from mixfleet.analysis.tables.residuals import NOISE, heteroscedasticity, ljung_box, repeats_weekly, residuals
from mixfleet.config import Model, Pooling, RunConfig, Spec
from mixfleet.data.panel import Panel
from mixfleet.errors import ConfigError
from mixfleet.fitting.runner import execute
from mixfleet.posterior.unit_result import UnitResult
from tests.reporting.test_html import Page
from tests.support.saved_run import made_up, panel, saved_run

WEEKS = 200
NUMBERS = ("sd", "sd_q05", "sd_q95", "share", "rhat", "ess_bulk")


def series(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise, mean = rng.standard_normal(WEEKS), rng.gamma(4.0, 1.0, WEEKS)
    if kind == "lasting":
        for week in range(1, WEEKS):
            noise[week] += 0.6 * noise[week - 1]
    return noise * (mean if kind == "growing" else 1.0), mean


def test_noise_is_taken_for_a_pattern_as_often_as_it_says() -> None:
    there = np.ones(WEEKS, bool)
    found = [series("plain", seed) for seed in range(400)]
    chances = [ljung_box(residual, there)[1] for residual, _ in found]
    spreads = [heteroscedasticity(residual, mean) for residual, mean in found]
    for values in (chances, spreads):
        assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_patterns_are_found() -> None:
    there = np.ones(WEEKS, bool)
    found = np.array([ljung_box(series("lasting", seed)[0], there) for seed in range(50)])
    # An estimate from 200 weeks has a standard error of 0.057, and falls short by about 0.015.
    assert found[:, 0].mean() == pytest.approx(0.585, abs=0.03)
    assert found[:, 1].max() < 1e-4
    assert heteroscedasticity(*series("growing", 1)) < 1e-4


def test_a_missing_week_pairs_with_none() -> None:
    residual, there = np.tile([1.0, -1.0], 20), np.ones(40, bool)
    there[10] = False
    own = np.where(there, residual - residual[there].mean(), 0.0)
    pairs = [own[t] * own[t + 1] for t in range(39) if t not in (9, 10)]
    assert ljung_box(residual, there)[0] == pytest.approx(sum(pairs) / (own @ own))


def test_the_table_judges_the_weeks_that_were_seen(tmp_path: Path) -> None:
    made = panel(weeks=60)
    run = saved_run(tmp_path, Model(window=5), of=replace(made, data=replace(made.data, holdout=8)), draws=40)
    table = run.insight.residuals().set_index(["brand", "market"])
    assert len(table) == 5
    fleet = run.fleet().seen()
    for unit, own in zip(
        fleet.units, (weekly_kpi(fleet, i, series) for i, series in enumerate(fleet.series())), strict=True
    ):
        row, there = table.loc[unit.labels], own.weeks > 0
        assert row.weeks == there.sum() <= len(unit.dates) - 8
        outcome = own.expected[there] + own.noise[there]
        low, high = np.quantile(outcome, [0.25, 0.75], axis=1)
        assert row.coverage50 == np.mean((own.kpi[there] >= low) & (own.kpi[there] <= high))
        residual = own.kpi[there] - own.expected[there].mean(axis=1)
        assert row.heteroscedasticity_p == heteroscedasticity(residual, own.expected[there].mean(axis=1))
    # Coefficients are made up, so that intervals miss what came.
    assert table.statement.str.contains("too narrow").all()
    assert residuals(run.fleet()).num_rows == 5
    assert NOISE not in set(table.statement)


def test_a_pooled_run_tells_what_its_units_borrowed(tmp_path: Path) -> None:
    def engine(panel: Panel, spec: Spec, **keywords: Any) -> Iterator[UnitResult]:
        for result in made_up(2, 6)(panel, spec, **keywords):
            facts = {"parameter": "effect", "channel": "tv"} | dict.fromkeys(NUMBERS, 0.3)
            rows = {name: np.array([value, value]) for name, value in facts.items()} | {"source": ["unit", "brand"]}
            rows["borrowed"] = np.array([0.7, np.nan])
            yield replace(result, tables={**result.tables, "pooling": rows})

    made = panel()
    spec = Spec(
        data=made.data,
        model=Model(window=5),
        pooling=Pooling(by="brand"),
        run=RunConfig(root=str(tmp_path), id="r"),
    )
    run = execute(made, spec, engine)
    table = run.insight.pooling()
    assert table[table.source == "unit"].borrowed.tolist() == [0.7] * 5
    assert run.insight.everything()["pooling"].num_rows == len(table)
    page = Page(run.report().read_text("utf-8"))
    assert json.loads(page.pieces["unit-0"])["borrowed"] == [["effect", "tv", 0.7]]


def test_a_run_that_pooled_nothing_says_so(tmp_path: Path) -> None:
    insight = saved_run(tmp_path, Model(window=5)).insight
    with pytest.raises(ConfigError, match=r"pooling\.by"):
        insight.pooling()
    assert "pooling" not in insight.everything()
    assert "residuals" in insight.everything()


def test_a_pattern_of_weekdays_shows_at_seven_days() -> None:
    random = np.random.default_rng(4)
    there = np.ones(140, bool)
    noise = random.standard_normal(140)
    assert repeats_weekly(noise, there)[1] > 0.01
    at_week, chance = repeats_weekly(noise + np.tile([2.0, 1, 0, 0, 0, -1, -2], 20), there)
    assert at_week > 0.4
    assert chance < 1e-6
    assert np.isnan(repeats_weekly(noise[:14], there[:14])[0])
