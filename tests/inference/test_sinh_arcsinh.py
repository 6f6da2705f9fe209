"""Sinh-arcsinh coordinates: one to one, with their Jacobian, and a normal's where draws come from such a map."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.special import ndtri

from mixfleet.inference import sinh_arcsinh
from mixfleet.inference.sinh_arcsinh import BOUNDS, Original, SinhArcsinh, fit, mapped, pulled
from mixfleet_kernels import native_library

CHAINS = 5
UNITS = 2
MAP = SinhArcsinh(*np.random.default_rng(1).uniform(0.5, 1.5, (4, 3, UNITS)))  # pyright: ignore[reportArgumentType]
PLACES = np.random.default_rng(2).standard_normal((3, UNITS * CHAINS)) * np.linspace(0.1, 6, UNITS * CHAINS)


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def log_density(x: Array) -> tuple[Array, Array, Array]:
    """No normal's, and no coordinate alone."""

    def value(x: Array) -> Array:
        return jnp.sum(-jnp.log(1 + x**2), axis=0) - 0.1 * (x[0] - x[1] * x[2]) ** 2

    return value(x), jax.grad(lambda x: jnp.sum(value(x)))(x), 2 * x


def by_formula(z: Array) -> Array:
    location, scale, skewness, tail = (jnp.repeat(jnp.asarray(part), CHAINS, axis=1) for part in MAP)
    return location + scale * jnp.sinh((jnp.arcsinh(z) + skewness) / tail)


def test_the_density_has_its_jacobian_and_gradient():
    def value(z: Array) -> Array:
        slope = jax.grad(lambda z: jnp.sum(by_formula(z)))(z)
        return log_density(by_formula(z))[0] + jnp.sum(jnp.log(slope), axis=0)

    found, gradient, original = MAP.density(log_density, CHAINS)(jnp.asarray(PLACES))
    np.testing.assert_allclose(found, value(jnp.asarray(PLACES)), rtol=1e-12)
    np.testing.assert_allclose(gradient, jax.grad(lambda z: jnp.sum(value(z)))(jnp.asarray(PLACES)), rtol=1e-9)
    there = by_formula(jnp.asarray(PLACES))
    for part, expected in zip(original, (there, log_density(there)[0], 2 * there), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12)


def test_chains_that_move_to_other_coordinates_stay_where_they_are():
    z = jnp.asarray(PLACES)
    _, gradient, original = MAP.density(log_density, CHAINS)(z)
    back = MAP.forget(z, gradient, CHAINS)
    np.testing.assert_allclose(back, log_density(original.position)[1], rtol=1e-9, atol=1e-12)
    other = sinh_arcsinh.identity(3, UNITS, jnp.float64)
    position, value, by_x = other.move(Original(*original), back, CHAINS)
    np.testing.assert_allclose(position, original.position, rtol=1e-12)
    np.testing.assert_allclose(value, original.value, rtol=1e-12)
    np.testing.assert_allclose(by_x, back, rtol=1e-9, atol=1e-12)
    again, value, by_z = MAP.move(original, back, CHAINS)
    np.testing.assert_allclose(again, z, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_z, gradient, rtol=1e-8, atol=1e-12)


def test_float32_holds_the_tails():
    """Thirty standard deviations out the map is finite, and so is its slope."""
    narrow = SinhArcsinh(*np.float32([[[0.0]], [[1.0]], [[BOUNDS[0]]], [[np.exp(-BOUNDS[1])]]]))  # pyright: ignore[reportArgumentType]
    far = jnp.asarray([[-30.0, -1.0, 0.0, 1.0, 30.0]], jnp.float32)
    value, gradient, original = narrow.density(lambda x: (0 * x[0], 0 * x, x), 5)(far)
    for part in (value, gradient, original.position):
        assert part.dtype == jnp.float32
        assert np.all(np.isfinite(part))


