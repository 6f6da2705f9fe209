"""Dates are read as what the whole column can only be, and asked for where it could be two things."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixfleet import config
from mixfleet.data.formats.date_format import strptime_format
from mixfleet.data.panel import read_panel
from mixfleet.errors import ConfigError, TableError
from tests.data.test_reshape import DATA, TODAY, wide


def dated(form: str, dates: pd.Series | None = None) -> pd.DataFrame:
    frame = wide("DE")
    return frame.assign(date=(frame["date"] if dates is None else dates).dt.strftime(form))


def test_an_ambiguous_column_is_refused_with_the_setting():
    monthly = pd.Series(pd.date_range("2021-01-01", periods=60, freq="MS"))
    with pytest.raises(TableError, match=r"01/01/2021', which may be DD/MM/YYYY or MM/DD/YYYY: set data\.date_format"):
        read_panel(dated("%d/%m/%Y", monthly), DATA, today=TODAY)
    named = replace(DATA, date_format="DD/MM/YYYY")
    assert "monthly" in read_panel(dated("%d/%m/%Y", monthly), named, today=TODAY).rejected[0].reason


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y 00:00", "%d.%m.%Y 00:00:00"])
def test_the_setting_is_followed(form):
    unit = read_panel(dated(form), replace(DATA, date_format=form.split()[0]), today=TODAY).units[0]
    assert unit.dates[0] == np.datetime64("2024-01-01")


def test_one_slip_does_not_turn_the_column():
    frame = dated("%d/%m/%Y")
    frame.loc[4, "date"] = "31/02/2024"
    [rejected] = read_panel(frame, DATA, today=TODAY).rejected
    assert "1 date unreadable" in rejected.reason
    assert "'31/02/2024'" in rejected.reason


def test_words_for_formats():
    assert strptime_format("DD.MM.YYYY") == "%d.%m.%Y"
    assert strptime_format("yyyy/mm/dd") == "%Y/%m/%d"
    assert strptime_format("%d %b %Y") == "%d %b %Y"
    with pytest.raises(ConfigError, match=r"data\.date_format: .*such as DD\.MM\.YYYY"):
        config.Data(date_format="week")


REMEDIES = {
    "monthly": (pd.date_range("2018-01-01", periods=60, freq="MS"), "weekly", "monthly"),
    "month ends": (pd.date_range("2018-01-31", periods=60, freq="ME"), "weekly", "monthly"),
    "four-weekly": (pd.date_range("2018-01-01", periods=60, freq="28D"), "weekly", "every 4 weeks"),
    "business days": (pd.bdate_range("2025-01-06", periods=60), "daily", "business days"),
    "business days taken for weeks": (pd.bdate_range("2025-01-06", periods=60), "weekly", "add up to weeks"),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_other_calendars_get_their_own_remedy_and_no_other_fault(name):
    dates, frequency, words = REMEDIES[name]
    data = config.build(config.Data, {"channels": ["tv", "search"], "frequency": frequency})
    panel = read_panel(wide("DE").assign(date=dates), data, today=TODAY)
    [error] = [f for f in panel.findings if f.severity == "error"]
    assert words in error.message
    assert "same weekday" not in error.message
