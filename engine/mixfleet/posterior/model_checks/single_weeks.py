"""Single weeks: whether one week of KPI or media, or a few, decide what the model says.

References:
    Vehtari, Gelman, Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC,
    arXiv:1507.04544.
    Belsley, Kuh, Welsch (1980), Regression Diagnostics, doi:10.1002/0471725153.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from scipy.special import ndtri

from mixfleet.errors import counted
from mixfleet.posterior.importance import BAD_TAIL, pareto_smoothed
from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.left_out import week_log_density

__all__ = ["single_week_checks"]

OUTLIER, TYPO = 12.0, 25.0
"""Robust standard deviations of a week's miss that go unsaid, and that no event explains."""

SPIKE, SPIKE_TYPO = 4.0, 10.0
"""A channel's highest week, in multiples of its usual high weeks (95 % quantile of those with media)."""

MOVED, DECIDED = 1.5, 3.0
"""Posterior standard deviations by which a channel's contribution may move without any one week."""

LOOKED_AT = 5
"""Weeks that are left out: those with the most to say."""


def single_week_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Outliers of the KPI and of media; weeks without which a channel would be another."""
    yield _kpi_outlier(unit)
    yield _media_spike(unit)
    yield _decisive(unit)


def _kpi_outlier(unit: CheckedUnit) -> ModelCheck:
    miss = unit.miss[unit.fitted]
    spread = float(np.median(np.abs(miss - np.median(miss)))) / float(ndtri(0.75))
    if not spread > 0:
        return untested("kpi_outlier")
    distance = np.abs(miss) / spread
    place = int(np.argmax(distance))
    expected = -float(ndtri(FALSE_ALARMS / (2 * unit.weeks))) * (1 + 2 / np.sqrt(unit.weeks))
    threshold = max(expected, OUTLIER)
    week = np.flatnonzero(unit.fitted)[place]
    many = int(np.sum(distance > threshold))
    others = f", and beyond {threshold:.1f} {counted(many - 1, 'other')}" if many > 1 else ""
    kpi, expected_kpi = unit.in_kpi(unit.kpi[week]), unit.in_kpi(unit.expected[week].mean())
    said = (
        f"the KPI of {unit.dates[week]} is {kpi:,.4g} where {expected_kpi:,.4g} is expected, "
        f"{distance[place]:.0f} standard deviations away{others}: correct it, or add a control for what happened"
    )
    day = str(unit.dates[week])
    return concluded("kpi_outlier", float(distance[place]), threshold, said, misfit=TYPO, about=day)


def _media_spike(unit: CheckedUnit) -> ModelCheck:
    worst, about, said = np.nan, "", ""
    for c, name in enumerate(unit.channels):
        media = unit.media[unit.fitted, c]
        place = int(np.argmax(media))
        others = np.delete(media, place)
        others = others[others > 0]
        if len(others) < 10:
            continue
        usual = float(np.quantile(others, 0.95))
        if not worst >= media[place] / usual:
            worst, about = float(media[place] / usual), name
            day = unit.dates[np.flatnonzero(unit.fitted)[place]]
            said = (
                f"{name} has {media[place]:,.4g} on {day}, {worst:.1f} times its usual high weeks ({usual:,.4g}): "
                "its curve rests on that week; correct it if it is an error"
            )
    return concluded("media_spike", worst, SPIKE, said, misfit=SPIKE_TYPO, about=about)


def _decisive(unit: CheckedUnit) -> ModelCheck:
    """How far a channel's contribution moves without one week, by weighing the draws anew."""
    log_density = week_log_density(unit)
    spread = np.where(unit.fitted, log_density.std(axis=1), -1.0)
    ran = np.flatnonzero(unit.contribution.std(axis=1) > 0)
    if not len(ran) or not spread.max() > 0:
        return untested("decisive_week")
    weeks: Int[np.ndarray, " looked"] = np.argsort(-spread, kind="stable")[:LOOKED_AT]
    own = unit.contribution[ran]
    mean, sd = own.mean(axis=1), own.std(axis=1)
    moved, shapes = np.zeros((len(weeks), len(ran))), []
    for i, week in enumerate(weeks):
        weight, shape = pareto_smoothed(-log_density[week])
        moved[i] = (own @ weight - mean) / sd
        shapes.append(shape)
    i, c = np.unravel_index(int(np.argmax(np.abs(moved))), moved.shape)
    statistic, name, day = float(np.abs(moved[i, c])), unit.channels[ran[c]], unit.dates[weeks[i]]
    about = "about " if shapes[i] > BAD_TAIL else ""
    said = (
        f"without the week of {day} {name} would bring {mean[c] + moved[i, c] * sd[c]:,.4g} rather than {mean[c]:,.4g} "
        f"({about}{statistic:.1f} standard deviations): check that week"
    )
    return concluded("decisive_week", statistic, MOVED, said, misfit=DECIDED, about=f"{name}, {day}")
