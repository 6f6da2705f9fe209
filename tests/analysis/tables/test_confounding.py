"""Confounding: the weakest cause that turns a verdict, against regressions with the cause left out and put in."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.confounding import confounding, robustness
from mixfleet.config import Model
from tests.support.saved_run import saved_run


def left(target: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]


def test_a_cause_of_that_correlation_takes_an_effect_to_nothing() -> None:
    rng = np.random.default_rng(0)
    weeks = 60
    known = np.column_stack([np.ones(weeks), rng.normal(size=weeks)])
    media = left(rng.normal(size=weeks), known)
    kpi = 0.8 * media + rng.normal(size=weeks)
    with_media = np.column_stack([known, media])
    effect, rest = np.linalg.lstsq(with_media, kpi, rcond=None)[0][-1], left(kpi, with_media)
    freedom = weeks - 3
    error = np.sqrt(rest @ rest / freedom / (media @ media))
    correlation = robustness(np.array([effect / error]), np.array([freedom]))[0]
    # A cause that goes so much with the media, and with the KPI beside them, and with nothing else.
    own = left(rng.normal(size=weeks), np.column_stack([with_media, rest]))
    beside = correlation * rest / np.linalg.norm(rest) + np.sqrt(1 - correlation**2) * own / np.linalg.norm(own)
    cause = correlation * media / np.linalg.norm(media) + np.sqrt(1 - correlation**2) * beside
    assert np.linalg.lstsq(np.column_stack([with_media, cause]), kpi, rcond=None)[0][2] == pytest.approx(0.0, abs=1e-9)


def test_what_the_data_say_nothing_of_is_turned_by_anything() -> None:
    np.testing.assert_array_equal(robustness(np.array([0.0, 3.0]), np.array([50.0, 0.0])), 0.0)
    found = robustness(np.array([1.0, 2.0, 8.0]), np.full(3, 50.0))
    assert np.all(np.diff(found) > 0)
    assert np.all(found < 1)


def test_a_run_is_told_by_unit_and_paid_channel(tmp_path: Path) -> None:
    fleet: Fleet = saved_run(tmp_path, Model()).fleet()
    unit = fleet.units[0]
    rows = [
        {**dict(zip(fleet.keys, unit.labels, strict=True)), "status": "ok", "channel": "tv", "mean": 3.0, "sd": own}
        for own in (0.5, 2.0)
    ]
    roi = pa.Table.from_pylist([{**row, "prior_sd": 2.0} for row in rows])
    told = confounding(fleet, roi, 1.0).to_pylist()
    assert [row["verdict"] for row in told] == ["above", "above"]
    assert told[0]["correlation"] > 0.3
    assert told[1]["correlation"] == 0.0
    assert confounding(fleet, roi, 4.0).to_pylist()[0]["verdict"] == "below"
