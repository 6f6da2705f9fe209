"""Levels: how much of the KPI is explained, whether sales without media would be below zero, and what the prior said.

References:
    Gelman, Goodrich, Gabry, Vehtari (2019), R-squared for Bayesian regression models,
    doi:10.1080/00031305.2018.1549100.
    Burman, Chow, Nolan (1994), A cross-validatory method for dependent data, doi:10.1093/biomet/81.2.351.
    Evans, Moshonov (2006), Checking for prior-data conflict, doi:10.1214/06-BA129.
"""

from collections.abc import Iterator

import numpy as np

from mixfleet.posterior.model_checks.check import ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.left_out import regression_misses
from mixfleet.posterior.statistics import quantile

__all__ = ["level_checks"]

LITTLE, NOTHING = 0.8, 0.9
"""Share of the KPI's variance that stays unexplained in weeks that are left out."""

AROUND, CARRIED = 4, 0.5
"""Most weeks on each side that are left out with a week, and the correlation of their noise with its above which they
are."""

MAYBE_NEGATIVE, NEGATIVE = 0.2, 0.5
"""Probability that the KPI without media is below zero."""

BELOW_ZERO = 0.05
"""Share of weeks with a KPI below zero from which on a baseline may be so too."""

TOO_MUCH = 0.5
"""Prior probability that media bring more than the whole KPI."""

PRIOR_SDS = 3.0
"""Prior standard deviations, on the log scale, between what a channel brings by the data and by its prior."""


def level_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Explained share, baseline below zero, prior beyond belief, prior against data."""
    yield _unexplained(unit)
    yield _negative_baseline(unit)
    yield _prior(unit)
    yield _prior_conflict(unit)


def _unexplained(unit: CheckedUnit) -> ModelCheck:
    """Squares of what media and the baseline miss of weeks that are left out, over those of what the mean misses.

    Noise that lasts tells a week by its neighbours, and coefficients that follow it seem to explain what it does: so
    neighbours whose noise is mostly the week's are left out with it. Above one the regression foretells such a week
    worse than the KPI's mean does. Media are at their posterior mean given all weeks; nothing is left out where the
    baseline's coefficients are drawn too.
    """
    kpi, around = unit.kpi[unit.fitted], 0
    if unit.marginal is None:
        miss = np.mean(kpi[:, None] - unit.expected[unit.fitted], axis=1)
    else:
        if unit.marginal.lasting is not None:
            last = abs(unit.marginal.lasting.correlation.mean())
            around = int(np.sum(last ** np.arange(1, AROUND + 1) > CARRIED))
        miss = regression_misses(unit.marginal, unit.fitted, around) * unit.kpi_scale
    spread = float(np.sum((kpi - kpi.mean()) ** 2)) * (unit.weeks / max(unit.weeks - 1, 1)) ** 2
    share = float(np.sum(miss**2)) / spread if spread > 0 else np.nan
    said = (
        f"the model explains {max(1 - share, 0):.0%} of how the KPI moves: what it says of media is little more than "
        "its prior; look for a wrong week, a missing control, or another KPI"
    )
    return concluded("unexplained", share, LITTLE, said, misfit=NOTHING)


def _negative_baseline(unit: CheckedUnit) -> ModelCheck:
    baseline = unit.kpi[unit.fitted].sum() - unit.contribution.sum(axis=0)
    share = float(np.mean(baseline < 0))
    if unit.log_link or np.mean(unit.kpi[unit.fitted] < 0) > BELOW_ZERO:
        return untested("negative_baseline")
    said = (
        f"sales without media would be below zero with probability {share:.0%}: media get the credit of something "
        "else; add controls, tighten priors of media, or run a lift test"
    )
    return concluded("negative_baseline", share, MAYBE_NEGATIVE, said, misfit=NEGATIVE)


def _prior(unit: CheckedUnit) -> ModelCheck:
    total = float(unit.kpi[unit.fitted].sum())
    if unit.log_link or not total > 0 or not unit.prior_contribution.size:
        return untested("prior_beyond_kpi")
    share = float(np.mean(unit.prior_contribution.sum(axis=0) > total))
    narrower = "a smaller prior.parameters.effect.sd"
    remedy = f"use prior.on=media_share, or {narrower}"
    if unit.prior_on == "media_share":
        remedy = f"give {narrower}, and where the KPI is a small difference fit what it is the difference of"
    said = f"before any data the prior says with probability {share:.0%} that media bring more than the whole KPI"
    return concluded("prior_beyond_kpi", share, TOO_MUCH, f"{said}: {remedy}")


def _prior_conflict(unit: CheckedUnit) -> ModelCheck:
    prior, own = unit.prior_contribution, unit.contribution
    told = np.flatnonzero(np.all(prior > 0, axis=1) & np.all(own > 0, axis=1) & (np.ptp(prior, axis=1) > 0))
    if not len(told):
        return concluded("prior_conflict", np.nan, PRIOR_SDS, "")
    log_prior, log_own = np.log(prior[told]), np.log(own[told])
    away = (log_own.mean(axis=1) - log_prior.mean(axis=1)) / np.hypot(log_prior.std(axis=1), log_own.std(axis=1))
    # Too low is no conflict: priors of effects are close to zero.
    worst, c = float(np.max(away)), int(told[np.argmax(away)])
    times = quantile(own[c], 0.5) / quantile(prior[c], 0.5)
    said = (
        f"{unit.channels[c]} brings {times:,.3g} times what its prior expected "
        f"({worst:.1f} standard deviations): one of the two is wrong; check the channel's data, or its prior"
    )
    return concluded("prior_conflict", worst, PRIOR_SDS, said, about=unit.channels[c])
