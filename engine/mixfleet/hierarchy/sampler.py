"""Sampler: groups of units, each as one joint posterior, until all of it is certified or set aside."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from mixfleet import runtime
from mixfleet.config import Inference, Spec
from mixfleet.data.panel import unit_id
from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.adaptation import begin, warm_up
from mixfleet.hierarchy.gibbs import SWEEPS, GibbsSweep, PooledProgram, pooled_program
from mixfleet.hierarchy.groups import Prepared
from mixfleet.hierarchy.hyperparameters import Hierarchy, Hyper
from mixfleet.hierarchy.state import GibbsState, GroupData, stack_hyper, with_smaller_steps
from mixfleet.inference import diagnostics
from mixfleet.inference.adaptation import HARDER_ACCEPT
from mixfleet.inference.certification import (
    HOPELESS_RHAT,
    UnitSample,
    Verdict,
    certify,
    draws_again,
    given_up,
    judge_hyper,
    past_saving,
)
from mixfleet.inference.compiled import Device, DrawBuffer
from mixfleet.inference.native_block import form_of
from mixfleet.inference.random_numbers import hashed_key, uniforms
from mixfleet.inference.scheduler import CHECKS, Finished, Job, Judged
from mixfleet.models.batch import stack
from mixfleet_kernels import native_library
from mixfleet_kernels.convergence import convergence_on_host

__all__ = ["FinishedGroup", "HyperDraws", "redrawn_hyper", "sample_groups"]

LENGTHS = (512, 1024, 2048, 4096)
"""Checks judge draws padded to one of these lengths."""

PATIENCE = 512
"""Draws per chain after which a group whose chains plainly disagree goes on to the next rung, if there is one."""

SMALLER = 0.7
"""Factor of the step size, from a check on, of units that diverged too often since the check before. So a unit that a
warm-up was too short to tell of does not cost its whole group another rung. As there are few checks, the chains forget
that their past chose their steps, doi:10.1239/jap/1183667414."""

HARDER_RUNGS = 2
"""Rungs above the first, each from where the chains stand, with smaller steps; a group's outcome is that of the rung on
which most of its units pass, and of the last one where none does."""

FEW = 0.02
"""Share of a group's units that may diverge too often, and be told so, while the others go on: for them the group
climbs no rung. Of 300 crossed units a few sent all of them up after 768 draws, on every rung."""

REDRAWS = 32
"""Sweeps of hyperparameters given the units, in which only a key's effects and the spreads depend on the sweep before;
twice as many change nothing that can be seen."""

BLOCK = 256
"""Draws at a time. XLA 0.10.2 on CPU gives wrong numbers for a sweep over some 30,000 rows times draws at a time."""


@dataclass(frozen=True, kw_only=True)
class HyperDraws:
    """Hyperparameters of a group, and how well they are known."""

    draws: Float[np.ndarray, "quantity row draw chain"]
    """Centre, spread of the units, spread of each key, effects of each key's labels, and with types the mean and spread
    of the row's type; unconstrained scale."""
    rhat: Float[np.ndarray, "quantity row"]
    ess_bulk: Float[np.ndarray, "quantity row"]


@dataclass(frozen=True, kw_only=True)
class FinishedGroup:
    """A group's outcome."""

    group: Prepared
    units: tuple[Judged, ...]
    hyper: HyperDraws
    record: "Record"

    def finished(self, place: int) -> Finished:
        """One of the units with its draws, as parameters of its model.

        Made of the record when they are asked for: those of all units would be as much again.
        """
        judged = self.units[place]
        sample = _sample_of(self.record, place, judged.job.keys[0])
        own = {field.name: getattr(judged, field.name) for field in fields(judged)}
        return Finished(**own, draws=draws_again(sample))


def sample_groups(
    groups: list[Prepared], spec: Spec, devices: list[Device], stop: Event
) -> Iterator[FinishedGroup | None]:
    """Each group's outcome, as they are done, several groups at a time; None now and then while there is none."""
    outcomes = SimpleQueue[FinishedGroup]()

    def work(group: Prepared, device: Device) -> None:
        with jax.enable_x64(True), jax.default_device(device):
            finished = _sample(group, spec, device, room, stop)
            if finished is not None:
                outcomes.put(finished)

    room = spec.compute.memory_limit_gib / max(1, min(len(groups), len(devices)))
    # The largest first, so that none of them is the last one alone.
    queue = sorted(groups, key=lambda group: -len(group.members))
    # Before the threads, of which two would build the same one.
    for group in queue:
        for device in dict.fromkeys(devices):
            pooled_program(group.pool, device)
    works = [partial(work, group, devices[i % len(devices)]) for i, group in enumerate(queue)]
    waiting = len(queue)
    with closing(runtime.in_threads(works, len(devices), outcomes, stop)) as finished_ones:
        while waiting:
            finished = next(finished_ones)
            waiting -= finished is not None
            yield finished


