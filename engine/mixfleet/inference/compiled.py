"""The compiled functions that move one tile of units, one set per structure."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.inference import adaptation, hmc, initialization, native_block
from mixfleet.inference.adaptation import Metric
from mixfleet.inference.hmc import TICKS, WINDOW_ROWS, DrawBuffer, HMCState, LogDensity, lanes_of
from mixfleet.inference.native_block import NativeProgram
from mixfleet.inference.sinh_arcsinh import SinhArcsinh
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, batch_shapes, stack
from mixfleet.models.log_density import evaluate_density

__all__ = ["COMPILER_OPTIONS", "TICKS", "Device", "DrawBuffer", "Program", "compiled", "evaluate", "program"]

COMPILER_OPTIONS = {"xla_cpu_multi_thread_eigen": False}
"""One thread per program on CPU: tiles already share the cores."""

_COMPILERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="compile")


Device = Any
"""A `jax.Device`, which jax declares as a variable that no annotation may use."""


class Program:
    """The functions of one structure on one device, compiled once, several at a time, whatever the units are.

    `native_block.NativeProgram` has the same functions, for the host.

    A function waits for its own compilation alone, so the first units start while later steps still compile.
    """

    def __init__(self, structure: Structure, capacity: int, device: Device) -> None:
        self.structure, self.capacity, self.device, self.form = structure, capacity, device, None
        place = jax.sharding.SingleDeviceSharding(device)

        def shapes(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

        def flags(dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((structure.units,), dtype, sharding=place)

        with jax.enable_x64(True):
            batch = shapes(batch_shapes(structure))
            key = jax.ShapeDtypeStruct((structure.units, 2), jnp.uint32, sharding=place)
            state = shapes(jax.eval_shape(partial(_abstract_state, structure), batch, key))
            buffer = shapes(jax.eval_shape(partial(_empty_buffer, structure, capacity)))
            learnt = shapes(jax.eval_shape(lambda state: state.adaptation[:2], state))
        self._evaluate = compiled(evaluate, structure, batch, state.here.position)
        self._advance = compiled(advance, structure, batch, state, buffer)
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=place)
        self._window = compiled(_window, buffer.rows, buffer.filled, number)
        self._adapt = compiled(_adapt, state, buffer, learnt, flags(bool), flags(bool), flags(bool))
        self._insert = compiled(_insert, state, state, buffer.filled, buffer.filled)
        self._empty_state, self._empty_buffer = state, buffer
        self._rehearsal = _COMPILERS.submit(self._rehearse, batch, state)

    def empty_buffer(self) -> DrawBuffer:
        """A draw buffer without draws."""
        return self._zeros(self._empty_buffer)

    def empty_state(self) -> HMCState:
        """A state to insert units into."""
        return self._zeros(self._empty_state)

    def put(self, values: Any) -> Any:
        """Host arrays on the program's device."""
        return jax.device_put(values, self.device)

    def _zeros(self, shapes: Any) -> Any:
        # From the host's zeros: a zero of jax's own would be one more small program to compile for every shape.
        return self.put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))

    def start(
        self, batch: UnitBatch, key: UInt32[np.ndarray, "unit 2"], target_accept: Float[np.ndarray, " unit"]
    ) -> HMCState:
        """Modes, Laplace metric and the first trajectories of a whole tile."""
        self._rehearsal.result()
        evaluate = partial(self._evaluate.result(), batch)
        return _start(self.structure, evaluate, batch.centre, self.put(key), self.put(target_accept))

    def _rehearse(self, batch: UnitBatch, state: HMCState) -> None:
        """Starts nothing, under a density of zeros, so that all but the density is compiled beside it."""
        with jax.enable_x64(True), jax.default_device(self.device):
            here = self._zeros(state.here)
            targets = self.put(np.zeros(self.structure.units, self.structure.dtype))
            centre, key = self._zeros((batch.centre, state.key))
            _start(self.structure, lambda _: (here.value, here.gradient, here.extra.extra), centre, key, targets)

    def advance(self, batch: UnitBatch, state: HMCState, buffer: DrawBuffer) -> tuple[HMCState, DrawBuffer]:
        """One block of `TICKS` gradients per lane; the draw buffer must have room for as many draws.

        Consumes its state and draw buffer.
        """
        return self._advance.result()(batch, state, buffer)

    def window(self, buffer: DrawBuffer, place: int) -> Float[np.ndarray, "draw coordinate chain"]:
        """The latest draws of the unit at a place, in the model's own coordinates: `WINDOW_ROWS` at most."""
        rows = np.asarray(self._window.result()(buffer.rows, buffer.filled, self.put(np.int32(place))))
        return rows[: int(np.asarray(buffer.filled)[place]), : self.structure.dimension]

    def gradients(
        self, drawn: Sequence[tuple[PreparedUnit, Float[np.ndarray, "draw coordinate chain"]]]
    ) -> list[Float[np.ndarray, "draw coordinate chain"]]:
        """Gradients of the log density at draws of units: as many draws at a time as the tile has places."""
        places, chains = self.structure.units, self.structure.chains
        members = [member for member, draws in drawn for _ in draws]
        every = np.concatenate([draws for _, draws in drawn])
        found = np.empty_like(every)
        for first in range(0, len(every), places):
            own = every[first : first + places]
            spare = places - len(own)
            batch = self.put(stack(members[first : first + places] + members[:1] * spare, self.structure))
            filled = np.concatenate([own, np.repeat(every[:1], spare, axis=0)])
            position = np.moveaxis(filled, 0, 1).reshape(-1, places * chains)
            _, gradient, _ = self._evaluate.result()(batch, self.put(position))
            by_place = np.asarray(gradient).reshape(-1, places, chains)
            found[first : first + places] = np.moveaxis(by_place, 1, 0)[: len(own)]
        ends = np.cumsum([len(draws) for _, draws in drawn])
        return np.split(found, ends[:-1])

    def adapt(
        self,
        state: HMCState,
        buffer: DrawBuffer,
        learnt: tuple[SinhArcsinh, Metric],
        learn: Bool[np.ndarray, " unit"],
        settled: Bool[np.ndarray, " unit"],
        emptied: Bool[np.ndarray, " unit"],
    ) -> tuple[HMCState, DrawBuffer]:
        """Adopts what some units have learnt, ends the adaptation of others, and empties the draw buffer of some.

        Consumes its state and draw buffer.
        """
        return self._adapt.result()(state, buffer, *self.put((learnt, learn, settled, emptied)))

    def insert(
        self, state: HMCState, staged: HMCState, filled: Int[Array, " unit"], source: Int[np.ndarray, " unit"]
    ) -> tuple[HMCState, Int[Array, " unit"]]:
        """The state with unit `source[i]` of `staged` at place i, and the draws of each place, none where it is new.

        A negative source keeps what is there. Consumes its state.
        """
        return self._insert.result()(state, staged, filled, self.put(source))


