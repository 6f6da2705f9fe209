"""What is said of money and years is kept with a run; all that rests on it agrees without being told again."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import mixfleet as mf
from mixfleet.config import Model, Spec
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from tests.support.saved_run import made_up, panel, saved_run

KEPT = {"margin": 0.4, "rates": {"all": 1.0, "market=FR": 0.5}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5))


def test_report_plan_and_export_rest_on_what_is_kept(tmp_path: Path) -> None:
    plain = saved_run(tmp_path, Model(window=5))
    given = {"margin": {"all": 0.4}, "rates": KEPT["rates"]}
    said = plain.report(tmp_path / "said.html", **given).read_text("utf-8")  # pyright: ignore[reportArgumentType]
    expected = plain.budget(maximise="profit", **given).table()  # pyright: ignore[reportArgumentType]
    plain.export(tmp_path / "said", "parquet", **given)  # pyright: ignore[reportArgumentType]
    plain.keep(**KEPT)
    kept = mf.open(tmp_path / "r")
    assert kept.business.margin == {"all": 0.4}
    pd.testing.assert_frame_equal(kept.budget().table(), expected)
    kept.export(tmp_path / "kept", "parquet")
    for file in sorted((tmp_path / "said").glob("*.parquet")):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kept" / file.name), pd.read_parquet(file))
    again = kept.report(tmp_path / "kept.html").read_text("utf-8")
    # The page also says that the rates are kept.
    assert again.replace(",[\"exchange rates\",\"{'all': 1.0, 'market=FR': 0.5}\"]", "") == said
    outcome = kept.budget(maximise="outcome").totals, kept.budget(target_roi=1.0).totals
    assert [totals["maximise"] for totals in outcome] == ["outcome", "outcome"]


def test_years_and_quarters_are_those_of_the_business(run: Run) -> None:
    fiscal = run.keep(fiscal_year_start=4)
    try:
        found = fiscal.insight.media(by=(), period="quarter").set_index("period")["mean"]
        assert found.index.tolist() == ["FY2024-Q3", "FY2024-Q4", "FY2025-Q1", "FY2025-Q2"]
        year = fiscal.insight.media(by=(), period="year").set_index("period")["mean"]
        assert year["FY2024"] == pytest.approx(found[:2].sum())
    finally:
        shutil.rmtree(run.path / "business")
    assert mf.open(run.path).insight.media(by=(), period="year").period.tolist() == ["2023", "2024"]


def test_what_names_no_unit_is_refused_and_nothing_is_kept(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"economics\.margin.*names no unit"):
        run.keep(margin={"all": 0.4, "market=IT": 0.2})
    with pytest.raises(ConfigError, match=r"business\.rates.*says nothing about"):
        run.keep(rates={"market=DE": 1.0})
    with pytest.raises(ConfigError, match=r"business\.margn"):
        run.keep(margn=0.4)
    assert not (run.path / "business").exists()
    # Of a unit without a fit too: what is kept is about the table.
    kept = run.keep(margin={"all": 0.4, "brand=core,market=DE": 0.2})
    assert len(kept.insight.returns(by=()).query("measure == 'profit'"))
    (run.path / "business" / "business.json").write_text("{")
    with pytest.raises(RunError, match=r"business\.json is damaged; remove .*/business and repeat mixfleet business"):
        mf.open(run.path).insight.roi()
    shutil.rmtree(run.path / "business")


def test_settings_of_a_fit_are_kept_and_change_no_fit(tmp_path: Path) -> None:
    made = panel()
    spec = Spec(data=made.data, model=Model(window=5), run=mf.RunConfig(root=str(tmp_path), id="r"))
    money = Spec(**{**vars(spec), "business": mf.Business(margin=0.4)})  # pyright: ignore[reportArgumentType]
    first = execute(made, money, made_up(2, 6))
    assert first.business.margin == {"all": 0.4}
    other = Spec(**{**vars(spec), "business": mf.Business(margin=0.3)})  # pyright: ignore[reportArgumentType]
    again = execute(made, other, made_up(2, 6))
    assert again.business.margin == {"all": 0.3}
    assert again.manifest["result_sha256"] == first.manifest["result_sha256"]
    assert execute(made, spec, made_up(2, 6)).business.margin == {"all": 0.3}
    assert json.loads((tmp_path / "r" / "business" / "business.json").read_text())["margin"] == {"all": 0.3}


def test_a_fit_refuses_money_of_units_that_the_table_does_not_have(tmp_path: Path) -> None:
    table = pd.DataFrame({"date": pd.date_range("2023-01-02", periods=40, freq="W-MON"), "market": "DE"})
    table["kpi"], table["tv"] = range(100, 140), range(1, 41)
    data = {"keys": ["market"], "channels": {"tv": {"spend": "tv"}}}
    with pytest.raises(ConfigError, match=r"business\.margin.*'market=FR' names no unit"):
        mf.fit(table, data=data, business={"margin": {"market=FR": 0.4}}, run={"root": str(tmp_path)})