def _sample(group: Prepared, spec: Spec, device: Device, room: float, stop: Event) -> FinishedGroup | None:
    """One group, from its modes to its verdict, and on from there with smaller steps; None when told to stop.

    Args:
        group: The group.
        spec: All settings.
        device: Where it is sampled.
        room: Memory for it, in GiB.
        stop: Ends it, when set.
    """
    began = time.monotonic()
    program = pooled_program(group.pool, device)
    unit_keys, key = _keys(group, spec)
    data, state = begin(group, program, unit_keys, key)
    best, anew = None, True
    rungs = 1 + HARDER_RUNGS * spec.inference.ladder
    for rung in range(rungs):
        if best is not None and not _passed(best):
            # No unit may use these draws, and a group's are the most that is in memory.
            best = None
        target = HARDER_ACCEPT if rung else spec.inference.target_accept
        data, state, gradients = warm_up(group, program, data, state, target, stop, anew=anew)
        record = Record(group, gradients)
        patience = PATIENCE if rung + 1 < rungs else spec.inference.max_draws
        state, finished = _draw(program, data, state, record, spec.inference, patience, stop)
        if finished is None:
            return None
        units = [replace(unit, job=replace(unit.job, rung=rung)) for unit in finished.units]
        finished = replace(finished, units=tuple(units))
        if best is None or _passed(finished) > _passed(best):
            best = finished
        told = judge_hyper(finished.hyper.rhat, finished.hyper.ess_bulk, spec.inference)
        # A few units of a group that agrees, or units that all draws did not certify, are not worth it all again.
        if _few(len(units) - _passed(best), len(units)) or (not told and units[0].count >= spec.inference.max_draws):
            break
        if _passed(best) and not _fits_beside(best, spec.inference, room):
            break
        # What a group nearly agrees with is as well learnt as it will be: of a ridge each window tells less.
        anew = not np.max(finished.hyper.rhat, initial=1.0) < HOPELESS_RHAT
        # Nor may what is no longer asked stand beside the draws of the next rung.
        del record, finished, units
    assert best is not None
    seconds = time.monotonic() - began
    return replace(best, units=tuple(replace(unit, seconds=seconds) for unit in best.units))


def _few(missed: int, units: int) -> bool:
    """Whether so few of so many units miss a gate of their own that their group goes on without them."""
    return missed <= FEW * units


def _fits_beside(best: FinishedGroup, inference: Inference, room: float) -> bool:
    """Whether the draws of another rung, as many as there may be, fit into `room` GiB beside those of the best."""
    rungs = 1 + inference.max_draws / best.record.count
    return rungs * best.record.nbytes <= room * 2**30


def _passed(finished: FinishedGroup) -> int:
    """How many units pass."""
    return sum(unit.verdict.passed for unit in finished.units)


def _draw(
    program: PooledProgram,
    data: GroupData,
    state: GibbsState,
    record: "Record",
    inference: Inference,
    patience: int,
    stop: Event,
) -> tuple[GibbsState, FinishedGroup | None]:
    """Draws until all of the group is certified, or will not be; the outcome is None when told to stop."""
    checks = [n for n in CHECKS if n < inference.max_draws] + [inference.max_draws]
    began = time.monotonic()
    while not stop.is_set():
        state, sweep = program.sweeps(data, state)
        record.add(sweep)
        if record.count < checks[0]:
            continue
        checks = [n for n in checks if n > record.count]
        late = inference.rung_seconds is not None and time.monotonic() - began > inference.rung_seconds
        finished = _judged(record, inference, np.asarray(data.unit_keys), patience, last=late or not checks)
        if finished is not None and late:
            seconds = inference.rung_seconds or 0.0
            units = [replace(unit, verdict=given_up(unit.verdict, seconds)) for unit in finished.units]
            finished = replace(finished, units=tuple(units))
        if finished is not None:
            return state, finished
        state = with_smaller_steps(state, record.diverging(), SMALLER)
    return state, None


