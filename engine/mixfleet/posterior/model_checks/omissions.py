"""Omissions: whether the residuals go with something that the model leaves out.

Each candidate is a set of directions in time. The sum of squares of the residuals' scores along them, measured against
what the posterior leaves of their variance, is chi-squared with as many degrees of freedom under the model: a score
test (Rao 1948) that takes what the model can fit by itself out of the directions.

References:
    Rao (1948), Large sample tests of statistical hypotheses, doi:10.1017/S0305004100023987.
    Crainiceanu, Vogelsang (2007), Nonmonotonic power for tests of a mean shift in a time series, Journal of Statistical
    Computation and Simulation 77.
    Sims (1972), Money, income, and causality, American Economic Review 62: later media that tell the KPI of today.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import chdtrc, chdtri

from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import LEAST_LEFT, CheckedUnit
from mixfleet.posterior.model_checks.displacement import moves_media
from mixfleet.posterior.model_checks.residuals import long_run_variance

__all__ = ["omission_checks", "score_tests"]

MATERIAL = 0.05
"""Share of the noise's variance, beyond what chance explains, that goes unsaid."""

LATER = 2
"""Periods by which media that follow the KPI are looked for."""

FURTHER = 4
"""Periods back that carry-over is looked for on its own."""

MONTHS = 2
"""Months before the last one whose media are looked for of all channels at once."""

HARMONICS = (3, 4, 5, 6)
"""Waves per year beyond the usual ones."""

BENDS, STEPS = 9, 300
"""Places, evenly spaced, at which the level may bend, and about how many at which it may break: noise that lasts
follows a break but for the week that it comes in, so that no week beside it would do."""

EDGE = 4
"""Periods from either end in which a break is none that could be told."""

BREAK, LATE = "level_break", "long_carry_over"

FEWEST = 30
"""Weeks that a score test needs."""


Brings = Float[np.ndarray, "channel week direction"]


class _Candidates(NamedTuple):
    """Tests of one kind, each of a set of directions of its own."""

    kind: str
    directions: Float[np.ndarray, "test week direction"]
    about: Sequence[str]
    """By test, as are the statements."""
    statements: Sequence[str]
    brings: Callable[[int], Sequence[Brings | None]]
    """What the directions of a test would be of each channel, in each way in which its answer is used; nothing where
    what is wrong is no column that the model lacks."""


def omission_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Breaks of the level and waves; carry-over, curvature, drift and lead of each channel; pairs of channels."""
    if unit.weeks < FEWEST:
        return
    # What lasts makes every direction vary more; it is said once, by the check of autocorrelation.
    lasting = max(1.0, long_run_variance(unit)[0])
    every = (*_of_baseline(unit), *_of_channels(unit), *_of_pairs(unit))
    # Those of as many directions in one.
    scored: dict[int, _Scored] = {}
    for width in {candidates.directions.shape[2] for candidates in every}:
        alike = [place for place, own in enumerate(every) if own.directions.shape[2] == width]
        scored |= zip(alike, _scored(unit, [every[place].directions for place in alike]), strict=True)
    for place, candidates in enumerate(every):
        yield _worst(unit, candidates, scored[place], lasting)


def score_tests(
    directions: Float[np.ndarray, "test week direction"], residual: Float[np.ndarray, "week draw"]
) -> tuple[Float[np.ndarray, " test"], Int[np.ndarray, " test"]]:
    """Chi-squared of the residuals along the directions that the model cannot fit by itself, and how many those are.

    NaN and zero where it can fit all of them.

    Args:
        directions: Zero in weeks that were not fitted.
        residual: Standardised, by draw; zero there too.
    """
    # Weeks last, side by side, for all that follows is a sum over them.
    kept = np.array(directions.swapaxes(1, 2), order="C")
    size = np.sqrt((kept**2).sum(axis=2, keepdims=True))
    kept /= np.where(size > 0, size, 1.0)
    # The directions' principal axes, from their products with one another: few, where weeks are many.
    strength, axes = np.linalg.eigh(kept @ kept.swapaxes(1, 2))
    used = strength > 1e-6 * np.maximum(strength[:, -1:], 0.0)
    weights = axes * np.where(used, 1 / np.sqrt(np.where(used, strength, 1.0)), 0.0)[:, None]
    products = (kept.reshape(-1, len(residual)) @ residual).reshape(*kept.shape[:2], -1)
    scores = weights.swapaxes(1, 2) @ products
    mean = scores.mean(axis=2)
    scores -= mean[:, :, None]
    within = scores @ scores.swapaxes(1, 2) / scores.shape[2]
    share, axes = np.linalg.eigh(np.eye(within.shape[1]) - within)
    told = share >= LEAST_LEFT
    along = (axes.swapaxes(1, 2) @ mean[:, :, None])[:, :, 0]
    # The posterior leaves all of an axis that is no direction, along which there is nothing.
    count = told.sum(axis=1) - (~used).sum(axis=1)
    value = np.where(told, along**2 / np.where(told, share, 1.0), 0.0).sum(axis=1)
    return np.where(count > 0, value, np.nan), count


class _Scored(NamedTuple):
    """Candidates' directions over the fitted weeks, the same as the residuals have them, and their tests."""

    directions: Float[np.ndarray, "test week direction"]
    along: Float[np.ndarray, "test week direction"]
    values: Float[np.ndarray, " test"]
    counts: Int[np.ndarray, " test"]


