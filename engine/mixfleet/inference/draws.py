"""Draws: one unit's rows of a draw buffer as parameters of the model, judged and ready for the host."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet.inference import diagnostics
from mixfleet.inference.compiled import COMPILER_OPTIONS
from mixfleet.inference.hmc import DrawBuffer
from mixfleet.inference.random_numbers import normals, uniforms
from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.parameters import Block
from mixfleet.models.transforms import Natural, natural, scale_ratios
from mixfleet_kernels import hmc as kernels
from mixfleet_kernels.convergence import convergence_on_host
from mixfleet_kernels.dtypes import library_of
from mixfleet_kernels.likelihood import learned
from mixfleet_kernels.likelihood.autocorrelated import coefficients as coefficients_along

__all__ = [
    "Draws",
    "Judgement",
    "LinearCoefficients",
    "draws_on_host",
    "inspect",
    "judged_on_host",
    "parameter_quantities",
]


COEFFICIENTS = 2**32 - 3
"""Number that no trajectory reaches, for the random draws of a unit's coefficients."""

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
    """Parameters of the observation; its scale, in shares of the KPI's, comes first. Then, in the same shares, scales
    of the baseline's coefficients that are learned."""
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
    chains, own = rows.shape[-1], _only(batch, places[0])
    fields = jnp.moveaxis(rows, 1, 0).reshape(-1, length * chains)
    hyper = jnp.repeat(own.hyper, length * chains, axis=-1)
    parameters = natural(structure.rows.position(fields), hyper, structure, own)
    numbers = normals(uniforms(key[None], COEFFICIENTS, length * structure.columns, chains, rows.dtype))
    drawn = _drawn(structure, own, fields, parameters, numbers.reshape(length, -1, chains), linear)
    quantities = _quantities(structure, own, drawn)
    judged = diagnostics.diagnose(quantities, count)
    valid = jnp.arange(length) < count
    same = (drawn.value[1:] == drawn.value[:-1]) & valid[1:, None]
    judgement = Judgement(
        *judged,
        ebfmi=diagnostics.ebfmi(structure.rows.energy(jnp.moveaxis(rows, 1, 0)).T, count),
        repeated=jnp.sum(same, axis=0) / jnp.maximum(count - 1, 1),
        finite=jnp.all(jnp.where(valid[:, None], jnp.isfinite(quantities), True)),
    )
    return drawn, judgement


def draws_on_host(
    structure: Structure,
    batch: UnitBatch,
    buffer: DrawBuffer,
    linear: LinearCoefficients,
    key: UInt32[np.ndarray, "2"],
    places: Int[np.ndarray, " copy"],
    count: int,
) -> tuple[Draws, Float[np.ndarray, "draw chain"]]:
    """The draws of `inspect` and their energies, of arrays of numpy and in native code.

    Of a model that has a `native_block.form_of`.
    """
    copies = [np.moveaxis(np.asarray(buffer.rows[place, :count]), 1, 0) for place in places]
    chains = sum(copy.shape[-1] for copy in copies)
    fields = np.empty((structure.rows.count, count, chains), buffer.rows.dtype)
    fields = np.concatenate(copies, axis=-1, out=fields).reshape(len(fields), -1)
    own = _only_on_host(batch, int(places[0]))
    numbers = kernels.normals(key, COEFFICIENTS, count * structure.columns * chains, fields.dtype)
    parameters = _natural_on_host(structure, own, fields)
    drawn = _drawn(structure, own, fields, parameters, numbers.reshape(count, -1, chains), linear)
    return drawn, np.asarray(structure.rows.energy(fields), float).reshape(count, chains)


def judged_on_host(
    structure: Structure, batch: UnitBatch, place: int, drawn: Draws, energy: Float[np.ndarray, "draw chain"]
) -> Judgement:
    """The diagnostics of `inspect`, of what `draws_on_host` gives of the unit that is sampled at `place`."""
    quantities = _quantities(structure, _only_on_host(batch, place), drawn)
    centred = energy - energy.sum(axis=0) / len(energy)
    return Judgement(
        *convergence_on_host(quantities),
        ebfmi=np.square(np.diff(energy, axis=0)).sum(axis=0) / np.square(centred).sum(axis=0),
        repeated=np.sum(drawn.value[1:] == drawn.value[:-1], axis=0) / max(len(energy) - 1, 1),  # pyright: ignore[reportArgumentType]
        finite=np.all(np.isfinite(quantities)),  # pyright: ignore[reportArgumentType]
    )


