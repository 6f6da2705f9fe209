"""Every implementation of saturation equals the reference, and stays finite where the formulas do not."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet_kernels import saturation
from mixfleet_kernels.saturation import reference
from mixfleet_kernels.saturation.cases import CASES, Case

SMALL = {name: case for name, case in CASES.items() if not case.large}
IMPLEMENTATIONS = ["xla"]
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}
GRADIENT_TOLERANCE = {np.float32: 2e-5, np.float64: 1e-8}
SIZES = [10.0**power for power in range(-12, 13)]
MEDIA = [0.0, *SIZES]
SHAPES = [0.05, 0.3, 0.7, 1.0, 2.0, 7.0, 15.0, 50.0]
GRIDS: dict[str, list[list[float]]] = {
    "logistic": [SIZES],
    "hill": [SHAPES, SIZES],
    "tanh": [SIZES],
    "michaelis_menten": [SIZES],
    "exponential": [SIZES],
    # An exponent above 3 takes 1e12 out of float32.
    "root": [[0.05, 0.3, 0.7, 1.0, 2.0, 3.0]],
    "log": [SIZES],
    "none": [],
}
BOUNDED = ["logistic", "hill", "tanh", "michaelis_menten", "exponential"]


def each(cases: dict[str, Case]) -> pytest.MarkDecorator:
    """Every case in float64, and each family in float32 too: compiling is what takes time."""
    pairs = [
        pytest.param(case, dtype, id=f"{name}-{dtype.__name__}")
        for name, case in cases.items()
        for dtype in ((np.float64, np.float32) if name.endswith("156x8") else (np.float64,))
    ]
    return pytest.mark.parametrize(("case", "dtype"), pairs, indirect=["dtype"])


def grid(family: str, dtype: type[np.floating]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Media down the weeks, one column for every parameter point of N2's grid."""
    points = np.array(list(itertools.product(*GRIDS[family])), dtype)
    media = np.repeat(np.array(MEDIA, dtype)[:, None], len(points), axis=1)
    return media, tuple(points.T)


def reference_slope(case: Case, index: int) -> np.ndarray:
    """Central differences of the reference by the media (index 0) or a parameter (1, 2)."""
    arguments = [case.media(np.float64), *case.parameters(np.float64)]
    step = 1e-6
    moved = []
    for sign in (1, -1):
        media, *parameters = [a + sign * step * (j == index) for j, a in enumerate(arguments)]
        moved.append(reference.saturate(case.family, media, tuple(parameters)))
    return (moved[0] - moved[1]) / (2 * step)


