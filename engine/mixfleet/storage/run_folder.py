"""The folder of one run, or of a shard of one, from its first file to the marker that commits it.

manifest.json    versions, seed, config, fingerprint, devices; at the end also timings, counts, digest, files
config.yaml      the configuration, to be used again
parts/           finished units of a run in progress (see `mixfleet.storage.journal`)
summary/         one Parquet file per table (see `mixfleet.storage.summary_tables`), and the checked table
                 itself (`panel.parquet`)
posterior.zarr/  draws (see `mixfleet.storage.draws_zarr`)
posterior.sha256 the digest of each of their files
business/        what was said of money and years after the fit, if anything
events.jsonl     what happened to the run, and when
_SUCCESS         holds the digest of the manifest: only with it do the files count as a result
_PARTIAL         the run was interrupted and can be resumed

A shard's folder, `<run>.shards/<i>-of-<n>`, has the first three and `_DONE`, once all its units are in `parts/`.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from mixfleet.config import Output, Spec, to_mapping
from mixfleet.data.experiments.experiment import experiments_table
from mixfleet.data.panel import Panel, unit_id
from mixfleet.data.panel_parquet import panel_table
from mixfleet.data.validation.finding import findings_table
from mixfleet.errors import ConfigError, RunError
from mixfleet.posterior.unit_result import STATUSES, UnitResult, thin_draws
from mixfleet.storage import atomic_files
from mixfleet.storage.draws_zarr import ArchiveShape, write_archive
from mixfleet.storage.journal import Parts, remove_parts
from mixfleet.storage.lock import hold_lock
from mixfleet.storage.manifest import (
    ARCHIVE,
    CONFIG,
    DONE,
    EVENTS,
    LATEST,
    MANIFEST,
    PARTIAL,
    PARTS,
    SUCCESS,
    SUMMARY,
    Fingerprint,
    is_finished,
    new_manifest,
    read_manifest,
    unit_fingerprints,
    write_manifest,
)
from mixfleet.storage.output_folder import remove_stagings
from mixfleet.storage.remote.address import Address, within
from mixfleet.storage.remote.mirror import Copy, LocalOnly, hold_remote
from mixfleet.storage.summary_tables import SummaryTables, check_keys, write_table

SHARDS = ".shards"
"""What the folder of a run's shards has behind the run's name."""
STRUCTURES = ".structures"
"""The same of the folder of the runs of its structures."""


class ResultStore(Protocol):
    """Where results of a fit go, a few at a time; what is committed survives the process."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        ...

    @property
    def units(self) -> frozenset[str]:
        """Ids of the units that are committed, where the store is not finished."""
        ...

    def commit(self, results: Iterable[UnitResult]) -> None:
        """Save finished units; they survive whatever happens to this process.

        Raises:
            RunError: The disk is full or failed; what was saved before stays saved.
        """
        ...

    def interrupt(self, reason: str) -> None:
        """Mark the store as interrupted and resumable."""
        ...

    def finish(self) -> None:
        """Say that all units are committed. May be repeated after a kill.

        Raises:
            RunError: The disk is full or failed; the saved units stay and finishing can be repeated.
        """
        ...


class _Folder:
    """A folder that takes results, open for writing by this process alone."""

    def __init__(self, path: Path, manifest: dict[str, Any], output: Output, copy: Copy, *, finished: bool) -> None:
        self.path = path
        self._copy = copy
        self.finished = finished
        """Whether the result is committed already."""
        self._manifest, self._output = manifest, output
        self._parts = None if finished else Parts(path / PARTS)

    @property
    def parts(self) -> Parts:
        """Parts of the unfinished run."""
        assert self._parts is not None, "the run is finished"
        return self._parts

    @property
    def units(self) -> frozenset[str]:
        """Ids of the committed units of the unfinished run."""
        return self.parts.units

    def commit(self, results: Iterable[UnitResult]) -> None:
        """Save finished units; see `ResultStore.commit`."""
        kept = [as_stored(result, self._output) for result in results]
        if (part := self.parts.add(kept)) is not None:
            self._copy.put_part(*part)
        self.log("committed", units=len(kept), total=len(self.parts.units))

    def interrupt(self, reason: str) -> None:
        """Mark the run as interrupted and resumable."""
        marker = {"reason": reason, "done": len(self.parts.units), "units": self._manifest["units"]}
        atomic_files.replace_bytes(self.path / PARTIAL, json.dumps(marker).encode())
        self._copy.put(PARTIAL)
        self.log("interrupted", **marker)

    def note(self, name: str, value: Any) -> None:
        """Say something in the manifest of the finished run."""
        self._manifest[name] = value

    def log_opened(self, event: str) -> None:
        """Say in the events of an unfinished run how it was opened, and what was found damaged."""
        if not self.finished:
            damaged = [*self.parts.damaged, *self._copy.damaged]
            self.log(event, done=len(self.units), units=self._manifest["units"], damaged=damaged)

    @property
    def place(self) -> str:
        """What opens the run: its folder, or its address in an object store."""
        return self._copy.place

    def log(self, event: str, **details: Any) -> None:
        """Add a line to the run's events."""
        line = {"time": _now(), "event": event, **details}
        atomic_files.append_bytes(self.path / EVENTS, json.dumps(line).encode() + b"\n")
        self._copy.put(EVENTS)


