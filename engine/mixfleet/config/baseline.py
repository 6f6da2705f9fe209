"""Baseline settings: the terms of the linear block, each with the names of its columns.

How many columns a term has, and what they are called, follows from its settings alone: a unit's model never depends on
the units beside it. What the columns hold is in `mixfleet.models.baseline`.
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mixfleet.config import schema
from mixfleet.config.priors import BASELINE_TERMS
from mixfleet.config.schema import FrozenMapping, Label, OneOf, Range, Reads
from mixfleet.errors import ConfigError

__all__ = [
    "HSGP",
    "TERMS",
    "Events",
    "Fourier",
    "Holidays",
    "Intercept",
    "Knots",
    "Linear",
    "Piecewise",
    "RandomWalk",
    "Registered",
    "Term",
    "Terms",
]

DAYS_PER_YEAR = 365.25

Periods = Annotated[int, Range(1)]
Days = Annotated[int, Range(0, 60)]


def _read_days(value: Any, key: str) -> Any:
    """Days as text; YAML takes 2024-01-31 for a date."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"must be a list of days such as 2024-01-31, is {value!r}", key=key)
    return tuple(_day(item, f"{key}[{i}]") for i, item in enumerate(value))


def _day(value: Any, key: str) -> str:
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    try:
        days = [datetime.date.fromisoformat(part) for part in text.split("/")]
    except ValueError:
        days = []
    if not 1 <= len(days) <= 2 or days != sorted(days):
        raise ConfigError(f"must be a day such as 2024-01-31, or a first and a last one, is {value!r}", key=key)
    return text


def _read_calendars(value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"must be a mapping of country to days, is {value!r}", key=key)
    return {schema.read_label(name, key): _read_days(days, f"{key}.{name}") for name, days in value.items()}


Dates = Annotated[tuple[str, ...], Reads(_read_days)]
"""Days as 2024-01-31; where a term says so also spans of days as 2024-12-20/2024-12-31, both included."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """Columns of the linear block that belong together."""

    term: str

    name: Label | None = None
    """What tables call it, where its usual name is another term's already."""

    def __post_init__(self) -> None:
        schema.settle(self, key=f"model.baseline.{self.term}")
        if self.name is not None and not re.fullmatch(r"[^\W\d]\w*", self.name):
            raise ConfigError(
                f"must be letters, digits and '_', is {self.name!r}", key=f"model.baseline.{self.term}.name"
            )

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or self.term

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return self.term

    @property
    def prefix(self) -> str:
        """What the names of its columns begin with."""
        return self.name or self.term

    @property
    def scale_parameter(self) -> str | None:
        """The parameter that is the standard deviation of its coefficients; None where their prior says that."""
        return None

    def names(self) -> tuple[str, ...]:
        """One name for each column."""
        return (self.prefix,)


@dataclass(frozen=True, kw_only=True)
class _Scaled(Term):
    """A term whose coefficients are alike, so that their spread can be learned."""

    scale: Literal["fixed", "learned"] = "fixed"
    """`learned`: the standard deviation of its coefficients is a parameter of the unit, with the prior of their
    parameter's name and `_scale`; their own prior says their mean alone. They stay integrated out."""

    @property
    def scale_parameter(self) -> str | None:
        """The parameter that is the standard deviation of its coefficients; None where their prior says that."""
        return f"{self.parameter}_scale" if self.scale == "learned" else None


@dataclass(frozen=True, kw_only=True)
class Intercept(Term):
    """The level; the first term of every baseline."""

    term: Literal["intercept"] = "intercept"

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return "baseline"


@dataclass(frozen=True, kw_only=True)
class Linear(Term):
    """A line over the fitted weeks, and on at the same slope; its coefficient is the rise from first to last."""

    term: Literal["linear"] = "linear"

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or "trend"

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return "trend"

    @property
    def prefix(self) -> str:
        """What the names of its columns begin with."""
        return self.component


