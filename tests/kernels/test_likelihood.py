"""Both implementations of the likelihood equal the full-covariance formula, and a lane knows nothing of the others."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet_kernels import adstock, native_library, saturation
from mixfleet_kernels.likelihood import Likelihood, likelihood, native, reference
from mixfleet_kernels.likelihood.cases import CASES, Case

SMALL = {name: case for name, case in CASES.items() if not case.large}
NEEDS_NATIVE = pytest.mark.skipif(not native_library.available(), reason=native_library.why_not() or "it is there")
IMPLEMENTATIONS = ["xla", *(pytest.param(name, marks=NEEDS_NATIVE) for name in ("native", "recursion"))]
"""Two of the library and, as "recursion", the native one with the decay behind its geometric windows."""

each = pytest.mark.parametrize("name", list(SMALL))
with_each = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def ways(name: str) -> list[str]:
    """Implementations that a case has: only geometric windows follow a recursion, and only of media."""
    recursive = CASES[name].adstock == "geometric" and CASES[name].adstock_first
    return ["xla", "native", *(["recursion"] if recursive else [])]


each_way = pytest.mark.parametrize(
    ("name", "implementation"),
    [
        pytest.param(name, way, marks=() if way == "xla" else NEEDS_NATIVE, id=f"{way}-{name}")
        for name in SMALL
        for way in ways(name)
    ],
)


@functools.cache
def compiled(family: str, strength_is_mean: bool, adstock_first: bool, implementation: str | None) -> Any:
    """The likelihood as one program, shared by the tests that call it alike."""

    def program(series: Any, weights: Any, tangents: Any, parameters: Any, strength: Any, log_noise: Any) -> Likelihood:
        return likelihood(
            series,
            weights,
            tangents,
            family,
            parameters,
            strength,
            log_noise,
            strength_is_mean=strength_is_mean,
            adstock_first=adstock_first,
            decay=weights[1] / weights[0] if implementation == "recursion" else None,
            implementation="native" if implementation == "recursion" else implementation,
        )

    return jax.jit(program)


def run(case: Case, implementation: str, *arguments: Any) -> Likelihood:
    """The likelihood, on the host."""
    # XLA's implementation broadcasts lanes over weeks by rank.
    with jax.numpy_rank_promotion("allow"):
        program = compiled(case.saturation, case.strength_is_mean, case.adstock_first, implementation)
        return jax.tree.map(np.asarray, program(*arguments))


def lanes_of(tree: Any, lanes: Any) -> Any:
    """These lanes of everything whose last axis they are."""
    return jax.tree.map(lambda array: array[..., lanes], tree)


def units_of(case: Case, arguments: tuple[Any, ...], units: list[int]) -> tuple[Any, ...]:
    """The arguments of some units only, in this order."""
    lanes = np.concatenate([np.arange(u * case.chains, (u + 1) * case.chains) for u in units])
    series, *rest = arguments
    own = lanes_of(series, lanes)._replace(basis=series.basis[np.array(units)])
    return own, *lanes_of(rest, lanes)


@functools.cache
def expected(name: str) -> dict[str, np.ndarray]:
    """Value, mean response and the gradients of both, by jax's derivatives of the plain formula in float64."""
    case = CASES[name]
    series = case.series(np.float64)
    adstocks, saturations = case.shape(np.float64)
    design, sd = case.design()
    strength, log_noise = case.strength(np.float64), case.log_noise(np.float64)
    count = len(adstocks)

    def responses(shape: tuple[Any, ...], media: Any) -> Any:
        windows = adstock.weights(case.adstock, shape[:count], window=case.window) if count else jnp.ones((1,))
        if case.adstock_first:
            return saturation.saturate(case.saturation, adstock.convolve(media, windows), shape[count:])
        return adstock.convolve(saturation.saturate(case.saturation, media, shape[count:]), windows)

    def mean(shape: tuple[Any, ...], media: Any, weight: Any) -> Any:
        return jnp.sum(responses(shape, media) * weight[:, None], axis=0) / jnp.sum(weight)

    def value(effect: Any, shape: tuple[Any, ...], log_noise: Any, lane: tuple[Any, ...]) -> Any:
        media, kpi, weight, own_design, own_sd = lane
        residual = (kpi - responses(shape, media) @ effect) * weight
        inside = jnp.diag(jnp.exp(2 * log_noise) * weight + (1 - weight))
        covariance = inside + (own_design * own_sd[None] ** 2) @ own_design.T
        squares = residual @ jnp.linalg.solve(covariance, residual)
        return -0.5 * (squares + jnp.linalg.slogdet(covariance)[1] + jnp.sum(weight) * jnp.log(2 * jnp.pi))

    lane = (
        series.media,
        series.kpi,
        series.weight,
        np.repeat(np.moveaxis(design, 0, -1), case.chains, axis=-1),
        np.repeat(sd.T, case.chains, axis=-1),
    )
    shape = (*adstocks, *saturations)
    in_lanes = functools.partial(jax.vmap, in_axes=-1, out_axes=-1)
    means = jax.jit(in_lanes(lambda *a: mean(*a)))(shape, series.media, series.weight)
    means = means * series.active + (1 - series.active)
    effect = strength / means if case.strength_is_mean else strength
    by_all = jax.value_and_grad(value, argnums=(0, 1, 2))
    results = jax.jit(in_lanes(lambda *a: by_all(*a)))(effect, shape, log_noise, lane)
    by_shape = jax.grad(lambda s, m, w: jnp.sum(mean(s, m, w)))
    by_mean = jax.jit(in_lanes(lambda *a: by_shape(*a)))(shape, series.media, series.weight)
    found = {"value": results[0], "by_effect": results[1][0], "by_log_noise": results[1][2], "effect": effect}
    found |= {"mean_response": means, "by_shape": results[1][1], "mean_by_shape": by_mean}
    found["projection"] = jnp.einsum(
        "utp,tuk->puk",
        series.basis,
        jnp.reshape(
            (series.kpi - jnp.einsum("tcn,cn->tn", jax.jit(in_lanes(responses))(shape, series.media), effect))
            * series.weight,
            (case.weeks, case.units, case.chains),
        ),
    ).reshape(case.columns, -1)
    return jax.tree.map(np.asarray, found)


