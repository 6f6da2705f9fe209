"""Reference: one unit's media mix model in plain numpyro, written as its formulas.

Nothing in a fit runs it. It says what `log_density` computes, for whoever wants to read, simulate or check the model:

    series, priors = unit_arguments(unit, panel, spec)
    MCMC(NUTS(media_mix), num_warmup=1000, num_samples=1000).run(key, series, priors, spec.model)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float

from mixfleet.config import Model, Spec
from mixfleet.config.model import MediaForm
from mixfleet.config.priors import OBSERVATION_PARAMETERS, Distribution
from mixfleet.data import scaling
from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.panel import Panel, Unit
from mixfleet.models import baseline

__all__ = [
    "ADSTOCKS",
    "OBSERVATIONS",
    "PRIORS",
    "SATURATIONS",
    "LiftTest",
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
    tests: tuple["LiftTest", ...] = ()
    channels: tuple[str, ...] = ()
    """Names; not wanted where the model says nothing of a channel by name."""


@dataclass(frozen=True, kw_only=True)
class LiftTest:
    """A test on the model's scale: the unit's whole media as they were with it and without, and a window more."""

    test: Float[np.ndarray, "longer channel"]
    control: Float[np.ndarray, "longer channel"]
    worth: Float[np.ndarray, " longer"]
    estimate: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class Priors:
    """One unit's priors."""

    channel: Mapping[str, Sequence[Distribution]]
    """By parameter of the curves, the prior of each channel; by measure, that of each channel whose prior is on it."""
    measured: Mapping[str, Sequence[int]]
    """By measure of strength (`config.measures`), the channels whose prior is on it."""
    one: Float[np.ndarray, " channel"]
    """Mean contribution over the fitted weeks, on the model's scale, at which the channel's measure is one."""
    changes: Mapping[int, tuple[Float[np.ndarray, " week"], Float[np.ndarray, " week"]]]
    """By channel whose prior is on a change of its media: the media with it, and what each week's change counts for."""
    observation: Mapping[str, Distribution]
    """By parameter of the observation, `noise` first."""
    coefficient_mean: Float[np.ndarray, " column"]
    coefficient_sd: Float[np.ndarray, " column"]
    total: tuple[float, float, float] | None = None
    """Mean and standard deviation of what is believed of all media's share, and the mean KPI that it is of."""
    sampled: Mapping[int, baseline.ColumnLaw] = field(default_factory=dict)
    """By column, the law of a coefficient that is not normal or has a known sign."""
    scales: Mapping[str, tuple[Distribution, Sequence[int]]] = field(default_factory=dict)
    """By standard deviation of coefficients that is learned, its prior and the columns."""


def media_mix(series: Series, priors: Priors, model: Model) -> None:
    """The model: kpi = sum over channels of effect * response + design @ coefficients + noise.

    Samples `noise`, `coefficients` with normal priors and `coefficient_<column>` with others, the former's standard
    deviations where they are learned, the parameters of the curves (one value per channel) and each measure of strength
    that priors are on (one value per channel that has it); also records `effect`, `media`, the channels' joint
    contribution by week, and `mean_contribution`, each channel's mean over the fitted weeks.
    """
    media, observation = media_and_observation(series, priors, model)
    coefficients = _coefficients(priors)
    expected = media + jnp.asarray(series.design) @ coefficients
    seen = series.kpi[series.fitted]
    around = _around(expected[series.fitted], observation, np.flatnonzero(series.fitted), model)
    numpyro.sample("kpi", around, obs=jnp.asarray(seen))


def _around(
    expected: Float[Array, " week"], parameters: Mapping[str, Array], weeks: np.ndarray, model: Model
) -> dist.Distribution:
    """The joint law of the weeks' KPI."""
    if model.observation != "ar1":
        return OBSERVATIONS[model.observation](expected, parameters).to_event(1)
    apart = np.abs(weeks[:, None] - weeks)
    covariance = parameters["noise"] ** 2 * parameters["autocorrelation"] ** apart
    return dist.MultivariateNormal(expected, covariance)


