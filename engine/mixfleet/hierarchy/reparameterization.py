"""Coordinates of pooled parameters in which units and hyperparameters hardly depend on each other.

A unit's pooled parameter is `theta = mean + sd * x`, where mean and sd are those that it has given the hyperparameters
and what the unit's own data say of it, roughly, as a Gaussian "site". Where the data are strong theta stays where it is
when hyperparameters move (a centred parameterisation), where they say nothing it moves along (a non-centred one), and
all between, for every unit, channel and value of the hyperparameters. Sites shape the coordinates alone: a wrong one
costs time, not truth.

What data say best is not the effect of a channel but its contribution, so the effect's site is one on
`log effect + log curve(typical media; saturation parameters)`, and it tells of the saturation parameters too, through
the curve's slope in them.

Centres have such coordinates too: what the sites of all units tell of a centre depends on the spread, so it is told in
units of what is left open at that spread.

References:
    Papaspiliopoulos, Roberts, Skoeld (2007), A general framework for the parametrization of hierarchical models,
        doi:10.1214/088342307000000014.
    Gorinova, Moore, Hoffman (2020), Automatic reparameterisation of probabilistic programs, arXiv:1906.03028.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.hierarchy.hyperparameters import Hierarchy, Hyper, centre_priors, means, moved, spreads, with_moved
from mixfleet.models.batch import Structure
from mixfleet.models.media import joined
from mixfleet.models.transforms import block_values
from mixfleet_kernels import saturation

__all__ = [
    "Placed",
    "Pool",
    "Sites",
    "coordinates",
    "hyper_coordinates",
    "log_curve",
    "log_prior_change",
    "place",
    "place_hyper",
    "pooled_rows",
]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All that a group's compiled program depends on; hashable, and without a label in it."""

    structure: Structure
    """Of the units, padded in number, with the priors that pooled parameters have."""
    parameters: tuple[int, ...]
    """Which channel parameters are pooled, by their place in `structure.layout.by_channel`; all channels have them."""
    levels: tuple[int, ...]
    """Labels of each key that has effects, padded."""
    types: int
    """Types that channels have, times pooled parameters."""
    joint: int
    """Lift tests that measured several units together, padded."""

    @property
    def rows(self) -> int:
        """Pooled parameters times channels."""
        return len(self.parameters) * self.structure.channels

    @property
    def effect_pooled(self) -> bool:
        """Whether effects are among the pooled parameters."""
        return len(self.structure.layout.shapes) in self.parameters

    @property
    def curved(self) -> bool:
        """Whether effects are pooled as such and not as contributions, so that their sites are on what curves make."""
        return self.effect_pooled and self.structure.model.coordinate == "effect"

    def slices(self) -> list[tuple[int, slice, slice]]:
        """Of each pooled parameter its place, its rows in the hierarchy, and its rows in a position."""
        c, blocks = self.structure.channels, self.structure.layout.by_channel
        return [(j, slice(i * c, (i + 1) * c), blocks[j].rows) for i, j in enumerate(self.parameters)]

    def together(self) -> list[tuple[slice, slice]]:
        """Rows of the hierarchy and of a position that may be told at once: the fewer, the less is compiled."""
        runs: list[tuple[slice, slice]] = []
        for _, rows, own in self.slices():
            if runs and not self.curved and runs[-1][1].stop == own.start:
                before, own_before = runs.pop()
                rows, own = slice(before.start, rows.stop), slice(own_before.start, own.stop)
            runs.append((rows, own))
        return runs


class Sites(NamedTuple):
    """What each unit's own data say, roughly."""

    mean: Float[Array, "row unit"]
    precision: Float[Array, "row unit"]
    origin: Float[Array, "row unit"]
    """Where the curve is linearised."""
    slope: Float[Array, "row unit"]
    """Of the log curve in each saturation parameter there; zero in other rows."""
    curve: Float[Array, "channel unit"]
    """The log curve there."""
    level: Float[Array, "channel unit"]
    """Typical media of an active week, in shares of the channel's scale."""


class Placed(NamedTuple):
    """Coordinates as positions of the units' own density."""

    position: Float[Array, "coordinate unit chain"]
    log_change: Float[Array, "unit chain"]
    """Log of the group's density of the coordinates over the unit's own prior of the position, up to a constant."""


