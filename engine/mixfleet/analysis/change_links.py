"""Why a return changed between two runs: its difference as a sum of links, each on the draws of the earlier run.

The earlier run's draws are weighed as draws of one posterior after another, from its own to that of the later run's
settings and data: with the later priors, on the later scales, with the past as it reads now, with the weeks that came.
Then the later run's spend takes the place of the earlier one's, and what is left to the later run's own mean is Monte
Carlo error and what weights cannot tell.

References:
    Vehtari, Simpson, Gelman, Yao, Gabry (2024), Pareto smoothed importance sampling, arXiv:1507.02646.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.config.priors import OBSERVATION_PARAMETERS
from mixfleet.data import scaling
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, Scale
from mixfleet.models import baseline
from mixfleet.posterior.counterfactual import decompose, value_weights
from mixfleet.posterior.importance import effective_draws, pareto_smoothed, tail_allows
from mixfleet.posterior.log_densities import log_likelihood, log_prior_of
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["LINKS", "Link", "UnitLinks", "changes", "why_not"]

LINKS = ("settings", "scale", "past", "new_weeks", "spend", "error")
"""In this order: changed priors; changed scales; weeks of the earlier run that read otherwise now; weeks after them;
the later run's media, spend and prices in place of the earlier's; what is left, Monte Carlo error."""

SAME_SPAN = 1e-6
"""Largest relative misfit at which one unit's baseline columns say what the other run's do."""


class Link(NamedTuple):
    """One link of a unit's changes."""

    difference: Float[np.ndarray, " channel"]
    """NaN for a channel without spend."""
    k: float
    """Shape of the tail of the weights that it rests on."""
    ess: float
    """Effective draws that they leave."""
    reliable: bool


class UnitLinks(NamedTuple):
    """One unit's, by name, all but `error`."""

    labels: tuple[str, ...]
    links: dict[str, Link]


def why_not(before: Fleet, after: Fleet) -> str:
    """Why changes between two runs cannot be split, empty where they can."""
    if before.channels != after.channels or before.columns != after.columns:
        return "the runs have other channels, controls or terms of the baseline"
    if before.spec.model != after.spec.model:
        return "the runs have other models"
    if before.spec.model.observation not in ("normal", "ar1") or before.spec.model.link != "identity":
        return "the KPI is not normal around its expectation"
    for spec in (before.spec, after.spec):
        if spec.pooling.by != "none":
            return "units are pooled, and their prior is their group's"
        if spec.prior.on.possible != ("effect",) or spec.prior.total_share is not None:
            return "priors of channels are not on effects"
    return ""


def changes(before: Fleet, after: Fleet, chosen: frozenset[tuple[str, ...]]) -> Iterator[UnitLinks]:
    """The links of the chosen units, which both runs have fitted; `why_not` is empty.

    Args:
        before: The earlier run's units.
        after: The later run's.
        chosen: Their labels.
    """
    places = {unit.labels: place for place, unit in enumerate(after.units)}
    # The later run's data under the earlier run's draws and scales.
    units = tuple(after.units[places[u.labels]] if u.labels in chosen else u for u in before.units)
    moved = replace(before, units=units, _kept={})
    for (place, own), (_, other) in zip(enumerate(before.series()), enumerate(moved.series()), strict=True):
        unit = before.units[place]
        if unit.labels in chosen:
            with jax.enable_x64(True):
                yield _unit_links(before, after, place, places[unit.labels], own, other)


def _unit_links(before: Fleet, after: Fleet, place: int, later: int, own: UnitSeries, other: UnitSeries) -> UnitLinks:
    unit, changed = before.units[place], after.units[later]
    returns, media = _evaluated(before, own)
    new_returns, new_media = _evaluated(before, other)
    fitted = _fitted(after, changed)
    old = (changed.dates <= unit.dates[-1])[fitted]
    scales = before.scales[place], after.scales[later]
    active = np.any(unit.media != 0, axis=0) & np.any(changed.media != 0, axis=0)
    priors = [
        _log_prior(fleet, changed, other, scales[0], scale, active)
        for fleet, scale in ((before, scales[0]), (after, scales[0]), (after, scales[1]))
    ]
    model = before.spec.model
    was = log_likelihood(unit, own, media, _fitted(before, unit), model)
    # By week, each given those before it, so that what is later says nothing of the past.
    now = log_likelihood(changed, other, new_media, fitted, model)
    steps = {
        "settings": priors[1] - priors[0],
        "scale": priors[2] - priors[1],
        "past": now[:, old].sum(axis=1) - was.sum(axis=1),
        "new_weeks": now[:, ~old].sum(axis=1),
    }
    count, floor = returns.shape[1], before.spec.inference.ess_floor
    ratio, mean, known = np.zeros(count), returns.mean(axis=1), True
    links: dict[str, Link] = {}
    weight, shape = np.full(count, 1 / count), -np.inf
    for name, step in steps.items():
        if not np.all(np.isfinite(step)):
            known = False
        # A constant changes no posterior.
        elif np.ptp(step) > 0:
            ratio = ratio + step
            weight, shape = pareto_smoothed(ratio)
        effective, moved = effective_draws(weight), returns @ weight
        reliable = known and tail_allows(shape, count) and effective >= floor
        links[name] = Link(moved - mean, shape, effective, bool(reliable))
        mean = moved
    links["spend"] = links["new_weeks"]._replace(difference=new_returns @ weight - mean)
    return UnitLinks(unit.labels, links)


