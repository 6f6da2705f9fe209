"""Assemble: sources as they are in the world make one table, and what was read, restated and unmapped is told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import mixfleet as mf
from mixfleet.config import Data, build
from mixfleet.config.lake import Lake
from mixfleet.data.lake.assemble import Assembled, assemble
from mixfleet.data.panel import read_panel
from mixfleet.errors import ConfigError, TableError
from mixfleet.storage.manifest import new_manifest
from tests.support import lakes
from tests.support.clock import cpu_seconds
from tests.support.lake_tables import JOIN, REPEATED, RESTATED, LakeTables, lake_tables
from tests.support.lake_tables import UNMAPPED as UNMAPPED_SPEND

pytest.importorskip("duckdb", minversion="2.0")

CONFIGS = Path(__file__).parents[3] / "configs" / "data"
LATEST = {"by": "loaded_at", "per": ["brand", "market", "day"]}
KNOWN = JOIN.replace(
    "SELECT * FROM sales QUALIFY row_number() OVER (PARTITION BY brand, market, day ORDER BY loaded_at DESC) = 1",
    "SELECT * FROM sales",
)
"""The same query, where `latest` has taken the rows that hold."""
UNMAPPED = """SELECT coalesce(sum(cost / per_euro) FILTER (channel IS NULL), 0)
FROM campaigns JOIN rates USING (currency) LEFT JOIN taxonomy ON regexp_matches(campaign, pattern)"""
COLUMNS = {
    "keys": ["brand", "market"],
    "layout": "long",
    "channels": ["search", "social", "display", "tv"],
    "controls": ["price"],
}


@pytest.fixture(scope="module")
def tables() -> LakeTables:
    return lake_tables()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: LakeTables) -> Path:
    """A folder with all tables as files, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    lakes.files(tables, tmp_path)
    pq.write_table(tables.sales, tmp_path / "sales.parquet")
    (tmp_path / "campaigns").mkdir()
    for number, part in enumerate(tables.campaigns):
        pq.write_table(part, tmp_path / "campaigns" / f"{number}.parquet")
    pq.write_table(pa.concat_tables(tables.tv), tmp_path / "tv.parquet")
    (tmp_path / "acme.sql").write_text(KNOWN)
    return tmp_path


def settings(**changes: Any) -> dict[str, Any]:
    files = {name: {"path": f"{name}.csv"} for name in ("prices", "rates", "taxonomy")}
    sources = {
        "sales": {"path": "sales.parquet", "latest": LATEST},
        "campaigns": {"path": "campaigns"},
        "tv": {"path": "tv.parquet"},
        **files,
        **changes.pop("sources", {}),
    }
    return {"sql": "acme.sql", "sources": sources, **changes}


def made(**changes: Any) -> Assembled:
    return assemble(build(Lake, settings(**changes)))


def same(table: pa.Table, expected: pa.Table) -> None:
    rows = table.select(expected.column_names).to_pylist()
    for found, row in zip(rows, expected.to_pylist(), strict=True):
        for name, value in row.items():
            assert found[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), row


@pytest.mark.usefixtures("place")
def test_files_make_the_table_that_plain_formulas_make(tables: LakeTables) -> None:
    found = made(reconcile={"weeks": {"query": "SELECT count(DISTINCT date) FROM result", "least": 104, "most": 104}})
    same(found.table, tables.joined)
    sales = found.read.sources["sales"]
    assert sales.superseded == RESTATED + REPEATED
    assert sales.rows == tables.sales.num_rows - sales.superseded
    assert found.read.reconciled == {"weeks": 104.0}
    [told] = [finding.message for finding in found.findings]
    assert told == "source sales: 80 rows were restated or loaded again; the last by loaded_at holds"


def test_the_template_makes_the_same_table(place: Path, tables: LakeTables) -> None:
    (place / "lake.sql").write_text((CONFIGS / "lake.sql").read_text())
    data = build(Data, yaml.safe_load((CONFIGS / "lake.yaml").read_text()))
    found = assemble(data.lake)
    same(found.table, tables.joined)
    whole = sum(row["spend"] for row in tables.joined.to_pylist() if row["channel"] != "tv")
    assert found.read.reconciled["unmapped_share"] == pytest.approx(UNMAPPED_SPEND / whole, rel=0.02)
    assert len(read_panel(None, data).units) == 3


