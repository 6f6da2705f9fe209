"""The workbook of a run: what a reader opens first, and that it holds everything."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixfleet.config import Model
from mixfleet.run import Run
from tests.support.saved_run import saved_run

openpyxl = pytest.importorskip("openpyxl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5))


def test_a_workbook_begins_with_the_answer(run: Run, tmp_path: Path) -> None:
    plan = run.budget(weeks=6, frontier=True, experiment_error=0.2)
    plan.save(run.path / "budget")
    try:
        [path] = run.export(tmp_path, "xlsx")
        files = run.export(tmp_path, "parquet")
    finally:
        shutil.rmtree(run.path / "budget")
    book = openpyxl.load_workbook(path)
    assert book.sheetnames[:11] == [
        *("cover", "summary", "plan", "finance", "finance_by_brand", "finance_by_market", "plan_by_week"),
        *("plan_frontier", "plan_experiments", "roi", "status"),
    ]
    said = [row[1].value for row in book["summary"].iter_rows(min_row=2)]
    lines = run.summary(plan).lines()
    assert said[: len(lines)] == lines
    cover = {row[0].value: row[1].value for row in book["cover"].iter_rows(min_row=2)}
    assert (cover["data from"], cover["brand"]) == ("2023-11-06", "acme, bolt, core")
    for sheet, column, expected in (
        ("plan", "spend_plan", plan.table()),
        ("finance", "plan", run.finance(plan)),
        ("roi", "mean", run.roi()),
        ("returns_total", "q05", run.insight.returns(by=())),
    ):
        heads = [cell.value for cell in book[sheet][1]]
        found = [row[heads.index(column)].value for row in book[sheet].iter_rows(min_row=2)]
        # Excel keeps fifteen digits.
        assert [value for value in found if value is not None] == pytest.approx(
            expected[column].dropna().tolist(), rel=1e-14
        )
    same_in_every_table(run, book, files)
    cells = (cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row)
    assert "f" not in {cell.data_type for cell in cells}


def same_in_every_table(run: Run, book: Any, files: list[Path]) -> None:
    """Each sheet is its Parquet file, and that is the table of Python, digit by digit."""
    sheets = [sheet for sheet in book.worksheets if sheet.title not in ("cover", "summary", "roi")]
    python = replace(run.insight, frame="pyarrow").everything()
    assert len(sheets) == len(files)
    assert python.keys() <= {path.stem for path in files}
    for sheet, path in zip(sheets, files, strict=True):
        table = pq.read_table(path)
        if path.stem in python:
            assert table.equals(python[path.stem]), path.stem
        rows = list(sheet.iter_rows(values_only=True))
        assert list(rows[0] if table.num_columns else ()) == table.column_names
        for name, found in zip(table.column_names, zip(*rows[1:], strict=True), strict=False):
            expected = table[name].to_pylist()
            numbers = pa.types.is_floating(table[name].type)
            if numbers:
                own = [math.nan if value is None else float(value) for value in found]
                wanted = [math.nan if value is None else value for value in expected]
                assert own == pytest.approx(wanted, rel=1e-14, nan_ok=True), (path.stem, name)
            elif not pa.types.is_date(table[name].type):
                assert [value or "" for value in found] == [value or "" for value in expected], (path.stem, name)