def _coefficients(priors: Priors) -> Float[Array, " column"]:
    """Of all columns: those whose priors are normal as one vector, each of the others as a site of its own."""
    rest = np.array([k for k in range(len(priors.coefficient_sd)) if k not in priors.sampled], int)
    sd = jnp.asarray(priors.coefficient_sd)
    for name, (prior, columns) in priors.scales.items():
        scale = jnp.asarray(numpyro.sample(name, _numpyro_prior([prior]).to_event(1)))
        sd = sd.at[np.array(columns)].set(scale[0])
    normal = dist.Normal(jnp.asarray(priors.coefficient_mean[rest]), sd[rest])
    own = jnp.asarray(numpyro.sample("coefficients", normal.to_event(1)))
    found = jnp.zeros(len(priors.coefficient_sd), own.dtype).at[rest].set(own)
    for column, law in priors.sampled.items():
        value = numpyro.sample(f"coefficient_{column}", _cut(_numpyro_prior([law.prior]), law.sign).to_event(1))
        found = found.at[column].set(jnp.asarray(value)[0])
    return found


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
    measured = scaling.measure(unit, fitted, holdout, treatments=spec.data.treatments, model=model)
    controls = measured.scaled_controls(unit)
    names = dict(zip(panel.keys, unit.labels, strict=True))
    mean, sd = baseline.column_priors(model, spec.data, spec.prior, names)
    laws = baseline.column_laws(model, spec.data, spec.prior, names)
    series = Series(
        media=measured.scaled_media(unit),
        kpi=measured.scaled_kpi(unit),
        fitted=fitted,
        design=baseline.design(unit.dates, controls, model=model, fitted_weeks=measured.trend_weeks, unit=names),
        tests=tuple(_lift_test(test, unit, measured, model) for test in unit.experiments),
        channels=panel.channels,
    )
    on, one = _measures(unit, panel, spec, measured, fitted)
    changes = _changes(unit, panel, spec, measured, fitted)
    having = {name: range(len(panel.channels)) for name in model.channel_parameters[:-1]} | dict(on)
    priors = Priors(
        channel={
            name: [spec.prior.distribution(name, unit=names, channel=panel.channels[c]) for c in places]
            for name, places in having.items()
        },
        measured=on,
        one=one,
        changes=changes,
        observation={
            name: spec.prior.distribution(name, unit=names) for name in OBSERVATION_PARAMETERS[model.observation]
        },
        coefficient_mean=mean,
        coefficient_sd=sd,
        total=_total(unit, spec, measured, fitted),
        sampled={k: law for k, law in enumerate(laws) if law.sampled},
        scales={
            name: (spec.prior.distribution(name, unit=names), places)
            for name, places in baseline.learned_scales(model, spec.data)
        },
    )
    return series, priors


def _total(
    unit: Unit, spec: Spec, measured: scaling.Scale, fitted: Bool[np.ndarray, " week"]
) -> tuple[float, float, float] | None:
    """What is believed of all media's share, and the mean of the KPI that it is of, on the model's scale."""
    if spec.prior.total_share is None:
        return None
    whole = float(np.abs(unit.kpi[fitted]).mean()) if unit.kpi_scale is None else 0.5 * unit.kpi_scale
    whole = 1.0 if spec.model.link == "log" else whole
    return spec.prior.total_share.mean, spec.prior.total_share.sd, whole / measured.kpi


def _cut(law: dist.Distribution, sign: int) -> dist.Distribution:
    """The distribution above or below zero."""
    if sign == 0:
        return law
    low, high = (0.0, None) if sign > 0 else (None, 0.0)
    return dist.TruncatedDistribution(law, low=low, high=high)  # pyright: ignore[reportArgumentType]


def _lift_test(test: Experiment, unit: Unit, scale: scaling.Scale, model: Model) -> LiftTest:
    """A test over the unit's whole history; one of a steady level over that level's."""
    real = np.zeros((0, unit.media.shape[1])) if not test.start else unit.media
    begin = 0 if not test.start else int(np.searchsorted(unit.dates, np.datetime64(test.start), side="right")) - 1
    longer = np.concatenate([real, np.zeros((len(test.worth) + model.window, unit.media.shape[1]))])
    # Behind as many weeks without media as a path has before its first lift.
    longer = np.concatenate([np.zeros((model.window - 1, longer.shape[1])), longer])
    own = slice(begin, begin + len(test.worth))
    paths = []
    for path in (test.test, test.control):
        whole = longer.copy()
        whole[own, list(test.places)] = path
        paths.append(whole / scale.media)
    worth = np.zeros(len(longer))
    worth[own] = test.worth
    estimate, sd = test.own_estimate / scale.kpi, test.own_sd / scale.kpi
    return LiftTest(test=paths[0], control=paths[1], worth=worth, estimate=estimate, sd=sd)


