"""Archive: the draws of all units of a run in one sharded Zarr v3 store.

Every variable is one float32 array [unit, chain, draw, ...] with a chunk per unit and a shard per 25 units.
Units may differ in chains and draws: the axes have the greatest length, the rest is NaN, and `n_chains` and
`n_draws` hold each unit's own (0 for a unit without draws). Axis labels are coordinates named like the axis
(the union over units, in order of appearance); the unit's labels are the coordinates `key_0`, `key_1`, ...
whose attribute `column` is the key column.
"""

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float32
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from mixfleet.errors import RunError
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.posterior.unit_series import evenly_spaced
from mixfleet.storage import atomic_files

DIGESTS = "posterior.sha256"
"""File beside the store: the digest of each of its files."""

SHARD_UNITS = 25
UNIT_NUMBERS = 1 << 28
"""Most numbers that one unit may have of a variable."""
LABELS = 100_000
"""Most labels of an axis."""

_CODECS = frozenset({"bytes", "crc32c", "sharding_indexed", "vlen-utf8", "zstd"})
_TYPES = ("float32", "int32", "string")
_RESERVED = ("unit", "chain", "draw")
_FLAT_KEYS: Any = {"name": "default", "separator": "."}
"""One file per shard beside its array's metadata, not a folder for each axis."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Shape of the archive: what must be known of all units before the first is written."""

    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Variable -> greatest number of chains and draws."""
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Variable -> names of the axes after chain and draw."""
    coords: dict[str, dict[str, int]] = field(default_factory=dict)
    """Axis -> label -> position."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Chains and draws of each unit, in unit order."""

    def add(self, result: UnitResult) -> None:
        """Take the next unit into account.

        Raises:
            ValueError: A variable has other axes than in an earlier unit.
        """
        size = (0, 0)
        for name, values in sorted(result.draws.items()):
            size = (values.shape[0], values.shape[1])
            known = self.shapes.get(name, size)
            self.shapes[name] = (max(known[0], size[0]), max(known[1], size[1]))
            axes = result.dims.get(name, ())
            if self.dims.setdefault(name, axes) != axes:
                raise ValueError(f"unit {result.labels}: axes of {name!r} are {axes}, not {self.dims[name]}")
            for axis in axes:
                labels = self.coords.setdefault(axis, {})
                for label in result.coords[axis]:
                    labels.setdefault(label, len(labels))
        self.sizes.append(size)


@dataclass(frozen=True, kw_only=True)
class UnitDraws:
    """Draws of one unit as read back."""

    draws: dict[str, Float32[np.ndarray, "chain draw ..."]]
    dims: dict[str, tuple[str, ...]]
    """Variable -> names of the axes after chain and draw."""
    coords: dict[str, tuple[str, ...]]
    """Axis -> labels."""


def write_archive(
    folder: Path,
    extent: Extent,
    keys: tuple[str, ...],
    labels: tuple[tuple[str, ...], ...],
    results: Iterator[UnitResult],
) -> dict[str, Any]:
    """Write the archive, one shard of units in memory at a time, and beside it the digests of its files.

    Args:
        folder: The store; what is there is replaced.
        extent: Made of the same units in the same order.
        keys: Key columns.
        labels: Labels of each unit.
        results: The units.

    Returns:
        For the manifest: size and sha256 of the archive as a whole and of the list of digests.
    """
    atomic_files.remove_tree(folder)
    atomic_files.make_folder(folder)
    drain = _Drain(folder)
    root = zarr.create_group(drain.store, zarr_format=3, attributes=_attributes(keys))
    _write_coordinates(root, extent, keys, labels)
    arrays = {name: _create_array(root, name, extent, len(labels)) for name in extent.shapes}
    drain.flush()
    for start in range(0, len(labels), SHARD_UNITS):
        block = [next(results) for _ in labels[start : start + SHARD_UNITS]]
        for name, array in arrays.items():
            array[start : start + len(block)] = _fill(name, array.shape[1:], block, extent)
            drain.flush()
    drain.sync()
    # As `sha256sum` writes them, so that they can be checked without this package.
    listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(drain.digests.items())).encode()
    atomic_files.replace_bytes(folder.parent / DIGESTS, listed)
    return {
        folder.name: {"size": drain.size, "sha256": _total_sha256(drain.digests)},
        DIGESTS: {"size": len(listed), "sha256": hashlib.sha256(listed).hexdigest()},
    }


