"""How much each unit borrowed from its group, and where the group's variance lies.

References:
    Gelman and Pardoe (2006), Bayesian measures of explained variance and pooling in multilevel (hierarchical) models,
        doi:10.1198/004017005000000517.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.config import Spec
from mixfleet.data.panel import Panel
from mixfleet.hierarchy.groups import Prepared
from mixfleet.hierarchy.sampler import FinishedGroup, HyperDraws
from mixfleet.inference.scheduler import Finished
from mixfleet.models.priors.families import FAMILIES
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["GroupVariance", "group_variance", "pooled_parameters", "pooling_table", "with_pooling"]

COLUMNS = ("parameter", "channel", "source", "sd", "sd_q05", "sd_q95", "share", "borrowed", "rhat", "ess_bulk")

UNIT = "unit"
"""Source of the units' own deviations, beside those named as key columns."""

TYPE = "type"
"""Source of the deviations of channels of one type."""


@dataclass(frozen=True, kw_only=True)
class GroupVariance:
    """Where the variance of a group's parameters lies: what the tables of all its units have in common."""

    columns: dict[str, np.ndarray]
    """Of `pooling_table`, but for `borrowed`."""
    rows: Int[np.ndarray, " entry"]
    """Row of the hyperparameters that each entry is of."""
    own: Bool[np.ndarray, " entry"]
    """Whether it is of the units' own deviations."""


def with_pooling(
    result: UnitResult, unit: Finished, finished: FinishedGroup, variance: GroupVariance, panel: Panel
) -> UnitResult:
    """The result with its `pooling_table`."""
    group, draws = finished.group, unit.draws
    place = [member.unit.labels for member in group.members].index(unit.job.member.unit.labels)
    theta = pooled_parameters(
        group, place, np.asarray(draws.shape, float), _measure(unit), np.asarray(draws.coefficients)
    )
    table = pooling_table(group, place, theta, finished.hyper, variance, panel)
    return replace(result, tables={**result.tables, "pooling": table})


def pooled_parameters(
    group: Prepared,
    place: int,
    shape: Float[np.ndarray, "parameter channel *draw"],
    measure: Float[np.ndarray, "channel *draw"],
    coefficients: Float[np.ndarray, "column *draw"],
) -> Float[np.ndarray, "row *draw"]:
    """What hyperparameters are of, in one unit: pooled parameters, unconstrained, then the shared coefficients.

    Args:
        group: The unit's.
        place: The unit's place in it.
        shape: Parameters of its curves, on the model's scale.
        measure: What the priors of its strengths are on.
        coefficients: Of its own columns, on the model's scale.
    """
    values = [*shape, measure]
    rows = group.members[place].arrays["hyper"]
    rows = rows.reshape(*rows.shape, *(1,) * (measure.ndim - 1))
    families, shared = group.pool.structure.families, list(group.shared.places)
    pooled = [_finite(FAMILIES[families[j]].unconstrain(values[j], rows[:, own])) for j, _, own in group.pool.slices()]
    own = np.asarray(coefficients, float)[shared]
    return np.concatenate([*pooled, np.tensordot(np.linalg.inv(group.shared.loadings[place][shared]), own, axes=1)])


def _finite(theta: Float[np.ndarray, "channel *draw"]) -> Float[np.ndarray, "channel *draw"]:
    """Where single precision rounds a parameter to the end of its range, such as a share to one, as far as others."""
    known = np.isfinite(theta)
    return np.clip(theta, theta.min(initial=np.inf, where=known), theta.max(initial=-np.inf, where=known))