def media_and_observation(
    series: Series, priors: Priors, model: Model
) -> tuple[Float[Array, " week"], dict[str, Float[Array, ""]]]:
    """What media bring by week, and the observation's parameters: all that the model samples but the baseline."""
    parameters = {name: _channel_parameter(name, series, priors, model) for name in priors.channel}
    observation = {
        name: jnp.asarray(numpyro.sample(name, _numpyro_prior([prior]).to_event(1)))[0]
        for name, prior in priors.observation.items()
    }
    response = saturated_adstock(jnp.asarray(series.media), parameters, model, series.channels)
    mean = measured_response(series, priors, parameters, model)
    effect = _effects(parameters, mean, priors)
    if "effect" not in parameters:
        numpyro.deterministic("effect", effect)
    by_channel = response * effect[None]
    for number, test in enumerate(series.tests):
        with_it, without = (
            saturated_adstock(jnp.asarray(path), parameters, model, series.channels) @ effect
            for path in (test.test, test.control)
        )
        lift = jnp.sum(jnp.asarray(test.worth) * (with_it - without))
        numpyro.sample(f"lift_{number}", dist.Normal(lift, test.sd), obs=jnp.asarray(test.estimate))
    brought = by_channel[series.fitted].mean(axis=0)
    if priors.total is not None:
        mean, sd, whole = priors.total
        numpyro.sample("total_share", dist.Normal(jnp.sum(brought) / whole, sd), obs=jnp.asarray(mean))
    numpyro.deterministic("mean_contribution", brought)
    return jnp.asarray(numpyro.deterministic("media", by_channel.sum(axis=1))), observation


def _measures(
    unit: Unit, panel: Panel, spec: Spec, measured: scaling.Scale, fitted: Bool[np.ndarray, " week"]
) -> tuple[dict[str, list[int]], Float[np.ndarray, " channel"]]:
    """Channels by what their prior is on, and the mean contribution at which each measure is one."""
    spend, paid = np.nansum(unit.spend[fitted], axis=0), np.nansum(unit.spend[_days(unit, spec, fitted)], axis=0)
    weeks, worth = fitted.sum(), unit.value_per_kpi[fitted].mean()
    kpi = np.abs(unit.kpi[fitted]).sum() if unit.kpi_scale is None else 0.5 * unit.kpi_scale * weeks
    if spec.model.link == "log":
        # A share is then what is added to the logarithm of a mean week.
        kpi = 1.0 * weeks
    ran = (unit.media != 0).any(axis=0)
    free = ran & (spend == 0)
    on: dict[str, list[int]] = {}
    one = np.ones(len(panel.channels))
    for c, channel in enumerate(panel.channels):
        measure = spec.prior.on.measure(channel, spend=bool(paid[c] > 0 or not ran[c]))
        on.setdefault(measure, []).append(c)
        if not ran[c]:
            one[c] = weeks * measured.kpi
        elif _of_change(measure, spec):
            one[c] = weeks * measured.kpi
        elif measure == "media_share":
            each = 1 / (free.sum() + (spend > 0).sum())
            share = spend[c] / spend.sum() * (1 - free.sum() * each) if spend[c] > 0 else each
            one[c] = kpi * share
        elif measure != "effect":
            one[c] = {"contribution": kpi, "roi": spend[c] / worth, "cost_per_kpi": spend[c]}[measure]
    # From KPI of all fitted weeks to a week's on the model's scale.
    return on, one / weeks / measured.kpi


def measured_response(
    series: Series, priors: Priors, parameters: Mapping[str, Float[Array, " channel"]], model: Model
) -> Float[Array, " channel"]:
    """The response that each channel's measure is proportional to: its mean, or what a change of its media brings."""
    response = saturated_adstock(jnp.asarray(series.media), parameters, model, series.channels)
    found = response[series.fitted].mean(axis=0)
    for c, (path, worth) in priors.changes.items():
        other = saturated_adstock(jnp.asarray(series.media).at[:, c].set(path), parameters, model, series.channels)
        found = found.at[c].set(jnp.sum(jnp.asarray(worth) * (other - response)[:, c]))
    return found


def _days(unit: Unit, spec: Spec, fitted: Bool[np.ndarray, " week"]) -> Bool[np.ndarray, " week"]:
    """Fitted weeks whose media returns and costs are about."""
    days = fitted.copy()
    for day, keeps in ((spec.prior.on.start, np.greater_equal), (spec.prior.on.end, np.less_equal)):
        if day is not None:
            days &= keeps(unit.dates, np.datetime64(day))
    return days