class ShardFolder(_Folder):
    """Some units of a run, kept as parts for `collect`."""

    def finish(self) -> None:
        """Say that all units of the shard are committed."""
        if not self.finished:
            self.log("finished")
            atomic_files.replace_bytes(self.path / DONE, json.dumps({"units": len(self.units)}).encode())
            self._copy.put(DONE)
            self.finished = True
        atomic_files.remove_file(self.path / PARTIAL)
        self._copy.remove(PARTIAL)


class RunFolder(_Folder):
    """A run folder open for writing by this process alone."""

    def __init__(self, path: Path, panel: Panel, spec: Spec, manifest: dict[str, Any], copy: Copy) -> None:
        """Used by `open_run_folder` only."""
        super().__init__(path, manifest, spec.output, copy, finished=is_finished(path))
        self._panel, self._inputs = panel, {} if self.finished else unit_fingerprints(panel, spec)
        self.carried: Mapping[str, str] = {}
        """Digest of each unit that an earlier run has and that is taken from there, by unit id."""
        self.why_fitted: Mapping[str, str] = {}
        """Why others are not taken from there."""
        self._counts: Counter[str] = Counter()
        self._started = time.monotonic()

    def finish(self) -> None:
        """Merge the saved units into the final files and commit the run. May be repeated after a kill.

        Raises:
            RunError: The disk is full or failed; the saved units stay and finishing can be repeated.
        """
        if not self.finished:
            labels = self._labels()
            extent = ArchiveShape()
            files = self._write_summary(labels, extent)
            if self._output.draws != "summary":
                keys = self._panel.keys
                files |= write_archive(self.path / ARCHIVE, extent, keys, labels, self._results(labels))
            self._commit_run(labels, files)
        self._clean_up()

    def _labels(self) -> tuple[tuple[str, ...], ...]:
        labels = sorted([unit.labels for unit in self._panel.units] + [unit.labels for unit in self._panel.rejected])
        missing = [row for row in labels if unit_id(row) not in self.parts.units]
        assert not missing, f"units without a result: {missing[:3]}"
        return tuple(labels)

    def _results(self, labels: tuple[tuple[str, ...], ...]) -> Iterator[UnitResult]:
        return self.parts.read(unit_id(row) for row in labels)

    def _write_summary(self, labels: tuple[tuple[str, ...], ...], extent: ArchiveShape) -> dict[str, Any]:
        self._counts.clear()
        folder = self.path / SUMMARY
        atomic_files.make_own_folder(folder)
        atomic_files.remove_leftovers(folder)
        summary = SummaryTables(folder, self._panel.keys, self._manifest["loosened"])
        try:
            for result in self._results(labels):
                unit = unit_id(result.labels)
                digest = self.parts.digest(unit)
                origin = self._origin(result, digest)
                why = self.why_fitted.get(unit) if origin == "fitted" else None
                summary.add(result, digest, self._inputs.get(unit), origin, why)
                extent.add(result)
                self._counts[result.status] += 1
            files = summary.close()
        finally:
            summary.discard()
        files["findings.parquet"] = write_table(folder / "findings.parquet", findings_table(self._panel.findings))
        files["panel.parquet"] = write_table(folder / "panel.parquet", panel_table(self._panel))
        if any(unit.experiments for unit in self._panel.units):
            tests = experiments_table(self._panel.keys, [(unit.labels, unit.experiments) for unit in self._panel.units])
            files["tests.parquet"] = write_table(folder / "tests.parquet", tests)
        return {f"{SUMMARY}/{name}": entry for name, entry in files.items()}

    def _origin(self, result: UnitResult, digest: str) -> str:
        if self.carried.get(unit_id(result.labels)) == digest:
            return "carried"
        return "reweighted" if "pareto_k" in result.diagnostics else "fitted"

    def _commit_run(self, labels: tuple[tuple[str, ...], ...], files: dict[str, Any]) -> None:
        digests = "".join(f"{self.parts.digest(unit_id(row))}\n" for row in labels)
        self._manifest |= {
            "state": "finished",
            "timings": {"finished": _now(), "session_seconds": round(time.monotonic() - self._started, 3)},
            "counts": {status: self._counts[status] for status in STATUSES},
            "result_sha256": hashlib.sha256(digests.encode()).hexdigest(),
            "files": files,
        }
        sha256 = write_manifest(self.path, self._manifest)
        self.log("finished", counts=dict(self._counts))
        self._copy.commit(files, sha256)
        atomic_files.replace_bytes(self.path / SUCCESS, json.dumps({"manifest": sha256}).encode())
        self.finished = True

    def _clean_up(self) -> None:
        atomic_files.remove_file(self.path / PARTIAL)
        remove_parts(self.path / PARTS)
        atomic_files.replace_bytes(self.path.parent / LATEST, json.dumps({"run": self.path.name}).encode())
        self._copy.clean_up()


