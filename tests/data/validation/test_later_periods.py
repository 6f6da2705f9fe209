"""A control or channel that first moves after the fitted periods is named before the fit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixfleet.config import Data
from mixfleet.data.panel import read_panel

WEEKS, HELD = 60, 8
DATA = Data(keys=("market",), channels=["tv", "radio"], controls=("rain", "register"))  # pyright: ignore[reportArgumentType]


def table() -> pd.DataFrame:
    random = np.random.default_rng(3)
    late = np.arange(WEEKS) >= WEEKS - HELD
    return pd.DataFrame(
        {
            "market": "north",
            "date": pd.date_range("2022-01-03", periods=WEEKS, freq="7D"),
            "kpi": random.uniform(900, 1100, WEEKS),
            "tv": random.uniform(10, 100, WEEKS),
            "radio": np.where(late, 50.0, 0.0),
            "rain": random.uniform(0, 10, WEEKS),
            "register": np.where(late, 5e5, 0.0),
        }
    )


@pytest.mark.parametrize("holdout", [0, HELD])
def test_columns_that_move_in_held_out_weeks_alone_are_named(holdout: int) -> None:
    panel = read_panel(table(), replace(DATA, holdout=holdout))
    found = {finding.column: finding for finding in panel.findings if finding.rule == "beyond_what_was_seen"}
    assert set(found) == ({"radio", "register"} if holdout else set())
    if holdout:
        assert found["register"].severity == "warning"
        assert "2022-12-26" in found["register"].message or "2023-01-02" in found["register"].message
        assert "nothing was learnt about it" in found["register"].message
        assert panel.units[0].warnings