class Record:
    """A group's draws so far, on the host."""

    def __init__(self, group: Prepared, gradients: Int[np.ndarray, " unit"]) -> None:
        self.group = group
        self._fields: list[np.ndarray] = []
        self._hyper: list[np.ndarray] = []
        self.divergences = np.zeros(group.pool.structure.units, int)
        self._likelihood_summary = self.divergences.copy(), 0
        self.balance = np.zeros((group.pool.structure.units, group.pool.structure.chains))
        self.gradients = gradients
        self.count = 0

    def add(self, sweep: GibbsSweep) -> None:
        self._fields.append(np.asarray(sweep.fields))
        self._hyper.append(np.asarray(sweep.hyper))
        self.divergences += np.asarray(sweep.diverged).sum(axis=(0, 2))
        self.balance += np.asarray(sweep.balance).sum(axis=0)
        self.gradients = self.gradients + np.asarray(sweep.steps).sum(axis=0)
        self.count += SWEEPS

    def diverging(self) -> Bool[np.ndarray, " unit"]:
        """The units of which, since the last call, a greater share of trajectories diverged than is tolerated."""
        (before, since), self._likelihood_summary = self._likelihood_summary, (self.divergences.copy(), self.count)
        trajectories = (self.count - since) * self.group.pool.structure.chains
        return np.array([past_saving(int(new), trajectories) for new in self.divergences - before])

    def rows(self, unit: int, length: int) -> Float[np.ndarray, "1 draw field chain"]:
        """A unit's draws as a draw buffer has them, padded to a length."""
        own = np.concatenate([block[:, :, unit] for block in self._fields])
        return np.concatenate([own, np.zeros((length - len(own), *own.shape[1:]), own.dtype)])[None]

    @property
    def nbytes(self) -> int:
        """Memory that the draws take."""
        return sum(block.nbytes for block in (*self._fields, *self._hyper))

    def hyper(self) -> Float[np.ndarray, "quantity row draw chain"]:
        """The hyperparameters of labels that there are."""
        return _of_labels(self.group, np.moveaxis(np.concatenate(self._hyper), 0, 2))


def _judged(
    record: Record, inference: Inference, unit_keys: np.ndarray, patience: int, *, last: bool
) -> FinishedGroup | None:
    """The group's outcome if all of it is certified, more draws will not help, or this is the last check."""
    count, chains = record.count, record.group.pool.structure.chains
    hyper = _judged_hyper(record)
    told = judge_hyper(hyper.rhat, hyper.ess_bulk, inference)
    by_unit = record.divergences[: len(record.group.members)].tolist()
    lost = [past_saving(diverged, inference.max_draws * chains) for diverged in by_unit]
    hopeless = count >= patience and not np.max(hyper.rhat) < HOPELESS_RHAT
    last = last or hopeless or not _few(sum(lost), len(lost))
    hoped = [diverged for diverged, gone in zip(by_unit, lost, strict=True) if not gone]
    if (told or past_saving(max(hoped, default=0), count * chains)) and not last:
        return None
    judged: list[Judged] = []
    for place in range(len(record.group.members)):
        unit = _judged_unit(record, place, inference, unit_keys)
        if not unit.verdict.settled and not last:
            return None
        judged.append(replace(unit, verdict=_with_group(unit.verdict, told)))
    return FinishedGroup(group=record.group, units=tuple(judged), hyper=hyper, record=record)


