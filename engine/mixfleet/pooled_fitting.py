"""Pooled fitting: groups of units, each as one joint posterior, until all of it is certified or set aside."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Event

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mixfleet import diagnostics
from mixfleet.batch import Tile, stack
from mixfleet.config import Inference, Spec
from mixfleet.draws import Draws, Judgement, Linear, inspect
from mixfleet.gates import Verdict, judge, judge_hyper
from mixfleet.groups import Prepared, typical_media
from mixfleet.panel import unit_id
from mixfleet.pooled import SWEEPS, PooledProgram, Sweep, pooled_program
from mixfleet.pooled_state import Group, State, begin, learn, settle
from mixfleet.program import Book, Device
from mixfleet.samplers import hmc, start
from mixfleet.samplers.threefry import normals, uniforms
from mixfleet.slots import LOOKS, Finished, Job
from mixfleet.transport import sites_of

__all__ = ["FinishedGroup", "HyperDraws", "sample_groups"]

WINDOWS = (3, 7, 13)
"""Blocks of sweeps after which the metrics are learnt; the blocks since the last one are their window."""

SETTLING = 3
"""Blocks after the last window, for the step sizes alone."""

LENGTHS = (512, 1024, 2048, 4096)
"""Looks judge draws padded to one of these lengths."""

HARDER_ACCEPT = 0.95
POLL_SECONDS = 0.5


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
    units: tuple[Finished, ...]
    hyper: HyperDraws


def sample_groups(
    groups: list[Prepared], spec: Spec, devices: list[Device], stop: Event
) -> Iterator[FinishedGroup | None]:
    """Each group's outcome, as they are done, several groups at a time; None now and then while there is none."""
    outcomes = SimpleQueue[FinishedGroup]()

    def work(group: Prepared, device: Device) -> None:
        with jax.enable_x64(True), jax.default_device(device):
            finished = _sample(group, spec, device, stop, rung=0)
            if finished is not None and spec.inference.ladder and not all(u.verdict.passed for u in finished.units):
                finished = _sample(group, spec, device, stop, rung=1)
            if finished is not None:
                outcomes.put(finished)

    # The largest first, so that none of them is the last one alone.
    queue = sorted(groups, key=lambda group: -len(group.members))
    with ThreadPoolExecutor(len(devices), thread_name_prefix="mixfleet") as pool:
        running: list[Future[None]] = [
            pool.submit(work, group, devices[i % len(devices)]) for i, group in enumerate(queue)
        ]
        try:
            waiting = len(queue)
            while waiting:
                try:
                    finished = outcomes.get(timeout=POLL_SECONDS)
                except Empty:
                    for future in running:
                        if future.done():
                            future.result()
                    yield None
                    continue
                waiting -= 1
                yield finished
        finally:
            stop.set()
            for future in running:
                future.cancel()


def _sample(group: Prepared, spec: Spec, device: Device, stop: Event, *, rung: int) -> FinishedGroup | None:
    """One group, from its modes to its verdict; None when told to stop."""
    began = time.monotonic()
    inference = spec.inference if rung == 0 else replace(spec.inference, target_accept=HARDER_ACCEPT)
    program = pooled_program(group.pool, device)
    unit_keys, key = _keys(group, spec, rung)
    data, state = _start(group, program, unit_keys, key, inference)
    patience, blocks, look = 1 + rung, 0, 0
    window: list[tuple[np.ndarray, np.ndarray]] = []
    record = _Record(group)
    looks = [n for n in LOOKS if n < inference.max_draws] + [inference.max_draws]
    while not stop.is_set():
        state, sweep = program.sweeps(data, state)
        blocks += 1
        record.gradients += int(np.sum(np.asarray(sweep.steps)))
        if blocks <= patience * (WINDOWS[-1] + SETTLING):
            window.append((np.asarray(sweep.x), np.asarray(sweep.moved)))
            if blocks in [patience * end for end in WINDOWS]:
                x, moved = (np.concatenate(parts) for parts in zip(*window, strict=True))
                state, window = learn(state, x, moved), []
            if blocks == patience * (WINDOWS[-1] + SETTLING):
                state = settle(state)
            continue
        record.add(sweep)
        if record.count < looks[look]:
            continue
        look = next((i for i, n in enumerate(looks) if n > record.count), len(looks))
        finished = _judged(group, record, spec.inference, unit_keys, rung, began, last=look == len(looks))
        if finished is not None:
            return finished
    return None


