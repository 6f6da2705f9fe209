"""Every unit of a panel, by structure, over all devices, up the ladder until certified or set aside."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mixfleet import runtime
from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.fitting.devices import devices_of, workers_of
from mixfleet.fitting.memory import check_memory
from mixfleet.fitting.progress import OnEvent, Tally
from mixfleet.fitting.retries import (
    FALLBACK_RUNG,
    MANY_CHAINS_RUNG,
    RETRY_PLACES,
    harder,
    in_double_precision,
    keys_of,
    result_of,
)
from mixfleet.inference import native_block
from mixfleet.inference.compiled import Device, program
from mixfleet.inference.scheduler import Finished, Job, Jobs, Slots, capacity_of
from mixfleet.models.batch import Structure, padded_weeks, prepare, room_for_gaps, structure_of
from mixfleet.models.virtual_weeks import Extent, extent_of
from mixfleet.posterior.unit_result import UnitResult
from mixfleet_kernels import native_library

__all__ = ["fit_units", "path_of", "slower_here"]

if TYPE_CHECKING:
    from mixfleet.fitting.group_driver import OnGroup

IDLE_SECONDS = 0.05

NATIVE_LANES = 32
"""Chains of a tile that native code moves, in which there is room for a unit tried again in several places."""


def path_of(panel: Panel, spec: Spec) -> str:
    """How the panel's units are sampled here, in words; all of them so, for what differs by unit is data."""
    first, platform = panel.units[:1], devices_of(spec)[0].platform
    if not first:
        return ""
    pooled, settings = spec.pooling.by != "none", spec
    if pooled:
        from mixfleet.hierarchy.groups import pooled_settings  # fits of units alone go without

        settings = pooled_settings(spec)
    path = native_block.path_of(structure_of(settings, replace(panel, units=first), len(first[0].dates)), platform)
    # Where pooled strengths are effects their coordinates depend on the curves.
    curved = pooled and spec.pooling.effect is not None and settings.model.coordinate == "effect"
    return f"{'xla' if curved else path}, groups by Gibbs sweeps" if pooled else path


def slower_here(spec: Spec) -> str:
    """Why a fit takes longer here than it has to, with the remedy; empty where it does not."""
    why = native_library.why_not() if devices_of(spec)[0].platform == "cpu" else ""
    return why and f"{why}; until then fits run in XLA alone, which takes up to ten times the processor time"


def fit_units(
    panel: Panel,
    spec: Spec,
    *,
    skip: frozenset[str] = frozenset(),
    on_event: OnEvent | None = None,
    on_group: "OnGroup | None" = None,
) -> Iterator[UnitResult]:
    """Results of the panel's units, each once, as they are done; a unit's result does not depend on the others.

    Args:
        panel: Checked units.
        spec: All settings.
        skip: Ids of units that need no result.
        on_event: Called a few times a second, in the caller's thread, while the iterator is being read.
        on_group: Called with each group of pooled units before its first result, in the caller's thread.

    Raises:
        ConfigError: The settings ask for a program that cannot be built or that exceeds the memory limit.
    """
    units = [unit for unit in panel.units if unit_id(unit.labels) not in skip]
    tally = Tally(len(units), on_event)
    devices = devices_of(spec)
    if spec.pooling.by != "none":
        from mixfleet.fitting.group_driver import fit_groups  # most fits pool nothing

        yield from fit_groups(units, panel, spec, devices, tally, on_group)
        return
    groups = {n: [u for u in units if _kind(u, spec) == n] for n in _kinds(units, spec)}
    structures = {
        n: _tile(structure_of(spec, replace(panel, units=tuple(own)), n.weeks), devices[0]) for n, own in groups.items()
    }
    for structure in structures.values():
        check_memory(structure, spec, len(workers_of(devices, spec.compute.threads)))

    unfinished: list[tuple[Structure, Finished]] = []
    for n, members in groups.items():
        jobs = []
        for unit in members:
            job = _job(unit, panel, spec)
            if isinstance(job, UnitResult):
                yield tally.count(job)
            else:
                jobs.append(job)
        for outcome in _sample(structures[n], jobs, panel, spec, devices, tally, last=not spec.inference.ladder):
            if isinstance(outcome, UnitResult):
                yield tally.count(outcome)
            else:
                unfinished.append((structures[n], outcome))
    for structure in dict.fromkeys(own for own, _ in unfinished):
        awkward = [finished for own, finished in unfinished if own == structure]
        for outcome in _in_double_precision(structure, awkward, panel, spec, devices, tally):
            yield tally.count(outcome)


