"""Which rows of a table somebody means, as column=label,column=label."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.errors import ConfigError

__all__ = ["ALL", "by_unit", "read_selector"]

ALL = "all"
"""The selector that everything fits."""


def read_selector(text: str, *, key: str) -> dict[str, str]:
    """Column to label, from column=label,column=label; none where it is `ALL`.

    Raises:
        ConfigError: It is not of that form.
    """
    if text.strip() == ALL:
        return {}
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 or not pair[0].strip() for pair in pairs):
        raise ConfigError(f"{text!r} is not of the form channel=tv,market=DE", key=key)
    return {column.strip(): label.strip() for column, label in pairs}


def by_unit(
    numbers: Mapping[str, float], keys: Sequence[str], units: Sequence[tuple[str, ...]], *, key: str
) -> Float[np.ndarray, " unit"]:
    """The number of each unit: that of the last selector that fits it.

    Raises:
        ConfigError: A selector cannot be read or fits no unit, or a unit fits none.
    """
    found = np.full(len(units), np.nan)
    for selector, number in numbers.items():
        found[_fits(selector, keys, units, key=key)] = number
    if len(left := np.flatnonzero(np.isnan(found))):
        raise ConfigError(f'says nothing about {" / ".join(units[left[0]])}; "{ALL}" is every unit', key=key)
    return found


def _fits(
    selector: str, keys: Sequence[str], units: Sequence[tuple[str, ...]], *, key: str
) -> Bool[np.ndarray, " unit"]:
    wanted = read_selector(selector, key=key)
    if unknown := [column for column in wanted if column not in keys]:
        raise ConfigError(f"{selector!r}: {unknown[0]!r} is none of {', '.join(keys)}", key=key)
    rows = np.array(
        [all(labels[keys.index(column)] == label for column, label in wanted.items()) for labels in units], bool
    )
    if not rows.any():
        raise ConfigError(f"{selector!r} names no unit", key=key)
    return rows
