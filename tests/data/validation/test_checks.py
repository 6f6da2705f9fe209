"""Every poison of the catalogue gets its finding, and its neighbours keep every byte."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from mixfleet import config
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.data.scaling import likelihood_weeks
from mixfleet.errors import ConfigError, TableError
from tests.support import poison
from tests.support.poison import CASES, FILES, PRIORS, TODAY


def same_units(a: Unit, b: Unit) -> bool:
    def same(x, y) -> bool:
        return x.tobytes() == y.tobytes() if isinstance(x, np.ndarray) else x == y or (x != x and y != y)

    return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(Unit))


def outcome(panel: Panel, labels: tuple[str, ...]) -> str:
    if labels in {rejection.labels for rejection in panel.rejected}:
        return "rejected"
    unit = next(unit for unit in panel.units if unit.labels == labels)
    return "warned" if unit.warnings else "accepted"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("place", ["batch", "alone"])
def test_poisoned_unit_ends_as_the_catalogue_says(name, place):
    case = CASES[name]
    frame = poison.spoiled(case) if place == "batch" else poison.alone(case)
    panel = read_panel(frame, poison.settings(case), today=TODAY)
    for labels in poison.victims(case):
        assert outcome(panel, labels) == case.panel
    if case.rule is not None:
        named = [f for f in panel.findings if f.rule == case.rule]
        assert named
        assert all(f.unit is None or f.unit in poison.victims(case) for f in named)
        severity = {"rejected": "error", "warned": "warning", "accepted": "info"}[case.panel]
        assert severity in {f.severity for f in named}


@pytest.mark.parametrize("name", CASES)
def test_neighbours_of_a_poisoned_unit_keep_every_byte(name):
    case = CASES[name]
    clean = read_panel(poison.clean_fleet().table, poison.settings(case), today=TODAY)
    spoiled = read_panel(poison.spoiled(case), poison.settings(case), today=TODAY)
    others = {unit.labels: unit for unit in clean.units if unit.labels != poison.VICTIM}
    assert len(others) == 3
    for unit in spoiled.units:
        if unit.labels not in poison.victims(case):
            assert same_units(unit, others.pop(unit.labels))
    assert not others


def test_clean_fleet_has_no_findings():
    panel = read_panel(poison.clean_fleet().table, poison.clean_fleet().data, today=TODAY)
    assert len(panel.units) == 4
    assert not panel.findings


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.panel == "rejected"])
def test_messages_name_unit_and_remedy_on_one_line(name):
    case = CASES[name]
    panel = read_panel(poison.spoiled(case), poison.settings(case), today=TODAY)
    for finding in panel.findings:
        assert finding.message.isprintable()
        assert finding.unit is None or finding.message.startswith("unit")
        assert len(finding.message) < 600


@pytest.mark.parametrize("name", FILES)
def test_spoiled_file_is_refused_with_its_line(tmp_path, name):
    case = FILES[name]
    fleet = poison.clean_fleet()
    path = tmp_path / "sales.csv"
    path.write_bytes(case.spoil(fleet.table.to_pandas().to_csv(index=False).encode()))
    if case.refused:
        with pytest.raises(TableError, match=f"line {case.line}" if case.line else "empty|no rows") as caught:
            read_panel(path, fleet.data, today=TODAY)
        findings = caught.value.findings
    else:
        findings = read_panel(path, fleet.data, today=TODAY).findings
    named = [f for f in findings if f.rule == case.rule]
    assert named
    assert case.line is None or f"line {case.line}" in named[0].message


@pytest.mark.parametrize("name", PRIORS)
def test_prior_of_wrong_support_is_refused(name):
    with pytest.raises(ConfigError, match="prior"):
        config.build(config.Prior, PRIORS[name], key="prior")


def test_all_faults_of_a_table_are_reported_at_once():
    names = ["P1_nan_kpi", "P14_thousands", "P12_negative_spend", "P10_gap"]
    clean = poison.clean_fleet()
    rows = []
    for name in names:
        rows.append(poison.alone(CASES[name]).assign(brand=name))
    both = poison.alone(CASES["P11_two_values"])
    both.loc[5, "kpi"] = np.inf
    both["spend_search"] = -1.0
    rows.append(both.assign(brand="three faults"))
    panel = read_panel(pd.concat(rows, ignore_index=True), clean.data, today=TODAY)
    found = {(f.unit[0], f.rule) for f in panel.findings if f.unit and f.severity == "error"}
    assert found >= {(name, CASES[name].rule) for name in names}
    assert found >= {("three faults", rule) for rule in ("duplicate_row", "not_finite", "negative_media")}
    assert len(panel.rejected) == 5


def test_message_names_rows_values_and_weeks():
    panel = read_panel(poison.spoiled(CASES["P14_thousands"]), poison.clean_fleet().data, today=TODAY)
    [finding] = [f for f in panel.findings if f.rule == "not_a_number"]
    assert finding.unit == poison.VICTIM
    assert finding.column == "spend_tv"
    assert "row 363 (2021-12-20) '1,234'" in finding.message
    panel = read_panel(poison.spoiled(CASES["P10_gap"]), poison.clean_fleet().data, today=TODAY)
    [finding] = [f for f in panel.findings if f.rule == "gap"]
    assert "2021-10-11 to 2021-10-18, 2022-02-28" in finding.message


def test_collinear_names_the_pair():
    panel = read_panel(poison.spoiled(CASES["P7_collinear"]), poison.clean_fleet().data, today=TODAY)
    [finding] = [f for f in panel.findings if f.rule == "collinear"]
    assert "tv and search move together" in finding.message


def test_seasonality_of_order_zero_needs_no_full_year():
    case = CASES["P20_short"]
    panel = read_panel(poison.alone(case), poison.settings(case), seasonality=0, today=TODAY)
    assert not panel.findings


def test_holdout_counts_against_the_history():
    fleet = poison.clean_fleet()
    data = replace(fleet.data, holdout=90)
    panel = read_panel(fleet.table, data, today=TODAY)
    assert {f.rule for f in panel.findings} == {"too_few_weeks"}
    assert "14 of 104 periods can be fitted" in panel.findings[0].message


def test_history_full_of_holes_is_too_short():
    case = poison.CASES["P9_few_rows"]
    frame = poison.clean_fleet().table.to_pandas()
    frame = frame[(frame.index % 8 != 3) | (frame["brand"] == "brand_001")]
    data = replace(poison.settings(case), gaps="absent")
    panel = read_panel(frame, data, today=TODAY)
    assert {unit.labels[0] for unit in panel.units} == {"brand_001"}
    assert "a hole within their carry-over" in panel.rejected[0].reason
    for unit in read_panel(frame, data, window=2, today=TODAY).units:
        counted = likelihood_weeks(unit, window=2, holdout=0).sum()
        assert counted == (104 if unit.observed.all() else 78)


def test_kpi_is_judged_by_the_weeks_to_fit():
    frame = poison.clean_fleet().table.to_pandas()
    frame.loc[frame["date"] < frame["date"].max() - pd.Timedelta(weeks=12), "kpi"] = 0.0
    assert read_panel(frame, poison.clean_fleet().data, today=TODAY).units
    panel = read_panel(frame, replace(poison.clean_fleet().data, holdout=13), today=TODAY)
    assert {f.rule for f in panel.findings if f.severity == "error"} == {"kpi_zero"}


def test_spend_and_impressions_are_compared():
    frame = poison.clean_fleet().table.to_pandas()
    frame["shown"] = np.where(frame["brand"] == "brand_001", frame["spend_tv"] * 100, 0.0)
    frame.loc[frame["brand"] == "brand_001", "spend_tv"] = np.nan
    data = config.Data(channels=(config.Channel(name="tv", spend="spend_tv", impressions="shown"),))
    panel = read_panel(frame, data, today=TODAY)
    rules = {(f.unit[0], f.rule) for f in panel.findings if f.unit}
    assert rules == {("brand_001", "spend_absent"), ("brand_002", "media_absent")}
    assert np.isnan(panel.units[0].spend).all()
    assert (panel.units[0].media > 0).any()


def test_scales_must_be_positive_and_constant():
    frame = poison.clean_fleet().table.to_pandas()
    frame["people"] = np.where(frame["market"] == "market_001", 1000.0, -5.0)
    frame["scale"] = np.where(frame["brand"] == "brand_001", 10.0, np.arange(len(frame)) + 1.0)
    data = config.Data(channels=("spend_tv",), population="people", kpi_scale="scale")  # pyright: ignore[reportArgumentType]
    panel = read_panel(frame, data, today=TODAY)
    assert [unit.labels for unit in panel.units] == [("brand_001", "market_001")]
    assert panel.units[0].population == 1000.0
    assert panel.units[0].kpi_scale == 10.0
    assert {f.rule for f in panel.findings} == {"not_positive", "not_constant"}


def test_what_enters_as_its_logarithm_must_be_positive():
    frame = poison.clean_fleet().table.to_pandas()
    frame["price"] = np.where((frame["market"] == "market_001") | (frame.index % 9 > 0), 2.0 + frame.index % 7, 0.0)
    treatments = ({"name": "price", "form": "log"},)
    data = replace(poison.clean_fleet().data, treatments=treatments)  # pyright: ignore[reportArgumentType]
    panel = read_panel(frame, data, today=TODAY)
    assert {unit.labels[1] for unit in panel.units} == {"market_001"}
    assert "no logarithm" in panel.rejected[0].reason
    data = replace(data, treatments=("price",))  # pyright: ignore[reportArgumentType]
    assert not read_panel(frame, data, today=TODAY).rejected


def test_the_kpi_of_a_logarithm_must_be_positive():
    frame = poison.clean_fleet().table.to_pandas()
    frame.loc[(frame["market"] == "market_001") & (frame.index % 9 == 0), "kpi"] = 0.0
    panel = read_panel(frame, poison.clean_fleet().data, link="log", today=TODAY)
    assert {rejected.labels[1] for rejected in panel.rejected} == {"market_001"}
    assert "model.link=log" in panel.rejected[0].reason
    assert len(read_panel(frame, poison.clean_fleet().data, today=TODAY).rejected) == 0
