"""Every implementation of adstock equals the reference, and stays finite where the formulas do not."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet_kernels import adstock
from mixfleet_kernels.adstock import reference
from mixfleet_kernels.adstock.cases import CASES, Case

SMALL = {name: case for name, case in CASES.items() if not case.large}
IMPLEMENTATIONS = ["xla"]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}
GRADIENT_TOLERANCE = {np.float32: 5e-5, np.float64: 1e-7}
DECAYS = [0.0, 1e-38, 1e-30, 1e-12, 1e-7, 1e-3, 0.5, 0.9, 1 - 1e-7, 1.0]
SIZES = [1e-12, 1e-6, 1e-3, 0.3, 1.0, 4.0, 50.0, 1e6, 1e12]
GRIDS = {
    "geometric": [DECAYS],
    "binomial": [DECAYS],
    "delayed": [DECAYS, [0.0, 0.5, 1.0, 3.0, 7.9, 30.0]],
    "weibull_pdf": [[1e-6, 0.05, 0.5, 1.0, 2.0, 10.0, 50.0], SIZES],
    "weibull_cdf": [[1e-6, 0.05, 0.5, 1.0, 2.0, 10.0, 50.0], SIZES],
}


def each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    """Every case in float64, and each family in float32 too: compiling is what takes time."""
    pairs = [
        pytest.param(case, dtype, id=f"{name}-{dtype.__name__}")
        for name, case in cases.items()
        for dtype in ((np.float64, np.float32) if name.endswith(("156x8", "_13")) else (np.float64,))
    ]
    return pytest.mark.parametrize(("case", "dtype"), pairs, indirect=["dtype"])


def grid(family: str, dtype: type[np.floating]) -> tuple[np.ndarray, ...]:
    points = np.array(list(itertools.product(*GRIDS[family])), dtype)
    return tuple(points.T)


def reference_slope(case: Case, index: int) -> np.ndarray:
    """Central differences of the reference's weights by one parameter."""
    parameters = case.parameters(np.float64)
    step = 1e-5
    moved = []
    for sign in (1, -1):
        shifted = [p + sign * step * (j == index) for j, p in enumerate(parameters)]
        moved.append(reference.weights(case.family, tuple(shifted), **case.options))
    return (moved[0] - moved[1]) / (2 * step)


