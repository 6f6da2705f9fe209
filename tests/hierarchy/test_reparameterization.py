"""Coordinates of pooled parameters: invertible, with the volume that they claim, for every family."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Compute, Model, Pooling, Prior, Spec, build
from mixfleet.errors import ConfigError
from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy import reparameterization
from mixfleet.hierarchy.groups import groups_of, prepared, typical_media
from mixfleet.hierarchy.hyperparameters import Hyper
from mixfleet.hierarchy.likelihood_approximation import sites_of_mode
from mixfleet.models.batch import stack
from tests.support.quick import ragged_fleet

PANEL = ragged_fleet()
CHAINS = 3

# Compiled whole: one operation at a time, each of them would be a program of its own.
place = jax.jit(reparameterization.place, static_argnums=0)
coordinates = jax.jit(reparameterization.coordinates, static_argnums=0)
place_hyper = jax.jit(reparameterization.place_hyper, static_argnums=0)
hyper_coordinates = jax.jit(reparameterization.hyper_coordinates, static_argnums=0)
log_prior_change = jax.jit(reparameterization.log_prior_change, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def jacobian_of_place(pool, hierarchy, sites, rows, x, hyper, unit, chain):
    """How the position of one unit in one chain moves with its own coordinates."""

    def position(own: jax.Array) -> jax.Array:
        moved = reparameterization.place(pool, hierarchy, sites, rows, x.at[:, unit, chain].set(own), hyper)
        return moved.position[:, unit, chain]

    return jax.jacfwd(position)(x[:, unit, chain])


@partial(jax.jit, static_argnums=0)
def jacobian_of_place_hyper(pool, hierarchy, sites, there, hyper, chain):
    """How one chain's hyperparameters move with their coordinates."""

    def placed(own: jax.Array) -> jax.Array:
        found, _ = reparameterization.place_hyper(pool, hierarchy, sites, there.at[:, chain].set(own), hyper)
        return hierarchies.moved(found)[:, chain]

    return jax.jacfwd(placed)(there[:, chain])


def settings(model: Model, on: str = "contribution", **pooling: object) -> Spec:
    chosen, prior = Pooling(**{"by": ("brand", "market"), **pooling}), build(Prior, {"on": on})
    return Spec(data=PANEL.data, model=model, prior=prior, pooling=chosen, compute=Compute(precision="float64"))


