"""What a KPI and a currency are worth, and how a business counts its year: kept with a run, no part of its fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from mixfleet.config import schema
from mixfleet.config.schema import FrozenMapping, Range, Reads
from mixfleet.errors import ConfigError

__all__ = ["Business"]

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

    def __post_init__(self) -> None:
        """Refuse what no money or no share is."""
        schema.settle(self, key="business")
        if not self.retention or not all(share > 0 for share in self.retention):
            raise ConfigError(f"must be shares above 0 and up to 1, is {self.retention}", key="business.retention")
