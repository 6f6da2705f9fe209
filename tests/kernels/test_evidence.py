"""The native evidence is that in XLA, which the plain model holds, for every window and curve."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet_kernels import adstock, native_library, saturation
from mixfleet_kernels.adstock import cases as adstock_cases
from mixfleet_kernels.evidence import LiftTests, evidence, lifts
from mixfleet_kernels.saturation import cases as saturation_cases

ROWS, CHANNELS, UNITS, CHAINS, LIFTED = 4, 3, 3, 5, 7

needs_library = pytest.mark.skipif(not native_library.available(), reason="needs the native library")


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def lift_tests(window: int, dtype: Any) -> LiftTests:
    """Units whose tests end in different weeks: one covers two channels, and the first unit has one less."""
    random = np.random.default_rng(3)
    media = random.gamma(2.0, 0.2, (LIFTED + window - 1, 2 * ROWS, UNITS))
    weight = random.uniform(0.5, 2.0, (LIFTED, ROWS, UNITS))
    weight[4:, 1], weight[:, 3, 0] = 0.0, 0.0
    channel = np.eye(CHANNELS)[random.integers(0, CHANNELS, (ROWS, UNITS))]
    of_test = np.zeros((ROWS, ROWS, UNITS))
    of_test[[0, 0, 1, 2], [0, 1, 2, 3]] = 1.0
    of_test[2, 3, 0] = 0.0
    estimate = random.normal(0.3, 0.5, (2, ROWS, UNITS))
    arrays = media, weight, np.moveaxis(channel, 1, 2), of_test, estimate
    return LiftTests(*(jnp.asarray(values, dtype) for values in arrays))


def arguments(adstocks: str, curve: str, *, window: int, dtype: Any = np.float64) -> tuple[Any, ...]:
    batch = (CHANNELS, UNITS * CHAINS)
    shapes = tuple(map(jnp.asarray, adstock_cases.Case(family=adstocks, batch=batch).parameters(dtype)))
    curves = tuple(map(jnp.asarray, saturation_cases.Case(family=curve, batch=batch).parameters(dtype)))
    weights, tangents = adstock.weights_and_tangents(adstocks, shapes, window=window)
    weights = weights if shapes else jnp.ones((1, *batch), dtype)
    effect = jnp.asarray(np.random.default_rng(7).uniform(0.1, 2.0, batch), dtype)
    return lift_tests(window, dtype), weights, tangents, curve, curves, effect


def agree(found: Any, expected: Any, tolerance: float) -> None:
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.any(np.asarray(theirs) != 0)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


in_xla = jax.jit(partial(evidence, implementation="xla"), static_argnums=3)


@needs_library
@pytest.mark.parametrize(
    ("adstocks", "curve", "window"),
    [
        *((name, "hill", 5) for name in adstock.PARAMETERS),
        *(("geometric", name, 4) for name in saturation.PARAMETERS),
        ("delayed", "logistic", 2),
        ("geometric", "logistic", 12),
    ],
)
def test_native_is_xla(adstocks: str, curve: str, window: int) -> None:
    given = arguments(adstocks, curve, window=window)
    agree(evidence(*given, implementation="native"), in_xla(*given), 1e-10)


@needs_library
@pytest.mark.parametrize("normalised", [True, False])
def test_a_recursion_is_its_window(normalised: bool) -> None:
    given = list(arguments("geometric", "logistic", window=6))
    decay = jnp.asarray(np.random.default_rng(1).uniform(0.0, 0.95, (CHANNELS, UNITS * CHAINS)))
    given[1:3] = adstock.weights_and_tangents("geometric", (decay,), window=6, normalise=normalised)
    found = evidence(*given, decay=decay, normalised=normalised, implementation="native")
    agree(found, in_xla(*given), 1e-10)


@needs_library
@pytest.mark.parametrize("adstocks", ["geometric", "delayed"])
def test_channels_of_several_saturations_are_those_of_xla(adstocks: str) -> None:
    """Units of one vector whose rows are of channels of other saturations take their own."""
    given = list(arguments(adstocks, "hill", window=5))
    given[3] = ("michaelis_menten", "hill", "none")
    agree(evidence(*given, implementation="native"), in_xla(*given), 1e-10)


@needs_library
def test_single_precision_is_near() -> None:
    single, double = (arguments("geometric", "logistic", window=6, dtype=dtype) for dtype in (np.float32, np.float64))
    agree(evidence(*single, implementation="native"), in_xla(*double), 3e-4)


@needs_library
@pytest.mark.parametrize(("adstocks", "curve"), [("geometric", "root"), ("delayed", "hill"), ("weibull_pdf", "none")])
def test_saturation_before_carry_over_is_that_of_xla(adstocks: str, curve: str) -> None:
    given = arguments(adstocks, curve, window=5)
    found, expected = (
        evidence(*given, adstock_first=(False, True, False), implementation=which) for which in ("native", "xla")
    )
    agree(found, expected, 1e-10)


def test_what_the_native_evidence_does_not_take_is_refused() -> None:
    tests, *curves = arguments("geometric", "logistic", window=3)
    apart = tests._replace(estimate=jnp.repeat(tests.estimate, CHAINS, axis=-1))
    with pytest.raises(RuntimeError, match="takes one estimate for all chains of a unit"):
        evidence(apart, *curves, implementation="native")


def test_chains_may_have_estimates_of_their_own() -> None:
    """Each chain is then the unit with that estimate; and the estimate that leaves no error is the lift."""
    tests, *curves = arguments("geometric", "logistic", window=5)
    apart = jnp.repeat(tests.estimate, CHAINS, axis=-1)
    apart = apart.at[0].add(jnp.asarray(np.random.default_rng(2).normal(size=apart[0].shape)))
    found = evidence(tests._replace(estimate=apart), *curves)
    for chain in range(CHAINS):
        own = evidence(tests._replace(estimate=apart[..., chain::CHAINS]), *curves, implementation="xla")
        np.testing.assert_allclose(found.value[chain::CHAINS], own.value[chain::CHAINS], rtol=1e-12)
        np.testing.assert_allclose(found.by_effect[:, chain::CHAINS], own.by_effect[:, chain::CHAINS], rtol=1e-12)
    weights, _, family, parameters, effect = curves
    exact = jnp.stack([lifts(tests, weights, family, parameters, effect), 0 * apart[1]])
    told = evidence(tests._replace(estimate=exact), *curves)
    np.testing.assert_allclose(told.value, 0.0, atol=1e-12)
    np.testing.assert_allclose(told.by_effect, 0.0, atol=1e-12)


@needs_library
def test_the_native_evidence_refuses_estimates_by_chain() -> None:
    tests, *curves = arguments("geometric", "logistic", window=5)
    apart = tests._replace(estimate=jnp.repeat(tests.estimate, CHAINS, axis=-1))
    with pytest.raises(RuntimeError, match="one estimate for all chains"):
        evidence(apart, *curves, implementation="native")
