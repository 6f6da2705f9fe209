"""The density that a group's units move by is the normal one of their weeks, written in full."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from mixfleet.config import Compute, Inference, Model, Pooling, Spec
from mixfleet.data.panel import read_panel
from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.hierarchy.shared_coefficients import prior
from mixfleet.inference.compiled import COMPILER_OPTIONS
from mixfleet.models import baseline
from mixfleet.models.batch import stack
from mixfleet.models.log_density import evaluate_density
from mixfleet.models.reference import saturated_adstock
from mixfleet.models.transforms import natural
from mixfleet.simulation import fleet as simulate

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

CHAINS = 2


@pytest.mark.parametrize("observation", ["ar1", pytest.param("normal", marks=pytest.mark.nightly)])
def test_given_hyperparameters_of_what_they_share_units_have_the_plain_density(observation: str) -> None:
    model = Model(observation=observation, adstock="none", saturation="none", seasonality=1)
    fleet = simulate.fleet(brands=1, markets=2, weeks=60, channels=1, controls=1, ragged=True, model=model)
    settings: dict[str, Any] = {"inference": Inference(chains=CHAINS), "compute": Compute(precision="float64")}
    spec = Spec(data=fleet.data, model=model, pooling=Pooling(by="brand"), **settings)
    panel = read_panel(fleet.table, fleet.data, seasonality=1, window=model.window, pooling=spec.pooling)
    ((label, units),) = groups_of(panel, spec)
    random = np.random.default_rng(8)
    with jax.enable_x64(True):
        group = prepared(label, units, panel, spec)
        structure, columns = group.pool.structure, group.columns
        batches = [jax.tree.map(jnp.asarray, stack(members, structure)) for members in (group.members, group.alone)]
        series, alone = (batch.series(CHAINS) for batch in batches)
        hyper = hierarchies.zero_state(columns.hierarchy, CHAINS)
        hyper = jax.tree.map(lambda values: values + random.normal(size=values.shape), hyper)
        mean, covariance = prior(columns, hyper, batches[0].variance, lasting=structure.gaps > 0)
        given = series._replace(
            kpi=series.kpi - mean.reshape(series.kpi.shape), variance=covariance.reshape(*covariance.shape[:-2], -1)
        )
        position = jnp.asarray(0.4 * random.normal(size=(structure.dimension, structure.lanes)))
        density = jax.jit(evaluate_density, static_argnums=3, compiler_options=COMPILER_OPTIONS)
        # Brought to the host here: elsewhere they would be in single precision.
        found = jax.tree.map(np.asarray, density(position, batches[0], given, structure))
        before = jax.tree.map(np.asarray, density(position, batches[1], alone, structure))
        values = natural(position, jnp.repeat(batches[0].hyper, CHAINS, axis=-1), structure, batches[0])
        effect = np.asarray(values.strength) / found.extra[: structure.channels]
        brought = [np.asarray(saturated_adstock(jnp.asarray(one.arrays["media"]), {}, model)) for one in group.alone]
        means = np.asarray(hierarchies.means(columns.hierarchy, hyper))
        spread = np.asarray(hierarchies.spreads(columns.hierarchy, hyper))[0]
    places = list(group.shared.places)
    rest = np.delete(np.arange(structure.columns), places)
    _, sd = baseline.column_priors(spec.model, spec.data, spec.prior, {})
    for u, member in enumerate(group.alone):
        weeks, seen = np.flatnonzero(member.fitted), member.design[member.fitted]
        shared = seen @ group.shared.loadings[u]
        for c in range(CHAINS):
            lane = u * CHAINS + c
            left = member.arrays["kpi"][weeks] - brought[u][weeks, 0] * effect[0, lane]
            noise, *correlation = (float(value[lane]) for value in values.observation)
            of_noise = noise**2 * (correlation[0] if correlation else 0.0) ** np.abs(weeks[:, None] - weeks)
            plain = multivariate_normal(cov=of_noise + (seen * sd**2) @ seen.T).logpdf(left)
            own = of_noise + (seen[:, rest] * sd[rest] ** 2) @ seen[:, rest].T
            around = left + seen[:, places] @ member.prior_mean[places] - shared @ means[:, u, c]
            pooled = multivariate_normal(cov=own + (shared * spread[:, c] ** 2) @ shared.T).logpdf(around)
            priors = before.value[lane] - plain
            np.testing.assert_allclose(found.value[lane], priors + pooled, rtol=1e-10)
