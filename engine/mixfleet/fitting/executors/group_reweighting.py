"""Reweighting of pooled groups: the joint draws of a group's units and hyperparameters, weighed as one.

A draw of the group stays where it is in the model's own coordinates, in which the prior of units and hyperparameters is
tonight what it was, so that the ratio is that of the likelihoods of the units that changed. Where a prior is on a
return, whose weeks and spend may differ now, a unit's effects move so that the return stays. Logarithms of ratios add
up over units: weights serve where few of a group's units changed, and degenerate where all of them did.

Hyperparameters depend on the data through the units' parameters alone, so given the weighed draws of those they are
drawn anew, exactly, but for what a finite number of sweeps leaves.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.fitting.executors.reweighting import OTHER_TESTS, other_model, other_tests
from mixfleet.fitting.executors.weighing import (
    Draws,
    log_likelihoods,
    on_columns,
    stacked_draws,
    weighed_result,
    weights,
)
from mixfleet.hierarchy.groups import Prepared, groups_of, pooled_settings, prepared
from mixfleet.hierarchy.sampler import HyperDraws, redrawn_hyper
from mixfleet.inference.random_numbers import hashed_key
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import media_term
from mixfleet.posterior.log_densities import log_measures, scaled_coefficients, scaled_shapes
from mixfleet.posterior.pooling_factors import group_variance, pooled_parameters, pooling_table
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["reweighted_groups"]

Outcome = UnitResult | str
"""A unit's result, or why it must be fitted."""


def reweighted_groups(
    was: Panel, panel: Panel, spec: Spec, asked: Collection[str], kept: Callable[[Unit], Outcome]
) -> Iterator[tuple[str, Outcome]]:
    """Id of each unit that is asked for, with its result from its group's weighed draws, or why its group is fitted.

    Args:
        was: The panel that the base was fitted in.
        panel: Tonight's.
        spec: All settings, of both.
        asked: Ids of units; where one of a group is asked for, so are its others that are still missing.
        kept: The base's result of a unit, or why its draws cannot be weighed.
    """
    before = dict(groups_of(was, spec))
    for label, units in groups_of(panel, spec):
        names = [unit_id(unit.labels) for unit in units]
        if any(name in asked for name in names):
            fitted = [kept(unit) for unit in units]
            outcome = _outcome(label, before.get(label, ()), was, units, panel, spec, fitted)
            whole = [f"its group is fitted: {outcome}"] * len(names) if isinstance(outcome, str) else outcome
            yield from zip(names, whole, strict=True)


def _outcome(
    label: str,
    before: Sequence[Unit],
    was: Panel,
    units: Sequence[Unit],
    panel: Panel,
    spec: Spec,
    fitted: Sequence[Outcome],
) -> list[UnitResult] | str:
    """Results of a group's units, or why it is fitted."""
    known = [one for one in fitted if not isinstance(one, str)]
    for unit, why in zip(units, fitted, strict=True):
        if isinstance(why, str):
            return f"{' / '.join(unit.labels)} {why}"
    if [unit.labels for unit in units] != [unit.labels for unit in before]:
        return "it has other units than in the base"
    settings = pooled_settings(spec)
    with jax.enable_x64(True):
        try:
            old, new = prepared(label, tuple(before), was, spec), prepared(label, tuple(units), panel, spec)
        except np.linalg.LinAlgError:
            return "the linear block of one of its units cannot be decomposed"
        return _other_group(old, new, panel) or _weighed(old, new, was, panel, settings, known)


def _other_group(old: Prepared, new: Prepared, panel: Panel) -> str | None:
    """What about the group's model is other than it was."""
    for one, other in zip(old.members, new.members, strict=True):
        name = " / ".join(one.unit.labels)
        if why := other_model(one, other):
            return f"{name} {why}"
        if _leaves(vars(one.scale)) != _leaves(vars(other.scale)):
            return f"{name} has other scales, which run.scales=frozen would keep"
        if one.strength.measures != other.strength.measures:
            return f"{name} has priors on something else"
        if other_tests(one.unit, other.unit, panel):
            return f"{name} {OTHER_TESTS}"
        # They are told in the table's units, in which a unit's effects may move.
        if other.unit.experiments and _changed(one.unit, other.unit):
            return f"{name} has lift tests and other rows"
    known = [(group.hierarchy, group.columns.hierarchy, group.shared.loadings, group.joint) for group in (old, new)]
    return None if _leaves(known[0]) == _leaves(known[1]) else "it has other priors"


