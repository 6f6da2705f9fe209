"""Link: whether the KPI moves in per cent rather than in units, so that its logarithm is what noise is added to.

Around the same expected KPI, noise of the KPI and noise of its logarithm are compared by their likelihood, at the size
of noise that fits each best. Data of the first are so many times likelier under the second, or more, as seldom as one
over that number (Markov's inequality, as in Wasserman et al. 2020): a rate of false alarms that needs no simulation.
The same with heavy tails on both sides must agree beyond chance, lest a few weeks decide that are no matter of the
link.

Other checks look for what is left out where noise is as large in all weeks. What they say, and would not say of the
logarithm around the same expectation, is the link's.

References:
    Cox (1961), Tests of separate families of hypotheses.
    Box, Cox (1964), An analysis of transformations, doi:10.1111/j.2517-6161.1964.tb00553.x.
    Wasserman, Ramdas, Balakrishnan (2020), Universal inference, doi:10.1073/pnas.1922664117.
    Lange, Little, Taylor (1989), Robust statistical modeling using the t distribution,
    doi:10.1080/01621459.1989.10478852.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.errors import counted
from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Lasting, whitened
from mixfleet.posterior.model_checks.displacement import MISLEADING, reweighed

__all__ = ["in_logarithms", "link_checks"]

UNSAID = 20.0
"""Log likelihood ratio up to which nothing is said: over three years, noise about twice as large where the expected KPI
is two of its standard deviations higher."""

FITTED_NOISE = 2.0
"""By how much fitting the size and the centre of noise raises a log likelihood, with room to spare."""

FEWEST = 30
"""Weeks that have a logarithm."""

TAIL, STEPS = 4.0, 20
"""Degrees of freedom of heavy tails, and steps to their scale."""

DOUBTS = ("doubt", "misfit")

EXPLAINED = "; what the logarithm would not show (see link)"


def link_checks(
    unit: CheckedUnit, others: Sequence[ModelCheck], again: Callable[[CheckedUnit], Iterable[ModelCheck]]
) -> tuple[ModelCheck, ...]:
    """The check of the link, then the others, of which those that it explains are notes.

    Args:
        unit: In the KPI's own unit; under a log link nothing is asked.
        others: Every other check of it.
        again: Those of them that a unit in logarithms may be asked again.
    """
    told = _told(unit)
    # A logarithm is asked of a KPI that cannot be below zero; weeks of zero are left out.
    if unit.log_link or np.any(unit.kpi[unit.fitted] < 0) or int(told.sum()) < FEWEST:
        return untested("link"), *others
    errors, jacobian = _errors(unit, told)
    (plain, log), (heavy_plain, heavy_log) = _normal(errors), _heavy(errors)
    ratio, heavy = float(log - plain) - jacobian, float(heavy_log - heavy_plain) - jacobian
    beyond_chance = FITTED_NOISE - float(np.log(FALSE_ALARMS))
    threshold, ratio = max(UNSAID, beyond_chance), ratio if heavy >= beyond_chance else min(ratio, heavy)
    if not ratio >= threshold:
        return concluded("link", ratio, threshold, ""), *others
    # Where hardly a week is expected above zero, whatever the draw, nothing can be told of noise in per cent.
    if int(_both_told(unit).sum()) < FEWEST:
        return untested("link"), *others
    logged = in_logarithms(unit)
    in_logs = {check.kind: check.verdict for check in again(logged)}
    explained = [check.verdict in DOUBTS and in_logs.get(check.kind, check.verdict) not in DOUBTS for check in others]
    weeks = int(np.sum(unit.fitted & (unit.kpi == 0)))
    without = f" (leave the KPI of {counted(weeks, 'period')} of zero empty, which has no logarithm)" if weeks else ""
    said = (
        f"sales move in per cent rather than in units: noise of {logged.noise.mean():.0%} of what is expected is "
        f"likelier by a factor of 10^{ratio / np.log(10):.0f} than noise as large in every week; use "
        f"model.link=log{without}"
    )
    harmless = not any(explained) and not _moves_media(unit, logged)
    own = concluded("link", ratio, threshold, said, harmless=harmless)
    notes = (
        replace(check, verdict="note", statement=check.statement + EXPLAINED) if folded else check
        for check, folded in zip(others, explained, strict=True)
    )
    return own, *notes


def in_logarithms(unit: CheckedUnit) -> CheckedUnit:
    """The unit around the same expected KPI, were noise of the logarithm; of weeks in which both have one.

    Noise is taken to last as the fit says, and to be as large as it then is in each draw.
    """
    told = _both_told(unit)
    kpi = np.log(np.where(told, unit.kpi, 1.0))
    expected = np.log(np.where(told[:, None], unit.expected, 1.0))
    away = np.where(told[:, None], kpi[:, None] - expected, 0.0)
    away = np.where(told[:, None], away - away[told].mean(axis=0), 0.0)
    lasting = unit.lasting_noise
    new = away if lasting is None else whitened(away, told, lasting.correlation)
    noise = np.maximum(np.sqrt(np.mean(new[told] ** 2, axis=0)), np.finfo(float).tiny)
    mean = np.where(told, unit.expected.mean(axis=1), 1.0)[:, None]
    return replace(
        unit,
        log_link=True,
        fitted=told,
        kpi=kpi,
        expected=expected,
        residual=new / noise,
        noise=noise,
        response=unit.response / mean,
        marginal=None,
        lasting=None if lasting is None else _as_it_is(told, away / noise, lasting.correlation),
        whole=None,
    )


def _told(unit: CheckedUnit) -> Bool[np.ndarray, " week"]:
    """Weeks whose KPI has a logarithm."""
    return unit.fitted & (unit.kpi > 0)


def _both_told(unit: CheckedUnit) -> Bool[np.ndarray, " week"]:
    """Those of them in which every draw's expectation has one too."""
    return _told(unit) & np.all(unit.expected > 0, axis=1)


