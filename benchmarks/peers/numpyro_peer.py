"""The unit's model in plain numpyro, sampled by its NUTS in double precision; runs in mixfleet's own environment."""

import jax
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS

from benchmarks.peers.exchange import CHAINS, DRAWS, WARMUP, Answer, Problem, flattened, serve
from mixfleet.config import Model
from mixfleet.config.priors import Distribution, distribution
from mixfleet.models.reference import Priors, Series, media_mix

RECORDED = ("mean_contribution", "media")
"""What the model computes from its parameters."""


def fit(problem: Problem) -> Answer:
    model = Model(
        window=problem.window,
        saturation=problem.saturation,
        seasonality=problem.seasonality,
        observation="normal",
    )  # pyright: ignore[reportArgumentType]
    series, priors, scale = unit_arguments(problem, model)
    sampler = MCMC(NUTS(media_mix), num_warmup=WARMUP, num_samples=DRAWS, num_chains=CHAINS, progress_bar=False)
    sampler.run(jax.random.key(problem.seed), series, priors, model, extra_fields=("diverging", "energy"))
    draws = {name: np.asarray(values) for name, values in sampler.get_samples(group_by_chain=True).items()}
    fields = sampler.get_extra_fields(group_by_chain=True)
    return Answer(
        contribution=draws["mean_contribution"] * len(series.kpi) * scale,
        parameters=flattened([values for name, values in draws.items() if name not in RECORDED]),
        divergences=int(fields["diverging"].sum()),
        energy=np.asarray(fields["energy"]),
    )


def unit_arguments(problem: Problem, model: Model) -> tuple[Series, Priors, float]:
    """The unit as `media_mix` takes it, and the scale of its KPI."""
    table, given = problem.table, {name: _distribution(prior) for name, prior in problem.priors.items()}
    media, kpi = table[problem.channels].to_numpy(), table["kpi"].to_numpy()
    columns = table[[column.name for column in problem.columns]].to_numpy()
    intercept = given["intercept"].hyperparameters
    series = Series(
        media=media / np.abs(media).max(axis=0),
        kpi=kpi / np.abs(kpi).max(),
        fitted=np.ones(len(kpi), bool),
        design=np.column_stack([np.ones(len(kpi)), columns]),
    )
    priors = Priors(
        channel={name: [given[name]] * len(problem.channels) for name in model.channel_parameters},
        measured={"effect": range(len(problem.channels))},
        one=np.ones(len(problem.channels)),
        changes={},
        observation={"noise": given["noise"]},
        coefficient_mean=np.array([intercept["mean"], *(column.mean for column in problem.columns)]),
        coefficient_sd=np.array([intercept["sd"], *(column.sd for column in problem.columns)]),
    )
    return series, priors, float(np.abs(kpi).max())


def _distribution(prior: dict) -> Distribution:
    return distribution(prior["family"], **{name: value for name, value in prior.items() if name != "family"})


if __name__ == "__main__":
    numpyro.enable_x64()
    numpyro.set_host_device_count(CHAINS)
    serve(fit)
