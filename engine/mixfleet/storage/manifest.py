"""Manifest: what a run was made of; names of the files of its folder, and the markers that say whether to trust it."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mixfleet._version import __version__
from mixfleet.config import Spec, to_mapping
from mixfleet.data.experiments.experiment import experiments_table
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.errors import RunError
from mixfleet.storage import atomic_files

SCHEMA_VERSION = 1
"""Version of the run folder. Columns and files may be added under it; a renamed or removed one raises it."""

MANIFEST = "manifest.json"
NO_MANIFEST = "is no run folder: it has no manifest.json"
SUCCESS = "_SUCCESS"
PARTIAL = "_PARTIAL"
DONE = "_DONE"
ARCHIVE = "posterior.zarr"
SUMMARY = "summary"
PARTS = "parts"
CONFIG = "config.yaml"
EVENTS = "events.jsonl"
LATEST = "latest.json"
"""File beside the run folders that names the run finished last."""

_PACKAGES = ("numpy", "jax", "jaxlib", "numpyro", "pyarrow", "zarr")

_NO_RESULT = {
    "run": None,
    "business": None,
    "compute": ("devices", "threads", "memory_limit_gib", "cache_dir", "shard", "executor", "ray"),
    "data": ("path", "experiments"),
    "inference": ("rung_seconds",),
}
"""Settings that change no number of a certified result: whole groups (None) or some of a group."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a result follows from. Two runs that agree in it have the same result."""

    engine: str
    """Version of the package."""
    data: str
    """SHA-256 of the checked table; another order of rows, or another file of this content, is the same."""
    config: Mapping[str, Any]
    """Settings that may change a result, as plain values."""
    arithmetic: Mapping[str, str]
    """What the last bits follow from: kernels with their instruction set, jax, jaxlib, the processor's vector units."""

    @staticmethod
    def of(panel: Panel, spec: Spec) -> "Fingerprint":
        """The fingerprint of fitting `panel` under `spec`."""
        return Fingerprint(
            engine=__version__,
            data=panel_sha256(panel),
            config=_result_settings(spec) | _reused(spec),
            arithmetic=_arithmetic(),
        )

    def differences(self, other: Mapping[str, Any], *, finished: bool = False) -> list[str]:
        """Sentences on where the stored fingerprint `other` differs from this one.

        Args:
            other: As read from a manifest; those of earlier versions say nothing of their arithmetic.
            finished: Whether the run is; nothing more is computed then, so its arithmetic does not matter.
        """
        found = []
        if other["engine"] != self.engine:
            found.append(f"the engine was {other['engine']}, now it is {self.engine}")
        if other["data"] != self.data:
            found.append("the data differ")
        before = {} if finished else other.get("arithmetic", {})
        for name in sorted(before.keys() & self.arithmetic.keys()):
            if before[name] != self.arithmetic[name]:
                found.append(
                    f"{name}: was {before[name]}, now it is {self.arithmetic[name]}, which changes last digits"
                )
        before, now = _flatten(other["config"]), _flatten(self.config)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                found.append(f"{key} was {before.get(key)!r}, now it is {now.get(key)!r}")
        return found


def unit_fingerprints(panel: Panel, spec: Spec) -> dict[str, str]:
    """SHA-256 (hex) of all that a unit's result follows from, by unit id; of a pooled unit all that its group's does.

    Units of two runs that agree in it have the same result, to the byte, whatever else the two tables hold.
    """
    config = _result_settings(spec)
    overrides = config["prior"].pop("overrides")
    common = hashlib.sha256()
    # Priors of a channel are on returns only where it has spend, for which the models look at other units too.
    paid = [np.asarray(np.isfinite(unit.spend[unit.observed]).any(axis=0)).tobytes().hex() for unit in panel.units]
    _take(common, [__version__, _arithmetic(), config, paid[:1], sorted(set(paid))])
    _take(common, [list(panel.keys), list(panel.channels), list(panel.linear)])
    own: dict[str, str] = {}
    for unit in panel.units:
        total = common.copy()
        labels = dict(zip(panel.keys, unit.labels, strict=True))
        _take(total, [other for other in overrides if other["unit"].items() <= labels.items()])
        _take_unit(total, unit)
        # What was found about a unit becomes its status and reason.
        _take(total, [finding.statement for finding in unit.warnings])
        _take(total, _experiments_sha256(replace(panel, units=(unit,))))
        own[unit_id(unit.labels)] = total.hexdigest()
    if spec.pooling.by == "none":
        return own
    ids = list(own)
    groups = spec.pooling.groups(panel.keys, [unit.labels for unit in panel.units])
    shared = {
        ids[place]: hashlib.sha256("".join(sorted(own[ids[other]] for other in places)).encode()).hexdigest()
        for places in groups.values()
        for place in places
    }
    return {unit: hashlib.sha256(f"{own[unit]}{shared[unit]}".encode()).hexdigest() for unit in own}


