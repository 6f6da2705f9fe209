"""Rows that a wide or a long table may have beside the plain ones: campaigns, a KPI on one row, planned weeks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixfleet import config
from mixfleet.data.panel import Panel, read_panel
from mixfleet.data.scaling import likelihood_weeks
from mixfleet.errors import ConfigError

TODAY = np.datetime64("2026-01-01")
WEEKS = 60


def wide(*markets: str) -> pd.DataFrame:
    pieces = []
    for place, market in enumerate(markets or ("DE", "FR")):
        rng = np.random.default_rng(place)
        columns: dict[str, object] = {"brand": "Alba", "market": market, "date": week_starts(WEEKS)}
        columns |= {"kpi": 1000 + rng.gamma(2, 50, WEEKS)}
        columns |= {name: rng.gamma(2, 40, WEEKS).round(2) for name in ("tv", "search")}
        pieces.append(pd.DataFrame(columns))
    return pd.concat(pieces, ignore_index=True)


def week_starts(count: int) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=count, freq="7D")


def long() -> pd.DataFrame:
    frame = wide()
    kept = ["brand", "market", "date", "kpi"]
    return pd.concat([frame[kept].assign(channel=name, spend=frame[name]) for name in ("tv", "search")])


DATA = config.build(config.Data, {"channels": ["tv", "search"]})
LONG = replace(DATA, layout="long")


def rules(panel: Panel) -> set[str]:
    return {finding.rule for finding in panel.findings}


def test_campaign_rows_are_added_up_when_asked():
    frame = long()
    halves = pd.concat([frame.assign(spend=frame["spend"] * share) for share in (0.25, 0.75)])
    added = read_panel(halves, replace(LONG, repeated_rows="add"), today=TODAY)
    whole = read_panel(frame, LONG, today=TODAY)
    for one, other in zip(added.units, whole.units, strict=True):
        np.testing.assert_allclose(one.spend, other.spend, rtol=1e-12)
        np.testing.assert_allclose(one.media, other.media, rtol=1e-12)
        assert (one.kpi == other.kpi).all()
    assert rules(added) == {"rows_added"}


def test_campaign_rows_are_refused_with_adding_as_the_remedy():
    frame = long()
    flat = pd.concat([frame, frame[frame["channel"] == "tv"].assign(spend=7.0)])
    panel = read_panel(flat, LONG, today=TODAY)
    assert not panel.units
    assert {f.rule for f in panel.findings if f.severity != "info"} == {"duplicate_row"}
    assert "set data.repeated_rows to add" in panel.rejected[0].reason
    assert "keep one" not in panel.rejected[0].reason


def test_kpi_on_one_row_of_a_date_is_the_dates_kpi():
    frame = long()
    frame.loc[(frame["market"] == "FR") & (frame["channel"] == "search"), "kpi"] = np.nan
    panel = read_panel(frame, LONG, today=TODAY)
    for unit, other in zip(panel.units, read_panel(long(), LONG, today=TODAY).units, strict=True):
        assert (unit.kpi == other.kpi).all()
    [told] = panel.findings
    assert (told.rule, told.severity) == ("value_once", "info")
    assert "column kpi is empty in 60 rows" in told.message


def test_two_values_of_a_date_are_refused_around_an_empty_cell():
    frame = pd.concat([long(), long().assign(channel="mail", spend=1.0)]).sort_values(["market", "date"])
    frame["kpi"] = [np.nan if i % 3 == 1 else value + i % 3 for i, value in enumerate(frame["kpi"])]
    panel = read_panel(frame, LONG, today=TODAY)
    assert not panel.units
    assert "conflicting_rows" in rules(panel)


def test_weeks_of_unknown_kpi_leave_the_likelihood_alone():
    frame = wide("DE")
    frame.loc[20:23, "kpi"] = np.nan
    unit = read_panel(frame, replace(DATA, gaps="absent"), today=TODAY).units[0]
    assert unit.observed.all()
    assert likelihood_weeks(unit, window=8, holdout=0).sum() == WEEKS - 4
    assert {w.rule for w in unit.warnings} == {"kpi_unknown"}
    refused = read_panel(frame, DATA, today=TODAY)
    assert "set data.gaps to absent" in refused.rejected[0].reason


def test_weeks_to_come_without_kpi_are_planned_ones():
    frame = wide()
    frame.loc[(frame["market"] == "DE") & (frame["date"] >= "2025-02-03"), "kpi"] = np.nan
    panel = read_panel(frame, DATA, today=np.datetime64("2025-02-01"))
    assert [len(unit.dates) for unit in panel.units] == [57, 60]
    [told] = [f for f in panel.findings if f.rule == "planned_rows"]
    assert "the last 3 periods, from 2025-02-03 on" in told.message
    assert "mixfleet forecast" in told.message
    late = read_panel(frame, DATA, today=TODAY)
    assert {f.rule for f in late.findings if f.severity == "error"} == {"missing_value"}


def test_credit_note_returns_money_and_undoes_no_advertising():
    frame = wide("DE")
    frame.loc[30, "tv"] = -4000.0
    assert "a credit note is best booked apart" in read_panel(frame, DATA, today=TODAY).rejected[0].reason
    panel = read_panel(frame, replace(DATA, allow_negative_media=("tv",)), today=TODAY)
    unit = panel.units[0]
    assert unit.spend[30, 0] == -4000.0
    assert unit.media[30, 0] == 0.0
    assert unit.media.max() < 1000.0
    assert rules(panel) == {"credit_note"}


def test_one_series_needs_no_key_columns():
    frame = wide("DE").drop(columns=["brand", "market"]).rename(columns={"kpi": "sales"})
    panel = read_panel(frame, replace(DATA, keys=(), kpi="sales"), today=TODAY)
    assert panel.keys == ("series",)
    assert [unit.labels for unit in panel.units] == [("sales",)]
    assert not panel.findings


@pytest.mark.parametrize("name", ["trend", "intercept", "baseline", "seasonality", "all", "total", "sin_1", "cos_12"])
def test_names_of_the_models_own_parts_are_refused(name):
    with pytest.raises(ConfigError, match=rf"data\.controls: '{name}' is what results call.*rename"):
        config.Data(controls=(name,))
    with pytest.raises(ConfigError, match=rf"data\.channels: '{name}' is what results call.*rename"):
        config.build(config.Data, {"channels": [name]})
    frame = long().replace({"channel": {"tv": name}})
    with pytest.raises(ConfigError, match=rf"'{name}' is what results call"):
        read_panel(frame, replace(LONG, channels=()), today=TODAY)


def test_one_name_for_a_channel_and_a_control_is_refused():
    with pytest.raises(ConfigError, match=r"data\.controls: 'promo' is a channel too: rename one of them"):
        config.build(config.Data, {"channels": ["promo"], "controls": ["promo"]})


@pytest.mark.parametrize(
    "settings",
    [{"channels": ["kpi"]}, {"controls": ["kpi"]}, {"treatments": ["kpi"]}, {"revenue_per_kpi": "kpi"}],
    ids=str,
)
def test_kpi_cannot_explain_itself(settings):
    with pytest.raises(ConfigError, match=r"'kpi' is the KPI \(data\.kpi\).*leave it out"):
        config.build(config.Data, settings)


def test_names_that_yaml_mangles():
    data = config.build(config.Data, {"keys": [360], "controls": [2024], "channels": {360: {"spend": 1}}})
    assert (data.keys, data.controls, data.channels[0].spend) == (("360",), ("2024",), "1")
    for settings in ({"controls": [False]}, {"channels": [False]}, {"channels": {False: {"spend": "x"}}}):
        with pytest.raises(ConfigError, match="put it in quotes: 'NO'"):
            config.build(config.Data, settings)