def place(
    pool: Pool,
    hierarchy: Hierarchy,
    sites: Sites,
    hyper_rows: Float[Array, "row coordinate unit"],
    x: Float[Array, "coordinate unit chain"],
    hyper: Hyper,
) -> Placed:
    """Positions of the units at coordinates `x` under hyperparameters `hyper`.

    Args:
        pool: Structure.
        hierarchy: The group.
        sites: What shapes the coordinates.
        hyper_rows: Prior data of each sampled coordinate, those of pooled ones a normal's mean and sd.
        x: Coordinates.
        hyper: Hyperparameters.
    """
    centre = means(hierarchy, hyper)
    spread = jnp.broadcast_to(spreads(hierarchy, hyper)[0][:, None], centre.shape)
    variances: list[Array] = [centre[:0]]

    def step(rows: slice, mean: Array, variance: Array) -> Array:
        variances.append(variance)
        return mean + jnp.sqrt(variance) * x[rows]

    position = _walk(pool, sites, hyper_rows, x, centre, spread, step)
    log_prior = _log_priors(pool, hyper_rows, position, centre, spread)
    volume = 0.5 * jnp.log(jnp.concatenate(variances))
    return Placed(position=position, log_change=jnp.sum(log_prior + volume, axis=0))


def log_prior_change(
    pool: Pool,
    hierarchy: Hierarchy,
    hyper_rows: Float[Array, "row coordinate unit"],
    position: Float[Array, "coordinate unit chain"],
    hyper: Hyper,
) -> Float[Array, "unit chain"]:
    """Log of the group's density of positions over the units' own prior, up to a constant; arguments as for `place`."""
    centre, spread = means(hierarchy, hyper), spreads(hierarchy, hyper)[0][:, None]
    return jnp.sum(_log_priors(pool, hyper_rows, position, centre, spread), axis=0)


def _log_priors(
    pool: Pool,
    hyper_rows: Float[Array, "row coordinate unit"],
    position: Float[Array, "coordinate unit chain"],
    centre: Float[Array, "row unit chain"],
    spread: Float[Array, "row #unit chain"],
) -> Float[Array, "row unit chain"]:
    theta = pooled_rows(pool, position)
    broad = pooled_rows(pool, hyper_rows[0])[..., None], pooled_rows(pool, hyper_rows[1])[..., None]
    return 0.5 * ((theta - broad[0]) / broad[1]) ** 2 - 0.5 * ((theta - centre) / spread) ** 2 - jnp.log(spread)


def coordinates(
    pool: Pool,
    hierarchy: Hierarchy,
    sites: Sites,
    hyper_rows: Float[Array, "row coordinate unit"],
    position: Float[Array, "coordinate unit chain"],
    hyper: Hyper,
) -> Float[Array, "coordinate unit chain"]:
    """The coordinates of positions: the inverse of `place`."""
    centre, spread = means(hierarchy, hyper), spreads(hierarchy, hyper)[0][:, None]
    x = position

    def step(rows: slice, mean: Array, variance: Array) -> Array:
        nonlocal x
        x = x.at[rows].set((position[rows] - mean) / jnp.sqrt(variance))
        return position[rows]

    _walk(pool, sites, hyper_rows, position, centre, spread, step)
    return x


def hyper_coordinates(pool: Pool, hierarchy: Hierarchy, sites: Sites, hyper: Hyper) -> Float[Array, "coordinate chain"]:
    """Coordinates of the hyperparameters; a centre's or a label's effect's is its distance from what it should be.

    With little spread all units' data tell of a centre, with much hardly any do. Told apart from the spreads it is as
    wide in one case as in the other.
    """

    def step(part: int, rows: slice, mean: Array, precision: Array) -> tuple[Array, Array]:
        value = _of_part(hyper, part)[..., rows, :]
        return value, (value - mean) * jnp.sqrt(precision)

    _, coordinates, _ = _walk_hyper(pool, hierarchy, sites, hyper, step)
    return moved(coordinates)


def place_hyper(
    pool: Pool, hierarchy: Hierarchy, sites: Sites, x: Float[Array, "coordinate chain"], hyper: Hyper
) -> tuple[Hyper, Float[Array, " chain"]]:
    """Hyperparameters at such coordinates, in the shapes of `hyper`, and the log of the change of volume."""
    at = with_moved(hyper, x)

    def step(part: int, rows: slice, mean: Array, precision: Array) -> tuple[Array, Array]:
        coordinate = _of_part(at, part)[..., rows, :]
        return mean + coordinate / jnp.sqrt(precision), coordinate

    placed, _, log_precision = _walk_hyper(pool, hierarchy, sites, at, step)
    return placed, -0.5 * log_precision


