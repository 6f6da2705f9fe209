"""Readers: one source as an Arrow table, and which version of it that was.

Each kind is read by its own library, imported when such a source is named: nothing is downloaded, and DuckDB, which
joins the tables, reaches neither disk nor network.
"""

import io
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.csv as pa_csv

from mixfleet.config.lake import Source
from mixfleet.data.files import find_files, partition
from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet
from mixfleet.data.lake.environment import Secrets
from mixfleet.data.validation.finding import refusal
from mixfleet.errors import ConfigError, TableError

__all__ = ["read_source"]

DATABASES = {
    "postgresql": "adbc_driver_postgresql",
    "postgres": "adbc_driver_postgresql",
    "snowflake": "adbc_driver_snowflake",
    "bigquery": "adbc_driver_bigquery",
    "grpc": "adbc_driver_flightsql",
    "grpc+tls": "adbc_driver_flightsql",
    "sqlite": "adbc_driver_sqlite",
}
"""Scheme of an address to the ADBC driver for it: settings choose among these and name no module."""

STORES = ("s3", "gs", "az")
DELIMITERS = ";\t|,"
TEXTS = (".csv", ".txt", ".tsv")
TABLES = (".parquet", ".pq")

Read = tuple[pa.Table, str]
"""A table, and the version of it that was read; empty where the source has none."""


ERRORS = {
    "database": ("adbc_driver_manager",),
    "store": ("obstore.exceptions",),
    "delta": ("deltalake.exceptions",),
    "iceberg": ("pyiceberg.exceptions", "sqlalchemy.exc"),
}
"""Modules of the exceptions by which each kind's library says that a source cannot be read."""


def read_source(name: str, source: Source, secrets: Secrets, *, seconds: float) -> Read:
    """One source whole.

    Args:
        name: What the query calls it.
        source: Where it is.
        secrets: Of this reading.
        seconds: That a database may take for its query.

    Raises:
        ConfigError: A library for it is not installed, an environment variable is not set, or a setting does not go
            with this kind of source.
        TableError: It cannot be read.
    """
    key = f"data.lake.sources.{name}"
    path = secrets.resolve(source.path, f"{key}.path")
    options = secrets.resolved(source.options, f"{key}.options")
    scheme = path.partition(":")[0].lower()
    if (source.query is not None) != (scheme in DATABASES):
        words = "is needed for a database" if scheme in DATABASES else "is for databases only"
        raise ConfigError(words, key=f"{key}.query")
    if source.version is not None and scheme not in ("delta", "iceberg"):
        raise ConfigError("is of Delta and Iceberg tables only", key=f"{key}.version")
    try:
        table, version = _read(path, source, options, seconds)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"needs {error.name}, which is not installed: pip install 'mixfleet[lake]', or the driver of your database",
            key=f"{key}.path",
        ) from None
    except _Unreadable as error:
        raise refusal("source_unreadable", f"source {name} cannot be read: {secrets.without(str(error))}") from None
    if not table.column_names:
        raise refusal("source_unreadable", f"source {name} has no columns")
    return table, version


class _Unreadable(Exception):
    """What a library said of a source; may hold its address."""


def _read(path: str, source: Source, options: Mapping[str, str], seconds: float) -> Read:
    scheme = path.partition(":")[0].lower()
    kind = "database" if scheme in DATABASES else "store" if scheme in STORES else scheme
    errors = _errors(kind)
    try:
        if kind == "database":
            return _database(path, source, seconds)
        return {"store": _stored, "delta": _delta, "iceberg": _iceberg}.get(kind, _files)(path, source, options)
    except errors as error:
        raise _Unreadable(" ".join(str(error).split())) from None


def _errors(kind: str) -> tuple[type[Exception], ...]:
    modules = [import_module(module) for module in ERRORS.get(kind, ())]
    told = [each for module in modules for each in vars(module).values() if isinstance(each, type)]
    own = [each for each in told if issubclass(each, Exception)]
    return (OSError, ValueError, TypeError, LookupError, RuntimeError, pa.ArrowException, TableError, *own)


