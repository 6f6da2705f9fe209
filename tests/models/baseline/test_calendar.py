"""Calendars: how far apart periods are, and how far from the fit."""

import numpy as np

from mixfleet.models.baseline import Calendar


def test_steps_and_distances() -> None:
    weeks = np.datetime64("2021-01-04") + 7 * np.arange(5).astype("timedelta64[D]")
    calendar = Calendar(weeks, 3)
    assert calendar.step == 7
    assert list(calendar.since_fit) == [-2, -1, 0, 1, 2]
    assert Calendar(weeks[:1], 1).step == 7
    assert calendar.days[0] == (weeks[0] - np.datetime64("1970-01-01")).astype(int)
