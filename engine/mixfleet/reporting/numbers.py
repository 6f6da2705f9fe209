"""Numbers as readers meet them: few digits, with their currency, and nouns in the number that they stand in."""

import math
from collections.abc import Sequence

__all__ = ["amount", "listing", "money", "percent", "span"]

NOTHING = "\u2013"
"""What stands where there is no number."""

SCALES = ((1e9, 1e9, "bn"), (1e6, 1e6, "m"), (1e4, 1e3, "k"))
"""From which size on a number is written in what, with its letter."""


def amount(value: float | None) -> str:
    """A number to about three digits: 1.2m, 45.6k, 731, 2.41, 0.0031. The page's script writes numbers the same way."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    size = abs(value)
    for limit, scale, letter in SCALES:
        if size >= limit:
            return f"{value / scale:.{0 if size / scale >= 100 else 1}f}{letter}"
    if size < 0.01:
        return f"{value:.2g}"
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def money(value: float | None, currency: str) -> str:
    """An amount and its currency, if there is one."""
    return f"{amount(value)} {currency}".rstrip()


def percent(value: float | None) -> str:
    """A share of 1 in per cent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{100 * value:.{1 if abs(value) < 0.1 else 0}f} %"


def span(low: float, high: float) -> str:
    """Both ends of an interval."""
    return f"{amount(low)} to {amount(high)}"


def listing(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
