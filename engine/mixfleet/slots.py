"""Slots: the places of a tile on one device, refilled as units finish."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock

import jax
import jax.numpy as jnp
import numpy as np

from mixfleet.batch import Member, Tile, stack
from mixfleet.config import Inference
from mixfleet.draws import Draws, Judgement, Linear, inspect
from mixfleet.gates import Verdict, judge
from mixfleet.program import TICKS, Book, Program
from mixfleet.samplers.hmc import State

__all__ = ["Finished", "Job", "Jobs", "Slots", "capacity_of"]

WINDOWS = (1, 3, 6)
"""Blocks of warm-up after which a unit learns its metric; the blocks since the last one are its window."""

SETTLING = 1
"""Blocks of warm-up after the last window, for the step size alone."""

LOOKS = (512, 640, 768, 896, 1024, 1280, 1536, 1792, 2048, 2400, 2800, 3200)
"""Draws per chain at which a unit may stop, up to the configuration's most, which is the last look."""

HASTE = 0.95
"""Effective draws may come faster than at the last look; this much earlier is worth looking."""

SHORT = 768
"""Looks at up to so many draws judge a book of this length, later ones the whole book."""

PATIENCE = 1024
"""Draws per chain after which a unit whose chains plainly disagree is given up."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One unit to sample, and how hard."""

    member: Member
    key: np.ndarray
    """uint32[2], from the unit's labels, the seed and the rung."""
    rung: int = 0
    target_accept: float = 0.8

    @property
    def patience(self) -> int:
        """How many times longer the warm-up is than the usual one."""
        return 1 if self.rung == 0 else 2


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A job's outcome, on the host except for the tile."""

    job: Job
    verdict: Verdict
    judgement: Judgement
    draws: Draws
    """numpy arrays, as many draws as `count`."""
    count: int
    divergences: int
    gradients: int
    seconds: float
    tile: Tile
    place: int


class Jobs:
    """The units that wait, shared by the devices; each is taken once."""

    def __init__(self, jobs: list[Job]) -> None:
        self._waiting = deque(jobs)
        self._lock = Lock()

    def take(self, count: int) -> list[Job]:
        """Up to `count` jobs, the oldest first."""
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def add(self, job: Job) -> None:
        """Puts a job at the end."""
        with self._lock:
            self._waiting.append(job)


@dataclass
class _Place:
    """A unit at work."""

    job: Job
    started: float
    blocks: int = 0
    look: int = 0
    sampling: bool = False


