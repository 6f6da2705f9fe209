"""Weighing: draws of an earlier posterior as draws of tonight's, and a unit's result from them.

Weights are Pareto smoothed and draws resampled by them. Two gates must be passed, or there is a fit in their place: the
shape of the weights' tail, and `inference.ess_floor` on the draws that the weights leave.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
    Douc, Cappé, Moulines (2005), Comparison of resampling schemes for particle filtering, arXiv:cs/0507025.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mixfleet.config import Spec
from mixfleet.data.panel import Panel
from mixfleet.fitting.retries import status_from
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, Structure
from mixfleet.models.media import media_term
from mixfleet.posterior.counterfactual import decompose, weekly
from mixfleet.posterior.importance import effective_draws, pareto_smoothed, tail_allows
from mixfleet.posterior.log_densities import log_likelihood
from mixfleet.posterior.prior_draws import prior_response, strength_moments
from mixfleet.posterior.summarize import kept_series, parameter_table, told_weeks, unit_tables
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.posterior.unit_series import UnitSeries, series_variables, unit_series

__all__ = ["Draws", "Weights", "log_likelihoods", "on_columns", "stacked_draws", "weighed_result", "weights"]

Draws = Mapping[str, Float[np.ndarray, "draw ..."]]
"""By variable, in the table's units."""

SAME_SPAN = 1e-9
"""Largest relative misfit at which tonight's columns of the baseline say what the earlier ones did."""


class Weights(NamedTuple):
    """Which draws stand for tonight's posterior, and how well."""

    chosen: Int[np.ndarray, " draw"]
    """As many places as there are draws, each draw as often as its weight says."""
    k: float
    """Shape of the weights' tail."""
    ess: float
    """Effective draws that are left."""


def weights(ratio: Float[np.ndarray, " draw"], ess: float, spec: Spec) -> Weights | str:
    """The weights, or why they cannot be trusted.

    Args:
        ratio: Logarithm of tonight's density over that of the draws, up to a constant.
        ess: Effective draws of those that the draws were kept of.
        spec: Its gates.
    """
    count = len(ratio)
    if not np.all(np.isfinite(ratio)):
        return "has draws that are impossible now"
    weight, k = pareto_smoothed(ratio)
    # Draws that were not independent count for as many as they were worth.
    left = min(1.0, ess / count) * effective_draws(weight)
    if not tail_allows(k, count):
        return f"has weights whose tail has the shape {k:.2f}"
    if not left >= spec.inference.ess_floor:
        return f"would be left with {left:.0f} effective draws, below inference.ess_floor"
    return Weights(_systematic(weight), k, left)


def _systematic(weight: Float[np.ndarray, " draw"]) -> Int[np.ndarray, " draw"]:
    """As many draws as there are weights, each as often as its weight says, up to one more or less."""
    count = len(weight)
    places = (np.arange(count) + 0.5) / count
    return np.minimum(np.searchsorted(np.cumsum(weight), places), count - 1)


def stacked_draws(fitted: UnitResult, spec: Spec) -> dict[str, np.ndarray]:
    """The kept draws of all parameters, those of all chains one after the other."""
    draws = {name: np.asarray(fitted.draws[name], float) for name in series_variables(spec.model)}
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}


def log_likelihoods(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> Float[np.ndarray, " draw"]:
    """Log likelihood of the unit's KPI; lift tests are not in it."""
    series, term = _series(member, draws, panel, spec), media_term(spec.model, panel.channels)
    media = np.asarray(weekly(series.media, series.curves, term=term))
    return log_likelihood(member.unit, series, media, member.fitted, spec.model).sum(axis=1)


def _series(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> UnitSeries:
    """The unit's arrays with all draws, padded, so that units of about one length share their programs."""
    weeks, counted = len(member.arrays["kpi"]), member.fitted
    return unit_series(member.unit, member.scale, draws, spec.model, keys=panel.keys, counted=counted, weeks=weeks)


def on_columns(
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


def weighed_result(
    chosen: Draws,
    found: Weights,
    member: PreparedUnit,
    structure: Structure,
    panel: Panel,
    spec: Spec,
    fitted: UnitResult,
) -> UnitResult:
    """The unit's result from the chosen draws.

    Args:
        chosen: Draws as often as their weights say, as tonight's model has them.
        found: The weights.
        member: The unit as it is tonight.
        structure: Of the program that would fit it.
        panel: Tonight's.
        spec: All settings, with the coordinate that is sampled.
        fitted: The earlier result.
    """
    unit, term = member.unit, media_term(spec.model, panel.channels)
    draws = {name: np.ascontiguousarray(values[None], np.float32) for name, values in chosen.items()}
    series = kept_series(member, draws, panel, spec, weeks=structure.weeks)
    prior = prior_response(member, series.media, told_weeks(member, series), term)
    tables, checks = unit_tables(member, series, prior.total, term, panel, spec)
    whole = _series(member, chosen, panel, spec)
    counted = np.pad(member.contribution_weeks * 1.0, (0, len(whole.media) - len(unit.dates)))[:, None]
    brought = decompose(whole.media, counted, whole.curves, term=term).total[0]
    natural = {name: np.moveaxis(values, 0, -1)[..., None] for name, values in chosen.items()}
    own = fitted.tables["params"]
    judged = {"rhat": own["rhat"]} | {name: np.minimum(own[name], found.ess) for name in ("ess_bulk", "ess_tail")}
    natural["contribution"] = brought[..., None]
    params = parameter_table(member, natural, strength_moments(member, prior), structure, panel, spec, judged=judged)
    draws["contribution"] = np.ascontiguousarray(brought.T[None], np.float32)
    judge = partial(status_from, unit, passed=True, reason="", rung=fitted.rung)
    status, reason = judge(checks)
    kept = spec.output.draws != "summary"
    least = {name: min(fitted.diagnostics[name], found.ess) for name in ("ess_bulk_min", "ess_tail_min")}
    size = {"draws": len(chosen["effect"]), "chains": 1, "gradients": 0, "seconds": 0.0}
    return UnitResult(
        labels=unit.labels,
        status=status,
        reason=reason,
        rung=fitted.rung,
        diagnostics={**fitted.diagnostics, **least, **size, "pareto_k": found.k},
        tables={"params": params, **tables},
        draws=draws if kept else {},
        dims={name: fitted.dims[name] for name in draws if name in fitted.dims} if kept else {},
        coords=fitted.coords if kept else {},
    )
