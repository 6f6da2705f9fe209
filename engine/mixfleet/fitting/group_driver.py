"""Pooled units driven through their groups. Loaded where units are pooled only."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from threading import Event

import numpy as np

from mixfleet import runtime
from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit
from mixfleet.errors import ConfigError
from mixfleet.fitting.devices import workers_of
from mixfleet.fitting.memory import evaluation_numbers
from mixfleet.fitting.progress import Tally
from mixfleet.fitting.retries import result_of
from mixfleet.hierarchy.gibbs import SWEEPS
from mixfleet.hierarchy.groups import Prepared, groups_of, pooled_settings, prepared
from mixfleet.hierarchy.reparameterization import Pool
from mixfleet.hierarchy.sampler import FinishedGroup, sample_groups
from mixfleet.inference.compiled import Device
from mixfleet.posterior.pooling_factors import GroupVariance, group_variance, with_pooling
from mixfleet.posterior.unit_result import UnitResult

__all__ = ["OnGroup", "fit_groups", "group_memory_estimate"]

UNIT_COPIES = 6
"""Of one unit's draws, while it is looked at: in one piece, padded, as parameters, what is judged, and its results."""

OnGroup = Callable[[FinishedGroup], None]


def fit_groups(
    units: list[Unit],
    panel: Panel,
    spec: Spec,
    devices: list[Device],
    tally: Tally,
    on_group: OnGroup | None,
) -> Iterator[UnitResult]:
    """Results of the units by way of their groups; a group is sampled whole if any of its units is wanted."""
    wanted = {unit.labels for unit in units}
    groups: list[Prepared] = []
    for label, members in groups_of(panel, spec):
        if wanted.isdisjoint(member.labels for member in members):
            continue
        try:
            groups.append(prepared(label, members, panel, spec))
        except np.linalg.LinAlgError as error:
            reason = f"the linear block of a unit of the group cannot be decomposed: {error}"
            failed = [member.labels for member in members if member.labels in wanted]
            yield from (tally.count(UnitResult(labels=one, status="failed", reason=reason)) for one in failed)
    workers = workers_of(devices, spec.compute.threads)
    _check_memory(groups, spec, len(workers))
    waiting = sum(len(group.members) for group in groups)
    settings = pooled_settings(spec)
    for finished in sample_groups(groups, spec, workers, Event()):
        tally.show("sampling", active=waiting)
        if finished is None:
            continue
        if on_group is not None:
            on_group(finished)
        waiting -= len(finished.units)
        asked = [place for place, unit in enumerate(finished.units) if unit.job.member.unit.labels in wanted]
        result = partial(
            _result,
            finished=finished,
            variance=group_variance(finished.group, finished.hyper, panel, spec),
            panel=panel,
            settings=settings,
        )
        # Of one group of all units nobody samples any more.
        yield from map(tally.count, runtime.side_by_side(result, asked, len(workers)))


def _result(
    place: int, *, finished: FinishedGroup, variance: GroupVariance, panel: Panel, settings: Spec
) -> UnitResult:
    unit = finished.finished(place)
    result = result_of(unit, replace(finished.group.pool.structure, units=1), panel, settings)
    return with_pooling(result, unit, finished, variance, panel)


def group_memory_estimate(pool: Pool, spec: Spec) -> float:
    """Peak memory of sampling one group of this structure, in GiB, the process itself left out."""
    structure = pool.structure
    draws = -(-spec.inference.max_draws // SWEEPS) * SWEEPS
    units = structure.rows.count * structure.lanes
    hyper = (2 + len(pool.levels) + sum(pool.levels)) * (pool.rows + structure.shared) * structure.chains
    # Hyperparameters are there twice at the end, as they were sampled and in one piece. Draws of units are made into
    # parameters a unit at a time, for which and for what is judged of it there is an allowance.
    one = UNIT_COPIES * structure.rows.count * structure.chains
    values = draws * (units + 2 * hyper + one) + evaluation_numbers(structure)
    return values * np.dtype(structure.dtype).itemsize / 2**30


def _check_memory(groups: list[Prepared], spec: Spec, workers: int) -> None:
    """Refuses groups that need more than the limit: of those that stand side by side, at worst the largest.

    Raises:
        ConfigError: They do; says how much, and which settings lower it.
    """
    needs = sorted(((group_memory_estimate(group.pool, spec), group.label) for group in groups), reverse=True)[:workers]
    needed, limit = sum(need for need, _ in needs), spec.compute.memory_limit_gib
    if needed > limit:
        need, label = needs[0]
        name = f"group {label}" if label else "the group of all units"
        beside = f", {needed:.2g} with those that are sampled beside it" if len(needs) > 1 else ""
        raise ConfigError(
            f"is {limit:g}, but {name} needs about {need:.2g} GiB{beside}; lower inference.max_draws "
            f"(now {spec.inference.max_draws}) or inference.chains (now {spec.inference.chains}), or choose a "
            "pooling.by of smaller groups",
            key="compute.memory_limit_gib",
        )
