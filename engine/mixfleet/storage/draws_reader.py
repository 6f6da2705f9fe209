"""Draws read back: from bytes whose digests were checked, and from nothing that `write_archive` cannot have written."""

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float32
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from mixfleet.errors import RunError
from mixfleet.posterior.unit_series import evenly_spaced
from mixfleet.storage import atomic_files
from mixfleet.storage.draws_zarr import DIGESTS, RESERVED, SHARD_UNITS, total_sha256

UNIT_NUMBERS = 1 << 28
"""Most numbers that one unit may have of a variable."""
LABELS = 100_000
"""Most labels of an axis."""
LABELS_BYTES = 64 << 20
"""Most bytes of the labels of an axis."""

_CODECS = frozenset({"bytes", "crc32c", "sharding_indexed", "vlen-utf8", "zstd"})
_TYPES = ("float32", "int32", "string")


@dataclass(frozen=True, kw_only=True)
class UnitDraws:
    """Draws of one unit as read back."""

    draws: dict[str, Float32[np.ndarray, "chain draw ..."]]
    dims: dict[str, tuple[str, ...]]
    """Variable -> names of the axes after chain and draw."""
    coords: dict[str, tuple[str, ...]]
    """Axis -> labels."""


class Archive:
    """The draws of a finished run. Every byte that is read was checked against its digest before.

    Raises (all methods):
        RunError: A file is missing or is not the one that was committed, or the store is none that this package
            writes.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, Mapping[str, Any]],
        units: int,
        *,
        fetch: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> None:
        """Open the store; nothing is read yet.

        Args:
            folder: The store.
            files: The manifest's digests by file name.
            units: Units of the run.
            fetch: Sees that files are there, digest by name in the run's folder, before they are read.
        """
        self._folder, self._fetch_files = folder, fetch
        self._entries = files
        self._units = units
        self._opened: dict[str, tuple[range, zarr.Array]] = {}
        """Of each variable the shards that were read last, for who reads unit after unit."""

    def read_draws(self, unit: int) -> UnitDraws:
        """Draws of one unit, by its position in the status table."""
        with self._blaming():
            names = [name for name, array in self._arrays.items() if _axes(array)[:3] == RESERVED]
            chains, length = (int(self._whole(name)[unit]) for name in ("n_chains", "n_draws"))
            units = slice(unit, unit + 1)
            draws = {name: self._rows(name, units)[0, :chains, :length] for name in names}
            dims = {name: _axes(self._arrays[name])[3:] for name in names}
            axes = sorted({axis for own in dims.values() for axis in own})
            coords = {axis: tuple(str(label) for label in self._whole(axis)) for axis in axes}
        return _without_padding(UnitDraws(draws=draws, dims=dims, coords=coords))

    def read_block(
        self, units: slice, *, draws: int, variables: Sequence[str]
    ) -> tuple[dict[str, list[Float32[np.ndarray, "draw ..."]]], dict[str, tuple[str, ...]]]:
        """Draws of neighbouring units with all chains on one axis, at most `draws` of each; see `evenly_spaced`.

        A unit without any has none here. Best read in blocks of `SHARD_UNITS`.

        Args:
            units: Positions in the status table.
            draws: How many draws to return of each unit, at most.
            variables: Names of the variables; those the store lacks are left out.

        Returns:
            Draws of each unit by variable, and the labels of their last axis where they have one.
        """
        with self._blaming():
            chains, lengths = (self._whole(name)[units] for name in ("n_chains", "n_draws"))
            found, labels = {}, {}
            known = [name for name in variables if name in self._arrays]
            self._fetch(f"{name}/{key}" for name in known for key in self._keys(name, _shards(units)))
            for name in known:
                stored = self._rows(name, units)
                found[name] = [
                    evenly_spaced(own[:count, :length], draws)
                    for own, count, length in zip(stored, chains, lengths, strict=True)
                ]
                if stored.ndim > 3:
                    labels[name] = tuple(str(label) for label in self._whole(_axes(self._arrays[name])[3]))
        return found, labels

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        try:
            yield
        except (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"{self._folder} is damaged ({error}); fit again with another run.id") from error

    @functools.cached_property
    def _digests(self) -> dict[str, str]:
        """Digest of every file of the store. What is not among them is not read, whatever lies in the folder."""
        if DIGESTS in self._entries:
            path = self._folder.parent / DIGESTS
            self._fetch_files({DIGESTS: self._entries[DIGESTS]["sha256"]})
            lines = atomic_files.read_checked(path, self._entries[DIGESTS]["sha256"]).decode().splitlines()
            return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        # Runs of earlier versions have one digest for all files together.
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        digests = {path.relative_to(self._folder).as_posix(): atomic_files.file_sha256(path) for path in paths}
        if total_sha256(digests) != self._entries[self._folder.name]["sha256"]:
            raise RunError(f"{self._folder} is damaged: files were changed; fit again with another run.id")
        return digests

    def _fetch(self, names: Iterable[str]) -> None:
        own = {name: self._digests[name] for name in names if name in self._digests}
        self._fetch_files({f"{self._folder.name}/{name}": digest for name, digest in own.items()})

    def _file(self, name: str) -> Buffer:
        return cpu.Buffer.from_bytes(atomic_files.read_checked(self._folder / name, self._digests[name]))

    @functools.cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        """The arrays by name; zarr sees their metadata and no file."""
        names = [name.removesuffix("/zarr.json") for name in self._digests if name.endswith("/zarr.json")]
        self._fetch(f"{name}/zarr.json" for name in names)
        arrays = {}
        for name in names:
            metadata = self._file(f"{name}/zarr.json")
            _refuse_foreign(json.loads(metadata.to_bytes()), self._units)
            arrays[name] = zarr.open_array(MemoryStore({"zarr.json": metadata}), mode="r", zarr_format=3)
        return arrays

    def _filled(self, name: str, keys: Iterable[str]) -> zarr.Array:
        """An array whose store holds the chunks `keys`; zarr takes a chunk that is not there for all fill value."""
        keys = list(keys)
        self._fetch(f"{name}/{key}" for key in keys)
        files: dict[str, Buffer] = {
            key: self._file(f"{name}/{key}") for key in keys if f"{name}/{key}" in self._digests
        }
        for key, data in files.items():
            _refuse_bomb(f"{name}/{key}", data.to_bytes(), self._arrays[name])
        files["zarr.json"] = self._file(f"{name}/zarr.json")
        return zarr.open_array(MemoryStore(files), mode="r", zarr_format=3)

    def _rows(self, name: str, units: slice) -> np.ndarray:
        """A variable's draws of some units [unit, chain, draw, ...]."""
        if name not in self._arrays:
            raise RunError(f"{self._folder} has no draws of {name!r}; fit again with another run.id")
        shards = _shards(units)
        opened = self._opened.get(name)
        if opened is None or opened[0] != shards:
            opened = shards, self._filled(name, self._keys(name, shards))
        # One shard only: a walk over blocks reads each once.
        if len(shards) == 1:
            self._opened[name] = opened
        return np.asarray(opened[1][units])

    def _keys(self, name: str, shards: range) -> list[str]:
        return [".".join(["c", str(shard), *["0"] * (self._arrays[name].ndim - 1)]) for shard in shards]

    def _whole(self, name: str) -> np.ndarray:
        """A coordinate, which is one chunk."""
        if name not in self._coordinates:
            if f"{name}/c.0" not in self._digests:
                raise RunError(f"{self._folder} has no coordinate {name!r}; fit again with another run.id")
            self._coordinates[name] = np.asarray(self._filled(name, ["c.0"])[:])
        return self._coordinates[name]

    @functools.cached_property
    def _coordinates(self) -> dict[str, np.ndarray]:
        return {}