@each
def test_the_formula_of_the_tests_is_the_reference(name: str, x64: None):
    case = CASES[name]
    series, found = case.series(np.float64), expected(name)
    _, weights, _, parameters, _, log_noise = case.arguments(np.float64)
    design, sd = case.design()
    carry = functools.partial(adstock.convolve, weights=weights, implementation="reference")
    saturate = functools.partial(
        saturation.saturate, case.saturation, parameters=parameters, implementation="reference"
    )
    both = saturate(carry(series.media)) if case.adstock_first else carry(saturate(series.media))
    responses = np.asarray(both)
    for lane in range(case.lanes):
        weeks = np.flatnonzero(series.weight[:, lane])
        value = reference.log_likelihood(
            np.asarray(series.kpi[weeks, lane]),
            responses[weeks, :, lane],
            found["effect"][:, lane],
            design[lane // case.chains][weeks],
            np.zeros(case.columns),
            sd[lane // case.chains],
            float(np.exp(log_noise[lane])),
        )
        np.testing.assert_allclose(found["value"][lane], value, rtol=1e-10)


@each_way
def test_value_and_gradients_equal_the_formula(name: str, implementation: str, x64: None):
    case = CASES[name]
    result = run(case, implementation, *case.arguments(np.float64))
    np.testing.assert_allclose(result.value, expected(name)["value"], rtol=1e-10)
    for field, wanted in expected(name).items():
        for array, exact in zip(jax.tree.leaves(getattr(result, field)), jax.tree.leaves(wanted), strict=True):
            assert array.dtype == np.float64
            np.testing.assert_allclose(array, exact, rtol=1e-8, atol=1e-9 * np.abs(exact).max(initial=1), err_msg=field)


@each_way
def test_float32_equals_float64(name: str, implementation: str, x64: None):
    case = CASES[name]
    result = run(case, implementation, *case.arguments(np.float32))
    for field, wanted in expected(name).items():
        for array, exact in zip(jax.tree.leaves(getattr(result, field)), jax.tree.leaves(wanted), strict=True):
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, exact, rtol=1e-4, atol=2e-5 * np.abs(exact).max(), err_msg=field)


@NEEDS_NATIVE
@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, way) for name, case in CASES.items() if case.large for way in ways(name) if way != "xla"],
)
def test_native_equals_xla_in_float32_at_full_size(name: str, implementation: str):
    case = CASES[name]
    arguments = case.arguments(np.float32)
    both = [jax.tree.leaves(run(case, which, *arguments)) for which in ("xla", implementation)]
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6 * np.abs(theirs).max())


