"""Terms that move the level: what they are in the fitted weeks, and how they go on behind them."""

import numpy as np
import pytest

from mixfleet.config import Data, Model, Prior
from mixfleet.config.baseline import HSGP, Intercept, Knots, Piecewise, RandomWalk, Term
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.models.baseline.decomposition import decompose

FITTED, AHEAD = 100, 52
DATES = np.datetime64("2021-01-04") + 7 * np.arange(FITTED + AHEAD).astype("timedelta64[D]")


def columns(term: Term, fitted: int = FITTED) -> np.ndarray:
    model = Model(baseline=(Intercept(), term))
    return baseline.design(DATES, np.zeros((len(DATES), 0)), model=model, fitted_weeks=fitted)[:, 1:]


def covariance(term: Term) -> np.ndarray:
    """Of the level over all weeks under a prior of standard deviation one."""
    own = columns(term)
    return own @ own.T


def test_bends_change_the_slope_per_year() -> None:
    bent = columns(Piecewise(at=("2021-07-05",)))[:, 0]
    at = int(np.flatnonzero(DATES == np.datetime64("2021-07-05"))[0])
    np.testing.assert_array_equal(bent[: at + 1], 0.0)
    np.testing.assert_allclose(np.diff(bent[at:]), 7 / 365.25)


def test_hats_add_up_to_one_and_the_last_knot_holds() -> None:
    hats = columns(Knots(every=13, over=104))
    np.testing.assert_allclose(hats.sum(axis=1), 1.0)
    np.testing.assert_array_equal(hats[FITTED - 1 :, -1], 1.0)
    np.testing.assert_allclose(hats[FITTED - 14, -2], 1.0)


def test_a_walk_has_the_variance_of_its_time_and_independent_increments() -> None:
    every = 4
    walked = covariance(RandomWalk(every=every, over=100, ahead=AHEAD))
    last = FITTED - 1
    np.testing.assert_array_equal(walked[last], 0.0)
    for steps in (1, 3, 10):
        years = steps * every * 7 / 365.25
        np.testing.assert_allclose(walked[last - steps * every, last - steps * every], years)
        np.testing.assert_allclose(walked[last + steps * every, last + steps * every], years)
    np.testing.assert_allclose(walked[last - 8, last + 8], 0.0, atol=1e-15)
    np.testing.assert_allclose(walked[last + 8, last + 20], 8 * 7 / 365.25)


def test_steps_to_come_keep_their_prior() -> None:
    """No fitted week touches them, so the posterior's loading leaves them at the prior's standard deviation."""
    model = Model(baseline=(Intercept(), RandomWalk(every=13, over=104, ahead=AHEAD)))
    design = baseline.design(DATES, np.zeros((len(DATES), 0)), model=model, fitted_weeks=FITTED)
    _, sd = baseline.column_priors(model, Data(), Prior(), {})
    _, variance, loading = decompose(design * (np.arange(len(DATES)) < FITTED)[:, None], sd)
    free = loading[:, variance == 0]
    names = baseline.column_names(model, Data())
    ahead = [k for k, name in enumerate(names) if "ahead" in name]
    assert len(ahead) == 4
    np.testing.assert_allclose(np.sqrt(np.sum(free[ahead] ** 2, axis=1)), 0.15)
    np.testing.assert_allclose(loading[ahead][:, variance > 0], 0.0, atol=1e-14)


def test_a_process_has_the_covariance_of_its_kernel_and_reverts() -> None:
    length = 26.0
    found = covariance(HSGP(length=length, basis=24, ahead=AHEAD))
    away = np.arange(len(DATES))[:, None] - np.arange(len(DATES))
    # Within the tolerance that the numbers of functions are chosen for (1 % of the total variance).
    np.testing.assert_allclose(found, np.exp(-0.5 * (away / length) ** 2), atol=0.01)
    assert found[FITTED - 1, -1] < 0.15


def test_a_history_that_is_too_long_is_refused() -> None:
    for term in (Knots(every=13, over=52), RandomWalk(over=52), Piecewise(every=13, over=52)):
        with pytest.raises(ConfigError, match="set over: 99"):
            columns(term)


def test_too_few_functions_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        columns(HSGP(length=26, basis=5))


def test_columns_end_where_the_fit_ends_and_not_the_dates() -> None:
    """Held-out weeks move no column of the fitted ones."""
    for term in (Knots(every=13), RandomWalk(), HSGP(), Piecewise(every=26)):
        model = Model(baseline=(Intercept(), term))
        short = baseline.design(DATES[:FITTED], np.zeros((FITTED, 0)), model=model, fitted_weeks=FITTED)
        np.testing.assert_array_equal(short[:, 1:], columns(term)[:FITTED])
