"""Coefficients: linear coefficients that a group of units shares.

Trend, seasons and controls may be pooled as media are. Given their hyperparameters their coefficients are integrated
out like those that units have for themselves, by `prior`. Between two such moves of the media they are drawn with
their hyperparameters: given media and noise they are normal, and so, nearly, are the hyperparameters given
them. Both the coefficients (what data determine) and their deviations in units of the spread (what data leave open)
are kept in turn while hyperparameters move, so that neither much data nor little slows the chains down. Spreads are
also moved with the coefficients integrated out, those of a key with its labels' effects too, and labels' effects with
the deviations kept.

References:
    Yu and Meng (2011), To center or not to center: that is not the question, doi:10.1198/jcgs.2011.203main.
    Liu, Rubin and Wu (1998), Parameter expansion to accelerate EM, doi:10.1093/biomet/85.4.755 (a spread of either
        sign).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hierarchy, Hyper
from mixfleet.inference.random_numbers import normals
from mixfleet.models.priors.bijectors import log_softplus_normal
from mixfleet_kernels.likelihood.autocorrelated import Last

__all__ = [
    "Columns",
    "LikelihoodSummary",
    "Shared",
    "lasting_summary",
    "likelihood_summary",
    "prior",
    "redraw",
    "uniform_rows",
]

WALK = 1.0
"""Largest standard deviation of the random walk of a spread's coordinate: each step is of any up to this one, as the
spread of few labels is known far less well than that of many units."""


class Columns(NamedTuple):
    """The pooled columns of a group's units."""

    design: Float[Array, "unit week row"]
    """Zero in weeks without likelihood."""
    along: Float[Array, "column row unit"]
    """The same in the coordinates of the units' bases; where noise is autocorrelated, they are its last columns."""
    hierarchy: Hierarchy


class Shared(NamedTuple):
    """Coefficients and their hyperparameters."""

    values: Float[Array, "row unit chain"]
    hyper: Hyper


class LikelihoodSummary(NamedTuple):
    """What data say of the coefficients, the rest of the linear block integrated out: precision and pull."""

    precision: Float[Array, "row row unit chain"]
    total: Float[Array, "row unit chain"]
    """Precision times mean."""


def prior(
    columns: Columns, hyper: Hyper, variance: Float[Array, "column unit"], *, lasting: bool
) -> tuple[Float[Array, "week unit chain"], Float[Array, "*column unit chain"]]:
    """The linear block given hyperparameters: the shared columns' mean by week, and the covariance along the bases.

    Args:
        columns: The pooled columns.
        hyper: Their hyperparameters.
        variance: Prior variances along the bases of what units have for themselves.
        lasting: Whether noise is autocorrelated, and so shared columns are in the bases: the covariance is then a
            diagonal, and given as one.
    """
    means = hierarchies.means(columns.hierarchy, hyper)
    spread, along = hierarchies.spreads(columns.hierarchy, hyper)[0], columns.along
    mean = jnp.einsum("uwr,ruc->wuc", columns.design, means, precision="highest")
    if lasting:
        return mean, variance[..., None] + jnp.einsum("kru,rc->kuc", along**2, spread**2, precision="highest")
    own = jnp.eye(len(variance), dtype=variance.dtype)[..., None] * variance[None]
    covariance = jnp.einsum("kru,lru,rc->kluc", along, along, spread**2, precision="highest") + own[..., None]
    return mean, covariance


def likelihood_summary(
    columns: Columns,
    values: Float[Array, "row unit chain"],
    variance: Float[Array, "column unit"],
    noise: Float[Array, "unit chain"],
    projection: Float[Array, "column unit chain"],
) -> LikelihoodSummary:
    """What data say, from the residual at `values` along the bases.

    Args:
        columns: The pooled columns.
        values: Coefficients that the residual is of.
        variance: Prior variances along the bases, of what is integrated out.
        noise: Standard deviations.
        projection: Of the residual.
    """
    weight = 1 / (noise**2 + variance[..., None])
    along = columns.along
    whole = projection + jnp.einsum("kru,ruc->kuc", along, values, precision="highest")
    return LikelihoodSummary(
        precision=jnp.einsum("kru,ksu,kuc->rsuc", along, along, weight, precision="highest"),
        total=jnp.einsum("kru,kuc->ruc", along, weight * whole, precision="highest"),
    )


