"""Archive: the draws of all units of a run in one sharded Zarr v3 store.

Every variable is one float32 array [unit, chain, draw, ...] with a chunk per unit and a shard per 25 units.
Units may differ in chains and draws: the axes have the greatest length, the rest is NaN, and `n_chains` and
`n_draws` hold each unit's own (0 for a unit without draws). Axis labels are coordinates named like the axis
(the union over units, in order of appearance); the unit's labels are the coordinates `key_0`, `key_1`, ...
whose attribute `column` is the key column.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Float32
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from mixfleet.errors import RunError
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.posterior.unit_series import evenly_spaced
from mixfleet.storage import atomic_files

SHARD_UNITS = 25
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
    """Write the archive, one shard of units in memory at a time; its size and a sha256 over all files.

    Args:
        folder: The store; what is there is replaced.
        extent: Made of the same units in the same order.
        keys: Key columns.
        labels: Labels of each unit.
        results: The units.
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
    return {"size": drain.size, "sha256": drain.sha256}


def read_draws(folder: Path, unit: int) -> UnitDraws:
    """Draws of one unit.

    Args:
        folder: The store.
        unit: Position of the unit in the status table.

    Raises:
        RunError: The store is absent or damaged.
    """
    try:
        root = zarr.open_group(LocalStore(folder, read_only=True), mode="r")
        axes_of = {name: _axes(array) for name, array in root.arrays()}
        names = [name for name, axes in axes_of.items() if axes[:3] == _RESERVED]
        chains, length = (int(_whole(root, name)[unit]) for name in ("n_chains", "n_draws"))
        draws = {name: np.asarray(_array(root, name)[unit])[:chains, :length] for name in names}
        dims = {name: axes_of[name][3:] for name in names}
        axes = sorted({axis for own in dims.values() for axis in own})
        coords = {axis: tuple(str(label) for label in _whole(root, axis)) for axis in axes}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"{folder} is absent or damaged ({error}); fit again with another run.id") from error
    return _without_padding(UnitDraws(draws=draws, dims=dims, coords=coords))


def _whole(root: zarr.Group, name: str) -> np.ndarray:
    return np.asarray(_array(root, name)[:])


def _array(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    if not isinstance(array, zarr.Array):
        raise KeyError(name)
    return array


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


def read_block(
    folder: Path, units: slice, *, draws: int, variables: Sequence[str]
) -> tuple[dict[str, list[Float32[np.ndarray, "draw ..."]]], dict[str, tuple[str, ...]]]:
    """Draws of neighbouring units with all chains on one axis, at most `draws` of each; see `evenly_spaced`.

    A unit without any has none here. Best read in blocks of `SHARD_UNITS`.

    Args:
        folder: The store.
        units: Positions in the status table.
        draws: How many draws to return of each unit, at most.
        variables: Names of the variables; those the store lacks are left out.

    Returns:
        Draws of each unit by variable, and the labels of their last axis where they have one.

    Raises:
        RunError: The store is absent or damaged.
    """
    try:
        root = zarr.open_group(LocalStore(folder, read_only=True), mode="r")
        chains, lengths = (_whole(root, name)[units] for name in ("n_chains", "n_draws"))
        found, labels = {}, {}
        for name in variables:
            if name not in root:
                continue
            stored = np.asarray(_array(root, name)[units])
            found[name] = [
                evenly_spaced(own[:count, :length], draws)
                for own, count, length in zip(stored, chains, lengths, strict=True)
            ]
            if stored.ndim > 3:
                labels[name] = tuple(str(label) for label in _whole(root, _axes(_array(root, name))[3]))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RunError(f"{folder} is absent or damaged ({error}); fit again with another run.id") from error
    return found, labels


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
        self._digests: dict[str, str] = {}
        self.store = MemoryStore(self._files)
        self.size = 0

    @property
    def sha256(self) -> str:
        lines = (f"{name} {digest}\n" for name, digest in sorted(self._digests.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def flush(self) -> None:
        """Commit everything but the metadata that zarr still reads back, and forget it."""
        for name in list(self._files):
            data = self._files[name].to_bytes()
            path = self._folder / name
            if self._digests.get(name) == (digest := hashlib.sha256(data).hexdigest()):
                continue
            if path.parent not in self._folders:
                atomic_files.make_folder(path.parent)
                self._folders.add(path.parent)
            atomic_files.replace_bytes(path, data, sync=False)
            self._digests[name] = digest
            self.size += len(data)
            if not name.endswith("zarr.json"):
                del self._files[name]

    def sync(self) -> None:
        """Force the names of all files to disk."""
        for folder in sorted(self._folders):
            atomic_files.sync_folder(folder)
