"""Which channels the data of a unit cannot tell apart."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Fleet

__all__ = ["overlap", "variance_inflation"]

TRADED, BLURRED = -0.7, -0.4
"""Posterior correlations below which two contributions stand in for each other, or partly do."""

INFLATED = 10.0
"""Variance inflation above which a channel's media follow from the others' (the usual rule of thumb)."""


def overlap(fleet: Fleet, correlations: Iterable[Float[np.ndarray, "channel channel"]]) -> pa.Table:
    """One row per unit and pair of channels that ran, the most entangled pair of a unit first.

    `posterior_correlation` of the contributions; below zero, what one is given the other loses. `media_correlation` of
    the weekly media. `vif` and `other_vif`: variance inflation of each channel's media given all others'.

    Args:
        fleet: The units.
        correlations: Of each unit's contributions, by draw.
    """
    long_table = LongTable()
    for unit, status, correlation in zip(fleet.units, fleet.statuses, correlations, strict=True):
        counted = fleet.counted(unit)
        ran = np.flatnonzero(unit.media[counted].std(axis=0) > 0) if counted.any() else ()
        if len(ran) < 2:
            continue
        joint = correlation[np.ix_(ran, ran)]
        media = np.corrcoef(unit.media[counted][:, ran].T)
        vif = variance_inflation(media)
        pairs = sorted(combinations(range(len(ran)), 2), key=lambda pair: joint[pair])
        first, second = np.array(pairs).T
        names = [fleet.channels[i] for i in ran]
        told = [_statement(names[i], names[j], joint[i, j], max(vif[i], vif[j])) for i, j in pairs]
        long_table.add(
            {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": status},
            {"pair": range(len(pairs))},
            {
                "channel": np.array([names[i] for i in first], object),
                "other": np.array([names[j] for j in second], object),
                "posterior_correlation": joint[first, second],
                "media_correlation": media[first, second],
                "vif": vif[first],
                "other_vif": vif[second],
                "statement": np.array(told, object),
            },
        )
    return long_table.table()


def variance_inflation(correlation: Float[np.ndarray, "channel channel"]) -> Float[np.ndarray, " channel"]:
    """1 / (1 - R2) of each column on all others, from their correlations; inf where it follows from them exactly."""
    values, vectors = np.linalg.eigh(correlation)
    with np.errstate(divide="ignore"):
        weights = np.where(values > 1e-12, 1 / values, np.inf)
    # A column that takes no part in an exact dependence must not meet its infinity.
    return np.sum(np.where(vectors**2 > 1e-12, vectors**2 * weights, 0.0), axis=1)


def _statement(channel: str, other: str, correlation: float, vif: float) -> str:
    if correlation < TRADED:
        return f"cannot be told apart: what {channel} is given, {other} loses; trust their sum"
    if correlation < BLURRED:
        return f"partly blurred: some of {channel}'s effect may be {other}'s"
    if vif > INFLATED:
        return "told apart, though their media move together with other channels'"
    return "told apart"
