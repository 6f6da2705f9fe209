"""Reads a finished run: its tables, each checked against its digest, and the draws of its units."""

import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mixfleet.config import Business, Spec, build, to_mapping
from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet
from mixfleet.errors import ConfigError, RunError
from mixfleet.posterior.unit_result import TABLES
from mixfleet.storage import atomic_files
from mixfleet.storage.draws_reader import Archive, UnitDraws
from mixfleet.storage.manifest import ARCHIVE, LATEST, SUMMARY, of_another_version, read_finished
from mixfleet.storage.output_folder import output_folder, read_output
from mixfleet.storage.remote.address import Address
from mixfleet.storage.remote.remote_run import RemoteRun, open_remote

__all__ = ["BUSINESS", "RunReader", "read_run"]

BUSINESS = "business"
"""Folder of the business settings that were changed after the fit; the file in it is tied to its digest."""


def read_run(path: str | Path) -> "RunReader":
    """The reader of a finished run.

    Args:
        path: A run folder, or a folder of runs for the one finished last; or the address of either in an object store.

    Raises:
        ConfigError: An address is none of a store that runs can lie in.
        RunError: There is no finished run, or its manifest is damaged; or the store cannot be reached.
    """
    if (address := Address.of(path)) is not None:
        stored = open_remote(address)
        return RunReader(path=stored.folder, manifest=read_finished(stored.folder), stored=stored)
    folder = Path(path)
    if (folder / LATEST).is_file() and not (folder / "manifest.json").exists():
        folder = folder / _latest(folder / LATEST)
    return RunReader(path=folder, manifest=read_finished(folder))


@dataclass(frozen=True)
class RunReader:
    """A finished run's files. Every table is read and checked once."""

    path: Path
    manifest: Mapping[str, Any]
    stored: RemoteRun | None = None
    """Where files come from that the folder lacks, for a run of an object store."""

    @property
    def place(self) -> str:
        """What opens the run: its folder, or its address in an object store."""
        return str(self.path if self.stored is None else self.stored.address)

    @property
    def keys(self) -> tuple[str, ...]:
        """Key columns."""
        return tuple(self.manifest["keys"])

    @property
    def keeps_draws(self) -> bool:
        """Whether the run kept draws."""
        return ARCHIVE in self.manifest["files"]

    @property
    def keeps_panel(self) -> bool:
        """Whether the run kept the table that it was fitted to."""
        return f"{SUMMARY}/panel.parquet" in self.manifest["files"]

    @property
    def keeps_tests(self) -> bool:
        """Whether lift tests were fitted."""
        return f"{SUMMARY}/tests.parquet" in self.manifest["files"]

    @functools.cached_property
    def archive(self) -> Archive:
        """The draws of all units, checked as they are read.

        Raises:
            RunError: The run kept no draws.
        """
        if not self.keeps_draws:
            raise RunError(f"run {self.place} kept no draws; fit with output.draws=thin or full")
        return Archive(self.path / ARCHIVE, self.manifest["files"], self.manifest["units"], fetch=self._fetch)

    @functools.cached_property
    def spec(self) -> Spec:
        """The settings of the run.

        Raises:
            RunError: They are those of another version of the package.
        """
        try:
            return build(Spec, self.manifest["config"])
        except ConfigError as error:
            raise of_another_version(self.path, self.manifest, f"its settings are not read here ({error})") from error

    @functools.cached_property
    def business(self) -> Business:
        """What was said last of money and years: after the fit, or else by its settings.

        Raises:
            RunError: What was said after the fit cannot be read, or is not as it was written.
        """
        text = self._kept_business()
        if text is None:
            return self.spec.business
        try:
            return build(Business, json.loads(text), key="business")
        except (ValueError, RecursionError, ConfigError) as error:
            place = f"{self.place}/{BUSINESS}" if self.stored is None else f"{self.place}/{BUSINESS}.json"
            raise RunError(f"{place} cannot be read: {error}; remove it and repeat mixfleet business") from error

    def _kept_business(self) -> bytes | None:
        """What was said after the fit, checked; None where nothing was."""
        if self.stored is not None:
            return self.stored.kept(f"{BUSINESS}.json")
        folder = self.path / BUSINESS
        if not folder.exists():
            return None
        return read_output(folder, BUSINESS, f"remove {folder} and repeat mixfleet business").get(
            f"{BUSINESS}.json", b""
        )

    def keep_business(self, business: Business) -> None:
        """Leave in the run's folder what is said of money and years.

        Raises:
            RunError: It cannot be written.
        """
        text = json.dumps(to_mapping(business), indent=1, ensure_ascii=True).encode()
        if self.stored is not None:
            self.stored.keep(f"{BUSINESS}.json", text)
            return
        with output_folder(self.path / BUSINESS, BUSINESS) as outputs:
            outputs.write(f"{BUSINESS}.json", text)

    def labels(self) -> list[tuple[str, ...]]:
        """Key values of every unit, in the order of the status table and of the store of draws."""
        status = self.table("status")
        return list(zip(*(status[key].to_pylist() for key in self.keys), strict=True))

    def position(self, labels: Sequence[str]) -> int:
        """Place of a unit in the status table, by its key values.

        Raises:
            RunError: No such unit; names one that may be meant.
        """
        if len(labels) != len(self.keys):
            raise RunError(f"unit() takes {len(self.keys)} labels ({', '.join(self.keys)}), got {len(labels)}")
        units = self.labels()
        if tuple(map(str, labels)) in units:
            return units.index(tuple(map(str, labels)))
        names = {"/".join(unit).lower(): "/".join(unit) for unit in units}
        near = difflib.get_close_matches("/".join(map(str, labels)).lower(), names, n=1)
        remedy = f"did you mean {names[near[0]]}?" if near else f"it has e.g. {', '.join(list(names.values())[:5])}"
        raise RunError(f"run {self.place} has no unit {tuple(labels)}; {remedy}")

    def draws(self, position: int) -> UnitDraws:
        """Draws of the unit at a position of the status table.

        Raises:
            RunError: The run kept no draws, or they are damaged.
        """
        return self.archive.read_draws(position)

    def table(self, name: str) -> pa.Table:
        """A summary table, by file name without suffix.

        Raises:
            RunError: No such table, or its file is damaged.
        """
        if name not in self._tables:
            self._tables[name] = self._read(name)
        return self._tables[name]

    @functools.cached_property
    def _tables(self) -> dict[str, pa.Table]:
        return {}

    def _fetch(self, files: Mapping[str, str]) -> None:
        """Sees that files, by name with their digests, are in the folder."""
        if self.stored is not None:
            self.stored.fetch(files)

    def _read(self, name: str) -> pa.Table:
        files, file = self.manifest["files"], f"{SUMMARY}/{name}.parquet"
        if file not in files and name in TABLES:
            raise of_another_version(self.path, self.manifest, f"it has no table {name!r}")
        if file not in files:
            raise RunError(f"run {self.place} has no table {name!r}")
        self._fetch({file: files[file]["sha256"]})
        data = atomic_files.read_checked(self.path / file, files[file]["sha256"])
        try:
            return read_parquet(data)
        except (pa.ArrowException, OSError, ParquetTooLarge) as error:
            raise RunError(f"{self.path / file} is no table: {error}; fit again with another run.id") from error


def _latest(path: Path) -> str:
    """Name of the run folder that was finished last."""
    try:
        name = Path(json.loads(path.read_bytes())["run"]).name
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}. Name the run folder itself") from error
    if not name.strip(".") or not (path.parent / name).is_dir():
        raise RunError(f"{path} names {name!r}, which is no run folder there. Name the run folder itself")
    return name
