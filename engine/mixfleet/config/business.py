"""What a KPI and a currency are worth, and how a business counts its year: kept with a run, no part of its fit."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from mixfleet.config import schema
from mixfleet.config.schema import FrozenMapping, Range, Reads
from mixfleet.errors import ConfigError

__all__ = ["LOCALES", "Business", "Locale"]

ALL = "all"
"""The selector that every unit fits."""


def _read_numbers(value: Any, key: str) -> Any:
    """One number for all units, or numbers by selector; none where nothing is said."""
    if value is None:
        return {}
    numbers = value if isinstance(value, Mapping) else {ALL: value}
    for selector, number in numbers.items():
        if isinstance(number, int | float) and not (0 < number < float("inf")):
            raise ConfigError(f"must be above zero, is {number} for {selector}", key=key)
    return numbers


class Locale(NamedTuple):
    """How a country writes numbers."""

    decimal: str
    group: str
    """Between thousands."""
    percent: str
    """What follows a number in per cent."""
    currency_first: bool = False
    """Whether a currency stands before its amount."""


_THIN, _WIDE = "\u202f", "\u00a0"
_COMMA = {
    ".": (
        (("de_DE", "da_DK", "es_ES", "ro_RO"), f"{_WIDE}%", False),
        (("it_IT", "el_GR"), "%", False),
        (("nl_NL", "nl_BE", "pt_BR"), "%", True),
        (("de_AT",), f"{_WIDE}%", True),
    ),
    _WIDE: (
        (("cs_CZ", "fi_FI", "fr_CA", "nb_NO", "sk_SK", "sv_SE"), f"{_WIDE}%", False),
        (("hu_HU", "pl_PL", "pt_PT"), "%", False),
    ),
    _THIN: ((("fr_FR", "fr_BE"), f"{_WIDE}%", False),),
    "'": ((("fr_CH",), "%", False),),
}
_POINT = ("en_AU", "en_CA", "en_GB", "en_IE", "en_US", "es_MX", "ja_JP", "ko_KR", "zh_CN")

LOCALES: Mapping[str, Locale] = {
    "en": Locale(".", ",", " %"),
    **{name: Locale(".", ",", "%", True) for name in _POINT},
    **{
        name: Locale(",", group, percent, first)
        for group, kinds in _COMMA.items()
        for names, percent, first in kinds
        for name in names
    },
    "de_CH": Locale(".", "'", "%", True),
}
"""By name. Four marks are all that sentences and charts need of a locale, so that no library is: they are those of
Unicode's CLDR, but for `en`, whose per cent and currency stand as they do where nobody names a locale."""


def _read_locale(value: Any, key: str) -> Any:
    name = str(value).replace("-", "_")
    if name not in LOCALES:
        near = difflib.get_close_matches(name, LOCALES, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(LOCALES)}"
        raise ConfigError(f"unknown locale {value!r}; {remedy}", key=key)
    return name


Numbers = Annotated[FrozenMapping[str, float], Reads(_read_numbers)]


@dataclass(frozen=True, kw_only=True)
class Business:
    """What report, plan, forecast and export take money and years to be.

    Numbers are one for all units, or by selector, of which the last that fits a unit holds:
    {"all": 0.4, "brand=acme,market=DE": 0.3}.
    """

    margin: Numbers = FrozenMapping()
    """Earned per KPI before media are paid; a share such as 0.4 where the KPI is revenue."""

    customer_value: Numbers = FrozenMapping()
    """What a customer who is there brings in a period, where the KPI is new customers."""

    retention: tuple[Annotated[float, Range(0.0, 1.0)], ...] = (1.0,)
    """Share of new customers who are there in each period, from the first. By default the value is that of a whole
    lifetime, which is the one period."""

    rates: Numbers = FrozenMapping()
    """A plan's currency per currency of each unit; without any, all money is of one currency."""

    fiscal_year_start: Annotated[int, Range(1, 12)] = 1
    """Month in which the business' year begins. From another than January on, years and quarters are named for the
    calendar year in which they end: FY2026-Q1."""

    locale: Annotated[str, Reads(_read_locale)] = "en"
    """How report, slides, charts and the terminal write numbers, such as de_DE for 1,2m in place of 1.2m. Sentences are
    English; tables and their files hold plain numbers."""

    def __post_init__(self) -> None:
        """Refuse what no money or no share is."""
        schema.settle(self, key="business")
        if not self.retention or not all(share > 0 for share in self.retention):
            raise ConfigError(f"must be shares above 0 and up to 1, is {self.retention}", key="business.retention")
