"""The programs that a GPU would run, lowered for CUDA without one, and what XLA makes of the density.

A GPU shows these faults as a slow or a slightly wrong fit, never as an error, so they are held here: a call into the
CPU's library, a loop over weeks, products in TensorFloat-32, arrays in double precision.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mixfleet.config import Model, Spec
from mixfleet.config.priors import ADSTOCK_PARAMETERS
from mixfleet.data.panel import read_panel
from mixfleet.hierarchy import gibbs
from mixfleet.hierarchy.reparameterization import Pool
from mixfleet.inference import compiled as program
from mixfleet.inference import native_block
from mixfleet.inference.diagnostics import diagnose
from mixfleet.models.batch import Structure, UnitBatch, batch_shapes, structure_of
from mixfleet.models.log_density import Evaluation, evaluate_density
from mixfleet.simulation import fleet as simulate
from mixfleet_kernels import native_library
from mixfleet_kernels.adstock.xla import UNROLLED_LAGS

MOST_KERNELS = 82
"""74 on jaxlib 0.10.2. On a GPU each is a launch, and at 128 lanes a launch costs more than what it launches."""

MOST_BYTES = 342_000
"""Read and written for one gradient of one lane: 310,600 on jaxlib 0.10.2. The density does little with each number,
so traffic is what it costs where there are lanes enough. The room left is that of six more passes over the media."""

MOST_LOOPS = {"evaluate": 0, "_insert": 0, "advance": 2}
"""The two are over ticks and over the draws that they enter."""

LASTING = {"evaluate": 1, "_insert": 0, "advance": 3}
"""Where noise lasts: each density sweeps over the columns of the baseline, whole matrices of all lanes at a time."""

DEVICE = jax.devices()[0]


def kind_of(model: Model) -> Structure:
    """156 weeks (160 padded), 8 channels, 8 columns, 128 lanes."""
    fleet = simulate.fleet(brands=1, markets=1, weeks=156, channels=8, seed=1)
    return structure_of(Spec(data=fleet.data, model=model), read_panel(fleet.table, fleet.data), 156)


KIND = kind_of(Model(saturation="logistic", observation="normal"))


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def lowered(function: Any, *arguments: Any) -> str:
    return function.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


def lowered_by(make: Callable[[], Any], module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Each function that `make` has compiled, by name, lowered for CUDA instead."""
    texts: dict[str, str] = {}

    def collect(function: Any, *arguments: Any) -> Future[Any]:
        texts[function.__name__] = lowered(function, *arguments)
        return Future()

    monkeypatch.setattr(module, "compiled", collect)
    monkeypatch.setattr(program.Program, "_rehearse", lambda *_: None)
    make()
    return texts


def assert_fit_for_a_gpu(text: str) -> None:
    assert "custom_call" not in text
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert [line for line in products if "precision = [HIGHEST, HIGHEST]" not in line] == []
    # Scalars in double precision are Python's numbers, converted before they meet an array.
    assert re.findall(r"tensor<[0-9x]+xf64>", text) == []


@pytest.mark.parametrize(("kind", "loops"), [(KIND, MOST_LOOPS), (kind_of(Model()), LASTING)], ids=["plain", "lasting"])
def test_the_samplers_programs(kind: Structure, loops: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU, which has no native block.
    monkeypatch.setattr(native_block, "form_of", lambda *_: None)
    texts = lowered_by(lambda: program.Program(kind, 128, DEVICE), program, monkeypatch)
    assert set(texts) == {"evaluate", "advance", "_window", "_adapt", "_insert"}
    for text in texts.values():
        assert_fit_for_a_gpu(text)
    assert "dot_general" in texts["evaluate"]
    assert {name: texts[name].count("stablehlo.while") for name in loops} == loops


def test_a_program_of_double_precision_is_so_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[str] = set()

    def collect(_: Any, *arguments: Any) -> Future[Any]:
        taken.update(str(leaf.dtype) for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.ShapeDtypeStruct))
        return Future()

    monkeypatch.setattr(native_block, "form_of", lambda *_: None)
    monkeypatch.setattr(program, "compiled", collect)
    monkeypatch.setattr(program.Program, "_rehearse", lambda *_: None)
    with jax.enable_x64(False):
        program.Program(replace(KIND, dtype="float64"), 128, DEVICE)
    assert "float64" in taken
    assert "float32" not in taken


