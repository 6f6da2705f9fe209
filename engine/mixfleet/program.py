"""Program: the compiled functions that move one tile of units, one set per structure."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.batch import Structure, Tile, tile_shapes
from mixfleet.density import evaluate_density
from mixfleet.samplers import hmc, start, warmup
from mixfleet.samplers.hmc import LogDensity, State

__all__ = ["COMPILER_OPTIONS", "TICKS", "Book", "Device", "Program", "program"]

TICKS = 64
"""Gradients of every lane between two visits to the host."""

WINDOW_ROWS = 256
"""Draws per chain that a metric may be learnt from."""


COMPILER_OPTIONS = {"xla_cpu_multi_thread_eigen": False}
"""One thread per program on CPU: tiles already share the cores."""

_COMPILERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="compile")


Device = Any
"""A `jax.Device`, which jax declares as a variable that no annotation may use."""


class Book(NamedTuple):
    """Draws of a tile's units so far; a row holds position, extra, log density and energy of every chain."""

    rows: Float[Array, "unit draw field chain"]
    filled: Int[Array, " unit"]
    """Draws per chain so far."""
    divergences: Int[Array, " unit"]
    accept: Float[Array, " unit"]
    """Mean acceptance of the last block."""


class Program:
    """The functions of one structure on one device, compiled once, several at a time, whatever the units are.

    A function waits for its own compilation alone, so the first units start while later steps still compile.
    """

    def __init__(self, kind: Structure, capacity: int, device: Device) -> None:
        self.kind, self.capacity, self.device = kind, capacity, device
        place = jax.sharding.SingleDeviceSharding(device)

        def shapes(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

        def flags(dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((kind.units,), dtype, sharding=place)

        with jax.enable_x64(True):
            tile = shapes(tile_shapes(kind))
            key = jax.ShapeDtypeStruct((kind.units, 2), jnp.uint32, sharding=place)
            target = flags(kind.dtype)
            state = shapes(jax.eval_shape(partial(_start, kind), tile, key, target))
            book = shapes(jax.eval_shape(self.empty_book))
        self._start = _compiled(_start, kind, tile, key, target)
        self._advance = _compiled(_advance, kind, tile, state, book)
        self._adapt = _compiled(_adapt, state, book, flags(bool), flags(bool))
        self._insert = _compiled(_insert, state, state, flags(jnp.int32))

    def empty_book(self) -> Book:
        """A book without draws."""
        kind = self.kind
        fields = kind.dimension + kind.channels + kind.columns + 2
        return Book(
            rows=jnp.zeros((kind.units, self.capacity + TICKS, fields, kind.chains), kind.dtype),
            filled=jnp.zeros(kind.units, jnp.int32),
            divergences=jnp.zeros(kind.units, jnp.int32),
            accept=jnp.zeros(kind.units, kind.dtype),
        )

    def start(self, tile: Tile, key: UInt32[Array, "unit 2"], target_accept: Float[Array, " unit"]) -> State:
        """Modes, Laplace metric and the first trajectories of a whole tile."""
        return self._start.result()(tile, key, target_accept)

    def advance(self, tile: Tile, state: State, book: Book) -> tuple[State, Book]:
        """One block of `TICKS` gradients per lane; the book must have room for as many draws.

        Consumes its state and book.
        """
        return self._advance.result()(tile, state, book)

    def adapt(
        self, state: State, book: Book, learn: Bool[Array, " unit"], settled: Bool[Array, " unit"]
    ) -> tuple[State, Book]:
        """Learns the metric in some units, ends the adaptation of others, and empties the book of both."""
        return self._adapt.result()(state, book, learn, settled)

    def insert(self, state: State, staged: State, place: Int[Array, " unit"]) -> State:
        """The state with unit `place[i]` of `staged` at place i; a negative place keeps what is there."""
        return self._insert.result()(state, staged, place)


@lru_cache(maxsize=16)
def program(kind: Structure, capacity: int, device: Device) -> Program:
    """The program of a structure on a device; the same one for every run of this process."""
    return Program(kind, capacity, device)


def _compiled(function: Any, *arguments: Any) -> "Future[Callable[..., Any]]":
    def compiled() -> Callable[..., Any]:
        with jax.enable_x64(True):
            return function.lower(*arguments).compile(COMPILER_OPTIONS)

    return _COMPILERS.submit(compiled)


def _log_density(kind: Structure, tile: Tile) -> LogDensity:
    series = tile.series(kind.chains)
    return lambda position: tuple(evaluate_density(position, tile, series, kind))  # pyright: ignore[reportReturnType]


@partial(jax.jit, static_argnums=0)
def _start(kind: Structure, tile: Tile, key: Array, target_accept: Array) -> State:
    log_density = _log_density(kind, tile)
    keys = jax.vmap(lambda k: jax.random.split(k, 3))(key)
    modes, values = start.optimise(log_density, tile.centre, kind.chains, keys[:, 0])
    modes, values, metric = start.laplace(log_density, modes, values, kind.units)
    position, value, gradient, extra = start.scatter(log_density, modes, values, metric, keys[:, 1])
    stepping = warmup.first_stepping(kind.units, target_accept)
    return hmc.begin(position, (value, gradient, extra), metric, stepping, keys[:, 2])


@partial(jax.jit, static_argnums=0, donate_argnums=(2, 3))
def _advance(kind: Structure, tile: Tile, state: State, book: Book) -> tuple[State, Book]:
    state, trace = hmc.advance(_log_density(kind, tile), state, TICKS)
    units, chains = kind.units, kind.chains
    fields = jnp.concatenate(
        [trace.position, trace.extra, trace.value[:, None], trace.energy[:, None]], axis=1
    ).reshape(TICKS, -1, units, chains)
    done = jnp.sum(trace.done, axis=0, dtype=jnp.int32)
    # Row in the book of each trajectory that finished, and where those stand in the trace.
    row = book.filled[None] + jnp.cumsum(trace.done, axis=0, dtype=jnp.int32) - 1
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
    return state, Book(
        rows=jax.lax.fori_loop(zero, jnp.sum(done, dtype=jnp.int32), enter, book.rows),
        filled=book.filled + done,
        divergences=book.divergences + jnp.sum(diverged, axis=(0, 2), dtype=jnp.int32),
        accept=jnp.sum(accept, axis=(0, 2)) / jnp.maximum(done * chains, 1),
    )


@partial(jax.jit, donate_argnums=(0, 1))
def _adapt(state: State, book: Book, learn: Array, settled: Array) -> tuple[State, Book]:
    coordinates = state.here.position.shape[0]
    rows = book.rows[:, :WINDOW_ROWS, :coordinates]
    state = warmup.learn_metric(state, rows, jnp.minimum(book.filled, WINDOW_ROWS), learn)
    state = state._replace(stepping=warmup.settle(state.stepping, settled))
    empty = learn | settled
    return state, book._replace(
        filled=jnp.where(empty, 0, book.filled), divergences=jnp.where(empty, 0, book.divergences)
    )


@partial(jax.jit, donate_argnums=(0,))
def _insert(state: State, staged: State, place: Array) -> State:
    which, source = place >= 0, jnp.maximum(place, 0)
    units = place.shape[0]

    def units_first(old: Array, new: Array) -> Array:
        return jnp.where(which.reshape(-1, *[1] * (old.ndim - 1)), new[source], old)

    def units_last(old: Array, new: Array) -> Array:
        split = (*old.shape[:-1], units, old.shape[-1] // units)
        chosen = jnp.where(which[:, None], new.reshape(split)[..., source, :], old.reshape(split))
        return chosen.reshape(old.shape)

    first = {name: jax.tree.map(units_first, getattr(state, name), getattr(staged, name)) for name in ("key", "metric")}
    rest = {
        name: jax.tree.map(units_last, getattr(state, name), getattr(staged, name))
        for name in State._fields
        if name not in first
    }
    return State(**first, **rest)