class Slots:
    """One tile's worth of units in one thread, from a shared heap of jobs until that is empty."""

    def __init__(
        self,
        program: Program,
        inference: Inference,
        jobs: Jobs,
        finish: Callable[[Finished], None],
        stop: Event,
    ) -> None:
        self._program, self._kind, self._device = program, program.kind, program.device
        self._inference, self._jobs, self._finish, self._stop = inference, jobs, finish, stop
        self._looks = [n for n in LOOKS if n < inference.max_draws] + [inference.max_draws]
        self._places: list[_Place | None] = [None] * self._kind.units
        self._staged: deque[tuple[Job, int]] = deque()
        self._staged_state: State | None = None
        self._state: State | None = None
        self._book: Book | None = None
        self._tile: Tile | None = None

    @property
    def active(self) -> int:
        """Units at work now."""
        return sum(place is not None for place in self._places)

    def run(self) -> None:
        """Works until there are no more jobs, or until told to stop."""
        with jax.enable_x64(True), jax.default_device(self._device):
            self._book = self._program.empty_book()
            while not self._stop.is_set():
                self._fill()
                if self.active == 0:
                    return
                self._block()

    def _fill(self) -> None:
        place = np.full(self._kind.units, -1, np.int32)
        for i, occupant in enumerate(self._places):
            if occupant is not None:
                continue
            if not self._staged and not self._stage(place):
                break
            job, source = self._staged.popleft()
            self._places[i] = _Place(job, time.monotonic())
            place[i] = source
        self._insert(place)

    def _stage(self, place: np.ndarray) -> bool:
        """Starts the next units; those already staged must be in their places before their states go."""
        jobs = self._jobs.take(self._kind.units)
        if not jobs:
            return False
        self._insert(place)
        place[:] = -1
        tile = self._put(stack([job.member for job in jobs], self._kind))
        filled = jobs + [jobs[0]] * (self._kind.units - len(jobs))
        keys = jnp.asarray(np.stack([job.key for job in filled]))
        targets = jnp.asarray([job.target_accept for job in filled], self._kind.dtype)
        self._staged_state = self._program.start(tile, keys, targets)
        self._staged.extend((job, i) for i, job in enumerate(jobs))
        return True

    def _insert(self, place: np.ndarray) -> None:
        if np.all(place < 0):
            return
        assert self._staged_state is not None
        assert self._book is not None
        # Every leaf its own buffer: the state is consumed by the next block, the staged one is not.
        state = self._state or jax.tree.map(jnp.copy, self._staged_state)
        self._state = self._program.insert(state, self._staged_state, jnp.asarray(place))
        self._book = self._book._replace(filled=jnp.where(jnp.asarray(place) >= 0, 0, self._book.filled))
        members = [occupant.job.member for occupant in self._places if occupant is not None]
        filled = [occupant.job.member if occupant else members[0] for occupant in self._places]
        self._tile = self._put(stack(filled, self._kind))

    def _put(self, tile: Tile) -> Tile:
        return jax.device_put(tile, self._device)

    def _block(self) -> None:
        assert self._state is not None
        assert self._book is not None
        assert self._tile is not None
        self._state, self._book = self._program.advance(self._tile, self._state, self._book)
        learn = np.zeros(self._kind.units, bool)
        settled = learn.copy()
        for i, occupant in enumerate(self._places):
            if occupant is None:
                continue
            occupant.blocks += 1
            if not occupant.sampling:
                patience = occupant.job.patience
                learn[i] = occupant.blocks in [patience * window for window in WINDOWS]
                settled[i] = occupant.blocks == patience * (WINDOWS[-1] + SETTLING)
                occupant.sampling = bool(settled[i])
        counts = np.asarray(self._book.filled)
        due = [
            i
            for i, occupant in enumerate(self._places)
            if occupant is not None and occupant.sampling and not settled[i] and counts[i] >= self._looks[occupant.look]
        ]
        for i in due:
            self._look(i, int(counts[i]))
        if np.any(learn | settled):
            flags = jnp.asarray(learn), jnp.asarray(settled)
            self._state, self._book = self._program.adapt(self._state, self._book, *flags)

    def _next_look(self, count: int, verdict: Verdict) -> int:
        """The first look at which the unit should have enough effective draws, at the pace it had so far."""
        ess = min(verdict.ess_bulk_min, verdict.ess_tail_min)
        needed = count * min(HASTE * self._inference.ess_target / ess, 2.0) if ess > 0 else 0.0
        later = [i for i, look in enumerate(self._looks) if look > count]
        return next((i for i in later if self._looks[i] >= needed), later[-1] if later else len(self._looks))

    def _look(self, i: int, count: int) -> None:
        occupant = self._places[i]
        assert occupant is not None
        assert self._book is not None
        assert self._tile is not None
        count -= count % 2
        member = occupant.job.member
        length = SHORT + TICKS if count <= SHORT + TICKS else self._program.capacity + TICKS
        dtype = self._kind.dtype
        linear = Linear(jnp.asarray(member.loading, dtype), jnp.asarray(member.prior_mean, dtype))
        key = jax.random.fold_in(jnp.asarray(occupant.job.key), 1)
        drawn, judgement = inspect(
            self._kind,
            self._tile,
            self._book,
            linear,
            key,
            jnp.int32(i),
            jnp.int32(count),
            length=min(length, self._program.capacity + TICKS),
        )
        judgement = Judgement(*(np.asarray(part) for part in judgement))
        divergences = int(self._book.divergences[i])
        verdict = judge(
            judgement,
            divergences=divergences,
            trajectories=count * self._kind.chains,
            inference=self._inference,
        )
        occupant.look = self._next_look(count, verdict)
        over = occupant.look == len(self._looks) or (verdict.hopeless and count >= PATIENCE)
        if not verdict.enough and not over:
            return
        self._places[i] = None
        self._finish(
            Finished(
                job=occupant.job,
                verdict=verdict,
                judgement=judgement,
                draws=Draws(*(_leading(np.asarray(part), count) for part in drawn)),
                count=count,
                divergences=divergences,
                gradients=occupant.blocks * TICKS * self._kind.chains,
                seconds=time.monotonic() - occupant.started,
                tile=self._tile,
                place=i,
            )
        )


def capacity_of(inference: Inference) -> int:
    """Draws per chain that a book must hold."""
    return max(inference.max_draws + TICKS, SHORT)


def _leading(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` draws, which stand on the axis before the chains."""
    return np.ascontiguousarray(values[..., :count, :])
