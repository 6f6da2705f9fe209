"""Results of an earlier run taken over, for the units whose data and settings are still the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.data.panel_parquet import read_units
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.progress import OnEvent
from mixfleet.posterior.unit_result import DIAGNOSTICS, OPTIONAL_COLUMNS, TABLES, UnitResult, certified
from mixfleet.storage.manifest import Fingerprint, unit_fingerprints
from mixfleet.storage.reader import RunReader
from mixfleet.storage.result_bytes import digest

__all__ = ["Base", "carrying"]


@dataclass(frozen=True)
class Base:
    """A finished run whose units may be taken over."""

    reader: RunReader

    def others(self, panel: Panel, spec: Spec) -> dict[str, str]:
        """Units of the panel, by id, that a fit under `spec` may give another result than the run has, and why.

        A unit that failed is one of them: what made it fail may have gone.

        Raises:
            RunError: The run is of an earlier version, which did not say what a unit's result follows from.
        """
        status = self.reader.table("status")
        if "inputs_digest" not in status.column_names:
            raise RunError(
                f"run {self.reader.place} is of an earlier version and cannot be a base: fit once without run.base"
            )
        before = {row["unit_id"]: row for row in self._rows}
        # What is carried over is to be what a fit would give.
        fitted_only = spec.run.reuse == "unchanged"
        why = {
            unit: _why_other(before.get(unit), inputs, fitted_only)
            for unit, inputs in unit_fingerprints(panel, spec).items()
        }
        return {unit: reason for unit, reason in why.items() if reason is not None}

    def other_settings(self, panel: Panel, spec: Spec) -> list[str]:
        """Sentences on settings, or a version, that the run had and that every unit's result follows from."""
        now = Fingerprint.of(panel, spec)
        now = replace(now, config={name: own for name, own in now.config.items() if name != "run"})
        before = self.reader.manifest["fingerprint"]
        config = {name: own for name, own in before["config"].items() if name != "run"}
        return now.differences({**before, "config": config, "data": now.data}, finished=True)

    def digests(self, units: frozenset[str]) -> dict[str, str]:
        """The digest of each of these units, by id."""
        return {row["unit_id"]: row["digest"] for row in self._rows if row["unit_id"] in units}

    def frozen(self, panel: Panel, spec: Spec) -> Panel:
        """The panel whose scales are measured on the weeks that the run measured them on; a new unit's on all.

        Raises:
            ConfigError: Weeks are held out, which move with every table.
            RunError: The run did not keep its table.
        """
        if spec.data.holdout:
            raise ConfigError("frozen does not go with data.holdout, whose weeks move", key="run.scales")
        if not self.reader.keeps_panel:
            raise RunError(f"run {self.reader.place} did not keep its table, an older mixfleet made it; fit again")
        earlier = {unit.labels: unit for unit in read_units(self.reader.table("panel"), self.reader.keys)}
        return replace(panel, units=tuple(_frozen(unit, earlier.get(unit.labels)) for unit in panel.units))

    def results(self, units: frozenset[str]) -> Iterator[UnitResult]:
        """The results of these units, by id, as they were committed; one whose bytes are not is left out."""
        for position, row in enumerate(self._rows):
            if row["unit_id"] in units:
                result = self.result(position)
                if digest(result) == row["digest"]:
                    yield result

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return self.reader.table("status").to_pylist()

    @cached_property
    def _spans(self) -> dict[str, dict[tuple[str, ...], slice]]:
        """Where the rows of each unit lie in each table; they stand together."""
        found = {}
        for name in TABLES:
            table = self.reader.table(name)
            labels = zip(*(table[key].to_pylist() for key in self.reader.keys), strict=True)
            start, spans = 0, {}
            for unit, rows in groupby(labels):
                length = sum(1 for _ in rows)
                spans[unit] = slice(start, start + length)
                start += length
            found[name] = spans
        return found

    def result(self, position: int) -> UnitResult:
        """The result of the unit at a position of the status table."""
        row = self._rows[position]
        labels = tuple(str(row[key]) for key in self.reader.keys)
        tables = {}
        for name, spans in self._spans.items():
            if labels in spans:
                own = self.reader.table(name).slice(spans[labels].start, spans[labels].stop - spans[labels].start)
                tables[name] = _columns(name, own)
        unit = self.reader.draws(position) if self.reader.keeps_draws else None
        return UnitResult(
            labels=labels,
            status=row["status"],
            reason=row["reason"],
            rung=row["rung"],
            diagnostics={name: row[name] for name in DIAGNOSTICS if row.get(name) is not None},
            tables=tables,
            draws={} if unit is None else unit.draws,
            dims={} if unit is None else {name: axes for name, axes in unit.dims.items() if axes},
            coords={} if unit is None else unit.coords,
        )


def _frozen(unit: Unit, before: Unit | None) -> Unit:
    if before is None:
        return unit
    until = before.dates[-1] if before.measured_until is None else before.measured_until
    # Of a unit to which no week came, all are meant.
    return replace(unit, measured_until=until) if unit.dates[-1] > until else unit


def _why_other(row: Mapping[str, Any] | None, inputs: str, fitted_only: bool) -> str | None:
    """Why a unit of this row of the status table is not taken over; None where it is."""
    if row is None:
        return "is not in the base"
    if row["inputs_digest"] != inputs:
        return "has other rows or settings, or its group has"
    # Another time, on another machine, they may do better.
    if row["status"] == "failed":
        return "failed in the base"
    if not certified(row["status"]) and "inference.rung_seconds" in row["reason"]:
        return "ran out of time in the base"
    return "was reweighted in the base" if fitted_only and row.get("pareto_k") is not None else None


def carrying(base: Base, others: dict[str, str], executor: Executor) -> Executor:
    """An executor that leaves the units `others` to `executor` and takes the rest from the base.

    Args:
        base: The run whose results are taken.
        others: Ids of units that are not taken, and why; those whose results turn out to be damaged are added.
        executor: Fits them.
    """

    def fit(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
        done = set(skip)
        same = {unit_id(unit.labels) for unit in panel.units} - others.keys() - skip
        for result in base.results(frozenset(same)):
            done.add(unit_id(result.labels))
            yield result
        others.update(dict.fromkeys(same - done, "is damaged in the base"))
        yield from executor(panel, spec, skip=frozenset(done), on_event=on_event)

    return fit


def _columns(name: str, rows: pa.Table) -> dict[str, np.ndarray]:
    """A unit's rows of a summary table as the arrays that it was written from."""
    columns = {}
    for column, kind in TABLES[name].items():
        values = rows[column]
        if kind == "text":
            columns[column] = np.array(values.to_pylist(), object)
        elif kind == "date":
            columns[column] = values.to_numpy().astype("datetime64[D]")
        elif kind == "bool":
            columns[column] = values.to_numpy(zero_copy_only=False).astype(bool)
        elif not (values.null_count == len(values) and column in OPTIONAL_COLUMNS):
            columns[column] = values.to_numpy(zero_copy_only=False).astype(float)
    return columns
