"""Law 4: the fast log density and its gradient are those of the plain numpyro model of the same unit."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm
from numpyro.infer.util import compute_log_probs

from mixfleet import config
from mixfleet.config import Override, Prior
from mixfleet.config.measures import MEASURES, On
from mixfleet.config.priors import ADSTOCK_PARAMETERS, SATURATION_PARAMETERS, Distribution, TotalShare, distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import Panel, Unit
from mixfleet.inference import native_block
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, prepare, stack, structure_of
from mixfleet.models.log_density import Evaluation, evaluate_density
from mixfleet.models.reference import Priors, Series, measured_response, media_mix, saturated_adstock, unit_arguments
from mixfleet_kernels import hmc as native_hmc
from mixfleet_kernels.likelihood import autocorrelated
from mixfleet_kernels.likelihood import learned as learned_kernel
from tests.support.reference import at_each
from tests.support.terms import EVERY_TERM, LEARNED_SCALES, learned
from tests.support.units import odd_unit, panel_of

POINTS = 1000
Parameters = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    # numpyro broadcasts between ranks; this package's own functions are held to the strict rule elsewhere.
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@dataclass(frozen=True, kw_only=True)
class Case:
    model: config.Model
    unit: Unit = field(default_factory=odd_unit)
    prior: Prior = field(default_factory=Prior)
    holdout: int = 0


def prior(
    overrides: tuple[Override, ...] = (),
    on: On | None = None,
    total_share: TotalShare | None = None,
    **priors: Distribution,
) -> Prior:
    parameters = FrozenMapping(priors)
    return Prior(parameters=parameters, overrides=overrides, on=on or On(media="effect"), total_share=total_share)


def override(parameter: str, channel: int | None = None, **hyperparameters: float) -> Override:
    return Override(
        parameter=parameter,
        unit=FrozenMapping({"brand": "acme"}),
        channel=None if channel is None else f"channel_{channel}",
        hyperparameters=FrozenMapping(hyperparameters),
    )


LEARNED = Case(
    model=LEARNED_SCALES,
    unit=odd_unit(weeks=78, gap=slice(30, 32), absent=(1,)),
    holdout=6,
    prior=prior(
        random_walk=distribution("normal", mean=0.02, sd=0.1),
        seasonality_scale=distribution("lognormal", mean_log=-3.0, sd_log=1.0),
        overrides=(override("random_walk_scale", sd=0.3),),
    ),
)

CASES = {
    "the_default": Case(model=config.Model()),
    "geometric_hill_roi_gap": Case(
        model=config.Model(saturation="hill"),
        unit=odd_unit(weeks=70, gap=slice(22, 24)),
        prior=prior(
            half_saturation=distribution("shifted_lognormal", shift=0.1, mean_log=-0.7, sd_log=0.4),
            slope=distribution("lognormal", mean_log=0.3, sd_log=0.4),
            overrides=(
                override("slope", 1, mean_log=0.8, sd_log=0.2),
                override("effect", sd=0.7),
                override("noise", sd=0.1),
            ),
        ),
    ),
    "delayed_hill_saturation_first_absent": Case(
        model=config.Model(adstock="delayed", saturation="hill", adstock_first=False, normalise=False, window=6),
        unit=odd_unit(absent=(1,)),
        prior=prior(
            effect=distribution("gamma", shape=2, rate=5),
            noise=distribution("inverse_gamma", shape=3, scale=0.3),
            delay=distribution("truncated_normal", mean=1.0, sd=1.0, low=0.0, high=4.0),
            overrides=(override("delay", 2, mean=2.0, high=3.5), override("effect", 0, rate=3.0)),
        ),
    ),
    "weibull_pdf_tanh_effect_holdout": Case(
        model=config.Model(adstock="weibull_pdf", saturation="tanh", coordinate="effect", trend="none"),
        unit=odd_unit(weeks=66),
        holdout=8,
        prior=prior(
            effect=distribution("exponential", rate=3),
            scale=distribution("truncated_normal", mean=0.6, sd=0.4, low=0.05, high=np.inf),
            overrides=(override("scale", 0, mean=1.0), override("intercept", mean=0.3, sd=0.2)),
        ),
    ),
    "weibull_cdf_exponential": Case(
        model=config.Model(adstock="weibull_cdf", saturation="exponential", seasonality=1),
        unit=odd_unit(linear=0, kpi_scale=9000.0),
    ),
    "binomial_michaelis_menten_ragged": Case(
        model=config.Model(adstock="binomial", saturation="michaelis_menten"),
        unit=odd_unit(weeks=53, gap=slice(11, 12), absent=(2,)),
        holdout=4,
        prior=prior(
            decay=distribution("uniform", low=0.05, high=0.9),
            half_saturation=distribution("inverse_gamma", shape=3, scale=1),
            effect=distribution("lognormal", mean_log=-1.5, sd_log=0.8),
            overrides=(override("decay", 0, high=0.6), override("control", sd=0.02)),
        ),
    ),
    "none_root": Case(model=config.Model(adstock="none", saturation="root", seasonality=0)),
    "every_baseline_term": Case(model=EVERY_TERM, unit=odd_unit(weeks=78, gap=slice(30, 31)), holdout=6),
    "geometric_log_effect": Case(
        model=config.Model(saturation="log", coordinate="effect", adstock_first=False),
        prior=prior(effect=distribution("inverse_gamma", shape=3, scale=0.5)),
    ),
    "roi_absent_holdout": Case(
        model=config.Model(),
        unit=odd_unit(weeks=70, gap=slice(22, 24), absent=(1,), value_per_kpi=3.0),
        holdout=6,
        prior=prior(on=On(media="roi"), overrides=(override("roi", 0, mean_log=0.5, sd_log=0.3),)),
    ),
    "marginal_returns": Case(
        model=config.Model(saturation="hill", adstock="delayed"),
        unit=odd_unit(weeks=66, value_per_kpi=1.5, absent=(2,)),
        holdout=5,
        prior=prior(on=On(media="mroi", channels=FrozenMapping({"channel_1": "media_share"}))),
    ),
    "returns_of_some_days": Case(
        model=config.Model(coordinate="effect"),
        unit=odd_unit(weeks=70, gap=slice(22, 24), value_per_kpi=3.0, channels=4),
        prior=prior(
            on=On(
                media="roi",
                channels=FrozenMapping({"channel_1": "mroi", "channel_2": "cost_per_kpi", "channel_3": "contribution"}),
                start="2020-08-03",
                end="2020-11-30",
            ),
            cost_per_kpi=distribution("inverse_gamma", shape=3, scale=4),
            roi=distribution("gamma", shape=2, rate=1),
        ),
    ),
    "measures_of_several_families": Case(
        model=config.Model(saturation="hill", adstock_first=False, normalise=False),
        unit=odd_unit(channels=5, value_per_kpi=0.4),
        prior=prior(
            on=On(
                media="media_share",
                channels=FrozenMapping(
                    {
                        "channel_1": "contribution",
                        "channel_2": "roi",
                        "channel_3": "cost_per_kpi",
                        "channel_4": "effect",
                    }
                ),
            ),
            contribution=distribution("gamma", shape=2, rate=20),
            cost_per_kpi=distribution("inverse_gamma", shape=3, scale=4),
        ),
    ),
    "measures_of_the_effect_coordinate": Case(
        model=config.Model(saturation="tanh", coordinate="effect"),
        unit=odd_unit(channels=4, absent=(3,), kpi_scale=9000.0),
        prior=prior(
            on=On(media="contribution", channels=FrozenMapping({"channel_1": "roi", "channel_2": "effect"})),
            roi=distribution("exponential", rate=0.7),
            effect=distribution("lognormal", mean_log=-1.5, sd_log=0.8),
        ),
    ),
    "mixed_families": Case(
        model=config.Model(
            channels={
                "channel_1": {"adstock": "none", "saturation": "log"},
                "channel_2": {"saturation": "hill", "window": 4},
                "channel_3": {"adstock": "delayed", "saturation": "michaelis_menten", "normalise": False},
            }
        ),
        unit=odd_unit(channels=5, absent=(4,)),
        prior=prior(overrides=(override("half_saturation", 3, mean_log=0.3), override("rate", 1, shape=2))),
    ),
    "windows_of_pymc_marketing": Case(
        model=config.Model(
            window_convention="pymc_marketing",
            channels={
                "channel_0": {"adstock": "binomial"},
                "channel_1": {"adstock": "weibull_pdf"},
                "channel_2": {"adstock": "weibull_pdf", "normalise": False, "window": 5},
            },
        ),
        unit=odd_unit(channels=4),
    ),
    "signs_and_laws_of_coefficients": Case(
        model=config.Model(signs={"control_0": "negative", "control_1": "positive", "trend": "positive"}),
        unit=odd_unit(weeks=70, linear=3, gap=slice(22, 24), absent=(1,)),
        holdout=5,
        prior=prior(
            seasonality=distribution("laplace", mean=0.01, scale=0.05),
            trend=distribution("student_t", df=4, mean=-0.1, scale=0.2),
            total_share=TotalShare(mean=0.3, sd=0.04),
            overrides=(override("control", mean=-0.02), override("trend", scale=0.3)),
        ),
    ),
    "autocorrelated_signs_and_laws": Case(
        model=config.Model(observation="ar1", signs={"control_0": "negative", "trend": "positive"}),
        unit=odd_unit(weeks=70, linear=3, gap=slice(22, 24), absent=(1,)),
        holdout=5,
        prior=prior(
            seasonality=distribution("laplace", mean=0.01, scale=0.05),
            autocorrelation=distribution("uniform", low=-0.9, high=0.95),
            overrides=(override("control", mean=-0.02),),
        ),
    ),
    "autocorrelated_every_coefficient_sampled": Case(
        model=config.Model(
            observation="ar1",
            link="log",
            seasonality=0,
            trend="none",
            signs={"intercept": "positive", "control_0": "positive"},
        ),
        prior=prior(control=distribution("laplace", mean=0.0, scale=0.1)),
    ),
    "every_coefficient_sampled": Case(
        model=config.Model(seasonality=0, trend="none", signs={"intercept": "positive", "control_0": "positive"}),
        prior=prior(control=distribution("laplace", mean=0.0, scale=0.1)),
    ),
    "total_share_absent": Case(
        model=config.Model(saturation="hill"),
        unit=odd_unit(weeks=70, gap=slice(22, 24), absent=(1,)),
        holdout=5,
        prior=prior(on=On(media="media_share"), total_share=TotalShare(mean=0.3, sd=0.04)),
    ),
    "total_share_of_prescribed_scale": Case(
        model=config.Model(coordinate="effect"),
        unit=odd_unit(kpi_scale=9000.0),
        prior=prior(total_share=TotalShare(mean=0.2, sd=0.1)),
    ),
    "autocorrelated_total_share": Case(
        model=config.Model(observation="ar1"),
        unit=odd_unit(kpi_scale=9000.0, absent=(1,)),
        holdout=5,
        prior=prior(total_share=TotalShare(mean=0.2, sd=0.1)),
    ),
    "log_link": Case(
        model=config.Model(link="log"), unit=odd_unit(weeks=70, gap=slice(22, 24), absent=(1,)), holdout=5
    ),
    "autocorrelated_log_link": Case(
        model=config.Model(link="log", observation="ar1"),
        unit=odd_unit(weeks=70, gap=slice(22, 24), absent=(1,)),
        holdout=5,
    ),
    "autocorrelated": Case(model=config.Model(observation="ar1"), unit=odd_unit(absent=(1,)), holdout=5),
    "autocorrelated_holes": Case(
        model=config.Model(observation="ar1", adstock="delayed", saturation="hill", coordinate="effect"),
        unit=odd_unit(weeks=70, gap=slice(22, 25)),
        prior=prior(autocorrelation=distribution("uniform", low=-0.9, high=0.95)),
    ),
    "learned_scales": LEARNED,
    "autocorrelated_learned_scales": replace(LEARNED, model=replace(LEARNED_SCALES, observation="ar1")),
    "learned_scales_of_every_term": Case(
        model=replace(EVERY_TERM, baseline=tuple(map(learned, EVERY_TERM.baseline)), coordinate="effect"),
        unit=odd_unit(weeks=78),
    ),
    "preset_pymc_marketing": Case(
        model=config.preset("model", "pymc_marketing"), prior=config.preset("prior", "pymc_marketing")
    ),
    "preset_meridian": Case(
        model=config.preset("model", "meridian"),
        prior=config.preset("prior", "meridian"),
        unit=odd_unit(weeks=70, gap=slice(22, 24), value_per_kpi=3.0),
        holdout=5,
    ),
    "mixed_orders_fixed": Case(
        model=config.Model(
            adstock="delayed",
            saturation="hill",
            coordinate="effect",
            channels={"channel_0": {"adstock_first": False, "window": 5}, "channel_2": {"saturation": "none"}},
        ),
        unit=odd_unit(gap=slice(22, 24)),
        prior=prior(
            slope=distribution("fixed", value=1.0),
            delay=distribution("fixed", value=0.0),
            overrides=(override("delay", 1, value=1.3), override("decay", 2, a=2)),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A case made ready: the fast density's arguments and the plain model's."""

    case: Case
    member: PreparedUnit
    structure: Structure
    batch: UnitBatch
    series: Series
    priors: Priors

    @property
    def names(self) -> tuple[str, ...]:
        return self.case.model.channel_parameters

    @property
    def unit_priors(self) -> dict[str, Distribution]:
        """Of the observation, then of scales."""
        return {**self.priors.observation, **{name: prior for name, (prior, _) in self.priors.scales.items()}}

    def sampled(self) -> list[tuple[str, list[int]]]:
        """Parameters of the curves that are not fixed, each with the places of the channels that have it."""
        channels, model = self.series.channels, self.case.model
        return [
            (name, [c for c, channel in enumerate(channels) if model.has(name, channel)])
            for name in self.names[:-1]
            if self.priors.channel[name][0].family != "fixed"
        ]

    def fixed(self) -> Parameters:
        return {
            name: jnp.array([prior.hyperparameters["value"] for prior in priors])
            for name, priors in self.priors.channel.items()
            if priors[0].family == "fixed"
        }

    def positions(self) -> jax.Array:
        random = np.random.default_rng(5)
        # Where a log coordinate is concerned, 0.5 is a factor of 5 either way at three standard deviations.
        priors = [self.priors.channel[name][c] for name, places in self.sampled() for c in places]
        width = np.array([1.0 if np.isfinite(distribution.support[1]) else 0.5 for distribution in priors])
        kinds = [0.5] * len(self.unit_priors)
        width = np.concatenate([width, np.full(self.structure.channels, 1.5), kinds, np.full(self.structure.apart, 2)])
        spread = width[:, None] * random.standard_normal((self.structure.dimension, POINTS))
        return jnp.asarray(self.member.arrays["centre"][:, None] + spread)

    def fast(self, positions: jax.Array) -> Evaluation:
        """At the positions, in the second place of a tile whose first place belongs to another unit."""
        lanes = jnp.concatenate([jnp.zeros_like(positions), positions], axis=1)
        found = jax.jit(lambda u: evaluate_density(u, self.batch, self.batch.series(POINTS), self.structure))(lanes)
        form = native_block.form_of(replace(self.structure, chains=POINTS), "cpu")
        if form is not None:
            # Far out, terms as large as a lane's largest number cancel.
            data = native_block.data_of(jax.tree.map(np.ascontiguousarray, self.batch))
            for ours, theirs in zip(native_hmc.density(data, form)(np.asarray(lanes)), found, strict=True):
                size = np.max(np.abs(np.atleast_2d(theirs)), axis=0)
                assert np.all(np.abs(ours - theirs) <= 1e-10 * size + 1e-9)
        return Evaluation(found.value[POINTS:], found.gradient[:, POINTS:], found.extra[:, POINTS:])

    def parameters(self, position: jax.Array) -> Parameters:
        """The change of variables, written anew."""
        channels = self.structure.channels
        found, first = {}, 0
        for name, places in self.sampled():
            values = jnp.ones(channels)
            for row, c in enumerate(places, start=first):
                values = values.at[c].set(bounded(self.priors.channel[name][c], position[row]))
            found[name], first = values, first + len(places)
        measures, mean = {}, self.mean_response({**found, **self.fixed()})
        about = measured_response(self.series, self.priors, {**found, **self.fixed()}, self.case.model)
        about = jnp.where(about > 0, about, 1.0)
        strength = jnp.exp(jnp.asarray(self.member.arrays["log_strength_unit"]))
        strengths = position[first : first + channels]
        for measure, places in self.priors.measured.items():
            u, own = strengths[np.array(places)], np.array(places)
            # A lognormal strength has no mass at zero for a ramp to bend towards.
            lognormal = self.priors.channel[measure][0].family == "lognormal"
            value = strength[own] * (jnp.exp(u) if lognormal else u * norm.cdf(u) + norm.pdf(u))
            effect = value if self.case.model.coordinate == "effect" else value / mean[own]
            brought = effect * about[own] / self.priors.one[own]
            measures[measure] = {"effect": effect, "cost_per_kpi": 1 / brought}.get(measure, brought)
        behind = first + channels + len(self.unit_priors)
        observation = {
            name: bounded(prior, u)[None]
            for (name, prior), u in zip(self.unit_priors.items(), position[first + channels : behind], strict=True)
        }
        return {**found, **measures, **observation, **self.columns(position[behind:])}

    def columns(self, coordinates: jax.Array) -> Parameters:
        """Coefficients that are sampled, by the family of their prior."""
        places = [k for _, own in self.structure.linear for k in own]
        found = {}
        for k, u in zip(places, coordinates, strict=True):
            unit, law = self.column_unit(places.index(k)), self.priors.sampled[k]
            value = unit * (u * norm.cdf(u) + norm.pdf(u)) if law.sign else unit * u
            assert unit * law.sign >= 0
            found[f"coefficient_{k}"] = value[None]
        return found

    def column_unit(self, place: int) -> float:
        return float(self.member.arrays["hyper"][3, self.structure.layout.linear[0].first + place])

    def plain(self, position: jax.Array, *, dense: bool) -> jax.Array:
        """The plain model's density of the position: marginal density plus the log determinant of the map."""
        return self.marginal(self.parameters(position), dense=dense) + self.log_determinant(position)

    def log_determinant(self, position: jax.Array) -> jax.Array:
        """Of the map from coordinates to parameters, differentiated as a whole."""

        def flat(u: jax.Array) -> jax.Array:
            found = self.parameters(u)
            own = [found[name][jnp.array(places)] for name, places in self.sampled()]
            strengths = jnp.zeros(self.structure.channels)
            for measure, places in self.priors.measured.items():
                strengths = strengths.at[np.array(places)].set(found[measure])
            columns = [found[f"coefficient_{k}"] for _, own in self.structure.linear for k in own]
            return jnp.concatenate([*own, strengths, *(found[name] for name in self.unit_priors), *columns])

        # No parameter depends on a later coordinate, so the determinant is the diagonal's product; NaN if one did.
        jacobian = jax.jacfwd(flat)(position)
        triangular = jnp.all(jnp.triu(jacobian, 1) == 0)
        return jnp.where(triangular, jnp.sum(jnp.log(jnp.abs(jnp.diagonal(jacobian)))), jnp.nan)

    def completed(self, position: jax.Array, projection: jax.Array, white: jax.Array) -> jax.Array:
        """The density again, from the joint one: log p(y, gamma, theta) - log p(gamma | y, theta), gamma as drawn."""
        parameters = self.parameters(position)
        variance, loading = jnp.asarray(self.member.arrays["variance"]), jnp.asarray(self.member.loading)
        apart = self.structure.apart
        if "autocorrelation" in parameters or self.priors.scales:
            draw = self.autocorrelated if "autocorrelation" in parameters else self.rescaled
            along, log_volume = draw(parameters, projection, white)
            log_prior = norm.logpdf(white)
        else:
            total = parameters["noise"] ** 2 + variance
            sd = parameters["noise"] / jnp.sqrt(total)
            along = jnp.sqrt(variance) * projection / total + sd * white
            log_volume, log_prior = 0.0, norm.logpdf(white) - jnp.log(sd)
        if apart:
            along, log_prior = jnp.concatenate([along[:-apart], projection[-apart:]]), log_prior[:-apart]
        gamma = jnp.asarray(self.member.prior_mean) + loading @ along
        log_prior = jnp.sum(log_prior) - log_volume - np.linalg.slogdet(self.member.loading)[1]
        sites, _ = self.log_probabilities(parameters, gamma)
        return sum(sites.values(), start=self.log_determinant(position)) - log_prior

    def autocorrelated(self, parameters: Parameters, mean: jax.Array, white: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Coefficients along the basis as they are drawn, and the log of their density's volume, written in full."""
        gaps = jax.tree.map(lambda values: values[..., 1:], self.batch.gaps)
        one = (mean[:, None], parameters["noise"], parameters["autocorrelation"], white[:, None])
        fitted, root = self.series.fitted, jnp.sqrt(jnp.asarray(self.member.arrays["variance"]))
        columns, unit = jnp.asarray(self.member.arrays["basis"][: len(fitted)][fitted]), jnp.ones_like(root)
        if self.priors.scales:
            root = unit = self.spread(parameters) / np.diag(self.member.loading)
            columns = columns @ self.member.arrays["turned"]
        along = unit * autocorrelated.coefficients(gaps, root[:, None] ** 2, *one)[:, 0]
        columns = columns * root
        noise, columns_there = parameters["noise"][0], jnp.linalg.solve(self.correlation(parameters), columns)
        precision = jnp.eye(len(root)) + columns.T @ columns_there / noise**2
        return along, -0.5 * jnp.linalg.slogdet(precision)[1] + jnp.sum(jnp.log(unit))

    def rescaled(self, parameters: Parameters, mean: jax.Array, white: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As `autocorrelated`, where standard deviations of coefficients are learned."""
        sd, reference = self.spread(parameters), np.diag(self.member.loading)
        block = learned_kernel.Block(self.batch.turned[..., 1:], self.batch.gram[..., 1:], (sd / reference)[:, None])
        along = learned_kernel.coefficients(block, mean[:, None], parameters["noise"], white[:, None])[:, 0]
        design = jnp.asarray(self.series.design[self.series.fitted]) * sd
        precision = jnp.eye(len(sd)) + design.T @ design / parameters["noise"][0] ** 2
        log_volume = -0.5 * jnp.linalg.slogdet(precision)[1] + jnp.sum(jnp.log(sd / reference))
        return along, log_volume

    def spread(self, parameters: Parameters) -> jax.Array:
        """Prior standard deviation of each coefficient."""
        sd = jnp.asarray(self.priors.coefficient_sd)
        for name, (_, columns) in self.priors.scales.items():
            sd = sd.at[np.array(columns)].set(parameters[name][0])
        return sd

    def correlation(self, parameters: Parameters) -> jax.Array:
        """Of the fitted weeks' noise."""
        weeks = np.flatnonzero(self.series.fitted)
        if "autocorrelation" not in parameters:
            return jnp.eye(len(weeks))
        return parameters["autocorrelation"][0] ** np.abs(weeks[:, None] - weeks)

    def mean_response(self, parameters: Parameters) -> jax.Array:
        media, channels = jnp.asarray(self.series.media), self.series.channels
        response = saturated_adstock(media, parameters, self.case.model, channels)
        mean = response[self.series.fitted].mean(axis=0)
        return jnp.where(mean > 0, mean, 1.0)

    def marginal(self, parameters: Parameters, *, dense: bool = True) -> jax.Array:
        """The plain model's density with the coefficients integrated out.

        The covariance of the weeks is written down in full (dense), or kept as noise plus what the columns add, whose
        derivatives are far cheaper.
        """
        sites, trace = self.log_probabilities(parameters, jnp.zeros(self.structure.columns))
        fitted, priors = self.series.fitted, self.priors
        design = jnp.asarray(self.series.design[fitted])
        centre, sd = jnp.asarray(priors.coefficient_mean), self.spread(parameters)
        for k in priors.sampled:
            centre, sd = centre.at[k].set(parameters[f"coefficient_{k}"][0]), sd.at[k].set(0.0)
        mean = trace["media"]["value"][fitted] + design @ centre
        variance, factor = jnp.full(len(mean), parameters["noise"][0] ** 2), design * sd
        noise = parameters["noise"][0] ** 2 * self.correlation(parameters)
        likelihood = (
            dist.MultivariateNormal(mean, noise + factor @ factor.T)
            if dense or "autocorrelation" in parameters
            else dist.LowRankMultivariateNormal(mean, factor, variance)
        )
        prior = sum(sites[name] for name in parameters if name in sites)
        prior = prior + sum(value for name, value in sites.items() if name.startswith(("lift_", "total_")))
        return prior + likelihood.log_prob(jnp.asarray(self.series.kpi[fitted]))

    def log_probabilities(self, parameters: Parameters, coefficients: jax.Array) -> tuple[Parameters, Any]:
        arguments = (self.series, self.priors, self.case.model)
        rest = np.array([k for k in range(self.structure.columns) if k not in self.priors.sampled], int)
        values = {**parameters, "coefficients": coefficients[rest]}
        for name, places in self.sampled():
            values[name] = values[name][jnp.array(places)]
        return compute_log_probs(media_mix, arguments, {}, values)


def bounded(distribution: Distribution, u: jax.Array) -> jax.Array:
    low, high = distribution.support
    if np.isfinite(high):
        return low + (high - low) * norm.cdf(u)
    return low + jnp.exp(u)


LONG = (
    "marginal_returns",
    "measures_of_the_effect_coordinate",
    "preset_meridian",
    "preset_pymc_marketing",
    "weibull_cdf_exponential",
    "geometric_log_effect",
    "none_root",
    "mixed_orders_fixed",
    "autocorrelated",
    "autocorrelated_holes",
    "autocorrelated_log_link",
    "autocorrelated_learned_scales",
    "learned_scales",
    "learned_scales_of_every_term",
    "autocorrelated_total_share",
    "measures_of_several_families",
    "windows_of_pymc_marketing",
    "every_coefficient_sampled",
    "autocorrelated_signs_and_laws",
    "autocorrelated_every_coefficient_sampled",
    "total_share_absent",
    "total_share_of_prescribed_scale",
)
"""More of curves, measures, windows, noise and beliefs that other cases or kernels' tests hold: for the long runs."""


def made_ready(case: Case, panel: Panel) -> Setting:
    """The case's unit, the second of the panel, in the second place of a tile behind another one."""
    compute = config.Compute(lanes=2 * POINTS, precision="float64")
    inference = config.Inference(chains=POINTS)
    spec = config.Spec(data=panel.data, model=case.model, prior=case.prior, compute=compute, inference=inference)
    members = [prepare(unit, panel, spec) for unit in panel.units]
    structure = structure_of(spec, panel, max(len(unit.dates) for unit in panel.units))
    series, priors = unit_arguments(panel.units[1], panel, spec)
    return Setting(
        case=case,
        member=members[1],
        structure=structure,
        batch=jax.tree.map(jnp.asarray, stack(members, structure)),
        series=series,
        priors=priors,
    )


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.nightly if name in LONG else ()) for name in CASES],
)
def setting(request: pytest.FixtureRequest) -> Setting:
    case = CASES[request.param]
    with jax.enable_x64(True):
        other = odd_unit(
            weeks=88,
            seed=9,
            labels=("other", "FR"),
            channels=case.unit.media.shape[1],
            linear=case.unit.controls.shape[1],
        )
        return made_ready(case, panel_of(other, case.unit, holdout=case.holdout))


