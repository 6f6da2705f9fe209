"""Inputs on which models went wrong, fitted: what is right for each is in the interval, or its doubt says why not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import mixfleet
from mixfleet.run import Run
from tests.support.shared_data import shared_case

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("usual_broadcasts")]

CONFIGS = Path(__file__).parents[2] / "configs"
THREE = {"channels": ["tv", "search", "social"], "controls": ["price"]}

Fit = Callable[..., Run]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Fits a case; `preset` is one of the models that ship with the package."""

    def fitted(name: str, data: dict[str, Any], *, preset: str | None = None, model: Any = None, run: str = "") -> Run:
        if preset is not None:
            model = yaml.safe_load((CONFIGS / "model" / f"{preset}.yaml").read_text())
        groups = {} if model is None else {"model": model}
        return mixfleet.fit(
            str(shared_case(name) / "input.csv"), data=data, run={"root": str(tmp_path / run)}, **groups
        )

    return fitted


def reason(run: Run, market: str) -> str:
    [found] = run.status.set_index("market").loc[[market], "reason"]
    return str(found)


def covered(roi: pd.DataFrame, truth: dict[str, float]) -> list[str]:
    """Channels whose 90 % interval holds the truth."""
    rows = roi.set_index("channel")
    return [name for name, value in truth.items() if rows.at[name, "q05"] <= value <= rows.at[name, "q95"]]


def test_growth_of_baseline_and_media_is_doubted_under_a_line(fit: Fit) -> None:
    run = fit("exponential_growth", THREE)
    assert run.status.set_index("market").loc["growth", "status"] == "ok_warn"
    assert "hardly fades (correlation 0.99" in reason(run, "growth")
    assert "use model=moving" in reason(run, "growth")
    assert run.status.set_index("market").loc["plain", "status"] == "ok"


@pytest.mark.nightly
def test_a_moving_level_takes_the_growth(fit: Fit) -> None:
    run = fit("exponential_growth", THREE, preset="moving")
    roi = run.roi().query("market == 'growth'")
    assert len(covered(roi, {"tv": 1.507, "search": 1.052, "social": 1.332})) == 3
    assert reason(run, "growth") == ""


@pytest.mark.nightly
def test_of_a_tiny_channel_nothing_is_said_to_be_known(fit: Fit) -> None:
    run = fit("tiny_channel", THREE)
    roi = run.roi().query("market == 'tiny'").set_index("channel")
    # As wide as the prior, and no number of the thousands.
    assert roi.at["social", "q95"] < 20
    assert roi.at["social", "q95"] / roi.at["social", "q05"] > 10
    moved = run.insight.movement().query("market == 'tiny' and parameter == 'roi'").set_index("channel")
    assert "the prior speaks" in moved.at["social", "verdict"]
    assert moved.at["tv", "verdict"] == "the data decided"


@pytest.mark.nightly
def test_days_of_the_week_are_missed_and_taken(fit: Fit) -> None:
    data = {**THREE, "frequency": "daily"}
    # Of logistic curves, which give media so much more, the baseline is below zero too.
    logistic = {"saturation": "logistic", "observation": "normal"}
    for run, (curves, status) in {"logistic": (logistic, "misfit"), "default": ({}, "ok_warn")}.items():
        model = {"seasonality": 0, **curves}
        doubted = fit("daily_weekday_pattern", data, model=model, run=run)
        assert doubted.status.set_index("market").loc["DE", "status"] == status
        assert "repeats" in reason(doubted, "DE")
        assert "every 7 days: add days of the week (model=daily)" in reason(doubted, "DE")
    taken = fit("daily_weekday_pattern", data, preset="daily").roi().set_index(["market", "channel"])
    assert taken.at[("DE", "tv"), "mean"] < 0.5
    assert taken.at[("DE", "tv"), "q05"] < 0.1
    truth = pd.read_csv(shared_case("daily_weekday_pattern") / "truth.csv").query("roi > 0")
    held = [taken.at[(m, c), "q05"] < roi < taken.at[(m, c), "q95"] for m, c, roi in truth.itertuples(index=False)]
    assert all(held)


@pytest.mark.nightly
def test_twenty_channels_are_said_to_rest_on_the_prior(fit: Fit) -> None:
    run = fit("twenty_channels", {"channels": [f"c{place:02d}" for place in range(20)]})
    shares = run.contributions().query("component == 'baseline'")
    roi = run.roi()
    assert "most of the result is the prior" in reason(run, "DE")
    kpi = float(shares["mean"].iloc[0] / shares["share"].iloc[0])
    assert float((roi["prior_mean"] * roi["spend"]).sum()) < 0.5 * kpi


@pytest.mark.nightly
def test_a_control_that_moves_later_widens_forecasts_and_is_named(fit: Fit) -> None:
    run = fit("control_moves_after_the_fit", {"channels": ["tv", "search"], "controls": ["register"], "holdout": 13})
    assert "column register in the periods from 2025-09-29 on" in reason(run, "north")
    assert "nothing was learnt about it" in reason(run, "north")
    later = run.table("weekly").to_pandas().query("market == 'north'").tail(13)
    assert np.all(np.abs(later["mean"] - later["kpi"]) < 100)
    assert np.all((later["q05"] > -1000) & (later["q95"] < 4000))
    # Its prior has mean zero, so that the forecast is that of the model which knows nothing of it.
    without = fit("control_moves_after_the_fit", {"channels": ["tv", "search"], "holdout": 13}, run="without")
    known = without.table("weekly").to_pandas().query("market == 'north'").tail(13)
    assert np.all(np.abs(later["mean"].to_numpy() - known["mean"].to_numpy()) < 5)
    assert run.insight.fit().set_index("market").at["south", "holdout_r2"] > 0.8
