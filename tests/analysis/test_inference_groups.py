"""Groups for ArviZ: densities are the plain model's, predictions hold the data, and loo and psense read them."""

from dataclasses import replace
from typing import Any

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpyro.infer.util import log_density

from mixfleet.config import Model, Output, Prior, RunConfig
from mixfleet.config.priors import TotalShare
from mixfleet.data.scaling import MEDIA_POWERS
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import execute
from mixfleet.models.reference import media_mix, saturated_adstock, unit_arguments
from mixfleet.run import Run
from tests.support.quick import ragged_fleet, settings
from tests.support.terms import LEARNED_SCALES

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

GROUPS: list[Any] = [
    {},
    pytest.param({"model": Model(link="log", adstock_first=False)}, marks=pytest.mark.nightly),
    pytest.param({"model": LEARNED_SCALES}, marks=pytest.mark.nightly),
    pytest.param({"prior": Prior(total_share=TotalShare(mean=0.3, sd=0.05))}, marks=pytest.mark.nightly),
]


@pytest.fixture(scope="module", params=GROUPS, ids=["identity", "log", "learned_scales", "total_share"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    panel = ragged_fleet()
    panel = replace(panel, units=panel.units[:2], data=replace(panel.data, holdout=8))
    root = str(tmp_path_factory.mktemp("runs"))
    spec = replace(settings(panel.data), output=Output(thin=200), run=RunConfig(root=root), **request.param)
    return execute(panel, spec, fit_units)


@pytest.fixture(scope="module")
def tree(run: Run) -> xr.DataTree:
    return run.unit(*ragged_fleet().units[1].labels).to_datatree(full=True)


def test_densities_are_the_plain_models(run: Run, tree: xr.DataTree) -> None:
    fleet = run.fleet()
    unit, scale, spec = fleet.units[1], fleet.scales[1], fleet.spec
    panel = replace(ragged_fleet(), data=spec.data, units=fleet.units)
    posterior = tree["posterior"].to_dataset().stack(sample=("chain", "draw")).transpose("sample", ...)
    points = {
        name: posterior[name].to_numpy().astype(float) / scale.media ** MEDIA_POWERS.get(name, 0)
        for name in spec.model.channel_parameters[:-1]
    }
    for name in spec.model.unit_parameters:
        points[name] = posterior[name].to_numpy().astype(float)[:, None] / (scale.kpi if spec.model.in_kpi(name) else 1)
    coefficients = posterior["coefficients"].to_numpy().astype(float)
    coefficients[:, 0] -= scale.kpi_shift
    points["coefficients"] = np.linalg.solve(scale.column_mixing(coefficients.shape[1]), coefficients.T).T
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        series, priors = unit_arguments(unit, panel, spec)

        def mean(point: dict[str, jax.Array]) -> jax.Array:
            return saturated_adstock(jnp.asarray(series.media), point, spec.model)[series.fitted].mean(axis=0)

        response = np.asarray(jax.lax.map(mean, {name: jnp.asarray(values) for name, values in points.items()}))
        effect = posterior["effect"].to_numpy().astype(float) / scale.kpi
        points["media_share"] = effect * np.where(response > 0, response, 1.0) / priors.one
        found = jax.lax.map(
            lambda point: log_density(media_mix, (series, priors, spec.model), {}, point)[0],
            jax.tree.map(jnp.asarray, points),
        )
    total = sum(
        group[name].stack(sample=("chain", "draw")).transpose("sample", ...).to_numpy().reshape(len(found), -1).sum(1)
        for group in (tree["log_prior"], tree["log_likelihood"])
        for name in group.data_vars
    )
    away = np.asarray(found) - total
    assert np.ptp(np.asarray(found)) > 5
    # Draws are kept in single precision.
    np.testing.assert_allclose(away, np.median(away), rtol=0, atol=1e-2)


def test_predictions_hold_the_data_and_the_prior_is_the_prior(run: Run, tree: xr.DataTree) -> None:
    observed, predicted = tree["observed_data"]["kpi"], tree["posterior_predictive"]["kpi"]
    assert observed.sizes["date"] == predicted.sizes["date"] < len(run.fleet().units[1].dates)
    assert list(tree["log_likelihood"]["kpi"].dims) == ["chain", "draw", "date"]
    low, high = predicted.quantile([0.05, 0.95], dim=("chain", "draw"))
    assert 0.8 < float(((low <= observed) & (observed <= high)).mean()) <= 1.0
    assert float(tree["prior_predictive"]["kpi"].std()) > float(predicted.std())
    # What is believed of all media is a density of what the channels bring, and no variable with draws of its own.
    believed = {"total_share"} if run.fleet().spec.prior.total_share else set()
    assert set(tree["prior"].data_vars) | believed == set(tree["log_prior"].data_vars)
    params = run.params()
    own = params[(params["brand"] == tree.attrs["brand"]) & (params["market"] == tree.attrs["market"])]
    drawn = tree["prior"].to_dataset()
    for row in own.itertuples():
        if row.parameter in run.fleet().spec.model.unit_parameters:
            values = drawn[row.parameter]
        elif row.channel:
            values = drawn[row.parameter].sel(channel=row.channel) if row.parameter in drawn else None
        else:
            values = drawn["coefficients"].sel(column=row.parameter)
        if values is not None and np.isfinite(row.prior_sd):
            error = row.prior_sd / np.sqrt(values.size)
            assert abs(float(values.mean()) - row.prior_mean) < 6 * error, row


# A week that decides much is told, rightly: of few draws.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")
def test_arviz_judges_and_weighs_it(tree: xr.DataTree) -> None:
    loo = arviz_stats.loo(tree)  # pyright: ignore[reportPrivateImportUsage]
    assert np.isfinite(loo.elpd)
    assert 0 < loo.p < 40
    summary = arviz_stats.psense_summary(  # pyright: ignore[reportPrivateImportUsage]
        tree, var_names=["noise", "effect"]
    )
    assert np.isfinite(summary[["prior", "likelihood"]].to_numpy()).all()
    assert summary.loc["noise", "likelihood"] > 0.05
