"""A unit's draws as ArviZ wants them: pointwise log likelihood and prior, predictions, and draws of the prior.

Everything is in the table's units and over the weeks of the likelihood. What the baseline integrates out has its draws
back, so that likelihood and prior are those of all parameters together.

References:
    Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation,
    doi:10.1007/s11222-016-9696-4.
    Kallioinen, Paananen, Buerkner, Vehtari (2024), Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling, doi:10.1007/s11222-023-10366-5.
"""

from functools import partial

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.scaling import MEDIA_POWERS
from mixfleet.models import baseline
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.priors.moments import DRAWS, prior_sample
from mixfleet.posterior.counterfactual import weekly
from mixfleet.posterior.fit_quality import predictive
from mixfleet.posterior.log_densities import Draws, log_likelihood, log_prior
from mixfleet.posterior.prior_draws import prior_response, prior_shapes
from mixfleet.posterior.unit_series import UnitSeries, series_variables, unit_series

__all__ = ["inference_groups"]


def inference_groups(fleet: Fleet, place: int, posterior: xr.Dataset) -> dict[str, xr.Dataset]:
    """Groups beside a unit's posterior, by name; a pooled unit's prior is its group's, and has none.

    Args:
        fleet: Whose unit it is.
        place: Of the unit among the fleet's.
        posterior: Its draws by chain, in the table's units.
    """
    spec, unit = fleet.spec, fleet.units[place]
    member, size = prepare(unit, fleet.panel, spec), (posterior.sizes["chain"], posterior.sizes["draw"])
    fitted = member.fitted
    axes = {str(name): tuple(map(str, values.dims[2:])) for name, values in posterior.items()}
    draws = {str(name): values.to_numpy().reshape(-1, *values.shape[2:]) for name, values in posterior.items()}
    coords = {str(name): values.to_numpy() for name, values in posterior.coords.items()}
    coords["date"] = unit.dates[fitted].astype("datetime64[ns]")

    def dataset(found: Draws, chains: int, count: int) -> xr.Dataset:
        dims = {name: axes.get(name, ("date",)[: values.ndim - 1]) for name, values in found.items()}
        used = {axis: coords[axis] for axis in sorted({axis for own in dims.values() for axis in own})}
        return xr.Dataset(
            {
                name: (("chain", "draw", *dims[name]), values.reshape(chains, count, *values.shape[1:]))
                for name, values in found.items()
            },
            {"chain": np.arange(chains), "draw": np.arange(count), **used},
        )

    series = partial(_series, fleet, place)
    likelihood = log_likelihood(unit, series(draws), _media(fleet, series(draws)), fitted, spec.model)
    groups = {
        "observed_data": xr.Dataset({"kpi": ("date", unit.kpi[fitted])}, {"date": coords["date"]}),
        "posterior_predictive": dataset({"kpi": _predicted(fleet, place, series(draws))[fitted].T}, *size),
        "log_likelihood": dataset({"kpi": likelihood}, *size),
    }
    if spec.pooling.by != "none":
        return groups
    prior = _prior(member, fleet)
    return groups | {
        "log_prior": dataset(log_prior(member, draws, fleet.panel, spec), *size),
        "prior": dataset(prior, 1, DRAWS),
        "prior_predictive": dataset({"kpi": _predicted(fleet, place, series(prior))[fitted].T}, 1, DRAWS),
    }


def _series(fleet: Fleet, place: int, draws: Draws) -> UnitSeries:
    unit = fleet.units[place]
    return unit_series(
        unit,
        fleet.scales[place],
        {name: draws[name] for name in series_variables(fleet.spec.model)},
        fleet.spec.model,
        keys=fleet.keys,
        counted=fleet.counted(unit),
        weeks=len(unit.dates),
        lent=fleet.lent[place],
    )


def _media(fleet: Fleet, series: UnitSeries) -> Float[np.ndarray, "week draw"]:
    with jax.enable_x64(True):
        return np.asarray(weekly(series.media, series.curves, term=fleet.term))


def _predicted(fleet: Fleet, place: int, series: UnitSeries) -> Float[np.ndarray, "week draw"]:
    """The KPI drawn anew."""
    found = predictive(fleet.units[place], series, _media(fleet, series), fleet.spec.model)
    return found.expected + found.noise


def _prior(member: PreparedUnit, fleet: Fleet) -> dict[str, Float[np.ndarray, "draw ..."]]:
    """Draws of every parameter from its prior."""
    spec, scale, term = fleet.spec, member.scale, fleet.term
    names = dict(zip(fleet.keys, member.unit.labels, strict=True))
    media = member.arrays["media"]
    with jax.enable_x64(True):
        effect = prior_response(member, media, np.zeros((len(media), 0)), term).effect
    found = {
        name: shape * scale.media[:, None] ** MEDIA_POWERS.get(name, 0)
        for name, shape in zip(term.parameters, prior_shapes(member, term), strict=True)
    }
    found["effect"] = effect
    for i, name in enumerate(spec.model.unit_parameters, len(term.parameters) + 2):
        drawn = prior_sample(spec.prior.distribution(name, unit=names), i, 0)
        found[name] = drawn * scale.kpi if spec.model.in_kpi(name) else drawn
    laws = baseline.column_laws(spec.model, spec.data, spec.prior, names)
    scales = {name: found[name] / scale.kpi for name in spec.model.scale_parameters}
    learned = baseline.by_column(scales, spec.model, spec.data)
    standard = np.random.default_rng(0).standard_normal((len(laws), DRAWS))
    drawn = np.stack([law.from_normal(values, sd) for law, values, sd in zip(laws, standard, learned, strict=True)])
    found["coefficients"] = scale.column_mixing(len(laws)) @ drawn
    found["coefficients"][0] += scale.kpi_shift
    return {name: np.moveaxis(values, -1, 0) for name, values in found.items()}
