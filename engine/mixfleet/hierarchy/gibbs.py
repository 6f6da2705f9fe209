"""The compiled functions that move one group of units and its hyperparameters, one set per structure.

A sweep is three moves, each of which leaves the joint posterior invariant:

1. every unit's coordinates given the hyperparameters: one trajectory per unit, each accepted on its own, so that the
   number of units costs no step size;
2. all hyperparameters and all coordinates at once: one trajectory of the whole group in each chain;
3. all hyperparameters given the units' parameters, exactly, without the data; and with the linear coefficients that
   units share, theirs, exactly, given media and noise.

Before them, of lift tests that measured several units together, each unit's part (`joint_tests`).

2 moves what the units' data leave open, 3 what they determine; interwoven they mix where either does. 2 moves units
with their hyperparameters, for where a likelihood is far from normal the coordinates of both are correlated, and moves
of one given the other are short.

References:
    Yu and Meng (2011), To center or not to center: that is not the question, doi:10.1198/jcgs.2011.203main.
"""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hyper
from mixfleet.hierarchy.joint_tests import redrawn
from mixfleet.hierarchy.likelihood_approximation import pulls
from mixfleet.hierarchy.reparameterization import (
    Pool,
    coordinates,
    hyper_coordinates,
    log_prior_change,
    pooled_rows,
)
from mixfleet.hierarchy.shared_coefficients import (
    LikelihoodSummary,
    Shared,
    lasting_summary,
    likelihood_summary,
    redraw,
    uniform_rows,
)
from mixfleet.hierarchy.state import (
    EvaluatedPosition,
    GibbsState,
    GroupData,
    group_shapes,
    hyper_blocks,
    hyper_dimension,
    stack_hyper,
    state_of,
)
from mixfleet.hierarchy.trajectories.leapfrog import pulled_in, unit_density
from mixfleet.hierarchy.trajectories.moves import density_of, move_group, move_units, prior_of_shared, series_of
from mixfleet.inference import hmc
from mixfleet.inference.adaptation import Metric
from mixfleet.inference.compiled import Device, compiled, evaluate
from mixfleet.inference.native_block import form_of
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet.models.batch import UnitBatch
from mixfleet.models.evidence import expected_lifts
from mixfleet.models.priors.families import FAMILIES
from mixfleet.models.transforms import natural
from mixfleet_kernels.hmc import Form
from mixfleet_kernels.likelihood import Series
from mixfleet_kernels.likelihood.autocorrelated import Last, of_last

__all__ = ["SWEEPS", "GibbsSweep", "PooledProgram", "pooled_program"]

SWEEPS = 16
"""Sweeps between two visits to the host."""

ROUNDS, KEY_ROUNDS, FEW_ROUNDS = 8, 4, 2
"""Redraws of shared coefficients and their hyperparameters in a sweep: where nothing else is pooled; where media are
too and labels have effects; where media are and labels have none. Beside media there are as many as keep what is
shared from being slowest: of 300 crossed units with logistic curves it has at least 540 effective draws of 2,048 with
four, and 270 with two, where media have 430 to 550."""

PRELUDE = 128
"""Sweeps over sites instead of data that the hyperparameters start with."""

_compiled_plainly = partial(
    jax.jit,
    static_argnums=0,
    compiler_options={"xla_cpu_use_fusion_emitters": False, "xla_llvm_disable_expensive_passes": True},
)
"""A sweep is hundreds of small operations, on CPU around a native likelihood: what XLA's fusion emitters and LLVM's
expensive passes make of them takes longer to compile and runs no faster."""


class GibbsSweep(NamedTuple):
    """What one sweep left behind."""

    hyperparameters: Hyper
    """Hyperparameters that the position was drawn under."""
    gradient: Float[Array, "coordinate unit chain"]
    """Of the units' own density."""
    fields: Float[Array, "field unit chain"]
    """Position, extra, log density and energy, as a draw buffer's row has them."""
    hyper: Float[Array, "quantity row chain"]
    """From `state.stack_hyper`."""
    diverged: Bool[Array, "unit chain"]
    balance: Float[Array, "unit chain"]
    """Of the first move's energy errors: `hmc.energy_balance`."""
    steps: Int[Array, " unit"]


