"""`mixfleet init` writes settings that read the table as it was meant, whole or not at all."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mixfleet import config
from mixfleet.cli.hydra_compose import Request, compose_spec, quoted
from mixfleet.cli.main import app
from mixfleet.data.panel import read_panel
from tests.data.test_reshape import TODAY, wide


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(name: str) -> config.Data:
    return compose_spec(Request(overrides=(f"data={name}",), folder=Path())).data


def test_german_excel_export(home):
    frame = wide("DE", "Öster").assign(Preis=9.5, Notiz="")
    frame["Preis"] += frame.index % 7 / 10
    frame["date"] = frame["date"].dt.strftime("%d/%m/%Y")
    frame.columns = ["Marke", "Land", "Woche", "Umsatz (€)", "TV Kosten", "Suche Kosten", "Preis", "Notiz"]
    frame.to_csv("Umsätze (1).csv", sep=";", decimal=",", index=False, encoding="cp1252")
    done = CliRunner().invoke(app, ["init", "Umsätze (1).csv", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["settings"] == "data/umsatze_1.yaml"
    assert answer["next"] == "mixfleet fit --config-dir . data=umsatze_1 run.id=umsatze_1"
    data = settings("umsatze_1")
    assert (data.keys, data.date, data.kpi) == (("Marke", "Land"), "Woche", "Umsatz (€)")
    assert (data.date_format, data.decimal, data.encoding, data.currency) == ("DD/MM/YYYY", "comma", "cp1252", "EUR")
    assert {c.name: c.spend for c in data.channels} == {"tv": "TV Kosten", "suche": "Suche Kosten"}
    assert data.controls == ("Preis",)
    panel = read_panel(None, data, today=TODAY)
    assert [unit.labels for unit in panel.units] == [("Alba", "DE"), ("Alba", "Öster")]
    assert "Not used: Notiz" in (home / "data" / "umsatze_1.yaml").read_text()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_one_series_of_any_kind_with_impressions(home, suffix):
    frame = wide("DE").drop(columns=["brand", "market"])
    frame.columns = ["week", "orders", "tv_spend", "tv_impressions"]
    getattr(frame, {"csv": "to_csv", "parquet": "to_parquet", "xlsx": "to_excel"}[suffix])(
        f"sales.{suffix}", index=False
    )
    assert CliRunner().invoke(app, ["init", f"sales.{suffix}"]).exit_code == 0
    data = settings("sales")
    assert (data.keys, data.kpi, data.kpi_type) == ((), "orders", "count")
    assert [(c.name, c.spend, c.impressions) for c in data.channels] == [("tv", "tv_spend", "tv_impressions")]
    assert len(read_panel(None, data, today=TODAY).units) == 1


def test_a_column_that_settings_cannot_name_is_left_out(home):
    frame = wide("DE").drop(columns=["brand", "market"])
    frame.columns = ["week", "???", "sales", "tv"]
    frame.to_csv("sales.csv", index=False)
    done = CliRunner().invoke(app, ["init", "sales.csv"])
    assert done.exit_code == 0
    assert "not used: ???" in done.output
    assert settings("sales").kpi == "sales"


def test_an_existing_file_stays_unless_forced(home):
    wide().to_csv("sales.csv", index=False)
    (home / "data").mkdir()
    (home / "data" / "sales.yaml").write_text("mine")
    done = CliRunner().invoke(app, ["init", "sales.csv"])
    assert done.exit_code == 2
    assert "--force writes over it" in done.output
    assert (home / "data" / "sales.yaml").read_text() == "mine"
    assert CliRunner().invoke(app, ["init", "sales.csv", "--force"]).exit_code == 0
    assert settings("sales").keys == ("brand", "market")
    assert [path.name for path in (home / "data").iterdir()] == ["sales.yaml"]


@pytest.mark.parametrize("name", ["sales (1).csv", "Umsätze 2026.csv", "a,b.csv", "it's.csv", "x=y.csv", "plain.csv"])
def test_paths_are_taken_as_they_are(home, name):
    for there in (False, True):
        if there:
            (home / name).touch()
        elif "," in name:
            continue
        assert compose_spec(Request(overrides=("data=table", quoted(f"data.path={name}")))).data.path == name


def test_names_beyond_the_file_system_are_refused(home):
    done = CliRunner().invoke(app, ["check", "data=table", f"data.path={'a' * 5000}.csv", "data.channels=[tv]"])
    assert done.exit_code == 3
    assert "no file can be called" in done.output
