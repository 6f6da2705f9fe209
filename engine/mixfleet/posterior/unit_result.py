"""What a fit knows about one unit when it has finished with it: status, diagnostics, tables, draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from mixfleet.errors import ConfigError

Status = Literal["ok", "ok_warn", "ok_retried", "ok_fallback", "misfit", "quarantined", "rejected", "failed"]
STATUSES: tuple[str, ...] = get_args(Status)
FITTED_STATUSES = frozenset(STATUSES) - {"rejected", "failed"}
"""Statuses of units that have draws; the others have no numbers at all."""

CERTIFIED = frozenset({"ok", "ok_warn", "ok_retried", "ok_fallback"})
"""Statuses of units whose draws passed every gate and whose model their data do not contradict: their numbers enter
sums, unless the reader asks for others."""

Kind = Literal["text", "float", "bool", "date"]

_STATISTICS: dict[str, Kind] = {
    "mean": "float",
    "sd": "float",
    "q05": "float",
    "q50": "float",
    "q95": "float",
}
_ACCURACY: dict[str, Kind] = {name: "float" for name in ("r2", "mape", "wmape", "crps", "coverage90")}

TABLES: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "roi": {
            "channel": "text",
            **_STATISTICS,
            "spend": "float",
            "prior_mean": "float",
            "prior_sd": "float",
            **{f"prior_{name}": "float" for name in ("q05", "q50", "q95")},
        },
        "contributions": {"component": "text", **_STATISTICS, "share": "float"},
        "params": {
            "parameter": "text",
            "channel": "text",
            **{name: "float" for name in ("mean", "sd", "q05", "q25", "q50", "q75", "q95")},
            **{name: "float" for name in ("prior_mean", "prior_sd", "rhat", "ess_bulk", "ess_tail")},
        },
        "pooling": {
            "parameter": "text",
            "channel": "text",
            "source": "text",
            **{name: "float" for name in ("sd", "sd_q05", "sd_q95", "share", "borrowed", "rhat", "ess_bulk")},
        },
        "curves": {"channel": "text", "spend": "float", **_STATISTICS},
        "checks": {
            "kind": "text",
            "about": "text",
            "statistic": "float",
            "threshold": "float",
            "verdict": "text",
            "statement": "text",
        },
        "structures": {
            "structure": "text",
            "fitted": "text",
            "channel": "text",
            "weight": "float",
            "log_score": "float",
            "unsure_weeks": "float",
            **_STATISTICS,
        },
        "fit": {**_ACCURACY, **{f"holdout_{name}": structure for name, structure in _ACCURACY.items()}},
        "weekly": {
            "date": "date",
            "kpi": "float",
            "observed": "bool",
            "mean": "float",
            "q05": "float",
            "q95": "float",
        },
    }
)
"""Columns of every per-unit table, in file order. The store puts the key columns and `status` before them."""

OPTIONAL_COLUMNS = frozenset(f"holdout_{name}" for name in _ACCURACY)
"""Columns a unit may leave out; they are stored as missing."""

DIAGNOSTICS: Mapping[str, Literal["float", "int"]] = MappingProxyType(
    {
        "rhat_max": "float",
        "ess_bulk_min": "float",
        "ess_tail_min": "float",
        "divergences": "int",
        "draws": "int",
        "chains": "int",
        "gradients": "int",
        "seconds": "float",
        "ebfmi_min": "float",
        "energy_balance": "float",
        "pareto_k": "float",
    }
)
"""Numbers of the status table. `draws` counts draws per chain of the sampler, before any thinning; `pareto_k` is the
shape of the weights' tail of a unit whose draws are an earlier run's, weighed anew."""

TIMINGS = frozenset({"seconds"})
"""Diagnostics that no digest covers: two runs with the same result differ in them."""

_NUMPY_KINDS: Mapping[Kind, str] = {"text": "UOT", "float": "fiu", "bool": "b", "date": "M"}


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """The final result of one unit.

    Raises:
        ValueError: A field contradicts the schema of this module, or a unit without a fit carries numbers.
    """

    labels: tuple[str, ...]
    """Key values of the unit, in the order of `data.keys`."""
    status: str
    """One of `STATUSES`."""
    reason: str = ""
    """Why the unit is not plain `ok`; one sentence."""
    rung: int = 0
    """Rung of the retry ladder that gave this result."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Values by the names of `DIAGNOSTICS`; absent names are stored as missing."""
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    """Table name of `TABLES` -> column -> one-dimensional array; all columns of a table have one length."""
    draws: Mapping[str, Float32[np.ndarray, "chain draw ..."]] = field(default_factory=dict)
    """Variable -> draws in the model's original units; `lp` is the log posterior density [chain, draw]."""
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Variable -> names of its axes after chain and draw, e.g. `{"effect": ("channel",)}`."""
    coords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Axis name -> its labels, e.g. `{"channel": ("tv", "search"), "column": ("intercept", "trend")}`."""

    def __post_init__(self) -> None:
        """Refuse a result that the store could not write or a reader could misread."""
        if self.status not in STATUSES:
            raise ValueError(f"unit {self.labels}: unknown status {self.status!r}; expected one of {STATUSES}")
        if self.status not in FITTED_STATUSES and (self.tables or self.draws):
            raise ValueError(f"unit {self.labels}: status {self.status!r} must not carry tables or draws")
        if unknown := self.diagnostics.keys() - DIAGNOSTICS.keys():
            raise ValueError(f"unit {self.labels}: unknown diagnostics {sorted(unknown)}")
        for name, columns in self.tables.items():
            _check_table(self.labels, name, columns)
        _check_draws(self)


