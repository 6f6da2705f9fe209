"""Experiments: where the table of lift tests is and what its columns mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from mixfleet.config import schema
from mixfleet.config.schema import FrozenMapping, Label, OneOf, Range

MEANINGS: Mapping[str, str] = {
    "name": "what the test is called in tables",
    "channel": "channel under test, or several joined by +",
    "start": "first day on which media differed",
    "end": "last day on which media differed",
    "measured_until": "last day on which the KPI was measured; empty: all carry-over counts",
    "factor": "media under test over media that ran: 0 switched off, 1.5 half as much again",
    "spend_test": "spend under test, all its days together",
    "spend_control": "spend without the test, all its days together",
    "delta_spend": "spend under test less spend without",
    "x": "media of every period where the test began, in a table without dates",
    "delta_x": "media that the test added to them",
    "lift": "KPI under test less KPI without",
    "revenue": "the same in money",
    "roi": "the same in money, per unit of money that the test added",
    "se": "standard error of the estimate",
    "lower": "lower end of the estimate's interval",
    "upper": "upper end of the estimate's interval",
    "level": "confidence level of the interval",
    "bias_sd": "standard deviation of what the test may have got wrong beyond its standard error, in its own unit",
}
"""What a column of the table may mean. A cell of the key columns says which unit a test was in."""


def read_experiments(value: Any, _: str) -> Any:
    """The path alone stands for the group."""
    return {"path": value} if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True)
class Experiments:
    """Lift tests that enter the fit as measurements of what the model says of them."""

    path: str | None = None
    """CSV, Excel or Parquet with one row per test and unit; unset: no tests, unless a table is passed."""

    columns: FrozenMapping[Annotated[str, OneOf(MEANINGS)], Label] = FrozenMapping()
    """Meaning to column, where the table has names of its own; those of PyMC-Marketing, Robyn, Meridian, GeoX and
    GeoLift are known."""

    level: Annotated[float, Range(0.0, 1.0, open=True)] = 0.95
    """Confidence level of intervals of a table without such a column."""

    def __post_init__(self) -> None:
        schema.settle(self, key="data.experiments")
