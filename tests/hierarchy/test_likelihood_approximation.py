"""Sites that are learnt from draws are the Gaussians that the likelihood is made of, where it is."""

import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.hierarchy.likelihood_approximation import pulls, sites_of_draws
from mixfleet.hierarchy.reparameterization import pooled_rows
from tests.hierarchy.test_reparameterization import CHAINS, scene, x64

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

__all__ = ["x64"]

DRAWS = 400


def test_sites_of_a_gaussian_likelihood_are_that_likelihood() -> None:
    """Of units without correlation between parameters, with the curve held at one place by a narrow likelihood."""
    group, batch, sites, _, _ = scene("logistic", {"effect": None})
    pool, random = group.pool, np.random.default_rng(5)
    prior_mean, prior_sd = (np.asarray(pooled_rows(pool, batch.hyper[i])) for i in (0, 1))
    precision = np.exp(random.normal(0, 1.5, prior_mean.shape)) / prior_sd**2
    mean = prior_mean + prior_sd * random.normal(size=prior_mean.shape)
    position = np.zeros((DRAWS, pool.structure.dimension, pool.structure.units, CHAINS))
    gradient = np.zeros_like(position)
    for _, rows, own in pool.slices():
        # Whatever the draws are of: the gradient's slope is the same.
        values = mean[rows][None, :, :, None] + random.normal(size=position[:, own].shape)
        position[:, own] = values
        prior = (values - prior_mean[rows][..., None]) / prior_sd[rows][..., None] ** 2
        gradient[:, own] = -precision[rows][..., None] * (values - mean[rows][..., None]) - prior
    at = [pulls(pool, batch.hyper, sites.level, *map(jnp.asarray, (position[i], gradient[i]))) for i in range(DRAWS)]
    values, pull = (np.stack(parts) for parts in zip(*at, strict=True))
    found = sites_of_draws(pool, np.asarray(batch.hyper), np.asarray(sites.level), position.mean((0, 3)), values, pull)
    np.testing.assert_allclose(found.precision, precision, rtol=1e-6)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-6)
