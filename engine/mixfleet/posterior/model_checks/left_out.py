"""Weeks left out: what all other weeks say of a week, given each draw, with the baseline integrated out.

Given a draw the fitted weeks are jointly normal with covariance C = s2 R + B B', R the noise's correlation and B the
baseline's basis times its prior standard deviations. y being the residual, a week given all others misses its mean by
(C^-1 y)_i / (C^-1)_ii, with variance 1 / (C^-1)_ii. With T = R^-1, which has three diagonals, and A = T B

    C^-1 = (T - A (s2 I + B'A)^-1 A') / s2

Several weeks b left out together miss theirs by ((C^-1)_bb)^-1 (C^-1 y)_b. The baseline's coefficients without them are
those of a y in which they are as the others have them, for such weeks say nothing new.

References:
    Burman, Chow, Nolan (1994), A cross-validatory method for dependent data, doi:10.1093/biomet/81.2.351.
    Sundararajan, Keerthi (2001), Predictive approaches for choosing hyperparameters in Gaussian processes,
    doi:10.1162/08997660151134343.
    Rasmussen, Williams (2006), Gaussian Processes for Machine Learning, section 5.4.2.
    Buerkner, Gabry, Vehtari (2021), Efficient leave-one-out cross-validation for Bayesian non-factorized normal and
    Student-t models, doi:10.1007/s00180-020-01045-4.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.models.observation import carried_shares
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Lasting, Marginal

__all__ = ["LeftOut", "left_out", "regression_misses", "week_errors", "week_log_density"]


class LeftOut(NamedTuple):
    """What the other weeks say of each week."""

    error: Float[np.ndarray, "week draw"]
    """KPI less its mean given the others, in the model's unit; zero where not fitted."""
    sd: Float[np.ndarray, "week draw"]


def left_out(marginal: Marginal) -> LeftOut:
    """Each week given all others and a draw's parameters: exact, whether noise is autocorrelated or not."""
    if marginal.lasting is not None:
        return _left_out_of_lasting(marginal.lasting, marginal.noise)
    noise = marginal.noise[None] ** 2
    # [column, draw]: what is left of each direction of the baseline.
    kept = marginal.variance[:, None] / (marginal.variance[:, None] + noise)
    precision = (1 - marginal.basis**2 @ kept) / noise
    weighed = (marginal.residual - marginal.basis @ (kept * (marginal.basis.T @ marginal.residual))) / noise
    return LeftOut(weighed / precision, 1 / np.sqrt(precision))


def regression_misses(
    marginal: Marginal, fitted: Bool[np.ndarray, " week"], around: int
) -> Float[np.ndarray, " fitted"]:
    """What media and the baseline's columns miss of each week, with coefficients that weeks further away tell.

    Noise of weeks nearby tells nothing then, neither by itself nor by a coefficient that follows it. At the means of
    the noise and of its correlation: they decide little here.

    Args:
        marginal: The unit's density, in whose unit the misses are.
        fitted: Weeks of the likelihood.
        around: How many of them on each side are left out with each.
    """
    known, places = marginal.lasting or marginal, np.flatnonzero(fitted)
    last = np.zeros(1) if marginal.lasting is None else marginal.lasting.correlation.mean(keepdims=True)
    own, beside = _inverse_correlation(last, places)
    residual, root = known.residual[places].mean(axis=1), known.basis[places] * np.sqrt(known.variance)
    weighed, weeks = _weighed(own, beside, root), len(places)
    inner = root.T @ weighed + marginal.noise.mean() ** 2 * np.eye(root.shape[1])
    coefficients = np.linalg.solve(inner, weighed.T)
    precision, hat = _weighed(own, beside, np.eye(weeks)) - weighed @ coefficients, root @ coefficients
    near = np.arange(weeks)[:, None] + np.arange(-around, around + 1)
    there = (near >= 0) & (near < weeks)
    near = np.where(there, near, 0)
    both = there[:, :, None] & there[:, None]
    within = np.where(both, precision[near[:, :, None], near[:, None]], np.eye(2 * around + 1))
    error = np.linalg.solve(within, np.where(there, (precision @ residual)[near], 0.0)[..., None])[..., 0]
    return residual - hat @ residual + np.sum(np.take_along_axis(hat, near, axis=1) * error, axis=1)