def _of_part(hyper: Hyper, part: int) -> Array:
    """The centres, or the effects of a key's labels."""
    return hyper.centre if part == 0 else hyper.levels[part - 1]


def _walk_hyper(
    pool: Pool,
    hierarchy: Hierarchy,
    sites: Sites,
    hyper: Hyper,
    step: Callable[[int, slice, Array, Array], tuple[Array, Array]],
) -> tuple[Hyper, Hyper, Float[Array, " chain"]]:
    """Centres and labels' effects, one pooled parameter after the other, the centre first, then a key after the other.

    `step` gives them and their coordinates from their mean and precision given the spreads, the types,
    the sites and what came before, in which a unit's site tells of them with all that comes after for noise.
    """
    keys, effect = hierarchy.keys, slice(pool.rows - pool.structure.channels, pool.rows)
    scales = spreads(hierarchy, hyper)
    base, centre_sd = centre_priors(hierarchy, hyper)
    noise = 1 / sites.precision[..., None] + scales[0][:, None] ** 2
    told = jnp.broadcast_to(sites.mean[..., None] - base[:, None], noise.shape)
    if pool.curved:
        told = told.at[effect].add(-sites.curve[..., None])
    found: list[list[tuple[Array, Array]]] = [[] for _ in range(1 + len(keys))]
    log_precision = jnp.zeros(hyper.centre.shape[-1], hyper.centre.dtype)
    parts = [rows for _, rows, _ in pool.slices()] if pool.curved else [slice(0, pool.rows)] * (pool.rows > 0)
    for rows in parts:
        factors = [scales[1 + k, rows] * hierarchy.used[k, rows, None] for k in range(len(keys))]
        left, sd = told[rows], centre_sd[rows]
        # What is left open when so many keys are known: the units' own, and the effects of the keys after these.
        behind = [noise[rows]]
        for factor in reversed(factors[1:]):
            behind.insert(0, behind[0] + factor[:, None] ** 2)
        mean, precision = _prior_of_centre(hierarchy, factors, left, behind[0], sd)
        found[0].append(step(0, rows, mean, precision))
        log_precision = log_precision + jnp.sum(jnp.log(precision), axis=0)
        left = left - (sd * found[0][-1][0])[:, None]
        for k, (key, factor) in enumerate(zip(keys, factors, strict=True)):
            precision = 1 + factor[None] ** 2 * _of_labels(key, 1 / behind[k])
            mean = factor[None] * _of_labels(key, left / behind[k]) / precision
            found[1 + k].append(step(1 + k, rows, mean, precision))
            log_precision = log_precision + jnp.sum(jnp.log(precision), axis=(0, 1))
            effects = factor[None] * found[1 + k][-1][0]
            left = left - jnp.einsum("lu,lrc->ruc", key, effects, precision="highest")
        if pool.curved and rows != effect:
            # What the curve will be of such parameters is not what the effect's site says of the effect.
            slope, own = sites.slope[rows, :, None], scales[0, rows, None] ** 2
            ratio = own / noise[rows]
            expected = sites.mean[rows, :, None] - (1 - ratio) * left
            told = told.at[effect].add(-slope * (expected - sites.origin[rows, :, None]))
            noise = noise.at[effect].add(slope**2 * own * (1 - ratio))
    values, coordinates = (_with_parts(hyper, [[one[i] for one in part] for part in found]) for i in (0, 1))
    return values, coordinates, log_precision


def _prior_of_centre(
    hierarchy: Hierarchy,
    factors: list[Float[Array, "row chain"]],
    told: Float[Array, "row unit chain"],
    noise: Float[Array, "row unit chain"],
    sd: Float[Array, "row #chain"],
) -> tuple[Float[Array, "row chain"], Float[Array, "row chain"]]:
    """Mean and precision of centres in units of `sd`, the effects of the first key's labels integrated out."""
    weight = hierarchy.present[None, :, None] / noise
    if not hierarchy.keys:
        precision = 1 + sd**2 * jnp.sum(weight, axis=1)
        return sd * jnp.sum(weight * told, axis=1) / precision, precision
    by_label = _of_labels(hierarchy.keys[0], weight)
    doubt = 1 + factors[0][None] ** 2 * by_label
    precision = 1 + sd**2 * jnp.sum(by_label / doubt, axis=0)
    return sd * jnp.sum(_of_labels(hierarchy.keys[0], weight * told) / doubt, axis=0) / precision, precision


