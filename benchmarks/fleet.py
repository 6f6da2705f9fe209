"""Fleet: one fit of a whole table in a process of its own, and what it took.

A process of its own, because only there are compiling and peak memory those of this fit.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers.exchange import peak_memory_gib
from mixfleet import run as saved
from mixfleet import runtime
from mixfleet.config import Spec, build, to_mapping

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a fit took, from nothing: no compiled program was there before."""

    seconds: float
    """From the table on disk to the finished run folder, compiling included, imports not."""
    import_seconds: float
    compile_seconds: float
    """XLA's, summed over programs; part of `seconds`, though some run side by side."""
    peak_memory_gib: float


@dataclass(frozen=True, kw_only=True)
class Yield:
    """What a fit brought."""

    units: int
    certified: int
    min_ess: float
    """Effective draws (bulk) of each certified unit's slowest quantity, summed over units."""


def fit_alone(spec: Spec) -> tuple[saved.Run, Cost]:
    """The run of `spec`, whose `run.root` must be a new folder, fitted by another process."""
    folder = Path(spec.run.root)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(to_mapping(spec)))
    environment = {name: value for name, value in os.environ.items() if name != runtime.CACHE}
    # What this process finds, the other must: under pytest the sources come from its settings.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "benchmarks.fleet", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    facts = json.loads((folder / "cost.json").read_text())
    return saved.open(folder / facts.pop("id")), Cost(**facts)


def yield_of(run: saved.Run) -> Yield:
    """What the run is worth; units that are not certified count for nothing."""
    status = run.table("status").to_pandas()
    certified = status[status["status"].str.startswith("ok")]
    return Yield(units=len(status), certified=len(certified), min_ess=float(certified["ess_bulk_min"].sum()))


def main() -> None:
    folder = Path(sys.argv[1])
    spec = build(Spec, json.loads((folder / "spec.json").read_text()))
    runtime.prepare(spec.compute)
    began = time.perf_counter()
    import jax

    from mixfleet.api import fit

    imported = time.perf_counter()
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run = fit(spec=spec)
    cost = Cost(
        seconds=time.perf_counter() - imported,
        import_seconds=imported - began,
        compile_seconds=sum(compiling),
        peak_memory_gib=peak_memory_gib(),
    )
    (folder / "cost.json").write_text(json.dumps({**asdict(cost), "id": run.path.name}))


if __name__ == "__main__":
    main()
