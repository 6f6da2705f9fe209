"""Certification: what a unit's draws must pass before it counts as certified. Every sampler is judged here."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Array, Float, Int, UInt32
from numpy.typing import ArrayLike

from mixfleet.config import Inference
from mixfleet.inference.draws import (
    Draws,
    Judgement,
    LinearCoefficients,
    draws_on_host,
    inspect,
    judged_on_host,
)
from mixfleet.inference.hmc import DrawBuffer
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch

__all__ = [
    "HOPELESS_RHAT",
    "Certified",
    "UnitSample",
    "Verdict",
    "certify",
    "draws_again",
    "given_up",
    "judge",
    "judge_hyper",
    "past_saving",
]

TOLERATED_DIVERGENCES = 1e-3
"""Share of divergent trajectories above which a unit is not certified.

Below it, the posterior is that of longer runs with smaller steps, in which none diverges: contributions of 37 units
shifted by 0.000 +- 0.002 posterior standard deviations, with standard deviations in a ratio of 1.000 +- 0.003
(`tests/calibration/test_few_divergences.py`). So no doubt about a unit follows from a few; `status` counts them.
"""

GREATEST_REPEATED = 0.5
"""Share of draws in a chain that may repeat the one before."""

GREATEST_IMBALANCE = 5.0
"""Monte Carlo errors by which a unit's energy errors may be out of balance before it is warned of."""

HOPELESS_RHAT = 1.1
"""Chains that disagree this much are not a matter of more draws."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gates say of one unit's draws."""

    passed: bool
    """Every gate, with at least the floor of effective draws."""
    enough: bool
    """Passed, and with as many effective draws as aimed for."""
    hopeless: bool
    """More draws will not help."""
    mixing: bool
    """Nothing failed but R-hat or the number of effective draws: the chains find no way between distant modes, or
    only a slow one."""
    settled: bool
    """R-hat and the floor of effective draws are met: what failed will hardly pass with more draws."""
    reason: str
    """Which gates failed, or what a passing unit is warned of; empty if nothing."""
    rhat_max: float
    ess_bulk_min: float
    ess_tail_min: float
    ebfmi_min: float
    energy_balance: float
    """Mean of `hmc.energy_balance` over all trajectories; NaN where it was not followed."""


def given_up(verdict: Verdict, seconds: float) -> Verdict:
    """The verdict on what took longer than it may, which says so unless it is passed."""
    if verdict.passed:
        return verdict
    said = f"sampling was given up after {seconds:g} s (inference.rung_seconds)"
    return replace(verdict, reason="; ".join(part for part in (verdict.reason, said) if part))


@dataclass(frozen=True, kw_only=True)
class UnitSample:
    """What a sampler hands over of one unit."""

    structure: Structure
    batch: UnitBatch
    member: PreparedUnit
    """The unit that was sampled."""
    buffer: DrawBuffer
    places: Int[np.ndarray, " copy"]
    """Where in batch and buffer the unit's chains stand."""
    key: UInt32[Array | np.ndarray, "2"]
    """For what is drawn given the sampled coordinates."""
    count: int
    """Draws per chain."""
    length: int
    """Rows of the buffer that are looked at: the count and padding, so that few programs serve every count."""
    divergences: int
    balance: Float[np.ndarray, " chain"] | None = None
    """Mean of `hmc.energy_balance` by chain, where it was followed."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Draws in the model's units, and the verdict on them."""

    draws: Draws
    """On device and padded."""
    judgement: Judgement
    """On the host."""
    verdict: Verdict
    count: int

    def kept(self) -> Draws:
        """The draws on the host, without the padding."""
        return _kept(self.draws, self.count)


def certify(sample: UnitSample, inference: Inference) -> Certified:
    """The unit's draws as parameters of the model, diagnosed and judged."""
    own, key = _asked(sample), sample.key
    if isinstance(sample.buffer.rows, np.ndarray):
        drawn, energy = draws_on_host(*own, np.asarray(key), sample.places, sample.count)
        judgement = judged_on_host(sample.structure, sample.batch, int(sample.places[0]), drawn, energy)
    else:
        drawn, judgement = inspect(*own, key, sample.places, np.int32(sample.count), length=sample.length)
    judgement = Judgement(*(np.asarray(part) for part in judgement))
    verdict = judge(
        judgement,
        divergences=sample.divergences,
        trajectories=sample.count * sample.structure.chains * len(sample.places),
        inference=inference,
        balance=sample.balance,
    )
    return Certified(draws=drawn, judgement=judgement, verdict=verdict, count=sample.count)


def draws_again(sample: UnitSample) -> Draws:
    """The draws that `certify` made of a sample and nobody kept, on the host, without the padding."""
    if isinstance(sample.buffer.rows, np.ndarray):
        drawn, _ = draws_on_host(*_asked(sample), np.asarray(sample.key), sample.places, sample.count)
        return _kept(drawn, sample.count)
    drawn, _ = inspect(*_asked(sample), sample.key, sample.places, np.int32(sample.count), length=sample.length)
    return _kept(drawn, sample.count)


