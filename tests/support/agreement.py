"""The same posterior twice: as a fit samples it, and by long float64 NUTS on the plain model.

NUTS runs with the coefficients integrated out, by numpyro's own multivariate normal, and draws them afterwards. With
them among its coordinates it misses the ends of ridges between media and intercept: of the unit `logistic_60x2` 4 % of
the posterior, by importance sampling, and with it two fifths of a contribution's standard deviation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, init_to_uniform

from mixfleet.config import Inference, Model, Output, Spec
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, read_panel
from mixfleet.fitting.driver import fit_units
from mixfleet.models.reference import Priors, Series, media_and_observation, unit_arguments
from mixfleet.simulation import fleet as simulate
from tests.support.monte_carlo_error import mcse_mean

Draws = dict[str, np.ndarray]
"""By variable, [chain, draw, ...], in the table's units."""

MEDIA_POWER = {"half_saturation": 1, "scale": 1, "rate": -1}

REFERENCE_CHAINS, REFERENCE_WARMUP, REFERENCE_DRAWS = 4, 1500, 3000
LONG_RUN = Inference(ess_target=12_000, ess_floor=6_000, max_draws=16_000)
"""Ten times the usual draws, so that what differs is the posterior and not its Monte Carlo error."""


def collapsed_media_mix(series: Series, priors: Priors, model: Model) -> None:
    """The same model with the coefficients integrated out: kpi is one draw of a multivariate normal.

    For samplers: where media and intercept can stand in for each other, the posterior with coefficients is a ridge as
    thin as the noise, and chains that should walk along it do not reach its ends.
    """
    media, observation = media_and_observation(series, priors, model)
    design, seen = jnp.asarray(series.design[series.fitted]), series.kpi[series.fitted]
    mean = media[series.fitted] + design @ jnp.asarray(priors.coefficient_mean)
    factor, variance = design * jnp.asarray(priors.coefficient_sd)[None], observation["noise"] ** 2
    if model.observation == "ar1":
        lasting = variance * observation["autocorrelation"] ** _apart(series)
        distribution = dist.MultivariateNormal(mean, lasting + factor @ factor.T)
    else:
        distribution = dist.LowRankMultivariateNormal(mean, factor, jnp.full(len(seen), variance))
    numpyro.sample("kpi", distribution, obs=jnp.asarray(seen))


def _apart(series: Series) -> np.ndarray:
    """Weeks from each fitted week to each other."""
    weeks = np.flatnonzero(series.fitted)
    return np.abs(weeks[:, None] - weeks)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One simulated unit and its model."""

    weeks: int
    channels: int
    controls: int = 2
    model: Model = field(default_factory=Model)
    ragged: bool = False
    truth: str = "fixed"
    seed: int = 0
    reference_chains: int = REFERENCE_CHAINS
    """More where tails are so heavy that a few chains tell neither a spread nor its error."""


LOGISTIC, HILL = (Model(saturation=name, observation="normal") for name in ("logistic", "hill"))
CASES: dict[str, Case] = {
    "logistic_60x2": Case(weeks=60, channels=2, controls=0, model=LOGISTIC),
    "hill_80x3": Case(weeks=80, channels=3, controls=1, model=HILL, seed=1),
    "logistic_104x4_absent": Case(weeks=104, channels=4, model=LOGISTIC, ragged=True, seed=2),
    "default_120x5_absent": Case(weeks=120, channels=5, ragged=True, seed=3),
    "logistic_130x10_prior": Case(weeks=130, channels=10, model=LOGISTIC, truth="prior", seed=4),
    "logistic_156x8": Case(weeks=156, channels=8, model=LOGISTIC, seed=5),
    "default_104x4": Case(weeks=104, channels=4, seed=10),
    "delayed_hill_156x3": Case(
        weeks=156, channels=3, model=replace(HILL, adstock="delayed", adstock_first=False), seed=6
    ),
    "binomial_michaelis_menten_182x5_roi": Case(
        weeks=182,
        channels=5,
        controls=0,
        model=replace(HILL, adstock="binomial", saturation="michaelis_menten"),
        truth="prior",
        seed=7,
    ),
    "hill_208x6": Case(weeks=208, channels=6, model=HILL, seed=8),
    "logistic_260x13": Case(weeks=260, channels=13, controls=3, model=LOGISTIC, seed=9, reference_chains=12),
}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two sets of draws of one parameter agree."""

    name: str
    shift: float
    """Difference of the means in posterior standard deviations, that of the plain model."""
    shift_error: float
    """Monte Carlo standard error of the shift."""
    ratio: float
    """Standard deviation over the plain model's."""
    ratio_error: float


def unit_of(case: Case) -> tuple[Panel, Spec]:
    """A panel of one unit and the settings to fit it with; a ragged one lacks a channel."""
    for seed in range(case.seed, case.seed + 1000, 100):
        fleet = simulate.fleet(
            brands=1,
            markets=1,
            weeks=case.weeks,
            channels=case.channels,
            controls=case.controls,
            seed=seed,
            ragged=case.ragged,
            truth=case.truth,  # pyright: ignore[reportArgumentType]
            model=case.model,
        )
        panel = read_panel(fleet.table, fleet.data)
        absent = ~panel.units[0].media.any(axis=0)
        if absent.any() == case.ragged:
            return panel, Spec(data=fleet.data, model=case.model, inference=LONG_RUN, output=Output(draws="full"))
    raise AssertionError(f"no unit like {case}")


