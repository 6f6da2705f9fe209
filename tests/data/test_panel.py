"""Tables of every kind and layout become the same panel; what cannot be read is refused in one go."""

import hashlib
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mixfleet import config
from mixfleet.data.formats import csv_file, parquet_file
from mixfleet.data.panel import Panel, Unit, read_panel, unit_id
from mixfleet.data.sources import example_path
from mixfleet.data.validation.finding import findings_table
from mixfleet.errors import ConfigError, TableError
from mixfleet.simulation import fleet as simulate
from tests.data.validation.test_checks import same_units
from tests.support.clock import cpu_seconds
from tests.support.shared_data import shared

FLEET = simulate.fleet(brands=2, markets=2, weeks=60, channels=3, controls=1, seed=5, ragged=True)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return read_panel(FLEET.table, FLEET.data)


def quiet(unit: Unit) -> Unit:
    """Without warnings: a long table's columns have other names in them."""
    return replace(unit, warnings=())


def same_panels(a: Panel, b: Panel) -> bool:
    return (
        len(a.units) == len(b.units)
        and all(same_units(quiet(x), quiet(y)) for x, y in zip(a.units, b.units, strict=True))
        and a.rejected == b.rejected
        and (a.channels, a.linear) == (b.channels, b.linear)
    )


def write(path, suffix):
    if suffix == "csv":
        pa_csv.write_csv(FLEET.table, path / "a.csv")
        return path / "a.csv"
    pq.write_table(FLEET.table, path / "a.parquet")
    return path / "a.parquet"


class Stream:
    """An object that only knows the Arrow C stream."""

    def __arrow_c_stream__(self, requested_schema=None):
        return FLEET.table.__arrow_c_stream__(requested_schema)