@pytest.mark.usefixtures("place")
def test_rows_loaded_twice_are_doubted_where_nothing_says_which_holds() -> None:
    found = made(sources={"sales": {"path": "sales.parquet"}})
    assert [finding.rule for finding in found.findings] == ["repeated_rows"]
    assert f"source sales: {REPEATED} rows say again" in found.findings[0].message


@pytest.mark.usefixtures("place")
def test_a_number_outside_its_bounds_ends_it() -> None:
    with pytest.raises(TableError, match=r"unmapped_spend is 250, allowed is at most 1 \(data.lake.reconcile\)"):
        made(reconcile={"unmapped_spend": {"query": UNMAPPED, "most": 1.0}})
    with pytest.raises(ConfigError, match=r"reconcile\.two\.query: must give one number"):
        made(reconcile={"two": {"query": "SELECT 1, 2", "most": 1.0}})


def test_rows_that_came_together_and_differ_are_refused(place: Path) -> None:
    rows = pa.table({"brand": ["a", "a"], "market": ["DE"] * 2, "day": [1, 1], "loaded_at": [5, 5], "revenue": [1, 2]})
    pq.write_table(rows, place / "sales.parquet")
    with pytest.raises(TableError, match="several rows of brand a, market DE, day 1 with the same newest loaded_at"):
        made()


def test_folders_are_columns_and_a_text_of_null_is_no_null(place: Path, tables: LakeTables) -> None:
    (place / "tv.parquet").unlink()
    whole = pa.concat_tables(tables.tv)
    for market in ("DE", "GB", "US"):
        (place / "tv" / f"market={market}").mkdir(parents=True)
        own = whole.filter([value == market for value in whole["market"].to_pylist()]).drop_columns("market")
        pq.write_table(own, place / "tv" / f"market={market}" / "a.parquet")
    same(made(sources={"tv": {"path": "tv"}}).table, tables.joined)
    digests = set()
    for value in (None, "NULL", ""):
        pq.write_table(pa.table({"pattern": [value], "channel": ["x"]}), place / "odd.parquet")
        lake = build(Lake, {"sources": {"odd": {"path": "odd.parquet"}}})
        digests.add(assemble(lake).read.sources["odd"].sha256)
    assert len(digests) == 3


def test_digests_are_of_rows_whatever_their_order(place: Path, tables: LakeTables) -> None:
    before = made().read.sources["sales"].sha256
    pq.write_table(tables.sales.take(list(range(tables.sales.num_rows))[::-1]), place / "sales.parquet")
    assert made().read.sources["sales"].sha256 == before
    changed = tables.sales.to_pydict()
    changed["revenue"][500] += 0.01
    pq.write_table(pa.table(changed, tables.sales.schema), place / "sales.parquet")
    assert made().read.sources["sales"].sha256 != before


def test_a_run_says_what_it_read(place: Path) -> None:
    data = build(Data, {"source": "lake", "lake": settings(), **COLUMNS})
    panel = read_panel(None, data)
    assert len(panel.units) == 3
    record = new_manifest("r", panel, mf.Spec(data=data), _fingerprint(), ("cpu",))["lake"]
    assert record["rows"] == 1248
    assert set(record["sources"]) == {"sales", "campaigns", "tv", "prices", "rates", "taxonomy"}
    assert record["sources"]["sales"]["superseded"] == 80
    assert json.loads(json.dumps(record)) == record
    assert len(mf.check(data=data)) >= 1
    (place / "sales.parquet").unlink()
    with pytest.raises(TableError, match=r"source sales cannot be read: no file matches sales\.parquet"):
        read_panel(None, data)


def _fingerprint() -> Any:
    from mixfleet.storage.manifest import Fingerprint

    return Fingerprint(engine="e", data="d", config={}, arithmetic={})


@pytest.fixture(scope="module")
def database(tables: LakeTables) -> Iterator[lakes.DatabaseServer]:
    with lakes.postgresql() as server:
        server.ingest("sales", tables.sales)
        yield server


