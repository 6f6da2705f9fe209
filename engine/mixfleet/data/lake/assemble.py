"""Assemble: reads the sources, keeps the latest rows, joins them, and compares the numbers that must agree."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa

from mixfleet.config.lake import Lake, Latest, Reconciled
from mixfleet.data.lake.environment import Secrets
from mixfleet.data.lake.queries import Database
from mixfleet.data.lake.readers import read_source
from mixfleet.data.validation.finding import Finding, refusal
from mixfleet.errors import ConfigError

__all__ = ["Assembled", "LakeRead", "SourceRead", "assemble"]


@dataclass(frozen=True, kw_only=True)
class SourceRead:
    """What was read of one source."""

    path: str
    """As the settings have it: a secret by the name of its variable."""
    version: str
    """Of a Delta or Iceberg table; empty for others."""
    rows: int
    """That hold."""
    superseded: int
    """Rows that a later one took the place of."""
    repeated: int
    """Rows that say again what another says to the last cell."""
    sha256: str
    """Of the rows that hold, in whatever order they came."""


@dataclass(frozen=True, kw_only=True)
class LakeRead:
    """What was read of the lake: part of a run's manifest."""

    sources: Mapping[str, SourceRead]
    sql_sha256: str
    """Of the query's text; empty where there is none."""
    rows: int
    """Of the result."""
    reconciled: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """The table that a lake gives."""

    table: pa.Table
    read: LakeRead
    findings: tuple[Finding, ...]


def assemble(lake: Lake) -> Assembled:
    """The table of a lake.

    Raises:
        ConfigError: A setting cannot be followed, or the query's file cannot be read.
        TableError: A source cannot be read, the query fails, or a number is outside its bounds.
    """
    sql = None if lake.sql is None else _text(lake.sql)
    secrets = Secrets()
    tables, read, findings = {}, {}, []
    for name, source in lake.sources.items():
        table, version = read_source(name, source, secrets, seconds=lake.seconds)
        with closing(Database({"read": table}, memory_gib=lake.memory_gib, seconds=lake.seconds)) as database:
            kept, superseded = _latest(name, database, table, source.latest)
            repeated, digest = _rows_told(database, kept)
        findings += _remarks(name, superseded, repeated, source.latest)
        read[name] = SourceRead(
            path=source.path,
            version=version,
            rows=kept.num_rows,
            superseded=superseded,
            repeated=repeated,
            sha256=digest,
        )
        tables[name] = kept
    with closing(Database(tables, memory_gib=lake.memory_gib, seconds=lake.seconds)) as database:
        [first] = tables.values() if sql is None else [database.select(sql, "data.lake.sql")]
        database.add("result", first)
        reconciled = {name: _number(name, database, one) for name, one in lake.reconcile.items()}
    record = LakeRead(
        sources=read,
        sql_sha256="" if sql is None else sha256(sql.encode()).hexdigest(),
        rows=first.num_rows,
        reconciled=reconciled,
    )
    return Assembled(table=first, read=record, findings=tuple(findings))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        said = f"{path} cannot be read: {error.strerror}; paths are those of the folder that the command runs in"
        raise ConfigError(said, key="data.lake.sql") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}", key="data.lake.sql") from None


def _latest(name: str, database: Database, table: pa.Table, latest: Latest | None) -> tuple[pa.Table, int]:
    """The rows that hold, and how many others there were."""
    if latest is None:
        return table, 0
    for column in (latest.by, *latest.per):
        if column not in table.column_names:
            raise refusal("column_missing", f"source {name} has no column {column}, which latest names", column)
    per = ", ".join(_quoted(column) for column in latest.per)
    by = _quoted(latest.by)
    key = f"data.lake.sources.{name}.latest"
    kept = database.select(
        f"SELECT DISTINCT * FROM read QUALIFY {by} IS NOT DISTINCT FROM max({by}) OVER (PARTITION BY {per})", key
    )
    database.add("kept", kept)
    several = database.select(f"SELECT {per} FROM kept GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1", key)
    if several.num_rows:
        thing = ", ".join(f"{column} {value}" for column, value in several.to_pylist()[0].items())
        raise refusal(
            "latest_undecided",
            f"source {name} has several rows of {thing} with the same newest {latest.by} that say different things: "
            "name more columns in latest.per, or a finer latest.by",
            latest.by,
        )
    return kept, table.num_rows - kept.num_rows


def _rows_told(database: Database, kept: pa.Table) -> tuple[int, str]:
    """How many rows repeat others, and the digest of all in whatever order."""
    database.add("held", kept)
    told = database.select(
        "SELECT count(*) - count(DISTINCT row_digest) AS repeated, "
        "sha256(coalesce(string_agg(row_digest, '' ORDER BY row_digest), '')) AS digest "
        "FROM (SELECT sha256(to_json(held)::VARCHAR) AS row_digest FROM held)",
        "data.lake.sources",
    )
    [row] = told.to_pylist()
    names = ",".join(f"{field.name}:{field.type}" for field in kept.schema)
    return int(row["repeated"]), sha256(f"{names}\n{row['digest']}".encode()).hexdigest()


def _remarks(name: str, superseded: int, repeated: int, latest: Latest | None) -> list[Finding]:
    found = []
    if superseded and latest is not None:
        words = f"source {name}: {superseded:,} rows were restated or loaded again; the last by {latest.by} holds"
        found.append(Finding(rule="superseded_rows", severity="info", message=words))
    if repeated:
        words = (
            f"source {name}: {repeated:,} rows say again what another says to the last cell: if they were loaded twice "
            "take them once (select distinct, or latest)"
        )
        found.append(Finding(rule="repeated_rows", severity="warning", message=words))
    return found


def _number(name: str, database: Database, asked: Reconciled) -> float:
    """A reconciling query's number, within its bounds."""
    key = f"data.lake.reconcile.{name}"
    found = database.select(asked.query, f"{key}.query")
    values = [value for row in found.slice(0, 2).to_pylist() for value in row.values()]
    try:
        [value] = map(float, values)
    except (TypeError, ValueError):
        raise ConfigError("must give one number", key=f"{key}.query") from None
    least, most = asked.bounds
    if not least <= value <= most:
        allowed = " and ".join(
            [f"at least {least:g}"] * bool(np.isfinite(least)) + [f"at most {most:g}"] * bool(np.isfinite(most))
        )
        raise refusal(
            "not_reconciled", f"{name} is {value:g}, allowed is {allowed} (data.lake.reconcile): nothing was fitted"
        )
    return value


def _quoted(column: str) -> str:
    doubled = column.replace('"', '""')
    return f'"{doubled}"'