def new_manifest(run_id: str, panel: Panel, spec: Spec, fingerprint: Fingerprint, devices: tuple[str, ...]) -> dict:
    """The manifest of a run that starts."""
    return {
        "schema_version": SCHEMA_VERSION,
        "state": "running",
        "run_id": run_id,
        "versions": {"mixfleet": __version__, "python": platform.python_version(), **_package_versions()},
        "platform": platform.platform(),
        "devices": list(devices),
        "seed": spec.inference.seed,
        "loosened": loosened_gates(spec),
        "keys": list(panel.keys),
        "units": len(panel.units) + len(panel.rejected),
        "experiments": {
            "tests": sum(len(unit.experiments) for unit in panel.units),
            "sha256": _experiments_sha256(panel),
        },
        "lake": None if panel.lake is None else asdict(panel.lake),
        "fingerprint": {
            "engine": fingerprint.engine,
            "data": fingerprint.data,
            "config": dict(fingerprint.config),
            "arithmetic": dict(fingerprint.arithmetic),
        },
        "config": to_mapping(spec),
    }


def loosened_gates(spec: Spec) -> list[str]:
    """Sentences on the gates of certification that are wider than the usual ones."""
    own, usual = spec.inference, Spec().inference
    wider = {
        "rhat_max": own.rhat_max > usual.rhat_max,
        "ess_floor": own.ess_floor < usual.ess_floor,
        "ebfmi_min": own.ebfmi_min < usual.ebfmi_min,
    }
    names = [name for name, loose in wider.items() if loose]
    return [f"inference.{name} is {getattr(own, name):g}, usually {getattr(usual, name):g}" for name in names]


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Write the manifest; its sha256."""
    data = json.dumps(manifest, indent=1, ensure_ascii=True).encode("ascii")
    atomic_files.replace_bytes(folder / MANIFEST, data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run, finished or not.

    Raises:
        RunError: There is none, it is damaged, or a newer version of the package wrote it.
    """
    return parse_manifest(folder, _read(folder / MANIFEST, NO_MANIFEST))


def read_finished(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        RunError: The run is not finished, or its manifest is not the one that was committed.
    """
    data = _read(folder / MANIFEST, NO_MANIFEST)
    if not is_finished(folder):
        raise RunError(
            f"run {folder} is not finished. Resume it with the same configuration, run.root and run.id={folder.name}"
        )
    marker = _parse(folder / SUCCESS, _read(folder / SUCCESS, "is not finished"))
    if marker.get("manifest") != hashlib.sha256(data).hexdigest():
        raise RunError(f"{folder / MANIFEST} was changed after the run had finished; fit again with another run.id")
    manifest = parse_manifest(folder, data)
    if not _is_whole(manifest):
        raise RunError(f"{folder / MANIFEST} is damaged: it says not what a run holds. Fit again with another run.id")
    return manifest


def of_another_version(folder: Path, manifest: Mapping[str, Any], words: str) -> RunError:
    """The error for a finished run that another mixfleet wrote and this one cannot read; to be raised.

    Args:
        folder: The run's.
        manifest: The run's.
        words: What of it is other than here.
    """
    version, created = (str(manifest.get(name)) for name in ("versions", "created"))
    versions = manifest.get("versions")
    version = versions.get("mixfleet") if isinstance(versions, Mapping) else version
    return RunError(
        f"run {folder} was written by another mixfleet (version {version}, {created[:10]}; this is {__version__}): "
        f"{words}. Open it with that one, or fit again with another run.id"
    )


def _is_whole(manifest: Mapping[str, Any]) -> bool:
    """Whether what readers rest on is there and of its kind; files lie in the run's folder."""
    keys, files, counts = (manifest.get(name) for name in ("keys", "files", "counts"))
    mappings = (files, counts, manifest.get("config"), manifest.get("fingerprint"))
    return (
        isinstance(keys, list)
        and all(isinstance(key, str) for key in keys)
        and isinstance(manifest.get("units"), int)
        and isinstance(manifest.get("result_sha256"), str)
        and all(isinstance(one, Mapping) for one in mappings)
        and all(isinstance(count, int) for count in (counts or {}).values())
        and all(isinstance(entry, Mapping) and isinstance(entry.get("sha256"), str) for entry in (files or {}).values())
        and not any(".." in Path(name).parts or Path(name).is_absolute() for name in files or {})
    )


def parse_manifest(place: str | Path, data: bytes) -> dict[str, Any]:
    """The manifest of a run at a place, from its bytes.

    Raises:
        RunError: It is damaged, or a newer version of the package wrote it.
    """
    manifest = _parse(f"{place}/{MANIFEST}", data)
    version = manifest.get("schema_version")
    if not isinstance(version, int):
        raise RunError(f"{place}/{MANIFEST} is damaged: it has no schema version. Fit again with another run.id")
    if version > SCHEMA_VERSION:
        raise RunError(f"run {place} has schema version {version}; this mixfleet reads up to {SCHEMA_VERSION}: upgrade")
    return manifest


def _parse(path: str | Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}. Fit again with another run.id") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: it holds no mapping. Fit again with another run.id")
    return value


