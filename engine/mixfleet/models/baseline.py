"""Baseline: the terms of the linear block - intercept, trend, seasonality, registered ones, controls, treatments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Shaped

from mixfleet.config import Data, Model, Prior, priors
from mixfleet.config.priors import Distribution, Parameter
from mixfleet.errors import ConfigError

__all__ = [
    "BaselineTerm",
    "Calendar",
    "column_components",
    "column_kinds",
    "column_names",
    "column_priors",
    "component_rows",
    "components",
    "design",
    "register",
    "terms_of",
]

DAYS_PER_YEAR = 365.25


class Calendar(NamedTuple):
    """What the columns of a unit are made from; dates may go on beyond the weeks that are fitted."""

    dates: Shaped[np.ndarray, " week"]
    """datetime64[D] of each week."""
    fitted_weeks: int
    """Weeks up to the holdout, from the first."""


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


@dataclass(frozen=True)
class _Intercept:
    component, parameter = "baseline", "intercept"

    def names(self) -> tuple[str, ...]:
        return ("intercept",)

    def columns(self, calendar: Calendar) -> Float[np.ndarray, "week 1"]:
        return np.ones((len(calendar.dates), 1))


@dataclass(frozen=True)
class _LinearTrend:
    """From -0.5 to 0.5 over the fitted weeks, and on at the same slope."""

    component = parameter = "trend"

    def names(self) -> tuple[str, ...]:
        return ("trend",)

    def columns(self, calendar: Calendar) -> Float[np.ndarray, "week 1"]:
        return (np.arange(len(calendar.dates)) / max(calendar.fitted_weeks - 1, 1) - 0.5)[:, None]


@dataclass(frozen=True)
class _Fourier:
    """Waves of the year up to an order."""

    order: int
    component = parameter = "seasonality"

    def names(self) -> tuple[str, ...]:
        return tuple(f"{wave}_{k}" for k in range(1, self.order + 1) for wave in ("sin", "cos"))

    def columns(self, calendar: Calendar) -> Float[np.ndarray, "week column"]:
        dates = calendar.dates
        day_of_year = (dates - dates.astype("datetime64[Y]")).astype(int) + 1
        waves = []
        for k in range(1, self.order + 1):
            angle = 2 * np.pi * k * day_of_year / DAYS_PER_YEAR
            waves += [np.sin(angle), np.cos(angle)]
        return np.column_stack(waves)


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
    return (
        _Intercept(),
        *((_LinearTrend(),) if model.trend == "linear" else ()),
        *((_Fourier(model.seasonality),) if model.seasonality else ()),
        *(REGISTERED[name] for name in model.terms),
    )


def column_names(model: Model, data: Data) -> tuple[str, ...]:
    """Names of the linear block's columns, in order."""
    names = (name for term in terms_of(model) for name in term.names())
    return (*names, *data.controls, *data.treatments)


def column_kinds(model: Model, data: Data) -> tuple[str, ...]:
    """The parameter in `Prior.parameters` that each column's coefficient has its prior from."""
    parameters = (term.parameter for term in terms_of(model) for _ in term.names())
    return (*parameters, *("control",) * len(data.controls), *("treatment",) * len(data.treatments))


def column_components(model: Model, data: Data) -> tuple[str, ...]:
    """What tables call each column's contribution; columns of one component are summed."""
    components = (term.component for term in terms_of(model) for _ in term.names())
    return (*components, *data.controls, *data.treatments)


def components(model: Model, data: Data) -> tuple[str, ...]:
    """Components of the baseline in order: baseline, trend, seasonality, then each control and treatment."""
    return tuple(dict.fromkeys(column_components(model, data)))


def component_rows(model: Model, data: Data) -> Float[np.ndarray, "component column"]:
    """Which columns make up which of `components`, as zeros and ones."""
    columns = column_components(model, data)
    return np.array([[float(column == name) for column in columns] for name in components(model, data)])


def column_priors(
    model: Model, data: Data, prior: Prior, unit: Mapping[str, str]
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Prior mean and standard deviation of each column's coefficient, in shares of the KPI's scale."""
    found = [prior.distribution(parameter, unit=unit).hyperparameters for parameter in column_kinds(model, data)]
    return np.array([each["mean"] for each in found]), np.array([each["sd"] for each in found])


def design(
    dates: Shaped[np.ndarray, " week"],
    controls: Float[np.ndarray, "week linear"],
    *,
    model: Model,
    fitted_weeks: int,
) -> Float[np.ndarray, "week column"]:
    """The linear block's columns.

    Args:
        dates: datetime64[D] of each week.
        controls: Scaled controls, then treatments.
        model: Says which terms there are.
        fitted_weeks: Weeks up to the holdout; the trend runs from -0.5 to 0.5 over them and on at the same slope.
    """
    calendar = Calendar(dates, fitted_weeks)
    return np.column_stack([*(term.columns(calendar) for term in terms_of(model)), controls])
