"""Log densities at kept draws: what a unit's prior says of each parameter, and the likelihood of each week.

Draws come in the table's units, as they are kept. Densities are of the parameters that have priors: of a channel's
strength that of the measure its prior is on, of the baseline that of its scaled columns.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Model, Spec
from mixfleet.config.priors import Distribution
from mixfleet.data.panel import Panel, Unit
from mixfleet.data.scaling import MEDIA_POWERS, Scale
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import MediaTerm, media_term
from mixfleet.models.observation import OBSERVATIONS, SampledObservation, carried_shares, is_autocorrelated
from mixfleet.models.priors.distributions import normal_log_density
from mixfleet.models.priors.families import FAMILIES
from mixfleet.posterior.prior_draws import mean_responses, strength_response
from mixfleet.posterior.unit_series import UnitSeries

__all__ = [
    "Draws",
    "log_likelihood",
    "log_measures",
    "log_prior",
    "log_prior_of",
    "scaled_coefficients",
    "scaled_shapes",
]

Draws = Mapping[str, Float[np.ndarray, "draw ..."]]
"""By variable, in the table's units."""


def log_prior(member: PreparedUnit, draws: Draws, panel: Panel, spec: Spec) -> dict[str, Float[np.ndarray, "draw ..."]]:
    """Log density of each parameter's prior at draws of an unpooled unit; a prior that is fixed has none.

    Args:
        member: The unit.
        draws: Of every parameter.
        panel: Names of keys and channels.
        spec: Its priors.

    Returns:
        By variable, in the shape of its draws; under `effect` of what the strengths' priors are on.
    """
    names = dict(zip(panel.keys, member.unit.labels, strict=True))
    term, scale, strength = media_term(spec.model, panel.channels), member.scale, member.strength
    shape = scaled_shapes(draws, scale, spec.model)
    found: dict[str, np.ndarray] = {}
    for name, values, priors in zip(term.parameters, shape, member.priors, strict=True):
        own = [
            log_prior_of(prior, value) if spec.model.has(name, channel) else np.zeros(len(value))
            for channel, prior, value in zip(panel.channels, priors, values, strict=True)
        ]
        if any(np.any(density != 0) for density in own):
            found[name] = np.stack(own, axis=-1)
    measure = np.exp(log_measures(member, draws, shape, term))
    of_measures = map(log_prior_of, strength.distributions, measure)
    found["effect"] = np.stack([*of_measures], axis=-1)
    if belief := spec.prior.total_share:
        with jax.enable_x64(True):
            mean_response = mean_responses(member, shape, term)
        brought = draws["effect"].T / scale.kpi * mean_response * member.arrays["active"][:, None]
        found["total_share"] = normal_log_density(brought.sum(axis=0) / strength.whole, belief.mean, belief.sd)
    for name in spec.model.unit_parameters:
        unit = scale.kpi if spec.model.in_kpi(name) else 1.0
        found[name] = log_prior_of(spec.prior.distribution(name, unit=names), np.asarray(draws[name], float) / unit)
    laws = baseline.column_laws(spec.model, spec.data, spec.prior, names)
    scales = {name: np.asarray(draws[name], float) / scale.kpi for name in spec.model.scale_parameters}
    learned = baseline.by_column(scales, spec.model, spec.data)
    of_columns = zip(laws, scaled_coefficients(draws, scale).T, learned, strict=True)
    found["coefficients"] = np.stack([law.log_prob(values, sd) for law, values, sd in of_columns], axis=-1)
    return found


