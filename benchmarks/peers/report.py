"""Report: the comparison as Markdown - first whether the posteriors agree, then what they cost."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet import Cost, Yield
from benchmarks.peers import exchange
from benchmarks.peers.comparison import Agreement, Quality


@dataclass(frozen=True, kw_only=True)
class Row:
    """One unit in one peer."""

    title: str
    unit: int
    curve: str
    cost: exchange.Cost
    quality: Quality
    agreement: Agreement

    @property
    def ess_per_second(self) -> float:
        """Effective draws (bulk) per second of the slowest quantity."""
        return self.quality.ess_bulk / self.cost.seconds


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """mixfleet's fit of all units."""

    cost: Cost
    brought: Yield

    @property
    def ess_per_second(self) -> float:
        """Effective draws per second, summed over certified units."""
        return self.brought.min_ess / self.cost.seconds


def print_report(rows: Sequence[Row], fleets: dict[str, Fleet], notes: Sequence[str]) -> None:
    """Prints both tables, the machine, and the notes.

    Args:
        rows: One per peer and unit.
        fleets: mixfleet's fit by the curve that it shares with the peers.
        notes: What is to be said of each peer.
    """
    print("Contributions of the channels against mixfleet's, worst channel:\n")
    head = ("system", "unit", "curve", "mean shift, sd", "sd ratio", "same posterior")
    agreements = [(row, row.agreement) for row in rows]
    _table(
        head,
        [
            (row.title, row.unit, row.curve, f"{found.mean_shift:.3f}", f"{found.sd_ratio:.3f}", _yes(found.agrees))
            for row, found in agreements
        ],
    )
    print("\nSpeed, compiling included. ESS: effective draws (bulk) of the slowest quantity:\n")
    head = ("system", "unit", "seconds", "ESS", "ESS/s", "R-hat", "divergences", "certified", "GiB", "mixfleet's ESS/s")
    _table(
        head, [_peer_cells(row, fleets[row.curve]) for row in rows] + [_fleet_cells(*item) for item in fleets.items()]
    )
    print(f"\nMachine: {_machine()}.")
    for note in notes:
        print(f"- {note}")
    for curve, fleet in fleets.items():
        print(
            f"- mixfleet, {curve}: {fleet.cost.compile_seconds:.0f} s of compiling among the seconds, "
            f"{fleet.cost.import_seconds:.0f} s of imports not counted"
        )


def _peer_cells(row: Row, fleet: Fleet) -> tuple[object, ...]:
    found = row.quality
    ratio = f"{fleet.ess_per_second / row.ess_per_second:,.0f} x" if row.agreement.agrees else "different posterior"
    return (
        row.title,
        row.unit,
        f"{row.cost.seconds:.1f}",
        f"{found.ess_bulk:,.0f}",
        f"{row.ess_per_second:,.1f}",
        f"{found.rhat:.4f}",
        found.divergences,
        _yes(found.certified),
        f"{row.cost.peak_memory_gib:.1f}",
        ratio,
    )


def _fleet_cells(curve: str, fleet: Fleet) -> tuple[object, ...]:
    brought = fleet.brought
    return (
        f"mixfleet, {curve}",
        f"all {brought.units}",
        f"{fleet.cost.seconds:.1f}",
        f"{brought.min_ess:,.0f}",
        f"{fleet.ess_per_second:,.0f}",
        "",
        "",
        f"{brought.certified} of {brought.units}",
        f"{fleet.cost.peak_memory_gib:.1f}",
        "",
    )


def _table(head: Sequence[str], body: Sequence[Sequence[object]]) -> None:
    for cells in (head, ["---"] * len(head), *body):
        print(f"| {' | '.join(map(str, cells))} |")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{cores} cores of {model}, Python {platform.python_version()}"
