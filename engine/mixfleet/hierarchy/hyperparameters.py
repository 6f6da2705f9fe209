"""The hyperparameters of a group of units, and their exact draws given the units' parameters.

For every pooled parameter of every channel (a row), on the unconstrained scale,

    theta[unit] = centre + sum over keys of effect[key, label of the unit] + deviation[unit]

where effects and deviations are normal around zero with learned standard deviations ("spreads"), one for the units and
one for each key. Spreads are half-normal, the centre normal. They are sampled as coordinates of which the first is the
centre in standard deviations of its prior, a spread is `scale * ramp(x)`, and an effect is its spread times a standard
normal.

Channels may be of types, such as paid social. In standard deviations of its prior the centre of such a row is then

    mean[type] + spread[type] * coordinate

with a standard normal mean and a half-normal spread of the type, one pair for every pooled parameter.

References:
    Gelman (2006), Prior distributions for variance parameters in hierarchical models, doi:10.1214/06-BA117A.
    Papaspiliopoulos, Roberts, Zanella (2020), Scalable inference for crossed random effects models, arXiv:1803.09460
        (centre and effects of one key drawn together, given those of the others).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mixfleet.inference.random_numbers import normals
from mixfleet.models.priors.bijectors import log_softplus_normal, log_softplus_normal_slope

__all__ = [
    "Hierarchy",
    "Hyper",
    "centre_priors",
    "centres",
    "inverse_log_ramp",
    "log_prior",
    "log_prior_of_spreads",
    "means",
    "moved",
    "redraw",
    "representable",
    "spreads",
    "uniform_rows",
    "with_moved",
    "zero_state",
]

TAIL = 4.0
"""Degrees of freedom of the proposal for a spread: heavier tails than the log-concave target's."""

WIDTH = 1.3
"""Its scale, in standard deviations of the target's Gaussian approximation."""


class Hierarchy(NamedTuple):
    """What is known of a group beforehand."""

    centre: Float[Array, " row"]
    """Prior mean of the centres."""
    centre_sd: Float[Array, " row"]
    scale: Float[Array, " row"]
    """Prior scale of the row's spreads."""
    used: Float[Array, "key row"]
    """One where a key's labels have effects on the row; elsewhere they and their spread have their prior."""
    keys: tuple[Float[Array, "level unit"], ...]
    """One where the unit has the level's label; nothing in padded levels and units."""
    present: Float[Array, " unit"]
    """One where there is a unit."""
    types: Float[Array, "type row"]
    """One where the row is one of a type's; a row has one type or none. Each parameter has types of its own."""
    type_scale: Float[Array, " type"]
    """Prior scale of the types' spreads, in standard deviations of the centres' prior."""


class Hyper(NamedTuple):
    """Coordinates of the hyperparameters, in every chain."""

    centre: Float[Array, "row chain"]
    """Standard normal: in standard deviations of the prior, or of the type around its mean."""
    spread: Float[Array, "part row chain"]
    """Of the units, then of each key."""
    levels: tuple[Float[Array, "level row chain"], ...]
    """Effects of each key's labels, in units of their spread."""
    types: Float[Array, "2 type chain"]
    """Of each type its mean, and the coordinate of its spread."""


def spreads(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "part row chain"]:
    """Standard deviations: of the units, then of each key's labels."""
    return hierarchy.scale[None, :, None] * jnp.exp(log_softplus_normal(hyper.spread))


def centre_priors(hierarchy: Hierarchy, hyper: Hyper) -> tuple[Float[Array, "row #chain"], Float[Array, "row #chain"]]:
    """Mean and standard deviation of the centres given their types; of the prior for rows without one."""
    mean, sd = hierarchy.centre[:, None], hierarchy.centre_sd[:, None]
    if len(hierarchy.types) == 0:
        return mean, sd
    untyped = 1 - jnp.sum(hierarchy.types, axis=0)[:, None]
    share = _of_rows(hierarchy, _type_spreads(hierarchy, hyper)) + untyped
    return mean + sd * _of_rows(hierarchy, hyper.types[0]), sd * share


def centres(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "row chain"]:
    """The channels' centres, on the unconstrained scale."""
    mean, sd = centre_priors(hierarchy, hyper)
    return mean + sd * hyper.centre


def means(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "row unit chain"]:
    """What each unit's parameter is before its own deviation."""
    scales = spreads(hierarchy, hyper)
    centre = centres(hierarchy, hyper)
    units = len(hierarchy.present)
    total = jnp.broadcast_to(centre[:, None], (len(centre), units, centre.shape[-1]))
    for k, (key, levels) in enumerate(zip(hierarchy.keys, hyper.levels, strict=True)):
        total = total + _of_units(key, levels * (scales[1 + k] * hierarchy.used[k][:, None])[None])
    return total