def _only_on_host(batch: UnitBatch, place: int) -> UnitBatch:
    first = slice(place, place + 1)
    parts: Any = {name: part[first] if name == "basis" else part[..., first] for name, part in batch._asdict().items()}
    return UnitBatch(**parts)


def _natural_on_host(structure: Structure, own: UnitBatch, fields: Float[np.ndarray, "field lane"]) -> Natural:
    layout, hyper = structure.layout, np.asarray(own.hyper)[..., 0]
    blocks = (*layout.sampled, *layout.observation)
    rows = np.concatenate([np.arange(block.first, block.first + block.size) for block in blocks])
    families = [block.family for block in blocks for _ in range(block.size)]
    found = dict(zip(rows.tolist(), kernels.constrained(families, hyper[:, rows], fields[rows]), strict=True))

    def values(block: Block) -> Any:
        if block.fixed:
            return np.broadcast_to(hyper[0, block.rows, None], (block.size, fields.shape[1]))
        return np.stack([found[row] for row in range(block.first, block.first + block.size)])

    strength = kernels.log_strengths(structure.strengths, fields[layout.effect.rows])
    return Natural(
        shape=tuple(values(block) for block in layout.shapes),
        strength=np.exp(strength + own.log_strength_unit),  # pyright: ignore[reportArgumentType]
        observation=tuple(values(block)[0] for block in layout.observation),
    )


def _quantities(structure: Structure, own: UnitBatch, drawn: Draws) -> Any:
    """All that is judged."""
    library = library_of(drawn.value)
    # A channel that is absent contributes zero in every draw, and no diagnostic is defined on a constant.
    present = own.active[..., None] > 0
    total = library.where(library.any(present), library.sum(drawn.contribution, axis=0), drawn.observation[0])
    return library.concatenate(
        [
            *_judged(structure, drawn.shape),
            drawn.effect,
            library.where(present, drawn.contribution, drawn.effect),
            drawn.observation,
            drawn.coefficients,
            total[None],
            drawn.value[None],
        ]
    )


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
    fields: Float[Values, "field lane"],
    parameters: Natural,
    numbers: Float[Values, "draw column chain"],
    linear: LinearCoefficients,
) -> Draws:
    """Parameters and, from standard normal numbers, coefficients."""
    library, (length, _, chains) = library_of(fields), numbers.shape
    mean_response, projection = structure.rows.mean_response(fields), structure.rows.projection(fields)
    if structure.model.coordinate == "effect":
        effect, contribution = parameters.strength, parameters.strength * mean_response
    else:
        effect, contribution = parameters.strength / mean_response, parameters.strength
    s2 = parameters.observation[0] ** 2
    total = s2 + own.variance
    # The second half of the chains has the first half's numbers with the other sign (Hammersley, Morton 1956,
    # doi:10.1017/S0305004100031455): means over draws of what only the prior knows, such as a control that first moves
    # in a forecast, have next to no Monte Carlo error.
    half = numbers[..., : chains // 2]
    mirrored = library.concatenate([half, -half, numbers[..., 2 * (chains // 2) :]], axis=-1)
    white = library.moveaxis(mirrored, 1, 0).reshape(projection.shape)
    along = library.sqrt(own.variance) * projection / total + library.sqrt(s2 / total) * white
    if structure.layout.coefficients is not None:
        along = projection
    noise, *further = parameters.observation
    ratio = scale_ratios(further[-len(structure.scales) :], own, structure) if structure.scales else None
    if structure.gaps:
        variance = own.variance if ratio is None else ratio**2
        along = coefficients_along(own.gaps, variance, projection, noise, further[0], white)
        along = along if ratio is None else ratio * along
    elif ratio is not None:
        along = learned.coefficients(learned.Block(own.turned, own.gram, ratio), projection, noise, white)
    if known := structure.shared or structure.apart:
        # Pooled coefficients, and those of a known sign or of no normal prior, were drawn by the sampler.
        along = library.concatenate([along[:-known], projection[-known:]])
    loaded = library.einsum("ij,jl->il", linear.loading, along, **({} if library is np else {"precision": "highest"}))
    coefficients = linear.prior_mean[:, None] + loaded

    def by_draw(values: Values) -> Any:
        return values.reshape(*values.shape[:-1], length, chains)

    nothing = library.zeros((0, structure.channels, length * chains), fields.dtype)
    return Draws(
        shape=by_draw(structure.layout.wide(parameters.shape) if parameters.shape else nothing),
        effect=by_draw(effect),
        contribution=by_draw(contribution * own.active),
        observation=by_draw(library.stack(parameters.observation)),
        coefficients=by_draw(coefficients),
        value=by_draw(structure.rows.log_density(fields)),
    )
