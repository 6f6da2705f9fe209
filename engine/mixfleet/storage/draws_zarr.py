"""The draws of all units of a run in one sharded Zarr v3 store.

Every variable is one float32 array [unit, chain, draw, ...] with a chunk per unit and a shard per 25 units.
Units may differ in chains and draws: the axes have the greatest length, the rest is NaN, and `n_chains` and
`n_draws` hold each unit's own (0 for a unit without draws). Axis labels are coordinates named like the axis
(the union over units, in order of appearance); the unit's labels are the coordinates `key_0`, `key_1`, ...
whose attribute `column` is the key column.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage import atomic_files

DIGESTS = "posterior.sha256"
"""File beside the store: the digest of each of its files."""

SHARD_UNITS = 25
RESERVED = ("unit", "chain", "draw")
_FLAT_KEYS: Any = {"name": "default", "separator": "."}
"""One file per shard beside its array's metadata, not a folder for each axis."""


@dataclass(frozen=True, kw_only=True)
class ArchiveShape:
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


def write_archive(
    folder: Path,
    extent: ArchiveShape,
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
    atomic_files.make_own_folder(folder)
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
        folder.name: {"size": drain.size, "sha256": total_sha256(drain.digests)},
        DIGESTS: {"size": len(listed), "sha256": hashlib.sha256(listed).hexdigest()},
    }


def total_sha256(digests: Mapping[str, str]) -> str:
    """One digest (hex) of all files, from their names and digests."""
    lines = (f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _attributes(keys: tuple[str, ...]) -> dict[str, Any]:
    return {"keys": list(keys), "coordinates": " ".join(f"key_{i}" for i in range(len(keys)))}


def _create_array(root: zarr.Group, name: str, extent: ArchiveShape, units: int) -> zarr.Array:
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
        dimension_names=(*RESERVED, *axes),
        chunk_key_encoding=_FLAT_KEYS,
    )


def _write_coordinates(
    root: zarr.Group, extent: ArchiveShape, keys: tuple[str, ...], labels: tuple[tuple[str, ...], ...]
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


def _fill(name: str, shape: tuple[int, ...], block: list[UnitResult], extent: ArchiveShape) -> np.ndarray:
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