class PooledProgram:
    """The functions of one structure on one device, compiled once, whatever the group is."""

    def __init__(self, pool: Pool, device: Device, form: Form | None) -> None:
        self.pool, self.device = pool, device
        place_of = jax.sharding.SingleDeviceSharding(device)

        def shapes(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place_of), tree)

        with jax.enable_x64(True):
            group = shapes(group_shapes(pool))
            state = shapes(jax.eval_shape(partial(_abstract_state, pool), group))
        self._evaluate = compiled(evaluate, pool.structure, group.batch, state.x)
        self._prelude = compiled(_prelude, pool, group, state.x, state.x)
        self._sweeps = compiled(_sweeps, pool, form, group, state)
        with jax.enable_x64(True):
            sweep = shapes(_sweeps.eval_shape(pool, form, group, state)[1])
        self._pulls = compiled(_pulls, pool, group, sweep)
        self._coordinates = compiled(_coordinates, pool, group, sweep)

    def evaluate(self, batch: UnitBatch, position: Array) -> EvaluatedPosition:
        """The units' own density under their broad priors."""
        return EvaluatedPosition(position, *self._evaluate.result()(batch, position))

    def prelude(
        self, group: GroupData, x: Array, mode: Array
    ) -> tuple[Array, Hyper, Hyper, Array, EvaluatedPosition, Array]:
        """Where chains begin: coordinates, and hyperparameters drawn as if the sites were the data.

        Then those of the shared coefficients, the units' parts of joint tests, what is found at positions where all of
        these are, and the coordinates of all hyperparameters on the way.

        Args:
            group: The group.
            x: Coordinates to begin with; a chain that is far out there begins nearer to the mode.
            mode: Positions where the units' own density is highest.
        """
        return self._prelude.result()(group, x, mode)

    def pulls(self, group: GroupData, sweep: GibbsSweep) -> tuple[Array, Array]:
        """`sites.pulls` at each of `SWEEPS` draws, in the leading axis."""
        return self._pulls.result()(group, sweep)

    def coordinates(self, group: GroupData, sweep: GibbsSweep) -> tuple[Array, Array, Array]:
        """Coordinates of each of `SWEEPS` draws under the group's sites, in the leading axis.

        Those of the units, the gradient of each unit's density in them given the hyperparameters, and those of the
        hyperparameters.
        """
        return self._coordinates.result()(group, sweep)

    def sweeps(self, group: GroupData, state: GibbsState) -> tuple[GibbsState, GibbsSweep]:
        """`SWEEPS` sweeps and what each left, in the leading axis."""
        return self._sweeps.result()(group, state)


@lru_cache(maxsize=16)
def pooled_program(pool: Pool, device: Device) -> PooledProgram:
    """The program of a structure on a device; the same one for every run of this process."""
    return PooledProgram(pool, device, native_form(pool, device.platform))


def native_form(pool: Pool, platform: str) -> Form | None:
    """The form in which native code moves groups of a structure on this platform; None where XLA does."""
    if pool.curved or pool.joint:
        return None
    # Given their hyperparameters coefficients that units share are like others.
    return form_of(replace(pool.structure, shared=0), platform)