def log_prior(hyper: Hyper) -> Float[Array, " chain"]:
    """Log density of all coordinates, up to a constant."""
    total = jnp.sum(log_prior_of_spreads(hyper.spread), axis=(0, 1)) - 0.5 * jnp.sum(hyper.centre**2, axis=0)
    for levels in hyper.levels:
        total = total - 0.5 * jnp.sum(levels**2, axis=(0, 1))
    if hyper.types.shape[1] == 0:
        return total
    mean, spread = hyper.types
    return total + jnp.sum(log_prior_of_spreads(spread) - 0.5 * mean**2, axis=0)


def representable(hyper: Hyper) -> Bool[Array, " chain"]:
    """Whether all spreads are more than rounding: of less no deviation can be told, nor the coordinate of one."""
    least = math.log(jnp.finfo(hyper.spread.dtype).eps)
    return jnp.all(log_softplus_normal(hyper.spread) > least, axis=(0, 1))


def zero_state(hierarchy: Hierarchy, chains: int) -> Hyper:
    """Hyperparameters whose coordinates are all zero."""
    rows, types = len(hierarchy.centre), len(hierarchy.types)

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, chains), hierarchy.centre.dtype)

    return Hyper(
        centre=zeros(rows),
        spread=zeros(1 + len(hierarchy.keys), rows),
        levels=tuple(zeros(len(key), rows) for key in hierarchy.keys),
        types=zeros(2, types),
    )


def moved(hyper: Hyper) -> Float[Array, "coordinate chain"]:
    """All coordinates in one array."""
    return jnp.concatenate([part.reshape(-1, hyper.centre.shape[-1]) for part in jax.tree.leaves(hyper)])


