"""What money of each unit is in the currency of a plan."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mixfleet.analysis.selectors import by_unit
from mixfleet.errors import ConfigError

__all__ = ["unit_rates"]


def unit_rates(
    rates: Mapping[str, float],
    keys: Sequence[str],
    units: Sequence[tuple[str, ...]],
    *,
    absent: Collection[tuple[str, ...]] = (),
    key: str,
) -> Float[np.ndarray, " unit"]:
    """The common currency per currency of each unit; one where no rates are given.

    Args:
        rates: Selector ("market=US", or "all") to rate; the last one that fits a unit holds.
        keys: Key columns.
        units: Labels of each unit.
        absent: Labels of others of the table, which a selector may name too.
        key: What to call the rates in errors.

    Raises:
        ConfigError: A rate is none, a selector fits no unit, or a unit has no rate.
    """
    for selector, rate in rates.items():
        if not 0 < rate < np.inf:
            raise ConfigError(f"{selector}: must be above zero, is {rate}", key=key)
    return by_unit(rates, keys, units, absent=absent, key=key) if rates else np.ones(len(units))
