"""Truth: the parameters behind one simulated unit, and what they make of its media, in plain float64 numpy.

Written from the formulas and independent of the model and its kernels, so that each can be checked against
the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from mixfleet import config
from mixfleet.config.model import MediaForm
from mixfleet.config.priors import PARAMETERS, Distribution, TotalShare
from mixfleet.models.priors.moments import coordinate_moments, pooled_strength

MEDIA_SHARE = 0.27
"""Share of sales that media bring in units with fixed truth."""

_FIXED_CURVES: dict[str, tuple[float, ...]] = {
    "decay": (0.6, 0.2, 0.35, 0.3, 0.45, 0.5, 0.55, 0.25),
    "delay": (1.0, 0.0, 0.5, 0.5, 1.0, 1.5, 1.0, 0.0),
    "adstock_shape": (1.5, 1.0, 1.2, 1.2, 1.5, 2.0, 1.8, 1.0),
    "adstock_scale": (2.5, 0.8, 1.2, 1.2, 1.8, 2.5, 2.5, 0.8),
    "rate": (2.0, 3.0, 2.5, 1.5, 2.5, 2.0, 1.5, 3.0),
    "slope": (1.5, 1.0, 1.2, 1.0, 1.3, 1.5, 1.5, 1.0),
    "half_saturation": (0.6, 0.4, 0.5, 0.5, 0.4, 0.6, 0.7, 0.4),
    "scale": (0.7, 0.5, 0.6, 0.6, 0.5, 0.7, 0.8, 0.5),
    "exponent": (0.6, 0.5, 0.6, 0.7, 0.6, 0.5, 0.6, 0.5),
}
_FIXED_WEIGHTS = (0.30, 0.20, 0.12, 0.08, 0.08, 0.06, 0.06, 0.10)
_FIXED_LINEAR = {"intercept": 0.6, "trend": 0.1, "seasonality": 0.03, "control": 0.015, "treatment": 0.015}
_FIXED_NOISE = 0.03
_FIXED_AUTOCORRELATION = 0.6


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The true parameters of one unit, on the model's scale."""

    channel: Mapping[str, Float[np.ndarray, " channel"]]
    """By parameter name: adstock's, saturation's, `effect`."""
    linear: Float[np.ndarray, " column"]
    """Coefficients of the linear columns."""
    noise: float
    autocorrelation: float = 0.0
    """Of one week's noise with the next one's; zero but for `model.observation=ar1`."""
    scales: Mapping[str, float] = field(default_factory=dict)
    """Standard deviations of the baseline's coefficients that the model learns."""


def draw(distribution: Distribution, rng: np.random.Generator) -> float:
    """One value from a prior distribution."""
    values = distribution.values
    if distribution.family == "truncated_normal":
        mean, sd, low, high = values
        normal = NormalDist()
        below, above = normal.cdf((low - mean) / sd), normal.cdf((high - mean) / sd)
        place = below + (above - below) * float(rng.uniform(1e-12, 1 - 1e-12))
        return min(max(mean + sd * normal.inv_cdf(place), low), high)
    families = {
        "normal": lambda: rng.normal(values[0], values[1]),
        "laplace": lambda: rng.laplace(values[0], values[1]),
        "student_t": lambda: values[1] + values[2] * rng.standard_t(values[0]),
        "half_normal": lambda: abs(rng.normal(0.0, values[0])),
        "half_student_t": lambda: values[1] * abs(rng.standard_t(values[0])),
        "lognormal": lambda: rng.lognormal(values[0], values[1]),
        "shifted_lognormal": lambda: values[0] + rng.lognormal(values[1], values[2]),
        "gamma": lambda: rng.gamma(values[0], 1.0 / values[1]),
        "inverse_gamma": lambda: values[1] / rng.gamma(values[0], 1.0),
        "exponential": lambda: rng.exponential(1.0 / values[0]),
        "beta": lambda: rng.beta(values[0], values[1]),
        "uniform": lambda: rng.uniform(values[0], values[1]),
        "fixed": lambda: values[0],
    }
    return float(families[distribution.family]())


