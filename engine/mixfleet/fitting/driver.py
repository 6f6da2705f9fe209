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
from mixfleet.fitting.retries import FALLBACK_RUNG, RETRY_PLACES, harder, keys_of, other_coordinate, result_of
from mixfleet.inference import native_block
from mixfleet.inference.adaptation import HARDER_ACCEPT
from mixfleet.inference.certification import given_up
from mixfleet.inference.compiled import Device, program
from mixfleet.inference.scheduler import Finished, Job, Jobs, Slots, capacity_of
from mixfleet.models.batch import Structure, padded_weeks, prepare, room_for_gaps, structure_of
from mixfleet.models.virtual_weeks import Extent, extent_of
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["fit_units", "path_of"]

if TYPE_CHECKING:
    from mixfleet.fitting.group_driver import OnGroup

IDLE_SECONDS = 0.05


def path_of(panel: Panel, spec: Spec) -> str:
    """How the panel's units are sampled here, in words; all of them so, for what differs by unit is data.

    Units that climb to the last rung of the ladder are sampled in XLA whatever it says.
    """
    if spec.pooling.by != "none":
        return "xla, groups by Gibbs sweeps"
    first = panel.units[:1]
    if not first:
        return ""
    structure = structure_of(spec, replace(panel, units=first), len(first[0].dates))
    return native_block.path_of(structure, devices_of(spec)[0].platform)


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
    structures = {n: structure_of(spec, replace(panel, units=tuple(own)), n.weeks) for n, own in groups.items()}
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
        for finished in _sample(structures[n], jobs, spec, devices, tally):
            if finished.verdict.passed or not spec.inference.ladder:
                yield tally.count(result_of(finished, structures[n], panel, spec))
            else:
                unfinished.append((structures[n], finished))
    yield from _climb(unfinished, panel, spec, devices, tally)


def _climb(
    unfinished: list[tuple[Structure, Finished]],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: Tally,
) -> Iterator[UnitResult]:
    """The units that smaller steps did not certify: other coordinates, then float64 NUTS, then quarantine.

    NUTS is for posteriors of awkward shape, which show in divergences, energies or numbers that are not finite. It
    has no better way between distant modes than the chains that failed before, so those units are set aside at once.
    """
    moved = other_coordinate(spec)
    still: list[tuple[Structure, Finished]] = []
    for structure in dict.fromkeys(structure for structure, _ in unfinished):
        # One unit to a tile: they are few, and have no others to share one with.
        model = replace(structure.model, coordinate=moved.model.coordinate)
        again = replace(structure, model=model, units=min(RETRY_PLACES, structure.units))
        jobs = [
            replace(
                harder(finished.job, spec, again),
                # Its linear block could be decomposed before.
                member=prepare(finished.job.member.unit, panel, moved),
            )
            for own, finished in unfinished
            if own == structure
        ]
        for finished in _sample(again, jobs, moved, devices, tally, phase="retrying"):
            if finished.verdict.passed or finished.verdict.mixing:
                yield tally.count(result_of(finished, again, panel, moved))
            else:
                still.append((again, finished))
    if still:
        from mixfleet.inference import nuts  # numpyro takes seconds to import, and few fits need it

        for structure, finished in still:
            tally.show("falling back to NUTS", active=1)
            key = keys_of(finished.job.member.unit, spec, rung=FALLBACK_RUNG)[0]
            sampled = nuts.sample(finished, structure, replace(spec.inference, target_accept=HARDER_ACCEPT), key)
            if sampled is None:
                verdict = given_up(finished.verdict, "float64 NUTS", spec.inference.rung_seconds or 0.0)
                sampled = replace(finished, verdict=verdict), structure
            last, slow = sampled
            yield tally.count(result_of(last, slow, panel, moved))


def _sample(
    structure: Structure, jobs: list[Job], spec: Spec, devices: list[Device], tally: Tally, phase: str = "sampling"
) -> Iterator[Finished]:
    """The jobs' outcomes; a unit that misses a gate on the first rung is tried once more, before all that wait."""
    if not jobs:
        return
    heap, outcomes, stop = Jobs(jobs), SimpleQueue[Finished](), Event()

    def finish(finished: Finished) -> None:
        if finished.verdict.passed or finished.job.rung > 0 or not spec.inference.ladder:
            outcomes.put(finished)
        else:
            heap.put_first(harder(finished.job, spec, structure))

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
            finished = next(done)
            if finished is not None:
                waiting -= 1
                yield finished


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
