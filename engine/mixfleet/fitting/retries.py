"""Retries: the ladder that a unit climbs when it misses a gate, and the status that it ends with.

| rung | what is different |
|---|---|
| 0 | the usual fit |
| 1 | smaller steps, a longer warm-up |
| 2 | as rung 1, in several places of the batch at once: more chains, and more draws in all |
| 3 | steps smaller still, in double precision; what only mixes slowly is not tried on it |

Few chains come first on every rung, for R-hat asks each chain for as many effective draws however many chains there
are: of 1,500 independent draws it seldom misses its bound by chance if they are of 8 chains, and often if they are of
32 (`tests/inference/test_diagnostics.py`).

Each is the batched sampler: where it is native there is nothing to compile for the few units that climb.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.inference.adaptation import HARDER_ACCEPT, HARDEST_ACCEPT
from mixfleet.inference.random_numbers import hashed_key
from mixfleet.inference.scheduler import Finished, Job
from mixfleet.models.batch import Structure
from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.summarize import unit_result
from mixfleet.posterior.unit_result import UnitResult

__all__ = [
    "FALLBACK_RUNG",
    "MANY_CHAINS_RUNG",
    "RETRY_PLACES",
    "harder",
    "in_double_precision",
    "keys_of",
    "result_of",
    "status_from",
    "status_of",
]

RETRY_PLACES = 4
"""Places of a tile in which a unit is sampled on the rung of many chains."""

MANY_CHAINS_RUNG, FALLBACK_RUNG = 2, 3


def harder(job: Job, spec: Spec, structure: Structure, rung: int) -> Job:
    """The job on a rung above the first."""
    copies = min(RETRY_PLACES, structure.units) if rung == MANY_CHAINS_RUNG else 1
    keys = keys_of(job.member.unit, spec, rung=rung, copies=copies)
    return replace(job, rung=rung, keys=keys, target_accept=HARDEST_ACCEPT if rung == FALLBACK_RUNG else HARDER_ACCEPT)


def in_double_precision(spec: Spec) -> Spec:
    """The settings with nothing rounded to single precision."""
    return replace(spec, compute=replace(spec.compute, precision="float64"))


def keys_of(unit: Unit, spec: Spec, *, rung: int = 0, copies: int = 1) -> np.ndarray:
    """The unit's random keys: hashes of who it is, never of where it stands."""
    texts = [f"{rung}:{copy}:{unit_id(unit.labels)}" for copy in range(copies)]
    return np.stack([hashed_key(spec.inference.seed, text) for text in texts])


def status_of(finished: Finished, checks: Sequence[ModelCheck]) -> tuple[str, str]:
    """What became of a unit, and why it is not plain ok.

    Args:
        finished: Its draws, judged.
        checks: Of its model.
    """
    verdict = finished.verdict
    unit, rung = finished.job.member.unit, finished.job.rung
    return status_from(unit, checks, passed=verdict.passed, reason=verdict.reason, rung=rung)


def status_from(unit: Unit, checks: Sequence[ModelCheck], *, passed: bool, reason: str, rung: int) -> tuple[str, str]:
    """What became of a unit, and why it is not plain ok.

    Args:
        unit: With what the checks of the table found.
        checks: Of its model.
        passed: Whether its draws passed every gate.
        reason: What is to be said of them, if anything.
        rung: On which they were made.
    """
    misfits, doubts = ([c.statement for c in checks if c.verdict == kind] for kind in ("misfit", "doubt"))
    notes = [reason, *misfits, *(finding.statement for finding in unit.warnings), *doubts]
    warned = "; ".join(note for note in notes if note)
    if not passed:
        return "quarantined", warned
    if misfits:
        return "misfit", warned
    if rung == FALLBACK_RUNG:
        return "ok_fallback", "; ".join(part for part in ("certified in double precision", warned) if part)
    if rung > 0:
        return "ok_retried", "; ".join(part for part in (f"certified on rung {rung}", warned) if part)
    return ("ok_warn" if warned else "ok"), warned


def result_of(finished: Finished, structure: Structure, panel: Panel, spec: Spec) -> UnitResult:
    """Tables, statistics and kept draws of a unit, with its status."""
    with jax.enable_x64(True):
        return unit_result(finished, structure, panel, spec, judged=partial(status_of, finished))