@each(SMALL)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_weights_contract(case: Case, implementation: str, dtype: type[np.floating]):
    """Value and VJP through vmap, and the tangents, in one program."""
    weigh = partial(adstock.weights, case.family, **case.options, implementation=implementation)
    parameters = tuple(jnp.asarray(p) for p in case.parameters(dtype))
    shape = (case.window, *(case.batch if parameters else ()))
    cotangent = np.random.default_rng(0).normal(size=shape).astype(dtype)

    @jax.jit
    def program(parameters: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple:
        mapped = jax.vmap(weigh, out_axes=1) if parameters and case.batch else weigh
        value, pullback = jax.vjp(mapped, parameters)
        closed = adstock.weights_and_tangents(case.family, parameters, **case.options)
        return value, pullback(cotangent)[0], closed

    value, gradients, (together, tangents) = program(parameters, jnp.asarray(cotangent))
    expected = reference.weights(case.family, parameters, **case.options)
    for weights in (value, together):
        assert weights.dtype == dtype
        assert weights.shape == shape
        np.testing.assert_allclose(weights, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert len(gradients) == len(tangents) == len(parameters)
    for index, (gradient, tangent) in enumerate(zip(gradients, tangents, strict=True)):
        slope = reference_slope(case, index)
        np.testing.assert_allclose(tangent, slope, atol=GRADIENT_TOLERANCE[dtype])
        pulled = np.sum(cotangent * slope, axis=0)
        np.testing.assert_allclose(gradient, pulled, rtol=1e-4, atol=10 * GRADIENT_TOLERANCE[dtype])


@each({name: case for name, case in SMALL.items() if case.family in ("geometric", "delayed")})
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_convolve_contract(case: Case, implementation: str, dtype: type[np.floating]):
    """Value and VJP through vmap, in one program. The reference is bilinear: the VJP is its adjoint."""
    carry = partial(adstock.convolve, implementation=implementation)
    media = jnp.asarray(case.media(dtype))
    weights = jnp.asarray(reference.weights(case.family, case.parameters(dtype), **case.options), dtype)
    random = np.random.default_rng(0)
    cotangent = random.normal(size=media.shape).astype(dtype)

    @jax.jit
    def program(media: jax.Array, weights: jax.Array, cotangent: jax.Array) -> tuple:
        mapped = jax.vmap(carry, in_axes=1, out_axes=1) if case.batch else carry
        value, pullback = jax.vjp(mapped, media, weights)
        return value, pullback(cotangent), carry(media, weights)

    value, (to_media, to_weights), alone = program(media, weights, jnp.asarray(cotangent))
    expected = reference.convolve(media, weights)
    for carried in (value, alone):
        assert carried.dtype == dtype
        np.testing.assert_allclose(carried, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)
    media_step, weights_step = random.normal(size=media.shape), random.normal(size=weights.shape)
    tolerance = 500 * TOLERANCE[dtype]
    by_media = np.vdot(cotangent, reference.convolve(media_step, weights))
    assert np.vdot(np.asarray(to_media, np.float64), media_step) == pytest.approx(by_media, abs=tolerance)
    by_weights = np.vdot(cotangent, reference.convolve(media, weights_step))
    assert np.vdot(np.asarray(to_weights, np.float64), weights_step) == pytest.approx(by_weights, abs=tolerance)


def test_one_window_serves_every_batch_element(dtype: type[np.floating]):
    media = Case(family="none", weeks=12, batch=(2, 3)).media(dtype)
    window = np.array([0.5, 0.3, 0.2], dtype)
    carried = adstock.convolve(media, window)
    expected = reference.convolve(media, np.broadcast_to(window[:, None, None], (3, 2, 3)))
    np.testing.assert_allclose(carried, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)


def test_reference_is_an_implementation(x64: None):
    case = CASES["geometric_156x8"]
    weights = adstock.weights(case.family, case.parameters(np.float64), window=9, implementation="reference")
    carried = adstock.convolve(case.media(np.float64), weights, implementation="reference")
    expected = adstock.convolve(case.media(np.float64), weights)
    np.testing.assert_allclose(carried, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("family", "minmax", "window"),
    [
        *((family, False, 13) for family in GRIDS),
        ("weibull_pdf", True, 13),
        ("weibull_pdf", True, 1),
        ("delayed", False, 1),
    ],
)
def test_finite_with_finite_derivatives_everywhere(family: str, minmax: bool, window: int, dtype: type[np.floating]):
    @jax.jit
    def program(parameters: tuple[jax.Array, ...]) -> tuple:
        def centre(parameters: tuple[jax.Array, ...]) -> jax.Array:
            weights = adstock.weights(family, parameters, window=window, weibull_minmax=minmax)
            return jnp.sum(weights * jnp.arange(window, dtype=weights.dtype)[:, None])

        shares, raw = (
            adstock.weights_and_tangents(family, parameters, window=window, normalise=normalise, weibull_minmax=minmax)
            for normalise in (True, False)
        )
        return shares, raw, jax.grad(centre)(parameters)

    results = program(tuple(jnp.asarray(p) for p in grid(family, dtype)))
    assert all(np.isfinite(result).all() for result in jax.tree.leaves(results))
    (shares, _), (raw, _), _ = results
    assert np.min(shares) >= 0
    assert np.min(raw) >= 0
    np.testing.assert_allclose(np.sum(np.asarray(shares, np.float64), axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("family", ["geometric", "binomial"])
def test_mass_is_conserved_and_float32_equals_the_direct_sum(family: str):
    parameters = grid(family, np.float32)
    weights = adstock.weights(family, parameters, window=9)
    impulse = np.zeros((60, parameters[0].size), np.float32)
    impulse[3] = 7.0
    carried = np.asarray(adstock.convolve(impulse, weights), np.float64)
    np.testing.assert_allclose(carried.sum(axis=0), 7.0, rtol=1e-6)
    case = Case(family=family, weeks=60, batch=parameters[0].shape)
    media = case.media(np.float32)
    expected = reference.convolve(media, reference.weights(family, parameters, **case.options))
    np.testing.assert_allclose(adstock.convolve(media, weights), expected, rtol=2e-6, atol=1e-37)


def test_geometric_slope_at_decay_zero_is_exact(dtype: type[np.floating]):
    _, (slope,) = adstock.weights_and_tangents("geometric", (dtype(0),), window=4, normalise=False)
    np.testing.assert_array_equal(slope, [0, 1, 0, 0])


def test_decay_one_is_a_flat_window(dtype: type[np.floating]):
    for family in ("geometric", "binomial"):
        np.testing.assert_allclose(adstock.weights(family, (dtype(1),), window=5), 0.2, rtol=1e-6)


def test_vanishing_weibull_scale_leaves_everything_in_the_first_week(dtype: type[np.floating]):
    for family, minmax in itertools.product(("weibull_pdf", "weibull_cdf"), (False, True)):
        weights = adstock.weights(family, (dtype(2), dtype(1e-12)), window=5, weibull_minmax=minmax)
        np.testing.assert_array_equal(weights, [1, 0, 0, 0, 0])


@pytest.mark.parametrize("window", [9, 40])
def test_padding_weeks_add_exactly_nothing(window: int, dtype: type[np.floating]):
    case = Case(family="geometric", weeks=70, batch=(3,), window=window)
    media = case.media(dtype)
    media[:50] = 0
    weights = adstock.weights(case.family, case.parameters(dtype), window=window)
    only_padding = np.zeros_like(media)
    only_padding[:50] = 1

    @jax.jit
    def program(media: jax.Array, weights: jax.Array, cotangent: jax.Array) -> tuple:
        carried, pullback = jax.vjp(partial(adstock.convolve, media), weights)
        return carried, pullback(cotangent)[0]

    carried, gradient = program(jnp.asarray(media), weights, jnp.asarray(only_padding))
    np.testing.assert_array_equal(carried[:50], 0)
    np.testing.assert_array_equal(gradient, 0)


def test_not_a_number_is_never_hidden(dtype: type[np.floating]):
    media = np.zeros((6, 2), dtype)
    media[2, 0] = np.nan
    carried = np.asarray(adstock.convolve(media, adstock.weights("none", (), window=3)))
    assert np.isnan(carried[2, 0])
    assert np.isfinite(carried[:, 1]).all()
    for family in ("geometric", "binomial"):
        assert np.isnan(adstock.weights(family, (dtype(np.nan),), window=3)).all()


def test_whole_numbers_are_taken_as_floats():
    np.testing.assert_array_equal(adstock.convolve(np.array([4, 0, 8]), np.array([0.5, 0.5])), [2, 2, 4])
    np.testing.assert_array_equal(adstock.weights("geometric", (1,), window=2), [0.5, 0.5])


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="unknown adstock family 'hill': choose one of binomial, delayed"):
        adstock.weights("hill", (0.5,), window=3)
    with pytest.raises(ValueError, match=r"'delayed' takes \(decay, delay\), got 1 parameters"):
        adstock.weights("delayed", (0.5,), window=3)
    with pytest.raises(ValueError, match="window must be at least 1 week, got 0"):
        adstock.weights("geometric", (0.5,), window=0)
    with pytest.raises(ValueError, match="unknown adstock implementation 'gpu': choose one of reference, xla"):
        adstock.weights("geometric", (0.5,), window=3, implementation="gpu")
    with pytest.raises(ValueError, match="differ after their first axis"):
        adstock.convolve(np.zeros((5, 2)), np.zeros((3, 4)))