def _start(
    group: Prepared, program: PooledProgram, unit_keys: np.ndarray, key: np.ndarray, inference: Inference
) -> tuple[Group, State]:
    """The group on its device, and where its chains begin: at the units' modes, hyperparameters from their sites."""
    pool, kind = group.pool, group.pool.kind
    tile: Tile = jax.device_put(stack(group.alone, kind), program.device)
    keys = jnp.asarray(unit_keys)

    def density(position: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        found = program.evaluate(tile, position)
        return found.value, found.gradient, found.extra

    modes, values = start.optimise(density, tile.centre, kind.chains, keys)
    modes, values, metric = start.laplace(density, modes, values, kind.units)
    by_unit = np.asarray(modes).reshape(kind.dimension, kind.units, kind.chains)
    best = np.argmax(np.asarray(values).reshape(kind.units, kind.chains), axis=1)
    mode = by_unit[:, np.arange(kind.units), best]
    sites, covariance = sites_of(
        pool, np.asarray(tile.hyper), typical_media(group), mode, np.asarray(metric.covariance, float)
    )
    parts = (stack(group.members, kind), group.hierarchy, sites, group.columns)
    data = Group(*jax.device_put(parts, program.device), unit_keys=keys, key=jnp.asarray(key))
    unit_metric = hmc.metric_of(jnp.asarray(covariance, kind.dtype))
    white = normals(uniforms(keys, start.SCATTERING, kind.dimension, kind.lanes, jnp.dtype(kind.dtype)))
    spread = np.asarray(unit_metric.velocity(white)).reshape(by_unit.shape)
    pooled = np.zeros(kind.dimension, bool)
    for _, _, own in pool.slices():
        pooled[own] = True
    x = np.where(pooled[:, None, None], spread, mode[..., None] + 0.5 * spread).astype(kind.dtype)
    hyper, shared, found, moved = program.prelude(data, jnp.asarray(x.reshape(kind.dimension, -1)))
    late = np.asarray(moved, float)[len(moved) // 4 :]
    flat = np.moveaxis(late, 1, 0).reshape(late.shape[1], -1)
    hyper_covariance = np.diag(np.var(flat, axis=1) + 1e-4)[None]
    state = begin(
        pool,
        found,
        jnp.asarray(x.reshape(kind.dimension, -1)),
        hyper,
        shared,
        jnp.asarray(covariance, kind.dtype),
        jnp.asarray(hyper_covariance, kind.dtype),
        inference.target_accept,
    )
    return data, state


class _Record:
    """A group's draws so far, on the host."""

    def __init__(self, group: Prepared) -> None:
        self._group = group
        self._fields: list[np.ndarray] = []
        self._hyper: list[np.ndarray] = []
        self.divergences = np.zeros(group.pool.kind.units, int)
        self.balance = np.zeros((group.pool.kind.units, group.pool.kind.chains))
        self.gradients = 0
        self.count = 0

    def add(self, sweep: Sweep) -> None:
        self._fields.append(np.asarray(sweep.fields))
        self._hyper.append(np.asarray(sweep.hyper))
        self.divergences += np.asarray(sweep.diverged).sum(axis=(0, 2))
        self.balance += np.asarray(sweep.balance).sum(axis=0)
        self.count += SWEEPS

    def rows(self, unit: int, length: int) -> Float[np.ndarray, "1 draw field chain"]:
        """A unit's draws as a book has them, padded to a length."""
        own = np.concatenate([block[:, :, unit] for block in self._fields])
        return np.concatenate([own, np.zeros((length - len(own), *own.shape[1:]), own.dtype)])[None]

    def hyper(self) -> Float[np.ndarray, "quantity row draw chain"]:
        """The hyperparameters of labels that there are."""
        group = self._group
        values = np.moveaxis(np.concatenate(self._hyper), 0, 2)
        first = 2 + len(group.keys)
        kept = list(range(first))
        for labels, levels in zip(group.labels, group.pool.levels, strict=True):
            kept += range(first, first + len(labels))
            first += levels
        # What is left are the types.
        return values[[*kept, *range(first, len(values))]]


def _judged(
    group: Prepared,
    record: _Record,
    inference: Inference,
    unit_keys: np.ndarray,
    rung: int,
    began: float,
    *,
    last: bool,
) -> FinishedGroup | None:
    """The group's outcome if all of it is certified, or if this is the last look."""
    count = record.count
    length = next((n for n in LENGTHS if n >= count), -(-count // LENGTHS[-1]) * LENGTHS[-1])
    hyper = _judged_hyper(record, length)
    told = judge_hyper(hyper.rhat, hyper.ess_bulk, inference)
    if told and not last:
        return None
    finished: list[Finished] = []
    for i in range(len(group.members)):
        unit = _judged_unit(group, i, record, inference, unit_keys, length)
        if not unit.verdict.passed and not last:
            return None
        seconds = time.monotonic() - began
        job = replace(unit.job, rung=rung)
        finished.append(replace(unit, job=job, verdict=_with_group(unit.verdict, told), seconds=seconds))
    return FinishedGroup(group=group, units=tuple(finished), hyper=hyper)


def _judged_unit(
    group: Prepared, place: int, record: _Record, inference: Inference, unit_keys: np.ndarray, length: int
) -> Finished:
    """One unit's draws and what the gates say of them."""
    member, kind, count = group.members[place], replace(group.pool.kind, units=1), record.count
    tile: Tile = jax.tree.map(jnp.asarray, stack([member], kind))
    linear = Linear(np.asarray(member.loading, kind.dtype), np.asarray(member.prior_mean, kind.dtype))
    none, nothing = jnp.zeros(1, jnp.int32), jnp.zeros((1, kind.chains), kind.dtype)
    book = Book(jnp.asarray(record.rows(place, length)), none, none, nothing[:, 0], nothing)
    drawn, judgement = inspect(kind, tile, book, linear, unit_keys[place], none, np.int32(count), length=length)
    judgement = Judgement(*(np.asarray(part) for part in judgement))
    divergences = int(record.divergences[place])
    verdict = judge(
        judgement,
        divergences=divergences,
        trajectories=count * kind.chains,
        inference=inference,
        balance=record.balance[place] / count,
    )
    return Finished(
        job=Job(member=member, keys=unit_keys[place : place + 1]),
        verdict=verdict,
        judgement=judgement,
        draws=Draws(*(np.ascontiguousarray(np.asarray(part)[..., :count, :]) for part in drawn)),
        count=count,
        divergences=divergences,
        gradients=record.gradients * kind.chains,
        seconds=0.0,
        tile=tile,
        place=0,
    )


def _judged_hyper(record: _Record, length: int) -> HyperDraws:
    draws = record.hyper()
    quantities = draws.reshape(-1, *draws.shape[2:])
    padded = np.concatenate(
        [quantities, np.zeros((len(quantities), length - quantities.shape[1], quantities.shape[2]), draws.dtype)],
        axis=1,
    )
    judged = diagnostics.diagnose(jnp.asarray(padded), jnp.int32(record.count))
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


def _keys(group: Prepared, spec: Spec, rung: int) -> tuple[np.ndarray, np.ndarray]:
    """Random keys of the units' own moves and of the shared ones: hashes of who they are."""

    def hashed(text: str) -> np.ndarray:
        return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.uint32)

    names = [unit_id(member.unit.labels) for member in group.members]
    padding = [f"padding {i}" for i in range(group.pool.kind.units - len(names))]
    own = np.stack([hashed(f"{spec.inference.seed}:{rung}:pooled:{name}") for name in names + padding])
    return own, hashed(f"{spec.inference.seed}:{rung}:group:{group.label}")[None]
