"""The sampler on other people's posteriors: thirteen trusted references, and targets that no sampler should certify."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.support import any_density, monte_carlo_error
from tests.support.posteriordb import POSTERIORS
from tests.support.shared_data import shared

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("usual_broadcasts")]


QUICK = ("sblri-blr", "eight_schools-eight_schools_noncentered", "garch-garch11", "low_dim_gauss_mix-low_dim_gauss_mix")
"""One of each kind: linear, hierarchical, a time series, a mixture."""


def errors(draws: np.ndarray) -> np.ndarray:
    """Monte Carlo standard errors of the quantities' means."""
    even = draws[: len(draws) - len(draws) % 2]
    with jax.enable_x64(True):
        return np.asarray(monte_carlo_error.mcse_mean(jnp.asarray(np.moveaxis(even, 2, 0)), jnp.int32(len(even))))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.nightly) for name in POSTERIORS]
)
def test_moments_are_those_of_the_reference(name: str):
    folder = shared("posteriordb") / name
    data: dict[str, Any] = json.loads((folder / "data.json").read_text())
    reference = json.loads((folder / "reference.json").read_text())["parameters"].values()
    posterior = POSTERIORS[name](data)
    found = any_density.sample(
        posterior.log_density, posterior.centre, scale=posterior.scale, quantities=posterior.parameters
    )
    assert found.verdict.passed, found.verdict
    assert found.draws.shape[1] == len(reference)

    mean, sd, square, error, square_error = (
        np.array([row[key] for row in reference]) for key in ("mean", "sd", "mean_sq", "mcse_mean", "mcse_mean_sq")
    )
    both = np.concatenate([found.draws, found.draws**2], axis=1)
    ours, wanted = both.mean(axis=(0, 2)), np.concatenate([mean, square])
    z = (ours - wanted) / np.hypot(errors(both), np.concatenate([error, square_error]))
    assert np.all(np.abs(z) < 5), z
    bias = (ours - wanted)[len(mean) :] ** 2 / (found.draws**2).var(axis=(0, 2))
    assert np.all(bias < 0.01), bias
    assert np.all(sd > 0)


def two_peaks(u: Array) -> Array:
    """Two normals twelve standard deviations apart."""
    return jnp.logaddexp(-0.5 * jnp.sum((u - 6) ** 2), -0.5 * jnp.sum((u + 6) ** 2))


def uneven_peaks(u: Array) -> Array:
    """A wide normal and, far from it, a narrower one of the same mass."""
    wide, narrow = -0.5 * jnp.sum((u + 4) ** 2), -0.5 * jnp.sum(((u - 4) / 0.8) ** 2) - len(u) * jnp.log(0.8)
    return jnp.logaddexp(wide, narrow)


def funnel(u: Array, width: float = 5.0) -> Array:
    """Neal's, but wider: its neck is narrower than any step that suits its mouth, in any coordinates of their own."""
    return -0.5 * (u[0] / width) ** 2 - 0.5 * jnp.sum(u[1:] ** 2 * jnp.exp(-u[0]) + u[0])


def wall(u: Array) -> Array:
    """A normal whose density drops to nothing beyond a line through its bulk."""
    return jnp.where(u[0] > 0.3, -jnp.inf, -0.5 * jnp.sum(u**2))


@pytest.mark.parametrize(
    ("log_density", "centre", "scale"),
    [(two_peaks, 0.0, 1.0), (uneven_peaks, 0.0, 4.0), (funnel, 0.0, 1.0), (wall, -1.0, 1.0)],
    ids=["two_peaks", "uneven_peaks", "funnel", "wall"],
)
def test_what_cannot_be_sampled_is_not_certified(log_density: Any, centre: float, scale: float):
    found = any_density.sample(log_density, np.full(4, centre), scale=scale)
    assert not found.verdict.passed
    assert found.verdict.reason
    assert found.rung == 1


def test_neals_own_funnel_is_certified_only_where_it_is_sampled_right():
    """Its coordinates are adapted well enough for that; the width of its neck says whether chains got there."""
    found = any_density.sample(partial(funnel, width=3.0), np.zeros(4), scale=1.0)
    neck, errors = np.asarray(found.draws)[:, 0], 4 / np.sqrt([found.verdict.ess_bulk_min, found.verdict.ess_tail_min])
    right = abs(neck.mean()) < 3 * errors[0] and abs(neck.std() / 3 - 1) < errors[1]
    assert right or not found.verdict.passed