class Archive:
    """The draws of a finished run. Every byte that is read was checked against its digest before.

    Raises (all methods):
        RunError: A file is missing or is not the one that was committed, or the store is none that this package
            writes.
    """

    def __init__(self, folder: Path, files: Mapping[str, Mapping[str, Any]], units: int) -> None:
        """Open the store; nothing is read yet.

        Args:
            folder: The store.
            files: The manifest's digests by file name.
            units: Units of the run.
        """
        self._folder = folder
        self._entries = files
        self._units = units

    def read_draws(self, unit: int) -> UnitDraws:
        """Draws of one unit, by its position in the status table."""
        with self._blaming():
            names = [name for name, array in self._arrays.items() if _axes(array)[:3] == _RESERVED]
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
            for name in variables:
                if name not in self._arrays:
                    continue
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
            lines = atomic_files.read_checked(path, self._entries[DIGESTS]["sha256"]).decode().splitlines()
            return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        # Runs of earlier versions have one digest for all files together.
        paths = sorted(path for path in self._folder.rglob("*") if path.is_file())
        digests = {path.relative_to(self._folder).as_posix(): atomic_files.file_sha256(path) for path in paths}
        if _total_sha256(digests) != self._entries[self._folder.name]["sha256"]:
            raise RunError(f"{self._folder} is damaged: files were changed; fit again with another run.id")
        return digests

    def _file(self, name: str) -> Buffer:
        return cpu.Buffer.from_bytes(atomic_files.read_checked(self._folder / name, self._digests[name]))

    @functools.cached_property
    def _arrays(self) -> dict[str, zarr.Array]:
        """The arrays by name; zarr sees their metadata and no file."""
        names = [name.removesuffix("/zarr.json") for name in self._digests if name.endswith("/zarr.json")]
        arrays = {}
        for name in names:
            metadata = self._file(f"{name}/zarr.json")
            _refuse_foreign(json.loads(metadata.to_bytes()), self._units)
            arrays[name] = zarr.open_array(MemoryStore({"zarr.json": metadata}), mode="r", zarr_format=3)
        return arrays

    def _filled(self, name: str, keys: Iterable[str]) -> zarr.Array:
        """An array whose store holds the chunks `keys`; zarr takes a chunk that is not there for all fill value."""
        files: dict[str, Buffer] = {
            key: self._file(f"{name}/{key}") for key in keys if f"{name}/{key}" in self._digests
        }
        files["zarr.json"] = self._file(f"{name}/zarr.json")
        return zarr.open_array(MemoryStore(files), mode="r", zarr_format=3)

    def _rows(self, name: str, units: slice) -> np.ndarray:
        """A variable's draws of some units [unit, chain, draw, ...]."""
        if name not in self._arrays:
            raise RunError(f"{self._folder} has no draws of {name!r}; fit again with another run.id")
        array = self._arrays[name]
        shards = range(units.start // SHARD_UNITS, (units.stop - 1) // SHARD_UNITS + 1)
        keys = [".".join(["c", str(shard), *["0"] * (array.ndim - 1)]) for shard in shards]
        return np.asarray(self._filled(name, keys)[units])

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


def _total_sha256(digests: Mapping[str, str]) -> str:
    lines = (f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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


def _attributes(keys: tuple[str, ...]) -> dict[str, Any]:
    return {"keys": list(keys), "coordinates": " ".join(f"key_{i}" for i in range(len(keys)))}


def _create_array(root: zarr.Group, name: str, extent: Extent, units: int) -> zarr.Array:
    axes = extent.dims[name]
    inner = (*extent.shapes[name], *(len(extent.coords[axis]) for axis in axes))
    return root.create_array(
        name,
        shape=(units, *inner),
        dtype="float32",
        chunks=(1, *inner),
        shards=(SHARD_UNITS, *inner),
        compressors=ZstdCodec(level=1, checksum=True),
        fill_value=float("nan"),
        dimension_names=(*_RESERVED, *axes),
        chunk_key_encoding=_FLAT_KEYS,
    )


def _write_coordinates(
    root: zarr.Group, extent: Extent, keys: tuple[str, ...], labels: tuple[tuple[str, ...], ...]
) -> None:
    columns: list[tuple[str, Any, str, Any, dict[str, Any]]] = [
        ("n_chains", "int32", "unit", np.array([size[0] for size in extent.sizes], "int32"), {}),
        ("n_draws", "int32", "unit", np.array([size[1] for size in extent.sizes], "int32"), {}),
    ]
    for i, key in enumerate(keys):
        columns.append((f"key_{i}", str, "unit", np.array([row[i] for row in labels], object), {"column": key}))
    for axis, names in extent.coords.items():
        columns.append((axis, str, axis, np.array(list(names), object), {}))
    for name, dtype, axis, values, attributes in columns:
        array = root.create_array(
            name,
            shape=values.shape,
            dtype=dtype,
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=(axis,),
            chunk_key_encoding=_FLAT_KEYS,
            attributes=attributes,
        )
        array[:] = values


def _fill(name: str, shape: tuple[int, ...], block: list[UnitResult], extent: Extent) -> np.ndarray:
    """The variable's draws [unit, chain, draw, ...] of a block of units, NaN where a unit has none."""
    values = np.full((len(block), *shape), np.nan, np.float32)
    for target, result in zip(values, block, strict=True):
        if name in result.draws:
            draws = result.draws[name]
            places = [[extent.coords[axis][label] for label in result.coords[axis]] for axis in extent.dims[name]]
            target[np.ix_(*(range(length) for length in draws.shape[:2]), *places)] = draws
    return values


class _Drain:
    """Collects what zarr writes in memory and commits it file by file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._folders = {folder}
        self.digests: dict[str, str] = {}
        self.store = MemoryStore(self._files)
        self.size = 0

    def flush(self) -> None:
        """Commit everything but the metadata that zarr still reads back, and forget it."""
        for name in list(self._files):
            data = self._files[name].to_bytes()
            path = self._folder / name
            if self.digests.get(name) == (digest := hashlib.sha256(data).hexdigest()):
                continue
            if path.parent not in self._folders:
                atomic_files.make_folder(path.parent)
                self._folders.add(path.parent)
            atomic_files.replace_bytes(path, data, sync=False)
            self.digests[name] = digest
            self.size += len(data)
            if not name.endswith("zarr.json"):
                del self._files[name]

    def sync(self) -> None:
        """Force the names of all files to disk."""
        for folder in sorted(self._folders):
            atomic_files.sync_folder(folder)
