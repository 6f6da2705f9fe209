"""Sums beside parts, national spend in every market, and the KPI among its explanations are found, and named."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixfleet import config
from mixfleet.data.panel import read_panel
from tests.data.test_reshape import DATA, TODAY, rules, wide

CONTROLLED = replace(DATA, controls=("units", "price"))


def errors(panel) -> dict[tuple[str, ...] | None, str]:
    return {f.unit: f.message for f in panel.findings if f.severity == "error"}


def test_national_spend_in_every_market_is_named():
    frame = wide("DE", "FR", "IT")
    national = frame.loc[frame["market"] == "DE", "tv"].to_numpy()
    frame["tv"] = np.where(frame["market"] == "IT", frame["tv"], np.resize(national, len(frame)))
    # A market that starts later is compared on the dates that it has.
    frame = frame.drop(index=range(60, 75))
    [found] = [f for f in read_panel(frame, DATA, today=TODAY).findings if f.unit is None]
    assert (found.rule, found.severity) == ("repeated_spend", "warning")
    assert "spend of tv (column tv) is the same in Alba / DE, Alba / FR, date by date" in found.message
    assert "share it out" in found.message


def test_a_channel_that_is_the_sum_of_others_is_refused():
    frame = wide("DE").assign(online=lambda f: f["tv"] + f["search"])
    data = config.build(config.Data, {"channels": ["online", "tv", "search"]})
    [message] = errors(read_panel(frame, data, today=TODAY)).values()
    assert "channel online is the sum of tv and search" in message
    assert "leave the sum out" in message


@pytest.mark.parametrize("decimals", [2, 10])
def test_a_total_market_beside_its_parts_is_refused(decimals):
    parts = wide("DE", "FR", "IT")
    parts["kpi"] = parts["kpi"].round(decimals)
    total = parts.groupby("date", as_index=False)[["kpi", "tv", "search"]].sum().assign(brand="Alba", market="EU")
    panel = read_panel(pd.concat([parts, total]), DATA, today=TODAY)
    assert [unit.labels[1] for unit in panel.units] == ["DE", "FR", "IT"]
    assert "its kpi is the sum of the 3 units beside it (by market)" in errors(panel)["Alba", "EU"]


def test_the_kpi_in_another_unit_is_refused():
    frame = wide("DE").assign(thousands=lambda f: f["kpi"] / 1000)
    for changes in ({"controls": ["thousands"]}, {"organic": ["thousands"]}):
        data = config.build(config.Data, {"channels": ["tv", "search"], **changes})
        [message] = errors(read_panel(frame, data, today=TODAY)).values()
        assert "thousands is the KPI itself, in another unit (column thousands): leave it out" in message


def test_the_kpi_as_a_product_of_columns_is_refused():
    rng = np.random.default_rng(3)
    frame = wide("DE").assign(units=rng.gamma(50, 2, 60), price=rng.gamma(50, 0.2, 60))
    assert not read_panel(frame, CONTROLLED, today=TODAY).rejected
    frame["kpi"] = frame["units"] * frame["price"]
    [message] = errors(read_panel(frame, CONTROLLED, today=TODAY)).values()
    assert "the KPI is the product of units and price" in message


def test_spellings_of_one_name_come_first_with_what_follows():
    frame = wide("DE")
    frame.loc[20, "market"] = "de "
    findings = read_panel(frame, DATA, today=TODAY).findings
    assert findings[0].rule == "key_similar"
    assert "unit Alba / de  (1 rows) differs from Alba / DE (59 rows)" in findings[0].message
    assert "what is said of them below may follow from that" in findings[0].message
    assert {f.rule for f in findings[1:]} >= {"gap", "too_few_weeks"}


def test_a_plain_table_has_no_such_finding():
    assert rules(read_panel(wide("DE", "FR", "IT"), DATA, today=TODAY)) == set()


def explained(**columns: object) -> dict[str, str]:
    """Severity by rule of what is found where these are columns of the table; numbers are controls."""
    frame = wide("DE")
    rng = np.random.default_rng(3)
    frame["noise"] = rng.normal(size=len(frame))
    for name, make in columns.items():
        frame[name] = make(frame) if callable(make) else make
    controls = tuple(name for name in columns if name not in ("kpi", "tv"))
    found = read_panel(frame, replace(DATA, controls=controls), today=TODAY).findings
    return {finding.rule: finding.severity for finding in found}


@pytest.mark.parametrize(
    "columns",
    [
        {"net": lambda f: f.kpi / 1.19},
        {"net": lambda f: 100 + 2 * f.kpi},
        {"net": lambda f: -f.kpi},
        {"online": lambda f: 0.4 * f.kpi + 30 * f.noise, "store": lambda f: f.kpi - f.online},
        {"a": lambda f: f.noise, "b": lambda f: f.kpi + 3 * f.noise},
    ],
)
def test_what_the_kpi_is_computed_from_is_no_explanation(columns: dict[str, object]) -> None:
    assert explained(**columns)["kpi_among_columns"] == "error"


@pytest.mark.parametrize("net", [lambda f: (f.kpi / 1.19).round(0), lambda f: np.log(f.kpi), lambda f: f.kpi + f.noise])
def test_a_near_copy_of_the_kpi_is_doubted(net: object) -> None:
    assert explained(net=net)["kpi_near_copy"] == "warning"


def test_columns_beside_the_kpi_are_not_doubted() -> None:
    found = explained(rain=lambda f: f.noise, half=lambda f: f.kpi + f.kpi.std() * f.noise[::-1].to_numpy())
    assert not found.keys() & {"kpi_among_columns", "kpi_near_copy", "running_total"}


@pytest.mark.parametrize("column", ["kpi", "tv"])
def test_a_running_total_is_doubted(column: str) -> None:
    assert explained(**{column: lambda f: f[column].cumsum()})["running_total"] == "warning"
