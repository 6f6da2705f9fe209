"""Groups: which units share hyperparameters, and each group as the arrays of its program."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.config.priors import Distribution, distribution
from mixfleet.data.panel import Panel, Unit
from mixfleet.errors import ConfigError
from mixfleet.hierarchy.hyperparameters import Hierarchy
from mixfleet.hierarchy.joint_tests import JointTests, joint_tests
from mixfleet.hierarchy.reparameterization import Pool
from mixfleet.hierarchy.shared_baseline import SharedColumns, shared_columns, shared_places, split
from mixfleet.hierarchy.shared_coefficients import Columns
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, Structure, padded_weeks, prepare, repadded, stack, structure_of
from mixfleet.models.priors.families import ABOVE_A_BOUND, family_of, normal_rows
from mixfleet.models.priors.moments import coordinate_moments, pooled_strength
from mixfleet.models.strength import has_spend

__all__ = ["Prepared", "groups_of", "pooled_settings", "prepared", "typical_media"]

SIZES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
"""Padded numbers of units in a group, then every 128: few, so that few programs are compiled."""

LEVELS = 8
"""Numbers of labels are padded to multiples of it."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A group on the host."""

    label: str
    members: tuple[PreparedUnit, ...]
    """Without the shared columns in what is integrated out."""
    alone: tuple[PreparedUnit, ...]
    """With them, as units alone are: where chains begin."""
    pool: Pool
    keys: tuple[str, ...]
    """Key columns whose labels have effects."""
    labels: tuple[tuple[str, ...], ...]
    """The labels of each."""
    hierarchy: Hierarchy
    """numpy arrays."""
    shared: SharedColumns
    columns: Columns
    """numpy arrays."""
    joint: JointTests
    """numpy arrays."""


def groups_of(panel: Panel, spec: Spec) -> list[tuple[str, tuple[Unit, ...]]]:
    """Units by group, each with the group's name; sorted by labels, so that no order of a table matters."""
    units = sorted(panel.units, key=lambda unit: unit.labels)
    groups = spec.pooling.groups(panel.keys, [unit.labels for unit in units])
    return [(label, tuple(units[place] for place in places)) for label, places in groups.items()]


def pooled_settings(spec: Spec) -> Spec:
    """The settings with which a pooled unit is prepared: pooled strengths are sampled as what their priors are on.

    Raises:
        ConfigError: Priors of pooled strengths are on effects and on contributions side by side, on a cost, or on
            what a change of media brings.
    """
    if spec.pooling.effect is None:
        return spec
    measures = spec.prior.on.possible
    if spec.prior.on.of_changes:
        raise ConfigError("cannot be pooled on mroi or on the media of some days: put the prior on roi", key="prior.on")
    if "cost_per_kpi" in measures:
        raise ConfigError("cannot be pooled on cost_per_kpi: put the prior on roi", key="prior.on")
    if "effect" in measures and len(measures) > 1:
        raise ConfigError(
            f"cannot be pooled on effect beside {', '.join(name for name in measures if name != 'effect')}: "
            "put all channels' priors on contributions or ROI, or none",
            key="prior.on",
        )
    coordinate = "effect" if measures == ("effect",) else "contribution"
    return replace(spec, model=replace(spec.model, coordinate=coordinate))


