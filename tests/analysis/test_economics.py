"""Profit, LTV:CAC and payback against sums made by hand from the accounts, draw by draw."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.analysis.aggregate import totals
from mixfleet.analysis.economics import Economics
from mixfleet.analysis.periods import read_period
from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

RETENTION = (1.0, 0.5, 0.25)
MARGIN = {"all": 0.4, "brand=acme,market=FR": 0.9}
VALUE = {"market=DE": 30.0, "market=FR": 60.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), draws=40)


def margin(labels: tuple[str, ...]) -> float:
    return 0.9 if labels == ("acme", "FR") else 0.4


def value(labels: tuple[str, ...]) -> float:
    return 30.0 if labels[1] == "DE" else 60.0


@pytest.mark.parametrize("period", ["all", "quarter"])
@pytest.mark.parametrize("by", [None, "brand", ()])
def test_every_measure_is_that_of_the_draws(run: Run, by: object, period: str) -> None:
    fleet = run.fleet()
    windows = read_period(period, [unit.dates for unit in fleet.units])
    found = dict(zip([unit.labels for unit in fleet.units], totals(fleet, windows), strict=True))
    certified = [("acme", "DE"), ("acme", "FR"), ("bolt", "DE")]
    chosen = {None: certified[:1], "brand": certified[:2], (): certified}[by]
    spend = sum(found[labels].spend for labels in chosen)
    earned = sum(margin(labels) * found[labels].incremental for labels in chosen)
    more = sum(margin(labels) * found[labels].marginal for labels in chosen)
    brought = sum(value(labels) * 1.75 * found[labels].incremental for labels in chosen)
    insight = run.insight.valued(margin=MARGIN, customer_value=VALUE, retention=RETENTION)
    table = insight.returns(by, period)
    if by is None:
        table = table[(table.brand == "acme") & (table.market == "DE")]
    elif by == "brand":
        table = table[table.brand == "acme"]
    paid, cost = spend > 0, spend[..., None]
    expected = {
        "profit": earned - cost,
        "marginal_profit": more[paid] / cost[paid] - 1,
        "ltv_cac": brought[paid] / cost[paid],
    }
    for measure, draws in expected.items():
        rows = draws[paid] if draws.ndim == 3 else draws
        own = table[table.measure == measure]
        np.testing.assert_allclose(own["mean"], rows.mean(axis=-1), rtol=1e-9)
        np.testing.assert_allclose(own["q05"], np.quantile(rows, 0.05, axis=-1), rtol=1e-5, atol=1e-5 * spend.max())
        np.testing.assert_allclose(own["pays"], np.mean(rows > (measure == "ltv_cac"), axis=-1))
    together = insight.whole_worth(by, period)
    total = together[together.measure == "profit"]
    if by is None:
        total = total[(total.brand == "acme") & (total.market == "DE")]
    elif by == "brand":
        total = total[total.brand == "acme"]
    np.testing.assert_allclose(total["mean"], (earned - cost).sum(axis=1).mean(axis=-1)[paid.any(axis=1)], rtol=1e-9)


def test_customers_pay_back_within_a_period_in_proportion() -> None:
    economics = Economics(customer_value=10.0, retention=RETENTION)
    # Each customer brings 10, then 5, then 2.5.
    brought = np.array([[[[17.5, 17.5, 17.5, 17.5, 17.5, -1.0]]]])
    for cost, periods in ((5.0, 0.5), (10.0, 1.0), (12.5, 1.5), (17.5, 3.0), (18.0, np.inf)):
        found = economics.measure(brought[..., :5], brought[..., :5], np.array([[cost]]))["payback"]
        assert found["q50"] == pytest.approx(periods)
        assert found["mean"] == pytest.approx(periods)
        assert found["pays"] == (17.5 > cost)
    some = economics.measure(brought, brought, np.array([[10.0]]))["payback"]
    assert np.isinf(some["mean"])
    assert np.isnan(some["sd"])
    assert some["q05"] == pytest.approx(1.0)
    assert np.isinf(some["q95"])
    assert some["pays"] == pytest.approx(5 / 6)


def test_quantiles_of_payback_are_in_order() -> None:
    ratio = np.random.default_rng(0).gamma(20.0, 0.2, (1, 1, 1, 400))
    found = Economics(customer_value=1.0, retention=(0.9,) * 12).measure(ratio, ratio, np.ones((1, 1)))["payback"]
    quantiles = [float(found[name][0, 0]) for name in ("q05", "q25", "q50", "q75", "q95")]
    assert quantiles == sorted(quantiles)
    assert list(found) == ["mean", "sd", "q05", "q25", "q50", "q75", "q95", "pays"]


def test_nothing_is_added_where_nothing_is_said(run: Run) -> None:
    table = run.insight.returns()
    assert set(table.measure) == {"roi", "marginal_roi", "cpik", "marginal_cpik"}
    assert "pays" not in table.columns
    assert run.insight.valued() is run.insight
    assert "pays" not in run.insight.valued(margin=1.0).roi().columns


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"margin": 0.0}, "must be above zero"),
        ({"margin": {"market=DE": 0.3}}, "says nothing about acme / FR"),
        ({"margin": {"market=PL": 0.3}}, "names no unit"),
        ({"margin": {"region=DE": 0.3}}, "is none of brand, market"),
        ({"customer_value": 1.0, "retention": (1.0, 0.0)}, "must be shares above 0"),
        ({"customer_value": {"DE": 1.0}}, "not of the form"),
    ],
)
def test_what_is_no_money_is_refused(run: Run, given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        run.insight.valued(**given)


def test_a_customers_value_is_refused_where_the_kpi_is_revenue(tmp_path: Path) -> None:
    made = panel()
    revenue = replace(made, data=replace(made.data, revenue_per_kpi=None))
    insight = saved_run(tmp_path / "revenue", Model(window=5), of=revenue).insight
    with pytest.raises(ConfigError, match=r"is revenue: give a margin instead, or fit .*data\.kpi_type=count"):
        insight.valued(customer_value=30.0)
    counted = replace(made, data=replace(made.data, revenue_per_kpi=None, kpi_type="count"))
    saved_run(tmp_path / "count", Model(window=5), of=counted).insight.valued(customer_value=30.0)


def test_the_report_and_the_files_hold_them(run: Run, tmp_path: Path) -> None:
    given = {"margin": MARGIN, "customer_value": VALUE, "retention": RETENTION}
    page = run.report(tmp_path / "report.html", **given).read_text("utf-8")
    fleet = json.loads(re.findall(r'id="fleet">(.*?)</script>', page)[0])
    assert fleet["given"] == ["margin", "customer_value"]
    assert fleet["provenance"][-3:] == [
        ["margin", str(MARGIN)],
        ["customer value", str(VALUE)],
        ["retention", str(RETENTION)],
    ]
    whole = run.insight.valued(**given).whole_worth(by=()).set_index("measure")
    assert fleet["total"]["whole"]["profit"][0] == pytest.approx(whole.loc["profit", "mean"], rel=1e-3)
    unit = json.loads(re.findall(r'id="unit-0">(.*?)</script>', page)[0])
    assert {"profit", "cpik", "ltv_cac", "payback"} <= set(unit["channels"]["tv"])
    names = {path.stem for path in run.export(tmp_path / "tables", "parquet", **given)}
    assert {"whole_worth", "whole_worth_total_quarterly"} <= names