@_compiled_plainly
def _prelude(
    pool: Pool, group: GroupData, x: Array, mode: Array
) -> tuple[Array, Hyper, Hyper, Array, EvaluatedPosition, Array]:
    structure, hierarchy, sites = pool.structure, group.hierarchy, group.sites
    rows, units, chains = pool.rows, structure.units, structure.chains
    numbers = hierarchies.uniform_rows(pool.levels, pool.types)

    def redraw_hyper(hyper: Hyper, number: Array) -> tuple[Hyper, Array]:
        spread, centre = hierarchies.spreads(hierarchy, hyper)[0][:, None], hierarchies.means(hierarchy, hyper)
        site, precision = sites.mean[..., None], sites.precision[..., None]
        if pool.curved:
            site = site.at[rows - structure.channels :].add(-sites.curve[..., None])
        variance = 1 / (precision + 1 / spread**2)
        uniform = uniforms(group.key, number, units + numbers, rows * chains, x.dtype).reshape(-1, rows, chains)
        white = jnp.moveaxis(normals(uniform[:units]), 0, 1)
        theta = variance * (precision * site + centre / spread**2) + jnp.sqrt(variance) * white
        hyper = hierarchies.redraw(hierarchy, hyper, theta, uniform[units:])
        return hyper, hyper_coordinates(pool, hierarchy, sites, hyper)

    # Trajectories are numbered from below; these numbers are from above.
    first = jnp.arange(PRELUDE, dtype=jnp.uint32) + jnp.uint32(2**31)
    hyper = hierarchies.zero_state(hierarchy, chains)
    moved = jnp.zeros((PRELUDE, 0, chains), x.dtype)
    if rows:
        hyper, moved = jax.lax.scan(redraw_hyper, hyper, first)
    series, shared = group.batch.series(chains), hierarchies.zero_state(group.columns.hierarchy, chains)
    # To begin with each unit has its share of the estimate.
    parts = (
        jnp.repeat(group.batch.lift_estimate[0], chains, axis=-1)
        if pool.joint
        else jnp.zeros((0, x.shape[-1]), x.dtype)
    )
    density = density_of(pool, group, series_of(pool, group, series, shared), parts)
    x, found = pulled_in(pool, group, hyper, density, x, mode)
    if structure.shared:
        summary = _likelihood_summary(pool, group, shared, found)

        def redraw_shared(shared: Hyper, number: Array) -> tuple[Hyper, None]:
            return redraw(group.columns, shared, summary, *_numbers_of_shared(pool, group, number, x.dtype)).hyper, None

        shared, _ = jax.lax.scan(redraw_shared, shared, first)
        found = density_of(pool, group, series_of(pool, group, series, shared), parts)(found.position)
    return x, hyper, shared, parts, found, moved


@partial(_compiled_plainly, static_argnums=(0, 1))
def _sweeps(pool: Pool, form: Form | None, group: GroupData, state: GibbsState) -> tuple[GibbsState, GibbsSweep]:
    series = group.batch.series(pool.structure.chains)
    return jax.lax.scan(lambda carried, _: _sweep(pool, form, group, series, carried), state, None, length=SWEEPS)


@_compiled_plainly
def _pulls(pool: Pool, group: GroupData, sweep: GibbsSweep) -> tuple[Array, Array]:
    def of_draw(drawn: tuple[Array, Array]) -> tuple[Array, Array]:
        return pulls(pool, group.batch.hyper, group.sites.level, *drawn)

    return jax.lax.map(of_draw, (sweep.fields[:, : pool.structure.dimension], sweep.gradient))


@_compiled_plainly
def _coordinates(pool: Pool, group: GroupData, sweep: GibbsSweep) -> tuple[Array, Array, Array]:
    structure = pool.structure

    def of_draw(drawn: tuple[Array, Array, Hyper]) -> tuple[Array, Array, Array]:
        position, gradient, hyper = drawn
        x = coordinates(pool, group.hierarchy, group.sites, group.batch.hyper, position, hyper)
        lanes = [values.reshape(structure.dimension, structure.lanes) for values in (x, position, gradient)]
        found = EvaluatedPosition(lanes[1], jnp.zeros_like(lanes[0][0]), lanes[2], lanes[0][:0])
        _, pull, _ = unit_density(pool, group, hyper, lanes[0], lambda _: found)
        return x, pull.reshape(x.shape), hyper_coordinates(pool, group.hierarchy, group.sites, hyper)

    return jax.lax.map(of_draw, (sweep.fields[:, : structure.dimension], sweep.gradient, sweep.hyperparameters))