def lasting_summary(columns: Columns, hyper: Hyper, last: Last) -> LikelihoodSummary:
    """What data say where noise is autocorrelated.

    Args:
        columns: The pooled columns.
        hyper: Hyperparameters whose means the residual is of.
        last: What that residual says of them.
    """
    means = hierarchies.means(columns.hierarchy, hyper)
    total = last.total.reshape(means.shape)
    precision = last.precision.reshape(len(means), *means.shape)
    return LikelihoodSummary(precision, total + jnp.einsum("rsuc,suc->ruc", precision, means, precision="highest"))


def uniform_rows(levels: tuple[int, ...]) -> int:
    """Uniform numbers per row and chain that `redraw` takes, besides one for every unit."""
    return hierarchies.uniform_rows(levels, 0) + _spread_rows(levels) + 2 + len(levels) + sum(levels)


def _spread_rows(levels: tuple[int, ...]) -> int:
    """Those that `_redraw_spreads` takes."""
    return 3 + sum(3 + labels for labels in levels)


def redraw(
    columns: Columns,
    hyper: Hyper,
    summary: LikelihoodSummary,
    own: Float[Array, "2 row unit chain"],
    uniform: Float[Array, "number row chain"],
) -> Shared:
    """New coefficients and hyperparameters: a sweep that leaves their distribution given the data invariant.

    Args:
        columns: The pooled columns.
        hyper: The old ones.
        summary: From `likelihood_summary`.
        own: Uniform numbers of the units.
        uniform: `uniform_rows` uniform numbers of the group.
    """
    hierarchy = columns.hierarchy
    shared = Shared(_redraw_values(hierarchy, hyper, summary, normals(own[0])), hyper)
    shared = _redraw_spreads(hierarchy, shared, summary, normals(own[1]), uniform)
    labels = sum(len(key) for key in hierarchy.keys)
    begin, first = _spread_rows(tuple(map(len, hierarchy.keys))), len(uniform) - labels - 2 - len(hyper.levels)
    hyper = hierarchies.redraw(hierarchy, shared.hyper, shared.values, uniform[begin:first])
    white = normals(uniform[first:])
    shared = _slide(hierarchy, Shared(shared.values, hyper), summary, white[: len(white) - labels])
    return _slide_labels(hierarchy, shared, summary, white[len(white) - labels :])


def _redraw_values(
    hierarchy: Hierarchy, hyper: Hyper, summary: LikelihoodSummary, white: Float[Array, "row unit chain"]
) -> Float[Array, "row unit chain"]:
    """Coefficients given data and hyperparameters."""
    own = jnp.broadcast_to(1 / hierarchies.spreads(hierarchy, hyper)[0][:, None] ** 2, white.shape)
    total = summary.total + own * hierarchies.means(hierarchy, hyper)
    precision = summary.precision + jnp.eye(len(white), dtype=white.dtype)[..., None, None] * own[None]
    row = jnp.arange(len(white))[:, None, None]

    def eliminate(j: Array, carried: tuple[Array, Array]) -> tuple[Array, Array]:
        upper, total = carried
        column = jnp.where(row > j, upper[:, j] / upper[j, j], 0)
        return upper - column[:, None] * upper[j][None], total - column * total[j]

    upper, total = jax.lax.fori_loop(0, len(white), eliminate, (precision, total))

    def substitute(i: Array, values: Array) -> Array:
        j = len(white) - 1 - i
        known = jnp.sum(upper[j] * values, axis=0)
        return values.at[j].set((total[j] - known) / upper[j, j] + white[j] / jnp.sqrt(upper[j, j]))

    return jax.lax.fori_loop(0, len(white), substitute, jnp.zeros_like(white))


