from pathlib import Path
from typing import Any

import arviz_base
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import mixfleet
from mixfleet import api as run_module
from mixfleet.api import Run, check, fit
from mixfleet.api import open as open_run
from mixfleet.config import Data, Inference, RunConfig, Spec, preset, to_mapping
from mixfleet.errors import ConfigError, RunError, TableError
from tests.support.stub_engine import engine

DATA = {"channels": ["tv", "search"], "min_weeks": 26}
WEEKS = 52


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "fit_units", engine())


@pytest.fixture(scope="module")
def sales() -> pa.Table:
    """Four units that can be modelled, and one with a missing value."""
    generator = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {name: [] for name in ("brand", "market", "date", "kpi", "tv", "search")}
    for brand, market in [("a", "de"), ("a", "fr"), ("b", "de"), ("b", "fr"), ("c", "de")]:
        columns["brand"] += [brand] * WEEKS
        columns["market"] += [market] * WEEKS
        columns["date"] += (np.datetime64("2024-01-01") + 7 * np.arange(WEEKS)).tolist()
        for name in ("kpi", "tv", "search"):
            columns[name] += generator.gamma(4.0, size=WEEKS).tolist()
    columns["kpi"][-3] = None
    return pa.table(columns)


def place(tmp_path: Path) -> dict[str, Any]:
    return {"data": DATA, "run": {"root": str(tmp_path), "id": "r"}}


FRAMES: dict[str, tuple[Any, type]] = {
    "pandas": (lambda table: table.to_pandas(), pd.DataFrame),
    "polars": (pl.from_arrow, pl.DataFrame),
    "pyarrow": (lambda table: table, pa.Table),
    "duckdb": (lambda table: duckdb.connect().from_arrow(table), pa.Table),
}