@with_each
def test_faint_weeks_say_nothing_and_have_means(implementation: str, dtype: type[np.floating]):
    case = Case()
    series, *rest = case.arguments(dtype)
    whole = run(case, implementation, series, *rest)
    nothing = {name: jnp.zeros_like(getattr(series, name)) for name in ("kpi", "basis", "variance")}
    found = run(case, implementation, series._replace(weight=series.weight * dtype(2.0**-40), **nothing), *rest)
    np.testing.assert_allclose(found.mean_response, whole.mean_response, rtol=1e-6)
    for ours, theirs in zip(found.mean_by_shape, whole.mean_by_shape, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    for silent in (found.value, found.by_effect, found.by_log_noise, *found.by_shape):
        np.testing.assert_allclose(silent, 0, atol=2e-6)


@with_each
def test_more_padding_changes_nothing(implementation: str, dtype: type[np.floating]):
    """Exactly: zero weeks, an absent channel, and a column without variance each add zero."""
    case = Case()
    series, weights, tangents, parameters, strength, log_noise = case.arguments(dtype)
    alone = run(case, implementation, series, weights, tangents, parameters, strength, log_noise)

    def pad(array: Any, axis: int, count: int, value: float = 0) -> Any:
        widths = [(0, count if i == axis % array.ndim else 0) for i in range(array.ndim)]
        return jnp.pad(array, widths, constant_values=value)

    longer = series._replace(
        media=pad(series.media, 0, 32),
        kpi=pad(series.kpi, 0, 32),
        weight=pad(series.weight, 0, 32),
        basis=pad(series.basis, 1, 32),
    )
    padded = run(case, implementation, longer, weights, tangents, parameters, strength, log_noise)
    # XLA sums slices of weeks, whose length the padding changes.
    rounding = 0 if implementation != "xla" else 50 * float(np.finfo(dtype).eps)
    for ours, theirs in zip(jax.tree.leaves(padded), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding * np.abs(theirs).max())

    wider = series._replace(media=pad(series.media, 1, 1), active=pad(series.active, 0, 1))
    more = (pad(weights, 1, 1, 0.1), tuple(pad(t, 1, 1, 0.1) for t in tangents))
    parameters = tuple(pad(p, 0, 1, 1) for p in parameters)
    padded = run(case, implementation, wider, *more, parameters, pad(strength, 0, 1, 0.1), log_noise)
    np.testing.assert_array_equal(padded.value, alone.value)
    np.testing.assert_array_equal(padded.by_effect[-1], 0)
    for ours, theirs in zip(padded.by_shape, alone.by_shape, strict=True):
        np.testing.assert_array_equal(ours[:-1], theirs)
        np.testing.assert_array_equal(ours[-1], 0)


@pytest.mark.parametrize(
    ("implementation", "family", "adstock_first"),
    [
        ("xla", "hill", True),
        *(
            pytest.param(implementation, name, first, marks=NEEDS_NATIVE)
            for implementation, first in (("native", True), ("recursion", True), ("native", False))
            for name in saturation.PARAMETERS
        ),
    ],
)
def test_a_lane_knows_nothing_of_the_others(
    implementation: str, family: str, adstock_first: bool, dtype: type[np.floating]
):
    """Bit by bit: units in another order, NaN in one of them, and, natively, one unit alone or a part of a vector."""
    adstocks = "geometric" if implementation == "recursion" else "delayed"
    case = Case(saturation=family, units=8, chains=4, adstock=adstocks, adstock_first=adstock_first)
    arguments = case.arguments(dtype)
    together = run(case, implementation, *arguments)

    order = [3, 0, 7, 5, 1, 6, 2, 4]
    lanes = np.concatenate([np.arange(u * case.chains, (u + 1) * case.chains) for u in order])
    permuted = run(case, implementation, *units_of(case, arguments, order))
    jax.tree.map(np.testing.assert_array_equal, permuted, lanes_of(together, lanes))

    poisoned = lanes_of(arguments[1:], slice(None))
    broken = (*poisoned[:-1], poisoned[-1].at[9].set(np.nan))
    broken = (broken[0].at[..., 9].set(np.inf), *broken[1:])
    result = run(case, implementation, arguments[0], *broken)
    others = np.delete(np.arange(case.lanes), 9)
    jax.tree.map(np.testing.assert_array_equal, lanes_of(result, others), lanes_of(together, others))
    assert not np.isfinite(result.value[9])

    if implementation != "xla":
        for units in ([0], [5], [2, 6, 1], [1, 2, 3, 4, 7]):
            lanes = np.concatenate([np.arange(u * case.chains, (u + 1) * case.chains) for u in units])
            part = run(case, implementation, *units_of(case, arguments, units))
            jax.tree.map(np.testing.assert_array_equal, part, lanes_of(together, lanes))


@NEEDS_NATIVE
@pytest.mark.parametrize("units", [64, 75, 130])
def test_a_wide_call_in_parts_is_its_units_alone(units: int, dtype: type[np.floating]):
    """Bit by bit, whichever thread took which part, also where the last part is short of a vector."""
    case = Case(units=units, chains=12, columns=2)
    assert case.lanes > 2 * native.PART
    arguments = case.arguments(dtype)
    together = run(case, "recursion", *arguments)
    for first in range(0, units, 8):
        chosen = list(range(first, min(first + 8, units)))
        alone = run(case, "recursion", *units_of(case, arguments, chosen))
        lanes = slice(first * case.chains, (chosen[-1] + 1) * case.chains)
        jax.tree.map(np.testing.assert_array_equal, alone, lanes_of(together, lanes))


EXTREMES: dict[str, tuple[float, float]] = {
    "rate": (1e-6, 1e6),
    "slope": (0.05, 50.0),
    "half_saturation": (1e-6, 1e6),
    "scale": (1e-6, 1e6),
    "exponent": (0.05, 3.0),
}


@with_each
@pytest.mark.parametrize("family", list(saturation.PARAMETERS))
def test_finite_at_extremes(family: str, implementation: str, dtype: type[np.floating]):
    case = Case(saturation=family, units=2, chains=2)
    series, weights, tangents, parameters, strength, _ = case.arguments(dtype)
    names = saturation.PARAMETERS[family]
    corners = tuple(
        jnp.broadcast_to(jnp.asarray([EXTREMES[name][(i >> j) & 1] for i in range(4)], dtype), parameter.shape)
        for j, (name, parameter) in enumerate(zip(names, parameters, strict=True))
    )
    log_noise = jnp.asarray([-6.0, 3.0, -6.0, 3.0], dtype)
    result = run(case, implementation, series, weights, tangents, corners, strength, log_noise)
    if family != "root":
        # A mean response of almost nothing asks for an effect that float32 need not hold.
        result = result._replace(value=result.value[np.abs(result.effect).max(axis=0) < 1e6])
    assert np.isfinite(result.value).all()
    for array in jax.tree.leaves((result.mean_response, result.mean_by_shape)):
        assert np.isfinite(array).all()


@NEEDS_NATIVE
def test_native_keeps_the_conventions_at_zero_media(dtype: type[np.floating]):
    """A unit without media: no response, no gradient, and the likelihood of its baseline, in every family."""
    values = []
    case = Case(strength_is_mean=False)
    for family in saturation.PARAMETERS:
        case = Case(saturation=family, strength_is_mean=False)
        series, *rest = case.arguments(dtype)
        series = series._replace(media=0 * series.media)
        result = run(case, "native", series, *rest)
        values.append(result.value)
        for array in jax.tree.leaves((result.by_shape, result.by_effect, result.mean_by_shape)):
            np.testing.assert_array_equal(array, 0)
    np.testing.assert_array_equal(values, np.broadcast_to(values[0], (len(values), case.lanes)))


@NEEDS_NATIVE
@pytest.mark.parametrize("recursion", [True, False])
def test_channels_of_several_saturations_are_those_of_xla(recursion: bool, x64: None):
    """Nothing comes of a parameter that a channel has not, and what is one saturation by channel is one for all."""
    families = ("michaelis_menten", "hill", "none")
    case = Case(saturation="hill", adstock="geometric" if recursion else "delayed", chains=5)
    series, weights, tangents, parameters, *rest = case.arguments(np.float64)
    decay = weights[1] / weights[0] if recursion else None

    def call(family: str | tuple[str, ...], implementation: str) -> Likelihood:
        given = (series, weights, tangents, family, parameters, *rest)
        with jax.numpy_rank_promotion("allow"):
            return likelihood(*given, strength_is_mean=True, decay=decay, implementation=implementation)

    found = call(families, "native")
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(call(families, "xla")), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    for by_slot in (found.by_shape, found.mean_by_shape):
        assert not np.any(by_slot[-1][::2])
        assert not np.any(by_slot[-2][2])
    jax.tree.map(np.testing.assert_array_equal, call(("hill",) * 3, "native"), call("hill", "native"))


@NEEDS_NATIVE
@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.4, 0.97, 1.0])
@pytest.mark.parametrize("window", [1, 2, 9, 13])
def test_a_spike_leaves_nothing_behind(window: int, decay: float, dtype: type[np.floating]):
    """Week by week, one week of the likelihood per unit: small media right after a large one keep their digits."""
    case = Case(units=48, chains=1, channels=1, columns=1, saturation="none", strength_is_mean=False)
    media = np.zeros((case.weeks, 1))
    media[3], media[5:8], media[4 + window] = 1e6, 1.0, 1e-3
    decays = np.full((1, case.lanes), decay, dtype)
    weights, tangents = adstock.weights_and_tangents("geometric", (decays,), window=window)
    series, *_, strength, log_noise = case.arguments(dtype)
    lanes = np.broadcast_to(media[..., None], (case.weeks, 1, case.lanes)).astype(dtype)
    series = series._replace(
        media=lanes, weight=np.eye(case.weeks, dtype=dtype), active=np.ones((1, case.lanes), dtype)
    )
    call = functools.partial(likelihood, implementation="native", strength_is_mean=False, decay=decays)
    result = jax.jit(lambda *a: call(*a[:3], "none", (), *a[3:]))(series, weights, tangents, strength, log_noise)  # pyright: ignore[reportCallIssue]

    windows = (np.asarray(array[..., 0], np.float64) for array in (weights, *tangents))
    value, slope = (adstock.convolve(media, window, implementation="reference")[:, 0] for window in windows)
    epsilon = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(result.mean_response[0], np.maximum(value, 1e-30), rtol=32 * epsilon)
    # The window's normalisation pulls the derivative down by as much as its powers push it up.
    np.testing.assert_allclose(result.mean_by_shape[0][0], slope, rtol=32 * epsilon, atol=64 * epsilon * value.max())  # pyright: ignore[reportCallIssue]
    nothing = adstock.convolve(media[:, 0], np.ones(window), implementation="reference") == 0
    np.testing.assert_array_equal(result.mean_by_shape[0][0][nothing], 0)


