from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mixfleet.analysis.comparison import Comparison
from mixfleet.config import Model
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from tests.support.lift_tests import day, with_tests
from tests.support.saved_run import panel, saved_run

pytest.importorskip("altair")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5))


@pytest.mark.parametrize("name", ["roi", "contributions", "decomposition", "curves", "fit", "lags", "marginal_roi"])
def test_a_chart_of_a_unit_shows_its_frame(run: Run, name: str) -> None:
    figure = getattr(run.plot, name)("acme", "DE")
    assert set(figure.frame.market) == {"DE"}
    assert len(figure.frame)
    assert figure.chart.to_dict()["$schema"]


def test_a_waterfall_steps_from_nothing_to_the_whole_change(run: Run) -> None:
    windows = ("2023-11-06", "2024-03-01"), ("2024-03-04", "2024-08-01")
    figure = run.plot.waterfall(*windows)
    table = run.insight.waterfall(*windows)
    assert figure.frame["mean"].tolist() == table["mean"].tolist()
    assert figure.frame["start"].iloc[0] == pytest.approx(0.0)
    assert figure.frame["end"].iloc[-1] == pytest.approx(table["kpi_change"].iloc[0])
    own = run.plot.waterfall(*windows, by="brand")
    assert own.frame.groupby("brand")["start"].first().abs().max() < 1e-6
    assert "facet" in own.chart.to_dict()


def test_prior_and_posterior_stand_side_by_side(run: Run) -> None:
    numbers = {
        name: [0.1 * i, 2.0] for i, name in enumerate(("prior_mean", "prior_sd", "mean", "sd", "q05", "q50", "q95"))
    }
    labels = {"brand": ["acme"] * 2, "market": ["DE"] * 2, "status": ["ok"] * 2}
    params = pa.table({**labels, "parameter": ["decay", "intercept"], "channel": ["tv", ""], **numbers})
    tables = replace(run.insight, tables=lambda name: params if name == "params" else run.table(name))
    figure = replace(run.plot, insight=tables).movement("acme", "DE")
    shown = figure.frame.set_index("of")[["channel", "mean", "low", "high"]]
    assert shown.loc["prior"].tolist() == ["tv", 0.0, pytest.approx(-0.1), pytest.approx(0.1)]
    assert shown.loc["posterior"].tolist() == ["tv", 0.2, pytest.approx(-0.1), pytest.approx(0.5)]
    assert figure.chart.to_dict()["$schema"]


def test_groups_are_facets(run: Run) -> None:
    figure = run.plot.roi(by="brand")
    assert set(figure.frame.brand) == {"acme", "bolt"}
    assert "facet" in figure.chart.to_dict()


def test_a_forecast_shows_the_coming_weeks(run: Run) -> None:
    figure = run.plot.forecast(by="market", weeks=4)
    assert set(figure.frame.component) == {"expected", "kpi"}
    assert figure.frame.groupby(["market", "component"]).size().nunique() == 1
    assert "facet" in figure.chart.to_dict()
    own = run.plot.forecast("acme", "DE", weeks=4).frame
    assert len(own) == 8
    expected = run.insight.forecast(weeks=4, period="week").query("brand == 'acme' and market == 'DE'")
    assert own["mean"].sum() == expected[expected.component.isin(["expected", "kpi"])]["mean"].sum()


def test_the_budget_is_shown_by_channel(run: Run) -> None:
    figure = run.plot.budget(run.budget(weeks=6))
    assert figure.frame.groupby("plan").spend.sum().round(6).nunique() == 1
    assert set(figure.frame.channel) == {"tv", "search"}
    assert figure.chart.to_dict()["$schema"]


def test_the_frontier_is_shown_where_a_plan_has_one(run: Run) -> None:
    figure = run.plot.frontier(run.budget(weeks=6, frontier=True))
    assert figure.frame.spend.is_monotonic_increasing
    assert len(figure.chart.to_dict()["layer"]) == 3
    with pytest.raises(ConfigError, match="was not asked for"):
        run.plot.frontier(run.budget(weeks=6))


def test_an_unknown_unit_is_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match="nothing to show"):
        run.plot.fit("acme", "IT")
    with pytest.raises(ConfigError, match="2 labels"):
        run.plot.fit("acme")


def test_a_figure_is_saved_as_a_picture(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    figure = run.plot.roi(by=())
    assert figure.save(tmp_path / "roi.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in figure.save(tmp_path / "roi.svg").read_bytes()
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg, is 'roi\.jpg'"):
        figure.save(tmp_path / "roi.jpg")


def test_a_map_has_a_cell_for_each_unit_that_paid(run: Run) -> None:
    whole, own = run.plot.map(), run.plot.map("tv")
    table = run.insight.whole_roi()
    assert whole.frame["mean"].tolist() == table["mean"].tolist()
    assert own.frame["mean"].tolist() == run.insight.roi().query("channel == 'tv'")["mean"].tolist()
    assert set(whole.frame["down"]) == set(table["brand"])
    assert {layer["mark"]["type"] for layer in whole.chart.to_dict()["layer"]} == {"rect", "text"}
    with pytest.raises(ConfigError, match="no unit paid for newsletter"):
        run.plot.map("newsletter")


def test_lift_tests_stand_beside_the_model_with_and_without_them(tmp_path: Path) -> None:
    made = panel()
    about = {"brand": "acme", "market": "DE", "channel": "tv", "test": "spring", "factor": 1.5}
    days = {"start": day(made, 5), "end": day(made, 8, 6)}
    tested = with_tests(made, [{**about, **days, "lift": 90.0, "se": 20.0}], window=5)
    run = saved_run(tmp_path, Model(window=5), of=tested)
    figure, [row] = run.plot.experiments(), run.insight.experiments().to_dict("records")
    shown = figure.frame.set_index("of")
    assert shown.loc["test", ["mean", "low", "high"]].tolist() == pytest.approx(
        [row["estimate"], row["estimate"] - 1.96 * row["sd"], row["estimate"] + 1.96 * row["sd"]]
    )
    assert shown.loc["model without it", "mean"] == row["without_mean"]
    assert shown.loc["model with it", "high"] == row["with_q975"]
    assert figure.save(tmp_path / "tests.svg").read_text().startswith("<svg")


def test_a_comparison_shows_the_returns_that_moved_furthest(run: Run) -> None:
    rows = [
        {"brand": "acme", "market": "DE", "status": "ok", "channel": name, "before": 1.0, "after": 1.0 + move}
        | {"difference": move, "in_sd": move / 0.2, "error": 0.01, "alert": move > 0.1}
        for name, move in (("tv", 0.05), ("search", 0.4), ("none", np.nan))
    ]
    nothing = pa.table({})
    found = Comparison(units=nothing, roi=pa.Table.from_pylist(rows), links=nothing, not_split="", alerts=())
    figure = run.plot.compare(found)
    assert figure.frame["subject"].tolist() == ["acme / DE / search", "acme / DE / tv"]
    assert figure.chart.to_dict()["$schema"]
    with pytest.raises(ConfigError, match="no return is in both runs"):
        run.plot.compare(replace(found, roi=found.roi.slice(2)))


def test_numbers_and_dates_are_the_locales(run: Run, tmp_path: Path) -> None:
    german = replace(run.plot.fit("acme", "DE"), locale="de_DE")
    assert "Februar" in german.save(tmp_path / "fit.svg").read_text()
    shown = german._repr_mimebundle_()
    [specification] = [value for name, value in shown.items() if "vegalite" in name]
    assert specification["config"]["locale"]["number"]["decimal"] == ","