SOURCES = {
    "pandas": lambda _: FLEET.table.to_pandas(),
    "pandas objects": lambda _: FLEET.table.to_pandas().astype(object),
    "polars": lambda _: pl.DataFrame(FLEET.table),
    "polars categories": lambda _: pl.DataFrame(FLEET.table).with_columns(pl.col("brand").cast(pl.Categorical)),
    "arrow": lambda _: FLEET.table,
    "arrow dictionary": lambda _: FLEET.table.set_column(0, "brand", FLEET.table["brand"].dictionary_encode()),
    "stream": lambda _: Stream(),
    "csv": lambda path: write(path, "csv"),
    "parquet": lambda path: str(write(path, "parquet")),
    "shuffled": lambda _: FLEET.table.take(np.random.default_rng(0).permutation(FLEET.table.num_rows)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_table_gives_the_same_panel(tmp_path, panel, name):
    assert same_panels(read_panel(SOURCES[name](tmp_path), FLEET.data), panel)


def test_duckdb_relation(panel):
    connection = duckdb.connect()
    connection.register("fleet", FLEET.table)
    assert same_panels(read_panel(connection.sql("select * from fleet"), FLEET.data), panel)


def test_folder_and_glob_join_their_files(tmp_path, panel):
    half = FLEET.table.num_rows // 2
    pq.write_table(FLEET.table.slice(0, half), tmp_path / "a.parquet")
    (tmp_path / "more").mkdir()
    pa_csv.write_csv(FLEET.table.slice(half), tmp_path / "more" / "b.csv")
    (tmp_path / "_SUCCESS.csv").write_text("not a table")
    assert same_panels(read_panel(tmp_path, FLEET.data), panel)
    assert same_panels(read_panel(None, replace(FLEET.data, path=str(tmp_path / "**" / "[ab].*"))), panel)


def test_rows_of_several_files_are_named_by_file_and_line(tmp_path):
    text = FLEET.table.to_pandas().to_csv(index=False).splitlines()
    half = FLEET.table.num_rows // 2
    bad = text[half + 3].split(",")
    bad[3] = "lots"
    (tmp_path / "a.csv").write_text("\n".join(text[:half]) + "\n")
    (tmp_path / "b.csv").write_text(
        "\n".join([text[0], *text[half : half + 3], ",".join(bad), *text[half + 4 :]]) + "\n"
    )
    findings = read_panel(tmp_path, FLEET.data).findings
    [finding] = [f for f in findings if f.rule == "not_a_number"]
    assert "b.csv line 5" in finding.message
    assert "'lots'" in finding.message


def test_ragged_units_keep_their_own_weeks(panel):
    starts = {unit.dates[0] for unit in panel.units}
    lengths = {len(unit.dates) for unit in panel.units}
    assert len(starts) > 1
    assert len(lengths) > 1
    for unit in panel.units:
        assert unit.observed.all()
        assert np.isfinite(unit.kpi).all()
        assert (np.diff(unit.dates) == np.timedelta64(7, "D")).all()
    assert {f.rule for f in panel.findings if f.severity == "warning"} >= {"channel_absent"}


def test_a_declared_gap_is_a_hole_and_no_zero_sale():
    frame = FLEET.table.to_pandas().drop(index=[20, 21])
    unit = read_panel(frame, replace(FLEET.data, gaps="absent")).units[0]
    assert (~unit.observed).sum() == 2
    assert np.isnan(unit.kpi[~unit.observed]).all()
    assert np.isfinite(unit.kpi[unit.observed]).all()
    assert (unit.media[~unit.observed] == 0).all()
    assert len(unit.dates) == len(unit.kpi) == len(read_panel(FLEET.table, FLEET.data).units[0].dates)


def test_arrays_are_read_only(panel):
    with pytest.raises(ValueError, match="read-only"):
        panel.units[0].kpi[0] = 0.0


def long_table() -> pd.DataFrame:
    wide = FLEET.table.to_pandas()
    kept = ["brand", "market", "date", "kpi", "kpi_scale", "control_1"]
    pieces = [wide[kept].assign(channel=c.name, spend=wide[str(c.spend)]) for c in FLEET.data.channels]
    return pd.concat(pieces, ignore_index=True)


LONG = replace(FLEET.data, layout="long", channels=())


def test_long_layout_gives_the_same_panel(panel):
    frame = long_table()
    named = replace(LONG, channels=FLEET.data.channels)
    assert same_panels(read_panel(frame, named), panel)
    # An absent channel may have no rows at all.
    assert same_panels(read_panel(frame.dropna().sample(frac=1.0, random_state=1), named), panel)
    assert set(read_panel(frame, LONG).channels) == set(panel.channels)


def test_long_layout_faults():
    frame = long_table()
    tv = (frame["channel"] == "tv").to_numpy() & frame["spend"].notna().to_numpy()
    first = np.flatnonzero(tv)[0]
    doubled = pd.concat([frame, frame.loc[[first]]])
    assert "two rows for channel tv" in reason(doubled)
    assert "different values for one date" in reason(frame.assign(kpi=np.arange(len(frame)) + 1.0))
    assert "spend of tv" in reason(frame.drop(index=first))
    more = pd.concat([frame, frame.assign(channel="fax")])
    few = replace(LONG, channels=FLEET.data.channels)
    assert "'fax'" in read_panel(more, few).findings[0].message


def reason(frame: pd.DataFrame) -> str:
    return " ".join(rejection.reason for rejection in read_panel(frame, LONG).rejected)


def test_missing_columns_are_named_all_at_once():
    data = replace(FLEET.data, date="day", kpi="sales", controls=("rain",))
    with pytest.raises(TableError, match=r"no column day.*no column sales.*no column rain") as caught:
        read_panel(FLEET.table, data)
    assert [f.column for f in caught.value.findings] == ["day", "sales", "rain"]
    assert findings_table(caught.value.findings).column_names == [
        "rule",
        "severity",
        "unit",
        "column",
        "message",
    ]


WRONG = {
    "text kpi": (
        "kpi",
        pa.array(["many"] * FLEET.table.num_rows),
        "column kpi holds text such as 'many' .row 1.",
    ),
    "bool media": ("spend_tv", pa.array([True] * FLEET.table.num_rows), "column spend_tv holds bool"),
    "integer dates": ("date", pa.array(range(FLEET.table.num_rows)), "column date holds int64"),
    "float keys": ("brand", pa.array([1.5] * FLEET.table.num_rows), "key column brand holds double"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_column_that_holds_something_else_refuses_the_table(name):
    column, values, message = WRONG[name]
    place = FLEET.table.column_names.index(column)
    with pytest.raises(TableError, match=message):
        read_panel(FLEET.table.set_column(place, column, values), FLEET.data)


def test_complex_pandas_column_is_refused():
    with pytest.raises(TableError, match="column spend_tv holds complex128"):
        read_panel(FLEET.table.to_pandas().assign(spend_tv=1j), FLEET.data)


REFUSED = {
    "no file": (lambda path: path / "nowhere.csv", "no file matches"),
    "empty folder": (lambda path: path, "holds no .csv, .xlsx or .parquet"),
    "other kind": (lambda path: touch(path / "a.docx", b"x"), "neither .csv, .xlsx nor .parquet"),
    "broken parquet": (lambda path: touch(path / "a.parquet", b"PAR1 no"), "cannot be read"),
    "list": (lambda _: [1, 2], "cannot read a table from builtins.list"),
    "lazy polars": (lambda _: pl.DataFrame(FLEET.table).lazy(), "collect a lazy one"),
    "doubled column": (
        lambda _: FLEET.table.append_column("kpi", FLEET.table["kpi"]),
        "2 columns named kpi",
    ),
    "no rows": (lambda _: FLEET.table.slice(0, 0), "no rows"),
}


def touch(path, raw):
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_unreadable_sources_are_refused(tmp_path, name):
    make, message = REFUSED[name]
    with pytest.raises(TableError, match=message) as caught:
        read_panel(make(tmp_path), FLEET.data)
    assert caught.value.findings


def test_no_source_at_all_names_the_setting():
    with pytest.raises(ConfigError, match=r"data\.path"):
        read_panel(None, FLEET.data)


LIMITS = {
    "long line": (csv_file, "CSV_LINE_BYTES", 50, "line 1 has more than 50 bytes"),
    "many lines": (csv_file, "CSV_ROWS", 10, "has more than 10 rows"),
    "many columns": (csv_file, "CSV_COLUMNS", 3, "columns, at most 3"),
    "large cell": (csv_file, "CSV_CELL_BYTES", 3, "a cell of brand has 9 bytes"),
    "large file": (csv_file, "CSV_FILE_BYTES", 100, "is larger than 100 bytes"),
    "many parquet rows": (parquet_file, "ROWS", 10, "rows, at most 10"),
    "parquet bomb": (parquet_file, "BYTES", 10, "decodes to"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(tmp_path, monkeypatch, name):
    module, constant, value, message = LIMITS[name]
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(TableError, match=message):
        read_panel(write(tmp_path, "csv" if module is csv_file else "parquet"), FLEET.data)


def test_labels_stay_as_they_are_written(tmp_path):
    frame = FLEET.table.to_pandas().replace({"brand": {"brand_001": "007", "brand_002": "NA"}})
    frame.to_csv(tmp_path / "a.csv", index=False)
    labels = {unit.labels[0] for unit in read_panel(tmp_path / "a.csv", FLEET.data).units}
    assert labels == {"007", "NA"}


def test_integer_keys_are_text():
    frame = FLEET.table.to_pandas()
    frame["brand"] = frame["brand"].str[-1].astype(int)
    assert read_panel(frame, FLEET.data).units[0].labels == ("1", "market_001")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
def test_dates_of_one_zone_are_its_local_days(panel, zone):
    frame = FLEET.table.to_pandas()
    frame["date"] = pd.to_datetime(frame["date"]).dt.tz_localize(zone)
    read = read_panel(frame, FLEET.data)
    assert same_panels(read, panel)
    assert "date_offset" in {f.rule for f in read.findings}


def test_time_of_day_is_dropped_and_said(panel):
    frame = FLEET.table.to_pandas()
    frame["date"] = pd.to_datetime(frame["date"]) + pd.Timedelta(hours=5)
    read = read_panel(frame, FLEET.data)
    assert same_panels(read, panel)
    assert "date_clock" in {f.rule for f in read.findings}


def test_daily_tables():
    frame = FLEET.table.to_pandas()
    first = frame.groupby(["brand", "market"])["date"].transform("min")
    days = (pd.to_datetime(frame["date"]) - pd.to_datetime(first)).dt.days // 7
    frame["date"] = pd.to_datetime(first) + pd.to_timedelta(days, unit="D")
    read = read_panel(frame, replace(FLEET.data, frequency="daily"))
    assert len(read.units) == 4
    assert (np.diff(read.units[0].dates) == np.timedelta64(1, "D")).all()
    assert len(read_panel(frame, FLEET.data).units) == 0


def test_organic_treatments_and_value():
    frame = FLEET.table.to_pandas().assign(letters=3.0, price=lambda f: 9 + np.arange(len(f)) % 7, worth=2.5)
    frame.loc[::2, "letters"] = 1.0
    data = replace(
        FLEET.data, organic=("letters",), treatments=(config.Treatment(name="price"),), revenue_per_kpi="worth"
    )
    read = read_panel(frame, data)
    assert read.channels == ("tv", "search", "social", "letters")
    assert read.linear == ("control_1", "price")
    unit = read.units[0]
    assert np.isnan(unit.spend[:, 3]).all()
    assert (unit.media[:, 3] >= 1.0).all()
    assert (unit.value_per_kpi == 2.5).all()


def test_unit_id_tells_apart_what_looks_alike():
    names = [("a", "b"), ("ab", ""), ("", "ab"), ("A", "b"), ('a","b',), ("caf\u00e9",), ("cafe\u0301",)]
    assert len({unit_id(labels) for labels in names}) == len(names)
    assert unit_id(("acme", "DE")) == hashlib.sha256(b'["acme","DE"]').hexdigest()


def test_bundled_example_is_complete():
    read = read_panel(None, config.preset("data", "example"))
    assert len(read.units) == 95
    assert not read.rejected
    assert sorted(len(unit.dates) for unit in read.units)[:4] == [66, 72, 81, 109]
    assert (example_path().parent / "NOTICE.md").read_text().count("Aditya Puttaparthi Tirumala") == 1


def test_bundled_example_equals_its_source():
    mine = pd.read_parquet(example_path())
    theirs = pd.read_parquet(shared("real_dma_visits_a/data.parquet"))
    order = ["market", "week"]
    mine, theirs = (frame.sort_values(order, ignore_index=True) for frame in (mine, theirs))
    mine["week_start"] = pd.to_datetime(mine["week_start"])
    assert list(mine.columns) == list(theirs.columns)
    for column in mine.columns:
        assert (mine[column].to_numpy() == theirs[column].to_numpy()).all()


def test_real_tables_are_read_without_errors():
    folder = shared("sim_meridian_rf")
    channels = {f"c{i}": {"spend": f"Channel{i}_spend", "impressions": f"Channel{i}_impression"} for i in range(3)}
    settings = {
        "keys": ["geo"],
        "date": "time",
        "kpi": "conversions",
        "kpi_type": "count",
        "channels": channels,
        "controls": ["sentiment_score_control", "competitor_activity_score_control"],
        "population": "population",
        "revenue_per_kpi": "revenue_per_conversion",
    }
    read = read_panel(folder / "geo_media_rf.csv", config.build(config.Data, settings))
    assert len(read.units) == 20
    assert not read.findings
    frame = pd.read_parquet(shared("sim_param_recovery/brands_6x8.parquet"))
    spend = [name for name in frame if name.startswith("x")]
    data = config.build(
        config.Data, {"keys": ["brand", "geo"], "kpi": "y", "channels": spend, "controls": ["c1", "c2"]}
    )
    assert len(read_panel(frame, data).units) == 48


def test_three_thousand_units_in_three_seconds():
    units, weeks = 3000, 156
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {
        "brand": np.repeat([f"unit {i}" for i in range(units)], weeks),
        "date": np.tile(np.datetime64("2020-01-06") + 7 * np.arange(weeks), units),
        "kpi": rng.gamma(3.0, 1.0, units * weeks),
    }
    columns |= {f"c{i}": rng.gamma(1.0, 1.0, units * weeks) for i in range(8)}
    columns |= {f"z{i}": rng.normal(size=units * weeks) for i in range(4)}
    settings = {
        "keys": ["brand"],
        "channels": [f"c{i}" for i in range(8)],
        "controls": [f"z{i}" for i in range(4)],
    }
    table, data = pa.table(columns), config.build(config.Data, settings)
    assert len(read_panel(table, data).units) == units
    assert cpu_seconds(lambda: read_panel(table, data), asked=3.0) < 3.0
