"""Fitting: every unit of a panel, by structure, over all devices, up the ladder until certified or set aside."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Event

import jax
import numpy as np

from mixfleet import runtime
from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.errors import ConfigError
from mixfleet.fitting.memory import check_group_memory, check_memory
from mixfleet.fitting.retries import FALLBACK_RUNG, RETRY_PLACES, harder, keys_of, other_coordinate, status_of
from mixfleet.hierarchy.groups import Prepared, groups_of, pooled_settings, prepared
from mixfleet.hierarchy.sampler import FinishedGroup, sample_groups
from mixfleet.inference.adaptation import HARDER_ACCEPT
from mixfleet.inference.compiled import Device, program
from mixfleet.inference.scheduler import Finished, Job, Jobs, Slots, capacity_of
from mixfleet.models.batch import Structure, padded_weeks, prepare, structure_of
from mixfleet.posterior.pooling_factors import with_pooling
from mixfleet.posterior.summarize import unit_result
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["OnEvent", "OnGroup", "Progress", "fit_units"]

POLL_SECONDS, IDLE_SECONDS = 0.5, 0.05


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit is."""

    done: int
    """Units that have their final status."""
    ok: int
    """Those of them that are certified."""
    total: int
    active: int
    """Units that are being sampled."""
    phase: str
    elapsed: float
    """Seconds since the fit began."""


OnEvent = Callable[[Progress], None]
OnGroup = Callable[[FinishedGroup], None]