def _padded(count: int) -> int:
    """The length to which so many draws are padded."""
    return next((n for n in LENGTHS if n >= count), -(-count // LENGTHS[-1]) * LENGTHS[-1])


def _sample_of(record: Record, place: int, key: UInt32[np.ndarray, "2"]) -> UnitSample:
    """One unit's draws so far, as what judges a unit alone takes them."""
    member, structure, count = record.group.members[place], replace(record.group.pool.structure, units=1), record.count
    none, nothing = np.zeros(1, np.int32), np.zeros((1, structure.chains), structure.dtype)
    length = _padded(count)
    told: Any = stack([member], structure), (record.rows(place, length), none, none, nothing[:, 0], nothing)
    # What the group shares is drawn already: to judge a unit is the same as alone.
    if form_of(replace(structure, shared=0), "cpu") is None:
        told = jax.tree.map(jnp.asarray, told)
    return UnitSample(
        structure=structure,
        batch=told[0],
        member=member,
        buffer=DrawBuffer(*told[1]),
        places=np.zeros(1, np.int32),
        key=key,
        count=count,
        length=length,
        divergences=int(record.divergences[place]),
        balance=record.balance[place] / count,
    )


def _judged_unit(record: Record, place: int, inference: Inference, unit_keys: np.ndarray) -> Judged:
    """What the gates say of one unit's draws."""
    sample = _sample_of(record, place, unit_keys[place])
    certified = certify(sample, inference)
    return Judged(
        job=Job(member=sample.member, keys=unit_keys[place : place + 1]),
        verdict=certified.verdict,
        judgement=certified.judgement,
        count=sample.count,
        divergences=sample.divergences,
        gradients=int(record.gradients[place]) * sample.structure.chains,
        seconds=0.0,
        batch=sample.batch,
        place=0,
    )


def _judged_hyper(record: Record) -> HyperDraws:
    draws = record.hyper()
    quantities = draws.reshape(-1, *draws.shape[2:])
    if native_library.available():
        judged = convergence_on_host(quantities)
    else:
        padding = ((0, 0), (0, _padded(record.count) - record.count), (0, 0))
        judged = diagnostics.diagnose(jnp.asarray(np.pad(quantities, padding)), jnp.int32(record.count))
    by_row = draws.shape[:2]
    return HyperDraws(
        draws=draws,
        rhat=np.asarray(judged.rhat).reshape(by_row),
        ess_bulk=np.asarray(judged.ess_bulk).reshape(by_row),
    )


def _with_group(verdict: Verdict, told: str) -> Verdict:
    """A unit's verdict, which its group's hyperparameters can spoil: the posterior is one."""
    if not told:
        return verdict
    reason = "; ".join(part for part in (f"hyperparameters of the group: {told}", verdict.reason) if part)
    return replace(verdict, passed=False, enough=False, reason=reason)


def _keys(group: Prepared, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Random keys of the units' own moves and of the shared ones: hashes of who they are."""
    hashed = partial(hashed_key, spec.inference.seed)
    names = [unit_id(member.unit.labels) for member in group.members]
    padding = [f"padding {i}" for i in range(group.pool.structure.units - len(names))]
    own = np.stack([hashed(f"pooled:{name}") for name in names + padding])
    return own, hashed(f"group:{group.label}")[None]


def _of_labels(group: Prepared, values: Float[np.ndarray, "quantity ..."]) -> Float[np.ndarray, "quantity ..."]:
    """Of what `stack_hyper` gives, the hyperparameters of labels that there are."""
    first = 2 + len(group.keys)
    kept = list(range(first))
    for labels, levels in zip(group.labels, group.pool.levels, strict=True):
        kept += range(first, first + len(labels))
        first += levels
    # What is left are the types.
    return values[[*kept, *range(first, len(values))]]


def redrawn_hyper(
    group: Prepared, theta: Float[np.ndarray, "row unit draw"], key: UInt32[np.ndarray, "2"]
) -> Float[np.ndarray, "quantity row draw"]:
    """Hyperparameters given the units' pooled parameters and shared coefficients, one for each draw of those.

    Args:
        group: The group.
        theta: Pooled parameters on the unconstrained scale, then shared coefficients, of every unit.
        key: Of the random numbers.
    """
    units, draws = group.pool.structure.units, theta.shape[-1]
    blocks = -(-draws // BLOCK)
    padded = np.zeros((len(theta), units, blocks * BLOCK), group.pool.structure.dtype)
    padded[:, : theta.shape[1], :draws] = theta
    # Shared coefficients have no types.
    media = group.pool.rows
    parts = [(group.hierarchy, padded[:media]), (group.columns.hierarchy, padded[media:])]
    found = []
    for number, (hierarchy, own) in enumerate(parts):
        if len(own):
            hypers = [
                _redrawn(hierarchy, block, key[None], REDRAWS * (blocks * number + i))
                for i, block in enumerate(np.split(own, blocks, axis=-1))
            ]
            found.append([np.asarray(stack_hyper(group.pool, hierarchy, hyper)) for hyper in hypers])
    return _of_labels(group, np.concatenate([np.concatenate(part, axis=-1) for part in found], axis=1)[..., :draws])


@jax.jit
def _redrawn(
    hierarchy: Hierarchy, theta: Float[Array, "row unit draw"], key: UInt32[Array, "1 2"], first: int
) -> Hyper:
    rows, _, draws = theta.shape
    numbers = hierarchies.uniform_rows(tuple(len(member) for member in hierarchy.keys), len(hierarchy.types))

    def sweep(number: Array, hyper: Hyper) -> Hyper:
        uniform = uniforms(key, first + number, numbers * rows, draws, theta.dtype)
        return hierarchies.redraw(hierarchy, hyper, theta, uniform.reshape(numbers, rows, draws))

    return jax.lax.fori_loop(0, REDRAWS, sweep, hierarchies.zero_state(jax.tree.map(jnp.asarray, hierarchy), draws))