def _redraw_spreads(
    hierarchy: Hierarchy,
    shared: Shared,
    summary: LikelihoodSummary,
    white: Float[Array, "row unit chain"],
    uniform: Float[Array, "number row chain"],
) -> Shared:
    """Spreads given the data and the other rows, with each row's coefficients, which are integrated out.

    The units' spread first; then each key's with the effects of its labels, which are integrated out too. Effects and
    coefficients of the row are then drawn anew.
    """
    hyper, present = shared.hyper, hierarchy.present[:, None] > 0
    centres = hierarchies.centres(hierarchy, hyper)
    # Three numbers for the walk of each spread, and one for each of a key's labels.
    steps, drawn, first = [uniform[:3]], list[Array](), 3
    for key in hierarchy.keys:
        steps.append(uniform[first : first + 3])
        drawn.append(normals(uniform[first + 3 : first + 3 + len(key)]))
        first += 3 + len(key)

    def of_row(
        row: Array, carried: tuple[Array, tuple[Array, ...], Array, Array]
    ) -> tuple[Array, tuple[Array, ...], Array, Array]:
        coordinates, levels, values, left = carried
        precision, scale = summary.precision[row], hierarchy.scale[row]
        own, sizes = jnp.where(present, precision[row], 0), scale * jnp.exp(log_softplus_normal(coordinates[:, row]))
        effects = [
            jnp.matmul(key.T, sizes[1 + k] * hierarchy.used[k, row] * levels[k][:, row], precision="highest")
            for k, key in enumerate(hierarchy.keys)
        ]
        mean = sum(effects, centres[row][None])
        # Precision times how far what the data say of a unit's coefficient is from its mean.
        pull = jnp.where(present, left[row] + own * (values[row] - mean), 0)
        moved = [_walked(scale, coordinates[0, row], steps[0][:, row], pull, own)]
        spread = scale * jnp.exp(log_softplus_normal(moved[0]))
        wider = 1 + spread**2 * own
        of_levels = list(levels)
        for k, key in enumerate(hierarchy.keys):
            labels = hierarchy.used[k, row] * key
            weight = jnp.matmul(labels, own / wider, precision="highest")
            total = jnp.matmul(labels, (pull + own * effects[k]) / wider, precision="highest")
            moved.append(_walked(scale, coordinates[1 + k, row], steps[1 + k][:, row], total, weight))
            size = scale * jnp.exp(log_softplus_normal(moved[-1]))
            doubt = 1 + size**2 * weight
            told = size * total / doubt + drawn[k][:, row] / jnp.sqrt(doubt)
            of_levels[k] = levels[k].at[:, row].set(told)
            change = jnp.matmul(labels.T, size * told, precision="highest") - effects[k]
            pull, mean = pull - own * change, mean + change
        told = mean + spread * (spread * pull / wider + white[row] / jnp.sqrt(wider))
        left = left - precision * (told - values[row])[None]
        return coordinates.at[:, row].set(jnp.stack(moved)), tuple(of_levels), values.at[row].set(told), left

    carried = hyper.spread, hyper.levels, shared.values, _left(summary, shared.values)
    spread, levels, values, _ = jax.lax.fori_loop(0, len(hierarchy.scale), of_row, carried)
    return Shared(values, hyper._replace(spread=spread, levels=levels))


def _walked(
    scale: Float[Array, ""],
    coordinate: Float[Array, " chain"],
    uniform: Float[Array, "3 chain"],
    pull: Float[Array, "number chain"],
    weight: Float[Array, "number chain"],
) -> Float[Array, " chain"]:
    """A spread's coordinate given what is known of the normal numbers that have it, which are integrated out.

    A random walk, accepted as Metropolis says.
    """
    there = coordinate + WALK * uniform[2] * normals(uniform[0])

    def log_density(coordinate: Array) -> Array:
        variance = (scale * jnp.exp(log_softplus_normal(coordinate))) ** 2
        wider = 1 + variance * weight
        told = 0.5 * jnp.sum(variance * pull**2 / wider - jnp.log(wider), axis=0)
        return told + hierarchies.log_prior_of_spreads(coordinate)

    moved = jnp.log(uniform[1]) < log_density(there) - log_density(coordinate)
    return jnp.where(moved, there, coordinate)