def fitted(panel: Panel, spec: Spec) -> tuple[str, Draws]:
    """Status and draws of the production path."""
    (result,) = fit_units(panel, spec)
    return f"{result.status} {result.reason}".strip(), {name: np.asarray(v, float) for name, v in result.draws.items()}


def sampled(panel: Panel, spec: Spec, *, seed: int = 0, chains: int = REFERENCE_CHAINS) -> Draws:
    """Draws of the plain model by numpyro's NUTS."""
    series, priors = unit_arguments(panel.units[0], panel, spec)
    step = NUTS(
        collapsed_media_mix, dense_mass=True, target_accept_prob=0.95, init_strategy=init_to_uniform(radius=0.5)
    )
    sampler = MCMC(
        step,
        num_warmup=REFERENCE_WARMUP,
        num_samples=REFERENCE_DRAWS,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        sampler.run(jax.random.key(seed), series, priors, spec.model)
        found = {name: np.asarray(values) for name, values in sampler.get_samples(group_by_chain=True).items()}
    found["coefficients"] = _coefficients(found, series, priors, seed)
    return _in_the_tables_units(found, panel, spec)


def _coefficients(found: Draws, series: Series, priors: Priors, seed: int) -> np.ndarray:
    """Draws [chain, draw, column] of the coefficients given all else: a Bayesian regression for each draw."""
    design = series.design[series.fitted]
    residual = series.kpi[series.fitted] - found["media"][..., series.fitted]
    noise, apart, random = found["noise"][..., 0], _apart(series), np.random.default_rng(seed)
    lasting = found["autocorrelation"][..., 0] if "autocorrelation" in found else np.zeros_like(noise)
    prior, draws = np.diag(1 / priors.coefficient_sd**2), np.empty((*noise.shape, design.shape[1]))
    for place in np.ndindex(noise.shape):
        told = np.linalg.solve(noise[place] ** 2 * lasting[place] ** apart, design)
        precision = design.T @ told + prior
        mean = np.linalg.solve(precision, residual[place] @ told + prior @ priors.coefficient_mean)
        upper = np.linalg.cholesky(precision).T
        draws[place] = mean + np.linalg.solve(upper, random.standard_normal(len(mean)))
    return draws


def _in_the_tables_units(found: Mapping[str, np.ndarray], panel: Panel, spec: Spec) -> Draws:
    unit = panel.units[0]
    weeks = scaling.likelihood_weeks(unit, window=spec.model.window, holdout=0)
    factor = scaling.measure(unit, weeks, model=spec.model)
    draws = {
        name: found[name] * factor.media ** MEDIA_POWER.get(name, 0)
        for name in spec.model.channel_parameters[:-1]
        if name in found
    }
    coefficients = found["coefficients"] @ factor.column_mixing(found["coefficients"].shape[-1]).T
    coefficients[..., 0] += factor.kpi_shift
    return {
        **draws,
        "effect": found["effect"] * factor.kpi,
        "contribution": found["mean_contribution"] * factor.kpi * weeks.sum(),
        "noise": found["noise"][..., 0] * factor.kpi,
        **({"autocorrelation": found["autocorrelation"][..., 0]} if "autocorrelation" in found else {}),
        "coefficients": coefficients,
    }


def compare(mine: Draws, plain: Draws) -> list[Agreement]:
    """Agreement of every parameter that is not constant, the worst shift first."""
    rows = [
        _agreement(f"{name}[{i}]", one, two)
        for name in plain
        for i, (one, two) in enumerate(zip(_columns(mine[name]), _columns(plain[name]), strict=True))
        if np.ptp(two) > 0
    ]
    return sorted(rows, key=lambda row: -abs(row.shift))


def effective(draws: np.ndarray) -> float:
    """Effective draws for the mean of one parameter, [chain, draw]."""
    return float(np.var(draws) / _error(draws) ** 2)


def _columns(values: np.ndarray) -> list[np.ndarray]:
    flat = values.reshape(*values.shape[:2], -1)
    return [flat[..., i] for i in range(flat.shape[-1])]


def _agreement(name: str, one: np.ndarray, two: np.ndarray) -> Agreement:
    sd = float(np.std(two))
    ratio = float(np.std(one)) / sd
    mine, plain = (_error(((draws - draws.mean()) / draws.std()) ** 2) for draws in (one, two))
    return Agreement(
        name=name,
        shift=float(one.mean() - two.mean()) / sd,
        shift_error=float(np.hypot(_error(one), _error(two))) / sd,
        ratio=ratio,
        ratio_error=0.5 * ratio * float(np.hypot(mine, plain)),
    )


def _error(draws: np.ndarray) -> float:
    """Monte Carlo standard error of the mean."""
    count = draws.shape[1] - draws.shape[1] % 2
    with jax.enable_x64(True):
        return float(_mcse(jnp.asarray(draws[:, :count, None], jnp.float64), jnp.int32(count))[0])


_mcse = jax.jit(mcse_mean)