MODELS = {
    "logistic": Model(saturation="logistic"),
    "hill": Model(saturation="hill"),
    "straight": Model(saturation="none"),
    "delayed": Model(adstock="delayed", saturation="michaelis_menten"),
    "weibull": Model(adstock="weibull_pdf", saturation="root"),
}
TYPES = {"first": PANEL.channels[1:3]}
CASES: list[Any] = [(name, {}) for name in ("logistic", "hill")]
CASES += [("hill", {"on": "effect"})]
CASES += [pytest.param("logistic", {"on": "effect"}, marks=pytest.mark.nightly)]
CASES += [pytest.param(name, {}, marks=pytest.mark.nightly) for name in ("straight", "delayed", "weibull")]
CASES += [pytest.param("hill", {name: None}, marks=pytest.mark.nightly) for name in ("saturation", "effect")]
CASES += [pytest.param("hill", {"types": TYPES}, marks=pytest.mark.nightly)]


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def scene(name: str, pooling: dict[str, object]):
    """A group with sites from an arbitrary mode, and random coordinates and hyperparameters."""
    spec = settings(MODELS[name], **pooling)
    ((label, units),) = groups_of(PANEL, spec)
    group = prepared(label, units, PANEL, spec)
    pool, structure, random = group.pool, group.pool.structure, np.random.default_rng(5)
    batch = stack(group.members, structure)
    mode = np.asarray(batch.centre) + 0.3 * random.standard_normal((structure.dimension, structure.units))
    root = 0.3 * random.standard_normal((structure.units, structure.dimension, structure.dimension))
    covariance = root @ np.swapaxes(root, 1, 2) / structure.dimension + 0.05 * np.eye(structure.dimension)
    sites, _ = sites_of_mode(pool, np.asarray(batch.hyper), typical_media(group), mode, covariance)
    hyper = Hyper(
        centre=jnp.asarray(random.standard_normal((pool.rows, CHAINS))),
        spread=jnp.asarray(random.standard_normal((3, pool.rows, CHAINS))),
        levels=tuple(jnp.asarray(random.standard_normal((levels, pool.rows, CHAINS))) for levels in pool.levels),
        types=jnp.asarray(random.standard_normal((2, pool.types, CHAINS))),
    )
    x = jnp.asarray(random.standard_normal((structure.dimension, structure.units, CHAINS)))
    return group, jax.tree.map(jnp.asarray, batch), jax.tree.map(jnp.asarray, sites), x, hyper


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_positions_lead_back_to_coordinates(name: str, pooling: dict[str, object]) -> None:
    group, batch, sites, x, hyper = scene(name, pooling)
    placed = place(group.pool, group.hierarchy, sites, batch.hyper, x, hyper)
    back = coordinates(group.pool, group.hierarchy, sites, batch.hyper, placed.position, hyper)
    np.testing.assert_allclose(back, x, atol=1e-9)


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_the_distribution_is_the_groups_and_the_volume_the_jacobians(name: str, pooling: dict[str, object]) -> None:
    group, batch, sites, x, hyper = scene(name, pooling)
    pool, hierarchy = group.pool, group.hierarchy
    placed = place(pool, hierarchy, sites, batch.hyper, x, hyper)
    log_prior = log_prior_change(pool, hierarchy, batch.hyper, placed.position, hyper)
    mean, spread = hierarchies.means(hierarchy, hyper), hierarchies.spreads(hierarchy, hyper)[0]
    for unit in (0, len(group.members) - 1):
        for chain in range(CHAINS):
            jacobian = jacobian_of_place(pool, hierarchy, sites, batch.hyper, x, hyper, unit, chain)
            _, log_volume = np.linalg.slogdet(jacobian)
            here = np.asarray(placed.position[:, unit, chain])
            theta = np.concatenate([here[own] for _, _, own in pool.slices()])
            broad = [
                np.concatenate([np.asarray(batch.hyper)[i, own, unit] for _, _, own in pool.slices()]) for i in (0, 1)
            ]
            log_density = stats.norm.logpdf(theta, np.asarray(mean)[:, unit, chain], np.asarray(spread)[:, chain])
            ratio = log_density - stats.norm.logpdf(theta, *broad) - np.log(broad[1])
            np.testing.assert_allclose(log_prior[unit, chain], ratio.sum(), rtol=1e-9)
            np.testing.assert_allclose(placed.log_change[unit, chain], ratio.sum() + log_volume, rtol=1e-7)


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_hyperparameters_lead_back_to_coordinates(name: str, pooling: dict[str, object]) -> None:
    group, _, sites, _, hyper = scene(name, pooling)
    there = hyper_coordinates(group.pool, group.hierarchy, sites, hyper)
    zero_state = jax.tree.map(lambda part: jnp.full_like(part, jnp.nan), hyper)
    back, log_volume = place_hyper(group.pool, group.hierarchy, sites, there, zero_state)
    jax.tree.map(lambda found, expected: np.testing.assert_allclose(found, expected, atol=1e-9), back, hyper)
    for chain in range(CHAINS):
        _, expected = np.linalg.slogdet(
            jacobian_of_place_hyper(group.pool, group.hierarchy, sites, there, hyper, chain)
        )
        np.testing.assert_allclose(log_volume[chain], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "keys", [{}, pytest.param({"adstock": []}, marks=pytest.mark.nightly)], ids=["effects", "none"]
)
def test_coordinates_are_normal_whatever_the_spreads_where_sites_are_right(keys: dict[str, list[str]]) -> None:
    group, _, sites, _, hyper = scene("logistic", {"effect": None, "by": ("brand",), "keys": keys})
    hierarchy, row, random = group.hierarchy, 0, np.random.default_rng(3)
    noise = 1 / np.sqrt(np.asarray(sites.precision)[row])
    for coordinate in (-3.0, 0.0, 3.0):
        here = hyper._replace(spread=jnp.full_like(hyper.spread, coordinate))
        spread = float(hierarchies.spreads(hierarchy, here)[0, row, 0])
        found = []
        for _ in range(400):
            drawn = [random.standard_normal(part.shape) for part in (here.centre, *here.levels)]
            at = here._replace(centre=jnp.asarray(drawn[0]), levels=tuple(map(jnp.asarray, drawn[1:])))
            mean = np.asarray(hierarchies.means(hierarchy, at))[row, :, 0]
            seen = mean + np.sqrt(spread**2 + noise**2) * random.normal(size=len(noise))
            changed = sites._replace(mean=sites.mean.at[row].set(seen))
            back = hierarchies.with_moved(at, hyper_coordinates(group.pool, hierarchy, changed, at))
            found.append([float(back.centre[row, 0]), *(float(levels[0, row, 0]) for levels in back.levels)])
        for values in np.transpose(found):
            assert stats.kstest(values, stats.norm.cdf).pvalue > 1e-3