def _leaves(tree: object) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def _changed(one: Unit, other: Unit) -> bool:
    """Whether the likelihood of a unit may differ."""
    names = "dates", "kpi", "observed", "media", "spend", "controls", "value_per_kpi"
    return any(np.asarray(getattr(one, name)).tobytes() != np.asarray(getattr(other, name)).tobytes() for name in names)


def _weighed(
    old: Prepared, new: Prepared, was: Panel, panel: Panel, spec: Spec, fitted: Sequence[UnitResult]
) -> list[UnitResult] | str:
    draws: list[Draws] = [stacked_draws(one, spec) for one in fitted]
    ratio = np.zeros(len(draws[0]["effect"]))
    for i, (one, other) in enumerate(zip(old.members, new.members, strict=True)):
        if _changed(one.unit, other.unit):
            if on_columns(draws[i]["coefficients"], one, other, panel, spec) is not draws[i]["coefficients"]:
                return f"{' / '.join(one.unit.labels)} has another baseline"
            before = log_likelihoods(one, draws[i], was, spec)
            draws[i] = _at_the_same_measure(one, other, draws[i], panel, spec)
            ratio += log_likelihoods(other, draws[i], panel, spec) - before
    ess = min(min(one.diagnostics["ess_bulk_min"], np.nanmin(one.tables["pooling"]["ess_bulk"])) for one in fitted)
    found = weights(ratio, float(ess), spec)
    if isinstance(found, str):
        return f"it {found}"
    structure = replace(new.pool.structure, units=1)
    tonight = [{name: values[found.chosen] for name, values in one.items()} for one in draws]
    theta = [_pooled(new, i, one, panel, spec) for i, one in enumerate(tonight)]
    key = hashed_key(spec.inference.seed, f"reweighted:{new.label}")
    drawn = redrawn_hyper(new, np.stack(theta, axis=1), key)[..., None]
    unjudged = np.full(drawn.shape[:2], np.nan)
    hyper = HyperDraws(draws=drawn, rhat=unjudged, ess_bulk=unjudged)
    variance = group_variance(new, hyper, panel, spec)
    results = []
    for i, (member, before) in enumerate(zip(new.members, fitted, strict=True)):
        result = weighed_result(tonight[i], found, member, structure, panel, spec, before)
        table = pooling_table(new, i, theta[i][..., None], hyper, variance, panel)
        # Its rows follow from the settings alone, which are those of the base.
        own = before.tables["pooling"]
        table |= {"rhat": own["rhat"], "ess_bulk": np.minimum(own["ess_bulk"], found.ess)}
        results.append(replace(result, tables={**result.tables, "pooling": table}))
    return results


def _at_the_same_measure(old: PreparedUnit, new: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> Draws:
    """The draws with the effects at which tonight what the priors of strengths are on is what it was."""
    term = media_term(spec.model, panel.channels)
    before, now = (log_measures(one, draws, scaled_shapes(draws, one.scale, spec.model), term) for one in (old, new))
    return {**draws, "effect": draws["effect"] * np.exp((before - now).T / new.strength.rows[0])}


def _pooled(group: Prepared, place: int, draws: Draws, panel: Panel, spec: Spec) -> Float[np.ndarray, "row draw"]:
    """Pooled parameters and shared coefficients of a unit."""
    member = group.members[place]
    shape = scaled_shapes(draws, member.scale, spec.model)
    measure = np.exp(log_measures(member, draws, shape, media_term(spec.model, panel.channels)))
    return pooled_parameters(group, place, shape, measure, scaled_coefficients(draws, member.scale).T)
