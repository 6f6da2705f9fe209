"""Memory: what the programs of a fit need, and settings that would need more than the limit."""

import numpy as np

from mixfleet.config import Spec
from mixfleet.errors import ConfigError
from mixfleet.inference.compiled import TICKS
from mixfleet.inference.scheduler import capacity_of
from mixfleet.models.batch import Structure

__all__ = ["check_memory", "evaluation_numbers", "memory_estimate"]

COPIES = 3
"""Draw buffers that fit into what a tile needs at its peak: its own, the copy that is being judged, and scratch."""


def memory_estimate(structure: Structure, spec: Spec, batches: int) -> float:
    """Peak memory of the programs of one structure, in GiB, the process itself left out."""
    buffer = (capacity_of(spec.inference) + TICKS) * structure.rows.count * structure.lanes
    return batches * (COPIES * buffer + evaluation_numbers(structure)) * np.dtype(structure.dtype).itemsize / 2**30


def evaluation_numbers(structure: Structure) -> int:
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
