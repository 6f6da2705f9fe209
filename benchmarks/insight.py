"""What looking at a fleet costs: seconds by insight table and peak memory, of a run with made-up draws.

`python -m benchmarks.insight` writes runs of 300 units (156 weeks, 8 channels) with 1,000 and 4,000 draws each, from
no fit, and opens each in a process of its own. `--report` times the report of 500 units on one core instead, weighs it,
and opens it in headless Chromium.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fleet import ROOT
from benchmarks.peers.exchange import peak_memory_gib
from tests.support.browser import CHROMIUM, opened

CHAINS = 4


def write_run(root: Path, *, brands: int, markets: int, draws: int) -> Path:
    """A finished run of a simulated table, whose draws nothing sampled."""
    from mixfleet.config import Output, RunConfig, Spec
    from mixfleet.data.panel import read_panel
    from mixfleet.fitting.runner import execute
    from mixfleet.simulation import fleet as simulate
    from tests.support.saved_run import made_up

    fleet = simulate.fleet(brands=brands, markets=markets)
    run = RunConfig(root=str(root), id=f"{brands}x{markets}-{draws}")
    spec = Spec(data=fleet.data, run=run, output=Output(thin=draws))
    return execute(read_panel(fleet.table, fleet.data), spec, made_up(CHAINS, draws // CHAINS)).path


def tables(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every table by name, in the order in which an export makes them."""
    import mixfleet

    insight = mixfleet.open(path, frame="pyarrow").insight
    for period in ("all", "quarter"):
        for by in (None, *insight.fleet.keys, ()):
            name = {None: "by unit", (): "in total"}.get(by, f"by {by}")
            yield f"returns {name}, {period}", lambda by=by, period=period: insight.returns(by, period)
            yield f"contributions {name}, {period}", lambda by=by, period=period: insight.contributions(by, period)
    for name in ("carry_over", "curves", "shapes", "overlap", "movement", "fit", "checks", "left_out"):
        yield name, getattr(insight, name)
    yield "fit in total", lambda: insight.fit(by=())


def measure(path: Path, what: str) -> dict[str, Any]:
    """Seconds of wall and processor by table, and the most memory that this process held."""
    import mixfleet
    from mixfleet import runtime

    runtime.prepare(mixfleet.Compute())
    calls = tables(path) if what == "tables" else iter([("report", lambda: mixfleet.open(path).report())])
    seconds = {}
    for name, call in calls:
        wall, processor = time.perf_counter(), time.process_time()
        call()
        seconds[name] = (time.perf_counter() - wall, time.process_time() - processor)
    return {"seconds": seconds, "peak_memory_gib": peak_memory_gib()}


def measured(path: Path, what: str) -> dict[str, Any]:
    """`measure` in a process of its own, whose peak memory is that of the tables."""
    command = [sys.executable, "-m", "benchmarks.insight", "--open", str(path), "--what", what]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(title: str, found: dict[str, Any]) -> None:
    print(f"\n{title}: peak memory {found['peak_memory_gib']:.2f} GiB")
    rows = found["seconds"].items()
    for name, (wall, processor) in rows:
        if wall >= 0.05:
            print(f"  {name:36} {wall:6.2f} s  {processor:6.2f} s of processor")
    total = [sum(part) for part in zip(*(pair for _, pair in rows), strict=True)]
    print(f"  {'all of them':36} {total[0]:6.2f} s  {total[1]:6.2f} s of processor")


def show_report(path: Path) -> None:
    show("report of 500 units, on one core", measured(path, "report"))
    page = path / "report.html"
    print(f"  {page.stat().st_size / 1e6:.1f} MB")
    if CHROMIUM is not None:
        found = opened(page)
        print(f"  opens in {found.seconds:.2f} s, {len(found.errors)} errors, {len(found.requests)} requests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    request = parser.parse_args()
    if request.open:
        # Compared from machine to machine by seconds of one core.
        if request.what == "report" and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(measure(request.open, request.what)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if request.report:
            show_report(write_run(Path(folder), brands=25, markets=20, draws=request.draws[0]))
            return
        for draws in request.draws:
            path = write_run(Path(folder), brands=20, markets=15, draws=draws)
            show(f"300 units, {draws} draws", measured(path, "tables"))


if __name__ == "__main__":
    main()
