"""Draws: one unit's rows of a draw buffer as parameters of the model, judged and ready for the host."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.inference import diagnostics
from mixfleet.inference.compiled import COMPILER_OPTIONS, DrawBuffer
from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.transforms import natural

__all__ = ["Draws", "Judgement", "LinearCoefficients", "inspect", "parameter_quantities"]


COEFFICIENTS = 1
"""What a unit's key is folded with to draw its coefficients; the sampler's own draws fold it otherwise."""

Values = Array | np.ndarray
"""On device, or brought to the host."""


class LinearCoefficients(NamedTuple):
    """What it takes to draw one unit's linear coefficients."""

    loading: Float[Values, "column column"]
    prior_mean: Float[Values, " column"]


class Draws(NamedTuple):
    """One unit's draws in the model's scaled units; what stands at and after the count is not a draw."""

    shape: Float[Values, "parameter channel draw chain"]
    """Adstock, then saturation parameters; NaN where a channel has not that one."""
    effect: Float[Values, "channel draw chain"]
    contribution: Float[Values, "channel draw chain"]
    """Mean over the weeks of the likelihood, in shares of the KPI's scale; zero for an absent channel."""
    observation: Float[Values, "parameter draw chain"]
    """Parameters of the observation; its scale, in shares of the KPI's, comes first."""
    coefficients: Float[Values, "column draw chain"]
    value: Float[Values, "draw chain"]
    """Log posterior density, linear coefficients integrated out."""

    @property
    def noise(self) -> Float[Values, "draw chain"]:
        """Scale of the observation, in shares of the KPI's."""
        return self.observation[0]


class Judgement(NamedTuple):
    """Everything that the gates ask of a unit's draws."""

    rhat: Float[Values, " quantity"]
    """Shape parameters, effects, contributions, noise, coefficients, their total contribution, log density."""
    ess_bulk: Float[Values, " quantity"]
    ess_tail: Float[Values, " quantity"]
    ebfmi: Float[Values, " chain"]
    repeated: Float[Values, " chain"]
    """Share of draws that repeat the one before."""
    finite: Bool[Values, ""]


def parameter_quantities(structure: Structure) -> Int[np.ndarray, " parameter"]:
    """Of the quantities that `inspect` judges, the parameters, coefficients last; -1 for a known value.

    In the order of the layout: of each parameter, the channels that have it.
    """
    layout, channels = structure.layout, structure.channels
    shapes = sum(block.size for block in layout.sampled)
    numbers = iter(range(shapes))
    found = [-1 if block.fixed else next(numbers) for block in layout.shapes for _ in range(block.size)]
    # Between effects and the observation's parameters stand the contributions.
    first, shared = shapes + 2 * channels, len(layout.observation) + structure.columns
    return np.r_[np.array(found, int), shapes : shapes + channels, first : first + shared]


@partial(jax.jit, static_argnames=("structure", "length"), compiler_options=COMPILER_OPTIONS)
def inspect(
    structure: Structure,
    batch: UnitBatch,
    buffer: DrawBuffer,
    linear: LinearCoefficients,
    key: UInt32[Array, "2"],
    places: Int[Array, " copy"],
    count: Int[Array, ""],
    *,
    length: int,
) -> tuple[Draws, Judgement]:
    """The first `count` draws per chain of the unit that is sampled at `places`, and their diagnostics.

    The linear coefficients are drawn here, exactly, from their distribution given everything else.
    """
    copies = [jax.lax.dynamic_index_in_dim(buffer.rows, place, keepdims=False)[:length] for place in places]
    rows = jnp.concatenate(copies, axis=-1)
    own = _only(batch, places[0])
    drawn = _drawn(structure, own, rows, linear, jax.random.fold_in(key, COEFFICIENTS))
    # A channel that is absent contributes zero in every draw, and no diagnostic is defined on a constant.
    present = own.active[..., None] > 0
    total = jnp.where(jnp.any(present), jnp.sum(drawn.contribution, axis=0), drawn.observation[0])
    quantities = jnp.concatenate(
        [
            *_judged(structure, drawn.shape),
            drawn.effect,
            jnp.where(present, drawn.contribution, drawn.effect),
            drawn.observation,
            drawn.coefficients,
            total[None],
            drawn.value[None],
        ]
    )
    judged = diagnostics.diagnose(quantities, count)
    valid = jnp.arange(length) < count
    same = (drawn.value[1:] == drawn.value[:-1]) & valid[1:, None]
    judgement = Judgement(
        rhat=judged.rhat,
        ess_bulk=judged.ess_bulk,
        ess_tail=judged.ess_tail,
        ebfmi=diagnostics.ebfmi(structure.rows.energy(jnp.moveaxis(rows, 1, 0)).T, count),
        repeated=jnp.sum(same, axis=0) / jnp.maximum(count - 1, 1),
        finite=jnp.all(jnp.where(valid[:, None], jnp.isfinite(quantities), True)),
    )
    return drawn, judgement


def _judged(
    structure: Structure, shape: Float[Values, "parameter channel draw chain"]
) -> list[Float[Values, "row draw chain"]]:
    """Of the curves' parameters, those that are sampled."""
    blocks = enumerate(structure.layout.shapes)
    return [
        shape[i] if block.size == structure.channels else shape[i, np.array(block.channels, int)]
        for i, block in blocks
        if not block.fixed
    ]


def _only(batch: UnitBatch, unit: Int[Array, ""]) -> UnitBatch:
    """The tile of one of its units."""
    picked = {
        name: jax.lax.dynamic_slice_in_dim(getattr(batch, name), unit, 1, axis=0 if name == "basis" else -1)
        for name in UnitBatch._fields
    }
    return UnitBatch(**picked)


def _drawn(
    structure: Structure,
    own: UnitBatch,
    rows: Float[Array, "draw field chain"],
    linear: LinearCoefficients,
    key: UInt32[Array, "2"],
) -> Draws:
    length, _, chains = rows.shape
    lanes = length * chains
    fields = jnp.moveaxis(rows, 1, 0).reshape(-1, lanes)
    position, mean_response = structure.rows.position(fields), structure.rows.mean_response(fields)
    projection = structure.rows.projection(fields)
    parameters = natural(position, jnp.repeat(own.hyper, lanes, axis=-1), structure, own)
    if structure.model.coordinate == "effect":
        effect, contribution = parameters.strength, parameters.strength * mean_response
    else:
        effect, contribution = parameters.strength / mean_response, parameters.strength

    s2 = parameters.observation[0] ** 2
    total = s2 + own.variance
    white = jax.random.normal(key, (structure.columns, lanes), rows.dtype)
    along = jnp.sqrt(own.variance) * projection / total + jnp.sqrt(s2 / total) * white
    if structure.layout.coefficients is not None:
        along = projection
    if structure.shared:
        # Pooled coefficients were drawn by the sampler.
        along = along.at[-structure.shared :].set(projection[-structure.shared :])
    coefficients = jnp.asarray(linear.prior_mean)[:, None] + jnp.matmul(linear.loading, along, precision="highest")

    def by_draw(values: Array) -> Array:
        return values.reshape(*values.shape[:-1], length, chains)

    nothing = jnp.zeros((0, structure.channels, lanes), rows.dtype)
    return Draws(
        shape=by_draw(structure.layout.wide(parameters.shape) if parameters.shape else nothing),
        effect=by_draw(effect),
        contribution=by_draw(contribution * own.active),
        observation=by_draw(jnp.stack(parameters.observation)),
        coefficients=by_draw(coefficients),
        value=by_draw(structure.rows.log_density(fields)),
    )
