"""Reference: one unit's media mix model in plain numpyro, written as its formulas.

Nothing in a fit runs it. It says what `log_density` computes, for whoever wants to read, simulate or check the model:

    series, priors = unit_arguments(unit, panel, spec)
    MCMC(NUTS(media_mix), num_warmup=1000, num_samples=1000).run(key, series, priors, spec.model)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float

from mixfleet.config import Model, Spec
from mixfleet.config.model import MediaForm
from mixfleet.config.priors import OBSERVATION_PARAMETERS, Distribution
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, Unit
from mixfleet.models import baseline

__all__ = [
    "ADSTOCKS",
    "OBSERVATIONS",
    "PRIORS",
    "SATURATIONS",
    "Priors",
    "Series",
    "media_and_observation",
    "media_mix",
    "saturated_adstock",
    "unit_arguments",
]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One unit's data on the model's scale."""

    media: Float[np.ndarray, "week channel"]
    kpi: Float[np.ndarray, " week"]
    fitted: Bool[np.ndarray, " week"]
    """Weeks in the likelihood; media of the others carry over into them."""
    design: Float[np.ndarray, "week column"]
    """Columns of the linear block: intercept, trend, seasonality, controls, treatments."""
    channels: tuple[str, ...] = ()
    """Names; not wanted where the model says nothing of a channel by name."""


@dataclass(frozen=True, kw_only=True)
class Priors:
    """One unit's priors."""

    channel: Mapping[str, Sequence[Distribution]]
    """By channel parameter, the prior of each channel."""
    observation: Mapping[str, Distribution]
    """By parameter of the observation, `noise` first."""
    coefficient_mean: Float[np.ndarray, " column"]
    coefficient_sd: Float[np.ndarray, " column"]


def media_mix(series: Series, priors: Priors, model: Model) -> None:
    """The model: kpi = sum over channels of effect * response + design @ coefficients + noise.

    Samples `noise`, `coefficients` and every name of `model.channel_parameters` (one value per channel); also records
    `media`, the channels' joint contribution by week, and `contribution`, each channel's mean over the fitted weeks.
    """
    media, observation = media_and_observation(series, priors, model)
    coefficients = numpyro.sample(
        "coefficients",
        dist.Normal(jnp.asarray(priors.coefficient_mean), jnp.asarray(priors.coefficient_sd)).to_event(1),
    )
    expected = media + jnp.asarray(series.design) @ coefficients
    seen = series.kpi[series.fitted]
    around = OBSERVATIONS[model.observation](expected[series.fitted], observation)
    numpyro.sample("kpi", around.to_event(1), obs=jnp.asarray(seen))


def saturated_adstock(
    media: Float[Array, "week channel"],
    parameters: Mapping[str, Float[Array, " channel"]],
    model: Model,
    channels: Sequence[str] = (),
) -> Float[Array, "week channel"]:
    """Each channel's response to its media: carry-over and saturation, in the model's order.

    Args:
        media: Scaled.
        parameters: By name, of each channel; of no meaning where a channel has not that one.
        model: What it says of all channels, and of some by name.
        channels: Names of the channels; not wanted where the model says nothing of any by name.
    """
    if not model.channels:
        return _response(media, parameters, model.form())
    found = []
    for c, name in enumerate(channels):
        own, form = slice(c, c + 1), model.form(name)
        found.append(_response(media[:, own], {key: parameters[key][own] for key in form.parameters}, form))
    return jnp.concatenate(found, axis=1)


def _response(media: Array, parameters: Mapping[str, Array], form: MediaForm) -> Float[Array, "week channel"]:
    if form.adstock_first:
        return _saturate(_carry_over(media, parameters, form), parameters, form)
    return _carry_over(_saturate(media, parameters, form), parameters, form)


def unit_arguments(unit: Unit, panel: Panel, spec: Spec) -> tuple[Series, Priors]:
    """A unit of the panel as `media_mix` takes it."""
    model, holdout = spec.model, spec.data.holdout or 0
    fitted = scaling.likelihood_weeks(unit, window=model.window, holdout=holdout)
    measured = scaling.measure(unit, fitted, holdout)
    controls = measured.scaled_controls(unit)
    names = dict(zip(panel.keys, unit.labels, strict=True))
    mean, sd = baseline.column_priors(model, spec.data, spec.prior, names)
    series = Series(
        media=measured.scaled_media(unit),
        kpi=measured.scaled_kpi(unit),
        fitted=fitted,
        design=baseline.design(unit.dates, controls, model=model, fitted_weeks=measured.trend_weeks),
        channels=panel.channels,
    )
    priors = Priors(
        channel={
            name: [spec.prior.distribution(name, unit=names, channel=channel) for channel in panel.channels]
            for name in model.channel_parameters
        },
        observation={
            name: spec.prior.distribution(name, unit=names) for name in OBSERVATION_PARAMETERS[model.observation]
        },
        coefficient_mean=mean,
        coefficient_sd=sd,
    )
    return series, priors


def media_and_observation(
    series: Series, priors: Priors, model: Model
) -> tuple[Float[Array, " week"], dict[str, Float[Array, ""]]]:
    """What media bring by week, and the observation's parameters: all that the model samples but the baseline."""
    parameters = {name: _channel_parameter(name, series, priors, model) for name in model.channel_parameters}
    observation = {
        name: jnp.asarray(numpyro.sample(name, _numpyro_prior([prior]).to_event(1)))[0]
        for name, prior in priors.observation.items()
    }
    by_channel = (
        saturated_adstock(jnp.asarray(series.media), parameters, model, series.channels) * parameters["effect"][None]
    )
    numpyro.deterministic("contribution", by_channel[series.fitted].mean(axis=0))
    return jnp.asarray(numpyro.deterministic("media", by_channel.sum(axis=1))), observation


