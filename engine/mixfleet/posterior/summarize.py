"""A unit's draws as tables and draws in the table's own units.

Parameters and their diagnostics are of all draws. Every other table is of the draws that are kept, in the precision in
which they are kept and by the functions that read them back, so that it says the same as what is computed from the
saved run; a run that stores no draws says the same too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Spec
from mixfleet.data.panel import Panel
from mixfleet.data.scaling import MEDIA_POWERS
from mixfleet.inference.draws import parameter_quantities
from mixfleet.inference.scheduler import Finished
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, Structure
from mixfleet.models.media.term import MediaTerm
from mixfleet.models.priors.moments import moments
from mixfleet.posterior.counterfactual import decompose, log_link, value_weights
from mixfleet.posterior.fit_quality import predictive, weekly_fit
from mixfleet.posterior.model_checks.check import ModelCheck, check_columns
from mixfleet.posterior.model_checks.experiments import told_tests
from mixfleet.posterior.model_checks.judge import checked_unit, judge_model
from mixfleet.posterior.prior_draws import prior_response, strength_moments
from mixfleet.posterior.response_curves import steady_kpi
from mixfleet.posterior.statistics import QUANTILES, statistics
from mixfleet.posterior.unit_result import UnitResult, thin_draws
from mixfleet.posterior.unit_series import (
    SUMMARY_DRAWS,
    UnitSeries,
    baseline_sums,
    counted_weeks,
    evenly_spaced,
    series_variables,
    unit_series,
)

__all__ = ["kept_series", "parameter_table", "told_weeks", "unit_result", "unit_tables"]

SHORT_QUANTILES = ("q05", "q50", "q95")


def unit_result(
    fitted: Finished,
    structure: Structure,
    panel: Panel,
    spec: Spec,
    *,
    judged: Callable[[Sequence[ModelCheck]], tuple[str, str]],
) -> UnitResult:
    """The unit's tables, statistics and thinned draws.

    Args:
        fitted: Draws and verdict.
        structure: Structure of the program that made them.
        panel: Names of channels and keys.
        spec: All settings, with the coordinate that was sampled.
        judged: Makes of the checks of the model what became of the unit, and why it is not plain ok.
    """
    member = fitted.job.member
    natural = _natural(fitted, spec)
    draws, dims, coords = _draws(fitted, natural, panel, spec)
    series = kept_series(member, draws, panel, spec, weeks=structure.weeks)
    prior = prior_response(member, series.media, told_weeks(member, series), structure.term)
    params = parameter_table(
        member, natural, strength_moments(member, prior), structure, panel, spec, judged=_judged(fitted, structure)
    )
    tables, checks = unit_tables(member, series, prior.total, structure.term, panel, spec)
    tables = {"params": params, **tables}
    status, reason = judged(checks)
    if spec.output.draws == "summary":
        draws, dims, coords = {}, {}, {}
    return UnitResult(
        labels=member.unit.labels,
        status=status,
        reason=reason,
        rung=fitted.job.rung,
        diagnostics=_diagnostics(fitted),
        tables=tables,
        draws=draws,
        dims=dims,
        coords=coords,
    )


def kept_series(
    member: PreparedUnit,
    draws: Mapping[str, Float[np.ndarray, "chain draw ..."]],
    panel: Panel,
    spec: Spec,
    *,
    weeks: int,
) -> UnitSeries:
    """The arrays behind a unit's tables, of draws as they are kept; padded to so many weeks."""
    picked = {name: evenly_spaced(draws[name], SUMMARY_DRAWS) for name in series_variables(spec.model)}
    counted = _counted(member, spec)
    return unit_series(member.unit, member.scale, picked, spec.model, keys=panel.keys, counted=counted, weeks=weeks)


def told_weeks(member: PreparedUnit, series: UnitSeries) -> Float[np.ndarray, "week 2"]:
    """What a KPI is worth in the weeks that count, and which weeks are in the likelihood.

    Under a log link what the whole KPI of such a week is worth.
    """
    within = np.pad(member.fitted * 1.0, (0, len(series.counted) - len(member.fitted)))
    value = series.value * np.nan_to_num(series.kpi) if series.log_link else series.value
    return np.column_stack([np.where(series.counted, value, 0.0), within])