def _scored(unit: CheckedUnit, directions: Sequence[Float[np.ndarray, "test week direction"]]) -> list[_Scored]:
    """Of candidates with as many directions."""
    own = _fitted(unit, np.concatenate(directions))
    along = unit.as_residuals(np.swapaxes(own, 0, 1)).swapaxes(0, 1)
    every = (own, along, *score_tests(along, unit.residual))
    ends = np.cumsum([len(part) for part in directions])
    return [
        _Scored(*(values[end - len(part) : end] for values in every))
        for part, end in zip(directions, ends, strict=True)
    ]


def _worst(unit: CheckedUnit, candidates: _Candidates, scored: _Scored, lasting: float) -> ModelCheck:
    """Of one kind's candidates the least likely, judged as the least likely of so many."""
    directions, along, values, counts = scored
    tests = int(np.count_nonzero(counts))
    if not tests:
        return untested(candidates.kind)
    chosen = int(np.argmin(np.where(counts > 0, chdtrc(counts, values / lasting), np.inf)))
    if candidates.kind in (BREAK, LATE) and lasting > 1:
        lasting = min(lasting, max(1.0, long_run_variance(_without(unit, along[chosen]))[0]))
    value, count = float(values[chosen]) / lasting, int(counts[chosen])
    # In shares of the noise's variance, beyond the part that chance alone explains.
    explained = (value - count) / unit.weeks
    significant = (chdtri(count, FALSE_ALARMS / tests) - count) / unit.weeks
    threshold = float(max(significant, MATERIAL))
    said = f"{candidates.statements[chosen]} (explains {explained:.0%} of the noise)"
    answers = candidates.brings(chosen) if explained >= threshold else ()
    harmless = bool(answers) and not any(moves_media(unit, directions[chosen], brings=own) for own in answers)
    return concluded(candidates.kind, explained, threshold, said, about=candidates.about[chosen], harmless=harmless)


def _without(unit: CheckedUnit, directions: Float[np.ndarray, "week direction"]) -> CheckedUnit:
    """The unit with what its residuals have along directions taken out of them.

    A break lasts, and so do media of months before: left in what lasting is told from, the larger it is the more it
    hides itself.
    """
    axes = _spanned(directions[None])[0]
    return replace(unit, residual=unit.residual - axes @ (axes.T @ unit.residual), whole=None)


