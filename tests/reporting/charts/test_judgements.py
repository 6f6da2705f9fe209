"""Charts that judge models."""

from pathlib import Path

import pyarrow as pa
import pytest

from mixfleet.errors import ConfigError
from mixfleet.reporting.charts import backtest, leaderboard

pytest.importorskip("altair")


def test_a_backtest_shows_the_model_beside_a_glance_at_the_past(tmp_path: Path) -> None:
    rows = [
        {"origin": origin, "horizon": horizon, "forecast": name, "units": 3, "r2": 0.5, "wmape": 0.1, "crps": 1.0}
        | {"coverage90": 0.9 if name == "model" else None, "skill": 0.2}
        for origin in ("2024-01-01", "2024-04-01")
        for horizon in ("1-4", "5-13")
        for name in ("model", "last_year", "last_value")
    ]
    figure = backtest(pa.Table.from_pylist(rows))
    assert len(figure.frame) == len(rows)
    assert set(figure.frame["forecast"]) == {"model", "last year", "last value"}
    drawn = figure.save(tmp_path / "backtest.svg").read_text()
    assert all(words in drawn for words in ("weeks 5-13", "2024-04-01", "last year"))


def test_a_leaderboard_shows_each_score_and_its_standard_error() -> None:
    rows = [
        {"point": i, "changes": changes, "score": score, "score_se": error, "near_best": near}
        | {"holdout_crps": 1.0, "holdout_r2": 0.4, "certified": 1.0}
        for i, (changes, score, error, near) in enumerate(
            [("", 0.0, None, True), ("prior.decay.a=3", 0.2, 0.05, False), ("model.link=log", None, None, None)]
        )
    ]
    figure = leaderboard(pa.Table.from_pylist(rows))
    assert figure.frame["named"].tolist() == ["as it is", "prior.decay.a=3"]
    assert figure.frame[["low", "high"]].to_numpy().tolist() == [[0.0, 0.0], pytest.approx([0.15, 0.25])]
    with pytest.raises(ConfigError, match="no point has a score"):
        leaderboard(pa.Table.from_pylist(rows[2:]))
