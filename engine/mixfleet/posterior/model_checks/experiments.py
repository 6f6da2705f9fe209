"""Lift tests: whether one is at odds with everything else that the unit's fit knows.

Without a test means: the posterior of everything else, other tests included, from the same draws weighed by one over
the test's likelihood. An estimate that the model is right about is a draw of what that foretells, and so the chance of
one at least as far out is uniform (Marshall and Spiegelhalter 2007). Where a test moved the posterior too far to be
taken back, the draws that would be wanted most are missing. Those that stand in for them lie nearer to the test: then
the chance comes out too large, never too small, and a test that is at odds all the same is one.

References:
    Marshall, Spiegelhalter (2007), Identifying outliers in Bayesian hierarchical models: a simulation-based approach,
    doi:10.1214/07-BA218.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.scaling import Scale
from mixfleet.errors import amount
from mixfleet.models.media.term import MediaTerm
from mixfleet.posterior.counterfactual import contributions
from mixfleet.posterior.importance import BAD_TAIL, pareto_smoothed
from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.unit_series import UnitSeries

__all__ = [
    "KIND",
    "ToldTest",
    "Without",
    "expected",
    "experiment_check",
    "lifts",
    "told_tests",
    "without",
]

KIND = "experiment_conflict"

BISECTIONS, STEP = 60, 16

RARE = 1e-6
"""Chance below which its size is not told."""

MEASURED = {"lift": "lift", "revenue": "lift in revenue", "roi": "return"}
"""What is measured, in words."""


class ToldTest(NamedTuple):
    """A test, and what the unit's draws say of it."""

    test: Experiment
    lift: Float[np.ndarray, " draw"]
    """In KPI or money, as `Experiment.estimate` is."""


class Without(NamedTuple):
    """What everything but the test says of it."""

    weight: Float[np.ndarray, " draw"]
    """Of the draws, of sum one."""
    shape: float
    """Of the weights' tail: above `BAD_TAIL` the test says more than everything else, and `tail` is too large."""
    tail: float
    """How likely an estimate at least as far out is."""


def told_tests(tests: Sequence[Experiment], scale: Scale, series: UnitSeries, term: MediaTerm) -> tuple[ToldTest, ...]:
    """The unit's tests beside its draws. Not those of several units together, which no unit's draws are enough for."""
    return tuple(ToldTest(test, lifts(test, scale, series, term)) for test in tests if not test.together)


def lifts(test: Experiment, scale: Scale, series: UnitSeries, term: MediaTerm) -> Float[np.ndarray, " draw"]:
    """The test's lift, in KPI or money, by the unit's draws."""
    # Paths of a few lengths only, for each is a program.
    weeks = -(-len(test.worth) // STEP) * STEP
    within, sums = np.zeros((weeks, 1, 1)), []
    within[: len(test.worth), 0, 0] = test.worth
    for path in (test.test, test.control):
        media = np.zeros((weeks, len(scale.media)))
        media[: len(path), list(test.places)] = path / scale.media[list(test.places)]
        with jax.enable_x64(True):
            sums.append(np.asarray(contributions(media, within, series.curves, term=term))[0])
    return (sums[0] - sums[1])[list(test.places)].sum(axis=0)


def without(test: Experiment, lift: Float[np.ndarray, " draw"]) -> Without:
    """What the posterior of everything else says of the test.

    Args:
        test: Of one unit, or of several together.
        lift: By the draws of all of these, in KPI or money.
    """
    away = (test.estimate - lift) / test.sd
    weight, shape = pareto_smoothed(0.5 * away**2)
    tail = 2 * min(float(weight @ ndtr(away)), float(weight @ ndtr(-away)))
    return Without(weight=weight, shape=shape, tail=min(tail, 1.0))


def expected(
    test: Experiment, lift: Float[np.ndarray, " draw"], weight: Float[np.ndarray, " draw"]
) -> tuple[float, float]:
    """Between which bounds 95 % of estimates would lie, in the test's own unit, for draws with these weights."""
    own, sd = lift / test.per, test.sd / abs(test.per)
    return _quantile(own, weight, sd, 0.025), _quantile(own, weight, sd, 0.975)


def experiment_check(tests: Sequence[ToldTest]) -> ModelCheck:
    """Whether any of a unit's tests is at odds with everything else, at a false-alarm rate that is the unit's.

    A test that says more than everything else, and is not at odds all the same, is none that could be checked.
    """
    judged, most = [without(*told) for told in tests], FALSE_ALARMS / len(tests)
    checked = [i for i, one in enumerate(judged) if one.shape <= BAD_TAIL or one.tail < most]
    if not checked:
        return untested(KIND)
    worst = min(checked, key=lambda i: judged[i].tail)
    told, found = tests[worst], judged[worst]
    distance, threshold = (_distance(p) for p in (found.tail, most))
    said = _statement(told, found) if distance >= threshold else ""
    return concluded(KIND, distance, threshold, said, about=f"{told.test.name}, {_channels(told.test)}")


def _channels(test: Experiment) -> str:
    return " + ".join(test.channels)


def _distance(tail: float) -> float:
    """In standard deviations of a normal law; finite however unlikely."""
    return -float(ndtri(max(tail, np.finfo(float).tiny) / 2))


def _statement(told: ToldTest, found: Without) -> str:
    test = told.test
    low, high = expected(test, told.lift, found.weight)
    days = f" from {test.start} to {test.end}" if test.start else ""
    chance = "less than once in a million" if found.tail < RARE else f"once in {amount(1 / found.tail)}"
    return (
        f"{test.name}, a lift test of {_channels(test)}{days}, measured a {MEASURED[test.measure]} of "
        f"{amount(test.given)} +- {amount(test.sd / abs(test.per))}, where all else expects {amount(low)} to "
        f"{amount(high)} (95 %) and one as far out {chance} times: check its days, size, sign and channel; where the "
        "test itself may be off give it a bias_sd, else add what the model lacks"
    )


def _quantile(mean: Float[np.ndarray, " draw"], weight: Float[np.ndarray, " draw"], sd: float, share: float) -> float:
    """Of the mixture of normals around the draws."""
    low, high = float(mean.min() - 9 * sd), float(mean.max() + 9 * sd)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(weight @ ndtr((middle - mean) / sd)) < share else (low, middle)
    return (low + high) / 2