def _of_baseline(unit: CheckedUnit) -> Iterator[_Candidates]:
    weeks = np.arange(len(unit.dates), dtype=float)
    places = np.flatnonzero(unit.fitted)
    cuts = places[EDGE : -EDGE : 1 + len(places) // STEPS]
    turns = places[(np.arange(1, BENDS + 1) * len(places)) // (BENDS + 1)]
    steps, bends = (weeks >= cuts[:, None]) * 1.0, np.maximum(weeks - turns[:, None], 0.0)
    days = np.datetime_as_string(unit.dates[np.concatenate([cuts, turns])]).tolist()
    said = [
        f"the level of the KPI {verb} around {day} as the trend cannot follow: use model=moving, or a control"
        for verb, day in zip(["breaks"] * len(cuts) + ["bends"] * len(turns), days, strict=True)
    ]
    yield _Candidates(BREAK, np.concatenate([steps, bends])[:, :, None], days, said, lambda _: [None])
    if len(places) >= unit.season:
        turns = 2 * np.pi * weeks[:, None] * np.array(HARMONICS) / unit.season
        said = "seasons are sharper than the model's: raise model.seasonality, or add holidays and events"
        waves = np.column_stack([np.sin(turns), np.cos(turns)])[None]
        yield _Candidates("sharp_season", waves, [""], [said], lambda _: [None])


def _of_channels(unit: CheckedUnit) -> Iterator[_Candidates]:
    ran = np.flatnonzero(np.ptp(unit.response[unit.fitted], axis=0) > 0)
    if not len(ran):
        return
    names, media, response = [unit.channels[int(c)] for c in ran], unit.media[:, ran].T, unit.response[:, ran].T
    further = np.stack([_shifted(media, lag) for lag in range(FURTHER + 1)], axis=2)
    said = "the carry-over of {} is of another form than the model's: try another adstock or a longer window"
    yield _of_each("carry_over_form", further, names, said, lambda c: [_of_channel(unit, ran[c], further[c])])
    yield _carried_over(unit, ran)
    # Around their means, so that little of the directions is what the model has; without media there is no response.
    size = np.maximum(np.max(np.abs(response), axis=1), 1e-300)
    mean = response[:, unit.fitted].mean(axis=1) / size
    share = response / size[:, None]
    level = share - mean[:, None]
    bent = np.stack([level**2 - mean[:, None] ** 2, level**3 + mean[:, None] ** 3], axis=2)
    said = "the response of {} bends otherwise than the model's curve: try another saturation, or model=averaged"
    curved = np.stack([level**2, level**3], axis=2)
    yield _of_each("curve_form", curved, names, said, lambda c: [_of_channel(unit, ran[c], bent[c])])
    time = np.linspace(-1.0, 1.0, level.shape[1])
    drifted = np.stack([share * time, share * time**2], axis=2)
    lately = _latest(unit)

    def in_all_and_today(c: int) -> Sequence[Brings]:
        today = drifted[c] * lately[:, None] * share[c, unit.fitted].sum() / max(share[c] @ lately, 1e-300)
        return [_of_channel(unit, ran[c], own) for own in (drifted[c], today)]

    said = "what {} brings changes over time: its average is not today's; fit the later weeks alone"
    changed = np.stack([level * time, level * time**2], axis=2)
    yield _of_each("drifting_effect", changed, names, said, in_all_and_today)
    said = (
        "the media of {} follow the KPI: weeks with more sales than expected are followed by more of it, so its "
        "effect is likely too high; add what the spend was decided by as a control, or run a lift test"
    )
    yield _of_each("media_follow_kpi", _news(unit, media, further), names, said, lambda _: [])


def _carried_over(unit: CheckedUnit, ran: Int[np.ndarray, " channel"]) -> _Candidates:
    """Media of months before, of all channels at once: the model's carry-over is of one form, and each tells little."""
    media, month = unit.media[:, ran].T, max(1, unit.season // 13)
    spans = [range(first * month + 1, (first + 1) * month + 1) for first in range(1, MONTHS + 1)]
    earlier = [np.mean([_shifted(media, lag) for lag in span], axis=0).T for span in spans]
    said = (
        "the KPI goes with media of months before otherwise than any channel's carry-over allows: try another adstock "
        "(model=weibull) or a longer window"
    )

    def brings(_: int) -> Sequence[Brings]:
        own = np.zeros((len(unit.channels), len(unit.dates), MONTHS, len(ran)))
        own[ran, :, :, np.arange(len(ran))] = np.stack(earlier, axis=1).T.swapaxes(1, 2)
        return [own.reshape(*own.shape[:2], -1)]

    return _Candidates(LATE, np.column_stack(earlier)[None], [""], [said], brings)


def _latest(unit: CheckedUnit) -> Bool[np.ndarray, " week"]:
    """The last quarter of a year that was fitted."""
    places = np.flatnonzero(unit.fitted)
    return np.arange(len(unit.dates)) >= places[-min(len(places), max(1, unit.season // 4))]


def _of_channel(unit: CheckedUnit, channel: int, own: Float[np.ndarray, "week direction"]) -> Brings:
    found = np.zeros((len(unit.channels), *own.shape))
    found[channel] = own
    return found


def _of_each(
    kind: str,
    directions: np.ndarray,
    names: list[str],
    said: str,
    brings: Callable[[int], Sequence[Brings | None]],
) -> _Candidates:
    return _Candidates(kind, directions, names, [said.format(name) for name in names], brings)


def _news(
    unit: CheckedUnit, media: Float[np.ndarray, "channel week"], known: Float[np.ndarray, "channel week lag"]
) -> Float[np.ndarray, "channel week lead"]:
    """The coming weeks' media beside what those up to now tell of them: spend that follows itself says nothing."""
    weeks = media.shape[1]
    later = np.stack([_shifted(media, -lead) for lead in range(1, LATER + 1)], axis=2)
    coming = unit.fitted & (np.arange(weeks) < weeks - LATER)
    found, ahead, before = np.zeros_like(later), later[:, coming], known[:, coming]
    axes = _spanned(np.concatenate([before, np.ones((*before.shape[:2], 1))], axis=2))
    found[:, coming] = ahead - axes @ (np.swapaxes(axes, 1, 2) @ ahead)
    return found


def _spanned(columns: Float[np.ndarray, "test week column"]) -> Float[np.ndarray, "test week column"]:
    """Orthonormal axes of what each test's columns span, and zeros for as many as it is of fewer dimensions."""
    axes, length, _ = np.linalg.svd(columns, full_matrices=False)
    negligible = max(columns.shape[1:]) * np.finfo(float).eps * np.max(length, axis=1, keepdims=True, initial=0.0)
    return np.where((length > negligible)[:, None], axes, 0.0)


def _of_pairs(unit: CheckedUnit) -> Iterator[_Candidates]:
    """The strongest channels two by two: whether they bring more or less together than apart."""
    size = np.std(unit.response[unit.fitted], axis=0)
    strongest = [int(c) for c in np.argsort(-size, kind="stable")[:4] if size[c] > 0]
    pairs = list(combinations(strongest, 2))
    if not pairs:
        return
    level = unit.response - unit.response[unit.fitted].mean(axis=0)
    directions = np.stack([level[:, a] * level[:, b] for a, b in pairs])[:, :, None]
    names = [f"{unit.channels[a]} and {unit.channels[b]}" for a, b in pairs]
    said = "{} bring more or less together than apart, which the model leaves out: their split is unsure"

    def brings(pair: int) -> Sequence[Brings]:
        a, b = pairs[pair]
        own = np.zeros((len(unit.channels), len(unit.dates), 1))
        own[a, :, 0], own[b, :, 0] = unit.response[:, a] * level[:, b], unit.response[:, b] * level[:, a]
        return [own]

    yield _of_each("synergy", directions, names, said, brings)


def _fitted(
    unit: CheckedUnit, directions: Float[np.ndarray, "test week direction"]
) -> Float[np.ndarray, "test week direction"]:
    """Centred over the fitted weeks, and zero elsewhere."""
    known = np.where(unit.fitted[:, None], directions, 0.0)
    return known - unit.fitted[:, None] * (known.sum(axis=1, keepdims=True) / unit.weeks)


def _shifted(values: Float[np.ndarray, "channel week"], lag: int) -> Float[np.ndarray, "channel week"]:
    """The values so many weeks before; later ones for a negative lag."""
    found = np.zeros_like(values)
    if lag >= 0:
        found[:, lag:] = values[:, : values.shape[1] - lag]
    else:
        found[:, :lag] = values[:, -lag:]
    return found