def _slide(
    hierarchy: Hierarchy, shared: Shared, summary: LikelihoodSummary, white: Float[Array, "part row chain"]
) -> Shared:
    """Centres and spreads given the data and the deviations in units of their spread, which take the values along.

    Given those, each is normal. A spread is drawn as a number of either sign: turning it around together with all
    that it multiplies changes no coefficient.
    """
    hyper = shared.hyper
    scales = hierarchies.spreads(hierarchy, hyper)
    present = hierarchy.present[:, None] > 0
    deviation = (shared.values - hierarchies.means(hierarchy, hyper)) / scales[0][:, None]
    effects = [
        jnp.einsum("lu,lrc->ruc", key, levels * used[:, None], precision="highest")
        for key, levels, used in zip(hierarchy.keys, hyper.levels, hierarchy.used, strict=True)
    ]
    ones = jnp.broadcast_to(hierarchy.centre_sd[:, None, None], deviation.shape)
    # What each number multiplies in every unit, in the row that it is of, and its prior precision.
    factors = jnp.stack([ones, deviation, *effects])
    numbers = jnp.concatenate([hyper.centre[None], scales])
    weight = jnp.concatenate(
        [jnp.ones_like(scales[:1]), jnp.broadcast_to(1 / hierarchy.scale[:, None] ** 2, scales.shape)]
    )

    def of_number(place: Array, carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        numbers, values, left = carried
        part, row = place // len(hierarchy.scale), place % len(hierarchy.scale)
        factor, precision = factors[part, row], summary.precision[row]
        own = jnp.sum(jnp.where(present, factor**2 * precision[row], 0), axis=0) + weight[part, row]
        pull = jnp.sum(jnp.where(present, factor * left[row], 0), axis=0) - weight[part, row] * numbers[part, row]
        change = pull / own + white[part, row] / jnp.sqrt(own)
        moved = factor * change
        return numbers.at[part, row].add(change), values.at[row].add(moved), left - precision * moved[None]

    left = _left(summary, shared.values)
    numbers, values, _ = jax.lax.fori_loop(
        0, numbers.shape[0] * numbers.shape[1], of_number, (numbers, shared.values, left)
    )
    spread = numbers[1:]
    turned = jnp.where(spread[1:] < 0, -1, 1)
    levels = tuple(ones * sign[None] for ones, sign in zip(hyper.levels, turned, strict=True))
    # Of a sum no more is left than its rounding, and that may be zero, which has neither a logarithm nor an inverse.
    size = jnp.maximum(jnp.abs(spread) / hierarchy.scale[:, None], jnp.finfo(spread.dtype).eps)
    coordinate = hierarchies.inverse_log_ramp(jnp.log(size))
    return Shared(values, hyper._replace(centre=numbers[0], spread=coordinate, levels=levels))


def _slide_labels(
    hierarchy: Hierarchy, shared: Shared, summary: LikelihoodSummary, white: Float[Array, "level row chain"]
) -> Shared:
    """Effects of each key's labels given the data and the units' deviations, which take the values along."""
    scales, values, left = hierarchies.spreads(hierarchy, shared.hyper), shared.values, _left(summary, shared.values)
    changed: list[Array] = []
    for k, key in enumerate(hierarchy.keys):
        scale, drawn, white = scales[1 + k] * hierarchy.used[k][:, None], white[: len(key)], white[len(key) :]

        def of_row(
            row: Array,
            carried: tuple[Array, Array, Array],
            key: Array = key,
            scale: Array = scale,
            drawn: Array = drawn,
        ) -> tuple[Array, Array, Array]:
            levels, values, left = carried
            factor, precision = scale[row], summary.precision[row]
            own = 1 + factor**2 * jnp.matmul(key, precision[row], precision="highest")
            pull = factor * jnp.matmul(key, left[row], precision="highest") - levels[:, row]
            change = pull / own + drawn[:, row] / jnp.sqrt(own)
            moved = jnp.matmul(key.T, factor * change, precision="highest")
            return levels.at[:, row].add(change), values.at[row].add(moved), left - precision * moved[None]

        carried = shared.hyper.levels[k], values, left
        levels, values, left = jax.lax.fori_loop(0, len(hierarchy.scale), of_row, carried)
        changed.append(levels)
    return Shared(values, shared.hyper._replace(levels=tuple(changed)))


def _left(summary: LikelihoodSummary, values: Float[Array, "row unit chain"]) -> Float[Array, "row unit chain"]:
    """What the data pull these coefficients by."""
    return summary.total - jnp.einsum("rsuc,suc->ruc", summary.precision, values, precision="highest")
