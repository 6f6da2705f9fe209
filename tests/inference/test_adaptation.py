"""What a window of draws teaches: coordinates and a metric in which the draws are near a standard normal's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power, sqrtm
from scipy.stats import skew

from mixfleet.inference.adaptation import (
    GRADIENTS_SHARE,
    STEEPEST,
    Metric,
    Window,
    learn,
    metric_of,
    shrunken_covariance,
)
from mixfleet.inference.sinh_arcsinh import SinhArcsinh

COORDINATES, CHAINS = 4, 8
MIXING = np.random.default_rng(0).standard_normal((COORDINATES, COORDINATES))


def learnt(
    draws: np.ndarray, coordinates: SinhArcsinh, covariance: np.ndarray, *, mapped: bool
) -> tuple[SinhArcsinh, Metric] | None:
    [found] = learn([Window(draws, gradients(draws), coordinates, covariance, mapped)])
    return found


SIZES, SKEWNESS = np.array([1e-2, 1.0, 10.0, 1e3]), 0.3


def window(draws: int, seed: int = 1) -> np.ndarray:
    """Correlated, skewed and of very different sizes."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((draws, CHAINS, COORDINATES)) @ MIXING
    return np.moveaxis(np.exp(SKEWNESS * mixed) * SIZES, 1, 2)


def gradients(draws: np.ndarray) -> np.ndarray:
    """Of the log density that `window` draws from."""
    with np.errstate(all="ignore"):
        mixed = np.log(np.moveaxis(draws, 1, 2) / SIZES) / SKEWNESS
        by_mixed = -mixed @ np.linalg.inv(MIXING.T @ MIXING)
        return np.moveaxis((by_mixed / SKEWNESS - 1), 1, 2) / draws


def unmapped() -> SinhArcsinh:
    return SinhArcsinh(*np.repeat([[0.0], [1.0], [0.0], [1.0]], COORDINATES, axis=1))  # pyright: ignore[reportArgumentType]


def by_draw(coordinates: SinhArcsinh) -> SinhArcsinh:
    return SinhArcsinh(*(np.asarray(part)[:, None] for part in coordinates))  # pyright: ignore[reportArgumentType]


def flat(draws: np.ndarray) -> np.ndarray:
    return np.moveaxis(draws, 1, 0).reshape(COORDINATES, -1)


KNOWN = np.diag([1e-4, 1.0, 100.0, 1e6])


def squared(pulls: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Sum of outer products of gradients, none of them larger than so many of the median."""
    size = np.array([pull @ covariance @ pull for pull in pulls.T])
    return sum(np.outer(p, p) * min(1, STEEPEST * np.median(size) / s) for p, s in zip(pulls.T, size, strict=True))


def between(covariance: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """In plain words, the covariance that a metric is made of."""
    root = sqrtm(covariance)
    return root @ fractional_matrix_power(root @ curvature @ root, -GRADIENTS_SHARE) @ root


def test_a_metric_holds_a_covariance_with_its_factors():
    draws = window(40)
    found = learnt(draws, unmapped(), KNOWN, mapped=False)
    assert found is not None
    coordinates, metric = found
    count = 40 * CHAINS
    of_draws = shrunken_covariance(np.cov(flat(draws)) * (count - 1), count, KNOWN)
    squares = squared(flat(gradients(draws)), of_draws)
    expected = between(of_draws, shrunken_covariance(squares, count, np.linalg.inv(KNOWN)))
    np.testing.assert_allclose(metric.covariance, expected, rtol=1e-7)
    np.testing.assert_allclose(np.asarray(metric.upper).T @ np.asarray(metric.upper), metric.covariance, rtol=1e-9)
    np.testing.assert_allclose(metric.inverse @ np.asarray(metric.upper).T, np.eye(COORDINATES), atol=1e-9)
    np.testing.assert_array_equal(coordinates, unmapped())


def test_a_lanes_blocks_take_turns_among_its_rows():
    """One matrix whose blocks do not touch, with row i of block b at place i * blocks + b."""
    blocks = np.stack([np.cov(flat(window(40, seed))) for seed in (1, 2)])
    lanes = np.random.default_rng(3).standard_normal((2 * COORDINATES, CHAINS))
    whole = np.zeros((2 * COORDINATES, 2 * COORDINATES))
    for b, block in enumerate(blocks):
        whole[b::2, b::2] = block
    with jax.enable_x64(True):
        ours = metric_of(blocks, float).inverse_mass_gradient(jnp.asarray(lanes))
    np.testing.assert_allclose(ours, whole @ lanes, rtol=1e-9)


def test_mapped_draws_are_nearer_to_a_normals():
    draws = window(2000)
    found = learnt(draws, unmapped(), np.cov(flat(draws)), mapped=True)
    assert found is not None
    coordinates, metric = found
    mapped = by_draw(coordinates).inverse(flat(draws))
    pulls = by_draw(coordinates).by_mapped(mapped, flat(gradients(draws)))
    # So many draws leave next to nothing of what was known.
    expected = between(np.cov(mapped), squared(pulls, np.cov(mapped)) / mapped.shape[1])
    white = np.asarray(metric.inverse) @ np.linalg.cholesky(expected)
    np.testing.assert_allclose(white @ white.T, np.eye(COORDINATES), atol=0.01)
    before, after = (np.abs(skew(values, axis=1)) for values in (flat(draws), mapped))
    assert np.all(after < 0.2 * before)


def test_few_draws_keep_what_is_known_in_the_new_coordinates():
    """From four draws of each chain comes nearly what many draws would say."""
    many, few = window(4000), window(4, seed=2)
    told = learnt(many, unmapped(), np.cov(flat(many)), mapped=True)
    assert told is not None
    coordinates, metric = told
    found = learnt(few, coordinates, np.asarray(metric.covariance), mapped=True)
    assert found is not None
    mapped = by_draw(found[0]).inverse(flat(many))
    factor = np.linalg.cholesky(np.cov(mapped))
    spread = np.linalg.eigvalsh(np.linalg.solve(factor, np.linalg.solve(factor, found[1].covariance).T))
    assert np.all((spread > 0.4) & (spread < 2.5)), spread


@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_learnt_does_not_depend_on_the_order_of_memory(mapped: bool):
    draws = window(30).astype(np.float32)
    found = learnt(draws, unmapped(), KNOWN, mapped=mapped)
    again = learnt(np.asfortranarray(draws), unmapped(), KNOWN, mapped=mapped)
    assert found is not None
    assert again is not None
    for one, other in zip((*found[0], *found[1]), (*again[0], *again[1]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_nothing_is_learnt_from_draws_that_stand_still_or_are_no_numbers(value: float):
    draws = window(30)
    draws[:, 1] = value
    assert learnt(draws, unmapped(), KNOWN, mapped=True) is None
    assert (learnt(draws, unmapped(), KNOWN, mapped=False) is None) == (not np.isfinite(value))
    assert learnt(draws[:0], unmapped(), KNOWN, mapped=True) is None


def test_a_unit_learns_alone_what_it_learns_among_others():
    draws = [window(count, seed) for seed, count in enumerate((24, 30, 9))]
    windows = [
        Window(own, gradients(own), unmapped(), KNOWN, mapped)
        for own, mapped in zip(draws, (True, False, True), strict=True)
    ]
    for together, own in zip(learn(windows), windows, strict=True):
        [alone] = learn([own])
        assert together is not None
        assert alone is not None
        for one, other in zip((*together[0], *together[1]), (*alone[0], *alone[1]), strict=True):
            np.testing.assert_array_equal(one, other)