def summed_statuses(include: Sequence[str] = (), exclude: Sequence[str] = ()) -> frozenset[str]:
    """Statuses whose units enter totals and plans: the certified ones, with more or fewer where the reader asks.

    Raises:
        ConfigError: A status that has no numbers to sum, or whose draws are none of the posterior.
    """
    for key, names, known in (("include", include, {"misfit"}), ("exclude", exclude, CERTIFIED)):
        if unknown := sorted(set(names) - known):
            raise ConfigError(f"must be of {', '.join(sorted(known))}, is {unknown[0]!r}", key=key)
    return CERTIFIED.union(include).difference(exclude)


def certified(status: str) -> bool:
    """Whether a unit of this status passed every gate, of its draws and of its model."""
    return status in CERTIFIED


def kept_draws(chains: int, length: int, thin: int | None) -> int:
    """Draws that are left of a unit's, over all chains; `thin` None keeps all."""
    return chains * (length if thin is None else min(length, max(1, thin // max(1, chains))))


def thin_draws(
    draws: Mapping[str, Float32[np.ndarray, "chain draw ..."]], total: int
) -> dict[str, Float32[np.ndarray, "chain draw ..."]]:
    """Every variable with at most `total` draws over all chains, evenly spaced and at least one per chain.

    Thinning what is thin already changes nothing, so the engine may do it on the device first.
    """
    thinned = {}
    for name, values in draws.items():
        chains, length = values.shape[:2]
        keep = kept_draws(1, length, total // max(1, chains))
        if length > keep:
            # The last draw is always kept: (i + 1) * length / keep - 1 ends at length - 1.
            rows = (np.arange(1, keep + 1) * length) // keep - 1
            values = values[:, rows]
        thinned[name] = np.ascontiguousarray(values)
    return thinned


def _check_table(labels: tuple[str, ...], name: str, columns: Mapping[str, np.ndarray]) -> None:
    if name not in TABLES:
        raise ValueError(f"unit {labels}: unknown table {name!r}; expected one of {tuple(TABLES)}")
    schema = TABLES[name]
    missing = schema.keys() - columns.keys() - OPTIONAL_COLUMNS
    if missing or columns.keys() - schema.keys():
        extra = sorted(columns.keys() - schema.keys())
        raise ValueError(f"unit {labels}: table {name!r} misses {sorted(missing)} and has unknown columns {extra}")
    arrays = {column: np.asarray(values) for column, values in columns.items()}
    if len({values.shape for values in arrays.values()}) > 1:
        raise ValueError(f"unit {labels}: columns of table {name!r} differ in length")
    for column, values in arrays.items():
        kind = schema[column]
        if values.ndim != 1 or values.dtype.kind not in _NUMPY_KINDS[kind]:
            raise ValueError(f"unit {labels}: column {name}.{column} must be a one-dimensional {kind} array")


def _check_draws(result: UnitResult) -> None:
    shapes = set()
    for name, values in result.draws.items():
        if values.dtype != np.float32 or values.ndim < 2:
            raise ValueError(f"unit {result.labels}: draws of {name!r} must be float32 [chain, draw, ...]")
        shapes.add(values.shape[:2])
        axes = result.dims.get(name, ())
        if len(axes) != values.ndim - 2:
            raise ValueError(
                f"unit {result.labels}: dims of {name!r} name {len(axes)} axes, draws have {values.ndim - 2}"
            )
        for axis, length in zip(axes, values.shape[2:], strict=True):
            names = result.coords.get(axis, ())
            if len(names) != length or len(set(names)) != length:
                raise ValueError(
                    f"unit {result.labels}: axis {axis!r} of {name!r} needs {length} distinct labels in "
                    f"coords, has {names}"
                )
    if len(shapes) > 1:
        raise ValueError(f"unit {result.labels}: variables differ in chains and draws: {sorted(shapes)}")