class TestFit:
    @pytest.mark.parametrize("library", FRAMES)
    def test_answers_in_the_callers_frames(self, tmp_path: Path, sales: pa.Table, library: str) -> None:
        convert, kind = FRAMES[library]
        run = fit(convert(sales), **place(tmp_path))
        tables = [run.status, run.roi(), run.contributions(), run.curves(), run.params()]
        tables += [run.fit_quality(), run.weekly(), run.findings()]
        assert all(isinstance(table, kind) for table in tables)
        assert len(run.status) == 5

    def test_reads_a_path_given_or_configured(self, tmp_path: Path, sales: pa.Table) -> None:
        path = tmp_path / "sales.csv"
        pyarrow.csv.write_csv(sales, path)
        given = fit(path, data=DATA, run={"root": str(tmp_path), "id": "given"})
        configured = fit(data={**DATA, "path": str(path)}, run={"root": str(tmp_path), "id": "configured"})
        in_memory = fit(sales, data=DATA, run={"root": str(tmp_path), "id": "memory"})
        assert isinstance(given.status, pd.DataFrame)
        runs = (given, configured, in_memory)
        assert len({run.manifest["fingerprint"]["data"] for run in runs}) == 1
        # Only the rejected unit differs: its reason names a line here and a row there.
        assert len({tuple(run.table("status")["digest"].to_pylist()[:4]) for run in runs}) == 1

    def test_every_unit_has_one_status_and_the_rejected_say_why(self, tmp_path: Path, sales: pa.Table) -> None:
        run = fit(sales, **place(tmp_path))
        rows = {(row["brand"], row["market"]): row for row in run.status.to_pylist()}
        assert len(rows) == 5
        assert rows["c", "de"]["status"] == "rejected"
        assert "kpi" in rows["c", "de"]["reason"]
        assert any(row["unit"] == ["c", "de"] for row in run.findings().to_pylist())

    def test_groups_are_objects_mappings_or_presets(self, tmp_path: Path, sales: pa.Table) -> None:
        spec = Spec(data=Data(channels=DATA["channels"]), inference=Inference(seed=3))
        run = fit(
            sales,
            spec,
            prior="tight",
            inference={"chains": 4},
            run=RunConfig(root=str(tmp_path), id="r"),
        )
        config = run.manifest["config"]
        assert (config["inference"]["seed"], config["inference"]["chains"]) == (3, 4)
        assert run.manifest["seed"] == 3
        assert config["prior"] == to_mapping(preset("prior", "tight"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"inference": {"chain": 4}}, "inference.chain: unknown setting"),
            ({"prior": "wide"}, "prior: no preset 'wide'"),
            ({"model": 3}, "model: must be a Model, a mapping or a preset"),
            ({}, "data.path: name a file"),
        ],
    )
    def test_wrong_settings_name_their_key(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            fit(**arguments)

    def test_passes_the_engines_events_on(self, tmp_path: Path, sales: pa.Table) -> None:
        events: list[Any] = []
        fit(sales, **place(tmp_path), on_event=events.append)
        assert [event["left"] for event in events] == [4, 3, 2, 1]

    def test_simulates_when_asked_and_keeps_the_truth(self, tmp_path: Path) -> None:
        size = {"brands": 2, "markets": 2, "weeks": 60, "channels": 2, "controls": 1}
        data = {"source": "simulated", "simulated": size}
        run = fit(data=data, run={"root": str(tmp_path), "id": "r"})
        assert len(run.status) == 4
        assert pq.read_table(run.path / "truth.parquet").num_rows == 8


class TestRun:
    @pytest.fixture
    def run(self, tmp_path: Path, sales: pa.Table) -> Run:
        return fit(sales, **place(tmp_path))

    def test_says_what_became_of_its_units(self, run: Run) -> None:
        assert repr(run).startswith(f"<mixfleet run {run.path}: 5 units, ")
        assert "1 rejected" in repr(run)
        ok = [row for row in run.status.to_pylist() if row["status"].startswith("ok")]
        assert run.ok_share == len(ok) / 5

    def test_opens_again(self, run: Run) -> None:
        again = open_run(run.path, frame="polars")
        assert isinstance(again.roi(), pl.DataFrame)
        assert again.manifest == run.manifest
        assert isinstance(open_run(run.path.parent).roi(), pd.DataFrame)

    def test_units_are_arviz_objects(self, run: Run) -> None:
        rows = [row for row in run.status.to_pylist() if row["status"] not in ("rejected", "failed")]
        assert rows
        for row in rows:
            tree = run.unit(row["brand"], row["market"]).to_datatree()
            assert list(tree.children) == ["posterior", "sample_stats", "observed_data"]
            assert tree.attrs["status"] == tree["posterior"].attrs["status"] == row["status"]
            assert tree.attrs["reason"] == row["reason"]
            assert tree["posterior"]["effect"].dims == ("chain", "draw", "channel")
            assert tree["posterior"]["effect"]["channel"].to_numpy().tolist() == ["tv", "search"]
            assert tree["sample_stats"]["lp"].dims == ("chain", "draw")
            samples = arviz_base.extract(tree, var_names="effect")
            assert samples.sizes["sample"] == tree["posterior"].sizes["chain"] * tree["posterior"].sizes["draw"]

    def test_a_unit_without_fit_says_so(self, run: Run) -> None:
        tree = run.unit("c", "de").to_datatree()
        assert not tree.children
        assert tree.attrs["status"] == "rejected"
        assert tree.attrs["reason"]

    def test_unknown_units_are_named(self, run: Run) -> None:
        with pytest.raises(RunError, match=r"no unit \('a', 'us'\); it has e.g. a/de"):
            run.unit("a", "us")
        with pytest.raises(RunError, match=r"takes 2 labels \(brand, market\), got 1"):
            run.unit("a")

    def test_open_names_what_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="is no run folder"):
            open_run(tmp_path / "nothing")


class TestCheck:
    def test_reports_findings_without_a_run(
        self, tmp_path: Path, sales: pa.Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        found = check(pl.from_arrow(sales), Data(channels=DATA["channels"]))
        assert isinstance(found, pl.DataFrame)
        assert found.columns == ["rule", "severity", "unit", "column", "message"]
        assert "error" in found["severity"].to_list()
        assert not list(tmp_path.iterdir())

    def test_an_unreadable_table_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(TableError):
            check(tmp_path / "absent.csv", Data(channels=DATA["channels"]))


def test_public_calls_are_not_hidden_by_modules_of_their_name() -> None:
    # Importing a submodule binds its name in the package, so `mixfleet.fit` must not become a module.
    for name in ("fit", "open", "check"):
        assert getattr(mixfleet, name) is getattr(run_module, name)
