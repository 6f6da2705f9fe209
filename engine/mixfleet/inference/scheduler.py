"""Scheduler: the places of a batch on one device, refilled as units finish."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock

import jax
import numpy as np

from mixfleet.config import Inference
from mixfleet.inference import adaptation
from mixfleet.inference.adaptation import Metric, Window
from mixfleet.inference.certification import UnitSample, Verdict, certify, given_up, past_saving
from mixfleet.inference.compiled import Program
from mixfleet.inference.draws import Draws, Judgement
from mixfleet.inference.hmc import TICKS, DrawBuffer, HMCState
from mixfleet.inference.native_block import NativeProgram
from mixfleet.inference.sinh_arcsinh import SinhArcsinh
from mixfleet.models.batch import PreparedUnit, UnitBatch, stack

__all__ = ["Finished", "Job", "Jobs", "Judged", "Slots", "capacity_of"]

WINDOWS = (1, 3, 8)
"""Blocks of warm-up after which a unit learns: first a metric, from the second on coordinates and a metric in them.

From the first window's draws, then from those since, of which the last time has the more."""

SETTLING = 1
"""Blocks of warm-up after the last window, for the step size alone."""

CHECKS = (256, 384, 512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2400, 2800, 3200)
"""Draws per chain at which a unit may stop, up to the configuration's most, which is the last check."""

FEWEST = 512
"""Draws per chain before which nobody is checked; of a unit in several places, over all its places."""

HASTE = 0.95
"""Effective draws may come faster than at the last check; this much earlier is worth checking."""

HARDER_PATIENCE = 2
"""How many times longer the warm-up is on the rungs above the first."""

SHORT = 768
"""Checks at up to so many draws judge a draw buffer of this length, later ones the whole buffer."""

PATIENCE = 1024
"""Draws per chain after which a unit is given up whose chains plainly disagree, or whose effective draws come too
slowly to reach the floor by the last check."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One unit to sample, and how hard."""

    member: PreparedUnit
    keys: np.ndarray
    """uint32[copy, 2], from the unit's labels, the seed, the rung and the copy: in how many places of a tile the unit
    is sampled at once, as so many more chains."""
    rung: int = 0
    target_accept: float = 0.8

    @property
    def copies(self) -> int:
        """Places that the unit takes."""
        return len(self.keys)

    @property
    def patience(self) -> int:
        """How many times longer the warm-up is than the usual one."""
        return 1 if self.rung == 0 else HARDER_PATIENCE


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A job's outcome but for its draws, on the host except for the tile."""

    job: Job
    verdict: Verdict
    judgement: Judgement
    count: int
    divergences: int
    gradients: int
    seconds: float
    batch: UnitBatch
    place: int


@dataclass(frozen=True, kw_only=True)
class Finished(Judged):
    """A job's outcome."""

    draws: Draws
    """numpy arrays, as many draws as `count`."""


class Jobs:
    """The units that wait, shared by the devices; each is taken once."""

    def __init__(self, jobs: list[Job]) -> None:
        self._waiting = deque(jobs)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put_first(self, job: Job) -> None:
        """Puts a job before all others: what is tried again takes long, and a fleet should not end with it."""
        with self._lock:
            self._waiting.appendleft(job)

    def take(self, places: int) -> list[Job]:
        """Jobs for up to so many places, in their order."""
        taken: list[Job] = []
        with self._lock:
            while self._waiting and self._waiting[0].copies <= places:
                taken.append(self._waiting.popleft())
                places -= taken[-1].copies
        return taken


@dataclass
class _ActiveUnit:
    """A unit at work."""

    job: Job
    places: list[int]
    started: float
    due: int
    """Draws per chain at which it is checked next."""
    blocks: int = 0
    gradients: int = 0
    """Of one chain of every place, for what it learns: beside those of its blocks."""
    sampling: bool = False


