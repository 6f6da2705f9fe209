"""Groups whose misses last have the posterior that long NUTS finds on a plain numpyro model of all units at once."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
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
    joint, groups, mine = joint_draws(panel, spec), list[FinishedGroup](), dict[str, np.ndarray]()
    for result in fit_units(panel, spec, on_group=groups.append):
        assert result.status in ("ok", "ok_warn", "misfit"), result.reason
        place = [unit.labels for unit in panel.units].index(result.labels)
        unit = panel.units[place]
        kpi = measure(unit, likelihood_weeks(unit, window=MODEL.window, holdout=0), model=MODEL).kpi
        mine[f"theta[{place}]"] = np.log(result.draws["effect"].ravel() / kpi)
        mine[f"noise[{place}]"] = result.draws["noise"].ravel() / kpi
        mine[f"autocorrelation[{place}]"] = result.draws["autocorrelation"].ravel()
    for row, (centre, spread) in enumerate(np.moveaxis(groups[0].hyper.draws[:2], 1, 0)):
        mine |= {f"centre[{row}]": centre.ravel(), f"spread[{row}]": spread.ravel()}
    assert set(mine) == set(joint)
    for name, there in joint.items():
        assert abs(mine[name].mean() - there.mean()) / there.std() < 0.1, name
        assert abs(mine[name].std() / there.std() - 1) < 0.1, name


def joint_draws(panel: Panel, spec: Spec) -> dict[str, np.ndarray]:
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

    def model() -> None:
        centre = numpyro.sample("centre", dist.Normal(*centres).to_event(1))
        spread = numpyro.sample("spread", dist.HalfNormal(scales).to_event(1))
        with numpyro.plate("market", len(units)):
            away = numpyro.sample("away", dist.Normal(0, 1))
            noise = numpyro.sample("noise", dist.HalfNormal(NOISE))
            lasts = numpyro.sample("autocorrelation", dist.TruncatedNormal(0.0, 0.5, low=-1.0, high=1.0))
        theta = numpyro.deterministic("theta", centre[0] + spread[0] * away)
        for place, (series, _) in enumerate(units):
            weeks, seen = np.flatnonzero(series.fitted), jnp.asarray(series.design[series.fitted])
            pooled = seen @ shared.loadings[place]
            level = jnp.exp(theta[place]) * series.media[series.fitted, 0] + seen[:, rest] @ mean[rest]
            of_weeks = noise[place] ** 2 * lasts[place] ** np.abs(weeks[:, None] - weeks)
            own, common = seen[:, rest] * sd[rest], pooled * spread[None, 1:]
            around = dist.MultivariateNormal(level + pooled @ centre[1:], of_weeks + own @ own.T + common @ common.T)
            numpyro.sample(f"kpi_{place}", around, obs=jnp.asarray(series.kpi[series.fitted]))

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        kernel = NUTS(model, dense_mass=True, target_accept_prob=0.95)
        sizes: dict[str, Any] = {"num_warmup": 1000, "num_samples": 2000, "num_chains": 4}
        chains = MCMC(kernel, chain_method="sequential", progress_bar=False, **sizes)
        chains.run(jax.random.key(1))
        found = chains.get_samples()
    names = ("theta", "noise", "autocorrelation", "centre", "spread")
    return {f"{name}[{i}]": values for name in names for i, values in enumerate(np.asarray(found[name]).T)}