def draw_truth(
    rng: np.random.Generator,
    *,
    prior: config.Prior,
    model: config.Model,
    unit: Mapping[str, str],
    channels: tuple[str, ...],
    kinds: tuple[str, ...],
    signs: tuple[str | None, ...],
) -> Truth:
    """Every parameter drawn from its prior distribution for this unit.

    `kinds` and `signs` are those of the linear columns. In place of effects stands what their priors are on: see
    `with_effects`.
    """

    def value(name: str, medium: str) -> float:
        return draw(prior.distribution(prior_of(name, medium, prior), unit=unit, channel=medium), rng)

    channel = {name: np.array([value(name, medium) for medium in channels]) for name in model.channel_parameters}
    scales = {name: draw(prior.distribution(name, unit=unit), rng) for name in model.scale_parameters}
    priors = [_given(prior.distribution(kind, unit=unit), scales.get(f"{kind}_scale")) for kind in kinds]
    linear = np.array([_signed(own, sign, rng) for own, sign in zip(priors, signs, strict=True)])
    noise = draw(prior.distribution("noise", unit=unit), rng)
    lasts = draw(prior.distribution("autocorrelation", unit=unit), rng) if model.observation == "ar1" else 0.0
    return Truth(channel=channel, linear=linear, noise=noise, autocorrelation=lasts, scales=scales)


def _given(distribution: Distribution, scale: float | None) -> Distribution:
    """The prior of a coefficient at its standard deviation."""
    return distribution if scale is None else distribution.changed({"sd": scale})


def _signed(distribution: Distribution, sign: str | None, rng: np.random.Generator) -> float:
    """A coefficient: what of a prior's draws has the sign that is known of it."""
    value = draw(distribution, rng)
    while sign is not None and (value > 0) != (sign == "positive"):
        value = draw(distribution, rng)
    return value


def prior_of(parameter: str, channel: str, prior: config.Prior) -> str:
    """The name of a channel's prior: of its effect the measure that it is on. All simulated channels are paid."""
    return prior.on.measure(channel, spend=True) if parameter == "effect" else parameter


def with_effects(
    truth: Truth,
    measures: Sequence[str],
    *,
    media: Float[np.ndarray, "week channel"],
    spend: Float[np.ndarray, " channel"],
    kpi_scale: float,
    model: config.Model,
    channels: Sequence[str],
) -> Truth:
    """The truth with effects in place of what their priors are on.

    Args:
        truth: With these measures in place of effects.
        measures: Of each channel, one of `config.measures.MEASURES`.
        media: Scaled media, a column of zeros for an absent channel, of which the effect itself is taken for drawn.
        spend: Of all weeks.
        kpi_scale: KPI on the table's scale that is one on the model's. Prescribed as it is, half of it counts as mean;
            under a log link shares are of the logarithm, and so their own.
        model: Its curves.
        channels: Names of the media.
    """
    response = saturated_adstock(media, truth.channel, model, channels).mean(axis=0)
    more = saturated_adstock(1.01 * media, truth.channel, model, channels).mean(axis=0)
    effect = truth.channel["effect"].copy()
    mean_spend = spend / len(media) / kpi_scale
    whole = 1.0 if model.link == "log" else 0.5
    for c in np.flatnonzero(response > 0).tolist():
        brought = {
            "effect": effect[c] * response[c],
            "contribution": whole * effect[c],
            "media_share": whole * effect[c] * spend[c] / spend.sum(),
            "roi": effect[c] * mean_spend[c],
            "mroi": effect[c] * 0.01 * mean_spend[c] * response[c] / (more[c] - response[c]),
            "cost_per_kpi": mean_spend[c] / effect[c],
        }[measures[c]]
        effect[c] = brought / response[c]
    return replace(truth, channel={**truth.channel, "effect": effect})


def believed(
    truth: Truth,
    media: Float[np.ndarray, "week channel"],
    belief: TotalShare | None,
    rng: np.random.Generator,
    *,
    model: config.Model,
    channels: Sequence[str],
) -> bool:
    """Whether a truth is kept: as often as what is believed of all media's share of the KPI has it, if anything is.

    The KPI is prescribed and half of its scale counts as its mean, as in `with_effects`.
    """
    if belief is None:
        return True
    response = saturated_adstock(media, truth.channel, model, channels).mean(axis=0)
    whole = 1.0 if model.link == "log" else 0.5
    away = (float(truth.channel["effect"] @ response) / whole - belief.mean) / belief.sd
    return float(rng.uniform()) < math.exp(-0.5 * away**2)