def log_measures(
    member: PreparedUnit,
    draws: Draws,
    shape: Float[np.ndarray, "parameter channel draw"],
    term: MediaTerm,
    mean: Float[np.ndarray, "channel draw"] | None = None,
) -> Float[np.ndarray, "channel draw"]:
    """Logarithm of what the prior of each channel's strength is on: an effect, a return, a share.

    Args:
        member: The unit.
        draws: Of `effect`.
        shape: Of the curves' parameters, on the model's scale.
        term: Form of each channel's response.
        mean: `mean_responses` of these curves, where they are known.
    """
    with jax.enable_x64(True):
        response = strength_response(member, shape, term, mean)
    a, b, c = member.strength.rows[:, :, None]
    return a * np.log(draws["effect"].T / member.scale.kpi) + b * np.log(response) + c


def log_prior_of(prior: Distribution, values: Float[np.ndarray, " draw"]) -> Float[np.ndarray, " draw"]:
    """Log density of a prior; zero where it is fixed, so that there is nothing to say."""
    if prior.family == "fixed":
        return np.zeros(len(values))
    return _frozen(prior).logpdf(np.asarray(values, float))


@lru_cache(maxsize=1024)
def _frozen(prior: Distribution) -> Any:
    """The prior in scipy, which takes longer to make one than to evaluate it."""
    return FAMILIES[prior.family].frozen(**prior.hyperparameters)


def log_likelihood(
    unit: Unit,
    series: UnitSeries,
    media: Float[np.ndarray, "week draw"],
    weeks: Bool[np.ndarray, " week"],
    model: Model,
) -> Float[np.ndarray, "draw week"]:
    """Log density of the KPI of the chosen weeks, one by one; lift tests are not in it.

    Where noise is autocorrelated it is that of a week given the chosen ones before, so that the sum is that of all.

    Args:
        unit: In the table's units.
        series: Its data and draws.
        media: What all channels together bring, from `counterfactual.weekly`; in log KPI under a log link.
        weeks: The chosen ones, of all of the unit's.
        model: Says what family the KPI has around its expectation.
    """
    count = len(weeks)
    expected = np.einsum("tj,jd->td", series.design[:count], series.coefficients) + media[:count]
    kpi = unit.kpi[weeks, None]
    value = np.log(kpi) if series.log_link else kpi
    family = OBSERVATIONS[model.observation]
    if is_autocorrelated(model):
        found = _given_the_week_before(value - expected[weeks], np.flatnonzero(weeks), *series.observation[:2])
    elif family.marginal:
        found = normal_log_density(value, expected[weeks], series.observation[0])
    else:
        with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
            lanes = jnp.asarray(value), jnp.asarray(expected[weeks]), tuple(map(jnp.asarray, series.observation))
            found = np.asarray(cast("SampledObservation", family).log_prob(*lanes))
    return (found - np.log(kpi) if series.log_link else found).T


def _given_the_week_before(
    error: Float[np.ndarray, "week draw"],
    places: np.ndarray,
    noise: Float[np.ndarray, " draw"],
    correlation: Float[np.ndarray, " draw"],
) -> Float[np.ndarray, "week draw"]:
    share = carried_shares(correlation, places)
    carried = np.concatenate([np.zeros_like(error[:1]), share * error[:-1]])
    sd = noise * np.concatenate([np.ones_like(error[:1]), np.sqrt(1 - share**2)])
    return normal_log_density(error, carried, sd)


def scaled_shapes(draws: Draws, scale: Scale, model: Model) -> Float[np.ndarray, "parameter channel draw"]:
    """Parameters of the curves on the model's scale."""
    names = model.channel_parameters[:-1]
    own = [np.asarray(draws[name], float) / scale.media ** MEDIA_POWERS.get(name, 0) for name in names]
    return np.moveaxis(np.array(own), 1, -1) if own else np.zeros((0, *draws["effect"].T.shape))


def scaled_coefficients(draws: Draws, scale: Scale) -> Float[np.ndarray, "draw column"]:
    """The baseline's coefficients on the model's scale."""
    coefficients = np.array(draws["coefficients"], float)
    coefficients[:, 0] -= scale.kpi_shift
    return np.linalg.solve(scale.column_mixing(coefficients.shape[1]), coefficients.T).T