def _files(path: str, _: Source, __: Mapping[str, str]) -> Read:
    parts = [_parsed(found.as_posix(), found.read_bytes(), partition(found)) for found in find_files(path)]
    return pa.concat_tables(parts, promote_options="permissive"), ""


def _stored(path: str, _: Source, options: Mapping[str, str]) -> Read:
    store = import_module("obstore.store")
    obstore = import_module("obstore")
    bucket, prefix = "/".join(path.split("/")[:3]), "/".join(path.split("/")[3:])
    config = {name: value for name, value in options.items() if not name.endswith("allow_http")}
    # obstore wants to be told so beside the store's own settings.
    plain = {"allow_http": True} if len(config) < len(options) else {}
    opened = store.from_url(bucket, config=config, client_options=plain)
    if prefix.endswith("/") or not prefix:
        listed = [entry["path"] for page in obstore.list(opened, prefix=prefix) for entry in page]
        names = sorted(name for name in listed if name.lower().endswith((*TEXTS, *TABLES)))
    else:
        names = [prefix]
    if not names:
        raise FileNotFoundError(f"{path} holds no .csv or .parquet object")
    parts = [_parsed(name, bytes(obstore.get(opened, name).bytes()), partition(Path(name))) for name in names]
    return pa.concat_tables(parts, promote_options="permissive"), ""


def _parsed(name: str, data: bytes, folders: Mapping[str, str | None]) -> pa.Table:
    """A file's table with the columns that its folders `name=value` are."""
    table = _file(name, data)
    for column, value in folders.items():
        if column not in table.column_names:
            table = table.append_column(column, pa.array([value] * table.num_rows, pa.string()))
    return table


def _file(name: str, data: bytes) -> pa.Table:
    """Types are those of the file, or what all cells of a text column can be."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in TABLES:
        try:
            return read_parquet(data)
        except ParquetTooLarge as error:
            raise ValueError(f"{name} {error}") from error
    if suffix not in TEXTS:
        raise ValueError(f"{name} is neither .csv nor .parquet")
    header = data[: data.find(b"\n") + 1].decode("utf-8-sig", "replace")
    delimiter = max(DELIMITERS, key=header.count)
    parsed = pa_csv.read_csv(
        io.BytesIO(data),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(decimal_point="," if delimiter == ";" else "."),
    )
    return parsed.rename_columns([column.removeprefix("\ufeff") for column in parsed.column_names])


def _delta(path: str, source: Source, options: Mapping[str, str]) -> Read:
    deltalake = import_module("deltalake")
    table = deltalake.DeltaTable(path.partition(":")[2], version=source.version, storage_options=dict(options))
    return pa.table(table.to_pyarrow_table()), str(table.version())


def _iceberg(path: str, source: Source, options: Mapping[str, str]) -> Read:
    catalog = import_module("pyiceberg.catalog")
    name, _, identifier = path.partition(":")[2].rpartition("/")
    table = catalog.load_catalog(name or None, **options).load_table(identifier)
    snapshot = source.version if source.version is not None else table.metadata.current_snapshot_id
    return table.scan(snapshot_id=snapshot).to_arrow(), str(snapshot)


def _database(path: str, source: Source, seconds: float) -> Read:
    scheme = path.partition(":")[0].lower()
    driver = import_module(f"{DATABASES[scheme]}.dbapi")
    address = path.removeprefix("sqlite://") if scheme == "sqlite" else path
    with driver.connect(address) as connection, connection.cursor() as cursor:
        if DATABASES[scheme] == "adbc_driver_postgresql":
            cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            cursor.execute(f"SET statement_timeout = {max(int(1000 * seconds), 1)}")
            connection.commit()
        # Inside a SELECT nothing can stand that copies, changes or drops.
        query = (source.query or "").strip().rstrip(";")
        cursor.execute(f"SELECT * FROM ({query}\n) AS source")
        return cursor.fetch_arrow_table(), ""
