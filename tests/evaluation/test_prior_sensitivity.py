"""Other priors: units whose draws cannot tell are fitted under them."""

from pathlib import Path

import pandas as pd
import pytest

import mixfleet as mf
from mixfleet.run import Run

FAR = {"decay": {"a": 40, "b": 10}, "rate": {"shape": 60, "rate": 10}}


def test_units_whose_draws_cannot_tell_are_fitted_and_told_what_that_fit_says(tmp_path: Path) -> None:
    fleet = mf.simulate.fleet(brands=2, markets=1, channels=2, controls=0, weeks=60)
    table = fleet.table.to_pandas()
    run = mf.fit(table, data=fleet.data, run={"root": str(tmp_path), "id": "usual"})
    other = mf.fit(table, data=fleet.data, prior={"parameters": FAR}, run={"root": str(tmp_path), "id": "far"})
    others = {"far": FAR, "near": {"noise": {"sd": 0.21}}}
    weighed, told = run.insight.sensitivity(others), mf.sensitivity(run, others)
    assert set(told.query("alternative == 'near'")["basis"]) == {"reweighted"}
    assert set(weighed.query("alternative == 'far'")["basis"]) == {""}
    far = told.query("alternative == 'far'")
    assert set(far["basis"]) == {"refitted"}
    assert far["reliable"].all()
    keys = ["brand", "market", "channel"]

    def brought(one: Run) -> pd.Series:
        found = one.contributions().rename(columns={"component": "channel"})
        return found[found["channel"].isin(far["channel"])].set_index(keys)["mean"]

    ratio = brought(other) / brought(run)
    assert far.set_index(keys)["ratio"].to_dict() == pytest.approx(ratio.to_dict(), rel=0.02)
    near = {"near": others["near"]}
    assert len(mf.sensitivity(run.path, near, units=[("brand_001", "market_001")])) == 2
