"""Near copies of media, the KPI of other periods and dummies that sum to a constant are named, whatever their form."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixfleet.data.panel import read_panel
from mixfleet.data.validation.finding import Finding
from mixfleet.data.validation.series import COLLINEAR
from tests.data.test_reshape import DATA, TODAY, wide

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12, deadline=None)


def found(frame: pd.DataFrame, *controls: str, trend: bool = True) -> dict[str, Finding]:
    """By rule, of a table of one unit with these controls."""
    panel = read_panel(frame, replace(DATA, controls=controls), today=TODAY, trend=trend)
    return {finding.rule: finding for finding in panel.findings}


@FEW
@given(seed=SEEDS, factor=st.floats(1e-4, 1e4), offset=st.sampled_from([0.0, 3.0]), noise=st.floats(0.0, 0.12))
def test_a_near_copy_of_a_channel_is_named(seed: int, factor: float, offset: float, noise: float) -> None:
    rng = np.random.default_rng(seed)
    frame = wide("DE")
    tv = frame["tv"] + noise * frame["tv"].std() * rng.normal(size=len(frame))
    frame["search"] = (factor * (offset + tv - min(0.0, tv.min()))).round(6)
    finding = found(frame)["collinear"]
    # What of a split nobody knows is in the intervals of both; of copies nothing is known but the sum.
    copies = abs(np.corrcoef(frame["tv"], frame["search"])[0, 1]) > COLLINEAR
    assert finding.severity == ("warning" if copies else "info")
    assert "tv and search" in finding.message
    assert "join them or vary them apart" in finding.message


@FEW
@given(seed=SEEDS, lag=st.sampled_from([-4, -3, -2, -1, 1, 2, 3, 4]), slope=st.sampled_from([-2.0, 1e-3, 1.0, 70.0]))
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_kpi_of_other_periods_is_named(noise: float, seed: int, lag: int, slope: float) -> None:
    rng = np.random.default_rng(seed)
    frame = wide("DE")
    kpi = frame["kpi"].to_numpy()
    other = np.roll(kpi, lag) + noise * kpi.std() * rng.normal(size=len(kpi))
    finding = found(frame.assign(before=5.0 + slope * other), "before")["kpi_other_period"]
    assert finding.severity == ("error" if lag < 0 and noise == 0 else "warning")
    assert f"the KPI of {abs(lag)} period" in finding.message
    assert ("before" if lag > 0 else "after") in finding.message.split("the KPI of")[1]
    assert "leave it out" in finding.message


@FEW
@given(seed=SEEDS, parts=st.integers(3, 12))
def test_dummies_of_any_partition_are_named(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    frame = wide("DE")
    group = rng.permutation(np.arange(len(frame)) % parts) if seed % 2 else np.arange(len(frame)) * parts // len(frame)
    names = [f"d{i}" for i in range(parts)]
    for place, name in enumerate(names):
        frame[name] = (group == place).astype(int)
    finding = found(frame, *names)["dependent"]
    assert finding.severity == "warning"
    assert "sum to 1 in every row" in finding.message
    assert "leave one of them out" in finding.message
    assert "dependent" not in found(frame, *names[1:])


def test_columns_that_follow_from_others_or_the_trend_are_named() -> None:
    frame = wide("DE")
    rng = np.random.default_rng(1)
    rain, sun = rng.normal(size=(2, len(frame)))
    week = np.arange(len(frame))
    year = (week >= 52).astype(int)
    assert "week is a straight line" in found(frame.assign(week=week), "week")["dependent"].message
    assert "dependent" not in found(frame.assign(week=week), "week", trend=False)
    calendar = frame.assign(year=year, in_year=week - 52 * year)
    assert "in_year follows from year and the trend" in found(calendar, "year", "in_year")["dependent"].message
    media = frame.assign(media=frame["tv"] + 2 * frame["search"])
    assert "media follows from tv and search" in found(media, "media")["dependent"].message
    weather = frame.assign(rain=rain, sun=sun, both=(rain - 3 * sun).round(10))
    assert "both follows from rain and sun" in found(weather, "rain", "sun", "both")["dependent"].message


@FEW
@given(seed=SEEDS)
def test_what_only_grows_or_swings_alike_is_no_copy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = wide("DE")
    week = np.arange(len(frame))
    wave = np.sin(2 * np.pi * week / 52.18)
    frame["kpi"] = 1000 + 20 * week + 300 * wave + rng.normal(size=len(frame))
    frame = frame.assign(economy=100 + 2 * week + 30 * wave + 0.1 * rng.normal(size=len(frame)), season=wave)
    frame["summer"], frame["december"] = (week % 52 > 25) & (week % 52 < 35), week % 52 > 47
    rules = found(frame.astype({"summer": int, "december": int}), "economy", "season", "summer", "december")
    assert not rules.keys() & {"kpi_other_period", "dependent", "collinear"}