def unit_tables(
    member: PreparedUnit,
    series: UnitSeries,
    prior: Float[np.ndarray, "2 channel sample"],
    term: MediaTerm,
    panel: Panel,
    spec: Spec,
) -> tuple[dict[str, dict[str, np.ndarray]], tuple[ModelCheck, ...]]:
    """Every table of a unit that follows from its kept draws, and the checks of its model.

    Args:
        member: The unit as its fit saw it.
        series: Its data and draws.
        prior: What each channel would bring under the prior, weighed by `told_weeks`.
        term: Form of each channel's response.
        panel: Names of channels and keys.
        spec: All settings.
    """
    unit, counted = member.unit, _counted(member, spec)
    weights, price = value_weights(series.counted, series.value)
    within = told_weeks(member, series)[:, 1]
    brought = decompose(series.media, np.column_stack([weights, within]), series.curves, term=term)
    foretold, known = predictive(unit, series, brought.weekly, spec.model), counted & np.isfinite(unit.kpi)
    weekly, quality = weekly_fit(unit, foretold, known, spec.data.holdout or 0)
    rows, within_all = baseline.component_rows(spec.model, spec.data), series.counted[:, None].astype(float)
    returned, prior_returned = brought.total[-2], prior[0]
    if series.log_link:
        parts = log_link.logarithms(series, rows, term)
        components, returned = log_link.shares(parts, within_all)[0], log_link.missing(parts, weights)[-1]
        prior_returned = log_link.missing_on_average(prior[0], float(told_weeks(member, series)[:, 0].sum()))
    else:
        components = np.concatenate([brought.total[0], baseline_sums(series, within_all, rows)[0]])
    tables: dict[str, dict[str, np.ndarray]] = {
        "contributions": _contributions(series, components, panel, spec),
        "curves": _curves(member, series, rows, term, panel, spec),
        "fit": quality,
        "weekly": weekly,
    }
    if roi := _roi(series, returned * price, prior_returned, panel):
        tables["roi"] = roi
    tests = told_tests(unit.experiments, member.scale, series, term)
    checks = judge_model(checked_unit(member, series, brought, prior[1], spec, panel.channels, tests))
    if checks:
        tables["checks"] = check_columns(checks)
    return tables, checks


def _diagnostics(fitted: Finished) -> dict[str, float]:
    verdict = fitted.verdict
    return {
        "rhat_max": verdict.rhat_max,
        "ess_bulk_min": verdict.ess_bulk_min,
        "ess_tail_min": verdict.ess_tail_min,
        "divergences": fitted.divergences,
        "ebfmi_min": verdict.ebfmi_min,
        "energy_balance": verdict.energy_balance,
        "draws": fitted.count,
        "chains": fitted.draws.noise.shape[-1],
        "gradients": fitted.gradients,
        "seconds": fitted.seconds,
    }


def _natural(fitted: Finished, spec: Spec) -> dict[str, np.ndarray]:
    """Every parameter in the table's units: name to [channel or column, draw, chain] or [draw, chain]."""
    scale, draws = fitted.job.member.scale, fitted.draws
    media = scale.media[:, None, None]
    values: dict[str, Any] = {}
    for name, shape in zip(spec.model.channel_parameters[:-1], draws.shape, strict=True):
        values[name] = shape * media ** MEDIA_POWERS.get(name, 0)
    values["effect"] = draws.effect * scale.kpi
    values["contribution"] = draws.contribution * (scale.kpi * np.sum(fitted.job.member.contribution_weeks))
    for name, value in zip(spec.model.unit_parameters, draws.observation, strict=True):
        values[name] = value * (scale.kpi if spec.model.in_kpi(name) else 1.0)
    mixing = scale.column_mixing(fitted.job.member.design.shape[1])
    values["coefficients"] = np.tensordot(mixing, draws.coefficients, axes=1)
    values["coefficients"][0] += scale.kpi_shift
    return values