def test_means_add_the_effects_of_a_units_labels() -> None:
    group, _, _, _, hyper = scene("logistic", {})
    scales = hierarchies.spreads(group.hierarchy, hyper)
    centre = group.hierarchy.centre[:, None] + group.hierarchy.centre_sd[:, None] * hyper.centre
    for i, member in enumerate(group.members):
        expected = np.asarray(centre)
        for k, (key, labels) in enumerate(zip(group.keys, group.labels, strict=True)):
            label = member.unit.labels[PANEL.keys.index(key)]
            expected = expected + np.asarray(hyper.levels[k][labels.index(label)] * scales[1 + k])
        np.testing.assert_allclose(hierarchies.means(group.hierarchy, hyper)[:, i], expected, rtol=1e-12)


def test_centres_of_one_type_lie_around_its_mean() -> None:
    group, _, _, _, hyper = scene("logistic", {"types": {"first": ["tv", "display"]}, "adstock": None})
    hierarchy, channels = group.hierarchy, list(PANEL.channels)
    assert hierarchy.types.shape == (2, 8)
    mean, spread = hyper.types[0], 0.5 * np.exp(hierarchies.log_softplus_normal(hyper.types[1]))
    for parameter in range(2):
        for c, channel in enumerate(channels):
            row = parameter * len(channels) + c
            x = hyper.centre[row]
            if channel in ("tv", "display"):
                x = mean[parameter] + spread[parameter] * x
            expected = hierarchy.centre[row] + hierarchy.centre_sd[row] * x
            np.testing.assert_allclose(hierarchies.centres(hierarchy, hyper)[row], expected, rtol=1e-12)


def test_a_type_of_a_channel_that_there_is_not_is_refused() -> None:
    spec = settings(Model(), types={"first": ["tv", "telly"]})
    ((label, units),) = groups_of(PANEL, spec)
    with pytest.raises(ConfigError, match=r"pooling.types.first: 'telly' is no channel; those are tv, search"):
        prepared(label, units, PANEL, spec)


def test_an_override_by_unit_of_a_pooled_parameter_is_refused() -> None:
    from mixfleet.config import Override, Prior

    override = Override(parameter="media_share", unit={"brand": "brand_001"}, hyperparameters={"scale": 1.0})
    spec = replace(settings(Model()), prior=Prior(overrides=(override,)))
    ((label, units),) = groups_of(PANEL, spec)
    with pytest.raises(ConfigError, match="is pooled"):
        prepared(label, units, PANEL, spec)


def test_groups_are_the_labels_of_the_key_or_everybody() -> None:
    by_brand = groups_of(PANEL, settings(Model(), by="brand"))
    assert [label for label, _ in by_brand] == ["brand_001", "brand_002", "brand_003"]
    assert [len(units) for _, units in groups_of(PANEL, settings(Model(), by="crossed"))] == [6]
