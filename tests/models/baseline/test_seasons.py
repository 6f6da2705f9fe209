"""Holidays, events and waves on the days that they fall on."""

import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.config.baseline import Events, Fourier, Holidays, Intercept
from mixfleet.errors import ConfigError
from mixfleet.models import baseline

WEEKS = np.datetime64("2022-12-05") + 7 * np.arange(8).astype("timedelta64[D]")
DAYS = np.datetime64("2022-12-19") + np.arange(28).astype("timedelta64[D]")
GERMAN = Holidays(
    country="{market}",
    before=1,
    after=1,
    dates={"DE": ("2022-12-25", "2022-12-26", "2023-01-01"), "US": ("2022-12-25",)},  # pyright: ignore[reportArgumentType]
    countries={"Germany": "DE"},  # pyright: ignore[reportArgumentType]
)


def columns(term, dates: np.ndarray, **unit: str) -> np.ndarray:
    model = Model(baseline=(Intercept(), term))
    return baseline.design(dates, np.zeros((len(dates), 0)), model=model, fitted_weeks=len(dates), unit=unit)[:, 1:]


def test_a_week_has_the_share_of_its_days() -> None:
    on, before, after = columns(GERMAN, WEEKS, brand="acme", market="DE").T * 7
    # Monday 19 December holds Saturday 24 and Sunday 25; the next week Monday 26 and Sunday 1 January.
    np.testing.assert_allclose(on, [0, 0, 1, 2, 0, 0, 0, 0])
    np.testing.assert_allclose(before, [0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(after, [0, 0, 0, 1, 1, 0, 0, 0])


def test_a_day_is_one_or_not() -> None:
    on, before, after = columns(GERMAN, DAYS, brand="acme", market="Germany").T
    assert [str(day) for day in DAYS[on == 1]] == ["2022-12-25", "2022-12-26", "2023-01-01"]
    assert [str(day) for day in DAYS[before == 1]] == ["2022-12-24", "2022-12-31"]
    assert [str(day) for day in DAYS[after == 1]] == ["2022-12-27", "2023-01-02"]


def test_each_unit_has_its_own_country() -> None:
    assert columns(GERMAN, DAYS, market="US")[:, 0].sum() == 1
    with pytest.raises(ConfigError, match="'FR'"):
        columns(GERMAN, DAYS, market="FR")
    with pytest.raises(ConfigError, match="no key column"):
        columns(GERMAN, DAYS, country="FR")


def test_events_last_from_their_first_day_to_their_last() -> None:
    on = columns(Events(at=("2022-12-21/2022-12-23", "2023-01-15", "2019-01-01")), DAYS)[:, 0]
    assert [str(day) for day in DAYS[on == 1]] == ["2022-12-21", "2022-12-22", "2022-12-23", "2023-01-15"]


def test_a_week_comes_again_after_seven_days() -> None:
    waves = columns(Fourier(period="week", order=3), DAYS)
    np.testing.assert_allclose(waves[7:], waves[:-7], atol=1e-10)
    assert np.linalg.matrix_rank(waves) == 6


def test_a_month_comes_again_whatever_its_length() -> None:
    first = np.array(["2023-01-01", "2023-02-01", "2024-02-01"], "datetime64[D]")
    waves = np.concatenate([columns(Fourier(period="month", order=1), day + np.arange(2))[:1] for day in first])
    np.testing.assert_allclose(waves, [[0, 1]] * 3, atol=1e-12)
