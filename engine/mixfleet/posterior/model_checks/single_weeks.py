"""Single weeks: whether one week of KPI or media, or a few, decide what the model says.

References:
    Giordano, Broderick (2023), The Bayesian infinitesimal jackknife for variance, arXiv:2305.06466.
    Cook (1977), Detection of influential observation in linear regression, doi:10.1080/00401706.1977.10489493.
    Belsley, Kuh, Welsch (1980), Regression Diagnostics, doi:10.1002/0471725153.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from mixfleet.errors import counted
from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import LEAST_LEFT, CheckedUnit
from mixfleet.posterior.model_checks.displacement import MISLEADING, displacement, moves_media, weeks_alone
from mixfleet.posterior.model_checks.left_out import week_errors
from mixfleet.posterior.statistics import quantile

__all__ = ["single_week_checks"]

OUTLIER, TYPO = 12.0, 25.0
"""Robust standard deviations of a week's miss that go unsaid, and that no event explains."""

SPIKE, SPIKE_TYPO = 4.0, 10.0
"""A channel's highest week, in multiples of its usual high weeks (95 % quantile of those with media)."""

MOVED, DECIDED = 2.0, 5.0
"""Posterior standard deviations by which a channel's contribution may move without any one week."""

ALONE = 0.5
"""Share of what a channel brings that may be one week's, beyond the largest share that a week has of its media."""