def _shards(units: slice) -> range:
    return range(units.start // SHARD_UNITS, (units.stop - 1) // SHARD_UNITS + 1)


def _refuse_foreign(metadata: Any, units: int) -> None:
    """Refuse an array that `write_archive` cannot have written: a codec may run code, a huge shape fills memory.

    Raises:
        ValueError: Says what was found.
    """
    _refuse_codecs(metadata["codecs"])
    shape, kind = metadata["shape"], metadata["data_type"]
    if metadata["zarr_format"] != 3 or kind not in _TYPES or metadata.get("storage_transformers"):
        raise ValueError(f"an array of type {kind!r} in Zarr format {metadata['zarr_format']!r}")
    if metadata["dimension_names"][0] == "unit" and shape[0] != units:
        raise ValueError(f"an array of {shape[0]} units, not {units}")
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    if math.prod(shape[1:]) > UNIT_NUMBERS or chunk[0] > max(SHARD_UNITS, shape[0], 1) or chunk[1:] != shape[1:]:
        raise ValueError(f"an array of shape {shape} in chunks of {chunk}")
    if shape[0] > max(units, LABELS):
        raise ValueError(f"a coordinate of {shape[0]} labels")


def _refuse_codecs(codecs: Any) -> None:
    for codec in codecs:
        if codec["name"] not in _CODECS:
            raise ValueError(f"codec {codec['name']!r} is not among those that are read: {', '.join(sorted(_CODECS))}")
        settings = codec.get("configuration") or {}
        _refuse_codecs(settings.get("codecs", ()))
        _refuse_codecs(settings.get("index_codecs", ()))


def _refuse_bomb(name: str, data: bytes, array: zarr.Array) -> None:
    """Refuse a chunk that says it unpacks to more than the array's metadata say, for so much is reserved at once.

    Raises:
        ValueError: It does, or does not say how much it is.

    References:
        RFC 8878, section 3.1.1, of a Zstandard frame's header.
    """
    text = array.dtype.kind not in "fi"
    most = LABELS_BYTES if text else math.prod(array.chunks) * array.dtype.itemsize
    for start in _frames(data, array):
        header = data[start : start + 14]
        if header[:4] != b"\x28\xb5\x2f\xfd" or len(header) < 6:
            raise ValueError(f"{name} is not compressed as the draws of a run are")
        single, kind, dictionary = header[4] >> 5 & 1, header[4] >> 6, (0, 1, 2, 4)[header[4] & 3]
        size = (single, 2, 4, 8)[kind]
        place = 5 + (1 - single) + dictionary
        told = int.from_bytes(header[place : place + size], "little") + (256 if kind == 1 else 0)
        if not size or told > most:
            raise ValueError(f"{name} wants {told:,} bytes of memory, at most {most:,} are in it")


def _frames(data: bytes, array: zarr.Array) -> list[int]:
    """Where the compressed chunks of a file begin: in a shard as the index at its end says."""
    if array.shards is None:
        return [0]
    count = math.prod(whole // part for whole, part in zip(array.shards, array.chunks, strict=True))
    index = np.frombuffer(data[-(16 * count + 4) : -4], "<u8").reshape(-1, 2)
    there = index[index[:, 0] != np.iinfo(np.uint64).max]
    return [int(start) for start, _ in there]


def _axes(array: zarr.Array) -> tuple[str, ...]:
    return tuple(str(axis) for axis in getattr(array.metadata, "dimension_names", None) or ())


def _without_padding(unit: UnitDraws) -> UnitDraws:
    """Without the variables and labels that only other units have."""
    draws = {name: values for name, values in unit.draws.items() if not np.isnan(values).all()}
    coords = {}
    for axis, labels in unit.coords.items():
        present = np.zeros(len(labels), dtype=bool)
        for name, values in draws.items():
            if axis in unit.dims[name]:
                place = 2 + unit.dims[name].index(axis)
                others = tuple(i for i in range(values.ndim) if i != place)
                present |= ~np.isnan(values).all(axis=others)
        for name in draws:
            if axis in unit.dims[name]:
                draws[name] = np.compress(present, draws[name], axis=2 + unit.dims[name].index(axis))
        coords[axis] = tuple(label for label, keep in zip(labels, present, strict=True) if keep)
    return UnitDraws(draws=draws, dims={name: unit.dims[name] for name in draws}, coords=coords)