def is_finished(folder: Path) -> bool:
    """Whether the run's result is committed."""
    return (folder / SUCCESS).is_file()


def panel_sha256(panel: Panel) -> str:
    """SHA-256 (hex) of everything in the panel that a fit may look at."""
    total = hashlib.sha256()
    _take(total, [list(panel.keys), list(panel.channels), list(panel.linear)])
    for unit in panel.units:
        _take_unit(total, unit)
    if tests := _experiments_sha256(panel):
        _take(total, tests)
    # Reasons name rows and lines, which another order of the same rows changes.
    _take(total, [list(rejection.labels) for rejection in panel.rejected])
    return total.hexdigest()


def _take_unit(total: "hashlib._Hash", unit: Unit) -> None:
    _take(total, [list(unit.labels), unit.population, unit.kpi_scale])
    arrays = (unit.dates, unit.kpi, unit.observed, unit.media, unit.spend, unit.controls, unit.value_per_kpi)
    for array in arrays:
        _take(total, array)
    if unit.measured_until is not None:
        _take(total, str(unit.measured_until))
    # No fit looks at it, but the run keeps it for its tables.
    if unit.reported is not None:
        _take(total, unit.reported)


def _take(total: "hashlib._Hash", value: Any) -> None:
    """Adds an array, or what JSON can say, to a digest."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "M":
            value = value.astype("datetime64[D]").astype(np.int64)
        total.update(f"{value.dtype.str}{value.shape}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    else:
        total.update(json.dumps(value).encode() + b"\n")


def _result_settings(spec: Spec) -> dict[str, Any]:
    """Settings that may change a result, as plain values."""
    config = to_mapping(spec)
    for group, names in _NO_RESULT.items():
        if names is None:
            del config[group]
        else:
            config[group] = {name: value for name, value in config[group].items() if name not in names}
    # Through JSON, so that it compares equal to one that was read back.
    return json.loads(json.dumps(config))


def _reused(spec: Spec) -> dict[str, Any]:
    """What says whose draws are reweighted, which no unit that was fitted follows from."""
    return {"run": {"reuse": spec.run.reuse, "base": spec.run.base}} if spec.run.reuse == "reweighted" else {}


def _experiments_sha256(panel: Panel) -> str | None:
    """SHA-256 (hex) of the lift tests; None where there are none."""
    tests = [(unit.labels, unit.experiments) for unit in panel.units if unit.experiments]
    rows = experiments_table(panel.keys, tests).to_pylist()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest() if rows else None


def _read(path: Path, missing: str) -> bytes:
    try:
        return atomic_files.read_bytes(path)
    except FileNotFoundError:
        raise RunError(f"{path.parent} {missing}") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def _flatten(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {key: value}
    flat = {}
    for name, item in value.items():
        flat.update(_flatten(item, f"{key}.{name}" if key else str(name)))
    return flat


def _arithmetic() -> dict[str, str]:
    # Here, for it starts jax, which readers of a run do without.
    from mixfleet_kernels import native_library

    versions = _package_versions()
    kernels = f"native ({native_library.isa()})" if native_library.available() else "xla"
    found = {"kernels": kernels, "processor": " ".join((platform.machine(), *_vector_units()))}
    return found | {name: versions[name] for name in ("jax", "jaxlib") if name in versions}


def _vector_units() -> list[str]:
    """Those of the processor's flags that XLA chooses its instructions by; none where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted({flag for flag in flags if flag in ("fma", "f16c", "asimd", "sve") or flag.startswith("avx")})


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