@lru_cache(maxsize=16)
def program(structure: Structure, capacity: int, device: Device) -> Program | NativeProgram:
    """The program of a structure on a device, native where there is one; the same for every run of this process."""
    form = native_block.form_of(structure, device.platform)
    return Program(structure, capacity, device) if form is None else NativeProgram(structure, form, capacity, device)


def compiled(function: Any, *arguments: Any) -> "Future[Callable[..., Any]]":
    """The jitted function compiled for arguments of such shapes, in a thread of its own."""

    def lower_and_compile() -> Callable[..., Any]:
        with jax.enable_x64(True):
            return function.lower(*arguments).compile(COMPILER_OPTIONS)

    return _COMPILERS.submit(lower_and_compile)


def _log_density(structure: Structure, batch: UnitBatch) -> LogDensity:
    series = batch.series(structure.chains)
    return lambda position: tuple(evaluate_density(position, batch, series, structure))  # pyright: ignore[reportReturnType]


def _empty_buffer(structure: Structure, capacity: int) -> DrawBuffer:
    fields = structure.rows.count
    return DrawBuffer(
        rows=jnp.zeros((structure.units, capacity + TICKS, fields, structure.chains), structure.dtype),
        filled=jnp.zeros(structure.units, jnp.int32),
        divergences=jnp.zeros(structure.units, jnp.int32),
        accept=jnp.zeros(structure.units, structure.dtype),
        balance=jnp.zeros((structure.units, structure.chains), structure.dtype),
    )


@partial(jax.jit, static_argnums=0)
def evaluate(structure: Structure, batch: UnitBatch, position: Array) -> tuple[Array, Array, Array]:
    """Log density of every lane, its gradient and what comes with it."""
    return _log_density(structure, batch)(position)


def _abstract_state(structure: Structure, batch: UnitBatch, key: Array) -> HMCState:
    """A state of the shapes that all states have."""
    position = lanes_of(batch.centre, structure.chains)
    one = jnp.broadcast_to(
        jnp.eye(structure.dimension, dtype=structure.dtype), (structure.units, structure.dimension, structure.dimension)
    )
    first = adaptation.first_adaptation(Metric(one, one, one), jnp.ones(structure.units, structure.dtype))
    return hmc.begin(position, _log_density(structure, batch)(position), first, key)


def _start(structure: Structure, log_density: LogDensity, centre: Array, key: Array, target_accept: Array) -> HMCState:
    modes, values = initialization.optimise(log_density, centre, structure.chains, key)
    modes, values, metric = initialization.laplace(log_density, modes, values, structure.units)
    position, evaluation = initialization.scatter(log_density, modes, values, metric, key)
    return _begin(position, evaluation, metric, target_accept, key)


