"""Reweighting: an earlier run's draws weighed as draws of tonight's posterior, where few weeks came or were revised.

The ratio is that of the two whole posteriors, priors on their scales included, at the same parameters in the table's
units. Weights are Pareto smoothed and draws resampled by them. Two gates must be passed, or the unit is fitted: the
shape of the weights' tail, and `inference.ess_floor` on the draws that the weights leave. What was reweighted is never
reweighted again: weights of weights degenerate.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
    Douc, Cappé, Moulines (2005), Comparison of resampling schemes for particle filtering, arXiv:cs/0507025.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from mixfleet.config import Spec
from mixfleet.data.experiments.experiment import experiments_table, read_experiments
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.data.panel_parquet import read_units
from mixfleet.data.scaling import is_new
from mixfleet.fitting.executors.carry import Base
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.progress import OnEvent
from mixfleet.fitting.retries import status_from
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, prepare, structure_of
from mixfleet.models.media import media_term
from mixfleet.posterior.counterfactual import decompose, weekly
from mixfleet.posterior.importance import effective_draws, pareto_smoothed, tail_allows
from mixfleet.posterior.log_densities import log_likelihood, log_measures, log_prior, scaled_shapes
from mixfleet.posterior.prior_draws import prior_response, strength_moments
from mixfleet.posterior.summarize import kept_series, parameter_table, told_weeks, unit_tables
from mixfleet.posterior.unit_result import UnitResult, certified
from mixfleet.posterior.unit_series import UnitSeries, series_variables, unit_series
from mixfleet.storage.manifest import Fingerprint

__all__ = ["reweighted", "reweighting"]

Draws = Mapping[str, Float[np.ndarray, "draw ..."]]

SAME_SPAN = 1e-9
"""Largest relative misfit at which tonight's columns of the baseline say what the earlier ones did."""


class _Weighed(NamedTuple):
    """Draws of the earlier run as draws of tonight's posterior."""

    draws: dict[str, np.ndarray]
    k: float
    ess: float


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
    for unit in panel.units:
        name = unit_id(unit.labels)
        if name not in asked:
            continue
        place, row = rows.get(name, (-1, None))
        if row is None or unit.labels not in earlier:
            yield name, "is not in the base"
        elif not (certified(row["status"]) or row["status"] == "misfit"):
            yield name, f"was {row['status']} in the base"
        elif row.get("pareto_k") is not None:
            yield name, "was reweighted in the base, and weights of weights degenerate"
        else:
            yield name, reweighted(earlier[unit.labels], was, unit, panel, spec, base.result(place))


def _refused(base: Base, panel: Panel, spec: Spec) -> str | None:
    """Why no unit at all can be reweighted."""
    if spec.pooling.by != "none":
        return "is pooled: weights are of a whole group, and degenerate with the number of its units"
    before, now = base.reader.manifest["fingerprint"], Fingerprint.of(panel, spec)
    settings = [
        {name: own for name, own in config.items() if name != "run"} for config in (before["config"], now.config)
    ]
    if before["engine"] != now.engine or settings[0] != settings[1]:
        return "has other settings than in the base"
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
    tests = [experiments_table(panel.keys, [(unit.labels, one.experiments)]) for one in (before, unit)]
    if not tests[0].equals(tests[1]):
        return "has other lift tests"
    with jax.enable_x64(True):
        old, new = prepare(before, was, spec), prepare(unit, panel, spec)
        weighed = _other(old, new) or _weighed(old, new, was, panel, spec, fitted)
        return weighed if isinstance(weighed, str) else _result(weighed, new, panel, spec, fitted)


def _other(old: PreparedUnit, new: PreparedUnit) -> str | None:
    """What about the unit's model is other than it was."""
    if is_new(old.fitted) or is_new(new.fitted):
        return "has too few weeks for scales of its own"
    before, now = (np.asarray(member.arrays["active"]) > 0 for member in (old, new))
    return None if np.array_equal(before, now) else "has other channels that run"


def _weighed(
    old: PreparedUnit, new: PreparedUnit, was: Panel, panel: Panel, spec: Spec, fitted: UnitResult
) -> _Weighed | str:
    names = series_variables(spec.model)
    draws = {name: np.asarray(fitted.draws[name], float) for name in names}
    draws = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
    moved = _on_columns(draws["coefficients"], old, new, panel, spec)
    if moved is None:
        return "has another baseline"
    tonight = {**draws, "coefficients": moved}
    ratio = _log_density(new, tonight, panel, spec) - _log_density(old, draws, was, spec)
    count = len(ratio)
    if not np.all(np.isfinite(ratio)):
        return "has draws that are impossible now"
    weight, k = pareto_smoothed(ratio)
    # Draws that were not independent count for as many as they were worth.
    worth = min(1.0, fitted.diagnostics["ess_bulk_min"] / count)
    ess = worth * effective_draws(weight)
    if not tail_allows(k, count):
        return f"has weights whose tail has the shape {k:.2f}"
    if not ess >= spec.inference.ess_floor:
        return f"would be left with {ess:.0f} effective draws, below inference.ess_floor"
    chosen = _systematic(weight)
    return _Weighed({name: values[chosen] for name, values in tonight.items()}, k, ess)