@each(SMALL)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_saturate_contract(case: Case, implementation: str, dtype: type[np.floating]):
    """Value and VJP through vmap, and the partials, in one program."""
    curve = partial(saturation.saturate, case.family, implementation=implementation)
    media = jnp.asarray(case.media(dtype))
    parameters = tuple(jnp.asarray(p) for p in case.parameters(dtype))
    cotangent = np.random.default_rng(0).normal(size=media.shape).astype(dtype)

    @jax.jit
    def program(media: jax.Array, parameters: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple:
        mapped = jax.vmap(curve, in_axes=(1, 0), out_axes=1) if case.batch else curve
        value, pullback = jax.vjp(mapped, media, parameters)
        closed = saturation.value_and_partials(case.family, media, parameters)
        return value, pullback(cotangent), closed

    value, (to_media, to_parameters), closed = program(media, parameters, jnp.asarray(cotangent))
    expected = reference.saturate(case.family, media, parameters)
    for saturated in (value, closed[0]):
        assert saturated.dtype == dtype
        np.testing.assert_allclose(saturated, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / 10)
    tolerance = GRADIENT_TOLERANCE[dtype]
    for index, slope in enumerate((closed[1], *closed[2])):
        assert slope.shape == media.shape
        assert slope.dtype == dtype
        # Differences by media straddle the bend at zero; `test_slope_at_zero_media` looks there.
        compared = np.abs(media) > (1e-3 if index == 0 else -1)
        np.testing.assert_allclose(
            np.asarray(slope)[compared],
            reference_slope(case, index)[compared],
            rtol=tolerance * 10,
            atol=tolerance,
        )
    np.testing.assert_allclose(to_media, cotangent * np.asarray(closed[1]), rtol=TOLERANCE[dtype])
    for gradient, slope in zip(to_parameters, closed[2], strict=True):
        pulled = np.sum(np.asarray(cotangent, np.float64) * np.asarray(slope), axis=0)
        np.testing.assert_allclose(gradient, pulled, rtol=1e-4, atol=20 * TOLERANCE[dtype])


def test_reference_is_an_implementation(x64: None):
    case = CASES["hill_156x8"]
    media, parameters = case.media(np.float64), case.parameters(np.float64)
    value = saturation.saturate("hill", media, parameters, implementation="reference")
    np.testing.assert_allclose(value, saturation.saturate("hill", media, parameters), rtol=1e-13, atol=1e-14)


PLAIN = {
    "logistic": lambda x, r: (1 - jnp.exp(-r * x)) / (1 + jnp.exp(-r * x)),
    "hill": lambda x, s, k: x**s / (x**s + k**s),
    "tanh": lambda x, s: jnp.tanh(x / s),
    "michaelis_menten": lambda x, k: x / (k + x),
    "exponential": lambda x, r: 1 - jnp.exp(-r * x),
    "root": lambda x, a: x**a,
    "log": lambda x, r: jnp.log(1 + r * x),
    "none": lambda x: x,
}


@pytest.mark.parametrize("family", list(PLAIN))
def test_partials_equal_autodiff_of_the_plain_formula(family: str, x64: None):
    case = CASES[f"{family}_156x8"]
    media = jnp.abs(case.media(np.float64)) + 0.01
    parameters = tuple(jnp.broadcast_to(jnp.asarray(p), media.shape) for p in case.parameters(np.float64))
    _, by_media, by_parameter = saturation.value_and_partials(family, media, parameters)
    every = tuple(range(1 + len(parameters)))
    automatic = jax.jit(jax.grad(lambda *a: jnp.sum(PLAIN[family](*a)), argnums=every))(media, *parameters)
    for slope, expected in zip((by_media, *by_parameter), automatic, strict=True):
        np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("family", list(GRIDS))
def test_finite_on_the_whole_grid(family: str, dtype: type[np.floating]):
    media, parameters = grid(family, dtype)

    @jax.jit
    def program(media: jax.Array, parameters: tuple[jax.Array, ...]) -> tuple:
        def total(media: jax.Array, parameters: tuple[jax.Array, ...]) -> jax.Array:
            return jnp.sum(saturation.saturate(family, media, parameters))

        closed = saturation.value_and_partials(family, media, parameters)
        return closed, jax.grad(total, argnums=(0, 1))(media, parameters)

    results = program(jnp.asarray(media), tuple(jnp.asarray(p) for p in parameters))
    assert all(np.isfinite(result).all() for result in jax.tree.leaves(results))
    value, by_media, _ = results[0]
    assert np.min(np.diff(value, axis=0)) >= 0
    assert np.min(by_media) >= 0


@pytest.mark.parametrize("family", list(GRIDS))
def test_float32_equals_float64_on_the_whole_grid(family: str):
    media, parameters = grid(family, np.float32)
    value = np.asarray(saturation.saturate(family, media, parameters), np.float64)
    expected = reference.saturate(family, media, parameters)
    if family in BOUNDED:
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-6)
    else:
        # exp(exponent * log x) loses the digits of exponent * log x, up to 83 here.
        np.testing.assert_allclose(value, expected, rtol=2e-5 if family == "root" else 2e-6)