@jax.jit
def _begin(
    position: Array, evaluation: tuple[Array, Array, Array], metric: Metric, target_accept: Array, key: Array
) -> HMCState:
    return hmc.begin(position, evaluation, adaptation.first_adaptation(metric, target_accept), key)


@partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def advance(structure: Structure, batch: UnitBatch, state: HMCState, buffer: DrawBuffer) -> tuple[HMCState, DrawBuffer]:
    state, trace = hmc.advance(_log_density(structure, batch), state, TICKS)
    units, chains = structure.units, structure.chains
    draw = trace.original
    fields = jnp.concatenate([draw.position, draw.extra, draw.value[:, None], trace.energy[:, None]], axis=1).reshape(
        TICKS, -1, units, chains
    )
    done = jnp.sum(trace.done, axis=0, dtype=jnp.int32)
    # Row in the draw buffer of each trajectory that finished, and where those stand in the trace.
    row = buffer.filled[None] + jnp.cumsum(trace.done, axis=0, dtype=jnp.int32) - 1
    (events,) = jnp.nonzero(trace.done.reshape(-1), size=trace.done.size)
    events = events.astype(jnp.int32)
    zero = jnp.int32(0)

    def enter(event: Array, rows: Array) -> Array:
        tick, unit = jnp.divmod(events[event], jnp.int32(units))
        drawn = jax.lax.dynamic_slice(fields, (tick, zero, unit, zero), (1, fields.shape[1], 1, chains))
        return jax.lax.dynamic_update_slice(rows, drawn.reshape(1, 1, -1, chains), (unit, row[tick, unit], zero, zero))

    finished = trace.done[:, :, None]
    diverged = trace.diverged.reshape(TICKS, units, chains) & finished
    accept = jnp.where(finished, trace.accept.reshape(TICKS, units, chains), 0)
    balance = jnp.where(finished, hmc.energy_balance(trace.accept).reshape(TICKS, units, chains), 0)
    return state, DrawBuffer(
        rows=jax.lax.fori_loop(zero, jnp.sum(done, dtype=jnp.int32), enter, buffer.rows),
        filled=buffer.filled + done,
        divergences=buffer.divergences + jnp.sum(diverged, axis=(0, 2), dtype=jnp.int32),
        accept=jnp.sum(accept, axis=(0, 2)) / jnp.maximum(done * chains, 1),
        balance=buffer.balance + jnp.sum(balance, axis=0),
    )


@jax.jit
def _window(rows: Array, filled: Array, place: Array) -> Float[Array, "draw field chain"]:
    most = min(WINDOW_ROWS, rows.shape[1])
    own = jax.lax.dynamic_index_in_dim(rows, place, keepdims=False)
    return jax.lax.dynamic_slice_in_dim(own, jnp.maximum(filled[place] - most, 0), most)


@partial(jax.jit, donate_argnums=(0, 1))
def _adapt(
    state: HMCState,
    buffer: DrawBuffer,
    learnt: tuple[SinhArcsinh, Metric],
    learn: Array,
    settled: Array,
    emptied: Array,
) -> tuple[HMCState, DrawBuffer]:
    state = hmc.adopt(state, *learnt, learn)
    stepping = adaptation.settle(state.adaptation.stepping, settled)
    return state._replace(adaptation=state.adaptation._replace(stepping=stepping)), buffer._replace(
        filled=jnp.where(emptied, 0, buffer.filled),
        divergences=jnp.where(emptied, 0, buffer.divergences),
        balance=jnp.where(emptied[:, None], 0, buffer.balance),
    )


@partial(jax.jit, donate_argnums=(0,))
def _insert(state: HMCState, staged: HMCState, filled: Array, source: Array) -> tuple[HMCState, Array]:
    which, source = source >= 0, jnp.maximum(source, 0)
    units = source.shape[0]

    def units_first(old: Array, new: Array) -> Array:
        return jnp.where(which.reshape(-1, *[1] * (old.ndim - 1)), new[source], old)

    def units_last(old: Array, new: Array) -> Array:
        split = (*old.shape[:-1], units, old.shape[-1] // units)
        chosen = jnp.where(which[:, None], new.reshape(split)[..., source, :], old.reshape(split))
        return chosen.reshape(old.shape)

    adaptation, staged_adaptation = state.adaptation, staged.adaptation
    metric = jax.tree.map(units_first, adaptation.metric, staged_adaptation.metric)
    rest = {
        name: jax.tree.map(units_last, getattr(state, name), getattr(staged, name))
        for name in HMCState._fields
        if name not in ("key", "adaptation")
    }
    moved = adaptation._replace(
        coordinates=jax.tree.map(units_last, adaptation.coordinates, staged_adaptation.coordinates),
        metric=metric,
        stepping=jax.tree.map(units_last, adaptation.stepping, staged_adaptation.stepping),
    )
    return HMCState(key=units_first(state.key, staged.key), adaptation=moved, **rest), jnp.where(which, 0, filled)
