"""Time of every kernel: operation x case x implementation, warm, with compiling timed apart.

    pytest benchmarks/test_kernels.py --benchmark-only

Each time is that of one call on arrays already on the device, until the result is there
(`block_until_ready`).
`extra_info` holds the device, the shape and the seconds that tracing and compiling took.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mixfleet_kernels import adstock, native_library, saturation
from mixfleet_kernels.adstock import cases as adstock_cases
from mixfleet_kernels.convergence import convergence
from mixfleet_kernels.likelihood import cases as likelihood_cases
from mixfleet_kernels.likelihood import likelihood
from mixfleet_kernels.saturation import cases as saturation_cases

DTYPE = np.float32
IMPLEMENTATIONS = ["xla", "reference"]
SHAPES = ("_156x8", "_156x8x128")
PASSES = 32
"""Calls of the likelihood in one program, as a sampler makes them: entering the program costs as much as a call."""
ON_CPU = jax.default_backend() == "cpu"
WHERE_BUILT = pytest.mark.skipif(
    not (ON_CPU and native_library.available()),
    reason=native_library.why_not() or "the native kernels are the CPU's: set JAX_PLATFORMS=cpu",
)
NATIVE, RECURSION = (pytest.param(name, marks=WHERE_BUILT) for name in ("native", "recursion"))
"""Measured on CPU where it was built; elsewhere there is nothing to measure, and the reason says what is missing."""


def each(cases: dict[str, Any]) -> pytest.MarkDecorator:
    """The common shapes of every family with every implementation, the reference on the small one only."""
    chosen = [
        pytest.param(case, implementation, id=f"{name}-{implementation}")
        for name, case in cases.items()
        for implementation in IMPLEMENTATIONS
        if name.endswith(SHAPES) and (implementation != "reference" or not case.large)
    ]
    return pytest.mark.parametrize(("case", "implementation"), chosen)


def each_fast(cases: dict[str, Any]) -> pytest.MarkDecorator:
    """The common shapes of every family, for operations that have one implementation."""
    chosen = {name: case for name, case in cases.items() if name.endswith(SHAPES)}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


def measure(benchmark: BenchmarkFixture, operation: Callable[..., Any], *arguments: Any, compiled: bool = True) -> None:
    arguments = jax.tree.map(jnp.asarray, arguments)
    run = operation
    if compiled:
        started = time.perf_counter()
        run = jax.jit(operation).lower(*arguments).compile()
        benchmark.extra_info["compile_seconds"] = time.perf_counter() - started
    device = jax.devices()[0]
    benchmark.extra_info["device"] = f"{device.platform} {device.device_kind}"
    benchmark.extra_info["shapes"] = [list(array.shape) for array in jax.tree.leaves(arguments)]
    jax.block_until_ready(run(*arguments))
    benchmark(lambda: jax.block_until_ready(run(*arguments)))


@each(adstock_cases.CASES)
def test_adstock_weights(benchmark: BenchmarkFixture, case: adstock_cases.Case, implementation: str):
    weigh = partial(adstock.weights, case.family, **case.options, implementation=implementation)
    measure(benchmark, weigh, case.parameters(DTYPE), compiled=implementation != "reference")


@each_fast(adstock_cases.CASES)
def test_adstock_weights_and_tangents(benchmark: BenchmarkFixture, case: adstock_cases.Case):
    weigh = partial(adstock.weights_and_tangents, case.family, **case.options)
    measure(benchmark, weigh, case.parameters(DTYPE))


@each({name: case for name, case in adstock_cases.CASES.items() if case.family == "geometric"})
def test_adstock_convolve(benchmark: BenchmarkFixture, case: adstock_cases.Case, implementation: str):
    weights = adstock.weights(case.family, case.parameters(DTYPE), **case.options)
    carry = partial(adstock.convolve, implementation=implementation)
    measure(benchmark, carry, case.media(DTYPE), weights, compiled=implementation != "reference")


@each(saturation_cases.CASES)
def test_saturate(benchmark: BenchmarkFixture, case: saturation_cases.Case, implementation: str):
    curve = partial(saturation.saturate, case.family, implementation=implementation)
    compiled = implementation != "reference"
    measure(benchmark, curve, case.media(DTYPE), case.parameters(DTYPE), compiled=compiled)


@each_fast(saturation_cases.CASES)
def test_saturation_value_and_partials(benchmark: BenchmarkFixture, case: saturation_cases.Case):
    curve = partial(saturation.value_and_partials, case.family)
    measure(benchmark, curve, case.media(DTYPE), case.parameters(DTYPE))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("implementation", ["xla", NATIVE, RECURSION])
@pytest.mark.parametrize("name", [name for name, case in likelihood_cases.CASES.items() if case.large])
def test_likelihood(benchmark: BenchmarkFixture, name: str, implementation: str, dtype: type[np.floating]):
    """Calls one after the other in one program, on one core: `extra_info` holds microseconds per lane-gradient.

    "recursion" is the native pass told that its windows are geometric, as the engine's density tells it.
    """
    case = likelihood_cases.CASES[name]
    with jax.enable_x64(dtype is np.float64), one_core():
        arguments = case.arguments(dtype)
        measure(benchmark, passes(case, implementation), arguments[0].media[..., :: case.chains], *arguments)
    benchmark.extra_info["isa"] = native_library.isa() if implementation != "xla" else ""
    tell_per_lane(benchmark, case)


@pytest.mark.parametrize("implementation", [RECURSION])
def test_wide_likelihood(benchmark: BenchmarkFixture, implementation: str):
    """The same for the lanes of a large group, which all cores share."""
    case = replace(likelihood_cases.CASES["logistic_156x8x128"], units=128)
    arguments = case.arguments(DTYPE)
    measure(benchmark, passes(case, implementation), arguments[0].media[..., :: case.chains], *arguments)
    benchmark.extra_info["isa"] = native_library.isa()
    tell_per_lane(benchmark, case)


def passes(case: likelihood_cases.Case, implementation: str) -> Callable[..., Any]:
    """Calls one after the other: of the media by unit, and the case's arguments."""

    def run(unit_media: Any, *arguments: Any) -> Any:
        series, weights, tangents, parameters, strength, log_noise = arguments
        decay = weights[1] / weights[0]
        call: Callable[..., Any] = partial(
            likelihood,
            strength_is_mean=case.strength_is_mean,
            adstock_first=case.adstock_first,
            unit_media=unit_media,
        )
        if implementation == "recursion":
            call = partial(call, implementation="native", decay=decay)
        else:
            call = partial(call, implementation=implementation)

        def follow(_: Any, value: Any) -> Any:
            # Without the barrier XLA would work out once what is the same in every pass.
            now, _ = jax.lax.optimization_barrier(((weights, tangents, parameters, strength, log_noise), value))
            weights_now, tangents_now, *others = now
            result = call(series, weights_now, tangents_now, case.saturation, *others)
            return jax.tree.reduce(lambda total, leaf: total + jnp.sum(leaf), result, value)

        return jax.lax.fori_loop(0, PASSES, follow, jnp.zeros((), unit_media.dtype))

    return run


def tell_per_lane(benchmark: BenchmarkFixture, case: likelihood_cases.Case) -> None:
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.as_dict()["min"]
        benchmark.extra_info["us_per_lane_gradient"] = seconds / PASSES / case.lanes * 1e6


@pytest.mark.parametrize("draws", [700, 1500, 4000])
@pytest.mark.parametrize("implementation", ["xla", NATIVE])
def test_convergence(benchmark: BenchmarkFixture, implementation: str, draws: int):
    """68 quantities of 8 chains, by draws per chain."""
    chains = np.random.default_rng(0).normal(size=(68, draws, 8)).astype(DTYPE)
    with jax.enable_x64(True), one_core():
        measure(benchmark, partial(convergence, implementation=implementation), chains, np.int32(draws))


@contextmanager
def one_core() -> Iterator[None]:
    """Every thread of this process on one core, where the system lets us say so."""
    tasks = [int(task.name) for task in Path("/proc/self/task").glob("*")]
    before = os.sched_getaffinity(0) if tasks else set()
    for task in tasks:
        os.sched_setaffinity(task, {min(before)})
    try:
        yield
    finally:
        for task in tasks:
            os.sched_setaffinity(task, before)
