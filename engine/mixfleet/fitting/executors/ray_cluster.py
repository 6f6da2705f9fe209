"""Ray: units fitted by workers of a cluster, in tasks of some dozens; their results are saved by the process that asks.

A worker that is lost costs its task, which another one does again; a lost driver resumes from what it has saved. What
travels are bytes: a work order there, records of results back. Start with few, long-lived workers: each imports the
package and makes its programs ready once.

References:
    Moritz et al. (2018), Ray: a distributed framework for emerging AI applications, arXiv:1712.05889.
"""

import importlib
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mixfleet import runtime
from mixfleet.config import Cluster, Spec
from mixfleet.data.panel import Panel, unit_id
from mixfleet.errors import ConfigError, MixfleetError, RunError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.executors.shards import shards_of
from mixfleet.fitting.executors.work_order import read_order, write_order
from mixfleet.fitting.progress import OnEvent, Tally
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage.result_bytes import decode, encode
from mixfleet.storage.run_folder import as_stored

__all__ = ["fit_part", "on_ray"]

POLL_SECONDS = 0.5

ADDRESS = "RAY_ADDRESS"
"""Ray's own variable for the cluster to use."""


def on_ray(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: OnEvent | None = None) -> Iterator[UnitResult]:
    """Results of the units that are not in `skip`, fitted by workers of the cluster `compute.ray`.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
        RunError: A task's workers were lost more often than `compute.ray.retries`, or would compute other bytes.
    """
    left = replace(panel, units=tuple(unit for unit in panel.units if unit_id(unit.labels) not in skip))
    tally = Tally(len(left.units), on_event)
    if not left.units:
        return
    parts = [part for part in shards_of(left, spec, -(-len(left.units) // spec.compute.ray.units)) if part]
    with _connected(spec.compute.ray) as ray:
        cluster = spec.compute.ray
        resources = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": cluster.retries}
        task = ray.remote(fit_part).options(scheduling_strategy="SPREAD", **resources)
        order = ray.put(write_order(panel, spec))
        waiting = {task.remote(order, sorted(part)): part for part in parts}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                tally.show("sampling on ray", active=sum(map(len, waiting.values())))
                for done in ready:
                    waiting.pop(done)
                    for record in _records(ray, done):
                        yield tally.count(decode(record))
        finally:
            for unfinished in waiting:
                ray.cancel(unfinished, force=True)


def fit_part(order: bytes, units: list[str]) -> list[bytes] | str:
    """What a worker does: the records of these units, by id, or what is wrong.

    Programs are kept where the environment says that Ray was started in (`JAX_COMPILATION_CACHE_DIR`).
    """
    try:
        panel, spec = read_order(order)
        own = replace(spec, compute=replace(spec.compute, threads=spec.compute.ray.cpus))
        others = frozenset(unit_id(unit.labels) for unit in panel.units) - frozenset(units)
        return [encode(as_stored(result, spec.output)) for result in fit_units(panel, own, skip=others)]
    except MixfleetError as error:
        return str(error)


def _records(ray: Any, done: Any) -> list[bytes]:
    """The records of a finished task."""
    try:
        found = ray.get(done)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise RunError(
            f"a task of the Ray cluster was lost again and again ({type(error).__name__}): see Ray's logs. Repeat the "
            "command to resume: what was finished is saved"
        ) from error
    if isinstance(found, str):
        raise RunError(found)
    return found


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected: as it is where the caller has connected it, else for the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        words = "ray needs a package that is not there: pip install 'mixfleet[ray]'"
        raise ConfigError(words, key="compute.executor") from error
    if ray.is_initialized():
        yield ray
        return
    address = cluster.address or os.environ.get(ADDRESS)
    own = {"address": address} if address else {"address": "local", "num_cpus": runtime.cores()}
    with _same_signals(), warnings.catch_warnings():
        # Of jax, for Ray forks; what it forks becomes another program at once.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        try:
            ray.init(**own, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"there is no Ray cluster at {address}: {error}", key="compute.ray.address") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _same_signals() -> Iterator[None]:
    """What signals do to this process is as before after the block: Ray would have SIGTERM end it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
