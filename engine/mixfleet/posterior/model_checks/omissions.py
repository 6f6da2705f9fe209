"""Omissions: whether the residuals go with something that the model leaves out.

Each candidate is a set of directions in time. The sum of squares of the residuals' scores along them, measured against
what the posterior leaves of their variance, is chi-squared with as many degrees of freedom under the model: a score
test (Rao 1948) that takes what the model can fit by itself out of the directions.

References:
    Rao (1948), Large sample tests of statistical hypotheses, doi:10.1017/S0305004100023987.
    Sims (1972), Money, income, and causality, American Economic Review 62: later media that tell the KPI of today.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc, chdtri

from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import LEAST_LEFT, CheckedUnit, settled
from mixfleet.posterior.model_checks.residuals import long_run_variance

__all__ = ["omission_checks", "score_test"]

MATERIAL = 0.05
"""Share of the noise's variance, beyond what chance explains, that goes unsaid."""

LATER = 2
"""Periods by which media that follow the KPI are looked for."""

FURTHER = 4
"""Periods back that carry-over is looked for on its own."""

HARMONICS = (3, 4, 5, 6)
"""Waves per year beyond the usual ones."""

STEPS = 9
"""Places, evenly spaced, at which the level may break."""

FEWEST = 30
"""Weeks that a score test needs."""


class _Candidate(NamedTuple):
    kind: str
    about: str
    directions: Float[np.ndarray, "week direction"]
    statement: str
    alone: bool = False
    """Each direction is a candidate of its own."""


def omission_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Breaks of the level and waves; carry-over, curvature, drift and lead of each channel; pairs of channels."""
    if unit.weeks < FEWEST:
        return
    found = list(_of_baseline(unit))
    for c in np.flatnonzero(np.ptp(unit.response[unit.fitted], axis=0) > 0):
        found += _of_channel(unit, int(c))
    found += _of_pairs(unit)
    kinds = {one.kind: [other for other in found if other.kind == one.kind] for one in found}
    # What lasts makes every direction vary more; it is said once, by the check of autocorrelation.
    lasting = max(1.0, long_run_variance(unit)[0])
    for kind, candidates in kinds.items():
        yield _worst(unit, kind, candidates, lasting)


def score_test(
    directions: Float[np.ndarray, "week direction"], residual: Float[np.ndarray, "week draw"]
) -> tuple[float, int]:
    """Chi-squared of the residuals along the directions that the model cannot fit by itself, and how many those are.

    Args:
        directions: Zero in weeks that were not fitted.
        residual: Standardised, by draw; zero there too.
    """
    size = np.sqrt(np.sum(directions**2, axis=0))
    kept = directions[:, size > 0] / size[size > 0]
    # The directions' principal axes, from their products with one another: few, where weeks are many.
    strength, axes = np.linalg.eigh(kept.T @ kept)
    used = strength > 1e-6 * strength[-1:].max(initial=0.0)
    if not used.any():
        return np.nan, 0
    scores = (axes[:, used] / np.sqrt(strength[used])).T @ (kept.T @ residual)
    mean = scores.mean(axis=1)
    within = (scores - mean[:, None]) @ (scores - mean[:, None]).T / scores.shape[1]
    share, axes = np.linalg.eigh(np.eye(len(within)) - within)
    told = share >= LEAST_LEFT
    along = axes[:, told].T @ mean
    return float(np.sum(along**2 / share[told])) if told.any() else np.nan, int(told.sum())


def _tests(one: _Candidate, residual: Float[np.ndarray, "week draw"]) -> list[tuple[float, int]]:
    if not one.alone:
        return [score_test(one.directions, residual)]
    size = np.sqrt(np.sum(one.directions**2, axis=0))
    scores = settled((one.directions / np.where(size > 0, size, 1.0)).T @ residual, 1.0)
    return [(float(score**2), 1) for score in scores[(size > 0) & np.isfinite(scores)]]


def _worst(unit: CheckedUnit, kind: str, candidates: list[_Candidate], lasting: float) -> ModelCheck:
    """Of one kind's candidates the least likely, judged as the least likely of so many."""
    tests = [(one, value / lasting, count) for one in candidates for value, count in _tests(one, unit.residual)]
    tests = [test for test in tests if test[2]]
    if not tests:
        return untested(kind)
    chosen, value, count = min(tests, key=lambda test: float(chdtrc(test[2], test[1])))
    # In shares of the noise's variance, beyond the part that chance alone explains.
    explained = (value - count) / unit.weeks
    significant = (chdtri(count, FALSE_ALARMS / len(tests)) - count) / unit.weeks
    threshold = float(max(significant, MATERIAL))
    said = f"{chosen.statement} (explains {explained:.0%} of the noise)"
    return concluded(kind, explained, threshold, said, about=chosen.about)


