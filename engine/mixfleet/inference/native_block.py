"""The native counterpart of `compiled`'s density and block of ticks, for the models that it knows, on CPU."""

from functools import partial
from typing import TypeVar

import jax
from jaxtyping import Array, Float

from mixfleet.inference import hmc
from mixfleet.inference.adaptation import ADAPTATION_DECAY, ADAPTATION_DELAY, ADAPTATION_GAIN
from mixfleet.inference.hmc import HMCState, Point
from mixfleet.inference.sinh_arcsinh import Original
from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.observation import OBSERVATIONS
from mixfleet_kernels import native_library
from mixfleet_kernels.hmc import FAMILIES, Chains, Data, Draws, Form, Geometry, Place, Tuning
from mixfleet_kernels.hmc import advance as advance_natively
from mixfleet_kernels.hmc import evaluate as evaluate_natively
from mixfleet_kernels.likelihood.native import FAMILIES as SATURATIONS

__all__ = ["advance", "evaluate", "form_of"]

Buffer = TypeVar("Buffer", bound=tuple)
"""A `compiled.DrawBuffer`."""


def form_of(structure: Structure, platform: str) -> Form | None:
    """The form of a model that has a native density on this platform; None where it runs in XLA."""
    layout, forms = structure.layout, set(structure.term.forms)
    families = {block.family for block in (*layout.shapes, *layout.observation)} | set(structure.strengths)
    if (
        platform != "cpu"
        or not native_library.available()
        or not OBSERVATIONS[structure.model.observation].marginal
        or len(forms) > 1
        or structure.shared
        or not families <= set(FAMILIES)
    ):
        return None
    (form,) = forms
    if form.adstock != "geometric" or not form.adstock_first or form.saturation not in SATURATIONS:
        return None
    return Form(
        saturation=form.saturation,
        window=form.window,
        normalised=form.normalise,
        shapes=tuple((block.first, block.family) for block in layout.shapes),
        effect_first=layout.effect.first,
        strengths=structure.strengths,
        noise=(layout.noise.first, layout.noise.family),
        strength_is_mean=structure.model.coordinate != "effect",
        measured=structure.measured,
    )


def data_of(batch: UnitBatch) -> Data:
    """The part of the units' data that the density reads."""
    return Data(
        *(batch.media, batch.kpi, batch.weight, batch.basis, batch.variance, batch.active),
        *(batch.hyper, batch.measure, batch.log_strength_unit),
        *(batch.lift_media, batch.lift_weight, batch.lift_channel, batch.lift_test, batch.lift_estimate),
    )


@partial(jax.jit, static_argnums=0)
def evaluate(form: Form, batch: UnitBatch, position: Float[Array, "coordinate lane"]) -> tuple[Array, Array, Array]:
    """As `compiled.evaluate`."""
    return tuple(evaluate_natively(data_of(batch), position, form))  # pyright: ignore[reportReturnType]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def advance(form: Form, ticks: int, batch: UnitBatch, state: HMCState, buffer: Buffer) -> tuple[HMCState, Buffer]:
    """The state and draws after `ticks` gradients of every lane, as `Program.advance` has them; consumes both."""
    coordinates, metric, stepping = state.adaptation
    chains = Chains(
        _place(state.here),
        _place(state.start),
        *(state.momentum, state.velocity, state.start_energy, state.threshold, state.steps_left, state.transition),
        *(stepping.log_step, stepping.log_average, stepping.shortfall, stepping.centre, stepping.updates),
    )
    geometry = Geometry(state.key, *coordinates, *metric, stepping.adapting, stepping.target_accept)
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
    moved, draws = advance_natively(data_of(batch), geometry, chains, Draws(*buffer), form, tuning)
    learnt = stepping._replace(
        log_step=moved.log_step,
        log_average=moved.log_average,
        shortfall=moved.shortfall,
        centre=moved.centre,
        updates=moved.updates,
    )
    state = state._replace(
        here=_point(moved.here),
        start=_point(moved.start),
        momentum=moved.momentum,
        velocity=moved.velocity,
        start_energy=moved.start_energy,
        threshold=moved.threshold,
        steps_left=moved.steps_left,
        transition=moved.transition,
        adaptation=state.adaptation._replace(stepping=learnt),
    )
    return state, jax.tree.unflatten(jax.tree.structure(buffer), tuple(draws))


def _place(point: Point) -> Place:
    return Place(point.position, point.gradient, point.inverse_mass_gradient, point.value, *point.extra)


def _point(place: Place) -> Point:
    original = Original(place.original, place.density, place.extra)
    return Point(place.position, place.gradient, place.push, place.value, original)
