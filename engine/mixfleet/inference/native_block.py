"""The native counterpart of `compiled.Program`, for the models that it knows: on the host, with nothing to compile."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from mixfleet.inference import adaptation, hmc, initialization
from mixfleet.inference.adaptation import ADAPTATION_DECAY, ADAPTATION_DELAY, ADAPTATION_GAIN, Adaptation, Metric
from mixfleet.inference.hmc import TICKS, WINDOW_ROWS, DrawBuffer, HMCState, Point
from mixfleet.inference.sinh_arcsinh import Original, SinhArcsinh, identity
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, batch_shapes, stack
from mixfleet.models.media import native_forms
from mixfleet.models.observation import OBSERVATIONS
from mixfleet.models.parameters import ParameterLayout
from mixfleet_kernels import hmc as kernels
from mixfleet_kernels.hmc import FAMILIES, Chains, Data, Draws, Form, Geometry, Place, Tuning

__all__ = ["NativeProgram", "data_of", "form_of", "path_of"]

VECTOR = 16
"""Numbers of the widest vector."""


def form_of(structure: Structure, platform: str) -> Form | None:
    """The form of a model that has a native density on this platform; None where it runs in XLA."""
    layout, forms = structure.layout, native_forms(structure.term)
    blocks = (*layout.shapes, *layout.observation, *layout.linear)
    families = {block.family for block in blocks} | set(structure.strengths)
    if (
        platform != "cpu"
        or forms is None
        or not OBSERVATIONS[structure.model.observation].marginal
        or structure.changes
        or structure.shared
        or structure.scales
        or structure.total
        or not families <= set(FAMILIES)
    ):
        return None
    return Form(
        channels=forms,
        adstock_slots=layout.adstock_slots,
        shapes=tuple(tuple(_coordinate(layout, place) for place in slot) for slot in layout.places),
        effect_first=layout.effect.first,
        strengths=structure.strengths,
        noise=(layout.noise.first, layout.noise.family),
        correlation=(layout.observation[1].first, layout.observation[1].family) if structure.gaps else None,
        coefficients=tuple((block.first + i, block.family) for block in layout.linear for i in range(block.size)),
        strength_is_mean=structure.model.coordinate != "effect",
        measured=structure.measured,
    )


def _coordinate(layout: ParameterLayout, place: tuple[int, int] | None) -> tuple[int, str] | None:
    """Coordinate and prior family of a row of one of the curves' parameters."""
    if place is None:
        return None
    block = layout.shapes[place[0]]
    return block.first + place[1], block.family


def path_of(structure: Structure, platform: str) -> str:
    """How units of a structure are sampled, in words: in native code or in XLA, and what becomes of coefficients."""
    if form_of(structure, platform) is not None:
        return "native"
    if structure.scales or structure.gaps:
        return "xla, coefficients integrated out by a dense factor"
    marginal = OBSERVATIONS[structure.model.observation].marginal
    return "xla, coefficients integrated out" if marginal else "xla, coefficients sampled"


def data_of(batch: UnitBatch) -> Data:
    """The part of the units' data that the density reads."""
    own = _values(batch)
    return Data(
        *(own.media, own.kpi, own.weight, own.basis, own.variance, own.active),
        *(own.hyper, own.measure, own.log_strength_unit),
        *(own.lift_media, own.lift_weight, own.lift_channel, own.lift_test, own.lift_estimate),
        *(own.gap_length, own.gap_spans, own.gap_gram, own.along),
    )