def prepared(label: str, units: tuple[Unit, ...], panel: Panel, spec: Spec) -> Prepared:
    """A group's units with the priors that pooling gives them, and its hierarchy.

    Raises:
        ConfigError: Nothing is pooled, a pooled parameter's prior differs between units or ends at one bound that is
            not zero, or a type names a channel that there is not.
        numpy.linalg.LinAlgError: A unit's linear block cannot be decomposed.
    """
    if spec.model.observation not in ("normal", "ar1"):
        raise ConfigError("cannot be pooled: only normal and ar1 can", key="model.observation")
    settings = pooled_settings(spec)
    names = spec.model.channel_parameters
    pooled = _pooled_parameters(panel, spec)
    if not pooled and not shared_places(spec):
        raise ConfigError("pools nothing that the model has", key="pooling")
    keys = _effect_keys(panel, spec)
    priors = _centre_priors(panel, spec, pooled)
    own = _members(units, panel, settings)
    weeks = max(padded_weeks(len(unit.dates)) for unit in units)
    structure = structure_of(settings, replace(panel, units=units), weeks)
    structure = replace(
        structure,
        units=_size(len(units)),
        families=_pooled_families(structure, priors, pooled),
        strengths=structure.strengths if spec.pooling.effect is None else ("lognormal",) * structure.channels,
        shared=len(shared_places(spec)),
    )
    scale = np.repeat([spec.pooling.scale(names[j]) or 0.0 for j in pooled], structure.channels)
    moments, broad = _centre_moments(priors, scale, 1 + len(keys), strengths=_strength_rows(pooled, structure))
    labels = tuple(tuple(sorted({unit.labels[panel.keys.index(key)] for unit in units})) for key in keys)
    levels = tuple(-(-len(ones) // LEVELS) * LEVELS for ones in labels)
    types, type_scale = _types(panel, spec, len(pooled))
    joint = joint_tests(own, structure)
    pool = Pool(structure=structure, parameters=pooled, levels=levels, types=len(types), joint=len(joint.estimate))
    alone = tuple(_with_priors(repadded(member, weeks), pool, priors, moments[:, 0], broad) for member in own)
    membership = [
        _membership(units, panel.keys.index(key), ones, levels, structure.units)
        for key, ones, levels in zip(keys, labels, levels, strict=True)
    ]
    used = _used(keys, [names[j] for j in pooled], structure.channels, spec)
    present = np.arange(structure.units) < len(units)
    known: Any = (moments[:, 0], moments[:, 1], scale, used, tuple(membership), present, types, type_scale)
    hierarchy = Hierarchy(*jax.tree.map(lambda values: np.asarray(values, structure.dtype), known))
    shared = shared_columns(alone, spec)
    members, columns = split(alone, shared, panel, spec, keys=keys, hierarchy=hierarchy)
    return Prepared(
        label=label,
        members=members,
        alone=alone,
        pool=pool,
        keys=keys,
        labels=labels,
        hierarchy=hierarchy,
        shared=shared,
        columns=columns,
        joint=joint,
    )


def _pooled_parameters(panel: Panel, spec: Spec) -> tuple[int, ...]:
    """Places of the channel parameters that are pooled; known values are not."""
    names = spec.model.channel_parameters
    pooled = [
        j
        for j, name in enumerate(names)
        if spec.pooling.scale(name) is not None and spec.prior.of(name).family != "fixed"
    ]
    for name in (names[j] for j in pooled):
        if missing := [channel for channel in panel.channels if not spec.model.has(name, channel)]:
            setting = f"pooling.{spec.pooling.setting(name)}"
            raise ConfigError(
                f"{name} cannot be pooled, as channel {missing[0]!r} has none: set {setting} to null, or give all "
                "channels one form",
                key="model.channels",
            )
    return tuple(pooled)


def typical_media(group: Prepared) -> Float[np.ndarray, "channel unit"]:
    """Media of a typical active week, in shares of each channel's scale; one for an absent channel."""
    media = np.abs(np.asarray(stack(group.members, group.pool.structure).media, float))
    total = media.sum(axis=0)
    return np.where(total > 0, (media**2).sum(axis=0) / np.where(total > 0, total, 1.0), 1.0)


def _effect_keys(panel: Panel, spec: Spec) -> tuple[str, ...]:
    by = spec.pooling.by
    if by == "crossed":
        return panel.keys
    return () if isinstance(by, str) else by


def _types(panel: Panel, spec: Spec, pooled: int) -> tuple[Float[np.ndarray, "type row"], Float[np.ndarray, " type"]]:
    """Which rows each type of each pooled parameter has, and the prior scales of the types' spreads."""
    places = spec.pooling.type_places(panel.channels)
    member = np.zeros((len(places), len(panel.channels)))
    for t, channels in enumerate(places):
        member[t, channels] = 1.0
    return np.kron(np.eye(pooled), member), np.full(pooled * len(places), spec.pooling.type)


def _centre_priors(panel: Panel, spec: Spec, pooled: tuple[int, ...]) -> list[Distribution]:
    """The prior of each pooled row's centre."""
    spend = has_spend(panel)

    def prior_of(name: str, c: int) -> str:
        return spec.prior.on.measure(panel.channels[c], spend=bool(spend[c])) if name == "effect" else name

    places = [(spec.model.channel_parameters[j], c) for j in pooled for c in range(len(panel.channels))]
    names = [prior_of(name, c) for name, c in places]
    structures = baseline.column_kinds(spec.model, spec.data)
    shared = {structures[k] for k in shared_places(spec)}
    for i, override in enumerate(spec.prior.overrides):
        if override.parameter in {*names, *shared} and override.unit:
            raise ConfigError(
                f"{override.parameter} is pooled, so its prior is that of all units of a group: "
                "say nothing of units in the override",
                key=f"prior.overrides[{i}].unit",
            )
    priors = [
        spec.prior.distribution(name, unit={}, channel=panel.channels[c])
        for name, (_, c) in zip(names, places, strict=True)
    ]
    for prior in priors:
        if family_of(prior).name in ABOVE_A_BOUND:
            raise ConfigError(
                "cannot be pooled with a prior that begins at a bound; use a lognormal", key="prior.parameters"
            )
    return priors


def _strength_rows(pooled: tuple[int, ...], structure: Structure) -> range:
    """The rows of the pooled strengths, which stand last; none where those are not pooled."""
    effect = len(structure.term.parameters)
    count = structure.channels if effect in pooled else 0
    return range(len(pooled) * structure.channels - count, len(pooled) * structure.channels)


def _centre_moments(
    priors: list[Distribution], scale: Float[np.ndarray, " row"], parts: int, *, strengths: range
) -> tuple[Float[np.ndarray, "row 2"], Float[np.ndarray, " row"]]:
    """Mean and standard deviation of each centre on the unconstrained scale, and the latter of a unit around it all."""
    moments, broad = np.zeros((len(priors), 2)), np.zeros(len(priors))
    for row, prior in enumerate(priors):
        if row in strengths:
            *moments[row], broad[row] = pooled_strength(prior, float(scale[row]), parts)
        else:
            moments[row] = coordinate_moments(prior)
            broad[row] = np.sqrt(moments[row, 1] ** 2 + parts * scale[row] ** 2)
    return moments, broad


def _members(units: tuple[Unit, ...], panel: Panel, spec: Spec) -> list[PreparedUnit]:
    """The units prepared; none in which a pooled prior is on something else than in the others of their group."""
    members = [prepare(unit, panel, spec) for unit in units]
    if spec.pooling.effect is None:
        return members
    usual = [spec.prior.on.measure(c, spend=bool(s)) for c, s in zip(panel.channels, has_spend(panel), strict=True)]
    for member in members:
        for channel, own, others in zip(panel.channels, member.strength.measures, usual, strict=True):
            if own != others:
                raise ConfigError(
                    f"{channel} of {' / '.join(member.unit.labels)} has media but no spend over the fitted weeks: no "
                    f"{others} to pool; put the prior on contribution, or leave the unit out",
                    key="prior.on",
                )
    return members


def _pooled_families(structure: Structure, priors: list[Distribution], pooled: tuple[int, ...]) -> tuple[str, ...]:
    """Prior families of the units' parameters: of pooled ones normal on the unconstrained scale of the usual one."""
    structural = list(structure.families)
    for i, j in enumerate(pooled):
        structural[j] = "probit_normal" if family_of(priors[i * structure.channels]).bounded else "lognormal"
    return tuple(structural)


def _with_priors(
    member: PreparedUnit,
    pool: Pool,
    priors: list[Distribution],
    mean: Float[np.ndarray, " row"],
    sd: Float[np.ndarray, " row"],
) -> PreparedUnit:
    """The member with broad normal priors of its pooled coordinates, which the group's prior replaces."""
    arrays = dict(member.arrays)
    hyper, centre = arrays["hyper"].copy(), arrays["centre"].copy()
    for _, rows, own in pool.slices():
        bounds = [prior.support if family_of(prior).bounded else (0.0, 0.0) for prior in priors[rows]]
        encoded = [normal_rows(*row) for row in zip(mean[rows], sd[rows], bounds, strict=True)]
        hyper[:, own] = np.stack(encoded, axis=-1)
        centre[own] = mean[rows]
    arrays |= {"hyper": hyper, "centre": centre}
    if pool.effect_pooled:
        # Then the coordinate is the log of the measure itself.
        arrays["log_strength_unit"] = -member.strength.rows[2]
        # What tables call the prior is that of a unit of the group.
        rows = slice(len(mean) - len(member.strength.distributions), None)
        implied = [distribution("lognormal", mean_log=m, sd_log=s) for m, s in zip(mean[rows], sd[rows], strict=True)]
        member = replace(member, strength=member.strength._replace(distributions=tuple(implied)))
    return replace(member, arrays=arrays)


def _used(keys: tuple[str, ...], pooled: list[str], channels: int, spec: Spec) -> Float[np.ndarray, "key row"]:
    """One where a key's labels have effects on a row's parameter."""
    used = np.array([[spec.pooling.has_effects(name, key) for name in pooled] for key in keys], float)
    return np.repeat(used.reshape(len(keys), len(pooled)), channels, axis=1)


def _membership(
    units: tuple[Unit, ...], place: int, labels: tuple[str, ...], levels: int, padded: int
) -> Float[np.ndarray, "level unit"]:
    member = np.zeros((levels, padded))
    for i, unit in enumerate(units):
        member[labels.index(unit.labels[place]), i] = 1.0
    return member


def _size(units: int) -> int:
    return next((size for size in SIZES if size >= units), -(-units // 128) * 128)
