"""The native block of HMC is the one in XLA: density, trajectories, draws and step sizes, to rounding."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet import config
from mixfleet.config import Prior
from mixfleet.config.measures import On
from mixfleet.config.priors import distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import Panel
from mixfleet.inference import adaptation, compiled, draws, hmc, initialization
from mixfleet.inference.adaptation import metric_of
from mixfleet.inference.hmc import TICKS, DrawBuffer, HMCState
from mixfleet.inference.native_block import NativeProgram, data_of, form_of, path_of
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet.inference.sinh_arcsinh import SinhArcsinh
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, prepare, stack, structure_of
from mixfleet.models.log_density import evaluate_density
from mixfleet_kernels import hmc as kernels
from mixfleet_kernels import native_library
from mixfleet_kernels.hmc import Evaluation
from tests.support.lift_tests import day, with_tests
from tests.support.terms import LEARNED_SCALES
from tests.support.units import odd_unit, panel_of

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs the native library")

PRIORS = {
    "default": Prior(),
    "bounds": Prior(
        on=On(media="effect"),
        parameters=FrozenMapping(
            dict(
                decay=distribution("truncated_normal", mean=0.4, sd=0.3, low=0.0, high=0.95),
                rate=distribution("lognormal", mean_log=0.5, sd_log=0.7),
                slope=distribution("truncated_normal", mean=1.5, sd=1.0, low=0.5, high=4.0),
                effect=distribution("gamma", shape=2.0, rate=8.0),
                noise=distribution("inverse_gamma", shape=4.0, scale=0.4),
            )
        ),
    ),
    "returns": Prior(
        on=On(media="roi"),
        parameters=FrozenMapping(
            dict(
                decay=distribution("uniform", low=0.1, high=0.8),
                rate=distribution("truncated_normal", mean=1.0, sd=2.0, low=0.2, high=np.inf),
                half_saturation=distribution("inverse_gamma", shape=3.0, scale=1.0),
                roi=distribution("lognormal", mean_log=0.2, sd_log=0.9),
                noise=distribution("exponential", rate=4.0),
            )
        ),
    ),
    "known": Prior(parameters=FrozenMapping({"decay": distribution("fixed", value=0.4)})),
}

LAWS = Prior(
    parameters=FrozenMapping(
        {
            "trend": distribution("student_t", df=5.0, mean=0.0, scale=0.2),
            "control": distribution("laplace", mean=0.1, scale=0.2),
        }
    )
)
SIGNED: dict[str, Any] = {"signs": {"sin_1": "positive", "control_0": "negative"}}
"""Coefficients that are sampled, of other laws and of known signs."""

MIXED: dict[str, Any] = {
    "channels": {
        "channel_0": {"adstock": "none", "saturation": "michaelis_menten", "adstock_first": False},
        "channel_1": {"window": 4, "normalise": False},
        "channel_2": {"adstock": "delayed", "saturation": "hill"},
    }
}
"""Forms of the three channels: without carry-over, another window, another adstock and saturation."""

SATURATION_FIRST: dict[str, Any] = {
    "channels": {
        "channel_0": {"adstock_first": False, "window": 4},
        "channel_1": {"adstock_first": False, "adstock": "delayed", "saturation": "hill", "normalise": False},
    }
}
"""Two of the three channels saturate before they carry over."""

PEER = "pymc_marketing"
WINDOWS = (
    [{"adstock": "binomial"}, {"adstock": "delayed", "normalise": False}, {"adstock": "weibull_cdf"}],
    [{"adstock": "weibull_pdf"}, {"adstock": "binomial", "window_convention": PEER}, {"adstock": "delayed"}],
    [
        {"adstock": "weibull_pdf", "normalise": False},
        {"adstock": "weibull_pdf", "window_convention": PEER},
        {"adstock": "weibull_cdf", "normalise": False, "saturation": "root"},
    ],
)
"""Windows of the three channels."""


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def made(prior: Prior, **settings: Any) -> tuple[Structure, UnitBatch]:
    structure, members = units_of(prior, **settings)
    return structure, stack(members, structure)


def units_of(
    prior: Prior, *, precision: str = "float64", chains: int = 8, lanes: int = 24, lifts: bool = False, **model: Any
) -> tuple[Structure, list[PreparedUnit]]:
    units = (
        odd_unit(),
        odd_unit(seed=1, absent=(1,), gap=slice(20, 24), labels=("other", "FR")),
        odd_unit(seed=2, weeks=45, labels=("third", "IT")),
    )
    panel = panel_of(*units)
    form = config.build(config.Model, {"saturation": "logistic", "observation": "normal", **model})
    if lifts:
        panel = with_tests(panel, lift_tests(panel), window=form.window)
        units = panel.units
    spec = config.Spec(
        data=panel.data,
        model=form,
        prior=prior,
        inference=config.Inference(chains=chains),
        compute=config.Compute(precision=precision, lanes=lanes),
    )
    structure = structure_of(spec, panel, 60)
    return structure, [prepare(unit, panel, spec) for unit in units[: structure.units]]


def lift_tests(panel: Panel) -> list[dict[str, Any]]:
    """One test of the first unit, of two channels together, and two of the last; the second has none."""
    first, last = (dict(zip(panel.keys, panel.units[i].labels, strict=True)) | {"se": 200.0} for i in (0, 2))
    both = {"start": day(panel, 20), "end": day(panel, 22, 6), "channel": "channel_0+channel_2"}
    return [
        {**first, **both, "factor": 0, "lift": -900},
        {**last, "start": day(panel, 30), "end": day(panel, 33, 6), "channel": "channel_1", "factor": 2, "lift": 700},
        {**last, "start": day(panel, 39), "end": day(panel, 39, 6), "channel": "channel_0", "factor": 2, "lift": 90},
    ]


def native(structure: Structure, capacity: int = 256) -> NativeProgram:
    form = form_of(structure, "cpu")
    assert form is not None
    return NativeProgram(structure, form, capacity, None)


def found_natively(structure: Structure, batch: UnitBatch, position: Any) -> Evaluation:
    return kernels.density(data_of(native(structure).put(batch)), native(structure).form)(np.asarray(position))


def on_host(tree: Any) -> Any:
    """Copies, which native code may change."""
    return jax.tree.map(np.array, tree)


def scattered(structure: Structure, batch: UnitBatch, spread: float) -> jax.Array:
    random = np.random.default_rng(0)
    centre = np.repeat(batch.centre, structure.chains, axis=-1)
    return jnp.asarray(centre + spread * random.standard_normal(centre.shape), structure.dtype)


FORMS = [
    *((name, {"saturation": saturation}) for name in PRIORS for saturation in ("logistic", "hill", "none")),
    *((name, MIXED) for name in ("bounds", "known")),
    *((name, {"saturation": "hill", "adstock_first": False}) for name in ("default", "known")),
    ("returns", SATURATION_FIRST),
    *(("default", {"channels": {f"channel_{c}": own for c, own in enumerate(forms)}}) for forms in WINDOWS),
]


@pytest.mark.parametrize(("name", "model"), FORMS)
def test_the_density_is_the_one_in_xla(name: str, model: dict[str, Any]) -> None:
    structure, batch = made(PRIORS[name], **model)
    # Farther out what a delayed window carries is subnormal, and XLA's gradient of a Hill curve no number there.
    for spread in (0.3, 2.0) if "channels" in model else (0.3, 2.0, 6.0):
        position = scattered(structure, batch, spread)
        expected = Evaluation(*compiled.evaluate(structure, batch, position))
        found = found_natively(structure, batch, position)
        for ours, theirs in zip(found, expected, strict=True):
            # A lane's numbers are sums of terms as large as its largest: far out they cancel.
            size = np.max(np.abs(np.atleast_2d(theirs)), axis=0)
            assert np.all(np.abs(ours - theirs) <= 1e-11 * size + 1e-10)


@pytest.mark.parametrize("name", PRIORS)
def test_native_code_climbs_where_the_host_does(name: str) -> None:
    structure, batch = made(PRIORS[name])
    data, form = data_of(batch), form_of(structure, "cpu")
    assert form is not None
    centre, key = np.asarray(batch.centre), np.arange(2 * structure.units, dtype=np.uint32).reshape(-1, 2)
    log_density: Any = kernels.density(data, form)
    best, top = initialization.optimise(log_density, centre, structure.chains, key)
    starts = initialization.starts(centre, structure.chains, key)
    found, height = kernels.climb(data, form, starts, initialization.adam())
    np.testing.assert_allclose(height, top, atol=1e-9)
    np.testing.assert_allclose(found, best, atol=1e-9)
    lost = np.full_like(starts, np.inf)
    np.testing.assert_array_equal(kernels.climb(data, form, lost, initialization.adam())[0], lost)


def test_gradients_at_draws_are_those_of_the_tile() -> None:
    """In native code all draws of a unit are found at once, in XLA as many as the tile has places, of any unit."""
    structure, members = units_of(PRIORS["default"])
    batch, random = stack(members, structure), np.random.default_rng(2)
    counts = (4, 0, 3)
    drawn = [
        (member, batch.centre[:, [u], None] + 0.3 * random.standard_normal((structure.dimension, n, structure.chains)))
        for u, (member, n) in enumerate(zip(members, counts, strict=True))
    ]
    draws = [(member, np.moveaxis(own, 0, 1)) for member, own in drawn]
    evaluated: Future[Any] = Future()
    evaluated.set_result(partial(compiled.evaluate, structure))
    in_xla: Any = SimpleNamespace(structure=structure, put=lambda values: values, _evaluate=evaluated)
    ours, theirs = native(structure).gradients(draws), compiled.Program.gradients(in_xla, draws)
    for u, n in enumerate(counts):
        assert ours[u].shape == theirs[u].shape == (n, structure.dimension, structure.chains)
        for i in range(n):
            position = np.repeat(np.asarray(batch.centre)[..., None], structure.chains, axis=-1)
            position[:, u] = draws[u][1][i]
            plain = compiled.evaluate(structure, batch, position.reshape(structure.dimension, -1))[1]
            own = np.asarray(plain).reshape(position.shape)[:, u]
            np.testing.assert_allclose(ours[u][i], own, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(theirs[u][i], own, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("chains", "lifts"), [(3, True), (8, False)])
def test_the_density_of_autocorrelated_noise_is_the_one_in_xla(chains: int, lifts: bool) -> None:
    structure, batch = made(PRIORS["default"], chains=chains, lanes=3 * chains, lifts=lifts, observation="ar1")
    assert structure.gaps > 2, "a unit has a hole"
    given = jax.tree.map(jnp.asarray, batch)
    evaluate = jax.jit(lambda x: evaluate_density(x, given, given.series(structure.chains), structure))
    for spread in (0.3, 2.0):
        position = scattered(structure, batch, spread)
        expected = evaluate(position)
        found = found_natively(structure, batch, position)
        for ours, theirs in zip(found, expected, strict=True):
            size = np.max(np.abs(np.atleast_2d(theirs)), axis=0)
            assert np.all(np.abs(ours - theirs) <= 1e-11 * size + 1e-10)


@pytest.mark.parametrize("observation", ["normal", "ar1"])
@pytest.mark.parametrize(
    ("prior", "signs"),
    [
        (Prior(), SIGNED["signs"]),
        (LAWS, {"sin_1": "negative"}),
        (LAWS, {"trend": "negative", "control_0": "positive"}),
    ],
)
def test_the_density_of_sampled_coefficients_is_the_one_in_xla(
    prior: Prior, signs: dict[str, str], observation: str
) -> None:
    structure, batch = made(prior, lifts=True, saturation="hill", signs=signs, observation=observation)
    assert structure.apart > 1
    given = jax.tree.map(jnp.asarray, batch)
    evaluate = jax.jit(lambda x: evaluate_density(x, given, given.series(structure.chains), structure))
    for spread in (0.3, 2.0):
        position = scattered(structure, batch, spread)
        for ours, theirs in zip(found_natively(structure, batch, position), evaluate(position), strict=True):
            size = np.max(np.abs(np.atleast_2d(theirs)), axis=0)
            assert np.all(np.abs(ours - theirs) <= 1e-11 * size + 1e-10)


@pytest.mark.parametrize(
    ("chains", "model"),
    [
        (8, {}),
        (8, {"saturation": "hill", "normalise": False, "coordinate": "effect"}),
        (3, MIXED),
        (3, SATURATION_FIRST),
    ],
)
def test_lift_tests_are_those_in_xla(chains: int, model: dict[str, Any]) -> None:
    structure, batch = made(PRIORS["default"], chains=chains, lanes=3 * chains, lifts=True, **model)
    without, alone = made(PRIORS["default"], chains=chains, lanes=3 * chains, **model)
    position = scattered(structure, batch, 1.0)
    expected = evaluate_density(position, batch, batch.series(structure.chains), structure)
    found = found_natively(structure, batch, position)
    np.testing.assert_allclose(found[0], expected.value, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(found[1], expected.gradient, rtol=1e-9, atol=1e-9)
    told = found[0] - found_natively(without, alone, position)[0]
    assert [bool(np.any(part != 0)) for part in told.reshape(3, -1)] == [True, False, True]


@pytest.mark.parametrize("chains", [2, 3, 16])
def test_any_number_of_chains_fills_its_lanes(chains: int) -> None:
    structure, batch = made(PRIORS["default"], chains=chains, lanes=3 * chains)
    position = scattered(structure, batch, 0.5)
    expected = evaluate_density(position, batch, batch.series(structure.chains), structure)
    found = found_natively(structure, batch, position)
    np.testing.assert_allclose(found[1], expected.gradient, rtol=2e-11, atol=1e-10)


def test_single_precision_is_near() -> None:
    structure, batch = made(PRIORS["default"], precision="float32")
    position = scattered(structure, batch, 1.0)
    expected = evaluate_density(position, batch, batch.series(structure.chains), structure)
    found = found_natively(structure, batch, position)
    np.testing.assert_allclose(found[0], expected.value, rtol=2e-5)
    np.testing.assert_allclose(found[1], expected.gradient, rtol=2e-3, atol=2e-2)


def started(structure: Structure, batch: UnitBatch, capacity: int = 256) -> tuple[HMCState, DrawBuffer]:
    """Chains near the centre, with coordinates and a metric that have been learnt, and an empty buffer."""
    units, chains, dimension = structure.units, structure.chains, structure.dimension
    random = np.random.default_rng(1)
    # By unit, so that the first ones are the same however many there are.
    scale = 0.02 + 0.1 * random.random((units, dimension)).T
    coordinates = SinhArcsinh(
        location=jnp.asarray(np.asarray(batch.centre) - 0.3 * scale),
        scale=jnp.asarray(scale),
        skewness=jnp.asarray(0.3 * np.sin(np.arange(dimension * units)).reshape(units, dimension).T),
        tail=jnp.asarray(1 + 0.3 * np.cos(np.arange(dimension * units)).reshape(units, dimension).T),
    )
    # Steps that are short for the posterior: long ones blow up differences in rounding.
    factor = 0.2 * np.eye(dimension) + 0.04 * np.sin(np.arange(units * dimension**2)).reshape(
        units, dimension, dimension
    )
    metric = metric_of(factor @ np.swapaxes(factor, 1, 2), structure.dtype)
    position = jnp.repeat(batch.centre, chains, axis=-1) + 0.05 * jnp.sin(jnp.arange(units * chains))
    evaluation = map(jnp.asarray, found_natively(structure, batch, position))
    first = adaptation.first_adaptation(metric, jnp.full(units, 0.8))._replace(coordinates=coordinates)
    keys = jnp.arange(2 * units, dtype=jnp.uint32).reshape(units, 2)
    state = hmc.begin(position, tuple(evaluation), first, keys)  # pyright: ignore[reportArgumentType]
    # Copies: both are consumed, and some of their arrays are the same one.
    return jax.tree.map(jnp.copy, (state, compiled._empty_buffer(structure, capacity)))


@pytest.mark.parametrize("chains", [3, 8])
@pytest.mark.parametrize(
    ("name", "lifts", "model"),
    [("default", False, {}), ("default", True, {}), ("returns", False, {}), ("default", False, SIGNED)],
)
def test_a_block_is_the_one_in_xla(name: str, lifts: bool, model: dict[str, Any], chains: int) -> None:
    structure, batch = made(PRIORS[name], chains=chains, lanes=3 * chains, lifts=lifts, **model)
    program = native(structure)
    reference = started(structure, batch)
    for _ in range(2):
        ours = on_host(reference)
        reference = compiled.advance(structure, batch, *reference)
        ours = program.advance(program.put(batch), *ours)
        assert_the_same(ours, reference)
    assert int(reference[1].filled.min()) > 8


def assert_the_same(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_what_is_learnt_is_adopted_as_in_xla() -> None:
    structure, batch = made(PRIORS["default"])
    program, (state, buffer) = native(structure), started(structure, batch)
    state, buffer = compiled.advance(structure, batch, state, buffer)
    own_state, own_buffer = on_host((state, buffer))
    random = np.random.default_rng(2)
    scale = 0.1 + random.random((structure.dimension, structure.units))
    coordinates = SinhArcsinh(np.asarray(batch.centre), scale, 0.2 * scale, 1 + 0.1 * scale)  # pyright: ignore[reportArgumentType]
    metric = metric_of(np.stack([(0.1 + u) * np.eye(structure.dimension) for u in range(structure.units)]), float)
    learn, settled, emptied = (
        np.array([True, False, True]),
        np.array([True, False, False]),
        np.array([False, True, True]),
    )
    expected = compiled._adapt(state, buffer, (coordinates, metric), learn, settled, emptied)
    found = program.adapt(own_state, own_buffer, (coordinates, metric), learn, settled, emptied)
    assert_the_same(found[0], expected[0], 1e-9)
    for name in ("filled", "divergences", "balance"):
        np.testing.assert_allclose(getattr(found[1], name), getattr(expected[1], name), atol=1e-9)


def test_units_are_inserted_as_in_xla() -> None:
    structure, batch = made(PRIORS["default"])
    program, (state, _) = native(structure), started(structure, batch)
    staged = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf), state)
    source = np.array([-1, 2, 0], np.int32)
    filled = np.array([3, 4, 5], np.int32)
    found = program.insert(on_host(state), on_host(staged), filled.copy(), source)
    assert_the_same(found, compiled._insert(state, staged, filled, source), 0)


def test_chains_start_where_they_do_in_xla() -> None:
    structure, batch = made(PRIORS["default"])
    program, keys = native(structure), np.arange(2 * structure.units, dtype=np.uint32).reshape(-1, 2)
    aims = np.full(structure.units, 0.8)

    def density(position: Any) -> Any:
        return compiled.evaluate(structure, batch, jnp.asarray(position))

    expected = compiled._start(structure, density, batch.centre, keys, aims)  # pyright: ignore[reportArgumentType]
    assert_the_same(program.start(program.put(batch), keys, aims), expected, 1e-5)


DRAWN = [(name, model) for name in PRIORS for model in ({}, {"saturation": "hill", "coordinate": "effect"})]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *DRAWN,
        ("default", {"observation": "ar1"}),
        ("default", MIXED),
        ("default", SATURATION_FIRST),
        ("default", SIGNED),
        ("default", {"observation": "ar1", **SIGNED}),
    ],
)
def test_draws_are_read_and_judged_as_in_xla(name: str, model: dict[str, Any]) -> None:
    structure, batch = made(PRIORS[name], **model)
    position = np.asarray(scattered(structure, batch, 0.3))
    count, chains = 64, structure.chains
    rows = np.random.default_rng(1).normal(1.0, 0.1, (structure.units, count + 8, structure.rows.count, chains))
    moved = 0.1 * np.random.default_rng(2).standard_normal((structure.units, count + 8, structure.dimension, chains))
    rows[:, :, : structure.dimension] = (
        moved + np.moveaxis(position.reshape(-1, structure.units, chains), 1, 0)[:, None]
    )
    nothing = np.zeros(structure.units, np.int32)
    buffer = DrawBuffer(rows, nothing, nothing, nothing, nothing)  # pyright: ignore[reportArgumentType]
    columns = structure.columns
    linear = draws.LinearCoefficients(np.arange(columns**2).reshape(columns, columns) / columns, np.ones(columns))
    key, places = np.array([3, 4], np.uint32), np.array([1, 2], np.int32)
    own = (structure, batch, buffer, linear, key, places)
    drawn, energy = draws.draws_on_host(*own, count)
    found = drawn, draws.judged_on_host(structure, batch, int(places[0]), drawn, energy)
    expected = draws.inspect(*own, np.int32(count), length=count + 8)
    for ours, theirs in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs)[..., :count, :], rtol=1e-9, atol=1e-9)
    # About the median of an even number two draws tie: where coefficients are solved for, rounding ranks them.
    assert_the_same(found[1], expected[1], 1e-3 if structure.gaps else 1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_are_those_of_xla(dtype: str) -> None:
    key, tolerance = np.array([5, 6], np.uint32), 2e-6 if dtype == "float32" else 1e-13
    expected = normals(uniforms(key[None], 7, 9, 13, jnp.dtype(dtype)))  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(
        kernels.normals(key, 7, 9 * 13, dtype).reshape(9, 13), expected, rtol=tolerance, atol=tolerance
    )


def test_draws_beyond_the_buffer_overwrite_its_last() -> None:
    structure, batch = made(PRIORS["default"])
    program = native(structure)
    state, buffer = on_host(started(structure, batch, capacity=0))
    for _ in range(8):
        state, buffer = program.advance(program.put(batch), state, buffer)
    assert int(buffer.filled.min()) > TICKS
    assert np.all(np.isfinite(buffer.rows))


@pytest.mark.parametrize(
    ("model", "chains", "lifts"),
    [
        ({}, 8, False),
        ({"observation": "ar1"}, 8, False),
        ({"observation": "ar1", **SIGNED}, 3, True),
        (MIXED, 3, True),
        (SATURATION_FIRST, 3, True),
    ],
)
def test_a_unit_moves_alone_as_among_others(model: dict[str, Any], chains: int, lifts: bool) -> None:
    structure, batch = made(PRIORS["default"], chains=chains, lanes=3 * chains, lifts=lifts, **model)
    alone = replace(structure, units=1)
    together, single = native(structure), native(alone)
    state, buffer = on_host(started(structure, batch))
    first = on_host(started(alone, _first(batch)))
    for _ in range(2):
        state, buffer = together.advance(together.put(batch), state, buffer)
        first = single.advance(single.put(_first(batch)), *first)
    count = int(buffer.filled[0])
    assert count == int(first[1].filled[0])
    np.testing.assert_array_equal(buffer.rows[0, :count], first[1].rows[0, :count])


def _first(batch: UnitBatch) -> UnitBatch:
    return UnitBatch(
        **{name: values[:1] if name == "basis" else values[..., :1] for name, values in batch._asdict().items()}
    )


@pytest.mark.parametrize(
    ("model", "platform", "path"),
    [
        (config.Model(), "cpu", "native"),
        (config.Model(), "gpu", "xla, coefficients integrated out by a dense factor"),
        (config.Model(observation="normal"), "gpu", "xla, coefficients integrated out"),
        (config.build(config.Model, MIXED), "cpu", "native"),
        (config.Model(adstock_first=False), "cpu", "native"),
        (config.Model(signs={"trend": "positive"}), "cpu", "native"),
        (LEARNED_SCALES, "cpu", "xla, coefficients integrated out by a dense factor"),
    ],
)
def test_the_path_of_a_structure_is_named(model: config.Model, platform: str, path: str) -> None:
    panel = panel_of(odd_unit())
    assert path_of(structure_of(config.Spec(data=panel.data, model=model), panel, 60), platform) == path
