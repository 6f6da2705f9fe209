"""The linear block of a group's units, split into what each has for itself and what they share.

Shared coefficients mean the same in every unit: the trend runs over the group's calendar, from its first fitted week to
its last, and a control is measured in the group's standard deviation of it and not in the unit's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.data.panel import Panel
from mixfleet.data.scaling import is_new
from mixfleet.hierarchy.hyperparameters import Hierarchy
from mixfleet.hierarchy.shared_coefficients import Columns
from mixfleet.models import baseline
from mixfleet.models.baseline.decomposition import decompose
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.gaps import gap_arrays
from mixfleet.models.observation import is_autocorrelated

__all__ = ["SharedColumns", "shared_columns", "shared_places", "split"]

WEAKEST = 1e-12
"""Of a shared column's square: what other columns leave of it, below which it is rounding."""


@dataclass(frozen=True, kw_only=True)
class SharedColumns:
    """Which columns of the linear block a group shares, and in what units."""

    places: tuple[int, ...]
    parameters: tuple[str, ...]
    """Whose prior each has, such as `seasonality`."""
    names: tuple[str, ...]
    loadings: tuple[Float[np.ndarray, "column row"], ...]
    """For each unit: takes shared coefficients to those of the unit's own columns."""


def shared_places(spec: Spec) -> tuple[int, ...]:
    """The columns whose coefficients are pooled."""
    structures = baseline.column_kinds(spec.model, spec.data)
    return tuple(k for k, structure in enumerate(structures) if spec.pooling.scale(structure) is not None)


def shared_columns(members: Sequence[PreparedUnit], spec: Spec) -> SharedColumns:
    """The pooled columns of units that are prepared as units alone are."""
    places = shared_places(spec)
    structures, names = baseline.column_kinds(spec.model, spec.data), baseline.column_names(spec.model, spec.data)
    own = [np.eye(len(structures)) for _ in members]
    # The plans of a new unit do not stretch the group's calendar.
    seasoned = [member for member in members if not is_new(member.fitted)]
    first = min(member.unit.dates[0] for member in seasoned)
    last = max(member.unit.dates[member.scale.trend_weeks - 1] for member in seasoned)
    for member, loading in zip(members, own, strict=True):
        if "trend" in structures:
            dates, whole = member.unit.dates, _days(last - first)
            span = _days(dates[member.scale.trend_weeks - 1] - dates[0])
            loading[structures.index("trend"), structures.index("trend")] = span / whole
            loading[0, structures.index("trend")] = (_days(dates[0] - first) + 0.5 * span) / whole - 0.5
    linear = np.arange(len(structures) - members[0].unit.controls.shape[1], len(structures))
    varies = np.array([member.scale.control_varies for member in members])
    squares = np.sum([member.scale.control_sd**2 for member in members] * varies, axis=0)
    spread = np.sqrt(np.where(squares > 0, squares / np.maximum(varies.sum(axis=0), 1), 1.0))
    for member, loading in zip(members, own, strict=True):
        loading[linear, linear] = member.scale.control_sd / spread
    return SharedColumns(
        places=places,
        parameters=tuple(structures[k] for k in places),
        names=tuple(names[k] for k in places),
        loadings=tuple(loading[:, list(places)] for loading in own),
    )


