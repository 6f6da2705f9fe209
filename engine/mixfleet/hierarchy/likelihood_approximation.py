"""What each unit's own data say of its pooled parameters, roughly, as a Gaussian for each.

At first from a Laplace approximation, then from draws: the slope of the log-likelihood's gradient in the parameter over
the posterior, which is the precision of the Gaussian nearest to the likelihood there. The Laplace approximation is good
where the mode is; of a ridge or a saddle it says nothing, draws do.

On a ridge, where other parameters make up for a parameter, that precision is small, and the unit would be carried off
its ridge with the hyperparameters: one such unit of 300 held the steps of all. So a site is no less precise than a
share of what the gradient tells at one place.

References:
    Opper and Archambeau (2009), The variational Gaussian approximation revisited, doi:10.1162/neco.2008.08-07-592.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.hierarchy.reparameterization import Pool, Sites, log_curve, pooled_rows

__all__ = ["pulls", "sites_of_draws", "sites_of_mode"]

WEAKEST = 1e-3
"""Least precision of a site, in precisions of the prior."""

STIFF = 0.1
"""A site's precision at least, in mean squares of the log-likelihood's gradient. With more, units that follow their
hyperparameters well are held back too: of 300 crossed units the slowest hyperparameter had 69, 61 and 25 effective
draws of 2,048 with 0.05, 0.25 and 1, and 33 without."""

FARTHEST = 4.0
"""A site's mean lies at most so many standard deviations from the prior's."""


def sites_of_mode(
    pool: Pool,
    tile_hyper: Float[np.ndarray, "row coordinate unit"],
    level: Float[np.ndarray, "channel unit"],
    mode: Float[np.ndarray, "coordinate unit"],
    covariance: Float[np.ndarray, "unit coordinate coordinate"],
) -> tuple[Sites, Float[np.ndarray, "unit coordinate coordinate"]]:
    """Sites from a Laplace approximation under the units' broad priors, and its covariance in the sites' coordinates.

    Args:
        pool: Structure.
        tile_hyper: Prior data of each coordinate.
        level: Typical media of an active week.
        mode: Where each unit's density is highest.
        covariance: Its approximate covariance there.
    """
    prior_mean, prior_sd = (pooled_rows(pool, tile_hyper[i]).astype(float) for i in (0, 1))
    slope, curve = _linearised(pool, tile_hyper, level, mode)
    turn = np.tile(np.eye(len(mode)), (mode.shape[1], 1, 1))
    seen = pooled_rows(pool, mode).astype(float)
    origin = seen.copy()
    effect = slice(pool.rows - pool.structure.channels, pool.rows)
    mean_of_prior, variance_of_prior = _prior_of_sites(pool, prior_mean, prior_sd, origin, slope, curve)
    if pool.curved:
        first = pool.structure.layout.effect.first
        for _, rows, own in pool.slices()[:-1]:
            for c in range(pool.structure.channels):
                turn[:, first + c, own.start + c] = slope[rows][c]
        seen[effect] += curve
    turned = turn @ covariance @ np.swapaxes(turn, 1, 2)
    variance = pooled_rows(pool, np.einsum("uii->iu", turned))
    floor = WEAKEST / variance_of_prior
    precision = np.maximum(1 / variance - 1 / variance_of_prior, floor)
    mean = (seen / variance - mean_of_prior / variance_of_prior) / precision
    if pool.curved:
        told = 1 / (prior_sd[effect] ** 2 + 1 / precision[effect])
        about = mean[effect] - prior_mean[effect] - curve
        for _, rows, _ in pool.slices()[:-1]:
            # What the effect's site tells of the curve is not to be counted twice.
            also = slope[rows] ** 2 * told
            precision[rows] = np.maximum(1 / variance[rows] - 1 / prior_sd[rows] ** 2 - also, floor[rows])
            total = seen[rows] / variance[rows] - prior_mean[rows] / prior_sd[rows] ** 2
            mean[rows] = (total - slope[rows] * told * (about + slope[rows] * seen[rows])) / precision[rows]
    mean = _near(mean, mean_of_prior, variance_of_prior)
    whiten = np.ones_like(mode, float)
    for _, rows, own in pool.slices():
        whiten[own] = 1 / np.sqrt(variance[rows])
    rounded = turned * whiten.T[:, :, None] * whiten.T[:, None, :]
    return _sites(pool, mean, precision, origin, slope, curve, level), rounded


def pulls(
    pool: Pool,
    hyper_rows: Float[Array, "row coordinate unit"],
    level: Float[Array, "channel unit"],
    position: Float[Array, "coordinate unit chain"],
    gradient: Float[Array, "coordinate unit chain"],
) -> tuple[Float[Array, "row unit chain"], Float[Array, "row unit chain"]]:
    """What sites are on at a position, and the log-likelihood's gradient in it.

    Args:
        pool: Structure.
        hyper_rows: Prior data of each sampled coordinate, those of pooled ones a normal's mean and sd.
        level: Typical media of an active week.
        position: Of the units.
        gradient: Of their own density, that prior included.
    """
    prior_mean, prior_sd = (pooled_rows(pool, hyper_rows[i])[..., None] for i in (0, 1))
    values = pooled_rows(pool, position)
    pull = pooled_rows(pool, gradient) + (values - prior_mean) / prior_sd**2
    if pool.curved:
        effect = slice(pool.rows - pool.structure.channels, pool.rows)
        curve, back = jax.vjp(lambda position: log_curve(pool, hyper_rows, level, position), position)
        values = values.at[effect].add(curve)
        # With the contribution held, so that what it says of the curve is left to its own site.
        pull = pull - pooled_rows(pool, back(pull[effect])[0])
    return values, pull


def sites_of_draws(
    pool: Pool,
    tile_hyper: Float[np.ndarray, "row coordinate unit"],
    level: Float[np.ndarray, "channel unit"],
    mean_position: Float[np.ndarray, "coordinate unit"],
    values: Float[np.ndarray, "draw row unit chain"],
    pull: Float[np.ndarray, "draw row unit chain"],
) -> Sites:
    """Sites from draws of the group's posterior.

    Args:
        pool: Structure.
        tile_hyper: Prior data of each coordinate.
        level: Typical media of an active week.
        mean_position: Mean of the units' positions.
        values: From `pulls`, of every draw.
        pull: Likewise.
    """
    prior_mean, prior_sd = (pooled_rows(pool, tile_hyper[i]).astype(float) for i in (0, 1))
    slope, curve = _linearised(pool, tile_hyper, level, mean_position)
    origin = pooled_rows(pool, mean_position).astype(float)
    prior_mean, prior_variance = _prior_of_sites(pool, prior_mean, prior_sd, origin, slope, curve)
    over = (0, 3)
    mean, mean_pull = values.mean(over), pull.mean(over)
    away = values - mean[:, :, None]
    variance = np.maximum((away**2).mean(over), np.finfo(float).tiny)
    precision = np.maximum(-(away * pull).mean(over) / variance, WEAKEST / prior_variance)
    precision = np.maximum(precision, STIFF * (pull**2).mean(over))
    mean = _near(mean + mean_pull / precision, prior_mean, prior_variance)
    return _sites(pool, mean, precision, origin, slope, curve, level)


def _prior_of_sites(
    pool: Pool,
    prior_mean: Float[np.ndarray, "row unit"],
    prior_sd: Float[np.ndarray, "row unit"],
    origin: Float[np.ndarray, "row unit"],
    slope: Float[np.ndarray, "row unit"],
    curve: Float[np.ndarray, "channel unit"],
) -> tuple[Float[np.ndarray, "row unit"], Float[np.ndarray, "row unit"]]:
    """Mean and variance, under the broad priors, of what sites are on."""
    mean, variance = prior_mean.copy(), prior_sd**2
    if pool.curved:
        effect = slice(pool.rows - pool.structure.channels, pool.rows)
        for _, rows, _ in pool.slices()[:-1]:
            mean[effect] += slope[rows] * (prior_mean[rows] - origin[rows])
            variance[effect] += slope[rows] ** 2 * prior_sd[rows] ** 2
        mean[effect] += curve
    return mean, variance


def _near(
    mean: Float[np.ndarray, "row unit"],
    prior_mean: Float[np.ndarray, "row unit"],
    prior_variance: Float[np.ndarray, "row unit"],
) -> Float[np.ndarray, "row unit"]:
    """The mean, or the nearest one that is not too far from the prior's."""
    bound = FARTHEST * np.sqrt(prior_variance)
    return np.clip(mean, prior_mean - bound, prior_mean + bound)


