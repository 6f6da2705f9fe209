"""A new user's way from German Excel to a plan and a report in four commands; and what no command gives away."""

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from mixfleet import api
from mixfleet.budgeting.plan import Plan
from mixfleet.cli.main import app
from tests.data.test_reshape import wide
from tests.support.saved_run import made_up

SECRET = "canary-9c2b7e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), result.output
    return result


def german(path: Path) -> None:
    """As Excel in German writes it: a title, capital column names, DD/MM/YYYY, decimal commas, a total."""
    frame = wide("DE", "AT").assign(PREIS=9.5)
    frame["PREIS"] += frame.index % 7 / 10
    # Sales that media and price explain, or no model of them could be used.
    frame["kpi"] += 2.0 * frame["tv"] + 1.5 * frame["search"] - 20 * frame["PREIS"]
    frame["date"] = frame["date"].dt.strftime("%d/%m/%Y")
    frame.columns = ["MARKE", "LAND", "DATUM", "UMSATZ", "TV", "SUCHE", "PREIS"]
    sums = {name: frame[name].sum() for name in ("UMSATZ", "TV", "SUCHE")}
    whole = pd.concat([frame, pd.DataFrame([{"MARKE": "Summe", **sums}])])
    if path.suffix == ".csv":
        text = whole.to_csv(index=False, sep=";", decimal=",")
        path.write_text("Umsatz je Woche;;;;;;\n;;;;;;\n" + text, encoding="cp1252")
    else:
        with pd.ExcelWriter(path, engine="openpyxl") as book:
            whole.to_excel(book, index=False, startrow=2)
            book.sheets["Sheet1"]["A1"] = "Umsatz je Woche"


def travel(path: Path) -> None:
    german(path)
    answer = json.loads(call("init", path.name, "--json").stdout.splitlines()[-1])
    fitted = json.loads(call(*shlex.split(answer["next"])[1:], "--json").stdout.splitlines()[-1])
    assert fitted["units"] == 2
    run = Path(fitted["run"])
    call("budget", run)
    call("report", run)
    call("forecast", run, "--plan", run / "budget" / "plan_by_week.csv")
    table = wide("DE", "AT")
    plan = Plan.read(run / "budget").table()
    for market in ("DE", "AT"):
        own = plan[plan.LAND == market].set_index("channel").spend_today
        last = table[table.market == market].tail(13)
        assert own.to_dict() == pytest.approx({"tv": last.tv.sum(), "suche": last.search.sum()})
    assert "UMSATZ" in (run / "report.html").read_text("utf-8")


@pytest.mark.parametrize("name", ["Umsaetze.csv", "Umsaetze.xlsx"])
def test_four_commands_from_german_excel(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(api, "fit_units", made_up(2, 6))
    travel(home / name)


@pytest.mark.nightly
def test_four_commands_through_the_sampler(home: Path, usual_broadcasts: None) -> None:
    travel(home / "Umsaetze.csv")


def test_a_secret_of_the_environment_is_in_no_file_and_no_message(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for name in ("MIXFLEET_TOKEN", "AWS_SECRET_ACCESS_KEY", "MIXSECRET"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setattr(api, "fit_units", made_up(2, 6))
    wide().to_csv("sales.csv", index=False)
    table = ("data=table", "data.path=sales.csv", "data.channels=[tv,search]")
    said = [call("check", *table), call("fit", *table, "run.id=june"), call("budget", "runs/june", "--frontier")]
    said.append(call("forecast", "runs/june", "--plan", "runs/june/budget/plan_by_week.csv"))
    said += [call("export", "runs/june", "--format", kind) for kind in ("csv", "parquet", "xlsx")]
    said += [call("report", "runs/june"), call("doctor"), call("fit", "-m", *table, "prior=weak,tight", "run.id=sweep")]
    said.append(CliRunner().invoke(app, ["fit", *table, "data.currency=${oc.env:MIXSECRET}"]))
    assert said[-1].exit_code == 2
    out, err = capfd.readouterr()
    assert not any(SECRET in text for text in (out, err, *(result.output for result in said)))
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