@contextmanager
def open_run_folder(panel: Panel, spec: Spec, *, devices: tuple[str, ...] = ()) -> Iterator[RunFolder]:
    """The folder `run.root/run.id`, new or to be resumed, held by this process during the block.

    Raises:
        ConfigError: A key column has the name of a column of the summary tables.
        RunError: Another process writes to it, it belongs to another configuration or other data, or it
            cannot be written.
    """
    check_keys(spec.data)
    with _held(spec.run.root, spec.run.id) as (path, copy):
        manifest, event = _claimed(path, panel, spec, devices, copy)
        folder = RunFolder(path, panel, spec, manifest, copy)
        folder.log_opened(event)
        yield folder


@contextmanager
def open_shard_folder(panel: Panel, spec: Spec, *, devices: tuple[str, ...] = ()) -> Iterator[ShardFolder]:
    """The folder of the shard `compute.shard` of the run, new or to be resumed, held during the block.

    Raises:
        ConfigError: The run has no name, or a key column has that of a column of the summary tables.
        RunError: As for `open_run_folder`.
    """
    check_keys(spec.data)
    assert spec.compute.shard is not None
    if spec.run.id is None:
        raise ConfigError("name the run, by the same name in all its shards", key="run.id")
    root = within(spec.run.root, f"{spec.run.id}{SHARDS}")
    if Address.of(root) is None:
        atomic_files.make_own_folder(Path(root))
    with _held(root, spec.compute.shard.replace("/", "-of-")) as (path, copy):
        manifest, event = _claimed(path, panel, spec, devices, copy)
        folder = ShardFolder(path, manifest, spec.output, copy, finished=(path / DONE).is_file())
        folder.log_opened(event)
        yield folder


@contextmanager
def _held(root: str, run_id: str | None) -> Iterator[tuple[Path, Copy]]:
    """The folder of a run, held by this process, and where else it goes."""
    address = Address.of(root)
    if address is None:
        path = _make_run_folder(Path(root), run_id)
        with hold_lock(path):
            yield path, LocalOnly(path)
    else:
        run = address.joined(run_id or _stamp())
        with hold_remote(run) as mirror:
            yield run.folder, mirror


def _claimed(path: Path, panel: Panel, spec: Spec, devices: tuple[str, ...], copy: Copy) -> tuple[dict[str, Any], str]:
    """The manifest of a folder that is held, written where it is new, and the event that this is."""
    fingerprint = Fingerprint.of(panel, spec)
    atomic_files.remove_leftovers(path)
    remove_stagings(path)
    if (path / MANIFEST).exists():
        stored, finished = read_manifest(path), is_finished(path)
        refuse_other(copy.place, fingerprint, stored, finished=finished)
        if finished:
            return stored, "resumed"
        # Nothing vouches for what an unfinished run stored, and all but its beginning follows from what is fitted.
        again = new_manifest(path.name, panel, spec, fingerprint, devices)
        return again | {"created": stored.get("created", _now())}, "resumed"
    manifest = new_manifest(path.name, panel, spec, fingerprint, devices)
    manifest["created"] = _now()
    text = yaml.dump(to_mapping(spec), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True)
    atomic_files.replace_bytes(path / CONFIG, text.encode())
    write_manifest(path, manifest)
    copy.put(CONFIG)
    copy.put(MANIFEST)
    return manifest, "started"


def refuse_other(
    place: str | Path, fingerprint: Fingerprint, manifest: dict[str, Any], *, finished: bool = False
) -> None:
    """Refuses a run or shard, at this place, that was made from something else.

    Raises:
        RunError: It was, says from what; or the manifest is damaged.
    """
    try:
        differences = fingerprint.differences(manifest["fingerprint"], finished=finished)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"the manifest of run {place} is damaged. Choose another run.id, or remove the run") from error
    if differences:
        raise RunError(
            f"run {place} was made from something else: {'; '.join(differences)}. "
            "Choose another run.id, or restore what it was made from to resume it"
        )


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated values out: the reader of settings refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _make_run_folder(root: Path, run_id: str | None) -> Path:
    atomic_files.make_folder(root)
    if run_id is not None:
        atomic_files.make_own_folder(root / run_id)
        return root / run_id
    stamp, number = _stamp(), 1
    while True:
        path = root / (stamp if number == 1 else f"{stamp}-{number}")
        with atomic_files.naming_disk_errors(path, 0):
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                continue
        atomic_files.sync_folder(root)
        return path


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")


def as_stored(result: UnitResult, output: Output) -> UnitResult:
    """The result with the draws that a run keeps of it; of one that is so already, itself."""
    if output.draws == "full":
        return result
    if output.draws == "summary":
        return replace(result, draws={}, dims={}, coords={})
    return replace(result, draws=thin_draws(result.draws, output.thin))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
