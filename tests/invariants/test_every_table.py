"""Law 10 over every table of a run: what Python, Parquet, CSV, workbook and report show is the same number."""

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixfleet.config import Model
from mixfleet.posterior.unit_result import TABLES
from mixfleet.run import Run
from mixfleet.storage.table_files import neutralised
from tests.support.saved_run import saved_run

ONLY_IN_A_WORKBOOK = {"cover", "summary", "roi"}
"""Two sheets of sentences, and the run's own table of returns."""


PLANNED = ("spend_today", "spend_plan", "gain_mean", "gain_q05", "gain_q95")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With a plan and a forecast that were left in its folder."""
    made = saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), draws=20).keep(margin=0.4)
    made.budget(weeks=6, frontier=True).save(made.path / "budget")
    return made


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Path]]:
    """Files by kind and name of the table."""
    folder = tmp_path_factory.mktemp("tables")
    return {
        kind: {path.stem: path for path in run.export(folder / kind, kind) if path.suffix == f".{kind}"}
        for kind in ("parquet", "csv", "xlsx")
    }


def told(run: Run) -> dict[str, pa.Table]:
    """Every table as Python has it."""
    plan = run.budget(weeks=6, frontier=True)
    return {
        "status": run.table("status"),
        "plan": plan.cells,
        "plan_by_week": plan.weekly,
        **{f"plan_{name}": table for name, table in plan.extra.items()},
        **{
            "finance" + (f"_by_{by[0]}" if by else ""): replace(run, frame="pyarrow").finance(plan, by)
            for by in ((), ("brand",), ("market",))
        },
        **replace(run.insight, frame="pyarrow").everything(),
    }


def test_parquet_is_python_to_the_last_bit(run: Run, exported: Mapping[str, Mapping[str, Path]]) -> None:
    expected = told(run)
    files = exported["parquet"]
    assert set(files) - {"plan_notes"} == set(expected)
    assert len(expected) > 25
    for name, table in expected.items():
        found = pq.read_table(files[name])
        assert found.column_names == table.column_names, name
        assert _rows(found) == _rows(table), name


def test_csv_is_parquet(exported: Mapping[str, Mapping[str, Path]]) -> None:
    assert set(exported["csv"]) == set(exported["parquet"])
    for name, path in exported["csv"].items():
        table = neutralised(pq.read_table(exported["parquet"][name]))
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        assert head == table.column_names, name
        assert len(rows) == table.num_rows, name
        for i, column in enumerate(table.columns):
            for text, value in zip((row[i] for row in rows), column.to_pylist(), strict=True):
                assert _read(text, value) == _plain(value), (name, head[i])


def test_a_workbook_is_parquet(exported: Mapping[str, Mapping[str, Path]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    [path] = exported["xlsx"].values()
    book = openpyxl.load_workbook(path, read_only=True)
    # Names are cut to what Excel takes; sheets stand in the order of the files.
    sheets = [sheet for sheet in book.worksheets if sheet.title not in ONLY_IN_A_WORKBOOK]
    assert len(sheets) == len(exported["parquet"])
    for sheet, (name, file) in zip(sheets, exported["parquet"].items(), strict=True):
        table = neutralised(pq.read_table(file))
        head, *rows = sheet.values
        assert list(head) == table.column_names, name
        assert len(rows) == table.num_rows, name
        for i, column in enumerate(table.columns):
            for found, value in zip(
                (row[i] if i < len(row) else None for row in rows), column.to_pylist(), strict=True
            ):
                assert _cell(found) == _cell(value), (name, head[i])


def test_every_table_of_the_run_is_what_its_method_returns(run: Run) -> None:
    arrow = replace(run, frame="pyarrow")
    methods = {"fit": arrow.fit_quality}
    for name in ("status", *TABLES, "findings"):
        if method := methods.get(name, getattr(arrow, name, None)):
            assert _rows(method() if callable(method) else method) == _rows(run.table(name)), name


def test_the_report_is_the_tables(run: Run) -> None:
    page = run.report().read_text("utf-8")
    pieces = dict(re.findall(r'<script type="application/json" id="([^"]*)">(.*?)</script>', page, re.DOTALL))
    fleet, insight = json.loads(pieces["fleet"]), replace(run.insight, frame="pyarrow")
    labels = [tuple(row["unit"]) for row in fleet["status"]]
    shown = {unit: json.loads(pieces[f"unit-{i}"]) for i, unit in enumerate(labels)}
    _check_channels(shown, insight)
    _check_series(shown, run, insight)
    plan = [row for row in run.budget(weeks=6, frontier=True).cells.to_pylist()]
    for unit, own in shown.items():
        rows = [row for row in plan if (row["brand"], row["market"]) == unit]
        assert own["plan"] == [
            [
                row["channel"],
                *map(
                    _short, (row[name] for name in ("spend_today", "spend_plan", "gain_mean", "gain_q05", "gain_q95"))
                ),
                row["binding"],
            ]
            for row in rows
        ]
    total = fleet["total"]
    assert total["channels"] == [
        [row["channel"], *(_same(row[name]) for name in ("mean", "q05", "q95", "spend"))]
        for row in insight.roi(by=()).to_pylist()
    ]
    assert [row[0] for row in total["components"]] == insight.contributions(by=())["component"].to_pylist()
    for row, own in zip(insight.contributions(by=()).to_pylist(), total["components"], strict=True):
        assert own[2:] == [_same(row[name]) for name in ("mean", "q05", "q95", "share")]


def _check_channels(shown: Mapping[Any, Any], insight: Any) -> None:
    """Returns of every measure, shapes, and what lies between channels."""
    names = {"roi": "roi", "marginal_roi": "marginal", **{name: name for name in insight.economics.measures}}
    count = 0
    for row in insight.returns().to_pylist():
        if row["measure"] in names:
            own = shown[row["brand"], row["market"]]["channels"][row["channel"]][names[row["measure"]]]
            assert own == [_short(row[name]) for name in ("mean", "q05", "q95", "spend")]
            count += 1
    assert count > 20
    for row in insight.shapes().to_pylist():
        own = shown[row["brand"], row["market"]]["channels"][row["channel"]][row["measure"]]
        assert own == [_short(row[name]) for name in ("q50", "q05", "q95")]
    for row in insight.lags().to_pylist():
        assert shown[row["brand"], row["market"]]["lags"][row["channel"]][row["lag"]] == _short(row["mean"])


def _check_series(shown: Mapping[Any, Any], run: Run, insight: Any) -> None:
    """Weeks, months and curves."""
    for unit, own in shown.items():
        rows = [row for row in run.table("weekly").to_pylist() if (row["brand"], row["market"]) == unit]
        for name in ("kpi", "mean", "q05", "q95") if rows else ():
            assert own["weekly"][name] == [_short(row[name]) for row in rows]
    for row in insight.contributions(period="month").to_pylist():
        parts = shown[row["brand"], row["market"]]["parts"]
        at = parts["month"].index(row["period"])
        assert parts["mean"][row["component"]][at] == pytest.approx(row["mean"] / row["weeks"], rel=6e-4, abs=1e-9)
    curves = insight.curves(16).to_pylist()
    for row in curves:
        own = shown[row["brand"], row["market"]]["curves"][row["channel"]]
        for name in ("spend", "mean", "q05", "q95"):
            assert own[name][row["level"]] == _short(row[name])


def _short(value: float | None) -> Any:
    """To the four digits of a unit's page."""
    return None if value is None or not math.isfinite(value) else pytest.approx(float(f"{value:.4g}"), rel=2e-4)


def _same(value: float) -> Any:
    return pytest.approx(value, rel=1e-13)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]


def _plain(value: Any) -> Any:
    """The value, and no NaN, which is no value's equal."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _read(text: str, like: Any) -> Any:
    """A cell of a CSV as a value of its column's type."""
    if isinstance(like, bool):
        return text == "true"
    if isinstance(like, int | float):
        return _plain(float(text))
    return (text or None) if like is None else type(like).fromisoformat(text) if hasattr(like, "isoformat") else text


def _cell(value: Any) -> Any:
    """What a workbook holds of a value: 16 digits of a number, no empty text, days as days with hours."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if math.isnan(value) else pytest.approx(float(value), rel=1e-14)
    return str(value)[:10] if hasattr(value, "isoformat") else value or None