def _sweep(
    pool: Pool, form: Form | None, group: GroupData, series: Series, state: GibbsState
) -> tuple[GibbsState, GibbsSweep]:
    units, chains = pool.structure.units, pool.structure.chains
    if pool.joint:
        state = state._replace(parts=_redraw_parts(pool, group, state))
    own = series_of(pool, group, series, state.shared)
    if pool.joint:
        state = state._replace(found=density_of(pool, group, own, state.parts)(state.found.position))
    moved_rows = hyper_dimension(pool)
    shared = uniforms(group.key, 2 * state.number, moved_rows + 3, chains, state.x.dtype)
    state, first, steps = move_units(pool, form, group, own, state, shared[moved_rows + 1, 0])
    hyper_steps = jnp.zeros(1, jnp.int32)
    if pool.rows:
        # Where the baseline alone is pooled media have no hyperparameters.
        state, hyper_steps = move_group(pool, form, group, own, state, shared)
        state = _redraw_hyper(pool, group, state)
    found, hyper = state.found, stack_hyper(pool, group.hierarchy, state.hyper)
    by_unit = found.position.reshape(-1, units, chains)
    log_prior = log_prior_change(pool, group.hierarchy, group.batch.hyper, by_unit, state.hyper).reshape(-1)
    extra = found.extra
    if pool.structure.shared:
        state, extra = _redraw_shared(pool, group, series, state)
        hyper = jnp.concatenate([hyper, stack_hyper(pool, group.columns.hierarchy, state.shared)], axis=1)
    fields = jnp.concatenate([found.position, extra, (found.value + log_prior)[None], first.energy[None]])
    return state._replace(number=state.number + 1), GibbsSweep(
        hyperparameters=state.hyper,
        gradient=state.found.gradient.reshape(-1, units, chains),
        fields=fields.reshape(-1, units, chains),
        hyper=hyper,
        diverged=first.diverged.reshape(units, chains),
        balance=hmc.energy_balance(first.accept).reshape(units, chains),
        steps=steps + hyper_steps,
    )


def _redraw_parts(pool: Pool, group: GroupData, state: GibbsState) -> Float[Array, "test lane"]:
    """The units' parts of joint tests given their positions."""
    structure, position = pool.structure, state.found.position
    by_unit = (-1, structure.units, structure.chains)
    values = natural(position, jnp.repeat(group.batch.hyper, structure.chains, axis=-1), structure, group.batch)
    as_mean = structure.model.coordinate != "effect"
    effect = values.strength / state.found.extra[: structure.channels] if as_mean else values.strength
    lifts = expected_lifts(structure.layout.to_slots(values.shape), effect, group.batch, structure)
    # The numbers of a unit's trajectories are below, those of its shared coefficients far above.
    number = state.number.astype(jnp.uint32) + jnp.uint32(2**31)
    white = normals(uniforms(group.unit_keys, number, len(lifts), structure.lanes, position.dtype))
    told = redrawn(group.joint, *(values.reshape(by_unit) for values in (state.parts, lifts, white)))
    return told.reshape(state.parts.shape)


def _redraw_hyper(pool: Pool, group: GroupData, state: GibbsState) -> GibbsState:
    """Hyperparameters given the units' positions, which stay: their coordinates change."""
    numbers, rows, chains = hierarchies.uniform_rows(pool.levels, pool.types), pool.rows, pool.structure.chains
    position = state.found.position.reshape(-1, pool.structure.units, chains)
    theta = pooled_rows(pool, position)
    uniform = uniforms(group.key, 2 * state.number + 1, numbers, rows * chains, state.x.dtype)
    hyper = hierarchies.redraw(group.hierarchy, state.hyper, theta, uniform.reshape(numbers, rows, chains))
    x = coordinates(pool, group.hierarchy, group.sites, group.batch.hyper, position, hyper)
    # Nothing holds padded units where hyperparameters carry them: they begin anew.
    x = jnp.where(group.hierarchy.present[:, None] > 0, x, 0)
    return state._replace(x=x.reshape(state.x.shape), hyper=hyper)


