"""Results: a unit's draws as tables and draws in the table's own units."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config import Spec
from mixfleet.config.priors import OBSERVATION_PARAMETERS
from mixfleet.data.panel import Panel
from mixfleet.data.scaling import MEDIA_POWERS
from mixfleet.inference.draws import parameter_quantities, prior_contribution, steady_response, worth
from mixfleet.inference.scheduler import Finished
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, Structure
from mixfleet.models.prior_moments import DRAWS, moments, prior_sample
from mixfleet.posterior.fit_quality import Sample, sample_of, weekly_fit
from mixfleet.posterior.statistics import QUANTILES, statistics
from mixfleet.posterior.unit_result import UnitResult, thin_draws

__all__ = ["unit_result"]

SHORT_QUANTILES = ("q05", "q50", "q95")

PREDICTIVE_DRAWS = 512
"""Draws behind fitted values, response curves and scores; everything else uses all of them."""


def unit_result(
    fitted: Finished, structure: Structure, panel: Panel, spec: Spec, *, status: str, reason: str
) -> UnitResult:
    """The unit's tables, statistics and thinned draws.

    Args:
        fitted: Draws and verdict.
        structure: Structure of the program that made them.
        panel: Names of channels and keys.
        spec: All settings, with the coordinate that was sampled.
        status: What became of the unit.
        reason: Why it is not plain ok.
    """
    verdict = fitted.verdict
    # What follows from draws depends on no coordinate and no law: one set of programs serves every rung.
    any_family = ("",) * len(structure.families)
    structure = replace(structure, model=replace(structure.model, coordinate="effect"), families=any_family)
    natural = _natural(fitted, spec)
    sample = sample_of(fitted.draws, PREDICTIVE_DRAWS)
    weekly, quality = weekly_fit(fitted, sample, structure, spec)
    tables: dict[str, dict[str, np.ndarray]] = {
        "params": _params(fitted, natural, panel, spec),
        "contributions": _contributions(fitted, panel, spec),
        "curves": _curves(fitted, sample, structure, panel, spec),
        "fit": quality,
        "weekly": weekly,
    }
    roi = _roi(fitted, structure, panel)
    if roi:
        tables["roi"] = roi
    draws, dims, coords = ({}, {}, {}) if spec.output.draws == "summary" else _draws(fitted, natural, panel, spec)
    return UnitResult(
        labels=fitted.job.member.unit.labels,
        status=status,
        reason=reason,
        rung=fitted.job.rung,
        diagnostics={
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
        },
        tables=tables,
        draws=draws,
        dims=dims,
        coords=coords,
    )


def _natural(fitted: Finished, spec: Spec) -> dict[str, np.ndarray]:
    """Every parameter in the table's units: name to [channel or column, draw, chain] or [draw, chain]."""
    scale, draws = fitted.job.member.scale, fitted.draws
    media = scale.media[:, None, None]
    values: dict[str, Any] = {}
    for name, shape in zip(spec.model.channel_parameters[:-1], draws.shape, strict=True):
        values[name] = shape * media ** MEDIA_POWERS.get(name, 0)
    values["effect"] = draws.effect * scale.kpi
    values["contribution"] = draws.contribution * (scale.kpi * np.sum(fitted.job.member.contribution_weeks))
    for name, value in zip(OBSERVATION_PARAMETERS[spec.model.observation], draws.observation, strict=True):
        values[name] = value * (scale.kpi if name == "noise" else 1.0)
    mixing = scale.column_mixing(fitted.job.member.design.shape[1])
    values["coefficients"] = np.tensordot(mixing, draws.coefficients, axes=1)
    return values