def test_hill_is_accurate_around_half_saturation_in_float32():
    random = np.random.default_rng(0)
    slope = random.uniform(0.05, 50, 4000).astype(np.float32)
    half = (10.0 ** random.uniform(-12, 12, 4000)).astype(np.float32)
    media = (half * random.uniform(0.8, 1.25, (5, 4000))).astype(np.float32)
    value = np.asarray(saturation.saturate("hill", media, (slope, half)), np.float64)
    np.testing.assert_allclose(value, reference.saturate("hill", media, (slope, half)), rtol=0, atol=2e-6)
    at_half = saturation.saturate("hill", half[None], (slope, half))
    np.testing.assert_allclose(at_half, 0.5, atol=1e-6)


@pytest.mark.parametrize("family", list(GRIDS))
def test_subnormal_and_negative_zero_media_are_zero(family: str, dtype: type[np.floating]):
    """Their value is zero too, or for the curves that are straight at zero, as good as."""
    parameters = tuple(dtype(0.7) for _ in saturation.PARAMETERS[family])
    tiny = np.finfo(dtype).tiny
    media = np.array([0.0, -0.0, tiny / 4, -tiny / 4], dtype)
    value, by_media, by_parameter = saturation.value_and_partials(family, media, parameters)
    np.testing.assert_array_equal(by_media, np.full(4, by_media[0]))
    for result in (value, *by_parameter):
        np.testing.assert_array_equal(result[:2], 0)
        assert np.max(np.abs(result)) <= (0 if family in ("hill", "root") else tiny)


@pytest.mark.parametrize("family", list(GRIDS))
def test_zero_media_adds_exactly_nothing_at_any_parameters(family: str, dtype: type[np.floating]):
    media, parameters = grid(family, dtype)
    value, _, by_parameter = saturation.value_and_partials(family, np.zeros_like(media), parameters)
    for result in (value, *by_parameter):
        np.testing.assert_array_equal(result, 0)


def test_slope_at_zero_media(dtype: type[np.floating]):
    zero = np.zeros((1, 1), dtype)

    def slope(family: str, *parameters: float) -> float:
        return saturation.value_and_partials(family, zero, tuple(dtype(p) for p in parameters))[1].item()

    assert slope("logistic", 4) == 2
    assert slope("tanh", 4) == 0.25
    assert slope("michaelis_menten", 4) == 0.25
    assert slope("exponential", 4) == 4
    assert slope("log", 4) == 4
    assert slope("none") == 1
    assert [slope("hill", s, 2) for s in (0.5, 1, 2)] == [0, 0, 0]
    assert [slope("root", a) for a in (0.5, 1, 2)] == [0, 0, 0]


def test_not_a_number_is_never_hidden(dtype: type[np.floating]):
    for family, names in saturation.PARAMETERS.items():
        media = np.array([[np.nan, 0.5]], dtype)
        value = saturation.saturate(family, media, tuple(dtype(0.7) for _ in names))
        np.testing.assert_array_equal(np.isnan(value), [[True, False]])


def test_second_derivatives_are_finite():
    for family, names in saturation.PARAMETERS.items():
        parameters = tuple(0.7 for _ in names)

        def slope(x: jax.Array, family: str = family, parameters: tuple = parameters) -> jax.Array:
            return jax.grad(lambda m: saturation.saturate(family, m[None], parameters)[0])(x)

        curvature = jax.jit(jax.vmap(jax.grad(slope)))(jnp.asarray([0.0, 1e-6, 1.0, 1e6]))
        assert np.isfinite(curvature).all()


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="unknown saturation family 'adbug': choose one of exponential, hill"):
        saturation.saturate("adbug", np.ones(3), ())
    with pytest.raises(ValueError, match=r"'hill' takes \(slope, half_saturation\), got 1 parameters"):
        saturation.saturate("hill", np.ones(3), (1.0,))
    with pytest.raises(ValueError, match="unknown saturation implementation 'gpu'"):
        saturation.saturate("none", np.ones(3), (), implementation="gpu")