def with_moved(hyper: Hyper, coordinates: Float[Array, "coordinate chain"]) -> Hyper:
    """Hyperparameters of the same shapes with other coordinates: the inverse of `moved`."""
    leaves, structure_of = jax.tree.flatten(hyper)
    sizes = [leaf.size // hyper.centre.shape[-1] for leaf in leaves]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [coordinates[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return structure_of.unflatten([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def uniform_rows(keys: tuple[int, ...], types: int) -> int:
    """Uniform numbers per row and chain that `redraw` takes, for keys of so many levels and so many types."""
    return 4 + sum(levels + 4 for levels in keys) + (6 if types else 0)


def redraw(
    hierarchy: Hierarchy,
    hyper: Hyper,
    theta: Float[Array, "row unit chain"],
    uniform: Float[Array, "number row chain"],
) -> Hyper:
    """New hyperparameters from their distribution given the units' parameters: a sweep that leaves it invariant.

    Centre and effects are normal given the spreads, and drawn exactly, a key after the other. A spread is moved by an
    independent proposal from a Student distribution around its mode, accepted as Metropolis and Hastings say. Types
    are moved both given the centres and given the centres' coordinates.
    """
    prior_mean, _ = centre_priors(hierarchy, hyper)
    types = len(hierarchy.types)
    if types == 0:
        return _redraw_rows(hierarchy, hyper, prior_mean, theta, uniform)
    # All relative to the types' means: beside a small spread of a type they would be rounded too coarsely.
    hyper = _redraw_rows(hierarchy, hyper, 0 * prior_mean, theta - prior_mean[:, None], uniform[:-6])
    # There are fewer types than rows.
    own = uniform[-6:, :types]
    return _slide_types(hierarchy, _redraw_types(hierarchy, hyper, own[:4]), theta, normals(own[4:]))


def _redraw_rows(
    hierarchy: Hierarchy,
    hyper: Hyper,
    prior_mean: Float[Array, "row #chain"],
    theta: Float[Array, "row unit chain"],
    uniform: Float[Array, "number row chain"],
) -> Hyper:
    """Centres, effects and spreads given the units' parameters and the types."""
    numbers = _Numbers(uniform)
    present = hierarchy.present[None, :, None] > 0
    _, prior_sd = centre_priors(hierarchy, hyper)
    scales = list(spreads(hierarchy, hyper))
    coordinates = list(hyper.spread)
    effects = [levels * scale[None] for levels, scale in zip(hyper.levels, scales[1:], strict=True)]
    variance = scales[0] ** 2
    units = jnp.sum(hierarchy.present)

    def draw_centre(total: Array, precision: Array) -> Array:
        precision = precision + prior_sd**-2.0
        return (total + prior_mean * prior_sd**-2.0) / precision + normals(numbers.take(1)[0]) / jnp.sqrt(precision)

    centre = draw_centre(
        jnp.sum(jnp.where(present, _unexplained(hierarchy, theta, effects), 0), axis=1) / variance, units / variance
    )
    for k, key in enumerate(hierarchy.keys):
        used = hierarchy.used[k][:, None]
        units_of = jnp.sum(key, axis=1)[:, None, None]
        count = units_of * used
        left = jnp.where(present, _unexplained(hierarchy, theta, effects, but=k), 0)
        total = jnp.einsum("lu,ruc->lrc", key, left, precision="highest") * used
        mean = total / jnp.maximum(count, 1)
        # The label's mean around the centre, its effect integrated out.
        weight = jnp.where(count > 0, 1 / (scales[1 + k][None] ** 2 + variance[None] / jnp.maximum(count, 1)), 0)
        drawn = draw_centre(jnp.sum(weight * mean, axis=0), jnp.sum(weight, axis=0))
        centre = jnp.where(used > 0, drawn, centre)
        precision = count / variance[None] + scales[1 + k][None] ** -2.0
        white = normals(numbers.take(len(key)))
        effects[k] = (total - count * centre[None]) / variance[None] / precision + white / jnp.sqrt(precision)
        there = (units_of > 0).astype(theta.dtype)
        squares, labels = jnp.sum(there * effects[k] ** 2, axis=0), jnp.sum(there)
        coordinates[1 + k] = _redraw_spread(hierarchy.scale, coordinates[1 + k], squares, labels, numbers.take(3))
        scales[1 + k] = hierarchy.scale[:, None] * jnp.exp(log_softplus_normal(coordinates[1 + k]))
    deviation = jnp.where(present, _unexplained(hierarchy, theta, effects) - centre[:, None], 0)
    squares = jnp.sum(deviation**2, axis=1)
    coordinates[0] = _redraw_spread(hierarchy.scale, coordinates[0], squares, units, numbers.take(3))
    return Hyper(
        centre=(centre - prior_mean) / prior_sd,
        spread=jnp.stack(coordinates),
        levels=tuple(effect / scale[None] for effect, scale in zip(effects, scales[1:], strict=True)),
        types=hyper.types,
    )


def _redraw_types(hierarchy: Hierarchy, hyper: Hyper, uniform: Float[Array, "4 type chain"]) -> Hyper:
    """Means and spreads of the types given the centres, which stay: their coordinates change."""
    mean, spread = hyper.types[0], _type_spreads(hierarchy, hyper)
    deviation = hyper.centre * _of_rows(hierarchy, spread)
    count = jnp.sum(hierarchy.types, axis=1)[:, None]
    precision = count / spread**2 + 1
    change = (_of_types(hierarchy, deviation) / spread**2 - mean) / precision + normals(uniform[0]) / jnp.sqrt(
        precision
    )
    deviation = deviation - _of_rows(hierarchy, change)
    squares = _of_types(hierarchy, deviation**2)
    coordinate = _redraw_spread(hierarchy.type_scale, hyper.types[1], squares, count, uniform[1:])
    hyper = hyper._replace(types=jnp.stack([mean + change, coordinate]))
    untyped = 1 - jnp.sum(hierarchy.types, axis=0)[:, None]
    within = deviation / (_of_rows(hierarchy, _type_spreads(hierarchy, hyper)) + untyped)
    return hyper._replace(centre=jnp.where(untyped > 0, hyper.centre, within))


def _slide_types(
    hierarchy: Hierarchy, hyper: Hyper, theta: Float[Array, "row unit chain"], white: Float[Array, "2 type chain"]
) -> Hyper:
    """Means, then spreads, of the types given the units' parameters and the centres' coordinates.

    The centres go along, so that each number is normal given the rest; a spread of either sign stands for its size with
    the coordinates' signs turned.
    """
    present = hierarchy.present[None, :, None] > 0
    variance = spreads(hierarchy, hyper)[0] ** 2
    precision = jnp.sum(hierarchy.present) / variance

    def change(factor: Array, weight: Array, value: Array, hyper: Hyper, white: Array) -> Array:
        """The number that multiplies `factor` in its rows, given all others, less its value now."""
        left = jnp.sum(jnp.where(present, theta - means(hierarchy, hyper), 0), axis=1) / variance
        own = _of_types(hierarchy, factor**2 * precision) + weight
        return (_of_types(hierarchy, factor * left) - weight * value) / own + white / jnp.sqrt(own)

    sd = jnp.broadcast_to(hierarchy.centre_sd[:, None], hyper.centre.shape)
    mean = hyper.types[0] + change(sd, jnp.ones_like(white[0]), hyper.types[0], hyper, white[0])
    hyper = hyper._replace(types=hyper.types.at[0].set(mean))
    spread, scale = _type_spreads(hierarchy, hyper), hierarchy.type_scale[:, None]
    spread = spread + change(sd * hyper.centre, scale**-2.0, spread, hyper, white[1])
    turned = _of_rows(hierarchy, (spread < 0).astype(spread.dtype))
    # Of a sum no more is left than its rounding, and that may be zero.
    size = jnp.maximum(jnp.abs(spread) / scale, jnp.finfo(spread.dtype).eps)
    coordinate = inverse_log_ramp(jnp.log(size))
    return hyper._replace(centre=hyper.centre * (1 - 2 * turned), types=hyper.types.at[1].set(coordinate))


def _unexplained(
    hierarchy: Hierarchy,
    theta: Float[Array, "row unit chain"],
    effects: list[Float[Array, "level row chain"]],
    but: int | None = None,
) -> Float[Array, "row unit chain"]:
    """What the effects of the labels of all keys, or all but one, leave of the units' parameters."""
    for k, key in enumerate(hierarchy.keys):
        if k != but:
            theta = theta - _of_units(key, effects[k] * hierarchy.used[k][:, None])
    return theta


def _redraw_spread(
    scale: Float[Array, " row"],
    coordinate: Float[Array, "row chain"],
    squares: Float[Array, "row chain"],
    count: Float[Array, ""] | Float[Array, "row 1"],
    uniform: Float[Array, "3 row chain"],
) -> Float[Array, "row chain"]:
    """A spread's coordinate given the sum of squares of the `count` normal numbers that have it; a type's likewise.

    In y = log(spread / scale), with the squares in units of the scale's, the target is log-concave:
    -(count - 1) y - squares exp(-2 y) / 2 - exp(2 y) / 2.
    """
    squares = squares / scale[:, None] ** 2
    less = count - 1

    def target(y: Array) -> Array:
        return -less * y - 0.5 * squares * jnp.exp(-2 * y) - 0.5 * jnp.exp(2 * y)

    # The mode, where squares exp(-2 y) = less + exp(2 y), as the stable root of a quadratic.
    mode = squares / (0.5 * (less + jnp.sqrt(less**2 + 4 * squares)))
    width = WIDTH / jnp.sqrt(2 * squares / mode + 2 * mode)
    centre = 0.5 * jnp.log(mode)
    # Student numbers by Bailey (1994), doi:10.2307/2153537.
    student = jnp.sqrt(TAIL * (uniform[0] ** (-2 / TAIL) - 1)) * jnp.cos(2 * jnp.pi * uniform[1])
    here, there = log_softplus_normal(coordinate), centre + width * student

    def surplus(y: Array) -> Array:
        return target(y) + 0.5 * (TAIL + 1) * jnp.log1p(((y - centre) / width) ** 2 / TAIL)

    moved = jnp.log(uniform[2]) < surplus(there) - surplus(here)
    return jnp.where(moved, inverse_log_ramp(there), coordinate)


def inverse_log_ramp(y: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The coordinate whose `log_softplus_normal` is y, by Newton's method on a concave function."""
    x = jnp.where(y > 0, jnp.exp(y), -jnp.sqrt(jnp.maximum(-2 * (y + 0.9), 0.04)))
    return jax.lax.fori_loop(
        0, 8, lambda _, x: x - (log_softplus_normal(x) - y) * jnp.exp(-log_softplus_normal_slope(x)), x
    )


def log_prior_of_spreads(coordinate: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Log density of spreads' coordinates, up to a constant."""
    softplus_normal = log_softplus_normal(coordinate)
    return -0.5 * jnp.exp(2 * softplus_normal) + log_softplus_normal_slope(coordinate) + softplus_normal


def _type_spreads(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "type chain"]:
    return hierarchy.type_scale[:, None] * jnp.exp(log_softplus_normal(hyper.types[1]))


def _of_rows(hierarchy: Hierarchy, by_type: Float[Array, "type chain"]) -> Float[Array, "row chain"]:
    """Each row's type's value; zero for rows without one."""
    return jnp.einsum("tr,tc->rc", hierarchy.types, by_type, precision="highest")


def _of_types(hierarchy: Hierarchy, by_row: Float[Array, "row chain"]) -> Float[Array, "type chain"]:
    """Sum over each type's rows."""
    return jnp.einsum("tr,rc->tc", hierarchy.types, by_row, precision="highest")


def _of_units(
    key: Float[Array, "level unit"], effects: Float[Array, "level row chain"]
) -> Float[Array, "row unit chain"]:
    return jnp.einsum("lu,lrc->ruc", key, effects, precision="highest")


class _Numbers:
    """Uniform numbers, each handed out once."""

    def __init__(self, rows: Float[Array, "number row chain"]) -> None:
        self._rows, self._next = rows, 0

    def take(self, count: int) -> Float[Array, "count row chain"]:
        self._next += count
        return self._rows[self._next - count : self._next]