@NEEDS_NATIVE
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("adstock_first", [True, False])
def test_a_decay_has_its_windows(adstock_first: bool, normalised: bool, dtype: type[np.floating]):
    """By recursion; of media that saturated before, by the windows themselves."""
    case = Case(units=3, chains=8, adstock_first=adstock_first)
    (decay,), _ = case.shape(dtype)
    weights, tangents = adstock.weights_and_tangents("geometric", (decay,), window=case.window, normalise=normalised)
    series, _, _, parameters, *rest = case.arguments(dtype)
    call = functools.partial(
        likelihood, implementation="native", strength_is_mean=False, normalised=normalised, adstock_first=adstock_first
    )
    arguments = series, weights, tangents, case.saturation, parameters, *rest
    ours, theirs = call(*arguments, decay=decay), call(*arguments)
    rounding = 200 * float(np.finfo(dtype).eps)
    for recursive, windowed in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(recursive, windowed, rtol=rounding, atol=rounding * np.abs(windowed).max())


@NEEDS_NATIVE
def test_lanes_that_are_asked_for_are_told_as_if_all_were(dtype: type[np.floating]):
    case = Case(units=6, chains=8)
    series, *rest = case.arguments(dtype)
    asked = np.zeros(case.lanes, dtype)
    asked[[3, 40]] = 1
    every, some = (run(case, "native", given, *rest) for given in (series, series._replace(asked=asked)))
    wanted = asked > 0
    jax.tree.map(np.testing.assert_array_equal, lanes_of(some, wanted), lanes_of(every, wanted))


