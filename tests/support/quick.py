"""Fits that take a second, all of one structure, so that the invariants share one compilation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from mixfleet.config import Compute, Data, Inference, Spec
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.fitting.driver import fit_units
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.simulation import fleet as simulate
from mixfleet.storage.result_bytes import digest

Labels = tuple[str, ...]

UNITS_OF_A_TILE = 4
"""Fewer than the fleet has, so that places are refilled while their neighbours are at work."""

CHAINS = 8
ENOUGH = {"ess_target": 200, "ess_floor": 100, "rhat_max": 1.05, "max_draws": 512}
"""One check at 512 draws; the gates are low, because these tests are about bits and not about the posterior."""


@cache
def simulated(seed: int = 7, brands: int = 3) -> simulate.Simulated:
    """Two units for each brand, of 78 to 104 weeks, some without a channel: all of one padded shape."""
    return simulate.fleet(
        brands=brands, markets=2, weeks=104, channels=4, controls=1, seed=seed, ragged=True, truth="fixed"
    )


@cache
def ragged_fleet(seed: int = 7) -> Panel:
    """Six of these units, read."""
    return read_panel(simulated(seed).table, simulated(seed).data)


def settings(data: Data, **inference: Any) -> Spec:
    """Settings of a quick fit, without a ladder unless asked for."""
    chosen = {"chains": CHAINS, "ladder": False, **ENOUGH, **inference}
    return Spec(
        data=data,
        inference=Inference(**chosen),
        compute=Compute(lanes=UNITS_OF_A_TILE * CHAINS, devices=1),
    )


def with_units(panel: Panel, units: Iterable[Unit]) -> Panel:
    """The panel with exactly these units, in this order."""
    return replace(panel, units=tuple(units))


def fit(panel: Panel, spec: Spec | None = None, **keywords: Any) -> dict[Labels, UnitResult]:
    """Results by labels; every unit has one."""
    results = list(fit_units(panel, spec or settings(panel.data), **keywords))
    by_labels = {result.labels: result for result in results}
    assert len(by_labels) == len(results)
    return by_labels


def digests(panel: Panel, spec: Spec | None = None, **keywords: Any) -> dict[Labels, str]:
    """Digest of every unit's result, timings left out."""
    return {labels: digest(result) for labels, result in fit(panel, spec, **keywords).items()}


def only(values: dict[Labels, str], panel: Sequence[Unit]) -> dict[Labels, str]:
    """The entries of these units."""
    return {unit.labels: values[unit.labels] for unit in panel}
