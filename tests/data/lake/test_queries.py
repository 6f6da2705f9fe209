"""Queries: one SELECT over the given tables, which reaches nothing else and ends in time; macros mean what they say."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mixfleet.data.lake.queries import Database
from mixfleet.errors import ConfigError, TableError

duckdb = pytest.importorskip("duckdb", minversion="2.0")

ELSEWHERE = pa.table({"a": [7]})
"""A variable of this program, which no query sees."""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near.csv").write_text("a\n1\n")
    made = Database({"t": pa.table({"a": [1, 2], "day": [date(2024, 1, 3)] * 2})}, memory_gib=0.5, seconds=1.0)
    yield made
    made.close()
    assert [path.name for path in tmp_path.iterdir()] == ["near.csv"]


@pytest.mark.parametrize(
    "query",
    [
        "copy (select 1) to 'x.csv'",
        "attach 'x.db'",
        "install httpfs",
        "load 'x.so'",
        "pragma database_list",
        "set memory_limit = '1TB'",
        "create table x as select 1",
        "delete from t",
        "call pragma_version()",
        "explain select 1",
        "prepare v as select 1",
        "select 1; select 2",
        "selec",
        "",
    ],
)
def test_another_statement_is_refused(database: Database, query: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.lake\.sql: (must be one SELECT|is no SQL)"):
        database.select(query, "data.lake.sql")


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('near.csv')",
        "select * from 'near.csv'",
        "select * from read_text('/etc/passwd')",
        "select * from read_blob('near.csv')",
        "select * from glob('*')",
        "select * from sniff_csv('near.csv')",
        "select * from parquet_metadata('near.csv')",
        "select * from 'https://example.com/a.csv'",
        "select * from duckdb_secrets()",
        "select * from query('copy (select 1) to ''x.csv''')",
        "select getenv('HOME')",
        "select * from ELSEWHERE",
    ],
)
def test_nothing_but_the_tables_is_read(database: Database, query: str) -> None:
    with pytest.raises(TableError, match="the query fails"):
        database.select(query, "data.lake.sql")


@pytest.mark.parametrize(
    "query",
    [
        "select * from range(100000000000)",
        "with recursive t as (select 1 as n union all select n + 1 from t) select n from t",
    ],
)
def test_an_endless_query_ends(database: Database, query: str) -> None:
    with pytest.raises(TableError, match=r"took longer than 1 s \(data.lake.seconds\)"):
        database.select(query, "data.lake.sql")


def value(database: Database, expression: str) -> object:
    [row] = database.select(f"select {expression} as it", "data.lake.sql").to_pylist()
    return row["it"]


def test_weeks_start_on_mondays_and_on_sundays(database: Database) -> None:
    for number in range(21):
        day = date(2023, 12, 28) + timedelta(days=number)
        monday = day - timedelta(days=day.weekday())
        sunday = day - timedelta(days=(day.weekday() + 1) % 7)
        assert value(database, f"week_of(DATE '{day}')") == monday
        assert value(database, f"week_of_sunday(DATE '{day}')") == sunday


def test_a_month_is_spread_over_its_days(database: Database) -> None:
    rows = database.select(
        "select each_day(DATE '2024-02-01', DATE '2024-02-29') as day,"
        " 290 / days_in(DATE '2024-02-01', DATE '2024-02-29') as cost",
        "data.lake.sql",
    ).to_pylist()
    assert [row["day"] for row in rows] == [date(2024, 2, 1) + timedelta(days=n) for n in range(29)]
    assert sum(row["cost"] for row in rows) == pytest.approx(290)


def test_periods_have_four_four_and_five_weeks(database: Database) -> None:
    lengths = [4, 4, 5] * 4
    expected = [period for period, weeks in enumerate(lengths, 1) for _ in range(weeks)]
    first = date(2024, 1, 29)
    found = [value(database, f"period_445(DATE '{first + timedelta(weeks=w)}', DATE '{first}')") for w in range(52)]
    assert found == expected


def test_the_one_value_of_a_group_is_one(database: Database) -> None:
    [row] = database.select("select one_of(day) as day from t", "data.lake.sql").to_pylist()
    assert row["day"] == date(2024, 1, 3)
    with pytest.raises(TableError, match="one_of: several values: 1 and 2"):
        database.select("select one_of(a) from t", "data.lake.sql")
