import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.support import lakes
from tests.support.lake_tables import JOIN, REPEATED, RESTATED, UNMAPPED, LakeTables, lake_tables

TABLES = lake_tables()


@pytest.fixture(scope="module")
def server() -> Iterator[lakes.DatabaseServer]:
    with lakes.postgresql() as started:
        started.ingest("sales", TABLES.sales)
        yield started


@pytest.fixture(scope="module")
def store() -> Iterator[lakes.ObjectStore]:
    with lakes.object_store() as started:
        yield started


def asked(server: lakes.DatabaseServer, query: str) -> pa.Table:
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    with dbapi.connect(server.address) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


def joined(tables: LakeTables) -> pa.Table:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        for name in ("sales", "rates", "prices", "taxonomy"):
            connection.register(name, getattr(tables, name))
        for name in ("campaigns", "tv"):
            connection.register(name, pa.concat_tables(getattr(tables, name)))
        return connection.sql(JOIN).to_arrow_table()


def test_a_query_makes_of_the_tables_what_was_worked_out_without_one() -> None:
    found = joined(TABLES)
    assert found.num_rows == 3 * 104 * 4 == 1248
    labels, numbers = ["brand", "market", "date", "channel"], ["kpi", "spend", "price"]
    assert found.select(labels).to_pylist() == TABLES.joined.select(labels).to_pylist()
    for name in numbers:
        assert found[name].to_pylist() == pytest.approx(TABLES.joined[name].to_pylist(), rel=1e-12)


def test_faults_are_planted_as_often_as_it_is_said() -> None:
    rows = TABLES.sales.to_pylist()
    days = {(row["market"], row["day"]) for row in rows}
    assert len(rows) - len(days) == RESTATED + REPEATED
    assert len(rows) - len({tuple(row.values()) for row in rows}) == REPEATED
    assert TABLES.campaigns[2]["cost"].to_pylist() == [UNMAPPED]


def test_a_delta_table_has_three_versions(tmp_path: Path) -> None:
    address = lakes.delta(TABLES, str(tmp_path / "campaigns"))
    deltalake = pytest.importorskip("deltalake")
    rows = [deltalake.DeltaTable(address, version=version).to_pyarrow_table().num_rows for version in (0, 1, 2)]
    assert rows == [8568, 8772, 8773]
    assert deltalake.DeltaTable(address).version() == 2


def test_an_iceberg_table_has_two_snapshots(tmp_path: Path) -> None:
    made = lakes.iceberg(TABLES, tmp_path)
    catalogs = pytest.importorskip("pyiceberg.catalog")
    table = catalogs.load_catalog("lake", **made.catalog).load_table(made.name)
    rows = [table.scan(snapshot_id=snapshot).to_arrow().num_rows for snapshot in made.snapshots]
    assert rows == [315, 316]
    assert table.metadata.current_snapshot_id == made.snapshots[-1]


def test_files_hold_the_small_tables(tmp_path: Path) -> None:
    folder = lakes.files(TABLES, tmp_path)
    assert pyarrow.csv.read_csv(folder / "prices.csv").to_pylist() == TABLES.prices.to_pylist()
    assert sorted(path.name for path in folder.iterdir()) == ["prices.csv", "rates.csv", "taxonomy.csv"]


def test_a_database_holds_the_sales_and_wants_its_password(server: lakes.DatabaseServer) -> None:
    assert asked(server, "SELECT * FROM sales").to_pylist() == TABLES.sales.to_pylist()
    dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
    with pytest.raises(dbapi.OperationalError, match="password authentication failed"):
        dbapi.connect(server.address.replace(server.password, "wrong"))


def test_an_object_store_gives_back_what_it_was_given(store: lakes.ObjectStore) -> None:
    data = io.BytesIO()
    pyarrow.parquet.write_table(TABLES.prices, data)
    assert store.put("prices/part.parquet", data.getvalue()) == "s3://lake/prices/part.parquet"
    obstore = pytest.importorskip("obstore")
    read = bytes(obstore.get(store.opened(), "prices/part.parquet").bytes())
    assert pyarrow.parquet.read_table(io.BytesIO(read)).to_pylist() == TABLES.prices.to_pylist()


def test_a_delta_table_lies_in_an_object_store(store: lakes.ObjectStore) -> None:
    address = lakes.delta(TABLES, "s3://lake/campaigns", store.storage_options)
    deltalake = pytest.importorskip("deltalake")
    assert deltalake.DeltaTable(address, storage_options=store.storage_options).version() == 2


def test_no_message_shows_a_secret(server: lakes.DatabaseServer, store: lakes.ObjectStore) -> None:
    assert server.password not in repr(server)
    assert store.secret not in repr(store)