class Slots:
    """One tile's worth of units in one thread, from a shared heap of jobs until that is empty."""

    def __init__(
        self,
        program: Program | NativeProgram,
        inference: Inference,
        jobs: Jobs,
        finish: Callable[[Finished], None],
        stop: Event,
    ) -> None:
        self._program, self._structure, self._device = program, program.structure, program.device
        self._inference, self._jobs, self._finish, self._stop = inference, jobs, finish, stop
        self._occupants: list[_ActiveUnit] = []
        self._staged: deque[tuple[Job, list[int]]] = deque()
        self._staged_state: HMCState | None = None
        self._state: HMCState | None = None
        self._buffer_of: DrawBuffer | None = None
        self._tile: UnitBatch | None = None

    @property
    def active(self) -> int:
        """Units at work now."""
        return len(self._occupants)

    def run(self) -> None:
        """Works until there are no more jobs, or until told to stop."""
        with jax.enable_x64(True), jax.default_device(self._device):
            self._buffer_of = self._program.empty_buffer()
            while not self._stop.is_set():
                self._fill()
                if self.active == 0:
                    return
                self._block()

    def _fill(self) -> None:
        taken = {place for active_unit in self._occupants for place in active_unit.places}
        free = [place for place in range(self._structure.units) if place not in taken]
        source = np.full(self._structure.units, -1, np.int32)
        while free and (self._staged or self._stage(source)):
            job, sources = self._staged[0]
            if len(sources) > len(free):
                break
            self._staged.popleft()
            places, free = free[: len(sources)], free[len(sources) :]
            self._occupants.append(_ActiveUnit(job, places, time.monotonic(), self._checks(job)[0]))
            source[places] = sources
        self._insert(source)

    def _stage(self, source: np.ndarray) -> bool:
        """Starts the next units; those already staged must be in their places before their states go."""
        jobs = self._jobs.take(self._structure.units)
        if not jobs:
            return False
        self._insert(source)
        source[:] = -1
        members = [job.member for job in jobs for _ in range(job.copies)]
        keys = np.concatenate([job.keys for job in jobs])
        targets = [job.target_accept for job in jobs for _ in range(job.copies)]
        spare = self._structure.units - len(members)
        batch = self._program.put(stack(members + members[:1] * spare, self._structure))
        filled = np.concatenate([keys, np.repeat(keys[:1], spare, axis=0)])
        aims = np.array(targets + targets[:1] * spare, self._structure.dtype)
        self._staged_state = self._program.start(batch, filled, aims)
        first = 0
        for job in jobs:
            self._staged.append((job, list(range(first, first + job.copies))))
            first += job.copies
        return True

    def _insert(self, source: np.ndarray) -> None:
        if np.all(source < 0):
            return
        assert self._staged_state is not None
        assert self._buffer_of is not None
        state = self._state or self._program.empty_state()
        self._state, counts = self._program.insert(state, self._staged_state, self._buffer_of.filled, source)
        self._buffer_of = self._buffer_of._replace(filled=counts)
        self._put_tile()

    def _put_tile(self) -> None:
        members: list[PreparedUnit | None] = [None] * self._structure.units
        for active_unit in self._occupants:
            for place in active_unit.places:
                members[place] = active_unit.job.member
        self._tile = self._program.put(stack(members, self._structure))

    def _block(self) -> None:
        assert self._state is not None
        assert self._buffer_of is not None
        assert self._tile is not None
        self._state, self._buffer_of = self._program.advance(self._tile, self._state, self._buffer_of)
        begun: list[_ActiveUnit] = []
        warming: list[_ActiveUnit] = []
        for active_unit in self._occupants:
            active_unit.blocks += 1
            (begun if active_unit.sampling else warming).append(active_unit)
        counts = np.asarray(self._buffer_of.filled).tolist()
        for active_unit in begun:
            count = min(counts[place] for place in active_unit.places)
            if count >= active_unit.due:
                self._check(active_unit, count)
        self._warm_up(warming)

    def _warm_up(self, warming: list[_ActiveUnit]) -> None:
        """Lets the units learn whose window is over, and ends the warm-up of those that are through."""
        assert self._state is not None
        assert self._buffer_of is not None
        settling: list[int] = []
        emptying: list[int] = []
        learning: dict[int, _ActiveUnit] = {}
        for active_unit in warming:
            done = active_unit.blocks / active_unit.job.patience
            active_unit.sampling = done == WINDOWS[-1] + SETTLING
            if active_unit.sampling:
                settling += active_unit.places
            if active_unit.sampling or done in (WINDOWS[0], WINDOWS[-1]):
                emptying += active_unit.places
            if done in WINDOWS:
                learning |= dict.fromkeys(active_unit.places, active_unit)
        if not learning and not emptying:
            return
        units, dimension = self._structure.units, self._structure.dimension
        learn, settled, emptied = (np.zeros(units, bool) for _ in range(3))
        settled[settling], emptied[emptying] = True, True
        coordinates = SinhArcsinh(*np.zeros((4, dimension, units), self._structure.dtype))  # pyright: ignore[reportArgumentType]
        metric = Metric(*np.zeros((3, units, dimension, dimension), self._structure.dtype))  # pyright: ignore[reportArgumentType]
        windows = self._windows(learning) if learning else []
        for place, found in zip(learning, adaptation.learn(windows), strict=True):
            # What allows nothing better leaves the unit as it was.
            learn[place] = found is not None
            if found is not None:
                for part, own in zip(coordinates, found[0], strict=True):
                    part[:, place] = own
                for part, own in zip(metric, found[1], strict=True):
                    part[place] = own
        if np.any(learn | emptied):
            self._state, self._buffer_of = self._program.adapt(
                self._state, self._buffer_of, (coordinates, metric), learn, settled, emptied
            )

    def _windows(self, learning: dict[int, _ActiveUnit]) -> list[Window]:
        """What the units at places learn from."""
        assert self._state is not None
        assert self._buffer_of is not None
        known = self._state.adaptation
        coordinates = [np.asarray(part) for part in known.coordinates]
        covariance = np.asarray(known.metric.covariance)
        draws = {place: self._program.window(self._buffer_of, place) for place in learning}
        members = {place: active_unit.job.member for place, active_unit in learning.items()}
        gradients = self._program.gradients([(members[place], own) for place, own in draws.items()])
        for place, active_unit in learning.items():
            active_unit.gradients += len(draws[place])
        return [
            Window(
                draws=draws[place],
                gradients=own,
                coordinates=SinhArcsinh(*(part[:, place] for part in coordinates)),  # pyright: ignore[reportArgumentType]
                covariance=covariance[place].astype(float),
                mapped=active_unit.blocks > WINDOWS[0] * active_unit.job.patience,
            )
            for (place, active_unit), own in zip(learning.items(), gradients, strict=True)
        ]

    def _checks(self, job: Job) -> list[int]:
        last = self._inference.max_draws
        return [n for n in CHECKS if n * job.copies >= FEWEST and n < last] + [last]

    def _next_check(self, job: Job, count: int, ess: float) -> int | None:
        """The first check at which the unit should have enough effective draws, at the pace it had so far."""
        needed = count * min(HASTE * self._inference.ess_target / ess, 2.0) if ess > 0 else 0.0
        later = [check for check in self._checks(job) if check > count]
        return next((check for check in later if check >= needed), later[-1] if later else None)

    def _late(self, unit: _ActiveUnit) -> bool:
        limit = self._inference.rung_seconds
        return limit is not None and time.monotonic() - unit.started > limit

    def _over(self, unit: _ActiveUnit, verdict: Verdict, count: int, divergences: int) -> bool:
        """Whether more draws are not needed, will not help, or would take too long."""
        job = unit.job
        # What is certified ends as it would with all the time there is.
        if self._late(unit) and not verdict.passed:
            return True
        most, ess = self._inference.max_draws, min(verdict.ess_bulk_min, verdict.ess_tail_min)
        if past_saving(divergences, most * job.copies * self._structure.chains):
            return True
        if verdict.settled and ess >= self._inference.ess_target:
            return True
        # What comes slowly is over where it is certified, long before there is as much as aimed for.
        if verdict.passed and 2 * count >= most:
            return True
        too_slow = ess * most < count * self._inference.ess_floor
        return count >= PATIENCE and (verdict.hopeless or too_slow)

    def _check(self, active_unit: _ActiveUnit, count: int) -> None:
        assert self._buffer_of is not None
        assert self._tile is not None
        count -= count % 2
        job, places, capacity = active_unit.job, active_unit.places, self._program.capacity + TICKS
        length = SHORT + TICKS if count <= SHORT + TICKS else capacity
        divergences = int(np.sum(np.asarray(self._buffer_of.divergences)[places]))
        filled = np.asarray(self._buffer_of.filled)[places, None]
        sample = UnitSample(
            structure=self._structure,
            batch=self._tile,
            member=job.member,
            buffer=self._buffer_of,
            places=np.array(places, np.int32),
            key=job.keys[0],
            count=count,
            length=min(length, capacity),
            divergences=divergences,
            balance=np.ravel(np.asarray(self._buffer_of.balance)[places] / filled),
        )
        certified = certify(sample, self._inference)
        verdict = certified.verdict
        due = self._next_check(job, count, min(verdict.ess_bulk_min, verdict.ess_tail_min))
        if due is not None and not self._over(active_unit, verdict, count, divergences):
            active_unit.due = due
            return
        if self._late(active_unit):
            verdict = given_up(verdict, self._inference.rung_seconds or 0.0)
        self._occupants.remove(active_unit)
        self._finish(
            Finished(
                job=job,
                verdict=verdict,
                judgement=certified.judgement,
                draws=certified.kept(),
                count=count,
                divergences=divergences,
                gradients=(active_unit.blocks * TICKS * job.copies + active_unit.gradients) * self._structure.chains,
                seconds=time.monotonic() - active_unit.started,
                batch=self._tile,
                place=places[0],
            )
        )
        if self._occupants and not self._staged and not self._jobs:
            # What leaves now is not replaced, and is not to keep the others waiting.
            self._put_tile()


def capacity_of(inference: Inference) -> int:
    """Draws per chain that a draw buffer must hold, of a warm-up's longest window too."""
    return max(inference.max_draws + TICKS, SHORT, HARDER_PATIENCE * (WINDOWS[-1] - WINDOWS[0]) * TICKS)