def _systematic(weight: Float[np.ndarray, " draw"]) -> Int[np.ndarray, " draw"]:
    """As many draws as there are weights, each as often as its weight says, up to one more or less."""
    count = len(weight)
    places = (np.arange(count) + 0.5) / count
    return np.minimum(np.searchsorted(np.cumsum(weight), places), count - 1)


def _log_density(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> Float[np.ndarray, " draw"]:
    """Log posterior density of parameters in the table's units, up to a constant."""
    count, term = len(draws["effect"]), media_term(spec.model, panel.channels)
    density = np.zeros(count)
    for values in log_prior(member, draws, panel, spec).values():
        # A parameter that a channel lacks is not there.
        density += np.nansum(values.reshape(count, -1), axis=1)
    # From a density of what priors are on to one of effects.
    density += log_measures(member, draws, scaled_shapes(draws, member.scale, spec.model), term).sum(axis=0)
    series = _series(member, draws, panel, spec)
    media = np.asarray(weekly(series.media, series.curves, term=term))
    return density + log_likelihood(member.unit, series, media, member.fitted, spec.model).sum(axis=1)


def _series(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> UnitSeries:
    """The unit's arrays with all draws, padded, so that units of about one length share their programs."""
    weeks, counted = len(member.arrays["kpi"]), member.fitted
    return unit_series(member.unit, member.scale, draws, spec.model, keys=panel.keys, counted=counted, weeks=weeks)


def _on_columns(
    coefficients: Float[np.ndarray, "draw column"], old: PreparedUnit, new: PreparedUnit, panel: Panel, spec: Spec
) -> Float[np.ndarray, "draw column"] | None:
    """The same baselines told by tonight's columns, whose trend may run over more weeks; None where they cannot be."""
    labels = dict(zip(panel.keys, new.unit.labels, strict=True))
    columns = coefficients.shape[1] - len(new.scale.control_mean)
    before, now = (
        baseline.design(
            new.unit.dates, new.unit.controls, model=spec.model, fitted_weeks=member.scale.trend_weeks, unit=labels
        )[:, :columns]
        for member in (old, new)
    )
    if np.array_equal(before, now):
        return coefficients
    mixing, _, rank, _ = np.linalg.lstsq(now, before, rcond=None)
    if rank < columns or np.abs(now @ mixing - before).max() > SAME_SPAN * np.abs(before).max():
        return None
    moved = coefficients.copy()
    moved[:, :columns] = coefficients[:, :columns] @ mixing.T
    return moved


def _result(weighed: _Weighed, member: PreparedUnit, panel: Panel, spec: Spec, fitted: UnitResult) -> UnitResult:
    unit, term = member.unit, media_term(spec.model, panel.channels)
    structure = structure_of(spec, replace(panel, units=(unit,)), len(unit.dates))
    draws = {name: np.ascontiguousarray(values[None], np.float32) for name, values in weighed.draws.items()}
    series = kept_series(member, draws, panel, spec, weeks=structure.weeks)
    prior = prior_response(member, series.media, told_weeks(member, series), term)
    tables, checks = unit_tables(member, series, prior.total, term, panel, spec)
    whole = _series(member, weighed.draws, panel, spec)
    counted = np.pad(member.contribution_weeks * 1.0, (0, len(whole.media) - len(unit.dates)))[:, None]
    brought = decompose(whole.media, counted, whole.curves, term=term).total[0]
    natural = {name: np.moveaxis(values, 0, -1)[..., None] for name, values in weighed.draws.items()}
    own = fitted.tables["params"]
    judged = {"rhat": own["rhat"]} | {name: np.minimum(own[name], weighed.ess) for name in ("ess_bulk", "ess_tail")}
    natural["contribution"] = brought[..., None]
    params = parameter_table(member, natural, strength_moments(member, prior), structure, panel, spec, judged=judged)
    draws["contribution"] = np.ascontiguousarray(brought.T[None], np.float32)
    judge = partial(status_from, unit, passed=True, reason="", rung=fitted.rung)
    status, reason = judge(checks)
    kept = spec.output.draws != "summary"
    least = {name: min(fitted.diagnostics[name], weighed.ess) for name in ("ess_bulk_min", "ess_tail_min")}
    size = {"draws": len(weighed.draws["effect"]), "chains": 1, "gradients": 0, "seconds": 0.0}
    return UnitResult(
        labels=unit.labels,
        status=status,
        reason=reason,
        rung=fitted.rung,
        diagnostics={**fitted.diagnostics, **least, **size, "pareto_k": weighed.k},
        tables={"params": params, **tables},
        draws=draws if kept else {},
        dims={name: fitted.dims[name] for name in draws if name in fitted.dims} if kept else {},
        coords=fitted.coords if kept else {},
    )