def test_the_default_is_native_where_it_was_built():
    case = Case()
    arguments = case.arguments(np.float32)

    def text(implementation: str | None = None, **options: Any) -> str:
        call = functools.partial(likelihood, implementation=implementation, strength_is_mean=True, **options)
        program = jax.jit(lambda *a: call(a[0], a[1], a[2], case.saturation, *a[3:]))
        with jax.numpy_rank_promotion("allow"):
            return program.lower(*arguments).as_text()

    target = "mixfleet_likelihood_f32"
    assert (target in text()) == (native_library.available() and jax.default_backend() == "cpu")
    assert target not in text(implementation="xla")
    assert (target in text(adstock_first=False)) == (target in text())


def test_errors_name_the_remedy(monkeypatch: pytest.MonkeyPatch):
    case = Case()
    arguments = case.arguments(np.float32)
    series, weights, tangents, parameters, strength, log_noise = arguments
    call = functools.partial(
        likelihood, series, weights, tangents, "logistic", parameters, strength, log_noise, strength_is_mean=True
    )
    with pytest.raises(ValueError, match="unknown likelihood implementation 'gpu': choose one of"):
        call(implementation="gpu")
    monkeypatch.setattr(native_library, "_library", lambda: "the native kernels were not built: install a C++ compiler")
    with pytest.raises(RuntimeError, match="install a C\\+\\+ compiler"):
        call(implementation="native")
    with jax.numpy_rank_promotion("allow"):
        assert "mixfleet_likelihood" not in jax.jit(call).lower().as_text()
    assert native_library.isa() == ""
