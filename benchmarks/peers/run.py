"""The same unit and model in other systems, one unit at a time, beside mixfleet's whole fleet, in one run.

    python -m benchmarks.peers.environments        # once: the peers' own environments
    python -m benchmarks.peers.run                 # the tables, as Markdown

Posteriors are compared before any speed is printed: a peer that found another one gets no ratio.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.fleet import fit_alone, yield_of
from benchmarks.peers import exchange
from benchmarks.peers.comparison import agreement, quality
from benchmarks.peers.environments import PEERS, ROOT, python_of
from benchmarks.peers.report import Fleet, Row, print_report
from benchmarks.peers.units import problem_of
from mixfleet.config import Compute, Model, Prior, RunConfig, Spec
from mixfleet.config.measures import On
from mixfleet.data.panel import Panel, read_panel
from mixfleet.run import Run
from mixfleet.simulation import fleet as simulate


def main() -> None:
    arguments = _arguments()
    there = [name for name in arguments.peers if python_of(name)]
    notes = [f"{PEERS[name].title}: not run, no environment" for name in arguments.peers if name not in there]
    rows: list[Row] = []
    fleets: dict[str, Fleet] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulated = simulate.fleet(brands=arguments.brands, markets=arguments.markets, truth="fixed")
        pq.write_table(simulated.table, folder / "table.parquet")
        data = replace(simulated.data, path=str(folder / "table.parquet"))
        for curve in dict.fromkeys(PEERS[name].saturation for name in there):
            spec = Spec(
                data=data,
                model=Model(saturation=curve, observation="normal"),  # pyright: ignore[reportArgumentType]
                # What the peers can be told: a prior of the curve's height.
                prior=Prior(on=On(media="effect")),
                compute=Compute(cache_dir=str(folder / curve / "cache")),
                run=RunConfig(root=str(folder / curve / "runs")),
            )
            panel = read_panel(data.path, data, seasonality=spec.model.seasonality, window=spec.model.window)
            _say(f"mixfleet, {len(panel.units)} units, {curve} curve")
            run, cost = fit_alone(spec)
            fleets[curve] = Fleet(cost=cost, brought=yield_of(run))
            for peer in (name for name in there if PEERS[name].saturation == curve):
                _say(f"{PEERS[peer].title}, units {', '.join(map(str, arguments.units))}")
                notes.append(_ask(peer, arguments.units, panel, spec, folder / peer))
                rows += _rows(peer, arguments.units, panel, spec, run, folder / peer)
    print_report(rows, fleets, notes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.run")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--units", nargs="+", type=int, default=[0, 17, 140], help="places of the units in the fleet")
    parser.add_argument("--brands", type=int, default=20)
    parser.add_argument("--markets", type=int, default=15)
    return parser.parse_args()


def _ask(name: str, units: list[int], panel: Panel, spec: Spec, folder: Path) -> str:
    """Lets a peer fit the units, in a folder each, and says how that went."""
    peer = PEERS[name]
    for i in units:
        exchange.write_problem(folder / f"{i:05d}", problem_of(panel.units[i], panel, spec))
    own = bool(peer.requirements)
    # A peer with an environment of its own must not find this one's packages.
    environment = {**os.environ, "PYTHONPATH": "" if own else os.pathsep.join(filter(None, sys.path))}
    command = [str(python_of(name)), "-m", peer.module, str(folder), *peer.packages]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return f"{peer.title}: failed with exit code {done.returncode}: {last[0]}"
    costs = [exchange.read_answer(folder / f"{i:05d}")[1] for i in units]
    versions = ", ".join(f"{package} {version}" for package, version in costs[0].versions.items())
    start = seconds - sum(cost.seconds for cost in costs)
    return f"{peer.title}: {versions}; {start:.0f} s for imports and files, once for all units, are not counted"


def _rows(name: str, units: list[int], panel: Panel, spec: Spec, run: Run, folder: Path) -> list[Row]:
    rows = []
    for i in units:
        if (folder / f"{i:05d}" / "answer.json").exists():
            answer, cost = exchange.read_answer(folder / f"{i:05d}")
            ours = run.unit(*panel.units[i].labels).draws().draws["contribution"].astype(float)
            rows.append(
                Row(
                    title=PEERS[name].title,
                    unit=i,
                    curve=PEERS[name].saturation,
                    cost=cost,
                    quality=quality(answer, spec.inference),
                    agreement=agreement(ours, answer.contribution),
                )
            )
    return rows


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
