"""Lake: named sources that one SQL query makes a table of, and the numbers that must agree before it is fitted."""

import math
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from mixfleet.config import schema
from mixfleet.config.schema import FrozenMapping, Label, Range
from mixfleet.errors import ConfigError

__all__ = ["ENVIRONMENT", "Lake", "Latest", "Reconciled", "Source"]

ENVIRONMENT = "env:"
"""What stands before the name of an environment variable that holds a secret."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"secret|password|passwd|pwd|token|credential|access_key|api_key|private", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Latest:
    """Which of several rows about the same thing holds: the one that came last."""

    by: Label
    """Column that says when a row came, such as `loaded_at`."""

    per: tuple[Label, ...]
    """Columns that together name the thing."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.lake.sources.latest")
        if not self.per:
            raise ConfigError("needs at least one column", key="data.lake.sources.latest.per")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One table of the lake."""

    path: str
    """A CSV or Parquet file, a folder of them or a glob, also in an object store (`s3://bucket/spend/`);
    `delta:` and where a Delta table lies; `iceberg:catalogue/namespace.table`, the catalogue in `options`; the address
    of a database (`postgresql://...`). Or `env:NAME`, the environment variable that holds it, as must be where there is
    a password in it."""

    query: str | None = None
    """What to ask a database."""

    version: int | None = None
    """Version of a Delta table or snapshot of an Iceberg table; unset: the newest, and the run says which."""

    latest: Latest | None = None
    """Of rows that were restated the last one holds; the others are counted."""

    options: FrozenMapping[Label, str] = FrozenMapping()
    """What a store or a catalogue is told, such as `endpoint`, `uri` or `warehouse`; secrets as `env:NAME`."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.lake.sources")
        address = urlsplit(self.path) if "://" in self.path else None
        if address is not None and address.password is not None:
            remedy = "put the address into an environment variable and its name here: env:SALES_URL"
            raise ConfigError(f"holds a password: {remedy}", key="data.lake.sources.path")
        for name, value in self.options.items():
            if _SECRET.search(name) and not value.startswith(ENVIRONMENT):
                raise ConfigError(
                    f"{name} is a secret: put it into an environment variable and its name here: env:{name.upper()}",
                    key="data.lake.sources.options",
                )


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """A number that a query gives, and its bounds."""

    query: str
    """Over the sources by their names, and `result`, what the lake's query made of them."""

    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        schema.settle(self, key="data.lake.reconcile")
        least, most = self.bounds
        if (self.least is None and self.most is None) or not least <= most:
            raise ConfigError("needs least, most or both, least not above most", key="data.lake.reconcile")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and most, infinite where there is none."""
        return -math.inf if self.least is None else self.least, math.inf if self.most is None else self.most


@dataclass(frozen=True, kw_only=True)
class Lake:
    """Where the table comes from with `data.source: lake`."""

    sources: FrozenMapping[Label, Source] = FrozenMapping()
    """By the name that the query calls each."""

    sql: str | None = None
    """File with one SELECT over the sources in DuckDB's SQL; unset: the only source is the table."""

    reconcile: FrozenMapping[Label, Reconciled] = FrozenMapping()
    """Numbers that must lie within bounds, by name; one outside ends the command before anything is fitted."""

    seconds: Annotated[float, Range(0.0, open=True)] = 300.0
    """Most seconds of one query."""

    memory_gib: Annotated[float, Range(0.0, open=True)] = 4.0
    """Most memory of a query, which writes nothing to disk."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.lake")
        for name in (*self.sources, *self.reconcile):
            if not _NAME.fullmatch(name) or name.lower() == "result":
                raise ConfigError(
                    f"{name!r} is no name for SQL: letters, digits and _, other than `result`", key="data.lake.sources"
                )
        if self.sql is None and len(self.sources) > 1:
            raise ConfigError("is needed where there are several sources: the file with a SELECT", key="data.lake.sql")
