"""Reweighting: an earlier run's draws weighed as draws of tonight's posterior, where few weeks came or were revised.

The ratio is that of the two whole posteriors, priors on their scales included, at the same parameters in the table's
units. Where the weights cannot be trusted (`weighing`) the unit is fitted. What was reweighted is never reweighted
again: weights of weights degenerate. Of pooled units whole groups are weighed (`group_reweighting`).
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.data.experiments.experiment import experiments_table, read_experiments
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.data.panel_parquet import read_units
from mixfleet.data.scaling import is_new
from mixfleet.fitting.executors.carry import Base
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.executors.weighing import (
    Draws,
    log_likelihoods,
    on_columns,
    stacked_draws,
    weighed_result,
    weights,
)
from mixfleet.fitting.progress import OnEvent
from mixfleet.models.batch import PreparedUnit, prepare, structure_of
from mixfleet.models.media import media_term
from mixfleet.posterior.log_densities import log_measures, log_prior, scaled_shapes
from mixfleet.posterior.unit_result import UnitResult, certified

__all__ = ["OTHER_TESTS", "other_model", "other_tests", "reweighted", "reweighting"]

OTHER_TESTS = "has other lift tests"


def reweighting(base: Base, others: dict[str, str], executor: Executor) -> Executor:
    """An executor that reweights the base's draws of units where that can be trusted; `executor` fits the others.

    Args:
        base: The run whose draws are weighed.
        others: Why each unit, by id, is not taken as it is; here it comes to say why it is not reweighted.
        executor: Fits the others.
    """

    def fit(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
        done = set(skip)
        for unit, result in _reweighted_units(base, panel, spec, others.keys()):
            if isinstance(result, str):
                others[unit] = result
            elif unit not in skip:
                done.add(unit)
                yield result
        yield from executor(panel, spec, skip=frozenset(done), on_event=on_event)

    return fit


def _reweighted_units(
    base: Base, panel: Panel, spec: Spec, asked: Collection[str]
) -> Iterator[tuple[str, UnitResult | str]]:
    """Id of each unit that is asked for, with its result, or why it is none of its draws' weights."""
    reader = base.reader
    refused = _refused(base, panel, spec)
    if refused is not None:
        yield from ((unit_id(unit.labels), refused) for unit in panel.units if unit_id(unit.labels) in asked)
        return
    tests = read_experiments(reader.table("tests"), reader.keys) if reader.keeps_tests else {}
    earlier = {
        unit.labels: replace(unit, experiments=tests.get(unit.labels, ()))
        for unit in read_units(reader.table("panel"), reader.keys)
    }
    was = replace(panel, units=tuple(earlier.values()), rejected=(), findings=())
    rows = {row["unit_id"]: (place, row) for place, row in enumerate(reader.table("status").to_pylist())}

    def kept(unit: Unit) -> UnitResult | str:
        """The base's result of the unit, or why its draws cannot be weighed."""
        place, row = rows.get(unit_id(unit.labels), (-1, None))
        if row is None or unit.labels not in earlier:
            return "is not in the base"
        if not (certified(row["status"]) or row["status"] == "misfit"):
            return f"was {row['status']} in the base"
        if row.get("pareto_k") is not None:
            return "was reweighted in the base, and weights of weights degenerate"
        return base.result(place)

    if spec.pooling.by != "none":
        from mixfleet.fitting.executors.group_reweighting import reweighted_groups  # units are rarely pooled

        yield from reweighted_groups(was, panel, spec, asked, kept)
        return
    for unit in panel.units:
        name = unit_id(unit.labels)
        if name in asked:
            fitted = kept(unit)
            known = isinstance(fitted, str)
            yield name, fitted if known else reweighted(earlier[unit.labels], was, unit, panel, spec, fitted)


def _refused(base: Base, panel: Panel, spec: Spec) -> str | None:
    """Why no unit at all can be reweighted."""
    if differences := base.other_settings(panel, spec):
        return f"has other settings than in the base: {'; '.join(differences)}"
    return None if base.reader.keeps_draws and base.reader.keeps_panel else "has no draws or table in the base"


def reweighted(before: Unit, was: Panel, unit: Unit, panel: Panel, spec: Spec, fitted: UnitResult) -> UnitResult | str:
    """The unit's result tonight from its draws of an earlier run; or why it must be fitted.

    Args:
        before: The unit as it was fitted.
        was: The panel that it was fitted in.
        unit: As it is tonight.
        panel: Tonight's.
        spec: All settings, of both.
        fitted: The earlier result, with its draws.
    """
    # What equal tests say of a draw is the same on both sides, for they are told in the table's units.
    if other_tests(before, unit, panel):
        return OTHER_TESTS
    with jax.enable_x64(True):
        old, new = prepare(before, was, spec), prepare(unit, panel, spec)
        return other_model(old, new) or _weighed(old, new, was, panel, spec, fitted)


def other_tests(before: Unit, unit: Unit, panel: Panel) -> bool:
    """Whether the unit has other lift tests than it had."""
    tests = [experiments_table(panel.keys, [(unit.labels, one.experiments)]) for one in (before, unit)]
    return not tests[0].equals(tests[1])


def other_model(old: PreparedUnit, new: PreparedUnit) -> str | None:
    """What about the unit's model is other than it was."""
    if is_new(old.fitted) or is_new(new.fitted):
        return "has too few weeks for scales of its own"
    before, now = (np.asarray(member.arrays["active"]) > 0 for member in (old, new))
    return None if np.array_equal(before, now) else "has other channels that run"


def _weighed(
    old: PreparedUnit, new: PreparedUnit, was: Panel, panel: Panel, spec: Spec, fitted: UnitResult
) -> UnitResult | str:
    draws = stacked_draws(fitted, spec)
    moved = on_columns(draws["coefficients"], old, new, panel, spec)
    if moved is None:
        return "has another baseline"
    tonight = {**draws, "coefficients": moved}
    ratio = _log_density(new, tonight, panel, spec) - _log_density(old, draws, was, spec)
    found = weights(ratio, fitted.diagnostics["ess_bulk_min"], spec)
    if isinstance(found, str):
        return found
    structure = structure_of(spec, replace(panel, units=(new.unit,)), len(new.unit.dates))
    chosen = {name: values[found.chosen] for name, values in tonight.items()}
    return weighed_result(chosen, found, new, structure, panel, spec, fitted)


def _log_density(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> Float[np.ndarray, " draw"]:
    """Log posterior density of parameters in the table's units, up to a constant."""
    count, term = len(draws["effect"]), media_term(spec.model, panel.channels)
    density = np.zeros(count)
    for values in log_prior(member, draws, panel, spec).values():
        # A parameter that a channel lacks is not there.
        density += np.nansum(values.reshape(count, -1), axis=1)
    # From a density of what priors are on to one of effects.
    density += log_measures(member, draws, scaled_shapes(draws, member.scale, spec.model), term).sum(axis=0)
    return density + log_likelihoods(member, draws, panel, spec)
