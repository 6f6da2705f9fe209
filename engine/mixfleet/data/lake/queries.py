"""Queries: one SELECT after the other in a DuckDB that reaches neither disk nor network."""

import threading
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mixfleet.errors import ConfigError, TableError

__all__ = ["MACROS", "Database"]

MACROS = {
    "week_of(day)": "date_trunc('week', day)::DATE",
    "week_of_sunday(day)": "(date_trunc('week', day::DATE + INTERVAL 1 DAY) - INTERVAL 1 DAY)::DATE",
    "each_day(first, last)": "unnest(generate_series(first::DATE, last::DATE, INTERVAL 1 DAY))::DATE",
    "days_in(first, last)": "date_diff('day', first::DATE, last::DATE) + 1",
    "period_445(day, first)": (
        "(date_diff('day', first::DATE, day::DATE) // 91) * 3"
        " + CASE WHEN (date_diff('day', first::DATE, day::DATE) % 91) < 28 THEN 1"
        " WHEN (date_diff('day', first::DATE, day::DATE) % 91) < 56 THEN 2 ELSE 3 END"
    ),
    "one_of(value)": (
        "CASE WHEN count(DISTINCT value) > 1"
        " THEN error('one_of: several values: ' || min(value)::VARCHAR || ' and ' || max(value)::VARCHAR)"
        " ELSE any_value(value) END"
    ),
}
"""Macros by signature: the Monday and the Sunday that a day's week starts with; a row for each day from one to another,
and how many there are, to spread a month over its days; the period, counted from 1, of a day in a year of periods of 4,
4 and 5 weeks that starts on `first`; the only value of a group, an error where there are several."""

BYTES = 8 << 30
"""Most bytes of a query's result."""


class Database:
    """Tables by name, and what queries make of them.

    A query is one SELECT. It reads the given tables and nothing else: no file, no address, no variable of the program,
    no extension; it writes nothing to disk, and has so much memory and time.
    """

    def __init__(self, tables: Mapping[str, pa.Table], *, memory_gib: float, seconds: float) -> None:
        """A database in memory.

        Raises:
            ConfigError: DuckDB is not installed.
        """
        try:
            import duckdb
        except ModuleNotFoundError:
            raise ConfigError(
                "lake needs duckdb, which is not installed: pip install 'mixfleet[lake]'", key="data.source"
            ) from None
        self._duckdb: Any = duckdb
        self._seconds = seconds
        self._connection: Any = duckdb.connect(":memory:")
        for name, table in tables.items():
            self._connection.register(name, table)
        for signature, meaning in MACROS.items():
            self._connection.execute(f"CREATE MACRO {signature} AS {meaning}")
        for setting in (
            "temp_directory = ''",
            f"memory_limit = '{memory_gib * 1024:.0f}MiB'",
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def close(self) -> None:
        """Ends it."""
        self._connection.close()

    def add(self, name: str, table: pa.Table) -> None:
        """One more table."""
        self._connection.register(name, table)

    def select(self, query: str, key: str) -> pa.Table:
        """What a SELECT gives.

        Args:
            query: Its text.
            key: Setting that it comes from.

        Raises:
            ConfigError: The text is no single SELECT.
            TableError: It fails, takes too long, or gives too much.
        """
        try:
            statements = self._connection.extract_statements(query)
        except self._duckdb.Error as error:
            raise ConfigError(f"is no SQL that DuckDB reads: {_line(error)}", key=key) from None
        if len(statements) != 1 or statements[0].type != self._duckdb.StatementType.SELECT:
            raise ConfigError("must be one SELECT and nothing else", key=key)
        late = threading.Event()
        timer = threading.Timer(self._seconds, lambda: (late.set(), self._connection.interrupt()))
        timer.start()
        try:
            return self._fetched(query, key)
        # While a result is read DuckDB's errors come as those of Arrow's stream.
        except (self._duckdb.Error, pa.ArrowException, OSError) as error:
            if late.is_set():
                raise TableError(f"{key}: the query took longer than {self._seconds:g} s (data.lake.seconds)") from None
            raise TableError(f"{key}: the query fails: {_line(error)}") from None
        finally:
            timer.cancel()

    def _fetched(self, query: str, key: str) -> pa.Table:
        reader = self._connection.sql(query).to_arrow_reader()
        batches, size = [], 0
        for batch in reader:
            size += batch.nbytes
            if size > BYTES:
                raise TableError(f"{key}: the query gives more than {BYTES >> 30} GiB")
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