def _tile(structure: Structure, device: Device) -> Structure:
    """The structure with as few places as serve: each unit's next block waits for those of the others of its tile.

    In native code a block of few places costs no more by place, and of units that take long, which are tried again and
    again, none is to end long after the fleet.
    """
    if native_block.form_of(structure, device.platform) is None:
        return structure
    return replace(structure, units=min(structure.units, max(RETRY_PLACES, NATIVE_LANES // structure.chains)))


def _in_double_precision(
    structure: Structure,
    awkward: list[Finished],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: Tally,
) -> Iterator[UnitResult]:
    """The last rung, for posteriors of awkward shape: divergences, energies or numbers that are not finite."""
    precise = in_double_precision(spec)
    # One unit to a tile: they are few, and have no others to share one with.
    own = replace(structure, dtype=precise.compute.precision, units=1)
    harder_jobs = (harder(finished.job, precise, own, FALLBACK_RUNG) for finished in awkward)
    # Its linear block could be decomposed before.
    jobs = [replace(job, member=prepare(job.member.unit, panel, precise)) for job in harder_jobs]
    for outcome in _sample(own, jobs, panel, precise, devices, tally, last=True, phase="retrying"):
        assert isinstance(outcome, UnitResult)
        yield outcome


def _sample(
    structure: Structure,
    jobs: list[Job],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: Tally,
    *,
    last: bool,
    phase: str = "sampling",
) -> Iterator[UnitResult | Finished]:
    """The jobs' outcomes; a unit that misses a gate climbs the rungs that share the batch, before all that wait.

    What passes has a result, and so has what only mixes slowly, for which double precision is no better way between
    distant modes; with `last` everything has.
    """
    if not jobs:
        return
    heap, outcomes, stop = Jobs(jobs), SimpleQueue[UnitResult | Finished](), Event()
    # A core that samples in native code makes results too, so that all are busy to the end; who waits for a device
    # lets it sample on meanwhile, and nothing is compiled twice.
    in_place = native_block.form_of(structure, devices[0].platform) is not None

    def told(finished: Finished) -> UnitResult | Finished:
        over = last or finished.verdict.passed or finished.verdict.mixing
        return result_of(finished, structure, panel, spec) if over else finished

    def finish(finished: Finished) -> None:
        rung = finished.job.rung
        if finished.verdict.passed or rung >= MANY_CHAINS_RUNG or not spec.inference.ladder:
            outcomes.put(told(finished) if in_place else finished)
        else:
            heap.put_first(harder(finished.job, spec, structure, rung=rung + 1))

    def work(device: Device) -> None:
        batch = Slots(program(structure, capacity_of(spec.inference), device), spec.inference, heap, finish, stop)
        batches.append(batch)
        while not stop.is_set():
            if heap:
                batch.run()
            # A unit of another tile may have to be tried once more.
            stop.wait(IDLE_SECONDS)

    batches: list[Slots] = []
    places = workers_of(devices, spec.compute.threads)[: -(-sum(job.copies for job in jobs) // structure.units)]
    # Before the threads, of which two would build the same one.
    for device in dict.fromkeys(places):
        program(structure, capacity_of(spec.inference), device)
    waiting = len(jobs)
    with closing(runtime.in_threads([partial(work, device) for device in places], len(places), outcomes, stop)) as done:
        while waiting:
            tally.show(phase, active=sum(batch.active for batch in batches))
            outcome = next(done)
            if outcome is not None:
                waiting -= 1
                yield told(outcome) if isinstance(outcome, Finished) else outcome


def _job(unit: Unit, panel: Panel, spec: Spec) -> Job | UnitResult:
    try:
        member = prepare(unit, panel, spec)
    except np.linalg.LinAlgError as error:
        reason = f"the linear block cannot be decomposed: {error}"
        return UnitResult(labels=unit.labels, status="failed", reason=reason)
    return Job(member=member, keys=keys_of(unit, spec), target_accept=spec.inference.target_accept)


class _Kind(NamedTuple):
    """What a unit's structure depends on, besides the settings: a function of the unit alone."""

    weeks: int
    evidence: Extent
    gaps: int


def _kind(unit: Unit, spec: Spec) -> _Kind:
    evidence = extent_of([unit.experiments], window=spec.model.window)
    return _Kind(padded_weeks(len(unit.dates)), evidence, room_for_gaps([unit], spec))


def _kinds(units: list[Unit], spec: Spec) -> list[_Kind]:
    """Kinds that occur, the commonest first."""
    kinds = [_kind(unit, spec) for unit in units]
    return sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
