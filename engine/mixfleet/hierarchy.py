"""Hierarchy: the hyperparameters of a group of units, and their exact draws given the units' parameters.

For every pooled parameter of every channel (a row), on the unconstrained scale,

    theta[unit] = centre + sum over keys of effect[key, label of the unit] + deviation[unit]

where effects and deviations are normal around zero with learned standard deviations ("spreads"), one for the units and
one for each key. Spreads are half-normal, the centre normal. They are sampled as coordinates of which the first is the
centre in standard deviations of its prior, a spread is `scale * ramp(x)`, and an effect is its spread times a standard
normal.

References:
    Gelman (2006), Prior distributions for variance parameters in hierarchical models, doi:10.1214/06-BA117A.
    Papaspiliopoulos, Roberts, Zanella (2020), Scalable inference for crossed random effects models, arXiv:1803.09460
        (centre and effects of one key drawn together, given those of the others).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.coordinates import log_ramp, log_ramp_slope
from mixfleet.samplers.threefry import normals

__all__ = ["Hierarchy", "Hyper", "inverse_log_ramp", "log_prior", "means", "redraw", "spreads", "uniform_rows"]

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


class Hyper(NamedTuple):
    """Coordinates of the hyperparameters, in every chain."""

    centre: Float[Array, "row chain"]
    spread: Float[Array, "part row chain"]
    """Of the units, then of each key."""
    levels: tuple[Float[Array, "level row chain"], ...]
    """Effects of each key's labels, in units of their spread."""


def spreads(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "part row chain"]:
    """Standard deviations: of the units, then of each key's labels."""
    return hierarchy.scale[None, :, None] * jnp.exp(log_ramp(hyper.spread))


def means(hierarchy: Hierarchy, hyper: Hyper) -> Float[Array, "row unit chain"]:
    """What each unit's parameter is before its own deviation."""
    scales = spreads(hierarchy, hyper)
    centre = hierarchy.centre[:, None] + hierarchy.centre_sd[:, None] * hyper.centre
    units = len(hierarchy.present)
    total = jnp.broadcast_to(centre[:, None], (len(centre), units, centre.shape[-1]))
    for k, (key, levels) in enumerate(zip(hierarchy.keys, hyper.levels, strict=True)):
        total = total + _of_units(key, levels * (scales[1 + k] * hierarchy.used[k][:, None])[None])
    return total


def log_prior(hyper: Hyper) -> Float[Array, " chain"]:
    """Log density of the coordinates of centres and spreads, up to a constant."""
    ramp = log_ramp(hyper.spread)
    spread = -0.5 * jnp.exp(2 * ramp) + log_ramp_slope(hyper.spread) + ramp
    return jnp.sum(spread, axis=(0, 1)) - 0.5 * jnp.sum(hyper.centre**2, axis=0)


def uniform_rows(keys: tuple[int, ...]) -> int:
    """Uniform numbers per row and chain that `redraw` takes, for keys of so many levels."""
    return 4 + sum(levels + 4 for levels in keys)


def redraw(
    hierarchy: Hierarchy,
    hyper: Hyper,
    theta: Float[Array, "row unit chain"],
    uniform: Float[Array, "number row chain"],
) -> Hyper:
    """New hyperparameters from their law given the units' parameters: a sweep that leaves it invariant.

    Centre and effects are normal given the spreads, and drawn exactly, a key after the other. A spread is moved by an
    independent proposal from a Student law around its mode, accepted as Metropolis and Hastings say.
    """
    numbers = _Numbers(uniform)
    present = hierarchy.present[None, :, None] > 0
    prior_mean, prior_sd = hierarchy.centre[:, None], hierarchy.centre_sd[:, None]
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
        coordinates[1 + k] = _redraw_spread(hierarchy, coordinates[1 + k], squares, labels, numbers.take(3))
        scales[1 + k] = hierarchy.scale[:, None] * jnp.exp(log_ramp(coordinates[1 + k]))
    deviation = jnp.where(present, _unexplained(hierarchy, theta, effects) - centre[:, None], 0)
    squares = jnp.sum(deviation**2, axis=1)
    coordinates[0] = _redraw_spread(hierarchy, coordinates[0], squares, units, numbers.take(3))
    return Hyper(
        centre=(centre - prior_mean) / prior_sd,
        spread=jnp.stack(coordinates),
        levels=tuple(effect / scale[None] for effect, scale in zip(effects, scales[1:], strict=True)),
    )


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
    hierarchy: Hierarchy,
    coordinate: Float[Array, "row chain"],
    squares: Float[Array, "row chain"],
    count: Float[Array, ""],
    uniform: Float[Array, "3 row chain"],
) -> Float[Array, "row chain"]:
    """A spread's coordinate given the sum of squares of the `count` normal numbers that have it.

    In y = log(spread / scale), with the squares in units of the scale's, the target is log-concave:
    -(count - 1) y - squares exp(-2 y) / 2 - exp(2 y) / 2.
    """
    squares = squares / hierarchy.scale[:, None] ** 2
    less = count - 1

    def target(y: Array) -> Array:
        return -less * y - 0.5 * squares * jnp.exp(-2 * y) - 0.5 * jnp.exp(2 * y)

    # The mode, where squares exp(-2 y) = less + exp(2 y), as the stable root of a quadratic.
    mode = squares / (0.5 * (less + jnp.sqrt(less**2 + 4 * squares)))
    width = WIDTH / jnp.sqrt(2 * squares / mode + 2 * mode)
    centre = 0.5 * jnp.log(mode)
    # Student numbers by Bailey (1994), doi:10.2307/2153537.
    student = jnp.sqrt(TAIL * (uniform[0] ** (-2 / TAIL) - 1)) * jnp.cos(2 * jnp.pi * uniform[1])
    here, there = log_ramp(coordinate), centre + width * student

    def surplus(y: Array) -> Array:
        return target(y) + 0.5 * (TAIL + 1) * jnp.log1p(((y - centre) / width) ** 2 / TAIL)

    moved = jnp.log(uniform[2]) < surplus(there) - surplus(here)
    return jnp.where(moved, inverse_log_ramp(there), coordinate)


def inverse_log_ramp(y: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The coordinate whose `log_ramp` is y, by Newton's method on a concave function."""
    x = jnp.where(y > 0, jnp.exp(y), -jnp.sqrt(jnp.maximum(-2 * (y + 0.9), 0.04)))
    for _ in range(8):
        x = x - (log_ramp(x) - y) * jnp.exp(-log_ramp_slope(x))
    return x


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
