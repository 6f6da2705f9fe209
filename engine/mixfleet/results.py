"""Results: a unit's draws as tables and draws in the table's own units."""

import dataclasses
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from mixfleet_kernels import adstock, saturation
from scipy import stats

from mixfleet import baseline
from mixfleet.batch import Member, Structure
from mixfleet.config import ADSTOCK_PARAMETERS, Spec
from mixfleet.distribution import Distribution
from mixfleet.draws import Draws, predict, prior_contribution, worth
from mixfleet.panel import Panel
from mixfleet.posterior import UnitResult, thin_draws
from mixfleet.slots import Finished

__all__ = ["unit_result"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
SHORT_QUANTILES = ("q05", "q50", "q95")

PREDICTIVE_DRAWS = 512
"""Draws behind fitted values, response curves and scores; everything else uses all of them."""

PRIOR_DRAWS = 512

MEDIA_SCALED = {"half_saturation": 1, "scale": 1, "rate": -1}
"""Saturation parameters given in the media's unit, or in one over it."""


def unit_result(
    fitted: Finished, kind: Structure, panel: Panel, spec: Spec, *, status: str, reason: str
) -> UnitResult:
    """The unit's tables, statistics and thinned draws.

    Args:
        fitted: Draws and verdict.
        kind: Structure of the program that made them.
        panel: Names of channels and keys.
        spec: All settings, with the coordinate that was sampled.
        status: What became of the unit.
        reason: Why it is not plain ok.
    """
    verdict = fitted.verdict
    natural = _natural(fitted, panel, spec)
    sample = _sample(fitted.draws, PREDICTIVE_DRAWS)
    weekly, quality = _weekly(fitted, sample, kind, spec)
    tables: dict[str, dict[str, np.ndarray]] = {
        "params": _params(fitted, natural, panel, spec),
        "contributions": _contributions(fitted, panel, spec),
        "curves": _curves(fitted, sample, panel, spec),
        "fit": quality,
        "weekly": weekly,
    }
    roi = _roi(fitted, kind, panel)
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


def _natural(fitted: Finished, panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """Every parameter in the table's units: name to [channel or column, draw, chain] or [draw, chain]."""
    scale, draws = fitted.job.member.scale, fitted.draws
    media = scale.media[:, None, None]
    values: dict[str, np.ndarray] = {}
    for name, shape in zip(spec.model.channel_parameters[:-1], draws.shape, strict=True):
        power = MEDIA_SCALED.get(name, 0) if name not in ADSTOCK_PARAMETERS[spec.model.adstock] else 0
        values[name] = shape * media**power
    values["effect"] = draws.effect * scale.kpi
    values["contribution"] = draws.contribution * (scale.kpi * np.sum(fitted.job.member.fitted))
    values["noise"] = draws.noise * scale.kpi
    mixing = _column_mixing(fitted.job.member)
    values["coefficients"] = np.tensordot(mixing, draws.coefficients, axes=1)
    return values


def _column_mixing(member: Member) -> Float[np.ndarray, "column column"]:
    """Takes scaled coefficients to the table's: controls per their own unit, the intercept at controls of zero."""
    columns, scale = member.design.shape[1], member.scale
    mixing = np.eye(columns) * scale.kpi
    first = columns - len(scale.control_sd)
    for j, (mean, sd) in enumerate(zip(scale.control_mean, scale.control_sd, strict=True)):
        mixing[first + j, first + j] = scale.kpi / sd
        mixing[0, first + j] = -scale.kpi * mean / sd
    return mixing


def _params(fitted: Finished, natural: dict[str, np.ndarray], panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    member, channels = fitted.job.member, panel.channels
    names = spec.model.channel_parameters
    columns = baseline.column_names(spec.model, spec.data)
    labels = [(name, channel) for name in names for channel in channels]
    labels += [("noise", "")] + [(column, "") for column in columns]
    values = [natural[name] for name in names] + [natural["noise"][None], natural["coefficients"]]
    statistics = _statistics(np.concatenate(values), tuple(QUANTILES))

    moments = [_moments(law) for by_channel in member.laws for law in by_channel]
    noise_law = spec.prior.law("noise", unit=_names(member, panel))
    prior = np.array([*moments, _moments(noise_law)])
    factor = np.concatenate(
        [_unit_factor(name, member, spec) for name in names] + [np.array([member.scale.kpi])]
    )
    mixing = _column_mixing(member)
    _, sd = baseline.column_priors(spec.model, spec.data, spec.prior, _names(member, panel))
    prior_mean = np.concatenate([prior[:, 0] * factor, mixing @ member.prior_mean])
    prior_sd = np.concatenate([prior[:, 1] * factor, np.sqrt((mixing * sd) ** 2 @ np.ones(len(sd)))])

    shapes = len(names) - 1
    width = len(channels)
    # Judged quantities: shapes, effects, contributions, noise, coefficients, total, log density.
    rows = np.r_[0 : (shapes + 1) * width, (shapes + 2) * width : (shapes + 2) * width + 1 + len(columns)]
    return {
        "parameter": np.array([name for name, _ in labels], object),
        "channel": np.array([channel for _, channel in labels], object),
        **statistics,
        "prior_mean": prior_mean,
        "prior_sd": prior_sd,
        "rhat": np.asarray(fitted.judgement.rhat, float)[rows],
        "ess_bulk": np.asarray(fitted.judgement.ess_bulk, float)[rows],
        "ess_tail": np.asarray(fitted.judgement.ess_tail, float)[rows],
    }


def _unit_factor(name: str, member: Member, spec: Spec) -> Float[np.ndarray, " channel"]:
    """What one scaled unit of a channel parameter is in the table's units."""
    if name == "effect":
        return np.full(len(member.scale.media), member.scale.kpi)
    if name in ADSTOCK_PARAMETERS[spec.model.adstock]:
        return np.ones(len(member.scale.media))
    return member.scale.media ** MEDIA_SCALED.get(name, 0)


def _contributions(fitted: Finished, panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """Contributions in KPI over the weeks of the likelihood, by channel and by term of the baseline."""
    member = fitted.job.member
    columns = baseline.column_names(spec.model, spec.data)
    sums = member.design[member.fitted].sum(axis=0) * member.scale.kpi
    linear = fitted.draws.coefficients * sums[:, None, None]
    seasonal = [i for i, name in enumerate(columns) if name.startswith(("sin_", "cos_"))]
    components, values = list(panel.channels), [fitted.draws.contribution * (member.scale.kpi * member.fitted.sum())]
    for i, name in enumerate(columns):
        if i not in seasonal:
            components.append("baseline" if name == "intercept" else name)
            values.append(linear[i : i + 1])
        elif i == seasonal[0]:
            components.append("seasonality")
            values.append(linear[seasonal].sum(axis=0, keepdims=True))
    statistics = _statistics(np.concatenate(values), SHORT_QUANTILES)
    total = float(np.sum(member.unit.kpi[member.fitted]))
    return {
        "component": np.array(components, object),
        **statistics,
        "share": statistics["mean"] / total if total else np.full(len(components), np.nan),
    }


def _roi(fitted: Finished, kind: Structure, panel: Panel) -> dict[str, np.ndarray]:
    """Incremental value per unit of spend over the weeks of the likelihood; empty where nothing was spent."""
    member = fitted.job.member
    weeks = member.fitted
    spend = np.nansum(member.unit.spend[weeks], axis=0)
    value = member.unit.value_per_kpi
    paid = np.flatnonzero(spend > 0)
    if not len(paid) or not np.all(np.isfinite(value[weeks])):
        return {}
    scale = member.scale.kpi * weeks.sum()
    draws = fitted.draws.contribution
    per_kpi: Any = value[weeks].mean()
    if not np.all(value[weeks] == value[weeks][0]):
        padded = np.zeros(kind.weeks)
        padded[: len(value)] = np.where(weeks, value, 0.0)
        flat = fitted.draws.shape.reshape(*fitted.draws.shape[:2], -1)
        weighted = worth(kind, fitted.tile, jnp.int32(fitted.place), _device(padded, kind), _device(flat, kind))
        per_kpi = np.asarray(weighted, float).reshape(draws.shape)
    roi = (draws * per_kpi)[paid] * scale / spend[paid, None, None]

    laws = member.laws
    shape = np.array([[_prior_sample(law, i, c) for c, law in enumerate(row)] for i, row in enumerate(laws[:-1])])
    effect = np.array([_prior_sample(law, len(laws), c) for c, law in enumerate(laws[-1])])
    shape = shape.reshape(len(laws) - 1, len(panel.channels), PRIOR_DRAWS)
    place = jnp.int32(fitted.place)
    before = prior_contribution(kind, fitted.tile, place, _device(shape, kind), _device(effect, kind))
    prior = np.asarray(before, float)[paid] * value[weeks].mean() * scale / spend[paid, None]
    return {
        "channel": np.array([panel.channels[c] for c in paid], object),
        **_statistics(roi, SHORT_QUANTILES),
        "spend": spend[paid],
        "prior_mean": prior.mean(axis=1),
        "prior_sd": prior.std(axis=1),
    }


def _curves(fitted: Finished, sample: "_Sample", panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
    """Weekly response at steady spend, from nothing to half again the highest week; media where nothing is paid."""
    member, model = fitted.job.member, spec.model
    count = len(ADSTOCK_PARAMETERS[model.adstock])
    shape = tuple(jnp.asarray(part, float) for part in sample.shape)
    window = adstock.weights(model.adstock, shape[:count], window=model.window, normalise=model.normalise)
    # At a steady level the window only multiplies: before the saturation or after it.
    gain = np.asarray(window.sum(axis=0)) * np.ones(sample.effect.shape)
    before, after = (gain, 1.0) if model.adstock_first else (np.ones_like(gain), gain)
    grid = np.linspace(0.0, 1.5, spec.output.curve_points)
    curves = saturation.saturate(model.saturation, grid[:, None, None] * before, shape[count:])
    curves = np.asarray(curves) * after * sample.effect * member.scale.kpi

    known = member.unit.observed
    paid, delivered = member.unit.spend[known].sum(axis=0), member.unit.media[known].sum(axis=0)
    priced = np.isfinite(paid) & (paid > 0) & (delivered > 0)
    price = np.where(priced, paid, 1.0) / np.where(priced, delivered, 1.0)
    statistics = _statistics(np.moveaxis(curves, 1, 0).reshape(-1, curves.shape[-1]), SHORT_QUANTILES)
    return {
        "channel": np.repeat(np.array(panel.channels, object), len(grid)),
        "spend": np.ravel(np.outer(member.scale.media * price, grid)),
        **statistics,
    }


def _weekly(
    fitted: Finished, sample: "_Sample", kind: Structure, spec: Spec
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Expected KPI by week with the interval of the KPI itself, and how well it agrees, held-out weeks apart."""
    member = fitted.job.member
    weeks = len(member.unit.dates)
    design = np.zeros((kind.weeks, kind.columns))
    design[:weeks] = member.design
    key = jax.random.fold_in(jnp.asarray(fitted.job.key), 2)
    expected, outcome = predict(
        kind,
        fitted.tile,
        jnp.int32(fitted.place),
        _device(design, kind),
        *(_device(part, kind) for part in (sample.shape, sample.effect, sample.noise, sample.coefficients)),
        key,
    )
    mean = np.asarray(expected, float)[:weeks].mean(axis=1) * member.scale.kpi
    ordered = np.asarray(outcome, float)[:weeks] * member.scale.kpi
    size = ordered.shape[1]
    low, high = ordered[:, int(0.05 * size)], ordered[:, int(0.95 * size) - 1]
    kpi = member.unit.kpi
    known = member.unit.observed & np.isfinite(kpi)
    quality = _scores(kpi, mean, ordered, low, high, member.fitted)
    holdout = spec.data.holdout or 0
    if holdout:
        held = known & (np.arange(weeks) >= weeks - holdout)
        scores = _scores(kpi, mean, ordered, low, high, held)
        quality |= {f"holdout_{name}": value for name, value in scores.items()}
    weekly = {
        "date": member.unit.dates.astype("datetime64[D]"),
        "kpi": kpi,
        "observed": known,
        "mean": mean,
        "q05": low,
        "q95": high,
    }
    return weekly, quality


def _scores(
    kpi: np.ndarray, mean: np.ndarray, ordered: np.ndarray, low: np.ndarray, high: np.ndarray, which: np.ndarray
) -> dict[str, np.ndarray]:
    """Accuracy over the weeks in `which`, in the KPI's unit where it has one."""
    if not np.any(which):
        return {name: np.array([np.nan]) for name in ("r2", "mape", "wmape", "crps", "coverage90")}
    y, fit, draws = kpi[which], mean[which], ordered[which]
    error = np.abs(y - fit)
    spread = np.sum((y - y.mean()) ** 2)
    size = draws.shape[1]
    # Mean absolute difference between two of the draws, from their order (Hersbach 2000).
    gini = draws @ (2 * np.arange(size) - size + 1) * 2 / size**2
    crps = np.abs(draws - y[:, None]).mean(axis=1) - 0.5 * gini
    nonzero = y != 0
    scores = {
        "r2": 1 - np.sum((y - fit) ** 2) / spread if spread > 0 else np.nan,
        "mape": np.mean(error[nonzero] / np.abs(y[nonzero])) if np.any(nonzero) else np.nan,
        "wmape": error.sum() / np.abs(y).sum() if np.any(nonzero) else np.nan,
        "crps": crps.mean(),
        "coverage90": np.mean((y >= low[which]) & (y <= high[which])),
    }
    return {name: np.array([value], float) for name, value in scores.items()}


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


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Evenly spaced draws of all chains, on one axis, scaled."""

    shape: Float[np.ndarray, "parameter channel sample"]
    effect: Float[np.ndarray, "channel sample"]
    noise: Float[np.ndarray, " sample"]
    coefficients: Float[np.ndarray, "column sample"]


def _sample(draws: Draws, size: int) -> _Sample:
    total = draws.noise.size
    picked = (np.arange(size) * total) // size

    def flat(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*values.shape[:-2], -1)[..., picked]

    return _Sample(flat(draws.shape), flat(draws.effect), flat(draws.noise), flat(draws.coefficients))


def _statistics(values: np.ndarray, quantiles: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Mean, sd and quantiles of each row over all its draws, in float64."""
    flat = np.asarray(values).reshape(len(values), -1)
    ordered = np.sort(flat, axis=1)
    positions = np.array([QUANTILES[name] for name in quantiles]) * (flat.shape[1] - 1)
    below = np.floor(positions).astype(int)
    above = np.minimum(below + 1, flat.shape[1] - 1)
    lower, upper = ordered[:, below].astype(float), ordered[:, above].astype(float)
    cut = lower + (upper - lower) * (positions - below)
    return {
        "mean": flat.mean(axis=1, dtype=float),
        "sd": flat.std(axis=1, ddof=1, dtype=float),
        **{name: cut[:, i] for i, name in enumerate(quantiles)},
    }


def _names(member: Member, panel: Panel) -> dict[str, str]:
    return dict(zip(panel.keys, member.unit.labels, strict=True))


def _device(values: np.ndarray, kind: Structure) -> jax.Array:
    return jnp.asarray(values, kind.dtype)


@lru_cache(maxsize=4096)
def _moments(law: Distribution) -> tuple[float, float]:
    """Mean and standard deviation of a prior law."""
    frozen = _scipy(law)
    return float(frozen.mean()), float(frozen.std())


@lru_cache(maxsize=4096)
def _prior_sample(law: Distribution, parameter: int, channel: int) -> Float[np.ndarray, " sample"]:
    """Draws of a prior law, the same in every unit, so that units are compared on equal terms."""
    seed = np.random.default_rng([parameter, channel])
    return np.asarray(_scipy(law).rvs(size=PRIOR_DRAWS, random_state=seed))


def _scipy(law: Distribution) -> Any:
    """The law in scipy."""
    h = dict(law.hyperparameters)
    match law.family:
        case "normal":
            return stats.norm(h["mean"], h["sd"])
        case "half_normal":
            return stats.halfnorm(scale=h["sd"])
        case "lognormal":
            return stats.lognorm(h["sd_log"], scale=np.exp(h["mean_log"]))
        case "gamma":
            return stats.gamma(h["shape"], scale=1 / h["rate"])
        case "inverse_gamma":
            return stats.invgamma(h["shape"], scale=h["scale"])
        case "exponential":
            return stats.expon(scale=1 / h["rate"])
        case "beta":
            return stats.beta(h["a"], h["b"])
        case "uniform":
            return stats.uniform(h["low"], h["high"] - h["low"])
        case "truncated_normal":
            low, high = (h["low"] - h["mean"]) / h["sd"], (h["high"] - h["mean"]) / h["sd"]
            return stats.truncnorm(low, high, loc=h["mean"], scale=h["sd"])