def _of_change(measure: str, spec: Spec) -> bool:
    return measure == "mroi" or (spec.prior.on.dated and measure in ("roi", "cost_per_kpi"))


def _changes(
    unit: Unit, panel: Panel, spec: Spec, measured: scaling.Scale, fitted: Bool[np.ndarray, " week"]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The media of the channels whose prior is on a change, with it, and what a week's response to it counts for.

    That is in KPI or money per spend: the measure is the effect times the sum over the weeks.
    """
    found, days, media = {}, _days(unit, spec, fitted), measured.scaled_media(unit)
    for c, channel in enumerate(panel.channels):
        spend = np.nansum(unit.spend[days, c])
        measure = spec.prior.on.measure(channel, spend=bool(spend > 0))
        if media[:, c].any() and _of_change(measure, spec):
            more = 0.01 if measure == "mroi" else -1.0
            worth = np.where(fitted, 1.0 if measure == "cost_per_kpi" else unit.value_per_kpi, 0.0)
            found[c] = media[:, c] * (1 + more * days), worth * measured.kpi / (more * spend)
    return found


def _effects(
    parameters: Mapping[str, Array], mean_response: Float[Array, " channel"], priors: Priors
) -> Float[Array, " channel"]:
    """Each channel's effect, from what its prior is on; the mean response of an absent channel counts as one."""
    mean = jnp.where(mean_response > 0, mean_response, 1.0)
    effect = jnp.zeros(len(priors.one), mean.dtype)
    for measure, places in priors.measured.items():
        value, own = parameters[measure], np.array(places)
        contribution = (1 / value if measure == "cost_per_kpi" else value) * priors.one[own]
        effect = effect.at[own].set(value if measure == "effect" else contribution / mean[own])
    return effect


def _channel_parameter(name: str, series: Series, priors: Priors, model: Model) -> Float[Array, " channel"]:
    """Samples a parameter of the channels that have it; of the others it is one, of no meaning."""
    count = len(priors.channel[name])
    curve = name in model.channel_parameters[:-1]
    own = [c for c in range(count) if not (curve and model.channels) or model.has(name, series.channels[c])]
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
    if form.window_convention == "pymc_marketing" and form.adstock == "weibull_pdf":
        span = weights.max(axis=0) - weights.min(axis=0)
        alone = (jnp.arange(form.window) == 0)[:, None]
        weights = jnp.where(span > 0, (weights - weights.min(axis=0)) / jnp.where(span > 0, span, 1.0), alone)
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
            ends = form.window + (form.window_convention == "pymc_marketing")
            return (1 - lag / ends) ** (1 / here["decay"] - 1)
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
    # Powers have no derivative at zero, and close to it second ones are no numbers; there the curves are zero.
    seen = size > jnp.sqrt(jnp.finfo(size.dtype).tiny)
    positive = jnp.where(seen, size, 1.0)
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
            curve = SATURATIONS[other](positive, here)
    return jnp.where(seen, jnp.sign(media) * curve, 0.0)


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
    "laplace": lambda h: dist.Laplace(h["mean"], h["scale"]),
    "student_t": lambda h: dist.StudentT(h["df"], h["mean"], h["scale"]),
    "half_normal": lambda h: dist.HalfNormal(h["sd"]),
    "half_student_t": lambda h: dist.LeftTruncatedDistribution(dist.StudentT(h["df"], 0.0, h["scale"]), low=0.0),
    "lognormal": lambda h: dist.LogNormal(h["mean_log"], h["sd_log"]),
    "shifted_lognormal": lambda h: dist.TransformedDistribution(
        dist.LogNormal(h["mean_log"], h["sd_log"]), dist.transforms.AffineTransform(h["shift"], 1.0)
    ),
    "gamma": lambda h: dist.Gamma(h["shape"], h["rate"]),
    "inverse_gamma": lambda h: dist.InverseGamma(h["shape"], h["scale"]),
    "exponential": lambda h: dist.Exponential(h["rate"]),
    "beta": lambda h: dist.Beta(h["a"], h["b"]),
    "uniform": lambda h: dist.Uniform(h["low"], h["high"]),
    "truncated_normal": _truncated_normal,
}
"""numpyro's form of each family of priors; one that is registered elsewhere may be added."""
