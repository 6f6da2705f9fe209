"""Memory: what the programs of a fit need, and settings that would need more than the limit."""

import numpy as np

from mixfleet.config import Spec
from mixfleet.errors import ConfigError
from mixfleet.hierarchy.gibbs import SWEEPS
from mixfleet.hierarchy.groups import Prepared
from mixfleet.hierarchy.reparameterization import Pool
from mixfleet.inference.compiled import TICKS
from mixfleet.inference.scheduler import capacity_of
from mixfleet.models.batch import Structure

__all__ = ["check_group_memory", "check_memory", "group_memory_estimate", "memory_estimate"]

GROUP_COPIES = 2
"""Of a group's draws, at its end: as they were sampled, and as parameters of every unit."""

COPIES = 3
"""Books' worth of memory that a tile needs at its peak: the book, the copy that is being judged, and scratch."""


def memory_estimate(structure: Structure, spec: Spec, batches: int) -> float:
    """Peak memory of the programs of one structure, in GiB, the process itself left out."""
    buffer = (capacity_of(spec.inference) + TICKS) * structure.rows.count * structure.lanes
    return batches * (COPIES * buffer + _series(structure)) * np.dtype(structure.dtype).itemsize / 2**30


def group_memory_estimate(pool: Pool, spec: Spec) -> float:
    """Peak memory of sampling one group of this structure, in GiB, the process itself left out."""
    structure = pool.structure
    draws = -(-spec.inference.max_draws // SWEEPS) * SWEEPS
    units = structure.rows.count * structure.lanes
    shared = (2 + len(pool.levels) + sum(pool.levels)) * (pool.rows + structure.shared) * structure.chains
    values = GROUP_COPIES * draws * (units + shared) + _series(structure)
    return values * np.dtype(structure.dtype).itemsize / 2**30


def _series(structure: Structure) -> int:
    """Numbers that one evaluation of the density holds at a time."""
    return structure.weeks * structure.lanes * (12 * structure.channels + structure.columns)


def check_memory(structure: Structure, spec: Spec, batches: int) -> None:
    """Refuses a program that needs more than the limit.

    Raises:
        ConfigError: It does; says how much, and which settings lower it.
    """
    needed, limit = memory_estimate(structure, spec, batches), spec.compute.memory_limit_gib
    if needed > limit:
        raise ConfigError(
            f"is {limit:g}, but the program needs about {needed:.1f} GiB; lower compute.lanes "
            f"(now {spec.compute.lanes}) or inference.max_draws (now {spec.inference.max_draws})",
            key="compute.memory_limit_gib",
        )


def check_group_memory(groups: list[Prepared], spec: Spec, workers: int) -> None:
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
