"""Linear block: the columns of a model's terms - those of its settings, registered ones, controls, treatments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Shaped

from mixfleet.config import Data, Model, priors
from mixfleet.config.baseline import (
    HSGP,
    Events,
    Fourier,
    Holidays,
    Intercept,
    Knots,
    Linear,
    Piecewise,
    RandomWalk,
    Registered,
    Term,
)
from mixfleet.config.priors import Distribution, Parameter
from mixfleet.errors import ConfigError
from mixfleet.models.baseline import levels, seasons
from mixfleet.models.baseline.calendar import Calendar

__all__ = [
    "BaselineTerm",
    "column_components",
    "column_kinds",
    "column_names",
    "component_rows",
    "components",
    "design",
    "furthest",
    "register",
    "terms_of",
]


class BaselineTerm(Protocol):
    """Columns of the linear block that belong together."""

    @property
    def component(self) -> str:
        """What tables call the sum of its contributions."""
        ...

    @property
    def parameter(self) -> str:
        """The parameter that holds its coefficients' prior, by which they are pooled too."""
        ...

    def names(self) -> tuple[str, ...]:
        """One name for each column."""
        ...

    def columns(self, calendar: Calendar) -> Float[np.ndarray, "week column"]:
        """The columns in every week of the calendar."""
        ...


COLUMNS: dict[type[Term], Callable[[Any, Calendar], Float[np.ndarray, "week column"]]] = {
    Intercept: lambda _, calendar: np.ones((len(calendar.dates), 1)),
    Linear: lambda _, calendar: levels.trend(calendar),
    Piecewise: levels.piecewise,
    Knots: levels.knots,
    RandomWalk: levels.random_walk,
    HSGP: levels.gaussian_process,
    Fourier: seasons.fourier,
    Holidays: seasons.holidays,
    Events: seasons.events,
}
"""The columns of each term of the settings."""


@dataclass(frozen=True)
class _Set:
    """A term of the settings, with its columns."""

    settings: Term

    @property
    def component(self) -> str:
        return self.settings.component

    @property
    def parameter(self) -> str:
        return self.settings.parameter

    def names(self) -> tuple[str, ...]:
        return self.settings.names()

    def columns(self, calendar: Calendar) -> Float[np.ndarray, "week column"]:
        return COLUMNS[type(self.settings)](self.settings, calendar)


REGISTERED: dict[str, BaselineTerm] = {}
"""Further terms, by the name that `model.terms` gives."""


def register(name: str, term: BaselineTerm, prior: Distribution) -> None:
    """Makes a term known to settings (`model.terms`) and models.

    Args:
        name: What settings call it.
        term: Its columns. `term.parameter` is the name of its coefficients' prior, which no other term may have.
        prior: The usual prior of its coefficients: normal, in shares of the KPI's scale.

    Raises:
        ConfigError: There is such a term or parameter already.
    """
    if name in REGISTERED:
        raise ConfigError(f"there is a term {name!r} already", key="model.terms")
    if term.parameter in priors.PARAMETERS:
        raise ConfigError(f"there is a parameter {term.parameter!r} already", key="prior.parameters")
    priors.add_parameters({term.parameter: Parameter(level="unit", support=prior.support, default=prior)})
    priors.BASELINE_TERMS[name] = term.parameter
    REGISTERED[name] = term


def terms_of(model: Model) -> tuple[BaselineTerm, ...]:
    """The terms of the linear block, in order. Behind them stand the table's controls, then its treatments."""
    return tuple(REGISTERED[term.term] if isinstance(term, Registered) else _Set(term) for term in model.baseline_terms)


def furthest(model: Model) -> int | None:
    """Periods after the fitted ones that every term can tell of; None without a limit."""
    return min((term.ahead for term in model.baseline_terms if isinstance(term, RandomWalk | HSGP)), default=None)


def column_names(model: Model, data: Data) -> tuple[str, ...]:
    """Names of the linear block's columns, in order."""
    names = (name for term in terms_of(model) for name in term.names())
    return (*names, *data.linear)


def column_kinds(model: Model, data: Data) -> tuple[str, ...]:
    """The parameter in `Prior.parameters` that each column's coefficient has its prior from."""
    parameters = (term.parameter for term in terms_of(model) for _ in term.names())
    return (*parameters, *("control",) * len(data.controls), *("treatment",) * len(data.treatments))


def column_components(model: Model, data: Data) -> tuple[str, ...]:
    """What tables call each column's contribution; columns of one component are summed."""
    components = (term.component for term in terms_of(model) for _ in term.names())
    return (*components, *data.linear)


def components(model: Model, data: Data) -> tuple[str, ...]:
    """Components of the baseline in order: baseline, trend, seasonality, then each control and treatment."""
    return tuple(dict.fromkeys(column_components(model, data)))


def component_rows(model: Model, data: Data) -> Float[np.ndarray, "component column"]:
    """Which columns make up which of `components`, as zeros and ones."""
    columns = column_components(model, data)
    return np.array([[float(column == name) for column in columns] for name in components(model, data)])


def design(
    dates: Shaped[np.ndarray, " week"],
    controls: Float[np.ndarray, "week linear"],
    *,
    model: Model,
    fitted_weeks: int,
    unit: Mapping[str, str] = MappingProxyType({}),
) -> Float[np.ndarray, "week column"]:
    """The linear block's columns.

    Args:
        dates: datetime64[D] of each week.
        controls: Scaled controls, then treatments.
        model: Says which terms there are.
        fitted_weeks: Weeks up to the holdout; the trend runs from -0.5 to 0.5 over them and on at the same slope.
        unit: The unit's label of each key column, where a term asks for one.

    Raises:
        ConfigError: A term does not go with the unit's dates or labels.
    """
    calendar = Calendar(dates, fitted_weeks, unit)
    return np.column_stack([*(term.columns(calendar) for term in terms_of(model)), controls])