def test_the_map_of_its_own_quantiles_is_found():
    random = np.random.default_rng(3)
    skewness, tail = random.uniform(-0.8, 0.8, 12), random.uniform(0.6, 1.6, 12)
    location, scale = random.normal(0, 10, 12), np.exp(random.normal(0, 3, 12))
    z = ndtri((np.arange(4000) + 0.5) / 4000)
    draws = location[:, None] + scale[:, None] * np.sinh((np.arcsinh(z) + skewness[:, None]) / tail[:, None])
    [found] = fit([random.permuted(draws, axis=1)])
    normal = SinhArcsinh(*(part[:, None] for part in found)).inverse(draws)
    # A little is left to the penalties.
    assert np.max(np.abs(normal - z)[:, 40:-40]) < 0.06


def test_normal_draws_are_left_nearly_as_they_are():
    draws = np.random.default_rng(4).standard_normal((10, 20_000)) * 3 + 7
    [found] = fit([draws])
    assert np.max(np.abs(found.skewness)) < 0.06
    assert np.max(np.abs(np.log(found.tail))) < 0.1
    normal = SinhArcsinh(*(part[:, None] for part in found)).inverse(draws)
    np.testing.assert_allclose(normal, (draws - 7) / 3, atol=0.4)


def test_wild_draws_stay_within_the_bounds():
    random = np.random.default_rng(5)
    draws = np.stack([random.standard_cauchy(300) ** 3, np.exp(4 * random.standard_normal(300)), np.arange(300) > 290])
    [found] = fit([draws])
    assert np.all(np.abs(found.skewness) <= BOUNDS[0])
    assert np.all(np.abs(np.log(found.tail)) <= BOUNDS[1] + 1e-12)
    assert np.all(np.isfinite(found[:2]))
    assert np.all(np.asarray(found.scale) > 0)


def test_draws_without_a_spread_have_no_map_and_spoil_no_other():
    good = np.random.default_rng(6).standard_normal(50)
    [found] = fit([np.stack([good, np.full(50, 2.0)])])
    assert np.all(np.isnan([found.location[1], found.scale[1]]))
    for part, alone in zip(found, fit([good[None]])[0], strict=True):
        np.testing.assert_allclose(part[0], alone[0], rtol=1e-6)


SKEWED = [
    np.sinh(np.random.default_rng(seed).standard_normal((rows, 400)) * 1.5 + 1) ** 3 * np.arange(1.0, rows + 1)[:, None]
    for seed, rows in ((7, 5), (8, 12), (9, 3))
]
"""Draws of units, of which some ask for more than the bounds."""


def without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "available", lambda: False)


def test_native_maps_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    native = fit(SKEWED)
    without_the_library(monkeypatch)
    for found, expected in zip(native, fit(SKEWED), strict=True):
        # As far as the steps of the fit come.
        for part in ("skewness", "tail"):
            np.testing.assert_allclose(getattr(found, part), getattr(expected, part), atol=1e-5)
        for part in ("location", "scale"):
            away = np.abs(getattr(found, part) - getattr(expected, part))
            assert np.all(away < 1e-5 * np.asarray(expected.scale))


def test_a_units_maps_do_not_depend_on_the_others() -> None:
    for found, [alone] in zip(fit(SKEWED), (fit([own]) for own in SKEWED), strict=True):
        np.testing.assert_array_equal(np.stack(found), np.stack(alone))


def test_native_code_tells_draws_as_numpy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = SinhArcsinh(*np.random.default_rng(10).uniform(0.5, 1.5, (4, 3)))  # pyright: ignore[reportArgumentType]
    # Of a length that fills no whole number of vectors; far out, and near the middle.
    draws = np.random.default_rng(11).standard_normal((3, 37)) * np.geomspace(1e-9, 1e6, 37)
    gradients = np.random.default_rng(12).standard_normal(draws.shape)
    native = (mapped(maps, draws), *pulled(maps, draws, gradients))
    without_the_library(monkeypatch)
    for found, expected in zip(native, (mapped(maps, draws), *pulled(maps, draws, gradients)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