def _of_labels(
    key: Float[Array, "level unit"], values: Float[Array, "row unit chain"]
) -> Float[Array, "level row chain"]:
    """Sums over each label's units."""
    return jnp.einsum("lu,ruc->lrc", key, values, precision="highest")


def _with_parts(hyper: Hyper, parts: list[list[Array]]) -> Hyper:
    """The hyperparameters with other centres and labels' effects, given by pooled parameter."""
    nothing = [hyper.centre[:0], *(levels[:, :0] for levels in hyper.levels)]
    centre, *levels = (jnp.concatenate([none, *part], axis=-2) for none, part in zip(nothing, parts, strict=True))
    return hyper._replace(centre=centre, levels=tuple(levels))


def _walk(
    pool: Pool,
    sites: Sites,
    hyper_rows: Float[Array, "row coordinate unit"],
    position: Float[Array, "coordinate unit chain"],
    centre: Float[Array, "row unit chain"],
    spread: Float[Array, "row 1 chain"],
    step: Callable[[slice, Array, Array], Array],
) -> Float[Array, "coordinate unit chain"]:
    """The position, one pooled parameter after the other: `step` gives its rows from their mean and variance."""
    prior = 1 / spread**2
    precision, site = sites.precision[..., None], sites.mean[..., None]
    variance = 1 / (precision + prior)
    mean = variance * (precision * site + prior * centre)
    if not pool.curved:
        for rows, own in pool.together():
            position = position.at[own].set(step(own, mean[rows], variance[rows]))
        return position
    *parts, (_, effect, own_effect) = pool.slices()
    origin, slope = sites.origin[..., None], sites.slope[..., None]
    # What the effect's site says of the curve: the sum of slope * (parameter - origin), with this noise.
    told = site[effect] - centre[effect] - sites.curve[..., None]
    noise = 1 / precision[effect] + 1 / prior[effect]
    later = {j: slope[rows] * (mean[rows] - origin[rows]) for j, rows, _ in parts}
    doubt = {j: slope[rows] ** 2 * variance[rows] for j, rows, _ in parts}
    for j, rows, own in parts:
        del later[j], doubt[j]
        weight = slope[rows] / (noise + sum(doubt.values()))
        sharper = 1 / (1 / variance[rows] + slope[rows] * weight)
        surprise = told - sum(later.values()) - slope[rows] * (mean[rows] - origin[rows])
        drawn = step(own, mean[rows] + sharper * weight * surprise, sharper)
        position = position.at[own].set(drawn)
        told = told - slope[rows] * (drawn - origin[rows])
    curve = log_curve(pool, hyper_rows, sites.level, position)
    expected = variance[effect] * (precision[effect] * site[effect] + prior[effect] * (centre[effect] + curve))
    return position.at[own_effect].set(step(own_effect, expected - curve, variance[effect]))


def log_curve(
    pool: Pool,
    hyper_rows: Float[Array, "row coordinate unit"],
    level: Float[Array, "channel unit"],
    position: Float[Array, "coordinate unit chain"],
) -> Float[Array, "channel unit chain"]:
    """Log of the saturation curve at each channel's typical media."""
    layout = pool.structure.layout
    slots = layout.to_slots([block_values(block, position, hyper_rows[..., None]) for block in layout.shapes])
    media = jnp.broadcast_to(level[..., None], (*level.shape, position.shape[-1]))
    parts = []
    for group in layout.term.groups:
        own = group.own(slots[layout.adstock_slots :], 0)[: len(group.form.saturation_parameters)]
        parts.append(saturation.saturate(group.form.saturation, group.own(media, 0), own))
    return jnp.log(joined(layout.term, parts, 0))


def pooled_rows(pool: Pool, rows: Any) -> Any:
    """The pooled rows of a position, on device or on the host."""
    # Where the baseline alone is pooled there is none.
    parts = [rows[own] for _, own in pool.together()] or [rows[:0]]
    return np.concatenate(parts) if isinstance(rows, np.ndarray) else jnp.concatenate(parts)
