"""Law 10: a quantity has the same digits in the run's tables, in insight, in sums of one unit and in the report."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixfleet.analysis.breakdown import ALL_CHANNELS
from mixfleet.config import Model, Output, RunConfig
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("programs")
KEYS = ["brand", "market"]
STATISTICS = ["mean", "sd", "q05", "q50", "q95"]
SAME = 1e-9


def fitted(root: Path, holdout: int | None, output: Output, model: Model | None = None) -> Run:
    panel = ragged_fleet()
    priced = tuple(
        # Prices that change, so that value is no multiple of the KPI.
        replace(unit, value_per_kpi=unit.value_per_kpi * np.linspace(1.0, 2.0, len(unit.dates)))
        for unit in panel.units[:3]
    )
    panel = replace(panel, units=priced, data=replace(panel.data, holdout=holdout))
    spec = replace(settings(panel.data), model=model or Model(), output=output, run=RunConfig(root=str(root), id="r"))
    return execute(panel, spec, fit_units)


@pytest.fixture(scope="module", params=[(None, "identity"), (8, "identity"), (8, "log")], ids=str)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    holdout, link = request.param
    return fitted(
        tmp_path_factory.mktemp("runs"),
        holdout,
        Output(curve_points=7),
        Model(link=link, observation="normal" if holdout else "ar1"),
    )


def same(left: pd.DataFrame, right: pd.DataFrame, on: list[str], columns: list[str]) -> None:
    """Every row of the right is one of the left, with the same numbers."""
    both = left.merge(right, on=on, suffixes=("", "_other"))
    assert len(both) == len(right) > 0
    for name in columns:
        np.testing.assert_allclose(both[name], both[f"{name}_other"], rtol=SAME, atol=0, err_msg=name)


def test_returns(run: Run) -> None:
    own = run.roi()
    same(own, run.insight.roi(), [*KEYS, "channel"], [*STATISTICS, "spend"])
    assert len(own) == len(run.insight.roi())
    same(own, run.insight.roi(by=KEYS), [*KEYS, "channel"], [*STATISTICS, "spend"])


def test_contributions(run: Run) -> None:
    own = run.contributions()
    assert len(own) == len(run.insight.contributions())
    for by in (None, KEYS):
        same(own, run.insight.contributions(by=by), [*KEYS, "component"], [*STATISTICS, "share"])


def test_curves(run: Run) -> None:
    def levels(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(level=table.groupby([*KEYS, "channel"]).cumcount())

    columns = [*KEYS, "channel", "level"]
    same(levels(run.curves()), levels(run.insight.curves()), columns, [*STATISTICS, "spend"])


def test_fit_and_weeks(run: Run) -> None:
    own = run.fit_quality()
    scores = [name for name in own.columns if name.removeprefix("holdout_") in ("r2", "mape", "wmape", "crps")]
    if not run.fleet().spec.data.holdout:
        scores = [name for name in scores if not name.startswith("holdout_")]
    same(own, run.insight.fit(), KEYS, [*scores, "coverage90"])
    same(own, run.insight.fit(by=KEYS).query("units == 1"), KEYS, [*scores, "coverage90"])
    if run.fleet().spec.model.observation == "ar1":
        return  # What past misses let expect of a week is no component's.
    # Components add up to what is expected, week by week.
    weekly = run.weekly()
    sums = run.insight.contributions(period="week").groupby([*KEYS, "period"], as_index=False)["mean"].sum()
    weekly = weekly.assign(period=weekly["date"].astype(str).str[:10])
    same(weekly, sums, [*KEYS, "period"], ["mean"])


def test_the_report_shows_these_digits(run: Run) -> None:
    page = run.report().read_text("utf-8")
    pieces = [
        json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)
    ]
    roi = {(row.brand, row.market, row.channel): row for row in run.roi().itertuples()}
    shown = [channels for piece in pieces for channels in _channels(piece)]
    assert len(shown) == len(roi)
    # Rounded as the page does, since rows of one mean are put in the order of what comes after it.
    rows = sorted(tuple(float(f"{value:.4g}") for value in (row.mean, row.q05, row.q95)) for row in roi.values())
    np.testing.assert_allclose(sorted(shown), rows, rtol=1e-3)


def _channels(piece: Any) -> list[tuple[float, ...]]:
    """ROI by channel of a unit's piece of the page."""
    if not isinstance(piece, dict) or "weekly" not in piece:
        return []
    return [tuple(one["roi"][:3]) for one in piece["channels"].values() if "roi" in one]


def test_what_no_media_would_lose_is_what_they_returned(run: Run) -> None:
    """By channel, and of all together, which is no sum of channels where they multiply each other."""
    fleet = run.fleet()
    nothing = [
        {**dict(zip(KEYS, unit.labels, strict=True)), "channel": name, "date": day, "spend": 0.0}
        for unit in fleet.units
        for c, name in enumerate(fleet.channels)
        if np.nansum(unit.spend[:, c]) > 0
        for day in unit.dates
    ]
    lost = run.insight.counterfactual(pd.DataFrame(nothing)).query("measure == 'value'")
    lost = lost.assign(mean=-lost["mean"] / lost["spend_actual"], q05=-lost["q95"] / lost["spend_actual"])
    alone = lost[lost["channel"] != ALL_CHANNELS]
    columns = ["mean", "q05"]
    returned = run.insight.roi()
    np.testing.assert_allclose(
        alone.merge(returned, on=[*KEYS, "channel"])[["mean_x", "q05_x"]],
        alone.merge(returned, on=[*KEYS, "channel"])[["mean_y", "q05_y"]],
        rtol=1e-6,
    )
    together = lost[lost["channel"] == ALL_CHANNELS].merge(run.insight.whole_roi(), on=KEYS)
    assert len(together) == len(fleet.units)
    for name in columns:
        np.testing.assert_allclose(together[f"{name}_x"], together[f"{name}_y"], rtol=1e-6)
    sums = (returned["mean"] * returned["spend"]).groupby([returned[key] for key in KEYS]).sum().to_numpy()
    whole = (together["mean_y"] * together["spend_actual"]).to_numpy()
    if fleet.spec.model.link == "log":
        assert np.all(whole < sums)
    else:
        np.testing.assert_allclose(whole, sums, rtol=1e-6)


def test_a_run_without_draws_says_the_same(run: Run, tmp_path: Path) -> None:
    spec = run.fleet().spec
    bare = fitted(tmp_path, spec.data.holdout, Output(curve_points=7, draws="summary"), spec.model)
    for name in ("roi", "contributions", "curves", "params", "fit", "weekly"):
        assert bare.table(name).equals(run.table(name)), name