def parameter_table(
    member: PreparedUnit,
    natural: Mapping[str, np.ndarray],
    strengths: list[tuple[float, float]],
    structure: Structure,
    panel: Panel,
    spec: Spec,
    *,
    judged: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """One row for each parameter and channel that has it, then the observation's and the baseline's.

    Args:
        member: The unit.
        natural: Draws [channel or column, draw, chain] of each parameter, in the table's units.
        strengths: Mean and standard deviation of the prior of each active channel's effect.
        structure: Says which channels have which parameter.
        panel: Names of channels and keys.
        spec: All settings.
        judged: `rhat`, `ess_bulk` and `ess_tail` of each row.
    """
    columns = baseline.column_names(spec.model, spec.data)
    own = {block.parameter: list(block.channels) for block in structure.layout.by_channel}
    labels = [(name, panel.channels[c]) for name, places in own.items() for c in places]
    shared = spec.model.unit_parameters
    labels += [(name, "") for name in (*shared, *columns)]
    values = [natural[name][places] for name, places in own.items()]
    values += [natural[name][None] for name in shared] + [natural["coefficients"]]
    found = _statistics(np.concatenate(values))

    priors = zip(member.priors, list(own.values())[:-1], strict=True)
    prior = [moments(by_channel[c]) for by_channel, places in priors for c in places]
    prior += strengths
    prior += [moments(spec.prior.distribution(name, unit=_names(member, panel))) for name in shared]
    prior = np.array(prior)
    factors = [_unit_factor(name, member)[places] for name, places in own.items()]
    factor = np.concatenate([*factors, np.where([*map(spec.model.in_kpi, shared)], member.scale.kpi, 1.0)])
    mixing = member.scale.column_mixing(len(columns))
    mean, sd = baseline.column_priors(spec.model, spec.data, spec.prior, _names(member, panel))
    linear = mixing @ mean
    linear[0] += member.scale.kpi_shift
    prior_mean = np.concatenate([prior[:, 0] * factor, linear])
    prior_sd = np.concatenate([prior[:, 1] * factor, np.sqrt((mixing * sd) ** 2 @ np.ones(len(sd)))])

    return {
        "parameter": np.array([name for name, _ in labels], object),
        "channel": np.array([channel for _, channel in labels], object),
        **found,
        "prior_mean": prior_mean,
        "prior_sd": prior_sd,
        **judged,
    }


def _judged(fitted: Finished, structure: Structure) -> dict[str, np.ndarray]:
    """Diagnostics of each row of the table of parameters; none is defined on a value that is known."""
    rows, judgement = parameter_quantities(structure), fitted.judgement
    found = {"rhat": judgement.rhat, "ess_bulk": judgement.ess_bulk, "ess_tail": judgement.ess_tail}
    return {name: np.where(rows < 0, np.nan, np.asarray(values, float)[rows]) for name, values in found.items()}


def _unit_factor(name: str, member: PreparedUnit) -> Float[np.ndarray, " channel"]:
    """What one scaled unit of a channel parameter is in the table's units."""
    if name == "effect":
        return np.full(len(member.scale.media), member.scale.kpi)
    return member.scale.media ** MEDIA_POWERS.get(name, 0)


def _counted(member: PreparedUnit, spec: Spec) -> Bool[np.ndarray, " week"]:
    """The weeks that tables look at; of a unit without a KPI those for which its media are planned."""
    counted = counted_weeks(member.unit, window=spec.model.window)
    return counted if counted.any() else member.contribution_weeks


def _contributions(
    series: UnitSeries, brought: Float[np.ndarray, "component draw"], panel: Panel, spec: Spec
) -> dict[str, np.ndarray]:
    """Contributions in KPI over the weeks that count, by channel and by component of the baseline."""
    found = statistics(brought, SHORT_QUANTILES)
    total = float(np.sum(np.nan_to_num(series.kpi)))
    names = (*panel.channels, *baseline.components(spec.model, spec.data))
    return {
        "component": np.array(names, object),
        **found,
        "share": found["mean"] / total if total else np.full(len(names), np.nan),
    }


def _roi(
    series: UnitSeries,
    returned: Float[np.ndarray, "channel draw"],
    prior: Float[np.ndarray, "channel sample"],
    panel: Panel,
) -> dict[str, np.ndarray]:
    """Incremental value per unit of spend over the weeks that count; empty where nothing was spent."""
    spend = np.nansum(series.spend[series.counted], axis=0)
    paid = np.flatnonzero(spend > 0)
    if not len(paid) or not np.all(np.isfinite(series.value[series.counted])):
        return {}
    own, before = (statistics(by_draw[paid] / spend[paid, None], SHORT_QUANTILES) for by_draw in (returned, prior))
    return {
        "channel": np.array([panel.channels[c] for c in paid], object),
        **own,
        "spend": spend[paid],
        **{f"prior_{name}": values for name, values in before.items()},
    }


def _curves(
    member: PreparedUnit,
    series: UnitSeries,
    rows: Float[np.ndarray, "component column"],
    term: MediaTerm,
    panel: Panel,
    spec: Spec,
) -> dict[str, np.ndarray]:
    """Weekly response at steady spend, from nothing to half again the highest week; media where nothing is paid."""
    points = spec.output.curve_points
    level = log_link.usual_level(series, rows, term)
    spend, kpi = steady_kpi(member.unit, member.scale, series.curves, term, points=points, level=level)
    return {
        "channel": np.repeat(np.array(panel.channels, object), points),
        "spend": spend.T.ravel(),
        **{name: values.T.ravel() for name, values in statistics(kpi, SHORT_QUANTILES).items()},
    }


def _draws(
    fitted: Finished, natural: dict[str, np.ndarray], panel: Panel, spec: Spec
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Draws as [chain, draw, ...], thinned unless the output is to keep all."""
    values = {name: np.asarray(drawn).T for name, drawn in natural.items()}
    values["lp"] = np.asarray(fitted.draws.value).T
    if spec.output.draws != "full":
        values = thin_draws(values, spec.output.thin)
    values = {name: np.ascontiguousarray(drawn, np.float32) for name, drawn in values.items()}
    dims = {name: ("channel",) for name in (*spec.model.channel_parameters, "contribution")}
    dims["coefficients"] = ("column",)
    coords = {"channel": panel.channels, "column": baseline.column_names(spec.model, spec.data)}
    return values, dims, coords


def _statistics(values: np.ndarray, quantiles: tuple[str, ...] = tuple(QUANTILES)) -> dict[str, np.ndarray]:
    """Of each row over all its draws, those of every chain."""
    return statistics(np.asarray(values).reshape(len(values), -1), quantiles)


def _names(member: PreparedUnit, panel: Panel) -> dict[str, str]:
    return dict(zip(panel.keys, member.unit.labels, strict=True))
