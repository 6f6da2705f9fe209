"""Summary tables read back, with their digests checked."""

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.errors import RunError
from mixfleet.storage import atomic_files


@dataclass(frozen=True)
class Tables:
    """Summary tables of a run, each read and checked once."""

    folder: Path
    files: Mapping[str, Mapping[str, Any]]

    def read(self, name: str) -> pa.Table:
        """A table by file name without suffix.

        Raises:
            RunError: No such table, or its file is not the one that was committed.
        """
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    @functools.cached_property
    def _read(self) -> dict[str, pa.Table]:
        return {}

    def _load(self, name: str) -> pa.Table:
        file = f"summary/{name}.parquet"
        if file not in self.files:
            raise RunError(f"run {self.folder} has no table {name!r}")
        data = atomic_files.read_checked(self.folder / file, self.files[file]["sha256"])
        try:
            return pq.read_table(io.BytesIO(data))
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{self.folder / file} is no table: {error}; fit again with another run.id") from error