@dataclass(frozen=True, kw_only=True)
class PooledTruth:
    """True hyperparameters of one group's pooled parameters, on the unconstrained scale.

    By parameter, each over the channels; those of the linear columns last, by parameter and each over its columns.
    """

    centre: Mapping[str, Float[np.ndarray, " channel"]]
    spread: Mapping[str, Float[np.ndarray, "part channel"]]
    """Of the units, then of each key."""
    used: Mapping[str, Float[np.ndarray, " part"]]
    """One for the units, and for each key whose labels have effects on the parameter."""
    around: Mapping[str, Float[np.ndarray, "2 channel"]]
    """Mean and standard deviation of the distribution that each centre was drawn from: its type's, or the prior's."""

    def unit(
        self,
        rng: np.random.Generator,
        labels: Sequence[np.random.Generator],
        distributions: Mapping[str, Sequence[Distribution]],
    ) -> dict[str, Float[np.ndarray, " channel"]]:
        """One unit's pooled parameters, those of the linear columns in the units that its group shares.

        Args:
            rng: The unit's own stream.
            labels: For each key, the stream of the unit's label, fresh.
            distributions: Distribution of each pooled parameter's centre, by channel.
        """
        values = {}
        for name, centre in self.centre.items():
            parts = [stream.standard_normal(len(centre)) for stream in (rng, *labels)]
            theta = centre + self.used[name] @ (self.spread[name] * np.stack(parts))
            values[name] = np.array(
                [_natural(distribution, float(u)) for distribution, u in zip(distributions[name], theta, strict=True)]
            )
        return values

    @property
    def rows(self) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, "part row"], Float[np.ndarray, "2 row"]]:
        """All centres, all spreads, and what the centres lie around."""
        spread, around = (np.concatenate(list(by_name.values()), axis=1) for by_name in (self.spread, self.around))
        return np.concatenate(list(self.centre.values())), spread, around


def draw_pooled(
    rng: np.random.Generator,
    *,
    distributions: Mapping[str, Sequence[Distribution]],
    pooling: config.Pooling,
    keys: Sequence[str],
    channels: Sequence[str],
) -> PooledTruth:
    """Hyperparameters of a group from their prior, with effects of the labels of these keys.

    Raises:
        ConfigError: A type has a channel that is not among `channels`.
    """
    centre, spread, around = {}, {}, {}
    for name, by_channel in distributions.items():
        moments = np.array(
            [
                pooled_strength(distribution, pooling.scale(name) or 0.0, 1 + len(keys))[:2]
                if name == "effect"
                else _moments(distribution)
                for distribution in by_channel
            ]
        )
        # Spreads of linear coefficients are told in standard deviations of their prior.
        unit = moments[:, 1] if PARAMETERS[name].linear else 1.0
        mean, sd = moments.T.copy()
        for places in [] if PARAMETERS[name].linear else pooling.type_places(channels):
            mean[places] += moments[places, 1] * rng.standard_normal()
            sd[places] *= pooling.type * abs(rng.standard_normal())
        around[name] = np.stack([mean, sd])
        centre[name] = mean + sd * rng.standard_normal(len(by_channel))
        spread[name] = (
            (pooling.scale(name) or 0.0) * unit * np.abs(rng.standard_normal((1 + len(keys), len(by_channel))))
        )
    used = {name: np.array([1.0, *(float(pooling.has_effects(name, key)) for key in keys)]) for name in distributions}
    return PooledTruth(centre=centre, spread=spread, used=used, around=around)


def _moments(distribution: Distribution) -> tuple[float, float]:
    if distribution.family == "normal":
        mean, sd = distribution.values
        return mean, sd
    return coordinate_moments(distribution)


def _natural(distribution: Distribution, u: float) -> float:
    """A parameter from the unconstrained scale of its distribution."""
    low, high = distribution.support
    if math.isinf(low):
        return u
    return math.exp(u) if math.isinf(high) else low + (high - low) * NormalDist().cdf(u)