@dataclass(frozen=True, kw_only=True)
class _Placed(_Scaled):
    """Places in time: given days, or so many periods apart, counted back from the last fitted one."""

    at: Dates = ()
    every: Periods | None = None

    over: Periods = 156
    """How many periods back `every` reaches; a unit with a longer history is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        key = f"model.baseline.{self.term}"
        if bool(self.at) == (self.every is not None):
            raise ConfigError("needs either `at: [days]` or `every: periods`", key=key)
        if any("/" in day for day in self.at) or list(self.at) != sorted(set(self.at)):
            raise ConfigError("must be single days, each later than the one before", key=f"{key}.at")

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or "trend"

    @property
    def back(self) -> tuple[int, ...]:
        """How many periods before the last fitted one the places are, the earliest first; none with `at`."""
        if self.every is None:
            return ()
        return tuple(self.every * k for k in reversed(range(-(-self.over // self.every) + 1)))

    def names(self) -> tuple[str, ...]:
        """One name for each column."""
        return tuple(f"{self.prefix}_{place}" for place in (self.at or self.back))


@dataclass(frozen=True, kw_only=True)
class Piecewise(_Placed):
    """Bends of a line that is level before the first: changes of slope, per year. Beside `linear`, a trend of pieces.

    Source: Taylor, Letham (2018), doi:10.1080/00031305.2017.1380080.
    """

    term: Literal["piecewise"] = "piecewise"

    @property
    def back(self) -> tuple[int, ...]:
        """How many periods before the last fitted one the bends are; none is at its end."""
        return super().back[:-1]


@dataclass(frozen=True, kw_only=True)
class Knots(_Placed):
    """Level at knots beside the intercept, independent of each other, with lines between them; the last one holds.

    Source: Ng, Wang, Dai (2021), Bayesian time varying coefficient model, arXiv:2106.03322.
    """

    term: Literal["knots"] = "knots"


@dataclass(frozen=True, kw_only=True)
class RandomWalk(_Scaled):
    """A level that wanders: independent steps from knot to knot, with lines between them, zero at the last fitted week.

    The prior's standard deviation is that of a year's walk. Steps beyond the fitted weeks have it too, so that
    forecasts widen as they reach further.
    """

    term: Literal["random_walk"] = "random_walk"
    every: Periods = 13

    over: Periods = 156
    """How many periods back it reaches; a unit with a longer history is refused."""

    ahead: Annotated[int, Range(0)] = 52
    """How many periods ahead it reaches, a holdout among them; forecasts further ahead are refused."""

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or "trend"

    def names(self) -> tuple[str, ...]:
        """One name for each step: by the distance of its outer end from the last fitted period."""
        back, ahead = (-(-reach // self.every) for reach in (self.over, self.ahead))
        before = (f"{self.prefix}_{self.every * k}" for k in range(back, 0, -1))
        return (*before, *(f"{self.prefix}_ahead_{self.every * k}" for k in range(1, ahead + 1)))


@dataclass(frozen=True, kw_only=True)
class HSGP(_Scaled):
    """A smooth level: a Gaussian process of squared exponential kernel in its Hilbert space approximation.

    The prior's standard deviation is the process's. Away from the fitted weeks it reverts to the intercept.

    Source: Riutort-Mayol, Buerkner, Andersen, Solin, Vehtari (2022), arXiv:2004.11408.
    """

    term: Literal["hsgp"] = "hsgp"

    length: Annotated[float, Range(0.0, open=True)] = 26.0
    """Length-scale, in periods."""

    basis: Annotated[int, Range(1, 200)] = 20
    """Functions of the approximation; a unit too long for them is refused."""

    ahead: Annotated[int, Range(0)] = 52
    """How many periods ahead it reaches, a holdout among them; forecasts further ahead are refused."""

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or "trend"

    def names(self) -> tuple[str, ...]:
        """One name for each column."""
        return tuple(f"{self.prefix}_{k}" for k in range(1, self.basis + 1))


@dataclass(frozen=True, kw_only=True)
class Fourier(_Scaled):
    """Waves of a period up to an order."""

    term: Literal["fourier"] = "fourier"

    period: Literal["year", "month", "week"] | Annotated[float, Range(2.0)] = "year"
    """Or a number of days."""

    order: Annotated[int, Range(1, 26)] = 2

    @property
    def days(self) -> float:
        """Length of the longest wave."""
        return {"year": DAYS_PER_YEAR, "month": DAYS_PER_YEAR / 12, "week": 7.0}.get(str(self.period)) or float(
            self.period
        )

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        return self.name or self.parameter

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return {"year": "seasonality", "month": "month", "week": "weekday"}.get(str(self.period), "cycle")

    def names(self) -> tuple[str, ...]:
        """One name for each column."""
        front = "" if self.component == "seasonality" else f"{self.component}_"
        return tuple(f"{front}{wave}_{k}" for k in range(1, self.order + 1) for wave in ("sin", "cos"))


@dataclass(frozen=True, kw_only=True)
class _Dated(Term):
    """Days of the calendar; a column is the share of a period's days that are among them."""

    before: Days = 0
    """Days before each that count too, in a column of their own."""

    after: Days = 0
    """The same for days after each."""

    def names(self) -> tuple[str, ...]:
        """One name for each column: the days themselves, those before and those after."""
        sides = [side for side, days in (("before", self.before), ("after", self.after)) if days]
        return (self.prefix, *(f"{self.prefix}_{side}" for side in sides))