def single_week_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Outliers of the KPI and of media; weeks without which a channel would be another."""
    yield _kpi_outlier(unit)
    yield _media_spike(unit)
    yield _decisive(unit)


def _kpi_outlier(unit: CheckedUnit) -> ModelCheck:
    miss = unit.miss[unit.fitted]
    spread = quantile(np.abs(miss - quantile(miss, 0.5)), 0.5) / float(ndtri(0.75))
    if not spread > 0:
        return untested("kpi_outlier")
    distance = np.abs(miss) / spread
    place = int(np.argmax(distance))
    expected = -float(ndtri(FALSE_ALARMS / (2 * unit.weeks))) * (1 + 2 / np.sqrt(unit.weeks))
    threshold = max(expected, OUTLIER)
    week = np.flatnonzero(unit.fitted)[place]
    beyond = distance > threshold
    many = int(np.sum(beyond))
    others = f", and beyond {threshold:.1f} {counted(many - 1, 'other')}" if many > 1 else ""
    kpi, expected_kpi = unit.in_kpi(unit.kpi[week]), unit.in_kpi(unit.expected[week].mean())
    said = (
        f"the KPI of {unit.dates[week]} is {kpi:,.4g} where {expected_kpi:,.4g} is expected, "
        f"{distance[place]:.0f} standard deviations away{others}: correct it, or add a control for what happened"
    )
    far = np.zeros(len(unit.dates), bool)
    far[unit.fitted] = beyond
    harmless = many > 0 and not moves_media(unit, weeks_alone(far))
    day = str(unit.dates[week])
    return concluded("kpi_outlier", float(distance[place]), threshold, said, misfit=TYPO, about=day, harmless=harmless)


def _media_spike(unit: CheckedUnit) -> ModelCheck:
    worst, channel, week, usual = np.nan, 0, 0, np.nan
    for c in range(len(unit.channels)):
        media = unit.media[unit.fitted, c]
        place = int(np.argmax(media))
        others = np.delete(media, place)
        others = others[others > 0]
        if len(others) < 10:
            continue
        high = quantile(others, 0.95)
        if not worst >= media[place] / high:
            worst, channel, week, usual = float(media[place] / high), c, int(np.flatnonzero(unit.fitted)[place]), high
    if not np.isfinite(worst):
        return untested("media_spike")
    name = unit.channels[channel]
    said = (
        f"{name} has {unit.media[week, channel]:,.4g} on {unit.dates[week]}, {worst:.1f} times its usual high weeks "
        f"({usual:,.4g}): its curve rests on that week; correct it if it is an error"
    )
    harmless = worst >= SPIKE and not _spike_moves_media(unit, channel, week)
    return concluded("media_spike", worst, SPIKE, said, misfit=SPIKE_TYPO, about=name, harmless=harmless)


def _spike_moves_media(unit: CheckedUnit, channel: int, week: int) -> bool:
    """Whether without the week a channel would bring more or less, or without its money return more or less."""
    moved = np.abs(displacement(unit, weeks_alone(np.arange(len(unit.dates)) == week)))
    media = unit.media[unit.fitted, channel]
    money = (unit.media[week, channel] - np.median(media)) / media.sum()
    own = unit.contribution[channel]
    moved[channel] += money * own.mean() / own.std() if own.std() > 0 else 0.0
    return bool(np.any(moved >= MISLEADING))


def _beyond_media(unit: CheckedUnit, channels: Int[np.ndarray, " channel"]) -> Float[np.ndarray, " channel"]:
    """What each channel brings in the week in which it brings most, beyond the largest share of a week of its media."""
    media, response = (np.maximum(values[unit.fitted][:, channels], 0.0) for values in (unit.media, unit.response))
    share = media.max(axis=0) / np.maximum(media.sum(axis=0), np.finfo(float).tiny)
    return response.max(axis=0) - share * response.sum(axis=0)


def _decisive(unit: CheckedUnit) -> ModelCheck:
    """How far a channel's contribution would move without one week, were the posterior normal.

    By how it goes with what the week misses of the others' forecast, over the share of that miss's variance which is
    not the posterior's own: a week that the model follows wherever it lies decides all the same. To weigh the draws
    anew would tell of weeks that hardly matter: without one that decides, the posterior lies where there are no draws.
    A week in which a channel brings most of all that it brings, though not for most of its media, is one that its curve
    was bent to: nothing else tells what it brings, and so no draw what it would without.
    """
    error, sd = week_errors(unit)
    miss = (error / sd)[unit.fitted]
    ran = np.flatnonzero(unit.contribution.std(axis=1) > 0)
    if not len(ran) or not np.ptp(miss, axis=1).max() > 0:
        return untested("decisive_week")
    own = unit.contribution[ran]
    mean, sd = own.mean(axis=1), own.std(axis=1)
    away = (own - mean[:, None]) / sd[:, None]
    expected = miss.mean(axis=1)
    left = np.maximum(1 - miss.var(axis=1), LEAST_LEFT)
    # [week, channel]
    moved = ((miss - expected[:, None]) @ away.T / away.shape[1]) * (expected / left)[:, None]
    week, c = np.unravel_index(int(np.argmax(np.abs(moved))), moved.shape)
    change, name = float(moved[week, c]), unit.channels[ran[c]]
    days, brings = unit.dates[unit.fitted], unit.response[unit.fitted][:, ran]
    rests = _beyond_media(unit, ran) / sd
    alone = int(np.argmax(np.where(rests >= ALONE * mean / sd, rests, -np.inf)))
    if rests[alone] >= max(ALONE * mean[alone] / sd[alone], abs(change)):
        name, most = unit.channels[ran[alone]], int(np.argmax(brings[:, alone]))
        said = (
            f"{brings[most, alone] / brings[:, alone].sum():.0%} of what {name} brings it brings in the week of "
            f"{days[most]}, which has no such share of its media: check the KPI of that week"
        )
        about = f"{name}, {days[most]}"
        return concluded("decisive_week", float(rests[alone]), MOVED, said, misfit=DECIDED, about=about)
    day = days[week]
    said = (
        f"without the week of {day} {name} would bring {mean[c] + change * sd[c]:,.4g} rather than {mean[c]:,.4g} "
        f"(about {abs(change):.1f} standard deviations): check that week"
    )
    return concluded("decisive_week", abs(change), MOVED, said, misfit=DECIDED, about=f"{name}, {day}")
