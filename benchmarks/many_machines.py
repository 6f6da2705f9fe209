"""What a Ray cluster costs beside one process, on the same cores: 200 units, in CPU-seconds and by the clock.

    python -m benchmarks.many_machines --units 200

The workers have fitted before, as those of a cluster that is up have; what starting Ray and them costs is printed
beside. One process has a thread for each core, each worker one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    """Prints both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", type=int, default=50, help="units of a task")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _measured(Path(folder), arguments.units, arguments.rounds, arguments.task)


def _measured(folder: Path, units: int, rounds: int, task: int) -> None:
    import ray

    import mixfleet as mf

    cores = len(os.sched_getaffinity(0))
    fleet = mf.simulate.fleet(brands=-(-units // 20), markets=20, weeks=104, channels=6)
    few = mf.simulate.fleet(brands=1, markets=20, weeks=104, channels=6, seed=1)
    shared = {"executor": "ray", "ray": {"units": task}}

    def fit(table: Any, compute: dict[str, Any]) -> str:
        run = mf.fit(table.table, data=table.data, compute=compute, run={"root": str(folder)})
        return f"{run.manifest['result_sha256'][:12]}, {run.counts}"

    fit(few, {})
    started = _timed(lambda: ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False))
    print(f"{cores} cores; Ray started: {_words(started)}")
    first = _timed(lambda: fit(few, {"executor": "ray", "ray": {"units": 20 // cores}}))
    print(f"{cores} workers started and 20 units fitted: {_words(first)}")
    least: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name, compute in (("one process", {}), ("ray", shared)):
            found = _timed(lambda compute=compute: fit(fleet, compute))
            print(f"{name}: {_words(found)}: {found[2]}", flush=True)
            own = least.get(name, found[:2])
            least[name] = min(own[0], found[0]), min(own[1], found[1])
    alone, there = least["one process"], least["ray"]
    print(f"overhead: {there[0] / alone[0] - 1:+.1%} of CPU-seconds, {there[1] / alone[1] - 1:+.1%} by the clock")
    ray.shutdown()


def _timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU-seconds of this process and all it started, seconds, and what `work` gave."""
    before, began = _cpu_seconds(), time.perf_counter()
    found = work()
    return _cpu_seconds() - before, time.perf_counter() - began, found


def _words(timed: tuple[float, float, Any]) -> str:
    return f"{timed[0]:.1f} CPU-s, {timed[1]:.1f} s"


def _cpu_seconds() -> float:
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
