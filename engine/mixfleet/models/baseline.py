"""Baseline: the columns of the linear block - intercept, trend, seasonality, controls, treatments."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from mixfleet.config import Data, Model, Prior

__all__ = ["column_kinds", "column_names", "column_priors", "component_rows", "components", "design"]

DAYS_PER_YEAR = 365.25


def column_names(model: Model, data: Data) -> tuple[str, ...]:
    """Names of the linear block's columns, in order."""
    trend = ("trend",) if model.trend == "linear" else ()
    waves = tuple(f"{wave}_{k}" for k in range(1, model.seasonality + 1) for wave in ("sin", "cos"))
    return ("intercept", *trend, *waves, *data.controls, *data.treatments)


def components(columns: Sequence[str]) -> tuple[str, ...]:
    """Components of the baseline in order: baseline, trend, seasonality, then each control and treatment."""
    return tuple(dict.fromkeys(_component(column) for column in columns))


def component_rows(columns: Sequence[str]) -> Float[np.ndarray, "component column"]:
    """Which columns make up which of `components`, as zeros and ones."""
    return np.array([[float(_component(column) == name) for column in columns] for name in components(columns)])


def _component(column: str) -> str:
    if column.startswith(("sin_", "cos_")):
        return "seasonality"
    return "baseline" if column == "intercept" else column


def column_kinds(model: Model, data: Data) -> tuple[str, ...]:
    """The parameter in `Prior.parameters` that each column's coefficient has its law from."""
    trend = ("trend",) if model.trend == "linear" else ()
    controls = ("control",) * len(data.controls) + ("treatment",) * len(data.treatments)
    return ("intercept", *trend, *("seasonality",) * (2 * model.seasonality), *controls)


def column_priors(
    model: Model, data: Data, prior: Prior, unit: Mapping[str, str]
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Prior mean and standard deviation of each column's coefficient, in shares of the KPI's scale."""
    laws = [prior.law(structure, unit=unit).hyperparameters for structure in column_kinds(model, data)]
    return np.array([law["mean"] for law in laws]), np.array([law["sd"] for law in laws])


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
    weeks = len(dates)
    columns = [np.ones(weeks)]
    if model.trend == "linear":
        columns.append(np.arange(weeks) / max(fitted_weeks - 1, 1) - 0.5)
    day_of_year = (dates - dates.astype("datetime64[Y]")).astype(int) + 1
    for k in range(1, model.seasonality + 1):
        angle = 2 * np.pi * k * day_of_year / DAYS_PER_YEAR
        columns += [np.sin(angle), np.cos(angle)]
    return np.column_stack([*columns, controls])
