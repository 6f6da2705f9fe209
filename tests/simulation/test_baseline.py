"""The simulator's columns, day by day from formulas of their own, are those that a fit has."""

import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.config.baseline import Fourier, Intercept, Term
from mixfleet.models import baseline
from mixfleet.simulation.baseline import column_kinds, column_names, term_columns
from tests.support.terms import EVERY_TERM, TERMS

NONE = np.zeros((104, 0))
WEEKS = np.datetime64("2021-01-04") + 7 * np.arange(104).astype("timedelta64[D]")
DAYS = np.datetime64("2021-11-03") + np.arange(104).astype("timedelta64[D]")


@pytest.mark.parametrize("dates", [WEEKS, DAYS], ids=["weekly", "daily"])
@pytest.mark.parametrize("term", TERMS.values(), ids=list(TERMS))
def test_both_writings_of_a_term_agree(term: Term, dates: np.ndarray) -> None:
    model = Model(baseline=(Intercept(), *(() if isinstance(term, Intercept) else (term,))))
    theirs = baseline.design(dates, NONE, model=model, fitted_weeks=104)
    ours = term_columns(dates, model)
    assert ours.shape == (104, len(column_names(model))) == (104, len(column_kinds(model)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert np.any(ours)


def test_days_of_the_week() -> None:
    model = Model(baseline=(Intercept(), Fourier(period="week", order=3)))
    ours = term_columns(DAYS, model)
    np.testing.assert_allclose(ours, baseline.design(DAYS, NONE, model=model, fitted_weeks=104), atol=1e-11)
    # Any pattern of seven days is among them.
    assert np.linalg.matrix_rank(ours) == 7


def test_names_are_the_models() -> None:
    assert len(set(column_names(EVERY_TERM))) == len(column_names(EVERY_TERM))
