"""Lift tests that measured several units of a group together: each unit's part of the estimate, drawn anew.

Given its lift a unit's part is normal around it, with the unit's share of the test's variance, and all parts together
are the estimate. Whatever the parts are, the estimate is then normal around the sum of the lifts with the test's own
variance; and given the parts each unit moves as if it had made a test of its own, whatever the others do.

References:
    Tanner and Wong (1987), The calculation of posterior distributions by data augmentation,
    doi:10.1080/01621459.1987.10478458.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.models.batch import PreparedUnit, Structure

__all__ = ["JointTests", "joint_tests", "redrawn"]


class JointTests(NamedTuple):
    """The tests of a group that measured several of its units; padded ones weigh nothing."""

    weight: Float[Array, "joint test unit"]
    """Root of the unit's share of the squared error, at the unit's own place of the test."""
    estimate: Float[Array, " joint"]
    """In standard deviations of the test."""


def joint_tests(members: Sequence[PreparedUnit], structure: Structure) -> JointTests:
    """Those of a group's members, numpy arrays, padded in number to a power of two.

    Args:
        members: The units.
        structure: Of their program.
    """
    places, units = structure.evidence.rows, structure.units
    found: dict[tuple[tuple[str, ...], str], tuple[np.ndarray, float]] = {}
    for i, member in enumerate(members):
        for place, test in enumerate(member.unit.experiments):
            if test.together:
                weight, _ = found.setdefault(
                    (test.together, test.name), (np.zeros((places, units)), test.estimate / test.sd)
                )
                weight[place, i] = test.share**0.5
    count = 1 << (len(found) - 1).bit_length() if found else 0
    weights, estimates = np.zeros((count, places if found else 0, units)), np.zeros(count)
    for j, (weight, estimate) in enumerate(found.values()):
        weights[j], estimates[j] = weight, estimate
    known: Any = weights.astype(structure.dtype), estimates.astype(structure.dtype)
    return JointTests(*known)


def redrawn(
    tests: JointTests,
    parts: Float[Array, "test unit chain"],
    lifts: Float[Array, "test unit chain"],
    white: Float[Array, "test unit chain"],
) -> Float[Array, "test unit chain"]:
    """The parts given the lifts, so that they add up to the estimates; others as they are.

    Args:
        tests: Of the group.
        parts: Before, in standard deviations of each part.
        lifts: The units' own, in the same.
        white: Independent standard normal numbers.
    """
    free = lifts + white
    lacking = tests.estimate[:, None] - jnp.einsum("jtu,tuc->jc", tests.weight, free, precision="highest")
    held = free + jnp.einsum("jtu,jc->tuc", tests.weight, lacking, precision="highest")
    return jnp.where(jnp.any(tests.weight > 0, axis=0)[..., None], held, parts)
