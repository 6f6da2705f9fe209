"""Baseline: the columns say what their names say, week by week."""

import numpy as np
import pytest

from mixfleet.config import Data, Model, Override, Prior
from mixfleet.config.schema import FrozenMapping
from mixfleet.models import baseline

DATES = np.datetime64("2019-12-30") + 7 * np.arange(120).astype("timedelta64[D]")
DATA = Data(controls=("price", "rain"), treatments=("promo",))
NAMES = ("intercept", "trend", "sin_1", "cos_1", "sin_2", "cos_2", "price", "rain", "promo")


def design(model: Model, fitted_weeks: int = 120) -> dict[str, np.ndarray]:
    controls = np.arange(360.0).reshape(120, 3)
    columns = baseline.design(DATES, controls, model=model, fitted_weeks=fitted_weeks)
    return dict(zip(baseline.column_names(model, DATA), columns.T, strict=True))


def test_names_are_in_the_order_of_the_columns():
    assert baseline.column_names(Model(), DATA) == NAMES
    columns = design(Model())
    np.testing.assert_array_equal(columns["rain"], 1 + 3 * np.arange(120))
    np.testing.assert_array_equal(columns["intercept"], 1.0)


@pytest.mark.parametrize(("trend", "seasonality"), [("none", 0), ("linear", 0), ("none", 3)])
def test_terms_can_be_left_out(trend, seasonality):
    model = Model(trend=trend, seasonality=seasonality)
    columns = design(model)
    assert ("trend" in columns) == (trend == "linear")
    assert sum(name.startswith(("sin_", "cos_")) for name in columns) == 2 * seasonality
    mean, sd = baseline.column_priors(model, DATA, Prior(), {})
    assert len(mean) == len(sd) == len(columns)


def test_trend_runs_over_the_fitted_weeks_and_on_at_the_same_slope():
    trend = design(Model(), fitted_weeks=101)["trend"]
    np.testing.assert_allclose(trend[[0, 50, 100]], [-0.5, 0.0, 0.5])
    np.testing.assert_allclose(np.diff(trend), 0.01)


def test_seasons_follow_the_day_of_the_year():
    day = np.array([(date - date.astype("datetime64[Y]")).astype(int) + 1 for date in DATES])
    assert list(day[:2]) == [364, 6]
    columns = design(Model())
    for k in (1, 2):
        np.testing.assert_allclose(columns[f"sin_{k}"], np.sin(2 * np.pi * k * day / 365.25), atol=1e-14)
        np.testing.assert_allclose(columns[f"cos_{k}"], np.cos(2 * np.pi * k * day / 365.25), atol=1e-14)


def test_every_column_has_the_prior_of_its_kind():
    prior = Prior(
        overrides=(
            Override(
                parameter="trend", unit=FrozenMapping({"brand": "acme"}), hyperparameters=FrozenMapping({"sd": 0.7})
            ),
            Override(parameter="control", hyperparameters=FrozenMapping({"mean": 0.02})),
            Override(parameter="treatment", hyperparameters=FrozenMapping({"sd": 0.3})),
        )
    )
    mean, sd = baseline.column_priors(Model(), DATA, prior, {"brand": "acme", "market": "DE"})
    assert dict(zip(NAMES, mean, strict=True)) == dict.fromkeys(NAMES, 0.0) | {
        "intercept": 0.5,
        "price": 0.02,
        "rain": 0.02,
    }
    assert list(sd) == [0.5, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3]
