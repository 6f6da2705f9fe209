"""What a row of a table is about: a unit, or the sum of the certified units that share some labels."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mixfleet.analysis.aggregate import Aggregation, gather
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.errors import ConfigError
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["ALL_CHANNELS", "by_subject", "by_unit", "read_by", "subjects", "with_all"]

ALL_CHANNELS = "all channels"
"""The row behind those of the channels."""


def with_all(values: np.ndarray) -> np.ndarray:
    """Values by window and channel, and behind the channels their sum."""
    return np.concatenate([values, values.sum(axis=1, keepdims=True)], axis=1)


def read_by(fleet: Fleet, by: Any) -> tuple[str, ...] | None:
    """Key columns to sum by; None means the units themselves.

    Raises:
        ConfigError: One of them is no key column.
    """
    if by is None:
        return None
    columns = (by,) if isinstance(by, str) else tuple(by)
    if unknown := [name for name in columns if name not in fleet.keys]:
        raise ConfigError(f"{unknown[0]!r} is no key column; those are {', '.join(fleet.keys)}", key="by")
    return columns


def subjects(
    fleet: Fleet, columns: tuple[str, ...] | None, aggregation: Aggregation, summarise: Callable[[Any], Any]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Head columns and summary of every unit, or of every group, which also says what it leaves out."""
    if columns is None:
        for unit, status, summary in zip(fleet.units, fleet.statuses, aggregation.units, strict=True):
            yield {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": status}, summary
        return
    for group, account in aggregation.groups[columns]:
        head = {
            **dict(zip(columns, group.labels, strict=True)),
            "units": len(group.units),
            "included_statuses": "; ".join(fleet.included_statuses),
            "excluded": len(group.excluded),
            "excluded_units": "; ".join(" / ".join(labels) for labels in group.excluded),
        }
        yield head, summarise(account)


def by_subject(
    fleet: Fleet, by: Any, account: Callable[[int, UnitSeries], Any], summarise: Callable[[Any], Any]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Head columns and summary of every unit, or of every sum over the units of a group.

    Args:
        fleet: The units.
        by: Key columns to sum by; None for units.
        account: Of a unit's place and arrays, what is added up; see `aggregate.gather`.
        summarise: Of a unit's or a group's account.

    Raises:
        ConfigError: `by` is no key column.
    """
    columns = read_by(fleet, by)

    def work(place: int, series: UnitSeries) -> tuple[Any, Any]:
        own = account(place, series)
        return own, summarise(own)

    aggregation = gather(fleet, fleet.walk(work), [] if columns is None else [columns])
    return subjects(fleet, columns, aggregation, summarise)


def by_unit(fleet: Fleet, work: Callable[[int, UnitSeries], Any]) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Place, head columns and what `work` finds, of every unit."""
    for place, found in enumerate(fleet.walk(work)):
        unit, status = fleet.units[place], fleet.statuses[place]
        yield place, {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": status}, found
