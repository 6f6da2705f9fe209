"""Which rows of a table somebody means, as column=label,column=label."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config.business import ALL
from mixfleet.errors import ConfigError

__all__ = ["ALL", "by_unit", "read_selector"]

_PAIR = re.compile(r'\s*([^=,"]+?)\s*=\s*(?:"([^"]*)"|(.*?))\s*(?:,(?=[^=,]+=)|$)', re.DOTALL)
"""A comma ends a label only where another column follows it, so that labels with commas need no quotes."""


def read_selector(text: str, *, key: str) -> dict[str, str]:
    """Column to label, from column=label,column=label; none where it is `ALL`.

    A label may have commas, and stand in double quotes where it has an equals sign behind one.

    Raises:
        ConfigError: It is not of that form.
    """
    if text.strip() == ALL:
        return {}
    found: dict[str, str] = {}
    place = 0
    while place < len(text) or not found:
        pair = _PAIR.match(text, place)
        if pair is None or text.endswith(","):
            words = "is not of the form channel=tv,market=DE; labels with commas and = go in double quotes"
            raise ConfigError(f"{text!r} {words}", key=key)
        column, quoted, plain = pair.groups()
        found[column] = plain if quoted is None else quoted
        place = pair.end()
    return found


def by_unit(
    numbers: Mapping[str, float],
    keys: Sequence[str],
    units: Sequence[tuple[str, ...]],
    *,
    absent: Collection[tuple[str, ...]] = (),
    key: str,
) -> Float[np.ndarray, " unit"]:
    """The number of each unit: that of the last selector that fits it.

    Args:
        numbers: By selector.
        keys: Key columns.
        units: Labels of the units.
        absent: Labels of others of the table, which a selector may name too.
        key: What to call the numbers in errors.

    Raises:
        ConfigError: A selector cannot be read or fits no unit, or a unit fits none.
    """
    found = np.full(len(units), np.nan)
    for selector, number in numbers.items():
        found[_fits(selector, keys, (*units, *absent), key=key)[: len(units)]] = number
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
