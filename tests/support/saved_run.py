"""Finished runs that nothing sampled: made-up draws of every model variant, saved as any fit's are."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixfleet.config import Channel, Data, Model, Output, RunConfig, Spec
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, Rejection, Unit, unit_id
from mixfleet.data.scaling import MEDIA_POWERS
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.runner import execute
from mixfleet.models import baseline
from mixfleet.posterior.model_checks.check import ModelCheck, check_columns
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.run import Run

KEYS = ("brand", "market")
CHANNELS = ("tv", "search", "newsletter")
CONTROLS = ("price",)
STATUSES = {
    ("acme", "DE"): "ok",
    ("acme", "FR"): "ok_warn",
    ("bolt", "DE"): "ok_retried",
    ("bolt", "FR"): "quarantined",
    ("core", "DE"): "rejected",
    ("core", "FR"): "misfit",
}
LIKELY = {
    "decay": (0.1, 0.8),
    "delay": (0.0, 2.0),
    "adstock_shape": (0.8, 2.5),
    "adstock_scale": (0.8, 3.0),
    "rate": (0.5, 4.0),
    "slope": (0.6, 2.5),
    "half_saturation": (0.2, 0.8),
    "scale": (0.3, 1.0),
    "exponent": (0.4, 0.9),
}
"""Where made-up parameters lie, on the model's scale."""


def panel(*, weeks: int = 40, statuses: Mapping[tuple[str, ...], str] | None = None) -> Panel:
    """Ragged units: impressions that are not spend, a channel nobody pays for, changing prices and a missing week."""
    labels = STATUSES if statuses is None else statuses
    data = Data(
        keys=KEYS,
        channels=(Channel(name="tv", spend="tv_cost", impressions="tv_views"), Channel(name="search", spend="search")),
        organic=("newsletter",),
        controls=CONTROLS,
        gaps="absent",
        revenue_per_kpi="value",
    )
    fitted = sorted(row for row, status in labels.items() if status != "rejected")
    return Panel(
        data=data,
        keys=KEYS,
        channels=CHANNELS,
        linear=CONTROLS,
        units=tuple(_unit(row, weeks - 4 * (i % 2), hole=i == 1) for i, row in enumerate(fitted)),
        rejected=tuple(Rejection(labels=row, reason="KPI is constant") for row in labels if row not in fitted),
        findings=(),
    )


def saved_run(
    root: Path, model: Model, *, chains: int = 2, draws: int = 6, of: Panel | None = None, **output: Any
) -> Run:
    """A finished run of `panel()` with made-up draws."""
    made = panel() if of is None else of
    spec = Spec(data=made.data, model=model, run=RunConfig(root=str(root), id="r"), output=Output())
    return execute(made, spec, made_up(chains, draws))


def made_up(chains: int, draws: int) -> Executor:
    """Draws every unit from nothing but its labels."""

    def engine(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: Any) -> Iterator[UnitResult]:
        for unit in panel.units:
            if unit_id(unit.labels) not in skip:
                yield _result(unit, panel, spec, chains, draws)

    return engine


def _unit(labels: tuple[str, ...], weeks: int, *, hole: bool) -> Unit:
    rng = np.random.default_rng(int(unit_id(labels)[:12], 16))
    media = rng.gamma(2.0, 50.0, size=(weeks, 3)) * (rng.uniform(size=(weeks, 3)) < 0.8)
    observed = np.ones(weeks, bool)
    if hole:
        observed[9] = False
        media[9] = 0.0
    spend = media * np.array([0.01, 1.0, np.nan])
    return Unit(
        labels=labels,
        dates=np.datetime64("2023-11-06") + 7 * np.arange(weeks),
        kpi=np.where(observed, rng.gamma(9.0, 1000.0, size=weeks), np.nan),
        observed=observed,
        media=media,
        spend=spend,
        controls=np.where(observed[:, None], rng.gamma(4.0, 2.0, size=(weeks, 1)), 0.0),
        value_per_kpi=np.where(observed, rng.uniform(2.0, 3.0, size=weeks), 0.0),
        population=float("nan"),
        kpi_scale=None,
        warnings=(),
    )


def _result(unit: Unit, panel: Panel, spec: Spec, chains: int, draws: int) -> UnitResult:
    rng = np.random.default_rng(int(unit_id(unit.labels)[:12], 16) + 1)
    names = spec.model.channel_parameters
    columns = baseline.column_names(spec.model, spec.data)
    measured = scaling.measure(unit, scaling.likelihood_weeks(unit, window=spec.model.window, holdout=0))
    values: dict[str, np.ndarray] = {}
    for name in names[:-1]:
        made = rng.uniform(*LIKELY[name], size=(chains, draws, len(panel.channels)))
        there = np.array([spec.model.has(name, channel) for channel in panel.channels])
        values[name] = np.where(there, made * measured.media ** MEDIA_POWERS.get(name, 0), np.nan)
    values["effect"] = rng.gamma(4.0, 300.0, size=(chains, draws, len(panel.channels)))
    values["coefficients"] = rng.normal(500.0, 100.0, size=(chains, draws, len(columns)))
    values["noise"] = rng.gamma(9.0, 50.0, size=(chains, draws))
    if "autocorrelation" in spec.model.unit_parameters:
        values["autocorrelation"] = rng.uniform(-0.2, 0.6, size=(chains, draws))
    status = STATUSES.get(unit.labels, "ok")  # pyright: ignore[reportCallIssue]
    return UnitResult(
        labels=unit.labels,
        status=status,
        reason="" if status == "ok" else f"it was {status}",
        diagnostics={"draws": draws, "chains": chains},
        tables={"fit": _quality(), "weekly": _weekly(unit), "checks": check_columns(_checks(unit))},
        draws={name: np.asarray(drawn, np.float32) for name, drawn in values.items()},
        dims={**dict.fromkeys(names, ("channel",)), "coefficients": ("column",)},
        coords={"channel": panel.channels, "column": columns},
    )


def _checks(unit: Unit) -> list[ModelCheck]:
    """One that is passed and, of every other unit, one that is not."""
    found = [ModelCheck(kind="forecast", statistic=1.0, threshold=2.0)]
    if unit.labels[1] == "DE":
        said = "misses 1 period apart go the same way"
        found += [ModelCheck(kind="autocorrelation", statistic=2.5, threshold=1.5, verdict="doubt", statement=said)]
    return found


def _quality() -> dict[str, np.ndarray]:
    names = ("r2", "mape", "wmape", "crps", "coverage90")
    return {name: np.array([value]) for name, value in zip(names, (0.9, 0.05, 0.05, 100.0, 0.9), strict=True)}


def _weekly(unit: Unit) -> dict[str, np.ndarray]:
    mean = np.nan_to_num(unit.kpi, nan=9000.0)
    return {
        "date": unit.dates.astype("datetime64[D]"),
        "kpi": unit.kpi,
        "observed": unit.observed,
        "mean": mean,
        "q05": 0.8 * mean,
        "q95": 1.2 * mean,
    }
