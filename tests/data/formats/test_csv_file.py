"""A table written in any dialect is read back equal, with a word on how it was written."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixfleet import config
from mixfleet.data.panel import Panel, read_panel
from mixfleet.errors import TableError
from tests.data.test_reshape import DATA, TODAY, wide
from tests.data.validation.test_checks import same_units

FRAME = wide("DE", 'Öster "reich", und;\tmehr')
PLAIN = read_panel(FRAME, DATA, today=TODAY)
DELIMITERS = [",", ";", "\t", "|"]
DATES = ["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y"]
DATES += ["%d-%b-%y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y"]


def written(
    delimiter: str = ",",
    *,
    comma: bool = False,
    thousands: bool = False,
    date: str = "%Y-%m-%d",
    ends: str = "\n",
    quoting: int = csv.QUOTE_MINIMAL,
    titles: tuple[str, ...] = (),
    totals: tuple[str, ...] = (),
) -> str:
    def cell(value: object) -> str:
        if isinstance(value, pd.Timestamp):
            return value.strftime(date)
        if not isinstance(value, float):
            return str(value)
        text = f"{value:,.2f}" if thousands else repr(value)
        return text.translate(str.maketrans(",.", ".,")) if comma else text

    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ends)
    writer.writerow(FRAME.columns)
    writer.writerows([cell(value) for value in row] for row in FRAME.itertuples(index=False))
    return "".join(f"{line}{ends}" for line in titles) + out.getvalue() + "".join(f"{line}{ends}" for line in totals)


def read(path: Path, raw: bytes, **changes) -> Panel:
    path.write_bytes(raw)
    return read_panel(path, replace(DATA, **changes), today=TODAY)


def same(panel: Panel, rounded: bool = False) -> bool:
    if rounded:
        return all(np.allclose(a.kpi, b.kpi, atol=0.01) for a, b in zip(panel.units, PLAIN.units, strict=True))
    return all(same_units(a, b) for a, b in zip(panel.units, PLAIN.units, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    delimiter=st.sampled_from(DELIMITERS),
    comma=st.booleans(),
    date=st.sampled_from(DATES),
    ends=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    titles=st.sampled_from([(), ("Sales report",), ("Sales report", "", "as of 2026")]),
    separator_line=st.booleans(),
    footer=st.booleans(),
)
def test_every_dialect_is_read_back_equal(
    tmp_path, delimiter, comma, date, ends, quoting, encoding, titles, separator_line, footer
):
    titles = (f"sep={delimiter}", *titles) if separator_line else titles
    cells = ["Summe", "", "", "1", "2", "3"]
    totals = (delimiter.join(cells), delimiter * 5) if footer else ()
    text = written(delimiter, comma=comma, date=date, ends=ends, quoting=quoting, titles=titles, totals=totals)
    changes = {"encoding": encoding} if encoding == "cp1252" else {}
    panel = read(tmp_path / "sales.csv", text.encode(encoding), **changes)
    assert same(panel)
    rules = {finding.rule for finding in panel.findings}
    assert {finding.severity for finding in panel.findings} <= {"info"}
    assert ("csv_dialect" in rules) == (delimiter != "," or ends == "\r" or encoding == "utf-16" or bool(titles))
    assert ("decimal_comma" in rules) == comma
    assert ("date_format" in rules) == (date != "%Y-%m-%d")
    assert ("total_rows" in rules) == footer


@pytest.mark.parametrize(("delimiter", "comma"), [(";", True), (";", False), (",", False), ("\t", True)])
def test_thousands_marks_beside_decimal_marks(tmp_path, delimiter, comma):
    panel = read(tmp_path / "a.csv", written(delimiter, comma=comma, thousands=True).encode())
    assert same(panel, rounded=True)
    assert ("decimal_comma" if comma else "thousands_marks") in {finding.rule for finding in panel.findings}


def test_whole_numbers_with_thousands_marks_are_read_where_the_mark_is_named(tmp_path):
    raw = FRAME.assign(kpi="1,250", tv="2,500", search="3").to_csv(index=False).encode()
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(TableError, match="such as '1,250'"):
        read_panel(tmp_path / "a.csv", DATA, today=TODAY)
    found = read_panel(tmp_path / "a.csv", replace(DATA, decimal="point"), today=TODAY)
    assert not any(finding.rule == "not_a_number" for finding in found.findings)


def test_totals_and_headers_between_the_rows_are_passed_over(tmp_path):
    head, *rows = written().splitlines()
    half = len(rows) // 2
    text = "\n".join([head, *rows[:half], "Subtotal,,,1,2,3", ",,,,,", head, *rows[half:], "Gesamt,,,2,4,6", ""])
    panel = read(tmp_path / "a.csv", text.encode())
    assert same(panel)
    [said] = [finding.message for finding in panel.findings if finding.rule == "total_rows"]
    assert f"blank rows (1), rows of totals (2), repeated headers (1), the first at a.csv line {half + 2}" in said
    broken = text.replace(rows[-1], rows[-1].replace(rows[-1].split(",")[-1], "many"))
    assert not same_rows_at_fault(read(tmp_path / "b.csv", broken.encode()), f"b.csv line {len(rows) + 4}")


def same_rows_at_fault(panel: Panel, place: str) -> bool:
    return not any(place in finding.message for finding in panel.findings)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"PK\x03\x04rest", "call it .xlsx, or unpack it"),
        (b"\x1f\x8brest", "is compressed"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel"),
        (b"PAR1rest", "Parquet"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "web page"),
        (written().encode("utf-16-le"), "data.encoding to utf-16-le"),
        (written().encode("utf-16-be"), "data.encoding to utf-16-be"),
        (written(" ").encode(), "one column only"),
        (written().encode("cp1252"), "As cp1252.* read 'Öster.*data.encoding to cp1252"),
    ],
)
def test_what_a_file_is_in_place_of_the_text_expected_is_said(tmp_path, raw, words):
    with pytest.raises(TableError, match=words):
        read(tmp_path / "a.csv", raw)


def test_a_column_written_otherwise_is_named(tmp_path):
    raw = FRAME.rename(columns={"kpi": "KPI ", "tv": "\u200btv"}).to_csv(index=False).encode()
    with pytest.raises(TableError, match=r"no column kpi: it has 'KPI', name that.*no column tv: it has") as caught:
        read(tmp_path / "a.csv", raw)
    assert str(caught.value).count("its columns are") == 1


def test_a_mark_of_decimals_or_thousands_is_asked_for(tmp_path):
    frame = FRAME.assign(kpi="1.250", tv="2.500", search="3")
    raw = frame.to_csv(index=False, sep=";").encode()
    with pytest.raises(TableError, match=r"numbers such as 1\.250.*set data\.decimal"):
        read(tmp_path / "a.csv", raw)
    frame.loc[1, "kpi"] = "1.260"
    raw = frame.to_csv(index=False, sep=";").encode()
    (tmp_path / "a.csv").write_bytes(raw)
    data = config.build(config.Data, {"channels": ["tv", "search"], "decimal": "comma"})
    found = read_panel(tmp_path / "a.csv", data, today=TODAY)
    assert {f.rule for f in found.findings} >= {"channel_constant"}
    assert not any(f.rule == "not_a_number" for f in found.findings)


def test_line_breaks_in_a_header_are_blanks(tmp_path):
    text = written(";").replace("tv;", '"TV\r\nspend (€)";', 1)
    (tmp_path / "a.csv").write_bytes(text.encode())
    data = config.build(config.Data, {"channels": ["TV spend (€)", "search"]})
    panel = read_panel(tmp_path / "a.csv", data, today=TODAY)
    assert [(unit.spend == other.spend).all() for unit, other in zip(panel.units, PLAIN.units, strict=True)] == [
        True
    ] * 2


def test_faults_are_named_by_their_own_line(tmp_path):
    lines = written(titles=("Sales report", "")).split("\n")
    lines[10] = lines[10].replace(lines[10].split(",")[3], "lots")
    panel = read(tmp_path / "a.csv", "\n".join(lines).encode())
    assert "a.csv line 11" in next(f.message for f in panel.findings if f.rule == "not_a_number")


def test_remarks_below_the_rows(tmp_path):
    panel = read(tmp_path / "a.csv", (written() + "Source: ERP\nExported 2026-01-01\n").encode())
    assert same(panel)
    assert {f.rule for f in panel.findings} == {"footnotes"}


def test_a_market_called_total_is_no_total(tmp_path):
    frame = FRAME.assign(market=FRAME["market"].replace("DE", "Total"))
    panel = read(tmp_path / "a.csv", frame.sort_values("market").to_csv(index=False).encode())
    assert len(panel.units[1].dates) == len(PLAIN.units[0].dates)


def test_other_encodings_name_the_setting(tmp_path):
    with pytest.raises(TableError, match=r"line 62: the bytes are not UTF-8.*set data\.encoding"):
        read(tmp_path / "a.csv", written().encode("cp1252"))
    with pytest.raises(TableError, match=r"is not klingon.*set data\.encoding"):
        read(tmp_path / "a.csv", written().encode(), encoding="klingon")
