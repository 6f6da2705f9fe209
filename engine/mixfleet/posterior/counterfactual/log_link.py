"""What media bring where the model is of the KPI's logarithm, so that all that moves the KPI multiplies.

With m_c the log KPI of channel c, m their sum, b that of the baseline and s the noise, the expected KPI is the mean of
a log-normal, E = exp(b + m + s^2 / 2), draw by draw. Two questions have two answers:

- What would be missing without some media: E (1 - exp(-what they add to the logarithm)). Incremental KPI, ROI, marginal
  ROI and carry-over are this. Of several channels it does not add up, for each is told with the others there.
- How much of the KPI is whose: what all media together bring, E (1 - exp(-m)), in proportion to each m_c; and the rest,
  exp(b + s^2 / 2), the same way among the terms of the baseline beside its intercept. Contributions are this; they add
  up to the expected KPI. It is the share of Aumann and Shapley along the ray on which all media grow together.

Source: Aumann, Shapley (1974), Values of non-atomic games, for the shares.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.models.media import MediaTerm
from mixfleet.posterior.counterfactual.additive import Difference, by_week
from mixfleet.posterior.unit_series import UnitSeries

__all__ = [
    "MOST",
    "Logarithms",
    "by_channel",
    "differences",
    "logarithms",
    "missing",
    "missing_on_average",
    "raised",
    "shares",
    "usual_level",
]

MOST = 100 * float(np.log(10))
"""What media that never ran add to the log KPI at most, a factor of 1e100: a curve that no data bend grows past the
largest number, and its spread past the root of that."""


class Logarithms(NamedTuple):
    """One unit's parts of the log KPI, and the expected KPI."""

    media: Float[np.ndarray, "channel week draw"]
    baseline: Float[np.ndarray, "component week draw"]
    """The intercept first."""
    expected: Float[np.ndarray, "week draw"]
    """Mean KPI."""


def logarithms(series: UnitSeries, rows: Float[np.ndarray, "component column"], term: MediaTerm) -> Logarithms:
    """The parts of every week; `rows` says which columns make up which component of the baseline."""
    media = by_channel(series, series.media, term)
    baseline = np.einsum("kj,tj,jd->ktd", rows, series.design, series.coefficients, optimize=True)
    total = media.sum(axis=0) + baseline.sum(axis=0) + 0.5 * series.observation[0] ** 2
    return Logarithms(media, baseline, np.exp(total))


def by_channel(
    series: UnitSeries, media: Float[np.ndarray, "week channel"], term: MediaTerm
) -> Float[np.ndarray, "channel week draw"]:
    """What each channel adds to the log KPI week by week under these media."""
    with jax.enable_x64(True):
        return np.asarray(by_week(media, np.zeros_like(media), series.curves, term=term)[0])


def shares(parts: Logarithms, within: Float[np.ndarray, "week window"]) -> Float[np.ndarray, "window component draw"]:
    """KPI of each channel, then of each component of the baseline, in each window; adds up to the expected KPI."""
    whole = parts.media.sum(axis=0)
    without_media = parts.expected * np.exp(-whole)
    rest = parts.baseline[1:].sum(axis=0)
    media = parts.media * (without_media * _ratio(whole))
    level = without_media * np.exp(-rest)
    beside = parts.baseline[1:] * (level * _ratio(rest))
    return np.einsum("tw,ktd->wkd", within, np.concatenate([media, level[None], beside]), optimize=True)


def missing(parts: Logarithms, weights: Float[np.ndarray, "week weight"]) -> Float[np.ndarray, "weight channel draw"]:
    """What would not be there without each channel, under each weight of the weeks."""
    return np.einsum("tw,ctd->wcd", weights, -np.expm1(-parts.media) * parts.expected, optimize=True)


def missing_on_average(weighed: Float[np.ndarray, "channel draw"], whole: float) -> Float[np.ndarray, "channel draw"]:
    """What would be missing of a whole, were its log KPI by channel, of which these are weighed sums, alike by week."""
    return -whole * np.expm1(-weighed / whole) if whole > 0 else weighed


def raised(
    level: Float[np.ndarray, "... draw"], logarithm: Float[np.ndarray, "... draw"]
) -> Float[np.ndarray, "... draw"]:
    """What comes on top of a level to whose logarithm so much, or `MOST`, is added."""
    return level * np.expm1(np.minimum(logarithm, MOST))


def usual_level(
    series: UnitSeries, rows: Float[np.ndarray, "component column"], term: MediaTerm
) -> Float[np.ndarray, "channel draw"] | None:
    """Mean KPI of a week that counts, had each channel not been there: what its media multiply; None without a link."""
    if not series.log_link:
        return None
    parts = logarithms(series, rows, term)
    return np.mean((np.exp(-parts.media) * parts.expected)[:, series.counted], axis=1)


def differences(
    series: UnitSeries,
    parts: Logarithms,
    weights: Float[np.ndarray, "week weight"],
    index: Int[np.ndarray, " week"],
    count: int,
    paid: Bool[np.ndarray, " channel"],
    term: MediaTerm,
) -> tuple[Difference, Float[np.ndarray, "weight window draw"]]:
    """Each of `count` windows against the past without its media, as `additive.by_window` has them.

    `contribution` is what would be missing in the window's weeks without any media of the channel. Beside it, what
    would be missing without the window's media of any `paid` channel, which is less than the sum over them.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for number in range(count):
        inside = (index == number)[:, None]
        own = np.where(inside, series.media, 0.0)
        with jax.enable_x64(True):
            rest, _ = by_week(series.media - own, own, series.curves, term=term)
            _, along = by_week(series.media, own, series.curves, term=term)
        without = np.asarray(rest) - parts.media
        lost = -np.expm1(without) * parts.expected
        of_all = weights.T @ (-np.expm1(without[paid].sum(axis=0)) * parts.expected)
        columns = np.concatenate([weights, weights[:, :1] * inside], axis=1)
        sums = np.einsum("tw,ctd->wcd", columns, lost, optimize=True)
        slope = np.einsum("tw,ctd->wcd", weights, np.asarray(along) * parts.expected, optimize=True)
        found.append((missing(parts, weights[:, :1] * inside)[0], sums[:-1], slope, sums[-1], of_all))
    contribution, lost, slope, inner, of_all = (np.stack(values) for values in zip(*found, strict=True))
    difference = Difference(contribution, np.moveaxis(lost, 1, 0), np.moveaxis(slope, 1, 0), inner)
    return difference, np.moveaxis(of_all, 1, 0)


def _ratio(logarithm: Float[np.ndarray, "week draw"]) -> Float[np.ndarray, "week draw"]:
    """(exp(x) - 1) / x, which is one at zero."""
    safe = np.where(logarithm == 0, 1.0, logarithm)
    return np.where(logarithm == 0, 1.0, np.expm1(safe) / safe)
