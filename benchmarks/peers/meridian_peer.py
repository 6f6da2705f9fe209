"""The unit's model in Meridian, national, sampled by its NUTS.

Meridian's curve is Hill's with the slope fixed at 1, which is Michaelis-Menten's; so that is the curve of this
comparison. It divides media by their median and standardises the KPI and the controls; the priors are carried over to
those scales. Trend and seasonality enter as controls. What is left of a difference is that Meridian centres the
Fourier columns, whose mean over a whole number of years is nearly zero.
"""

import numpy as np
from meridian import backend  # pyright: ignore[reportMissingImports]
from meridian.analysis import analyzer  # pyright: ignore[reportMissingImports]
from meridian.data import data_frame_input_data_builder  # pyright: ignore[reportMissingImports]
from meridian.model import model, prior_distribution, spec  # pyright: ignore[reportMissingImports]

from benchmarks.peers.exchange import CHAINS, DRAWS, WARMUP, Answer, Problem, flattened, serve

BURN_IN = 500
"""Draws between adaptation and those kept, which Meridian's users add."""

PARAMETERS = ("alpha_m", "ec_m", "beta_m", "gamma_c", "knot_values", "sigma")
"""What a national model estimates; the deviations of its only market are left out."""

distributions = backend.tfd


def input_data(problem: Problem):
    table = problem.table.assign(time=problem.table["date"].dt.strftime("%Y-%m-%d"), revenue_per_kpi=1.0)
    builder = data_frame_input_data_builder.DataFrameInputDataBuilder(kpi_type="revenue")
    builder.with_kpi(table, kpi_col="kpi").with_revenue_per_kpi(table)
    builder.with_controls(table, control_cols=[column.name for column in problem.columns])
    return builder.with_media(
        table, media_cols=problem.channels, media_spend_cols=problem.channels, media_channels=problem.channels
    ).build()


def priors(problem: Problem) -> prior_distribution.PriorDistribution:
    kpi, media = problem.table["kpi"].to_numpy(), problem.table[problem.channels].to_numpy()
    # One of our scaled units of KPI in theirs, and one of their units of media in ours.
    unit = np.abs(kpi).max() / kpi.std()
    median = np.array([np.median(column[column > 0]) for column in media.T]) / media.max(axis=0)
    ours = problem.priors
    columns = problem.columns
    spread = problem.table[[column.name for column in columns]].to_numpy().std(axis=0)
    intercept = ours["intercept"]
    number = backend.np_float_dtype
    return prior_distribution.PriorDistribution(
        knot_values=distributions.Normal(
            number((intercept["mean"] - kpi.mean() / np.abs(kpi).max()) * unit),
            number(intercept["sd"] * unit),
            name="knot_values",
        ),
        alpha_m=distributions.Beta(number(ours["decay"]["a"]), number(ours["decay"]["b"]), name="alpha_m"),
        ec_m=distributions.LogNormal(
            number(ours["half_saturation"]["mean_log"]) - np.log(median).astype(number),
            number(ours["half_saturation"]["sd_log"]),
            name="ec_m",
        ),
        beta_m=distributions.HalfNormal(number(ours["effect"]["sd"] * unit), name="beta_m"),
        gamma_c=distributions.Normal(
            np.array([column.mean for column in columns], number) * number(unit) * spread.astype(number),
            np.array([column.sd for column in columns], number) * number(unit) * spread.astype(number),
            name="gamma_c",
        ),
        sigma=distributions.HalfNormal(number(ours["noise"]["sd"] * unit), name="sigma"),
    )


def fit(problem: Problem) -> Answer:
    if problem.saturation != "michaelis_menten":
        raise ValueError(f"Meridian has no curve equal to {problem.saturation}; use michaelis_menten")
    settings = spec.ModelSpec(
        prior=priors(problem), media_prior_type="coefficient", knots=1, max_lag=problem.window - 1
    )
    meridian = model.Meridian(input_data=input_data(problem), model_spec=settings)
    meridian.sample_posterior(n_chains=CHAINS, n_adapt=WARMUP, n_burnin=BURN_IN, n_keep=DRAWS, seed=problem.seed)
    posterior, trace = meridian.inference_data.posterior, meridian.inference_data.sample_stats
    contribution = analyzer.Analyzer(meridian).incremental_outcome(include_non_paid_channels=False)
    return Answer(
        contribution=np.asarray(contribution, float),
        parameters=flattened([posterior[name].to_numpy() for name in PARAMETERS]),
        divergences=int(trace["diverging"].sum()),
        energy=np.zeros((0, 0)),
    )


if __name__ == "__main__":
    serve(fit)
