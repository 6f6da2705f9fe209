"""Sweep: one run per point in one process, which shares compiled programs, and a table comparing them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import stdtrit

from mixfleet.cli.hydra_compose import SweepPoint, compose_spec
from mixfleet.config import RunConfig, Spec
from mixfleet.errors import ConfigError, MixfleetError, RunError
from mixfleet.evaluation.leaderboard import Leaderboard, leaderboard
from mixfleet.posterior.unit_result import certified
from mixfleet.storage.remote.address import Address

if TYPE_CHECKING:
    from mixfleet.run import Run

HOLDOUT = 13
"""Periods kept out of the fit in each point where `data.holdout` is not set."""

NOISE = 0.05
"""Chance that the truly best point is said to be worse than the best score."""

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
    if Address.of(base.root) is not None:
        raise ConfigError(
            "sweeps are kept in a folder of this machine: name one, such as run.root=sweeps; mixfleet fit "
            "with a point's overrides keeps that one in the store",
            key="run.root",
        )
    folder = Path(base.root) / name(base)
    specs = tuple(
        _placed(spec, folder, number) if isinstance(spec, Spec) else spec for number, spec in enumerate(composed)
    )
    return Sweep(folder=folder, points=tuple(points), specs=specs)


def run_sweep(sweep: Sweep, fit: FitPoint, on_point: Callable[[int, SweepPoint], None]) -> Iterator[PointOutcome]:
    """Fits all points in order, one as each is asked for; a point that fails does not stop the others.

    Args:
        sweep: What to fit.
        fit: Fits one point.
        on_point: Told the number of a point before it begins.
    """
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
        if run is not None:
            # A point that an earlier command fitted is only opened, and the table says what it took.
            seconds = run.manifest["timings"].get("session_seconds", seconds)
        yield PointOutcome(number=number, changes=point.changes, run=run, error=error, seconds=seconds)


def comparison(outcomes: Sequence[PointOutcome]) -> pa.Table:
    """One row per point, the best first and failed ones last.

    Columns: `point`, `changes`, `run` (folder), `error`, `units`, `certified` (share of units); `score`, how much
    larger the holdout's CRPS is than the best point's (mean difference of its logarithm over the units certified in
    every finished point, so that large units count no more than small ones), its paired standard error `score_se`, and
    `near_best`, whether that is within noise: below the one-sided 95 % point of Student's t, shared among the
    comparisons, so that the truly best point is rarely left out; `holdout_crps` (KPI units) and `holdout_r2`, medians
    over the same units; `roi_shift` (median absolute change of a channel's mean ROI against the first finished point,
    in that point's posterior standard deviations; of its contribution where there is no spend); `truth_coverage90`,
    where the truth is known, how much of it lies in the 90 % intervals of ROI; and `seconds`.

    References:
        Hsu (1981), Simultaneous confidence intervals for all distances from the "best", doi:10.1214/aos/1176345582.
    """
    finished = [outcome.run for outcome in outcomes if outcome.run is not None]
    first = min((outcome for outcome in outcomes if outcome.run is not None), key=_number, default=None)
    common = set.intersection(*map(_certified, finished)) if finished else set()
    scores = _scores([_by_unit(run, "holdout_crps", common) for run in finished])
    scored = iter(scores)
    rows = []
    for outcome in outcomes:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS.names)
        row |= {"point": outcome.number, "changes": " ".join(outcome.changes), "seconds": outcome.seconds}
        row |= {"error": outcome.error or None}
        if outcome.run is not None and first is not None and first.run is not None:
            holdout = outcome.run.table("fit")
            row |= {
                "run": outcome.run.place,
                "units": outcome.run.manifest["units"],
                "certified": outcome.run.ok_share,
                **next(scored),
                "holdout_crps": _median(holdout, "holdout_crps", common, outcome.run),
                "holdout_r2": _median(holdout, "holdout_r2", common, outcome.run),
                "roi_shift": _shift(outcome.run, first.run, common),
                "truth_coverage90": _truth_coverage(outcome.run, common),
            }
        rows.append(row)
    rows.sort(key=lambda row: (row["run"] is None, np.inf if row["score"] is None else row["score"], row["point"]))
    return pa.Table.from_pylist(rows, schema=_COLUMNS)


def board_of(sweep: Sweep, outcomes: Sequence[PointOutcome]) -> Leaderboard:
    """The leaderboard of the points that have ended, whose place is beside the points."""
    locale = next(spec.business.locale for spec in sweep.specs if isinstance(spec, Spec))
    return Leaderboard(folder=sweep.folder, table=comparison(outcomes), points=len(sweep.points), locale=locale)


def known_points(folder: Path) -> int:
    """How many points the leaderboard of an earlier start holds; 0 where there is none that can be read."""
    try:
        return leaderboard(folder).table.num_rows
    except RunError:
        return 0


_COLUMNS = pa.schema(
    {
        "point": pa.int64(),
        "changes": pa.string(),
        "run": pa.string(),
        "error": pa.string(),
        "units": pa.int64(),
        "certified": pa.float64(),
        "score": pa.float64(),
        "score_se": pa.float64(),
        "near_best": pa.bool_(),
        "holdout_crps": pa.float64(),
        "holdout_r2": pa.float64(),
        "roi_shift": pa.float64(),
        "truth_coverage90": pa.float64(),
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


def _number(outcome: PointOutcome) -> int:
    return outcome.number


def _by_unit(run: "Run", column: str, units: set[tuple[str, ...]]) -> np.ndarray:
    """A column of the table of fit, of these units in order of their labels."""
    table = run.table("fit")
    values = table[column].to_pylist() if column in table.column_names else [None] * table.num_rows
    own = {labels: value for (labels, _), value in zip(_units(table, run), values, strict=True)}
    return np.array([own.get(labels) for labels in sorted(units)], float)


def _scores(crps: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Each point's score beside the best, from the CRPS of the same units."""
    if not crps:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.stack(crps))
    logs = logs[:, np.all(np.isfinite(logs), axis=0)]
    points, units = logs.shape
    if not units:
        return [{}] * points
    differences = logs - logs[np.argmin(logs.mean(axis=1))]
    means = differences.mean(axis=1)
    errors = differences.std(axis=1, ddof=1) / np.sqrt(units) if units > 1 else np.full(points, np.nan)
    limit = stdtrit(units - 1, 1 - NOISE / max(points - 1, 1)) if units > 1 else np.inf
    near = (means == 0) | ~np.isfinite(errors) | (means <= limit * errors)
    return [
        {"score": float(mean), "score_se": float(error) if np.isfinite(error) else None, "near_best": bool(there)}
        for mean, error, there in zip(means, errors, near, strict=True)
    ]


def _truth_coverage(run: "Run", units: set[tuple[str, ...]]) -> float | None:
    """Share of the true ROI that lies in its 90 % interval; None where no truth is known."""
    path = run.path / "truth.parquet"
    if not path.is_file():
        return None
    keys = [*run.manifest["keys"], "channel"]
    joined = run.table("roi").join(pq.read_table(path).select([*keys, "roi"]), keys, join_type="inner")
    kept = joined.filter(pa.array([labels in units for labels, _ in _units(joined, run)], pa.bool_()))
    truth, low, high = (np.asarray(kept[name], dtype=np.float64) for name in ("roi", "q05", "q95"))
    there = np.isfinite(truth) & np.isfinite(low)
    return float(np.mean((truth >= low) & (truth <= high), where=there)) if there.any() else None


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
