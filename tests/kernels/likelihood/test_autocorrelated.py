"""The likelihood of autocorrelated noise is the normal density written in full, with and without holes."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet_kernels import native_library
from mixfleet_kernels.likelihood import Likelihood, autocorrelated, likelihood, native
from mixfleet_kernels.likelihood.arrays import Autocorrelation, Gaps, Response, Series
from mixfleet_kernels.likelihood.cases import Case

WEEKS, PADDED, COLUMNS, LANES = 40, 48, 3, 4
CORRELATION = np.array([0.0, 0.7, -0.6, 0.95])
EVALUATE = jax.jit(autocorrelated.evaluate, static_argnames="strength_is_mean")
NOISE = np.array([0.2, 0.1, 0.3, 0.05])
NEEDS_NATIVE = pytest.mark.skipif(not native_library.available(), reason=native_library.why_not() or "it is there")


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def drawn(fitted: np.ndarray) -> tuple[Series, Gaps, Response, np.ndarray]:
    rng = np.random.default_rng(3)
    basis = np.zeros((PADDED, COLUMNS))
    basis[fitted] = np.linalg.qr(rng.standard_normal((fitted.sum(), COLUMNS)))[0]
    kpi, weight = np.where(fitted, rng.standard_normal(PADDED), 0.0), fitted * 1.0
    response = rng.uniform(0, 1, (PADDED, 1, LANES))

    def lanes(values: np.ndarray) -> jax.Array:
        return jnp.asarray(np.repeat(values[..., None], LANES, axis=-1))

    variance, media, active = np.array([2.0, 0.3, 0.0]), np.zeros((PADDED, 1)), np.ones(1)
    by_lane = {"media": media, "kpi": kpi, "weight": weight, "variance": variance, "active": active}
    series = Series(basis=jnp.asarray(basis[None]), **{name: lanes(values) for name, values in by_lane.items()})
    own = autocorrelated.gaps_of(fitted, basis)
    gaps = Gaps(**{name: jnp.asarray(values[..., None]) for name, values in own.items()})
    return series, gaps, Response(jnp.asarray(response), ()), basis * np.sqrt(variance)


def in_full(
    fitted: np.ndarray, kpi: np.ndarray, response: np.ndarray, columns: np.ndarray, at: np.ndarray
) -> np.ndarray:
    weeks = np.flatnonzero(fitted)
    found = []
    for lane, (effect, log_noise, correlation) in enumerate(at):
        covariance = np.exp(2 * log_noise) * correlation ** np.abs(weeks[:, None] - weeks)
        covariance = covariance + columns[fitted] @ columns[fitted].T
        left = kpi[fitted] - effect * response[fitted, 0, lane]
        found.append(stats.multivariate_normal(cov=covariance).logpdf(left))
    return np.array(found)


def mask(*holes: slice) -> np.ndarray:
    fitted = np.arange(PADDED) < WEEKS
    fitted[:2] = False
    for hole in holes:
        fitted[hole] = False
    return fitted


@pytest.mark.parametrize(
    "fitted",
    [mask(), mask(slice(11, 13)), mask(slice(5, 6), slice(20, 25), slice(30, 31))],
    ids=["whole", "hole", "holes"],
)
def test_value_and_gradient_are_those_of_the_density_in_full(fitted: np.ndarray) -> None:
    series, gaps, response, columns = drawn(fitted)
    at = np.column_stack([np.full(LANES, 0.4), np.log(NOISE), CORRELATION])
    autocorrelation = Autocorrelation(gaps, jnp.asarray(at[:, 2]))
    arguments = (jnp.asarray(at[:, 0][None]), jnp.asarray(at[:, 1]))
    found, by_scale, by_basis = EVALUATE(series, autocorrelation, response, *arguments, strength_is_mean=False)
    full = (fitted, np.asarray(series.kpi[:, 0]), np.asarray(response.value), columns)
    np.testing.assert_allclose(found.value, in_full(*full, at), rtol=1e-11)
    gradient = np.stack([found.by_effect[0], found.by_log_noise, found.by_correlation], axis=1)
    step = 1e-5
    # Of so large a density less is left of a slope of one.
    far = 1e-3
    for k, factor in enumerate(np.exp(np.eye(COLUMNS) * far)):
        slope = (in_full(*full[:3], columns * factor, at) - in_full(*full[:3], columns / factor, at)) / (2 * far)
        np.testing.assert_allclose(by_scale[k], slope, rtol=2e-4, atol=1e-4)
    for place in range(3):
        aside = np.eye(3)[place] * step
        slope = (in_full(*full, at + aside) - in_full(*full, at - aside)) / (2 * step)
        np.testing.assert_allclose(gradient[:, place], slope, rtol=2e-6, atol=1e-5)
    basis, kpi = np.asarray(series.basis[0]), full[1]
    for k, column in enumerate(basis.T * step):
        slope = (in_full(fitted, kpi - column, *full[2:], at) - in_full(fitted, kpi + column, *full[2:], at)) / (
            2 * step
        )
        np.testing.assert_allclose(by_basis[k], slope, rtol=2e-6, atol=1e-5)


def test_room_for_more_distances_changes_nothing() -> None:
    fitted = mask(slice(11, 13))
    series, gaps, response, _ = drawn(fitted)
    wide = Gaps(
        jnp.pad(gaps.length, [(0, 1), (0, 0)]),
        jnp.pad(gaps.spans, [(0, 0), (0, 1), (0, 0)]),
        gaps.before,
        gaps.after,
        jnp.pad(gaps.gram, [(0, 0), (0, 1), (0, 0), (0, 0), (0, 0)]),
    )
    correlation = jnp.asarray(CORRELATION)
    arguments = (response, jnp.full((1, LANES), 0.4), jnp.log(jnp.asarray(NOISE)))
    for one, other in zip(
        jax.tree.leaves(EVALUATE(series, Autocorrelation(gaps, correlation), *arguments, strength_is_mean=True)),
        jax.tree.leaves(EVALUATE(series, Autocorrelation(wide, correlation), *arguments, strength_is_mean=True)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13)


def test_coefficients_have_the_covariance_that_the_data_leave() -> None:
    fitted = mask(slice(11, 13))
    series, gaps, _, columns = drawn(fitted)
    weeks, identity = np.flatnonzero(fitted), np.eye(COLUMNS)
    for noise, correlation in zip(NOISE, CORRELATION, strict=True):
        ones = np.ones(COLUMNS)
        arguments = (np.zeros((COLUMNS, COLUMNS)), noise * ones, correlation * ones, identity)
        given = Gaps(*map(np.asarray, gaps))
        root = autocorrelated.coefficients(given, np.asarray(series.variance[:, :1]), *arguments)
        of_weeks = noise**2 * correlation ** np.abs(weeks[:, None] - weeks)
        precision = identity + columns[fitted].T @ np.linalg.solve(of_weeks, columns[fitted])
        np.testing.assert_allclose(root @ root.T, np.linalg.inv(precision), rtol=1e-9, atol=1e-12)


@NEEDS_NATIVE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coefficients_of_native_code_are_those_of_numpy_to_the_bit(
    dtype: type[np.floating], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, lanes = mask(slice(11, 13)), 37
    series, gaps, _, _ = drawn(fitted)
    random = np.random.default_rng(8)
    own = Gaps(*(np.asarray(part, dtype) for part in gaps))
    variance = np.asarray(series.variance[:, :1], dtype)
    mean, white = (random.standard_normal((COLUMNS, lanes)).astype(dtype) for _ in range(2))
    noise, correlation = random.uniform(0.1, 2.0, lanes).astype(dtype), random.uniform(-0.9, 0.99, lanes).astype(dtype)
    arguments = (own, variance, mean, noise, correlation, white)
    found = autocorrelated.coefficients(*arguments)
    monkeypatch.setattr(native_library, "available", lambda: False)
    expected = autocorrelated.coefficients(*arguments)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fitted", [mask(), mask(slice(11, 13))], ids=["whole", "hole"])
def test_columns_that_overlap_are_told_apart_by_what_the_weeks_alone_say(fitted: np.ndarray) -> None:
    """Of columns that no basis makes orthonormal: the density in full, and the last ones without their prior."""
    series, _, response, _ = drawn(fitted)
    random = np.random.default_rng(6)
    columns = np.where(fitted[:, None], random.standard_normal((PADDED, COLUMNS + 2)), 0.0)
    columns[:, -1] += columns[:, 0]
    variance = np.array([2.0, 0.3, 0.0, 0.5, 1e-3])
    by_lane = jnp.asarray(np.repeat(variance[:, None], LANES, axis=1))
    series = series._replace(basis=jnp.asarray(columns[None]), variance=by_lane)
    own = autocorrelated.gaps_of(fitted, columns)
    gaps = Gaps(**{name: jnp.asarray(values[..., None]) for name, values in own.items()})
    at = np.column_stack([np.full(LANES, 0.4), np.log(NOISE), CORRELATION])
    autocorrelation = Autocorrelation(gaps, jnp.asarray(at[:, 2]))
    arguments = (jnp.asarray(at[:, 0][None]), jnp.asarray(at[:, 1]))
    found, *_ = EVALUATE(series, autocorrelation, response, *arguments, strength_is_mean=False)
    kpi, brought = np.asarray(series.kpi[:, 0]), np.asarray(response.value)
    full = in_full(fitted, kpi, brought, columns * np.sqrt(variance), at)
    np.testing.assert_allclose(found.value, full, rtol=1e-10)
    parts = (found.projection, jnp.asarray(NOISE), jnp.asarray(CORRELATION))
    last = autocorrelated.of_last(gaps, by_lane, *parts, 2)
    weeks, root = np.flatnonzero(fitted), np.sqrt(variance[:-2])
    first, shared = columns[fitted][:, :-2] * root, columns[fitted][:, -2:]
    for lane in range(LANES):
        noise = NOISE[lane] ** 2 * CORRELATION[lane] ** np.abs(weeks[:, None] - weeks)
        left = kpi[fitted] - 0.4 * brought[fitted, 0, lane]
        told = shared.T @ np.linalg.inv(noise + first @ first.T)
        np.testing.assert_allclose(last.precision[..., lane], told @ shared, rtol=1e-9)
        np.testing.assert_allclose(last.total[:, lane], told @ left, rtol=1e-9)
        known = random.standard_normal(2)
        precision = np.eye(len(root)) + first.T @ np.linalg.solve(noise, first)
        mean = np.linalg.solve(precision, first.T @ np.linalg.solve(noise, left - shared @ known))
        np.testing.assert_allclose(last.mean[:, lane] - last.slope[..., lane] @ known, mean, rtol=1e-8, atol=1e-10)


def lanes_of(case: Case, dtype: type[np.floating]) -> tuple[Any, ...]:
    """Arguments of units of which each lacks other weeks, the noise's autocorrelation first."""
    series, *rest = case.arguments(dtype)
    weight, basis = np.array(series.weight), np.array(series.basis, float)
    units = []
    for u, lanes in enumerate(np.split(np.arange(case.lanes), case.units)):
        weight[u % 9 + 3 : u % 9 + 3 + u % 4, lanes] = 0
        fitted = weight[:, lanes[0]] > 0
        basis[u, ~fitted] = 0
        units.append((fitted, basis[u]))
    kinds = {len(np.unique(np.diff(np.flatnonzero(fitted)))) for fitted, _ in units}
    rows = []
    for fitted, own in units:
        found = autocorrelated.gaps_of(fitted, own)
        more = max(kinds) + 1 - len(found["length"])
        found["length"] = np.pad(found["length"], [(0, more)])
        found["spans"] = np.pad(found["spans"], [(0, 0), (0, more)])
        found["gram"] = np.pad(found["gram"], [(0, 0), (0, more), (0, 0), (0, 0)])
        rows.append(found)
    gaps = Gaps(**{name: jnp.asarray(np.stack([row[name] for row in rows], axis=-1), dtype) for name in rows[0]})
    correlation = jnp.asarray(np.random.default_rng(9).uniform(-0.5, 0.95, case.lanes), dtype)
    data = {"weight": weight, "kpi": series.kpi * weight, "basis": basis}
    series = series._replace(**{name: jnp.asarray(values, dtype) for name, values in data.items()})
    return Autocorrelation(gaps, correlation), series, *rest