def _asked(sample: UnitSample) -> tuple[Structure, UnitBatch, DrawBuffer, LinearCoefficients]:
    structure, member = sample.structure, sample.member
    linear = LinearCoefficients(
        np.asarray(member.loading, structure.dtype), np.asarray(member.prior_mean, structure.dtype)
    )
    return structure, sample.batch, sample.buffer, linear


def _kept(draws: Draws, count: int) -> Draws:
    return Draws(*(np.ascontiguousarray(np.asarray(part)[..., :count, :]) for part in draws))


def judge(
    judgement: Judgement,
    *,
    divergences: int,
    trajectories: int,
    inference: Inference,
    balance: Float[np.ndarray, " chain"] | None = None,
) -> Verdict:
    """The verdict on a unit's draws; a diagnostic that is not a number counts as failed.

    Args:
        judgement: Diagnostics of every quantity, on the host.
        divergences: Divergent trajectories among the draws.
        trajectories: All trajectories of the draws.
        inference: The thresholds.
        balance: Mean of `hmc.energy_balance` by chain, where it was followed.
    """
    rhat = _worst(judgement.rhat, np.max)
    bulk, tail = _worst(judgement.ess_bulk, np.min), _worst(judgement.ess_tail, np.min)
    ebfmi = _worst(judgement.ebfmi, np.min)
    repeated = float(np.max(judgement.repeated))
    # numpy's minimum, for a NaN must win: Python's keeps whichever of the two stands first.
    ess = float(np.minimum(bulk, tail))
    slow = [
        (not rhat < inference.rhat_max, f"R-hat {rhat:.3f} is not below {inference.rhat_max:g}"),
        (not ess >= inference.ess_floor, f"effective draws {ess:.0f} are fewer than {inference.ess_floor}"),
    ]
    wrong = [
        (not bool(judgement.finite), "draws that are not finite"),
        (not ebfmi > inference.ebfmi_min, f"E-BFMI {ebfmi:.2f} is not above {inference.ebfmi_min:g}"),
        (
            divergences > TOLERATED_DIVERGENCES * trajectories,
            f"{divergences} of {trajectories} trajectories diverged",
        ),
        (not repeated <= GREATEST_REPEATED, f"a chain repeats {repeated:.0%} of its draws"),
    ]
    failed = [text for missed, text in (*slow, *wrong) if missed]
    mixing = bool(failed) and not any(missed for missed, _ in wrong)
    passed = not failed
    centre, error = _balance(balance, trajectories)
    unbalanced = abs(centre) > GREATEST_IMBALANCE * error
    warning = f"energy errors are out of balance by {centre:.3f}, {abs(centre) / error:.0f} Monte Carlo errors"
    return Verdict(
        passed=passed,
        enough=passed and ess >= inference.ess_target,
        hopeless=not rhat < HOPELESS_RHAT or not repeated <= GREATEST_REPEATED,
        mixing=mixing,
        settled=not any(missed for missed, _ in slow),
        reason="; ".join(failed) or (warning if unbalanced else ""),
        rhat_max=rhat,
        ess_bulk_min=bulk,
        ess_tail_min=tail,
        ebfmi_min=ebfmi,
        energy_balance=centre,
    )


def judge_hyper(rhat: ArrayLike, ess_bulk: ArrayLike, inference: Inference) -> str:
    """What is wrong with a group's hyperparameters; empty if nothing.

    Divergences of the trajectories that move them are no gate: exact draws move the same numbers in every sweep.
    """
    worst, ess = _worst(rhat, np.max), _worst(ess_bulk, np.min)
    gates = [
        (not worst < inference.rhat_max, f"R-hat {worst:.3f} is not below {inference.rhat_max:g}"),
        (not ess >= inference.ess_floor, f"effective draws {ess:.0f} are fewer than {inference.ess_floor}"),
    ]
    return "; ".join(text for missed, text in gates if missed)


def past_saving(divergences: int, most: int) -> bool:
    """Whether more trajectories have diverged than are tolerated among `most`, the most that there will be."""
    return divergences > TOLERATED_DIVERGENCES * most


def _balance(means: Float[np.ndarray, " chain"] | None, trajectories: int) -> tuple[float, float]:
    """Mean over the chains and its Monte Carlo error: the chains' own, or independent trajectories' if larger."""
    if means is None:
        return math.nan, math.inf
    between = float(np.std(means, ddof=1)) / math.sqrt(len(means))
    # No trajectory's part exceeds one.
    return float(np.mean(means)), max(between, 1 / math.sqrt(trajectories))


def _worst(values: ArrayLike, worst: Callable[[np.ndarray], float]) -> float:
    values = np.asarray(values)
    return float(worst(values)) if np.all(np.isfinite(values)) else math.nan