def _least(unit: CheckedUnit) -> Float[np.ndarray, " week"]:
    """Expectation that is told from none, and so from one below zero: its posterior standard deviation."""
    return np.maximum(unit.expected.std(axis=1), np.finfo(float).tiny)


def _as_it_is(
    fitted: Bool[np.ndarray, " week"], away: Float[np.ndarray, "week draw"], correlation: Float[np.ndarray, " draw"]
) -> Lasting:
    no_column = np.zeros((len(fitted), 0))
    return Lasting(fitted=fitted, residual=away, basis=no_column, variance=np.zeros(0), correlation=correlation)


def _errors(unit: CheckedUnit, told: Bool[np.ndarray, " week"]) -> tuple[Float[np.ndarray, "2 told"], float]:
    """What is new in each week that has a logarithm, around the mean of the expected KPI: of the KPI, and of that.

    With the sum of the logarithms of the KPI: a density of the logarithm is one of the KPI over it.
    """
    lasting, places = unit.lasting_noise, np.flatnonzero(told)
    expected = unit.expected.mean(axis=1)
    logged = np.log(np.where(told, unit.kpi, 1.0))
    plain = np.where(told, unit.kpi - expected, 0.0)
    log = logged - np.log(np.maximum(expected, _least(unit)))
    log = np.where(told, log - log[places].mean(), 0.0)
    both = np.column_stack([plain, log])
    if lasting is not None:
        both = whitened(both, told, float(lasting.correlation.mean()))
    return both[places].T, float(logged[places].sum())


def _normal(errors: Float[np.ndarray, "2 told"]) -> Float[np.ndarray, " 2"]:
    """Largest log likelihoods over the size of noise, up to a constant."""
    return -0.5 * errors.shape[1] * np.log(np.mean(errors**2, axis=1))


def _heavy(errors: Float[np.ndarray, "2 told"]) -> Float[np.ndarray, " 2"]:
    """The same of Student's t, its scale found by expectation and maximisation."""
    square = np.ascontiguousarray(errors**2)
    scale, count = np.mean(square, axis=1, keepdims=True), errors.shape[1]
    for _ in range(STEPS):
        scale = np.mean((TAIL + 1) * square / (TAIL + square / scale), axis=1, keepdims=True)
    tails = np.sum(np.log1p(square / (scale * TAIL)), axis=1)
    return -0.5 * count * np.log(scale[:, 0]) - (TAIL + 1) / 2 * tails


def _moves_media(unit: CheckedUnit, logged: CheckedUnit) -> bool:
    """Whether with weeks weighed as the logarithm's noise has them some channel's interval misleads."""
    expected = np.where(logged.fitted, unit.expected.mean(axis=1), np.inf)
    weight = (unit.noise.mean() / (logged.noise.mean() * expected)) ** 2
    return bool(np.any(np.abs(reweighed(unit, weight)) >= MISLEADING))