def _fitted(fleet: Fleet, unit: Unit) -> Bool[np.ndarray, " week"]:
    spec = fleet.spec
    return scaling.likelihood_weeks(unit, window=spec.model.window, holdout=spec.data.holdout or 0)


def _evaluated(
    fleet: Fleet, series: UnitSeries
) -> tuple[Float[np.ndarray, "channel draw"], Float[np.ndarray, "week draw"]]:
    """Return of each channel on what was spent, and what media bring in each of the unit's weeks."""
    weights, price = value_weights(series.counted, series.value)
    sums, media, _ = decompose(series.media, weights, series.curves, term=fleet.term)
    spend = np.nansum(np.where(series.counted[:, None], series.spend, 0.0), axis=0)
    return sums[-1] * price / np.where(spend > 0, spend, np.nan)[:, None], media


def _log_prior(
    fleet: Fleet, unit: Unit, series: UnitSeries, own: Scale, scale: Scale, active: Bool[np.ndarray, " channel"]
) -> Float[np.ndarray, " draw"]:
    """Log density, up to a constant, of a unit's prior at draws that were made on the scale `own`, told on `scale`.

    It is of the parameters in the table's units, which both scales have in common. Channels that the unit lacks in one
    of the runs are left out: their parameters follow their priors. NaN where the baseline is none of `scale`'s.

    Args:
        fleet: Whose priors.
        unit: Its weeks are those of `series`.
        series: The draws, and the columns of the baseline, on `own`.
        own: See above.
        scale: See above.
        active: Channels that count.
    """
    spec, labels = fleet.spec, dict(zip(fleet.keys, unit.labels, strict=True))
    total = np.zeros(series.effect.shape[1])
    for c in np.flatnonzero(active):
        channel = fleet.channels[c]
        for i, name in enumerate(spec.model.channel_parameters[:-1]):
            if spec.model.has(name, channel):
                value = series.shape[i, c] * (own.media[c] / scale.media[c]) ** MEDIA_POWERS.get(name, 0)
                total += log_prior_of(spec.prior.distribution(name, unit=labels, channel=channel), value)
        effect = spec.prior.distribution("effect", unit=labels, channel=channel)
        total += log_prior_of(effect, series.effect[c] / scale.kpi)
    for name, values in zip(OBSERVATION_PARAMETERS[spec.model.observation], series.observation, strict=False):
        in_kpi = scale.kpi if spec.model.in_kpi(name) else 1.0
        total += log_prior_of(spec.prior.distribution(name, unit=labels), values / in_kpi)
    coefficients = _on_scale(fleet, unit, series, scale)
    varies = np.ones(len(coefficients), bool)
    varies[len(varies) - len(scale.control_varies) :] = scale.control_varies
    laws = baseline.column_laws(spec.model, spec.data, spec.prior, labels)
    return total + sum(law.log_prob(coefficients[k]) for k, law in enumerate(laws) if varies[k])


def _on_scale(fleet: Fleet, unit: Unit, series: UnitSeries, scale: Scale) -> Float[np.ndarray, "column draw"]:
    """The baseline's coefficients as `scale` has them: its trend runs over its own weeks, its controls from its means.

    NaN where its columns cannot say what those of `series` do.
    """
    labels, linear = dict(zip(fleet.keys, unit.labels, strict=True)), len(scale.control_mean)
    design = baseline.design(
        unit.dates,
        unit.controls - scale.control_mean,
        model=fleet.spec.model,
        fitted_weeks=scale.trend_weeks,
        unit=labels,
    )[unit.observed]
    level = series.design[: len(unit.dates)][unit.observed] @ series.coefficients
    found, *_ = np.linalg.lstsq(design, level, rcond=None)
    if np.abs(design @ found - level).max() > SAME_SPAN * np.abs(level).max():
        return np.full(found.shape, np.nan)
    found[0] -= scale.kpi_shift
    found[len(found) - linear :] *= scale.control_sd[:, None]
    return found / scale.kpi