def _channel_parameter(name: str, series: Series, priors: Priors, model: Model) -> Float[Array, " channel"]:
    """Samples a parameter of the channels that have it; of the others it is one, of no meaning."""
    count = len(priors.channel[name])
    own = [c for c in range(count) if not model.channels or model.has(name, series.channels[c])]
    known = [priors.channel[name][c] for c in own]
    if known[0].family == "fixed":
        values = jnp.array([prior.hyperparameters["value"] for prior in known])
    else:
        values = jnp.asarray(numpyro.sample(name, _numpyro_prior(known).to_event(1)))
    return jnp.ones(count).at[np.array(own)].set(values) if len(own) < count else values


def _carry_over(media: Array, parameters: Mapping[str, Array], form: MediaForm) -> Float[Array, "week channel"]:
    """The sum over lags of weight times media so many weeks before, with nothing before the first week."""
    if form.adstock == "none":
        return media
    weights = _weights(parameters, form)
    if form.normalise:
        weights = weights / weights.sum(axis=0, keepdims=True)
    source = np.arange(len(media))[:, None] - np.arange(form.window)
    lagged = jnp.where((source >= 0)[:, :, None], media[np.maximum(source, 0)], 0.0)
    return jnp.sum(weights[None] * lagged, axis=1)


def _weights(parameters: Mapping[str, Array], form: MediaForm) -> Float[Array, "window channel"]:
    lag = jnp.arange(float(form.window))[:, None]
    here = {name: value[None] for name, value in parameters.items()}
    match form.adstock:
        case "geometric":
            return here["decay"] ** lag
        case "binomial":
            return (1 - lag / form.window) ** (1 / here["decay"] - 1)
        case "delayed":
            return here["decay"] ** ((lag - here["delay"]) ** 2)
    if form.adstock in ADSTOCKS:
        return ADSTOCKS[form.adstock](lag, here)
    shape, span = here["adstock_shape"], here["adstock_scale"]
    if form.adstock == "weibull_pdf":
        age = (lag + 1) / span
        return shape / span * age ** (shape - 1) * jnp.exp(-(age**shape))
    # What survives each of the weeks before.
    hazard = jnp.where(lag > 0, (jnp.maximum(lag, 1) / span) ** shape, 0.0)
    return jnp.exp(-jnp.cumsum(hazard, axis=0))


def _saturate(media: Array, parameters: Mapping[str, Array], form: MediaForm) -> Float[Array, "week channel"]:
    """Diminishing returns; media below zero, such as refunds, saturate as the spend they undo."""
    size = jnp.abs(media)
    # Powers have no derivative at zero; there the curves are zero whatever their parameters.
    positive = jnp.where(size > 0, size, 1.0)
    here = {name: value[None] for name, value in parameters.items()}
    match form.saturation:
        case "logistic":
            curve = (1 - jnp.exp(-here["rate"] * size)) / (1 + jnp.exp(-here["rate"] * size))
        case "hill":
            power = positive ** here["slope"]
            curve = power / (power + here["half_saturation"] ** here["slope"])
        case "tanh":
            curve = jnp.tanh(size / here["scale"])
        case "michaelis_menten":
            curve = size / (here["half_saturation"] + size)
        case "exponential":
            curve = 1 - jnp.exp(-here["rate"] * size)
        case "root":
            curve = positive ** here["exponent"]
        case "log":
            curve = jnp.log1p(here["rate"] * size)
        case "none":
            curve = size
        case other:
            curve = jnp.where(size > 0, SATURATIONS[other](positive, here), 0.0)
    return jnp.sign(media) * curve


def _numpyro_prior(priors: Sequence[Distribution]) -> dist.Distribution:
    """Priors of one family, side by side."""
    return PRIORS[priors[0].family](
        {name: np.array([prior.hyperparameters[name] for prior in priors]) for name in priors[0].hyperparameters}
    )


def _truncated_normal(h: Mapping[str, np.ndarray]) -> dist.Distribution:
    high = None if np.all(np.isinf(h["high"])) else h["high"]
    return dist.TruncatedNormal(h["mean"], h["sd"], low=h["low"], high=high)


ADSTOCKS: dict[str, Callable[[Array, Mapping[str, Array]], Array]] = {}
"""Weight at a lag of adstock families that are registered elsewhere."""

SATURATIONS: dict[str, Callable[[Array, Mapping[str, Array]], Array]] = {}
"""Curve, for media above zero, of saturation families that are registered elsewhere."""

OBSERVATIONS: dict[str, Callable[[Array, Mapping[str, Array]], dist.Distribution]] = {
    "normal": lambda expected, parameters: dist.Normal(expected, parameters["noise"])
}
"""numpyro's form of each observation; one that is registered elsewhere may be added."""

PRIORS: dict[str, Callable[[Mapping[str, np.ndarray]], dist.Distribution]] = {
    "normal": lambda h: dist.Normal(h["mean"], h["sd"]),
    "half_normal": lambda h: dist.HalfNormal(h["sd"]),
    "lognormal": lambda h: dist.LogNormal(h["mean_log"], h["sd_log"]),
    "gamma": lambda h: dist.Gamma(h["shape"], h["rate"]),
    "inverse_gamma": lambda h: dist.InverseGamma(h["shape"], h["scale"]),
    "exponential": lambda h: dist.Exponential(h["rate"]),
    "beta": lambda h: dist.Beta(h["a"], h["b"]),
    "uniform": lambda h: dist.Uniform(h["low"], h["high"]),
    "truncated_normal": _truncated_normal,
}
"""numpyro's form of each family of priors; one that is registered elsewhere may be added."""
