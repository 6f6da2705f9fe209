from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mixfleet.errors import ConfigError
from mixfleet.storage.table_files import neutralised, restored, write_tables

NASTY = ['=HYPERLINK("http://evil")', "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\uff1d1", "plain", "", None]
TABLE = pa.table({"brand": NASTY, "spend": [float(i) for i in range(9)], "=evil": list(range(9))})


def test_no_text_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    [path] = write_tables({"plan": TABLE}, tmp_path, "csv")
    read = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types={"brand": pa.string()}))
    assert read.column_names == ["brand", "spend", "'=evil"]
    for before, after in zip(NASTY, read["brand"].to_pylist(), strict=True):
        assert after == (before or "") if before in ("plain", "", None) else after == f"'{before}"


def test_numbers_below_zero_stay_numbers(tmp_path: Path) -> None:
    [path] = write_tables({"plan": pa.table({"change": [-0.3]})}, tmp_path, "csv")
    assert pyarrow.csv.read_csv(path)["change"].to_pylist() == [-0.3]


def test_parquet_keeps_everything_as_it_is(tmp_path: Path) -> None:
    [path] = write_tables({"plan": TABLE}, tmp_path, "parquet")
    assert pq.read_table(path).equals(TABLE)


def test_no_cell_of_a_workbook_is_a_formula(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    [path] = write_tables({"plan": TABLE, "x" * 40: TABLE}, tmp_path, "xlsx")
    buffer = openpyxl.load_workbook(path)
    # Cut in the middle, as long names differ at their ends.
    assert buffer.sheetnames == ["plan", "x" * 20 + "~" + "x" * 10]
    assert "f" not in {cell.data_type for row in buffer["plan"].iter_rows() for cell in row}


def test_a_workbook_is_made_to_be_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    table = pa.table(
        {
            "unit": ["a", "b"],
            "date": pa.array([date(2026, 1, 5)] * 2),
            "share": [0.25, float("nan")],
            "mean": [2.5, 3.5],
            "spend": [12_000.0, 9_000.0],
            "answer": ["word " * 30, "short"],
        }
    )
    names = [
        f"contributions_by_{key}_quarterly"
        for key in ("Brand", "Country", "a_long_name_of_a_column", "A_long_name_of_a_column")
    ]
    [path] = write_tables(dict.fromkeys(names, table), tmp_path, "xlsx")
    book = openpyxl.load_workbook(path)
    assert len({name.lower() for name in book.sheetnames}) == len(names)
    assert book.sheetnames[:2] == ["contrib_by_Brand_qtr", "contrib_by_Country_qtr"]
    sheet = book.worksheets[0]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:F3")
    assert [cell.number_format for cell in sheet[2]] == [
        "General",
        "yyyy-mm-dd",
        "0.0%",
        "#,##0.00",
        "#,##0",
        "General",
    ]
    assert sheet["C3"].value is None
    assert sheet["F2"].alignment.wrap_text
    assert sheet.column_dimensions["F"].width > sheet.column_dimensions["A"].width


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one of csv"):
        write_tables({}, tmp_path, "docx")


def test_control_characters_and_formulas_do_no_harm_in_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    labels = ["a\x07b", "\x1b[31mred", "=cmd()", "@x\x00", "caf\u00e9 \ufffe", "two\nlines"]
    [path] = write_tables({"t": pa.table({"unit\x0b": labels})}, tmp_path, "xlsx")
    read = [cell.value for cell in next(openpyxl.load_workbook(path)["t"].columns)]
    assert read == [
        "unit\\u000b",
        "a\\u0007b",
        "\\u001b[31mred",
        "'=cmd()",
        "'@x\\u0000",
        "caf\u00e9 \\ufffe",
        "two\nlines",
    ]


def test_a_text_that_was_made_harmless_can_be_restored() -> None:
    texts = [*(text for text in NASTY if text), "'=1", "''=1", "'quoted'", "it's"]
    safe = neutralised(pa.table({"text": texts}))["text"].to_pylist()
    assert len(set(safe)) == len(texts)
    assert [restored(text) for text in safe] == texts
