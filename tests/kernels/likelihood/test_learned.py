"""The likelihood of learned scales is the normal density written in full, and of known ones that of known ones."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet_kernels.likelihood import learned, xla
from mixfleet_kernels.likelihood.arrays import Response, Series

WEEKS, PADDED, COLUMNS, LANES = 40, 48, 4, 3
NOISE = np.array([0.6, 0.4, 0.9])
EFFECT = np.array([0.5, 1.0, 0.1])
EVALUATE = jax.jit(learned.evaluate, static_argnames="strength_is_mean")


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def drawn(*, seen: int = COLUMNS) -> tuple[Series, learned.Block, Response, np.ndarray]:
    """Columns of which the last ones may be zero in every week, as steps ahead are; the weeks behind are padding."""
    rng = np.random.default_rng(3)
    columns = np.zeros((PADDED, COLUMNS))
    columns[:WEEKS, :seen] = rng.standard_normal((WEEKS, seen)) @ (np.eye(seen) + 0.5)
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    basis = np.where(singular > 1e-9, left, 0.0)
    kpi, weight = np.zeros(PADDED), (np.arange(PADDED) < WEEKS) * 1.0
    kpi[:WEEKS] = rng.standard_normal(WEEKS)
    response = Response(jnp.asarray(rng.uniform(0, 1, (PADDED, 1, LANES))), ())

    def lanes(values: np.ndarray) -> jax.Array:
        return jnp.asarray(np.repeat(values[..., None], LANES, axis=-1))

    by_lane = {"media": np.zeros((PADDED, 1)), "kpi": kpi, "weight": weight, "variance": singular**2}
    given = {name: lanes(values) for name, values in {**by_lane, "active": np.ones(1)}.items()}
    series = Series(basis=jnp.asarray(basis[None]), **given)
    turned = basis.T @ columns
    ratio = jnp.asarray(np.exp(0.5 * rng.standard_normal((COLUMNS, LANES))))
    block = learned.Block(jnp.asarray(turned[..., None]), jnp.asarray((columns.T @ columns)[..., None]), ratio)
    assert np.allclose(basis @ turned, columns)
    return series, block, response, columns[:WEEKS]


def in_full(series: Series, response: Response, columns: np.ndarray, ratio: np.ndarray, log_noise: np.ndarray):
    found = []
    for lane in range(LANES):
        spread = columns * ratio[:, lane]
        covariance = np.exp(2 * log_noise[lane]) * np.eye(WEEKS) + spread @ spread.T
        left = np.asarray(series.kpi[:WEEKS, lane]) - EFFECT[lane] * np.asarray(response.value[:WEEKS, 0, lane])
        found.append(stats.multivariate_normal(cov=covariance).logpdf(left))
    return np.array(found)


@pytest.mark.parametrize("seen", [COLUMNS, COLUMNS - 1])
def test_it_is_the_normal_density(seen: int):
    series, block, response, columns = drawn(seen=seen)
    at = (jnp.asarray(EFFECT[None]), jnp.log(jnp.asarray(NOISE)))
    found, by_ratio = EVALUATE(series, block, response, *at, strength_is_mean=False)
    ratio, log_noise = np.asarray(block.ratio), np.log(NOISE)
    np.testing.assert_allclose(found.value, in_full(series, response, columns, ratio, log_noise), rtol=1e-11)
    if seen < COLUMNS:
        np.testing.assert_allclose(by_ratio[seen:], 0.0, atol=1e-12)


def test_derivatives_are_those_of_automatic_differentiation():
    series, block, response, _ = drawn()
    effect, log_noise = jnp.asarray(EFFECT[None]), jnp.log(jnp.asarray(NOISE))

    def total(log_ratio: jax.Array, effect: jax.Array, log_noise: jax.Array) -> jax.Array:
        scaled = block.turned[..., 0][None] * jnp.exp(log_ratio).T[:, None]
        columns = jnp.einsum("wi,lij->lwj", series.basis[0, :WEEKS], scaled)
        covariance = jnp.exp(2 * log_noise)[:, None, None] * jnp.eye(WEEKS)[None] + columns @ columns.mT
        left = (series.kpi - effect * response.value[:, 0])[:WEEKS].T
        solved = jnp.linalg.solve(covariance, left[..., None])[..., 0]
        return jnp.sum(-0.5 * jnp.sum(left * solved, axis=-1) - 0.5 * jnp.linalg.slogdet(covariance)[1])

    found, by_ratio = EVALUATE(series, block, response, effect, log_noise, strength_is_mean=False)
    expected = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(jnp.log(block.ratio), effect, log_noise)
    for ours, theirs in zip((by_ratio, found.by_effect, found.by_log_noise), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_known_scales_give_the_likelihood_of_known_scales():
    series, block, response, _ = drawn()
    at = (jnp.asarray(EFFECT[None]), jnp.log(jnp.asarray(NOISE)))
    found, _ = EVALUATE(series, block._replace(ratio=jnp.ones_like(block.ratio)), response, *at, strength_is_mean=True)
    plain = jax.jit(xla.evaluate, static_argnames="strength_is_mean")(series, response, *at, strength_is_mean=True)
    for name in ("value", "by_effect", "by_log_noise", "effect"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-10, atol=1e-12)


def test_coefficients_have_the_posteriors_moments():
    series, block, response, columns = drawn()
    at = (jnp.asarray(EFFECT[None]), jnp.log(jnp.asarray(NOISE)))
    mean = EVALUATE(series, block, response, *at, strength_is_mean=False)[0].projection
    lane, count = 1, 20_000
    one = block._replace(ratio=jnp.repeat(block.ratio[:, lane : lane + 1], count, axis=1))
    white = jnp.asarray(np.random.default_rng(1).standard_normal((COLUMNS, count)))
    noise = jnp.full(count, NOISE[lane])
    drawn_there = learned.coefficients(one, jnp.repeat(mean[:, lane : lane + 1], count, axis=1), noise, white)
    ratio = np.asarray(block.ratio[:, lane])
    covariance = np.linalg.inv(columns.T @ columns / NOISE[lane] ** 2 + np.diag(ratio**-2))
    left = np.asarray(series.kpi[:WEEKS, lane]) - EFFECT[lane] * np.asarray(response.value[:WEEKS, 0, lane])
    expected = covariance @ columns.T @ left / NOISE[lane] ** 2
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((drawn_there.mean(axis=1) - expected) / sd, 0.0, atol=4 / np.sqrt(count))
    np.testing.assert_allclose(np.cov(drawn_there) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.05)