@functools.cache
def compiled(saturation: str, implementation: str) -> Any:
    def program(autocorrelation: Any, series: Any, weights: Any, tangents: Any, *rest: Any) -> Likelihood:
        return likelihood(
            *(series, weights, tangents, saturation, *rest),
            strength_is_mean=True,
            decay=None if implementation == "xla" else weights[1] / weights[0],
            autocorrelation=autocorrelation,
            implementation=implementation,
        )

    return jax.jit(program)


def told(case: Case, implementation: str, arguments: tuple[Any, ...]) -> Likelihood:
    # XLA's implementation broadcasts lanes over weeks by rank.
    with jax.numpy_rank_promotion("allow"):
        return jax.tree.map(np.asarray, compiled(case.saturation, implementation)(*arguments))


@NEEDS_NATIVE
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("saturation", ["logistic", "hill"])
def test_native_lanes_are_those_of_xla(saturation: str, dtype: type[np.floating]) -> None:
    case = Case(units=5, chains=5, saturation=saturation)
    arguments = lanes_of(case, dtype)
    ours, exact = told(case, "native", arguments), told(case, "xla", lanes_of(case, np.float64))
    loose = 1 if dtype is np.float64 else 1e6
    for name, mine, theirs in zip(ours._fields, ours, exact, strict=True):
        for one, other in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            assert one.dtype == dtype
            tolerances = {"rtol": 1e-9 * loose, "atol": 2e-11 * loose * np.abs(other).max(initial=1)}
            np.testing.assert_allclose(one, other, **tolerances, err_msg=name)


@NEEDS_NATIVE
def test_native_lanes_know_nothing_of_the_others() -> None:
    """Bit by bit: some units alone are the same units in a call that threads share."""
    case = Case(units=45, chains=12, columns=2)
    assert case.lanes > 2 * native.PART
    autocorrelation, series, *rest = arguments = lanes_of(case, np.float32)
    together = told(case, "native", arguments)
    for first, last in ((0, 1), (7, 12), (40, 45)):
        lanes = slice(first * case.chains, last * case.chains)
        gaps = Gaps(*(values[..., first:last] for values in autocorrelation.gaps))
        own, few = jax.tree.map(lambda values, lanes=lanes: values[..., lanes], (series, tuple(rest)))
        own = own._replace(basis=series.basis[first:last])
        part = Autocorrelation(gaps, autocorrelation.correlation[lanes]), own
        for alone, all_of_them in zip(
            jax.tree.leaves(told(case, "native", (*part, *few))), jax.tree.leaves(together), strict=True
        ):
            np.testing.assert_array_equal(alone, all_of_them[..., lanes])
