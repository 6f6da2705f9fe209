"""Sweep: one run per point in one process, which shares compiled programs, and a table comparing them."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixfleet.cli.hydra_compose import SweepPoint, compose_spec
from mixfleet.config import RunConfig, Spec
from mixfleet.errors import ConfigError, MixfleetError
from mixfleet.posterior.unit_result import certified
from mixfleet.storage import atomic_files

if TYPE_CHECKING:
    from mixfleet.run import Run

HOLDOUT = 13
"""Periods kept out of the fit in each point where `data.holdout` is not set."""

POINT_FAILURES = (MixfleetError, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, ValueError)
"""What may go wrong in one point without stopping the others. A TypeError or the like is a bug of the package
and would go wrong in all of them."""

FitPoint = Callable[[Spec], "Run"]


@dataclass(frozen=True, kw_only=True)
class PointOutcome:
    """What became of one point."""

    number: int
    changes: tuple[str, ...]
    run: "Run | None"
    """None where the point failed."""

    error: str
    """Why it failed; empty where it did not."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The points of a sweep, composed and numbered, and where they go."""

    folder: Path
    """`run.root/run.id` of the request; point n goes to `points/n` below it."""

    points: tuple[SweepPoint, ...]
    specs: tuple[Spec | ConfigError, ...]
    """One per point; an error where the point cannot be composed."""


def plan(points: Sequence[SweepPoint], name: Callable[[RunConfig], str]) -> Sweep:
    """All points composed before any is fitted, so that mistakes show at once.

    Args:
        points: The sweep, in order.
        name: Gives the sweep its `run.id` where none is set.

    Raises:
        ConfigError: No point can be composed.
    """
    composed = tuple(_composed(point) for point in points)
    usable = [spec for spec in composed if isinstance(spec, Spec)]
    if not usable:
        raise composed[0] if isinstance(composed[0], ConfigError) else ConfigError("no points", key="")
    base = usable[0].run
    folder = Path(base.root) / name(base)
    specs = tuple(
        _placed(spec, folder, number) if isinstance(spec, Spec) else spec for number, spec in enumerate(composed)
    )
    return Sweep(folder=folder, points=tuple(points), specs=specs)


def run_sweep(sweep: Sweep, fit: FitPoint, on_point: Callable[[int, SweepPoint], None]) -> tuple[PointOutcome, ...]:
    """Fits all points in order; a point that fails does not stop the others.

    Args:
        sweep: What to fit.
        fit: Fits one point.
        on_point: Told the number of a point before it begins.
    """
    outcomes = []
    for number, (point, spec) in enumerate(zip(sweep.points, sweep.specs, strict=True)):
        on_point(number, point)
        start = time.monotonic()
        run, error = None, ""
        if isinstance(spec, Spec):
            try:
                run = fit(spec)
            except POINT_FAILURES as failure:
                error = f"{type(failure).__name__}: {failure}"
        else:
            error = f"ConfigError: {spec}"
        seconds = time.monotonic() - start
        outcomes.append(PointOutcome(number=number, changes=point.changes, run=run, error=error, seconds=seconds))
    return tuple(outcomes)


def comparison(outcomes: Sequence[PointOutcome]) -> pa.Table:
    """One row per point.

    Columns: `point`, `changes`, `run` (folder), `error`, `units`, `certified` (share of units),
    `holdout_crps` (KPI units) and `holdout_r2` (medians over the units certified in every finished point),
    `roi_shift` (median absolute change of a channel's mean ROI against the first finished point, in that
    point's posterior standard deviations; of its contribution where there is no spend) and `seconds`.
    """
    finished = [outcome.run for outcome in outcomes if outcome.run is not None]
    first = finished[0] if finished else None
    common = set.intersection(*map(_certified, finished)) if finished else set()
    rows = []
    for outcome in outcomes:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS.names)
        row |= {"point": outcome.number, "changes": " ".join(outcome.changes), "seconds": outcome.seconds}
        row |= {"error": outcome.error or None}
        if outcome.run is not None and first is not None:
            holdout = outcome.run.table("fit")
            row |= {
                "run": str(outcome.run.path),
                "units": outcome.run.manifest["units"],
                "certified": outcome.run.ok_share,
                "holdout_crps": _median(holdout, "holdout_crps", common, outcome.run),
                "holdout_r2": _median(holdout, "holdout_r2", common, outcome.run),
                "roi_shift": _shift(outcome.run, first, common),
            }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_COLUMNS)


def write_comparison(table: pa.Table, folder: Path) -> Path:
    """Writes the comparison beside the points; the path of the file."""
    path = folder / "sweep.parquet"
    sink = io.BytesIO()
    pq.write_table(table, sink)
    atomic_files.make_own_folder(folder)
    atomic_files.replace_bytes(path, sink.getvalue())
    return path


_COLUMNS = pa.schema(
    {
        "point": pa.int64(),
        "changes": pa.string(),
        "run": pa.string(),
        "error": pa.string(),
        "units": pa.int64(),
        "certified": pa.float64(),
        "holdout_crps": pa.float64(),
        "holdout_r2": pa.float64(),
        "roi_shift": pa.float64(),
        "seconds": pa.float64(),
    }
)


def _composed(point: SweepPoint) -> Spec | ConfigError:
    try:
        return compose_spec(point.request)
    except ConfigError as error:
        return error


def _placed(spec: Spec, folder: Path, number: int) -> Spec:
    data = spec.data if spec.data.holdout is not None else replace(spec.data, holdout=HOLDOUT)
    return replace(spec, data=data, run=RunConfig(root=str(folder / "points"), id=str(number)))


def _certified(run: "Run") -> set[tuple[str, ...]]:
    return {labels for labels, status in _units(run.table("status"), run) if certified(status)}


def _units(table: pa.Table, run: "Run") -> list[tuple[tuple[str, ...], str]]:
    labels = zip(*(table[key].to_pylist() for key in run.manifest["keys"]), strict=True)
    return list(zip(labels, table["status"].to_pylist(), strict=True))


def _median(table: pa.Table, column: str, units: set[tuple[str, ...]], run: "Run") -> float | None:
    if column not in table.column_names:
        return None
    mask = pa.array([labels in units for labels, _ in _units(table, run)], pa.bool_())
    values = np.asarray(table[column].cast(pa.float64()).filter(mask).drop_null(), dtype=np.float64)
    return _finite_median(values)


def _finite_median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _shift(run: "Run", first: "Run", units: set[tuple[str, ...]]) -> float | None:
    name, part = ("roi", "channel") if first.table("roi").num_rows else ("contributions", "component")
    keys = [*first.manifest["keys"], part]
    joined = run.table(name).join(first.table(name), keys, right_suffix="_first", join_type="inner")
    kept = joined.filter(pa.array([labels in units for labels, _ in _units(joined, run)], pa.bool_()))
    sd = np.asarray(kept["sd_first"], dtype=np.float64)
    change = np.abs(np.asarray(kept["mean"], dtype=np.float64) - np.asarray(kept["mean_first"], dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return _finite_median(change / sd)