def week_errors(unit: CheckedUnit) -> LeftOut:
    """Each week given the draw and, where it says anything of them, the other weeks; in one unit for all draws."""
    if unit.marginal is not None:
        return left_out(unit.marginal)
    # Given the noise of the draw too, which is what the residual is measured in.
    if unit.lasting is None:
        return LeftOut(unit.residual * unit.noise, np.broadcast_to(unit.noise, unit.residual.shape))
    error, sd = _left_out_of_lasting(unit.lasting, np.ones_like(unit.noise))
    return LeftOut(error * unit.noise, sd * unit.noise)


def week_log_density(unit: CheckedUnit) -> Float[np.ndarray, "week draw"]:
    """Log density of `week_errors`, up to a constant."""
    error, sd = week_errors(unit)
    return -0.5 * (error / sd) ** 2 - np.log(sd)


def _left_out_of_lasting(lasting: Lasting, noise: Float[np.ndarray, " draw"]) -> LeftOut:
    places = np.flatnonzero(lasting.fitted)
    own, beside = _inverse_correlation(lasting.correlation, places)
    residual, root = lasting.residual[places], lasting.basis[places] * np.sqrt(lasting.variance)
    draws, columns = len(noise), root.shape[1]
    # Products of the basis' rows, of a week's with itself and with that one or two weeks later: all that depends on
    # draws is then a sum of these, with nothing that has a place for each draw, column and week.
    pairs = np.triu_indices(columns)
    products = [_both_ways(root, lag, pairs) for lag in range(3)]
    inner = np.empty((draws, columns, columns))
    inner[:, pairs[1], pairs[0]] = inner[:, pairs[0], pairs[1]] = own.T @ products[0] + 2 * (beside.T @ products[1])
    inverse = np.linalg.inv(inner + noise[:, None, None] ** 2 * np.eye(columns))
    # b'M b of such rows, by week and draw, M being the inverse: of both ways round each pair counts twice.
    twice = (inverse[:, pairs[0], pairs[1]] * np.where(pairs[0] == pairs[1], 1.0, 2.0)).T
    same, next_one, over_next = (own_products @ twice for own_products in products)
    taken = own**2 * same
    taken[:-1] += beside * (beside * same[1:] + 2 * own[:-1] * next_one)
    taken[1:] += beside * (beside * same[:-1] + 2 * own[1:] * next_one)
    taken[1:-1] += 2 * beside[1:] * beside[:-1] * over_next
    pull = _weighed(own, beside, residual)
    pulled = pull - _weighed(own, beside, root @ np.einsum("dij,jd->id", inverse, root.T @ pull))
    precision = own - taken
    error, sd = np.zeros_like(lasting.residual), np.ones_like(lasting.residual)
    error[places], sd[places] = pulled / precision, noise / np.sqrt(precision)
    return LeftOut(error, sd)


def _both_ways(
    rows: Float[np.ndarray, "week column"], lag: int, pairs: tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]
) -> Float[np.ndarray, "both pair"]:
    """Products of these pairs of columns of rows so many weeks apart, each the mean of both ways round."""
    one, other = pairs
    before, after = rows[: max(len(rows) - lag, 0)], rows[lag:]
    return 0.5 * (before[:, one] * after[:, other] + before[:, other] * after[:, one])


def _weighed(
    own: Float[np.ndarray, "week draw"], beside: Float[np.ndarray, "later draw"], values: Float[np.ndarray, "week draw"]
) -> Float[np.ndarray, "week draw"]:
    """T times the values."""
    found = own * values
    found[1:] += beside * values[:-1]
    found[:-1] += beside * values[1:]
    return found


def _inverse_correlation(
    correlation: Float[np.ndarray, " draw"], places: Int[np.ndarray, " week"]
) -> tuple[Float[np.ndarray, "week draw"], Float[np.ndarray, "later draw"]]:
    """R^-1 of weeks at such places: its diagonal, and each week's element with the fitted week after."""
    share = carried_shares(correlation, places)
    new = 1 / (1 - share**2)
    own = np.concatenate([np.ones((1, len(correlation))), new])
    own[:-1] += share**2 * new
    return own, -share * new
