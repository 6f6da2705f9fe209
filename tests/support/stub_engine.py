"""A stand-in for the sampler: quick, deterministic per unit, with every kind of result the store meets."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mixfleet.config import Channel, Data, Output, RunConfig, Spec
from mixfleet.data.panel import Panel, Rejection, Unit, unit_id
from mixfleet.data.validation.finding import Finding
from mixfleet.fitting import runner
from mixfleet.fitting.executors.executor import Executor
from mixfleet.posterior.unit_result import TABLES, UnitResult

CHANNELS = ("tv", "search")
COLUMNS = ("intercept", "trend")
WEEKS = 12
_STATUSES = ("ok", "ok", "ok_warn", "ok_retried", "ok_fallback", "quarantined", "failed")


def fleet(labels: Sequence[tuple[str, ...]], rejected: Sequence[tuple[str, ...]] = (), *, seed: int = 0) -> Panel:
    """A panel of small units."""
    data = Data(channels=tuple(Channel(name=name, spend=name) for name in CHANNELS))
    return Panel(
        data=data,
        keys=data.keys,
        channels=CHANNELS,
        linear=(),
        units=tuple(_unit(row, seed) for row in sorted(labels)),
        rejected=tuple(Rejection(labels=row, reason="KPI is constant") for row in sorted(rejected)),
        findings=tuple(
            Finding(rule="constant_kpi", severity="error", unit=row, column="kpi", message="KPI is constant")
            for row in sorted(rejected)
        ),
    )


def brands(count: int) -> list[tuple[str, ...]]:
    """Labels of `count` units."""
    return [(f"brand{i // 4:03d}", f"market{i % 4}") for i in range(count)]


def spec(root: Any, run_id: str | None = "r", **output: Any) -> Spec:
    return Spec(run=RunConfig(root=str(root), id=run_id), output=Output(**output))


def engine(*, pause: float = 0.0, order: int = 1, stop_after: int | None = None) -> Executor:
    """An engine whose results depend on neither pace nor order; interrupted after `stop_after` units."""

    def fit_units(
        panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: Callable[[Any], None] | None
    ) -> Iterator[UnitResult]:
        units = [unit for unit in panel.units if unit_id(unit.labels) not in skip][::order]
        for done, unit in enumerate(units):
            if stop_after is not None and done >= stop_after:
                raise KeyboardInterrupt
            time.sleep(pause)
            if on_event is not None:
                on_event({"left": len(units) - done})
            yield unit_result(unit.labels)

    return fit_units


def unit_result(labels: tuple[str, ...]) -> UnitResult:
    """The result of a unit; follows from its labels, but for the seconds."""
    generator = np.random.default_rng(int(unit_id(labels)[:15], 16))
    status = _STATUSES[int(generator.integers(len(_STATUSES)))]
    if status == "failed":
        return UnitResult(labels=labels, status=status, reason="density is not finite")
    chains, draws = (4, 30) if status == "ok_fallback" else (8, int(generator.choice([40, 80])))
    return UnitResult(
        labels=labels,
        status=status,
        reason="" if status == "ok" else f"it was {status}",
        rung=int(generator.integers(4)),
        diagnostics={
            "rhat_max": float(generator.uniform(1.0, 1.02)),
            "ess_bulk_min": 1500.0,
            "ess_tail_min": float("nan"),
            "divergences": 0,
            "ebfmi_min": 0.9,
            "energy_balance": 0.01,
            "draws": draws,
            "chains": chains,
            "gradients": 12_345,
            "seconds": time.perf_counter() % 1.0,
        },
        tables={name: _table(name, generator) for name in TABLES},
        draws={
            "effect": generator.normal(size=(chains, draws, 2)).astype(np.float32),
            "noise": generator.gamma(2.0, size=(chains, draws)).astype(np.float32),
            "coefficients": generator.normal(size=(chains, draws, 2)).astype(np.float32),
            "lp": generator.normal(size=(chains, draws)).astype(np.float32),
        },
        dims={"effect": ("channel",), "coefficients": ("column",)},
        coords={"channel": CHANNELS, "column": COLUMNS},
    )


def tree_sha256(folder: Any) -> dict[str, str]:
    """Digest of every file of a run that must not depend on how it was made."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.relative_to(folder).parts[0] == "posterior.zarr"
        or (path.parent.name == "summary" and path.name != "status.parquet")
    }


def _unit(labels: tuple[str, ...], seed: int) -> Unit:
    generator = np.random.default_rng([seed, int(unit_id(labels)[:15], 16)])
    spend = generator.gamma(2.0, size=(WEEKS, 2))
    return Unit(
        labels=labels,
        dates=np.datetime64("2024-01-01") + 7 * np.arange(WEEKS),
        kpi=generator.gamma(9.0, size=WEEKS),
        observed=np.ones(WEEKS, dtype=bool),
        media=spend,
        spend=spend,
        controls=np.zeros((WEEKS, 0)),
        value_per_kpi=np.ones(WEEKS),
        population=float("nan"),
        kpi_scale=None,
        warnings=(),
    )


def _table(name: str, generator: np.random.Generator) -> dict[str, np.ndarray]:
    rows = 1 if name == "fit" else WEEKS if name == "weekly" else 2
    columns: dict[str, np.ndarray] = {}
    for column, kind in TABLES[name].items():
        if kind == "text":
            columns[column] = np.array(CHANNELS)
        elif kind == "date":
            columns[column] = np.datetime64("2024-01-01") + 7 * np.arange(rows)
        elif kind == "bool":
            columns[column] = np.ones(rows, dtype=bool)
        elif not column.startswith("holdout_"):
            columns[column] = generator.normal(size=rows)
    return columns


def work(root: str, units: int, pipe: Any) -> None:
    """Body of a child process to be killed: before each unit it sends how many are left, 0 at the end."""
    runner.COMMIT_UNITS = 3
    runner.execute(
        fleet(brands(units)), spec(root), engine(pause=0.002), on_event=lambda event: pipe.send(event["left"])
    )
    pipe.send(0)