def test_a_pooled_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = replace(KIND, units=8, columns=3, shared=1)
    pool = Pool(
        structure=structure, parameters=tuple(range(len(structure.layout.by_channel))), levels=(8,), types=0, joint=0
    )
    texts = lowered_by(lambda: gibbs.PooledProgram(pool, DEVICE, None), gibbs, monkeypatch)
    assert set(texts) == {"_coordinates", "evaluate", "_prelude", "_pulls", "_sweeps"}
    for text in texts.values():
        assert_fit_for_a_gpu(text)


def test_the_diagnostics() -> None:
    draws = jax.ShapeDtypeStruct((68, 700, KIND.chains), KIND.dtype)
    assert "custom_call" not in lowered(jax.jit(diagnose), draws, jax.ShapeDtypeStruct((), jnp.int32))


@pytest.mark.parametrize("adstock", ADSTOCK_PARAMETERS)
@pytest.mark.parametrize("adstock_first", [True, False])
def test_no_density_loops_over_weeks(adstock: str, adstock_first: bool) -> None:
    """Windows longer than `adstock.xla.UNROLLED_LAGS` loop over their lags, not over weeks."""
    model = Model(adstock=adstock, adstock_first=adstock_first, window=UNROLLED_LAGS, observation="normal")  # pyright: ignore[reportArgumentType]
    structure = replace(kind_of(model), columns=2)
    covariance = jnp.ones((structure.columns, structure.columns, structure.lanes), structure.dtype)

    def alone_and_in_a_group(batch: UnitBatch, position: jax.Array) -> tuple[Evaluation, Evaluation]:
        alone = batch.series(structure.chains)
        in_a_group = alone._replace(variance=covariance)
        return evaluate_density(position, batch, alone, structure), evaluate_density(
            position, batch, in_a_group, structure
        )

    text = lowered(jax.jit(alone_and_in_a_group), batch_shapes(structure), positions(structure))
    assert_fit_for_a_gpu(text)
    assert "stablehlo.while" not in text


def test_a_gradient_is_few_kernels_and_little_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA's density as compiled for CPU stands in for the GPU's: the same operations, fused by rules of the same kind.

    The bounds are there to show a change that adds traffic; they say nothing of time.
    """
    monkeypatch.setattr(native_library, "available", lambda: False)

    def density(batch: UnitBatch, position: jax.Array) -> Evaluation:
        return evaluate_density(position, batch, batch.series(KIND.chains), KIND)

    compiled = jax.jit(density).lower(batch_shapes(KIND), positions(KIND)).compile(program.COMPILER_OPTIONS)
    entry = compiled.as_text().partition("\nENTRY")[2].partition("\n}")[0]  # pyright: ignore[reportOptionalMemberAccess]
    operations = re.findall(r"^ +(?:ROOT )?%\S+ = (?:\(.*?\)|\S+) ([a-z-]+)\(", entry, re.MULTILINE)
    kernels = [name for name in operations if name not in {"parameter", "constant", "tuple", "bitcast"}]
    assert set(kernels) == {"fusion", "dot"}
    assert len(kernels) <= MOST_KERNELS
    assert compiled.cost_analysis()["bytes accessed"] / KIND.lanes <= MOST_BYTES  # pyright: ignore[reportOptionalSubscript]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda x: x @ x.T, "DEFAULT"),
        (lambda x: x.astype(jnp.float64).astype(x.dtype), "f64"),
        (jnp.linalg.cholesky, "custom_call"),
    ],
    ids=["precision", "float64", "library"],
)
def test_faults_are_seen(fault: Callable[[jax.Array], jax.Array], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_fit_for_a_gpu(lowered(jax.jit(fault), jax.ShapeDtypeStruct((4, 4), jnp.float32)))


def positions(structure: Structure) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((structure.dimension, structure.lanes), structure.dtype)
