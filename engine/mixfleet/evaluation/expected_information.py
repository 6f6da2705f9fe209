"""How well the weeks of a unit would tell what media bring: posterior standard deviations that the design lets expect.

From the Fisher information of the model with its baseline integrated out, at the middle of the prior's curves: columns
for what each channel brings and for how it moves with the parameters of its curve, noise and how long it lasts from a
ridge regression, the priors as they are. Nothing is sampled.

References:
    Chaloner, Verdinelli (1995), Bayesian experimental design: a review, doi:10.1214/ss/1177009939.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mixfleet.config import Model
from mixfleet.models.baseline.decomposition import decompose
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.media import Curves
from mixfleet.models.media.term import MediaTerm
from mixfleet.models.observation import is_autocorrelated, whitened
from mixfleet.models.priors.moments import prior_sample
from mixfleet.posterior.counterfactual import responses
from mixfleet.posterior.prior_draws import prior_contributions

__all__ = ["Expected", "expected_deviations"]

STEP = 0.5
"""Prior standard deviations, as quantiles of a standard normal, over which curves are differentiated."""

ROUNDS = 5
"""Of the ridge regression and its noise; it settles in three."""

LONGEST = 0.95
"""Largest correlation of one week's noise with the next one's that a regression's misses are taken to show."""


class Expected(NamedTuple):
    """Standard deviations of mean contributions, in shares of the KPI's scale."""

    channel: Float[np.ndarray, " channel"]
    prior: Float[np.ndarray, " channel"]
    total: float
    prior_total: float


class _Weeks(NamedTuple):
    """The fitted weeks, in each of which noise is independent of the others."""

    kpi: Float[np.ndarray, " week"]
    columns: Float[np.ndarray, "week column"]
    """Of channels, then of their curves."""
    basis: Float[np.ndarray, "week column"]
    """Orthonormal columns of the baseline."""
    variance: Float[np.ndarray, " column"]
    """Of the coefficients along the basis."""

    def weighed(self, columns: Float[np.ndarray, "week column"], noise: float) -> Float[np.ndarray, "week column"]:
        """Columns times the precision of the weeks, the baseline integrated out."""
        share = self.variance / (self.variance + noise)
        return (columns - self.basis @ (share[:, None] * (self.basis.T @ columns))) / noise

    def whitened(self, places: np.ndarray, last: float) -> "_Weeks":
        """Each week less what the fitted week before says of it, where noise lasts."""
        kpi, columns, basis = (whitened(each, last, places) for each in (self.kpi[:, None], self.columns, self.basis))
        basis, variance, _ = decompose(basis, np.sqrt(self.variance))
        return _Weeks(kpi[:, 0], columns, basis, variance)


def expected_deviations(member: PreparedUnit, term: MediaTerm, model: Model) -> Expected:
    """Posterior standard deviations that the design lets expect.

    Args:
        member: The unit.
        term: Form of each channel's response.
        model: Says whether noise lasts.
    """
    prior = prior_contributions(member, term) / member.scale.kpi
    active = np.flatnonzero(member.arrays["active"])
    sd, of_prior = np.zeros(len(prior)), prior.std(axis=1)
    own = prior[active]
    total = float(own.sum(axis=0).std())
    if not len(active) or not member.fitted.any():
        return Expected(of_prior, of_prior, total, total)
    value, slopes = _responses(member, term)
    weeks = len(member.fitted)
    columns = [value[:, active], *(slope[:, active] * np.median(own, axis=1) for slope in slopes)]
    given = _Weeks(
        kpi=member.arrays["kpi"][:weeks][member.fitted],
        columns=np.concatenate(columns, axis=1),
        basis=member.arrays["basis"][:weeks][member.fitted],
        variance=member.arrays["variance"],
    )
    covariance = _covariance(given, of_prior[active], np.flatnonzero(member.fitted), lasting=is_autocorrelated(model))
    # A prior of heavy tails is worth less than its variance says, but no data make anybody know less.
    sd[active] = np.minimum(np.sqrt(np.diag(covariance)), of_prior[active])
    return Expected(sd, of_prior, min(float(np.sqrt(covariance.sum())), total), total)


def _covariance(
    weeks: _Weeks, prior_sd: Float[np.ndarray, " channel"], places: np.ndarray, *, lasting: bool
) -> Float[np.ndarray, "channel channel"]:
    """Of mean contributions, curves and baseline integrated out."""
    noise, rest = _noise(weeks, prior_sd)
    if lasting:
        last = float(np.clip(rest[1:] @ rest[:-1] / (rest @ rest), -LONGEST, LONGEST))
        weeks = weeks.whitened(places, last)
        noise, _ = _noise(weeks, prior_sd)
    count = len(prior_sd)
    precision = weeks.columns.T @ weeks.weighed(weeks.columns, noise)
    precision += np.diag(np.concatenate([prior_sd**-2.0, np.ones(weeks.columns.shape[1] - count)]))
    return np.linalg.inv(precision)[:count, :count]


def _responses(
    member: PreparedUnit, term: MediaTerm
) -> tuple[Float[np.ndarray, "week channel"], list[Float[np.ndarray, "week channel"]]]:
    """Responses in the fitted weeks over their mean, and their change by each parameter per prior deviation of it."""
    levels = [NormalDist().cdf(step) for step in (0.0, STEP, -STEP)]
    quantiles = np.array(
        [
            [np.quantile(prior_sample(prior, i, c), levels) for c, prior in enumerate(row)]
            for i, row in enumerate(member.priors)
        ]
    ).reshape(len(member.priors), len(member.strength.distributions), len(levels))
    # In the middle, then each parameter in turn above and below it.
    draws = 1 + 2 * len(quantiles)
    shape = np.repeat(quantiles[:, :, :1], draws, axis=2)
    for i in range(len(quantiles)):
        shape[i, :, 1 + 2 * i : 3 + 2 * i] = quantiles[i, :, 1:]
    curves = Curves(shape, np.ones(shape.shape[1:]))
    found = responses(member.arrays["media"], curves, term=term)[:, : len(member.fitted)]
    mean = np.maximum(found[:, member.contribution_weeks].mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    value = (found / mean)[:, member.fitted]
    slopes = [(value[..., 1 + 2 * i] - value[..., 2 + 2 * i]).T / (2 * STEP) for i in range(len(quantiles))]
    return value[..., 0].T, slopes


def _noise(weeks: _Weeks, prior_sd: Float[np.ndarray, " channel"]) -> tuple[float, Float[np.ndarray, " week"]]:
    """Variance of the weeks around a ridge regression with the priors as its ridge, and what it misses of them."""
    columns = weeks.columns[:, : len(prior_sd)]
    noise = float(np.var(weeks.kpi)) + 1e-12
    rest = weeks.kpi
    for _ in range(ROUNDS):
        weighed = weeks.weighed(columns, noise)
        information = columns.T @ weighed
        precision = information + np.diag(prior_sd**-2.0)
        rest = weeks.kpi - columns @ np.linalg.solve(precision, weighed.T @ weeks.kpi)
        share = weeks.variance / (weeks.variance + noise)
        rest = rest - weeks.basis @ (share * (weeks.basis.T @ rest))
        used = share.sum() + np.trace(np.linalg.solve(precision, information))
        noise = float(rest @ rest + 1e-12) / max(len(rest) - used, 1.0)
    return noise, rest