def _sites(pool: Pool, *values: Float[np.ndarray, "_ unit"]) -> Sites:
    """Sites in the type that the group is sampled in."""
    known: list[Any] = [np.asarray(v, pool.structure.dtype) for v in values]
    return Sites(*known)


def _linearised(
    pool: Pool,
    hyper_rows: Float[np.ndarray, "row coordinate unit"],
    level: Float[np.ndarray, "channel unit"],
    mode: Float[np.ndarray, "coordinate unit"],
) -> tuple[Float[np.ndarray, "row unit"], Float[np.ndarray, "channel unit"]]:
    """Slope of the log curve in each pooled row's parameter at the mode, and the log curve there; zero without one."""
    slope = np.zeros((pool.rows, mode.shape[1]))
    if not pool.curved:
        return slope, np.zeros(level.shape)
    at = jnp.asarray(mode)[..., None]

    def curve(position: Array) -> Array:
        return log_curve(pool, jnp.asarray(hyper_rows), jnp.asarray(level), position)

    layout = pool.structure.layout
    saturations = {name for form in layout.term.forms for name in form.saturation_parameters}
    for j, rows, own in pool.slices():
        if j < len(layout.shapes) and layout.shapes[j].parameter in saturations:
            along = jnp.zeros_like(at).at[own].set(1)
            slope[rows] = np.asarray(jax.jvp(curve, (at,), (along,))[1])[..., 0]
    return slope, np.asarray(curve(at), float)[..., 0]