def test_a_database_delta_iceberg_and_files_are_joined(
    place: Path,
    tables: LakeTables,
    database: lakes.DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SALES_URL", database.address)
    delta = lakes.delta(tables, str(place / "delta"))
    iceberg = lakes.iceberg(tables, place / "iceberg")
    sources: dict[str, Any] = {
        "sales": {"path": "env:SALES_URL", "query": "SELECT * FROM sales", "latest": LATEST},
        "campaigns": {"path": f"delta:{delta}"},
        "tv": {"path": f"iceberg:lake/{iceberg.name}", "options": iceberg.catalog},
    }
    found = made(sources=sources)
    assert cpu_seconds(lambda: made(sources=sources), asked=3.0) < 3.0
    same(found.table, tables.joined)
    assert found.read.sources["campaigns"].version == "2"
    assert found.read.sources["tv"].version == str(iceberg.snapshots[-1])
    assert found.read.sources["sales"].path == "env:SALES_URL"
    sources["campaigns"]["version"] = 0
    sources["tv"]["version"] = iceberg.snapshots[0]
    earlier = made(sources=sources)
    assert earlier.read.sources["campaigns"].rows == tables.campaigns[0].num_rows
    assert earlier.read.sources["tv"].rows == tables.tv[0].num_rows
    data = build(Data, {"source": "lake", "lake": settings(sources=sources), **COLUMNS})
    said = json.dumps(new_manifest("r", read_panel(None, data), mf.Spec(data=data), _fingerprint(), ("cpu",)))
    assert database.password not in said
    for query in ("DELETE FROM sales", f"COPY sales TO '{place}/x.csv'", "SELECT 1) q; DROP TABLE sales --"):
        sources["sales"]["query"] = query
        with pytest.raises(TableError, match="source sales cannot be read") as refused:
            made(sources=sources)
    sources["sales"]["query"] = "SELECT pg_sleep(30)"
    with pytest.raises(TableError, match="statement timeout"):
        made(sources=sources, seconds=0.5)
    monkeypatch.setenv("SALES_URL", database.address.replace("mixfleet:", "nobody:"))
    with pytest.raises(TableError, match="source sales cannot be read") as failed:
        made(sources=sources)
    output = capfd.readouterr()
    for text in (str(refused.value), str(failed.value), output.out, output.err):
        assert database.password not in text


def test_an_object_store_is_read(place: Path, tables: LakeTables, monkeypatch: pytest.MonkeyPatch) -> None:
    with lakes.object_store() as store:
        for file in [*place.glob("*.csv"), *place.glob("campaigns/*"), place / "tv.parquet"]:
            store.put(f"in/{file.relative_to(place)}", file.read_bytes())
        monkeypatch.setenv("LAKE_SECRET", store.secret)
        monkeypatch.setenv("LAKE_KEY", store.key)
        named = {"aws_secret_access_key": "env:LAKE_SECRET", "aws_access_key_id": "env:LAKE_KEY"}
        options = {**store.storage_options, **named}
        del options["aws_conditional_put"]
        names = ("prices.csv", "rates.csv", "taxonomy.csv", "campaigns/", "tv.parquet")
        sources = {Path(name).stem: {"path": f"s3://lake/in/{name}", "options": options} for name in names}
        same(made(sources=sources).table, tables.joined)
        sources["tv"] = {"path": "s3://lake/in/none/", "options": options}
        with pytest.raises(TableError, match=r"source tv cannot be read: s3://lake/in/none/ holds no \.csv") as failed:
            made(sources=sources)
        assert store.secret not in str(failed.value)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"path": "tv.parquet", "query": "select 1"}, "is for databases only"),
        ({"path": "env:NOT_SET_1", "query": "select 1"}, "NOT_SET_1 is not set"),
        ({"path": "tv.parquet", "version": 3}, "of Delta and Iceberg tables only"),
        ({"path": "snowflake://account", "query": "select 1"}, "needs adbc_driver_snowflake, which is not installed"),
    ],
)
def test_settings_that_do_not_go_with_a_source(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(sources={"tv": source})