def _params(fitted: Finished, natural: dict[str, np.ndarray], panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    member, channels = fitted.job.member, panel.channels
    names = spec.model.channel_parameters
    columns = baseline.column_names(spec.model, spec.data)
    labels = [(name, channel) for name in names for channel in channels]
    shared = OBSERVATION_PARAMETERS[spec.model.observation]
    labels += [(name, "") for name in (*shared, *columns)]
    values = [natural[name] for name in names] + [natural[name][None] for name in shared] + [natural["coefficients"]]
    found = _statistics(np.concatenate(values))

    laws = [law for by_channel in member.laws for law in by_channel]
    laws += [spec.prior.law(name, unit=_names(member, panel)) for name in shared]
    prior = np.array([moments(law) for law in laws])
    factors = [_unit_factor(name, member) for name in names]
    factor = np.concatenate([*factors, np.where([name == "noise" for name in shared], member.scale.kpi, 1.0)])
    mixing = member.scale.column_mixing(len(columns))
    mean, sd = baseline.column_priors(spec.model, spec.data, spec.prior, _names(member, panel))
    prior_mean = np.concatenate([prior[:, 0] * factor, mixing @ mean])
    prior_sd = np.concatenate([prior[:, 1] * factor, np.sqrt((mixing * sd) ** 2 @ np.ones(len(sd)))])

    rows = parameter_quantities(fitted.draws)
    return {
        "parameter": np.array([name for name, _ in labels], object),
        "channel": np.array([channel for _, channel in labels], object),
        **found,
        "prior_mean": prior_mean,
        "prior_sd": prior_sd,
        "rhat": np.asarray(fitted.judgement.rhat, float)[rows],
        "ess_bulk": np.asarray(fitted.judgement.ess_bulk, float)[rows],
        "ess_tail": np.asarray(fitted.judgement.ess_tail, float)[rows],
    }


def _unit_factor(name: str, member: PreparedUnit) -> Float[np.ndarray, " channel"]:
    """What one scaled unit of a channel parameter is in the table's units."""
    if name == "effect":
        return np.full(len(member.scale.media), member.scale.kpi)
    return member.scale.media ** MEDIA_POWERS.get(name, 0)


def _contributions(fitted: Finished, panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """Contributions in KPI over the weeks that are told, by channel and by term of the baseline."""
    member = fitted.job.member
    columns = baseline.column_names(spec.model, spec.data)
    sums = member.design[member.contribution_weeks].sum(axis=0) * member.scale.kpi
    linear = fitted.draws.coefficients * sums[:, None, None]
    seasonal = [i for i, name in enumerate(columns) if name.startswith(("sin_", "cos_"))]
    components, values = (
        list(panel.channels),
        [fitted.draws.contribution * (member.scale.kpi * member.contribution_weeks.sum())],
    )
    for i, name in enumerate(columns):
        if i not in seasonal:
            components.append("baseline" if name == "intercept" else name)
            values.append(linear[i : i + 1])
        elif i == seasonal[0]:
            components.append("seasonality")
            values.append(linear[seasonal].sum(axis=0, keepdims=True))
    found = _statistics(np.concatenate(values), SHORT_QUANTILES)
    total = float(np.sum(member.unit.kpi[member.fitted]))
    return {
        "component": np.array(components, object),
        **found,
        "share": found["mean"] / total if total else np.full(len(components), np.nan),
    }


def _roi(fitted: Finished, structure: Structure, panel: Panel) -> dict[str, np.ndarray]:
    """Incremental value per unit of spend over the weeks that are told; empty where nothing was spent."""
    member = fitted.job.member
    weeks = member.contribution_weeks
    spend = np.nansum(member.unit.spend[weeks], axis=0)
    value = member.unit.value_per_kpi
    paid = np.flatnonzero(spend > 0)
    if not len(paid) or not np.all(np.isfinite(value[weeks])):
        return {}
    scale = member.scale.kpi * weeks.sum()
    draws = fitted.draws.contribution
    per_kpi: Any = value[weeks].mean()
    if not np.all(value[weeks] == value[weeks][0]):
        padded = np.zeros(structure.weeks)
        padded[: len(value)] = np.where(weeks, value, 0.0)
        shape = np.asarray(fitted.draws.shape)
        flat = shape.reshape(*shape.shape[:2], draws[0].size)
        weighted = worth(
            structure, fitted.batch, np.int32(fitted.place), _cast(padded, structure), _cast(flat, structure)
        )
        per_kpi = np.asarray(weighted, float).reshape(draws.shape)
    roi = (draws * per_kpi)[paid] * scale / spend[paid, None, None]

    laws = member.laws
    shape = np.array([[prior_sample(law, i, c) for c, law in enumerate(row)] for i, row in enumerate(laws[:-1])])
    effect = np.array([prior_sample(law, len(laws), c) for c, law in enumerate(laws[-1])])
    shape = shape.reshape(len(laws) - 1, len(panel.channels), DRAWS)
    place = np.int32(fitted.place)
    before = prior_contribution(structure, fitted.batch, place, _cast(shape, structure), _cast(effect, structure))
    prior = np.asarray(before, float)[paid] * value[weeks].mean() * scale / spend[paid, None]
    return {
        "channel": np.array([panel.channels[c] for c in paid], object),
        **_statistics(roi, SHORT_QUANTILES),
        "spend": spend[paid],
        "prior_mean": prior.mean(axis=1),
        "prior_sd": prior.std(axis=1),
    }


def _curves(fitted: Finished, sample: Sample, structure: Structure, panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """Weekly response at steady spend, from nothing to half again the highest week; media where nothing is paid."""
    member = fitted.job.member
    grid = np.linspace(0.0, 1.5, spec.output.curve_points)
    curves = (
        np.asarray(steady_response(structure, grid, np.asarray(sample.shape, float), np.asarray(sample.effect, float)))
        * member.scale.kpi
    )
    known = member.unit.observed
    paid, delivered = member.unit.spend[known].sum(axis=0), member.unit.media[known].sum(axis=0)
    priced = np.isfinite(paid) & (paid > 0) & (delivered > 0)
    price = np.where(priced, paid, 1.0) / np.where(priced, delivered, 1.0)
    found = _statistics(np.moveaxis(curves, 1, 0).reshape(-1, curves.shape[-1]), SHORT_QUANTILES)
    return {
        "channel": np.repeat(np.array(panel.channels, object), len(grid)),
        "spend": np.ravel(np.outer(member.scale.media * price, grid)),
        **found,
    }


def _draws(
    fitted: Finished, natural: dict[str, np.ndarray], panel: Panel, spec: Spec
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Draws as [chain, draw, ...], thinned as the output asks."""
    values = {name: np.moveaxis(np.asarray(drawn), (-1, -2), (0, 1)) for name, drawn in natural.items()}
    values["lp"] = np.moveaxis(np.asarray(fitted.draws.value), -1, 0)
    if spec.output.draws == "thin":
        values = thin_draws(values, spec.output.thin)
    values = {name: np.ascontiguousarray(drawn, np.float32) for name, drawn in values.items()}
    dims = {name: ("channel",) for name in (*spec.model.channel_parameters, "contribution")}
    dims["coefficients"] = ("column",)
    coords = {"channel": panel.channels, "column": baseline.column_names(spec.model, spec.data)}
    return values, dims, coords


def _statistics(values: np.ndarray, quantiles: tuple[str, ...] = tuple(QUANTILES)) -> dict[str, np.ndarray]:
    """Of each row over all its draws, those of every chain."""
    return statistics(np.asarray(values).reshape(len(values), -1), quantiles, exact=True)


def _names(member: PreparedUnit, panel: Panel) -> dict[str, str]:
    return dict(zip(panel.keys, member.unit.labels, strict=True))


def _cast(values: Any, structure: Structure) -> np.ndarray:
    return np.asarray(values, structure.dtype)