def fixed_truth(
    media: Float[np.ndarray, "week channel"],
    *,
    model: config.Model,
    channels: Sequence[str],
    kinds: tuple[str, ...],
    signs: tuple[str | None, ...],
) -> Truth:
    """Realistic values: the same curves and the same shares of sales in every unit.

    Args:
        media: Scaled media, a column of zeros for an absent channel.
        model: Says which parameters there are.
        channels: Their names.
        kinds: Kinds of the linear columns.
        signs: Of their coefficients, where they are known.
    """
    count = media.shape[1]
    names = model.channel_parameters[:-1]
    curves = {name: np.array([_FIXED_CURVES[name][i % 8] for i in range(count)]) for name in names}
    response = saturated_adstock(media, curves, model, channels).mean(axis=0)
    weight = np.array([_FIXED_WEIGHTS[i % 8] for i in range(count)]) * (response > 0)
    total = _FIXED_LINEAR["intercept"] * MEDIA_SHARE / (1 - MEDIA_SHARE)
    effect = total * weight / weight.sum() / np.where(response > 0, response, 1.0)
    turned = [-1.0 if sign == "negative" else 1.0 for sign in signs]
    linear = np.array([_FIXED_LINEAR.get(kind, 0.02) for kind in kinds]) * turned
    lasts = _FIXED_AUTOCORRELATION if model.observation == "ar1" else 0.0
    return Truth(channel={**curves, "effect": effect}, linear=linear, noise=_FIXED_NOISE, autocorrelation=lasts)


def saturated_adstock(
    media: Float[np.ndarray, "week channel"],
    parameters: Mapping[str, Float[np.ndarray, " channel"]],
    model: config.Model,
    channels: Sequence[str] = (),
) -> Float[np.ndarray, "week channel"]:
    """Media after carry-over and saturation, in the order that the model says.

    Args:
        media: Scaled.
        parameters: By name, of each channel; of no meaning where a channel has not that one.
        model: What it says of all channels, and of some by name.
        channels: Names of the channels; not wanted where the model says nothing of any by name.
    """
    out = np.zeros_like(media)
    for i in range(media.shape[1]):
        here = {name: float(values[i]) for name, values in parameters.items()}
        series, form = media[:, i], model.form(channels[i] if channels else None)
        if form.adstock_first:
            out[:, i] = _saturate(_carry_over(series, here, form), here, form)
        else:
            out[:, i] = _carry_over(_saturate(series, here, form), here, form)
    return out


def _carry_over(series: Float[np.ndarray, " week"], here: dict[str, float], form: MediaForm) -> np.ndarray:
    weights = np.array([_weight(form, here, lag) for lag in range(form.window)])
    if form.window_convention == "pymc_marketing" and form.adstock == "weibull_pdf":
        weights = (weights - weights.min()) / np.ptp(weights)
    if form.normalise:
        weights = weights / weights.sum()
    return np.convolve(series, weights)[: len(series)]


def _weight(form: MediaForm, here: dict[str, float], lag: int) -> float:
    if form.adstock == "none":
        return float(lag == 0)
    if form.adstock == "geometric":
        return here["decay"] ** lag
    if form.adstock == "binomial":
        last = form.window + 1 if form.window_convention == "pymc_marketing" else form.window
        return (1 - lag / last) ** (1 / here["decay"] - 1)
    if form.adstock == "delayed":
        return here["decay"] ** ((lag - here["delay"]) ** 2)
    shape, scale = here["adstock_shape"], here["adstock_scale"]
    if form.adstock == "weibull_pdf":
        age, first = (lag + 1) / scale, 1 / scale
        if form.normalise:
            # Over the first period's, which cancels: the density itself is nothing where a scale is far below a period.
            return (lag + 1) ** (shape - 1) * math.exp(first**shape - age**shape)
        return shape / scale * age ** (shape - 1) * math.exp(-(age**shape))
    return math.prod(math.exp(-((past / scale) ** shape)) for past in range(1, lag + 1))


def _saturate(series: Float[np.ndarray, " week"], here: dict[str, float], form: MediaForm) -> np.ndarray:
    family = form.saturation
    if family == "logistic":
        return np.tanh(0.5 * here["rate"] * series)
    if family == "hill":
        with np.errstate(divide="ignore", over="ignore"):
            return 1.0 / (1.0 + np.exp(-here["slope"] * (np.log(series) - math.log(here["half_saturation"]))))
    if family == "tanh":
        return np.tanh(series / here["scale"])
    if family == "michaelis_menten":
        return series / (here["half_saturation"] + series)
    if family == "exponential":
        return -np.expm1(-here["rate"] * series)
    if family == "root":
        return series ** here["exponent"]
    return np.log1p(here["rate"] * series) if family == "log" else series