def _of_baseline(unit: CheckedUnit) -> Iterator[_Candidate]:
    weeks = np.arange(len(unit.dates), dtype=float)
    places = np.flatnonzero(unit.fitted)
    cuts = places[(np.arange(1, STEPS + 1) * len(places)) // (STEPS + 1)]
    steps = (weeks[:, None] >= cuts) * 1.0
    bends = np.maximum(weeks[:, None] - cuts, 0.0)
    said = "the level of the KPI breaks or bends in a way that the trend cannot follow: use model=moving, or a control"
    yield _Candidate("level_break", "", _fitted(unit, np.column_stack([steps, bends])), said, alone=True)
    if len(places) >= unit.season:
        turns = 2 * np.pi * weeks[:, None] * np.array(HARMONICS) / unit.season
        said = "seasons are sharper than the model's: raise model.seasonality, or add holidays and events"
        yield _Candidate("sharp_season", "", _fitted(unit, np.column_stack([np.sin(turns), np.cos(turns)])), said)


def _of_channel(unit: CheckedUnit, c: int) -> Iterator[_Candidate]:
    name, media, response = unit.channels[c], unit.media[:, c], unit.response[:, c]
    further = np.column_stack([_shifted(media, lag) for lag in range(FURTHER + 1)])
    said = f"the carry-over of {name} is of another form than the model's: try another adstock or a longer window"
    yield _Candidate("carry_over_form", name, _fitted(unit, further), said)
    # Around their means, so that little of the directions is what the model has.
    level = _centred(unit, response) / max(float(np.max(np.abs(response))), 1e-300)
    said = f"the response of {name} bends otherwise than the model's curve: try another saturation (model=hill)"
    yield _Candidate("curve_form", name, _fitted(unit, np.column_stack([level**2, level**3])), said)
    time = np.linspace(-1.0, 1.0, len(level))
    said = f"what {name} brings changes over time: its average is not today's; fit the later weeks alone"
    yield _Candidate("drifting_effect", name, _fitted(unit, np.column_stack([level * time, level * time**2])), said)
    later = np.column_stack([_shifted(media, -lead) for lead in range(1, LATER + 1)])
    # Beside what the weeks up to now tell of the coming ones: spend that follows itself says nothing.
    known = np.column_stack([_shifted(media, lag) for lag in range(FURTHER + 1)] + [np.ones_like(media)])
    coming = unit.fitted & (np.arange(len(media)) < len(media) - LATER)
    fit = np.linalg.lstsq(known[coming], later[coming], rcond=None)[0]
    news = np.where(coming[:, None], later - known @ fit, 0.0)
    said = (
        f"the media of {name} follow the KPI: weeks with more sales than expected are followed by more of it, so its "
        "effect is likely too high; add what the spend was decided by as a control, or run a lift test"
    )
    yield _Candidate("media_follow_kpi", name, _fitted(unit, news), said)


def _of_pairs(unit: CheckedUnit) -> Iterator[_Candidate]:
    """The strongest channels two by two: whether they bring more or less together than apart."""
    size = np.std(unit.response[unit.fitted], axis=0)
    strongest = [int(c) for c in np.argsort(-size, kind="stable")[:4] if size[c] > 0]
    for i, a in enumerate(strongest):
        for b in strongest[i + 1 :]:
            both = (_centred(unit, unit.response[:, a]) * _centred(unit, unit.response[:, b]))[:, None]
            names = f"{unit.channels[a]} and {unit.channels[b]}"
            said = f"{names} bring more or less together than apart, which the model leaves out: their split is unsure"
            yield _Candidate("synergy", names, _fitted(unit, both), said)


def _fitted(unit: CheckedUnit, directions: Float[np.ndarray, "week direction"]) -> Float[np.ndarray, "week direction"]:
    """Centred over the fitted weeks, and zero elsewhere."""
    centred = directions - directions[unit.fitted].mean(axis=0)
    return np.where(unit.fitted[:, None], centred, 0.0)


def _centred(unit: CheckedUnit, values: Float[np.ndarray, " week"]) -> Float[np.ndarray, " week"]:
    return values - values[unit.fitted].mean()


def _shifted(values: Float[np.ndarray, " week"], lag: int) -> Float[np.ndarray, " week"]:
    """The values so many weeks before; later ones for a negative lag."""
    found = np.zeros_like(values)
    if lag >= 0:
        found[lag:] = values[: len(values) - lag]
    else:
        found[:lag] = values[-lag:]
    return found