@dataclass(frozen=True, kw_only=True)
class Holidays(_Dated):
    """Public holidays of each unit's country, all with one coefficient."""

    term: Literal["holidays"] = "holidays"

    country: Label
    """ISO code such as DE, or DE-BY of a part of one, or the key column that has it, `"{market}"`."""

    countries: FrozenMapping[Label, Label] = FrozenMapping()
    """Code of the country by what the key column calls it, such as `Germany: DE`; without it labels are codes."""

    dates: Annotated[FrozenMapping[Label, tuple[str, ...]], Reads(_read_calendars)] = FrozenMapping()
    """Days by code. A fit takes those that are not given from the package `holidays`, and its run keeps them all."""

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return "holiday"

    def code(self, unit: Mapping[str, str]) -> str:
        """The code of a unit's country, from its label of each key column.

        Raises:
            ConfigError: `country` names no key column.
        """
        found = re.fullmatch(r"\{(.+)\}", self.country)
        if found is None:
            return self.country
        if found[1] not in unit:
            known = ", ".join(unit)
            raise ConfigError(f"{found[1]!r} is no key column; those are {known}", key="model.baseline.country")
        return self.countries.get(unit[found[1]], unit[found[1]])


@dataclass(frozen=True, kw_only=True)
class Events(_Dated):
    """Events on given days, all with one coefficient; give events of unlike effect terms and names of their own."""

    term: Literal["events"] = "events"

    at: Dates = ()
    """Days, and spans of days such as 2024-12-20/2024-12-31, past and to come."""

    file: str | None = None
    """Table with a column `date` and perhaps `end`; a fit reads it, and its run keeps the days."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.at and self.file is None:
            raise ConfigError("needs `at: [days]` or `file: events.csv`", key="model.baseline.events")

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return "event"


@dataclass(frozen=True, kw_only=True)
class Registered(Term):
    """A term that `mixfleet.models.baseline.register` made known; its columns have their own names."""

    term: Annotated[str, OneOf(BASELINE_TERMS)]

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        return BASELINE_TERMS[self.term]

    def names(self) -> tuple[str, ...]:
        """None: only the registered object knows them."""
        return ()


TERMS: dict[str, type[Term]] = {
    "intercept": Intercept,
    "linear": Linear,
    "piecewise": Piecewise,
    "knots": Knots,
    "random_walk": RandomWalk,
    "hsgp": HSGP,
    "fourier": Fourier,
    "holidays": Holidays,
    "events": Events,
}
"""Terms by what settings call them, beside those that are registered."""


def _read_terms(value: Any, key: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"must be a list of terms such as {{term: linear}}, is {value!r}", key=key)
    return tuple(_read_term(item, f"{key}[{i}]") for i, item in enumerate(value))


def _read_term(value: Any, key: str) -> Term:
    if isinstance(value, Term):
        return value
    kind = value.get("term") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in {*TERMS, *BASELINE_TERMS}:
        known = ", ".join((*TERMS, *BASELINE_TERMS))
        raise ConfigError(f"must be a mapping whose `term` is one of {known}, is {value!r}", key=key)
    return schema.build(TERMS.get(kind, Registered), value, key=key)


Terms = Annotated[tuple[Term, ...], Reads(_read_terms)]