class NativeProgram:
    """The functions of one structure as `compiled.Program` has them; arrays are numpy's, and changed in place."""

    def __init__(self, structure: Structure, form: Form, capacity: int, device: Any) -> None:
        self.structure, self.form, self.capacity, self.device = structure, form, capacity, device
        shapes = batch_shapes(structure)
        self._no_data = data_of(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))

    def empty_buffer(self) -> DrawBuffer:
        """A draw buffer without draws."""
        return self._buffer(self.capacity + TICKS)

    def empty_state(self) -> HMCState:
        """A state to insert units into."""
        structure = self.structure
        units, dimension, lanes, dtype = structure.units, structure.dimension, structure.lanes, structure.dtype

        def zeros(*shape: int) -> Any:
            return np.zeros(shape, dtype)

        def point() -> Point:
            original = Original(
                zeros(dimension, lanes), zeros(lanes), zeros(structure.channels + structure.columns, lanes)
            )
            return Point(*(zeros(dimension, lanes) for _ in range(3)), value=zeros(lanes), extra=original)

        matrices = (zeros(units, dimension, dimension) for _ in range(3))
        adapted = Adaptation(
            coordinates=identity(dimension, units, dtype),
            metric=Metric(*matrices),
            stepping=adaptation.first_stepping(units, zeros(units)),
        )
        return HMCState(
            here=point(),
            start=point(),
            momentum=zeros(dimension, lanes),
            velocity=zeros(dimension, lanes),
            start_energy=zeros(lanes),
            threshold=zeros(lanes),
            steps_left=np.zeros(units, np.int32),  # pyright: ignore[reportArgumentType]
            transition=np.zeros(units, np.int32),  # pyright: ignore[reportArgumentType]
            key=np.zeros((units, 2), np.uint32),  # pyright: ignore[reportArgumentType]
            # Each array is its own: they are changed in place.
            adaptation=jax.tree.map(np.array, adapted),
        )

    def put(self, values: Any) -> Any:
        """The arrays as native code reads them."""
        return jax.tree.map(np.ascontiguousarray, values)

    def start(
        self, batch: UnitBatch, key: UInt32[np.ndarray, "unit 2"], target_accept: Float[np.ndarray, " unit"]
    ) -> HMCState:
        """Modes, Laplace metric and the first trajectories of a whole tile."""
        data, structure = data_of(batch), self.structure
        log_density: Any = kernels.density(data, self.form)
        starts = initialization.starts(batch.centre, structure.chains, key)
        modes, values = kernels.climb(data, self.form, starts, initialization.adam())
        modes, values, metric = initialization.laplace(log_density, modes, values, structure.units)
        position, evaluation = initialization.scatter(log_density, modes, values, metric, key)
        state = self.empty_state()._replace(
            key=np.ascontiguousarray(key),  # pyright: ignore[reportArgumentType]
            adaptation=Adaptation(
                coordinates=identity(structure.dimension, structure.units, structure.dtype),
                metric=metric,
                stepping=jax.tree.map(np.array, adaptation.first_stepping(structure.units, _values(target_accept))),
            ),
        )
        start: Any = state.start
        start.extra.position[:] = position
        start.extra.value[:], start.gradient[:], start.extra.extra[:] = evaluation
        self._move(data, state, self._buffer(1), 0, np.ones(structure.units, bool))
        return state

    def advance(self, batch: UnitBatch, state: HMCState, buffer: DrawBuffer) -> tuple[HMCState, DrawBuffer]:
        """One block of `TICKS` gradients per lane; the draw buffer must have room for as many draws."""
        self._move(data_of(batch), state, buffer, TICKS)
        return state, buffer

    def window(self, buffer: DrawBuffer, place: int) -> Float[np.ndarray, "draw coordinate chain"]:
        """The latest draws of the unit at a place, in the model's own coordinates: `WINDOW_ROWS` at most."""
        filled = int(buffer.filled[place])
        return np.asarray(buffer.rows[place, max(filled - WINDOW_ROWS, 0) : filled, : self.structure.dimension])

    def gradients(
        self, drawn: Sequence[tuple[PreparedUnit, Float[np.ndarray, "draw coordinate chain"]]]
    ) -> list[Float[np.ndarray, "draw coordinate chain"]]:
        """Gradients of the log density at draws of units."""
        found = []
        for member, draws in drawn:
            if draws.size == 0:
                found.append(draws)
                continue
            # All draws are so many chains of the unit.
            alone: Any = self.put(data_of(stack([member], replace(self.structure, units=1))))
            position = np.moveaxis(draws, 1, 0)
            lanes = position.reshape(len(position), -1)
            # To fill whole vectors native code would add copies of all of them, up to fifteen; the last one does.
            spare = np.repeat(lanes[:, -1:], -lanes.shape[1] % VECTOR, axis=1)
            _, gradient, _ = kernels.density(alone, self.form)(np.concatenate([lanes, spare], axis=1))
            found.append(np.moveaxis(gradient[:, : lanes.shape[1]].reshape(position.shape), 0, 1))
        return found

    def adapt(
        self,
        state: HMCState,
        buffer: DrawBuffer,
        learnt: tuple[SinhArcsinh, Metric],
        learn: Bool[np.ndarray, " unit"],
        settled: Bool[np.ndarray, " unit"],
        emptied: Bool[np.ndarray, " unit"],
    ) -> tuple[HMCState, DrawBuffer]:
        """Adopts what some units have learnt, ends the adaptation of others, and empties the draw buffer of some."""
        start, old, counts = _values(state.start), _values(state.adaptation), _values(buffer)
        lane, chains = np.repeat(learn, self.structure.chains), self.structure.chains
        by_original = old.coordinates.forget(start.position, start.gradient, chains)
        start.gradient[:, lane] = by_original[:, lane]
        again = adaptation.restarted(old.stepping.log_average, old.stepping.adapting, old.stepping.target_accept)
        for part, new in zip(old.coordinates, learnt[0], strict=True):
            part[:, learn] = new[:, learn]
        for part, new in zip((*old.metric, *old.stepping), (*learnt[1], *again), strict=True):
            part[learn] = new[learn]
        _values(state).transition[learn] += 1
        self._move(self._no_data, state, self._buffer(1), 0, learn)
        for part, new in zip(old.stepping, adaptation.settle(old.stepping, _values(settled)), strict=True):
            part[settled] = new[settled]
        for count in (counts.filled, counts.divergences, counts.balance):
            count[emptied] = 0
        return state, buffer

    def insert(
        self, state: HMCState, staged: HMCState, filled: Any, source: Int[np.ndarray, " unit"]
    ) -> tuple[HMCState, Any]:
        """The state with unit `source[i]` of `staged` at place i, and the draws of each place, none where it is new.

        A negative source keeps what is there.
        """
        new, chosen = source >= 0, source[source >= 0]

        def units_first(old: np.ndarray, other: np.ndarray) -> None:
            old[new] = other[chosen]

        def units_last(old: np.ndarray, other: np.ndarray) -> None:
            # A unit's chains stand together.
            split = (*old.shape[:-1], len(source), -1)
            old.reshape(split)[..., new, :] = other.reshape(split)[..., chosen, :]

        mine, theirs = _values(state), _values(staged)
        units_first(mine.key, theirs.key)
        jax.tree.map(units_first, mine.adaptation.metric, theirs.adaptation.metric)
        for name in ("coordinates", "stepping"):
            jax.tree.map(units_last, getattr(mine.adaptation, name), getattr(theirs.adaptation, name))
        for name in HMCState._fields:
            if name not in ("key", "adaptation"):
                jax.tree.map(units_last, getattr(mine, name), getattr(theirs, name))
        filled[new] = 0
        return state, filled

    def _buffer(self, rows: int) -> DrawBuffer:
        units, chains, dtype = self.structure.units, self.structure.chains, self.structure.dtype
        return DrawBuffer(
            rows=np.zeros((units, rows, self.structure.rows.count, chains), dtype),  # pyright: ignore[reportArgumentType]
            filled=np.zeros(units, np.int32),  # pyright: ignore[reportArgumentType]
            divergences=np.zeros(units, np.int32),  # pyright: ignore[reportArgumentType]
            accept=np.zeros(units, dtype),  # pyright: ignore[reportArgumentType]
            balance=np.zeros((units, chains), dtype),  # pyright: ignore[reportArgumentType]
        )

    def _move(
        self,
        data: Data,
        state: HMCState,
        buffer: DrawBuffer,
        ticks: int,
        setting_off: Bool[np.ndarray, " unit"] | None = None,
    ) -> None:
        own = _values(state)
        coordinates, metric, stepping = own.adaptation
        chains = Chains(
            _place(own.here),
            _place(own.start),
            *(own.momentum, own.velocity, own.start_energy, own.threshold, own.steps_left, own.transition),
            *(stepping.log_step, stepping.log_average, stepping.shortfall, stepping.centre, stepping.updates),
        )
        learnt = (*coordinates, *metric, stepping.adapting, stepping.target_accept)
        geometry = Geometry(own.key, *learnt)
        tuning = Tuning(
            ticks=ticks,
            most_steps=hmc.MAX_STEPS,
            shortest=hmc.SHORTEST * hmc.QUARTER_TURN,
            longest=hmc.LONGEST * hmc.QUARTER_TURN,
            divergence=hmc.DIVERGENCE,
            gain=ADAPTATION_GAIN,
            delay=ADAPTATION_DELAY,
            decay=ADAPTATION_DECAY,
        )
        kernels.advance(data, geometry, chains, Draws(*_values(buffer)), self.form, tuning, setting_off)


def _values(tree: Any) -> Any:
    """The arrays, which annotations of what is shared with compiled programs call jax's."""
    return tree


def _place(point: Any) -> Place:
    return Place(point.position, point.gradient, point.inverse_mass_gradient, point.value, *point.extra)
