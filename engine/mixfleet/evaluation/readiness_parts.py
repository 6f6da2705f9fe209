"""The parts of a unit's readiness: what of its table makes media hard to tell."""

import numpy as np
from jaxtyping import Float

from mixfleet.models.batch import PreparedUnit

__all__ = ["PARTS", "score_parts"]

PARTS = ("length", "variation", "overlap", "breaks", "calendar", "outliers")

PER_NUMBER = 4.0
"""Weeks per number of the model - coefficients, effects, curves - that make a full mark for length."""

SPREAD = 0.5
"""Coefficient of variation of spend that makes a full mark for variation."""

FAR = 5.0
"""Robust standard deviations from its neighbours' median beyond which a week's KPI is an outlier."""

NEIGHBOURS = 9
SHORTEST = 8
"""Weeks of a stable period at least."""


def score_parts(member: PreparedUnit) -> dict[str, float]:
    """Marks from just above 0, for nothing, to 1, by part.

    length: weeks in the likelihood against the numbers of the model. variation: the median channel's coefficient of
    variation. overlap: the median channel's variance that no other channel and no column of the baseline explains.
    breaks: share of the weeks in the longest period without a break of the KPI's level. calendar: share of the weeks
    up to the last one fitted that enter the likelihood or the carry-over before it. outliers: one less five times the
    share of weeks far from their neighbours.
    """
    fitted = member.fitted
    active = member.arrays["active"] > 0
    if not fitted.any() or not active.any():
        return dict.fromkeys(PARTS, 0.01)
    weeks = len(fitted)
    media = member.arrays["media"][:weeks][fitted][:, active]
    kpi, basis = member.arrays["kpi"][:weeks][fitted], member.arrays["basis"][:weeks][fitted]
    numbers = member.arrays["variance"].astype(bool).sum() + active.sum() * (1 + len(member.priors))
    first, last = np.flatnonzero(fitted)[[0, -1]]
    marks = {
        "length": len(kpi) / (PER_NUMBER * numbers),
        "variation": float(np.median(media.std(axis=0) / np.maximum(media.mean(axis=0), 1e-12))) / SPREAD,
        "overlap": float(np.median(_unexplained(media, basis))),
        "breaks": _longest_period(kpi - basis @ (basis.T @ kpi)) / len(kpi),
        "calendar": fitted.sum() / (last + 1 - first),
        "outliers": 1.0 - 5.0 * _outliers(kpi),
    }
    return {name: float(np.clip(marks[name], 0.01, 1.0)) for name in PARTS}


def _unexplained(
    media: Float[np.ndarray, "week channel"], basis: Float[np.ndarray, "week column"]
) -> Float[np.ndarray, " channel"]:
    """Share of each channel's variance that is its own: the inverse of its variance inflation factor."""
    centred = media - media.mean(axis=0)
    whole = np.maximum((centred**2).sum(axis=0), 1e-24)
    rest = centred - basis @ (basis.T @ centred)
    own = np.empty(media.shape[1])
    for c in range(media.shape[1]):
        others = np.delete(rest, c, axis=1)
        left = rest[:, c] - others @ np.linalg.lstsq(others, rest[:, c], rcond=None)[0] if others.size else rest[:, c]
        own[c] = (left**2).sum()
    return own / whole


def _longest_period(values: Float[np.ndarray, " week"]) -> int:
    """Weeks of the longest period without a break of level, by binary segmentation.

    A break must gain more than three times the log of the series' length in its robust variance, which white noise
    hardly ever does.

    References:
        Scott, Knott (1974), A cluster analysis method, doi:10.2307/2529204.
    """
    noise = max(float(np.median(np.abs(np.diff(values)))) / (0.6745 * np.sqrt(2.0)), 1e-9)
    periods, longest = [values], 0
    while periods:
        period = periods.pop()
        count = len(period)
        at = np.arange(SHORTEST, count - SHORTEST + 1)
        if len(at):
            before = np.cumsum(period)[at - 1] / at
            after = (period.sum() - before * at) / (count - at)
            gain = at * (count - at) / count * (before - after) ** 2 / noise**2
            if gain.max() > 3.0 * np.log(len(values)) * _inflation(period):
                cut = int(at[gain.argmax()])
                periods += [period[:cut], period[cut:]]
                continue
        longest = max(longest, count)
    return longest


def _inflation(values: Float[np.ndarray, " week"]) -> float:
    """How much wider means of a series are for its weeks being alike, for an autoregression of order one."""
    centred = values - np.median(values)
    alike = float(np.clip(centred[1:] @ centred[:-1] / max(centred @ centred, 1e-24), 0.0, 0.8))
    return (1 + alike) / (1 - alike)


def _outliers(values: Float[np.ndarray, " week"]) -> float:
    """Share of weeks far from the median of their neighbours."""
    half = NEIGHBOURS // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, mode="reflect"), NEIGHBOURS)
    rest = values - np.median(around, axis=1)
    spread = max(float(np.median(np.abs(rest))) / 0.6745, 1e-9)
    return float(np.mean(np.abs(rest) > FAR * spread))