def pooling_table(
    group: Prepared,
    place: int,
    theta: Float[np.ndarray, "row draw chain"],
    hyper: HyperDraws,
    variance: GroupVariance,
    panel: Panel,
) -> dict[str, np.ndarray]:
    """One row per pooled parameter, channel and source of variance.

    `channel` names the column where the parameter is one of the baseline. `sd` is the standard deviation that the
    source has over the group, on the unconstrained scale, or `type` over the channels of one type; `share` is its part
    of the variance around the channel's centre, or around the mean of the channel's type; `borrowed`, in the rows of
    the units' own deviations, is the pooling factor: near 1 where the unit's deviation is known no better than the
    group's spread of deviations says, near 0 where the unit's own data fix it.

    Args:
        group: The unit's.
        place: The unit's place in it.
        theta: From `pooled_parameters`.
        hyper: The group's hyperparameters in the same draws.
        variance: From `group_variance`, of these.
        panel: Names of keys.
    """
    borrowed = _borrowed(group, place, theta, hyper, panel)[variance.rows]
    columns = {**variance.columns, "borrowed": np.where(variance.own, borrowed, np.nan)}
    return {name: columns[name] for name in COLUMNS}


def group_variance(group: Prepared, hyper: HyperDraws, panel: Panel, spec: Spec) -> GroupVariance:
    """What the tables of all units of a group have in common.

    Args:
        group: The group.
        hyper: Its hyperparameters.
        panel: Names of channels.
        spec: All settings.
    """
    sources = [UNIT, *group.keys]
    quantities = [*range(1, 1 + len(sources))]
    used = np.concatenate([np.ones((1, hyper.draws.shape[1])), _used(group)])
    if group.pool.types:
        typed = [part.types.sum(axis=0) for part in (group.hierarchy, group.columns.hierarchy)]
        sources, quantities, used = [*sources, TYPE], [*quantities, -1], np.vstack([used, np.concatenate(typed)])
    spread = np.asarray(hyper.draws[quantities], float) * used[..., None, None]
    total = np.sum(spread**2, axis=0)
    names = [spec.model.channel_parameters[j] for j in group.pool.parameters]
    rows = [(name, channel) for name in names for channel in panel.channels]
    rows += zip(group.shared.parameters, group.shared.names, strict=True)
    entries = [(r, part) for r in range(len(rows)) for part in range(len(sources)) if used[part, r]]
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS if name != "borrowed"}
    for r, part in entries:
        drawn, quantity = spread[part, r].ravel(), quantities[part]
        low, high = np.quantile(drawn, [0.05, 0.95])
        values = (*rows[r], sources[part], drawn.mean(), low, high, np.mean(spread[part, r] ** 2 / total[r]))
        values += (hyper.rhat[quantity, r], hyper.ess_bulk[quantity, r])
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    text = {"parameter", "channel", "source"}
    return GroupVariance(
        columns={name: np.array(values, object if name in text else float) for name, values in columns.items()},
        rows=np.array([r for r, _ in entries], int),
        own=np.array([part == 0 for _, part in entries], bool),
    )


def _borrowed(
    group: Prepared, place: int, theta: Float[np.ndarray, "row draw chain"], hyper: HyperDraws, panel: Panel
) -> Float[np.ndarray, " row"]:
    """Variance of the unit's deviation over the expected variance of its group's, by row; at most 1."""
    expected, first = np.asarray(hyper.draws[0], float), 2 + len(group.keys)
    labels = dict(zip(panel.keys, group.members[place].unit.labels, strict=True))
    for k, (key, ones) in enumerate(zip(group.keys, group.labels, strict=True)):
        effect = np.asarray(hyper.draws[first + ones.index(labels[key])], float)
        expected = expected + effect * _used(group)[k][:, None, None]
        first += len(ones)
    deviation = theta - expected
    spread = np.asarray(hyper.draws[1], float)
    return np.minimum(deviation.var(axis=(1, 2)) / np.mean(spread**2, axis=(1, 2)), 1.0)


def _measure(unit: Finished) -> Float[np.ndarray, "channel draw chain"]:
    """What the priors of the unit's strengths are on, in every draw."""
    member, draws = unit.job.member, unit.draws
    a, b, c = member.strength.rows[..., None, None]
    effect = np.asarray(draws.effect, float)
    active = member.arrays["active"][:, None, None] > 0
    response = np.where(active, np.asarray(draws.contribution, float) / effect, 1.0)
    return np.exp(a * np.log(effect) + b * np.log(response) + c)


def _used(group: Prepared) -> Float[np.ndarray, "key row"]:
    return np.concatenate([group.hierarchy.used, group.columns.hierarchy.used], axis=1)