def fit_units(
    panel: Panel,
    spec: Spec,
    *,
    skip: frozenset[str] = frozenset(),
    on_event: OnEvent | None = None,
    on_group: OnGroup | None = None,
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
    tally = _Tally(len(units), on_event)
    devices = _devices(spec)
    if spec.pooling.by != "none":
        yield from _fit_groups(units, panel, spec, devices, tally, on_group)
        return
    groups = {n: [u for u in units if padded_weeks(len(u.dates)) == n] for n in _lengths(units)}
    structures = {n: structure_of(spec, panel, n) for n in groups}
    for structure in structures.values():
        check_memory(structure, spec, len(_workers(devices)))

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
                yield tally.count(_result(finished, structures[n], panel, spec))
            else:
                unfinished.append((structures[n], finished))
    yield from _climb(unfinished, panel, spec, devices, tally)


def _fit_groups(
    units: list[Unit],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: "_Tally",
    on_group: OnGroup | None,
) -> Iterator[UnitResult]:
    """Results of the units by way of their groups; a group is sampled whole if any of its units is wanted."""
    wanted = {unit.labels for unit in units}
    groups: list[Prepared] = []
    for label, members in groups_of(panel, spec):
        if wanted.isdisjoint(member.labels for member in members):
            continue
        try:
            groups.append(prepared(label, members, panel, spec))
        except np.linalg.LinAlgError as error:
            reason = f"the linear block of a unit of the group cannot be decomposed: {error}"
            failed = [member.labels for member in members if member.labels in wanted]
            yield from (tally.count(UnitResult(labels=one, status="failed", reason=reason)) for one in failed)
    check_group_memory(groups, spec, len(_workers(devices)))
    waiting = sum(len(group.members) for group in groups)
    settings = pooled_settings(spec)
    for finished in sample_groups(groups, spec, _workers(devices), Event()):
        tally.show("sampling", active=waiting)
        if finished is None:
            continue
        if on_group is not None:
            on_group(finished)
        structure = replace(finished.group.pool.structure, units=1)
        for unit in finished.units:
            waiting -= 1
            if unit.job.member.unit.labels in wanted:
                result = _result(unit, structure, panel, settings)
                yield tally.count(with_pooling(result, unit, finished, panel, spec))


def _climb(
    unfinished: list[tuple[Structure, Finished]],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: "_Tally",
) -> Iterator[UnitResult]:
    """The units that smaller steps did not certify: other coordinates, then float64 NUTS, then quarantine.

    NUTS is for posteriors of awkward shape, which show in divergences, energies or numbers that are not finite. It
    has no better way between distant modes than the chains that failed before, so those units are set aside at once.
    """
    moved = other_coordinate(spec)
    still: list[tuple[Structure, Finished]] = []
    for structure in dict.fromkeys(structure for structure, _ in unfinished):
        # One unit to a tile: they are few, and have no others to share one with.
        again = replace(structure, model=moved.model, units=min(RETRY_PLACES, structure.units))
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
                yield tally.count(_result(finished, again, panel, moved))
            else:
                still.append((again, finished))
    if still:
        from mixfleet.inference import nuts  # numpyro takes seconds to import, and few fits need it

        for structure, finished in still:
            tally.show("falling back to NUTS", active=1)
            key = keys_of(finished.job.member.unit, spec, rung=FALLBACK_RUNG)[0]
            last, slow = nuts.sample(finished, structure, replace(spec.inference, target_accept=HARDER_ACCEPT), key)
            yield tally.count(_result(last, slow, panel, moved))


def _sample(
    structure: Structure, jobs: list[Job], spec: Spec, devices: list[Device], tally: "_Tally", phase: str = "sampling"
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
    places = _workers(devices)[: -(-sum(job.copies for job in jobs) // structure.units)]
    # Before the threads, of which two would build the same one.
    for device in dict.fromkeys(places):
        program(structure, capacity_of(spec.inference), device)
    with ThreadPoolExecutor(len(places), thread_name_prefix="mixfleet") as pool:
        running = [pool.submit(work, device) for device in places]
        try:
            waiting = len(jobs)
            while waiting:
                tally.show(phase, active=sum(batch.active for batch in batches))
                try:
                    finished = outcomes.get(timeout=POLL_SECONDS)
                except Empty:
                    for future in running:
                        if future.done():
                            future.result()
                    continue
                waiting -= 1
                yield finished
        finally:
            stop.set()


def _job(unit: Unit, panel: Panel, spec: Spec) -> Job | UnitResult:
    try:
        member = prepare(unit, panel, spec)
    except np.linalg.LinAlgError as error:
        reason = f"the linear block cannot be decomposed: {error}"
        return UnitResult(labels=unit.labels, status="failed", reason=reason)
    return Job(member=member, keys=keys_of(unit, spec), target_accept=spec.inference.target_accept)


def _result(finished: Finished, structure: Structure, panel: Panel, spec: Spec) -> UnitResult:
    status, reason = status_of(finished)
    with jax.enable_x64(True):
        return unit_result(finished, structure, panel, spec, status=status, reason=reason)


def _devices(spec: Spec) -> list[Device]:
    there = jax.local_devices()
    wanted = len(there) if spec.compute.devices == "all" else spec.compute.devices
    if wanted > len(there):
        raise ConfigError(f"asks for {wanted}, there are {len(there)}", key="compute.devices")
    return there[:wanted]


def _workers(devices: list[Device]) -> list[Device]:
    """The device of each thread that moves a tile: on CPU one thread per core, else one per device."""
    if devices[0].platform != "cpu":
        return devices
    return devices * max(1, runtime.cores() // len(devices))


def _lengths(units: list[Unit]) -> list[int]:
    """Padded lengths that occur, the commonest first."""
    lengths = [padded_weeks(len(unit.dates)) for unit in units]
    return sorted(set(lengths), key=lambda n: (-lengths.count(n), n))


class _Tally:
    """Counts what is done and tells the listener."""

    def __init__(self, total: int, on_event: OnEvent | None) -> None:
        self._total, self._on_event = total, on_event
        self._done = self._ok = self._active = 0
        self._began = time.monotonic()

    def count(self, result: UnitResult) -> UnitResult:
        self._done += 1
        self._ok += result.status.startswith("ok")
        if self._done == self._total:
            self.show("finishing", active=0)
        else:
            self.show("sampling", active=self._active)
        return result

    def show(self, phase: str, *, active: int) -> None:
        self._active = active
        if self._on_event is not None:
            elapsed = time.monotonic() - self._began
            self._on_event(
                Progress(
                    done=self._done,
                    ok=self._ok,
                    total=self._total,
                    active=active,
                    phase=phase,
                    elapsed=elapsed,
                )
            )
