"""Numbers as readers meet them: few digits, with their currency, and nouns in the number that they stand in."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mixfleet.config import LOCALES, Locale

if TYPE_CHECKING:
    from mixfleet.analysis.posterior_draws import Fleet

__all__ = ["NOTHING", "Wording", "amount", "before", "listing", "money", "percent", "span"]

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


_NUMBER = re.compile(
    r"(?<![\w./=@#])(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<rest>\d+))?"
    r"(?P<unit>(?:e[+-]\d+)?(?:k|m|bn)?)(?P<percent> ?%)?(?![\w/=]|\.\d)"
)
"""A number of an English sentence, none of a date, a version or a setting."""

_CODE = r"`[^`]*`"


@dataclass(frozen=True, kw_only=True)
class Wording:
    """English sentences with their numbers as a locale writes them.

    A sentence is made or read from a run's tables in English, and given to a reader through this.
    """

    locale: Locale
    currency: str = ""
    names: frozenset[str] = field(default_factory=frozenset)
    """Of units, channels and columns: what stays as it is."""

    @staticmethod
    def of(fleet: "Fleet") -> "Wording":
        """As the business settings of a run say."""
        names = {*fleet.keys, *fleet.channels, *fleet.columns}
        names.update(label for unit in fleet.units for label in unit.labels)
        names.update(label for labels in fleet.missing for label in labels)
        locale, currency = LOCALES[fleet.spec.business.locale], fleet.spec.data.currency or ""
        return Wording(locale=locale, currency=currency, names=frozenset(names))

    def __call__(self, text: str) -> str:
        """The sentence in the locale; code in backticks and names stay."""
        if self.locale == LOCALES["en"]:
            return text
        parts = self._kept.split(text)
        # What is kept stands at the odd places.
        return "".join(part if i % 2 else self._numbers(part) for i, part in enumerate(parts))

    def each(self, texts: Iterable[str]) -> list[str]:
        """Several sentences."""
        return [self(text) for text in texts]

    @cached_property
    def _kept(self) -> re.Pattern[str]:
        changed = sorted((name for name in self.names if self._numbers(name) != name), key=len, reverse=True)
        return re.compile("|".join([f"({_CODE}", *(rf"(?<!\w){re.escape(name)}(?!\w)" for name in changed)]) + ")")

    @cached_property
    def _priced(self) -> re.Pattern[str]:
        marks = re.escape(self.locale.decimal + self.locale.group)
        number = rf"[\d{marks}]*\d(?:k|m|bn)?"
        return re.compile(rf"(?<![\w{marks}])({number}(?: to {number})?) {re.escape(self.currency)}(?!\w)")

    def _numbers(self, text: str) -> str:
        locale = self.locale

        def written(found: re.Match[str]) -> str:
            whole = found["whole"].replace(",", locale.group)
            rest = f"{locale.decimal}{found['rest']}" if found["rest"] else ""
            return f"{whole}{rest}{found['unit']}{locale.percent if found['percent'] else ''}"

        text = _NUMBER.sub(written, text)
        if not (locale.currency_first and self.currency):
            return text
        return self._priced.sub(lambda found: f"{before(self.currency)}{found[1]}", text)


def before(currency: str) -> str:
    """A currency that stands before its amount."""
    return f"{currency}\u00a0" if currency[-1].isalpha() else currency
