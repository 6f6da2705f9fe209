"""Sites that are learnt from draws are the Gaussians that the likelihood is made of, where it is."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.hierarchy.likelihood_approximation import STIFF, pulls, sites_of_draws
from mixfleet.hierarchy.reparameterization import pooled_rows
from tests.hierarchy.test_reparameterization import CHAINS, scene, x64

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

__all__ = ["x64"]

DRAWS = 400


def found_of_draws(precision: np.ndarray, mean: np.ndarray, draws: np.ndarray) -> Any:
    """Sites from draws of a Gaussian likelihood of units without a curve to speak of.

    Args:
        precision: Among a channel's pooled parameters [parameter, parameter, channel, unit].
        mean: [row, unit].
        draws: Of the pooled parameters [draw, row, unit, chain].
    """
    group, batch, sites, _, _ = scene("logistic", {"effect": None})
    pool = group.pool
    prior_mean, prior_sd = (np.asarray(pooled_rows(pool, batch.hyper[i]))[..., None] for i in (0, 1))
    position = np.zeros((len(draws), pool.structure.dimension, *draws.shape[2:]))
    gradient = np.zeros_like(position)
    away = (draws - mean[..., None]).reshape(len(draws), len(precision), -1, *draws.shape[2:])
    told = -np.einsum("ijcu,djcus->dicus", precision, away).reshape(draws.shape)
    for _, rows, own in pool.slices():
        position[:, own] = draws[:, rows]
        gradient[:, own] = told[:, rows] - (draws[:, rows] - prior_mean[rows]) / prior_sd[rows] ** 2
    at = [pulls(pool, batch.hyper, sites.level, *map(jnp.asarray, one)) for one in zip(position, gradient, strict=True)]
    values, pull = (np.stack(parts) for parts in zip(*at, strict=True))
    level = np.asarray(sites.level)
    return sites_of_draws(pool, np.asarray(batch.hyper), level, position.mean((0, 3)), values, pull)


def test_sites_of_a_gaussian_likelihood_are_that_likelihood() -> None:
    """Of units without correlation between parameters, with the curve held at one place by a narrow likelihood."""
    group, batch, *_ = scene("logistic", {"effect": None})
    random = np.random.default_rng(5)
    prior_mean, prior_sd = (np.asarray(pooled_rows(group.pool, batch.hyper[i])) for i in (0, 1))
    own = np.exp(random.normal(0, 1.5, prior_mean.shape)) / prior_sd**2
    mean = prior_mean + prior_sd * random.normal(size=prior_mean.shape)
    count = len(group.pool.parameters)
    precision = np.einsum("ij,jcu->ijcu", np.eye(count), own.reshape(count, -1, own.shape[-1]))
    # Of draws about the mean, whatever their width is, the gradient's slope is the same.
    draws = mean[..., None] + random.normal(size=(DRAWS, *mean.shape, CHAINS)) / np.sqrt(own)[..., None]
    found = found_of_draws(precision, mean, draws)
    np.testing.assert_allclose(found.precision, own, rtol=1e-6)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)


def test_on_a_ridge_a_site_is_a_share_of_what_the_gradient_tells_at_one_place() -> None:
    """Where their sum alone is known the data say little of each parameter, yet none must move without the others."""
    group, batch, *_ = scene("logistic", {"effect": None})
    random, count = np.random.default_rng(6), len(group.pool.parameters)
    mean = np.asarray(pooled_rows(group.pool, batch.hyper[0]))
    shape = mean.reshape(count, -1, mean.shape[-1]).shape[1:]
    ridge = 1e4 * np.ones((count, count))
    precision = np.broadcast_to(ridge[..., None, None], (count, count, *shape))
    root = np.linalg.cholesky(np.linalg.inv(ridge + np.eye(count)))
    white = random.normal(size=(DRAWS, count, *shape, CHAINS))
    draws = mean[..., None] + np.einsum("ij,djcus->dicus", root, white).reshape(DRAWS, *mean.shape, CHAINS)
    found = found_of_draws(precision, mean, draws)
    score = (ridge @ np.linalg.inv(ridge + np.eye(count)) @ ridge).diagonal()
    np.testing.assert_allclose(found.precision, STIFF * score[0], rtol=0.1)
