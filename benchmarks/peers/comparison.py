"""Comparison: is what two fits of one unit found the same posterior, and is it any good?"""

from dataclasses import dataclass

import numpy as np
from arviz_stats.base.array import array_stats
from jaxtyping import Float

from benchmarks.peers.exchange import Answer
from mixfleet.config import Inference
from mixfleet.inference.certification import TOLERATED_DIVERGENCES

MEAN_TOLERANCE = 0.1
"""Posterior standard deviations by which means may differ, Monte Carlo error apart."""

SD_TOLERANCE = 0.05
"""Relative difference of standard deviations, likewise."""

MONTE_CARLO_ERRORS = 3.0
"""How many Monte Carlo standard errors of a difference count as chance."""

TAILS = (0.05, 0.95)
"""Quantiles whose effective draws are the tail's, as in mixfleet's gates."""

Draws = Float[np.ndarray, "chain draw quantity"]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What mixfleet's gates say of somebody's draws: parameters, contributions and their total."""

    rhat: float
    ess_bulk: float
    ess_tail: float
    ebfmi: float
    """NaN if the sampler does not tell its energy; then it counts as passed."""
    divergences: int
    certified: bool


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far apart two posteriors of the channels' contributions are, at the worst channel."""

    mean_shift: float
    """In posterior standard deviations."""
    sd_ratio: float
    """Theirs over ours, the one farthest from 1."""
    agrees: bool
    """Within the tolerances and Monte Carlo error."""


def quality(answer: Answer, gates: Inference) -> Quality:
    """Diagnostics of a peer's draws, and whether they would be certified."""
    total = answer.contribution.sum(axis=-1, keepdims=True)
    draws = np.concatenate([answer.parameters, answer.contribution, total], axis=-1)
    rhat = float(np.max(array_stats.rhat(draws, chain_axis=0, draw_axis=1, method="rank")))
    bulk = float(np.min(array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk")))
    tail = float(np.min(array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=TAILS)))
    ebfmi = float(np.min(array_stats.bfmi(answer.energy))) if answer.energy.size else float("nan")
    passed = (
        rhat < gates.rhat_max,
        min(bulk, tail) >= gates.ess_floor,
        not ebfmi <= gates.ebfmi_min,
        answer.divergences <= TOLERATED_DIVERGENCES * draws.shape[0] * draws.shape[1],
    )
    return Quality(
        rhat=rhat, ess_bulk=bulk, ess_tail=tail, ebfmi=ebfmi, divergences=answer.divergences, certified=all(passed)
    )


def agreement(ours: Draws, theirs: Draws) -> Agreement:
    """How the channels' contributions of two fits compare."""
    (mean, sd, mean_error, sd_error), (their_mean, their_sd, their_mean_error, their_sd_error) = map(
        _moments, (ours, theirs)
    )
    shift = np.abs(their_mean - mean) / sd
    shift_chance = np.hypot(mean_error, their_mean_error) / sd
    log_ratio = np.log(their_sd / sd)
    ratio_chance = np.hypot(sd_error / sd, their_sd_error / their_sd)
    agrees = np.all(shift <= MEAN_TOLERANCE + MONTE_CARLO_ERRORS * shift_chance) and np.all(
        np.abs(log_ratio) <= np.log1p(SD_TOLERANCE) + MONTE_CARLO_ERRORS * ratio_chance
    )
    return Agreement(
        mean_shift=float(shift.max()),
        sd_ratio=float(np.exp(log_ratio[np.abs(log_ratio).argmax()])),
        agrees=bool(agrees),
    )


def _moments(draws: Draws) -> tuple[np.ndarray, ...]:
    """Means and standard deviations, and the Monte Carlo error of each."""
    mean_error, sd_error = (
        np.asarray(array_stats.mcse(draws, chain_axis=0, draw_axis=1, method=kind)) for kind in ("mean", "sd")
    )
    return draws.mean(axis=(0, 1)), draws.std(axis=(0, 1), ddof=1), mean_error, sd_error
