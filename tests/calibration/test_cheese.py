"""Without media the pooled model of a logarithm is a log-log regression, and its elasticities are those of bayesm.

`rhierLinearModel` of bayesm lets coefficients correlate between units and has other priors of the hyperparameters, so
the two agree up to what 88 accounts of 61 weeks leave to that, a fraction of a posterior standard deviation.
"""

import numpy as np
import pandas as pd
import pytest

import mixfleet as mf
from mixfleet.config import Treatment
from tests.support.shared_data import shared

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

COLUMNS = {"intercept": "intercept", "display_share": "display", "ctrl_price": "log_price"}


@pytest.mark.slow
@pytest.mark.nightly
def test_unit_coefficients_are_those_of_bayesm(tmp_path):
    folder = shared("real_cheese")
    table = pd.read_csv(folder / "data.csv")
    # A channel that never runs, because a table without any is none for a media mix model.
    table = table.assign(
        date=pd.Timestamp("2020-01-06") + pd.to_timedelta(7 * table["t"], unit="D"),  # pyright: ignore[reportCallIssue]
        category="cheese",
        one=1.0,
        nothing=0.0,
    )
    run = mf.fit(
        table,
        data=mf.Data(
            keys=("category", "unit"),
            kpi="kpi_volume",
            kpi_scale="one",
            channels=(mf.Channel(name="nothing", impressions="nothing"),),
            controls=("display_share",),
            treatments=(Treatment(name="ctrl_price", form="log"),),
        ),
        model={"link": "log", "trend": "none", "seasonality": 0, "observation": "normal"},
        prior={
            "parameters": {
                "intercept": {"mean": 10, "sd": 3},
                "control": {"sd": 1},
                "treatment": {"sd": 1},
                "noise": {"sd": 1},
            }
        },
        pooling={"by": "category", "intercept": 1.0, "control": 1.0},
        run={"root": str(tmp_path)},
    )
    # Draws of all accounts are certified; that log sales of one are no line in log price, its checks may say.
    assert run.status["status"].isin(["ok", "ok_warn", "misfit"]).all()
    found = run.params()
    found = found[found["parameter"].isin(COLUMNS)].replace({"parameter": COLUMNS})
    theirs = pd.read_csv(folder / "reference_bayesm_rhierLinearModel_unit_betas.csv")
    both = found.merge(theirs, on=["unit", "parameter"], suffixes=("", "_theirs"))
    assert len(both) == 3 * 88
    for name, rows in both.groupby("parameter"):
        away = (rows["mean"] - rows["mean_theirs"]) / rows["sd_theirs"]
        assert away.abs().max() < 0.75, name
        assert abs(away.mean()) < 0.1, name
        assert np.corrcoef(rows["mean"], rows["mean_theirs"])[0, 1] > 0.99, name
        assert 0.9 < (rows["sd"] / rows["sd_theirs"]).median() < 1.1, name