def test_value_gradient_and_coefficients_are_the_plain_models(setting: Setting):
    positions = setting.positions()
    fast = jax.block_until_ready(setting.fast(positions))
    mean_response, projection = jnp.split(fast.extra, [setting.structure.channels])
    white = jnp.asarray(np.random.default_rng(6).standard_normal(projection.shape))

    def at_point(point: tuple[jax.Array, jax.Array, jax.Array]) -> dict[str, Any]:
        u, q, z = point
        value, gradient = jax.value_and_grad(partial(setting.plain, dense=False))(u)
        return {
            "values": (value, setting.plain(u, dense=True), setting.completed(u, q, z)),
            "gradient": gradient,
            "mean_response": setting.mean_response({**setting.fixed(), **setting.parameters(u)}),
        }

    mapped = at_each(at_point, (positions.T, projection.T, white.T))
    expected = jax.tree.map(lambda values: jnp.moveaxis(values, 0, -1), mapped)
    assert np.all(np.isfinite(fast.value))
    for value in expected["values"]:
        np.testing.assert_array_less(np.abs(fast.value - value) / (1 + np.abs(value)), 1e-10)
    steepest = 1 + np.max(np.abs(expected["gradient"]), axis=0)
    error = np.max(np.abs(fast.gradient - expected["gradient"]), axis=0)
    np.testing.assert_array_less(error / steepest, 1e-9)
    np.testing.assert_allclose(mean_response, expected["mean_response"], rtol=1e-12)


def test_the_cases_reach_every_family():
    adstocks = {case.model.adstock for case in CASES.values()}
    coordinates = {case.model.coordinate for case in CASES.values()}
    saturations = {case.model.saturation for case in CASES.values()}
    assert adstocks == set(ADSTOCK_PARAMETERS)
    assert saturations == set(SATURATION_PARAMETERS) - {"none"}
    assert coordinates == {"contribution", "effect"}
    asked = [case.prior.on for case in CASES.values()]
    assert {measure for on in asked for measure in (on.media, *on.channels.values())} == set(MEASURES)
