"""The production path and long float64 NUTS on the plain model find the same posterior. Takes an hour."""

import pyarrow.csv as pc
import pytest

from mixfleet import config
from mixfleet.data.panel import read_panel
from tests.support.agreement import CASES, LONG_RUN, Agreement, compare, fitted, sampled, unit_of
from tests.support.shared_data import shared

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

SHIFT, RATIO = 0.1, 0.05
NOISE = 4.0
"""What lies within so many Monte Carlo standard errors is no disagreement."""


@pytest.mark.hours
@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_the_same_mean_and_spread(name):
    case = CASES[name]
    panel, spec = unit_of(case)
    status, mine = fitted(panel, spec)
    assert status.startswith("ok")
    rows = compare(mine, sampled(panel, spec, chains=case.reference_chains))
    assert len(rows) > 10
    assert disagreements(rows) == []


@pytest.mark.nightly
def test_the_meridian_presets_have_the_same_posterior_on_its_makers_national_data():
    """A channel with reach and frequency takes its impressions, as one that has none."""
    table = pc.read_csv(shared("sim_meridian_rf/national_media_rf.csv"))
    data = config.build(
        config.Data,
        {
            "keys": [],
            "date": "time",
            "kpi": "conversions",
            "kpi_type": "count",
            "revenue_per_kpi": "revenue_per_conversion",
            "channels": {
                f"Channel{c}": {"spend": f"Channel{c}_spend", "impressions": f"Channel{c}_impression"} for c in range(4)
            },
            "controls": ["competitor_activity_score_control", "sentiment_score_control"],
        },
    )
    spec = config.Spec(
        data=data,
        model=config.preset("model", "meridian"),
        prior=config.preset("prior", "meridian"),
        inference=LONG_RUN,
        output=config.Output(draws="full"),
    )
    panel = read_panel(table, data, window=spec.model.window)
    status, mine = fitted(panel, spec)
    assert status.startswith("ok")
    rows = compare(mine, sampled(panel, spec))
    assert len(rows) > 10
    assert disagreements(rows) == []


def disagreements(rows: list[Agreement]) -> list[Agreement]:
    return [
        row
        for row in rows
        if abs(row.shift) > max(SHIFT, NOISE * row.shift_error)
        or abs(row.ratio - 1) > max(RATIO, NOISE * row.ratio_error)
    ]