def split(
    members: Sequence[PreparedUnit],
    shared: SharedColumns,
    panel: Panel,
    spec: Spec,
    *,
    keys: Sequence[str],
    hierarchy: Hierarchy,
) -> tuple[tuple[PreparedUnit, ...], Columns]:
    """The units with the shared columns out of what is integrated out, and those columns, padded in units and weeks.

    Args:
        members: Units as they are alone.
        shared: From `shared_columns`.
        panel: Names of the key columns.
        spec: All settings.
        keys: Key columns whose labels have effects.
        hierarchy: Of the media, for the labels' units and the padded number of units.

    Raises:
        numpy.linalg.LinAlgError: A unit's linear block cannot be decomposed.
    """
    mean, sd = baseline.column_priors(spec.model, spec.data, spec.prior, {})
    places = list(shared.places)
    scale = np.array([spec.pooling.scale(parameter) or 0.0 for parameter in shared.parameters])
    units, (weeks, columns) = len(hierarchy.present), members[0].arrays["basis"].shape
    design, along = np.zeros((units, weeks, len(places))), np.zeros((columns, len(places), units))
    apart = []
    for i in range(units):
        # Padded places repeat the first unit.
        at = i if i < len(members) else 0
        own, seen = _without(members[at], shared, at, panel, spec)
        design[i, : len(seen)] = seen
        along[..., i] = _along(own.arrays["basis"], design[i], spec)
        apart += [own] if i < len(members) else []
    dtype = hierarchy.present.dtype
    known: Any = [values.astype(dtype) for values in (mean[places], sd[places], scale * sd[places], design, along)]
    centre, centre_sd, scales, design, along = known
    used = np.array([[spec.pooling.has_effects(name, key) for name in shared.parameters] for key in keys], dtype)
    used = used.reshape(len(keys), len(places))
    # Types are of channels.
    types: Any = np.zeros((0, len(places)), dtype), np.zeros(0, dtype)
    parts: Any = (centre, centre_sd, scales, used, hierarchy.keys, hierarchy.present, *types)
    return tuple(apart), Columns(design, along, Hierarchy(*parts))


def _along(
    basis: Float[np.ndarray, "week column"], design: Float[np.ndarray, "week row"], spec: Spec
) -> Float[np.ndarray, "column row"]:
    """Shared columns in the coordinates of a unit's basis."""
    if is_autocorrelated(spec.model):
        return np.eye(basis.shape[1])[:, basis.shape[1] - design.shape[1] :]
    return basis.T @ design


def _without(
    member: PreparedUnit, shared: SharedColumns, place: int, panel: Panel, spec: Spec
) -> tuple[PreparedUnit, Float[np.ndarray, "week row"]]:
    """A unit whose own columns alone are integrated out, and the shared columns in the weeks of its likelihood."""
    places, columns = list(shared.places), member.design.shape[1]
    rest = [k for k in range(columns) if k not in shared.places]
    fitted = member.fitted[:, None]
    _, sd = baseline.column_priors(
        spec.model, spec.data, spec.prior, dict(zip(panel.keys, member.unit.labels, strict=True))
    )
    seen = (member.design @ shared.loadings[place]) * fitted
    basis, variance, loading = np.zeros((len(seen), columns)), np.zeros(columns), np.zeros((columns, columns))
    if rest:
        basis[:, : len(rest)], variance[: len(rest)], own = decompose(member.design[:, rest] * fitted, sd[rest])
        loading[rest, : len(rest)] = own
    loading[:, len(rest) :] = shared.loadings[place]
    lasting = is_autocorrelated(spec.model)
    if lasting:
        # No basis is orthonormal under noise of every correlation, and so the shared columns stand for themselves.
        basis[:, len(rest) :] = seen
    else:
        beyond = seen - basis @ (basis.T @ seen)
        left, singular, _ = np.linalg.svd(beyond, full_matrices=False)
        kept = np.flatnonzero(singular**2 > WEAKEST * np.sum(seen**2))
        basis[:, len(rest) + kept] = left[:, kept]
    prior_mean = member.prior_mean.copy()
    prior_mean[places] = 0.0
    padded = np.zeros((len(member.arrays["kpi"]), columns))
    padded[: len(basis)] = basis
    kpi = member.arrays["kpi"].copy()
    kpi[: len(seen)] += (member.design[:, places] @ member.prior_mean[places]) * member.fitted
    arrays = {**member.arrays, "basis": padded, "variance": variance, "kpi": kpi}
    if lasting:
        arrays |= gap_arrays(member.fitted, basis)
    return replace(member, loading=loading, prior_mean=prior_mean, arrays=arrays), seen


def _days(time: np.timedelta64) -> float:
    return float(time / np.timedelta64(1, "D"))
