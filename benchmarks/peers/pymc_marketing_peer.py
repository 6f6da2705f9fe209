"""The unit's model in PyMC-Marketing, sampled by nutpie."""

import numpy as np
import xarray as xr
from pymc_extras.prior import Prior  # pyright: ignore[reportMissingImports]
from pymc_marketing.mmm import (  # pyright: ignore[reportMissingImports]
    MMM,
    GeometricAdstock,
    LogisticSaturation,
)

from benchmarks.peers.exchange import CHAINS, DRAWS, WARMUP, Answer, Problem, flattened, serve

NAMES = {
    "beta": ("Beta", {"a": "alpha", "b": "beta"}),
    "gamma": ("Gamma", {"shape": "alpha", "rate": "beta"}),
    "half_normal": ("HalfNormal", {"sd": "sigma"}),
    "normal": ("Normal", {"mean": "mu", "sd": "sigma"}),
}


def distribution(prior: dict, **options: str) -> Prior:
    name, arguments = NAMES[prior["family"]]
    return Prior(name, **{theirs: prior[ours] for ours, theirs in arguments.items()}, **options)


def build(problem: Problem) -> MMM:
    # Their Fourier columns are ours: sine and cosine of the day of the year over 365.25.
    others = [column for column in problem.columns if column.kind != "seasonality"]
    gamma_control = Prior(
        "Normal",
        mu=xr.DataArray([column.mean for column in others], dims="control"),
        sigma=xr.DataArray([column.sd for column in others], dims="control"),
        dims="control",
    )
    priors = problem.priors
    return MMM(
        date_column="date",
        target_column="kpi",
        channel_columns=problem.channels,
        control_columns=[column.name for column in others],
        yearly_seasonality=problem.seasonality,
        adstock=GeometricAdstock(
            l_max=problem.window, normalize=True, priors={"alpha": distribution(priors["decay"], dims="channel")}
        ),
        saturation=LogisticSaturation(
            priors={
                "lam": distribution(priors["rate"], dims="channel"),
                "beta": distribution(priors["effect"], dims="channel"),
            }
        ),
        model_config={
            "intercept": distribution(priors["intercept"]),
            "gamma_control": gamma_control,
            "gamma_fourier": distribution(priors["seasonality"], dims="fourier_mode"),
            "likelihood": Prior("Normal", sigma=distribution(priors["noise"]), dims="date"),
        },
    )


def fit(problem: Problem) -> Answer:
    model = build(problem)
    kpi = problem.table["kpi"].to_numpy()
    tree = model.fit(
        problem.table.drop(columns="kpi"),
        kpi,
        nuts_sampler="nutpie",
        chains=CHAINS,
        draws=DRAWS,
        tune=WARMUP,
        random_seed=problem.seed,
        progressbar=False,
    )
    posterior, statistics = tree["posterior"], tree["sample_stats"]
    contribution = posterior["channel_contribution"].sum("date").transpose("chain", "draw", "channel")
    return Answer(
        contribution=contribution.sel(channel=problem.channels).to_numpy() * np.abs(kpi).max(),
        parameters=flattened([posterior[variable.name].to_numpy() for variable in model.model.free_RVs]),
        divergences=int(statistics["diverging"].sum()),
        energy=statistics["energy"].to_numpy(),
    )


if __name__ == "__main__":
    serve(fit)
