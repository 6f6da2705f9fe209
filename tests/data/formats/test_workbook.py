"""Workbooks are read like any table; so are partitioned folders."""

import sys

import pandas as pd
import pytest

from mixfleet.data.panel import read_panel
from mixfleet.errors import TableError
from tests.data.formats.test_csv_file import FRAME, PLAIN, same
from tests.data.test_reshape import DATA, TODAY, wide

openpyxl = pytest.importorskip("openpyxl")


def test_workbook_with_title_totals_and_another_sheet(tmp_path):
    with pd.ExcelWriter(tmp_path / "sales.xlsx", engine="openpyxl") as book:
        pd.DataFrame({"read": ["me"]}).to_excel(book, sheet_name="cover", index=False)
        FRAME.to_excel(book, sheet_name="data", index=False, startrow=2)
        book.sheets["data"]["A1"] = "Sales report"
        book.sheets["data"].append(["Total", None, None, 1, 2, 3])
    panel = read_panel(tmp_path / "sales.xlsx", DATA, today=TODAY)
    assert same(panel, rounded=True)
    told = {finding.rule: finding.message for finding in panel.findings}
    assert set(told) == {"workbook", "total_rows"}
    assert "sheet 'data' was read, 2 rows above its header" in told["workbook"]


def test_workbook_without_the_columns_names_them(tmp_path):
    FRAME.drop(columns="tv").to_excel(tmp_path / "sales.xlsx", index=False)
    with pytest.raises(TableError, match="sheet 'Sheet1' has no column tv"):
        read_panel(tmp_path / "sales.xlsx", DATA, today=TODAY)


def test_broken_workbook_and_missing_library(tmp_path, monkeypatch):
    (tmp_path / "sales.xlsx").write_bytes(b"PK no")
    with pytest.raises(TableError, match="cannot be read as a workbook"):
        read_panel(tmp_path / "sales.xlsx", DATA, today=TODAY)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(TableError, match=r"pip install 'mixfleet\[excel\]', or save the sheet as CSV"):
        read_panel(tmp_path / "sales.xlsx", DATA, today=TODAY)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_folders_of_a_partitioned_table_are_columns(tmp_path, kind):
    for market in ("DE", "Öster/reich"):
        folder = tmp_path / "brand=Alba" / f"market={market.replace('/', '%2F')}"
        folder.mkdir(parents=True)
        rows = wide(market).drop(columns=["brand", "market"])
        if kind == "csv":
            rows.to_csv(folder / "part-0.csv", index=False)
        else:
            rows.to_parquet(folder / "part-0.parquet", index=False)
    panel = read_panel(tmp_path, DATA, today=TODAY)
    assert [unit.labels for unit in panel.units] == [("Alba", "DE"), ("Alba", "Öster/reich")]
    assert len(panel.units[0].dates) == len(PLAIN.units[0].dates)


def test_dates_in_the_index_are_named():
    frame = FRAME.set_index("date")
    with pytest.raises(TableError, match=r"column date is in the table's index: pass table\.reset_index\(\)"):
        read_panel(frame, DATA, today=TODAY)
    with pytest.raises(TableError, match=r"its index has dates: pass table\.rename_axis\('date'\)"):
        read_panel(frame.rename_axis(None), DATA, today=TODAY)