def _redraw_shared(
    pool: Pool, group: GroupData, series: Series, state: GibbsState
) -> tuple[GibbsState, Float[Array, "extra lane"]]:
    """The coefficients that units share, with their hyperparameters, given the units' positions.

    Also what a draw keeps: the projection of what these coefficients leave, and in its last rows the coefficients.
    """
    structure, columns = pool.structure, group.columns
    summary = _likelihood_summary(pool, group, state.shared, state.found)

    def again(hyper: Hyper, number: Array) -> tuple[Hyper, Array]:
        shared = redraw(columns, hyper, summary, *_numbers_of_shared(pool, group, number, state.x.dtype))
        return shared.hyper, shared.values

    beside_media = KEY_ROUNDS if pool.levels else FEW_ROUNDS
    rounds = jnp.arange(beside_media if pool.rows else ROUNDS, dtype=jnp.uint32)
    numbers = state.number.astype(jnp.uint32) * ROUNDS + rounds
    hyper, values = jax.lax.scan(again, state.shared, numbers)
    shared = Shared(values[-1], hyper)
    less = shared.values - hierarchies.means(columns.hierarchy, state.shared)
    if structure.gaps:
        last = _last(pool, group, state.shared, state.found)
        moved = jnp.einsum("krl,rl->kl", last.slope, less.reshape(structure.shared, -1), precision="highest")
        own = slice(structure.channels, structure.channels + len(moved))
        extra = state.found.extra.at[own].set(last.mean - moved)
    else:
        moved = jnp.einsum("kru,ruc->kuc", columns.along, less, precision="highest").reshape(structure.columns, -1)
        extra = state.found.extra.at[structure.channels :].add(-moved)
    extra = extra.at[-structure.shared :].set(shared.values.reshape(structure.shared, -1))
    found = density_of(pool, group, series_of(pool, group, series, shared.hyper), state.parts)(state.found.position)
    return state._replace(shared=shared.hyper, found=found), extra


def _likelihood_summary(pool: Pool, group: GroupData, shared: Hyper, found: EvaluatedPosition) -> LikelihoodSummary:
    structure, by_unit = pool.structure, (pool.structure.units, pool.structure.chains)
    if structure.gaps:
        return lasting_summary(group.columns, shared, _last(pool, group, shared, found))
    noise = _of_observation(pool, group, found)[0].reshape(by_unit)
    projection = found.extra[structure.channels :].reshape(structure.columns, *by_unit)
    means = hierarchies.means(group.columns.hierarchy, shared)
    return likelihood_summary(group.columns, means, group.batch.variance, noise, projection)


def _last(pool: Pool, group: GroupData, shared: Hyper, found: EvaluatedPosition) -> Last:
    """What the weeks say of the shared coefficients, less their means, where noise is autocorrelated."""
    structure, mean = pool.structure, found.extra[pool.structure.channels :]
    _, variance = prior_of_shared(pool, group, shared)
    noise, correlation = _of_observation(pool, group, found)
    return of_last(group.batch.gaps, variance, mean, noise, correlation, structure.shared)


def _of_observation(pool: Pool, group: GroupData, found: EvaluatedPosition) -> list[Float[Array, " lane"]]:
    """The observation's parameters."""
    structure, values = pool.structure, list[Array]()
    for block in structure.layout.observation:
        prior_data = jnp.repeat(group.batch.hyper[:, block.first], structure.chains, axis=-1)
        values.append(FAMILIES[block.family].constrain(found.position[block.first], prior_data))
    return values


def _numbers_of_shared(pool: Pool, group: GroupData, number: Array, dtype: Any) -> tuple[Array, Array]:
    """Uniform numbers for `coefficients.redraw`."""
    structure, rows = pool.structure, pool.structure.shared
    # Half way between the numbers of trajectories and those of the prelude.
    own = uniforms(group.unit_keys, number + jnp.uint32(2**30), 2 * rows, structure.lanes, dtype)
    every = uniforms(group.key, number + jnp.uint32(2**30), uniform_rows(pool.levels), rows * structure.chains, dtype)
    return own.reshape(2, rows, structure.units, structure.chains), every.reshape(-1, rows, structure.chains)


def _abstract_state(pool: Pool, group: GroupData) -> GibbsState:
    """A state of the shapes that all states have."""
    structure, blocks = pool.structure, hyper_blocks(pool)
    position = hmc.lanes_of(group.batch.centre, structure.chains)
    nothing = jnp.zeros((structure.units, structure.dimension, structure.dimension), structure.dtype)
    of_hyper = jnp.zeros((blocks, *[hyper_dimension(pool) // blocks] * 2), structure.dtype)
    return state_of(
        pool,
        EvaluatedPosition(position, *evaluate(pool.structure, group.batch, position)),
        position,
        hierarchies.zero_state(group.hierarchy, structure.chains),
        hierarchies.zero_state(group.columns.hierarchy, structure.chains),
        jnp.zeros((structure.evidence.rows if pool.joint else 0, structure.lanes), structure.dtype),
        Metric(nothing, nothing, nothing),
        Metric(of_hyper, of_hyper, of_hyper),
    )
