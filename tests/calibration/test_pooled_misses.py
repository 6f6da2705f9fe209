"""Groups whose misses last have the posterior that long NUTS finds on a plain numpyro model of all units at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float
from numpyro.infer import MCMC, NUTS

from mixfleet.config import Inference, Model, Output, Pooling, Prior, Spec, build
from mixfleet.data.panel import Panel, read_panel
from mixfleet.data.scaling import likelihood_weeks, measure
from mixfleet.fitting.driver import fit_units
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.sampler import FinishedGroup
from mixfleet.models import baseline
from mixfleet.models.priors.moments import pooled_strength
from mixfleet.models.reference import unit_arguments
from mixfleet.simulation import fleet as simulate

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.usefixtures("usual_broadcasts")]

MODEL = Model(adstock="none", saturation="none", seasonality=1, observation="ar1")
NOISE = 0.2
Draws = dict[str, Float[np.ndarray, "chain draw"]]


def test_units_and_hyperparameters_are_those_of_the_joint_model() -> None:
    pooling = Pooling(by="brand", adstock=None, saturation=None)
    sizes: dict[str, Any] = {"brands": 1, "markets": 3, "weeks": 52, "channels": 1, "controls": 0}
    fleet = simulate.fleet(model=MODEL, truth="fixed", seed=12, **sizes)
    spec = Spec(
        data=fleet.data,
        model=MODEL,
        prior=build(Prior, {"on": "effect", "parameters": {"noise": {"family": "half_normal", "sd": NOISE}}}),
        pooling=pooling,
        inference=Inference(ess_target=8000, ess_floor=4000, max_draws=12_000),
        output=Output(draws="full"),
    )
    panel = read_panel(fleet.table, fleet.data, seasonality=1, window=MODEL.window, pooling=pooling)
    joint, mine = joint_draws(panel, spec), own_draws(panel, spec)
    assert set(mine) == set(joint)
    for name in joint:
        # Where the correlation nears one the noise has no end, and its own spread is that of a few draws.
        ours, theirs = (np.log(found[name]) if name.startswith("noise") else found[name] for found in (mine, joint))
        assert abs(ours.mean() - theirs.mean()) / theirs.std() < 0.1, name
        error = np.hypot(error_of_log_sd(ours), error_of_log_sd(theirs))
        assert abs(np.log(ours.std() / theirs.std())) < max(0.1, 4 * error), (name, error)


def error_of_log_sd(draws: Float[np.ndarray, "chain draw"]) -> float:
    """Monte Carlo error of the logarithm of the draws' standard deviation, by means of batches."""
    squares = ((draws - draws.mean()) / draws.std()) ** 2
    length = int(np.sqrt(draws.shape[1]))
    batches = squares[:, : draws.shape[1] // length * length].reshape(len(squares), -1, length).mean(axis=-1)
    return 0.5 * float(batches.std() / np.sqrt(batches.size))


def own_draws(panel: Panel, spec: Spec) -> Draws:
    """By quantity, draws of a fit."""
    groups, found = list[FinishedGroup](), dict[str, np.ndarray]()
    for result in fit_units(panel, spec, on_group=groups.append):
        assert result.status in ("ok", "ok_warn", "misfit"), result.reason
        place = [unit.labels for unit in panel.units].index(result.labels)
        unit = panel.units[place]
        kpi = measure(unit, likelihood_weeks(unit, window=MODEL.window, holdout=0), model=MODEL).kpi
        found[f"theta[{place}]"] = np.log(result.draws["effect"][..., 0] / kpi)
        found[f"noise[{place}]"] = result.draws["noise"] / kpi
        found[f"autocorrelation[{place}]"] = result.draws["autocorrelation"]
    for row, (centre, spread) in enumerate(np.moveaxis(groups[0].hyper.draws[:2], 1, 0)):
        found |= {f"centre[{row}]": centre.T, f"spread[{row}]": spread.T}
    return {name: values.astype(float) for name, values in found.items()}


def joint_draws(panel: Panel, spec: Spec) -> Draws:
    """By quantity, draws of NUTS on all units at once."""
    units = [unit_arguments(unit, panel, spec) for unit in panel.units]
    ((label, members),) = groups_of(panel, spec)
    assert [unit.labels for unit in members] == [unit.labels for unit in panel.units]
    shared = prepared(label, members, panel, spec).shared
    mean, sd = baseline.column_priors(spec.model, spec.data, spec.prior, {})
    places = list(shared.places)
    rest = np.delete(np.arange(len(mean)), places)
    theta_mean, theta_sd, _ = pooled_strength(units[0][1].channel["effect"][0], spec.pooling.scale("effect") or 0.0, 1)
    scales = np.array([spec.pooling.scale("effect"), *(spec.pooling.scale(name) for name in shared.parameters)], float)
    scales[1:] *= sd[places]
    centres = np.concatenate([[theta_mean], mean[places]]), np.concatenate([[theta_sd], sd[places]])
    assert all(series.fitted.all() for series, _ in units)
    design = np.stack([series.design for series, _ in units])
    media, kpi = (np.stack(values) for values in zip(*((s.media[:, 0], s.kpi) for s, _ in units), strict=True))
    own, pooled = design[..., rest] * sd[rest], np.stack([d @ shared.loadings[i] for i, d in enumerate(design)])

    def model() -> None:
        centre = numpyro.sample("centre", dist.Normal(*centres).to_event(1))
        spread = numpyro.sample("spread", dist.HalfNormal(scales).to_event(1))
        with numpyro.plate("market", len(units)):
            theta = numpyro.sample("theta", dist.Normal(centre[0], spread[0]))
            lasts = numpyro.sample("autocorrelation", dist.TruncatedNormal(0.0, 0.5, low=-1.0, high=1.0))
            # What is new each week has an sd that the data know; the noise's own is one of its density's factors.
            log_new = numpyro.sample("log_new", dist.ImproperUniform(dist.constraints.real, (), ()))
            noise = numpyro.deterministic("noise", jnp.exp(log_new) / jnp.sqrt((1 - lasts) * (1 + lasts)))
            numpyro.factor("prior_of_noise", dist.HalfNormal(NOISE).log_prob(noise) + jnp.log(noise))
        level = jnp.exp(theta)[:, None] * media + design[..., rest] @ mean[rest] + pooled @ centre[1:]
        columns = jnp.concatenate([own, pooled * spread[1:]], axis=-1)
        numpyro.factor("kpi", log_density(kpi - level, columns, noise, lasts))

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        sizes: dict[str, Any] = {"num_warmup": 1000, "num_samples": 3000, "num_chains": 4}
        kernel = NUTS(model, dense_mass=True, target_accept_prob=0.95)
        chains = MCMC(kernel, chain_method="sequential", progress_bar=False, **sizes)
        chains.run(jax.random.key(1))
        found = chains.get_samples(group_by_chain=True)
    names = ("theta", "noise", "autocorrelation", "centre", "spread")
    return {f"{name}[{i}]": np.asarray(found[name])[..., i] for name in names for i in range(found[name].shape[-1])}


def log_density(
    residual: Float[Array, "unit week"],
    columns: Float[Array, "unit week column"],
    noise: Float[Array, " unit"],
    lasts: Float[Array, " unit"],
) -> Float[Array, " unit"]:
    """Of neighbouring weeks whose covariance is noise^2 lasts^|s - t| + columns columns'."""
    left = jnp.sqrt((1 - lasts) * (1 + lasts))

    def whitened(values: Float[Array, "unit week column"]) -> Float[Array, "unit week column"]:
        later = (values[:, 1:] - lasts[:, None, None] * values[:, :-1]) / left[:, None, None]
        return jnp.concatenate([values[:, :1], later], axis=1) / noise[:, None, None]

    white, error = whitened(columns), whitened(residual[..., None])
    factor = jnp.linalg.cholesky(jnp.eye(columns.shape[-1]) + jnp.swapaxes(white, 1, 2) @ white)
    explained = solve_triangular(factor, jnp.swapaxes(white, 1, 2) @ error, lower=True)
    weeks, pivots = residual.shape[1], jnp.diagonal(factor, axis1=1, axis2=2)
    log_volume = weeks * jnp.log(noise) + (weeks - 1) * jnp.log(left) + jnp.sum(jnp.log(pivots), axis=1)
    squares = jnp.sum(error**2, axis=(1, 2)) - jnp.sum(explained**2, axis=(1, 2))
    return -0.5 * squares - log_volume - 0.5 * weeks * jnp.log(2 * jnp.pi)


def test_the_joint_models_density_is_the_one_written_in_full() -> None:
    random = np.random.default_rng(0)
    noise, lasts = np.array([0.1, 0.3, 0.05]), np.array([0.5, -0.2, 0.97])
    columns, residual = random.normal(size=(3, 20, 5)), random.normal(size=(3, 20))
    apart = np.abs(np.arange(20)[:, None] - np.arange(20))
    covariance = noise[:, None, None] ** 2 * lasts[:, None, None] ** apart + columns @ columns.transpose(0, 2, 1)
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        in_full = dist.MultivariateNormal(jnp.zeros(20), covariance).log_prob(residual)
        np.testing.assert_allclose(
            log_density(*map(jnp.asarray, (residual, columns, noise, lasts))), in_full, rtol=1e-9
        )
