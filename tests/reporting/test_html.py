"""The report of made-up runs: complete, self-contained, and deaf to markup in names."""

import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mixfleet.analysis.comparison import Comparison
from mixfleet.config import LOCALES, Model
from mixfleet.data.panel import Panel
from mixfleet.data.validation.finding import Finding, about_unit
from mixfleet.errors import ConfigError, RunError
from mixfleet.reporting.fleet_view import since
from mixfleet.reporting.numbers import Wording
from mixfleet.run import Run
from mixfleet.storage.table_files import write_tables
from tests.support.browser import CHROMIUM
from tests.support.saved_run import panel, saved_run

NASTY = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;\u2028'


class Page(html.parser.HTMLParser):
    """Elements of a page and the JSON pieces in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: dict[str, str] = {}
        self._piece: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._piece = dict(attrs).get("id") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._piece:
            self.pieces[self._piece] = self.pieces.get(self._piece, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._piece = None


def with_nasty_names() -> Panel:
    plain = panel()
    units = tuple(
        replace(unit, labels=(NASTY, unit.labels[1])) if unit.labels[0] == "acme" else unit for unit in plain.units
    )
    return replace(plain, units=tuple(sorted(units, key=lambda unit: unit.labels)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), of=with_nasty_names(), draws=20)


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run.report().read_text("utf-8"))


def test_the_file_needs_nothing_from_outside(page: Page) -> None:
    outside = {"src", "href", "action", "data", "srcset", "poster"}
    for tag, attributes in page.tags:
        links = {value for name, value in attributes.items() if name in outside}
        assert links <= {"data:,"}, (tag, attributes)
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_names_with_markup_stay_text(page: Page) -> None:
    assert [tag for tag, _ in page.tags].count("script") == len(page.pieces) + 1
    assert "img" not in {tag for tag, _ in page.tags}
    labels = {tuple(row["unit"]) for row in json.loads(page.pieces["fleet"])["status"]}
    assert (NASTY, "DE") in labels


def test_the_script_makes_no_markup_of_texts() -> None:
    folder = Path(__file__).parents[2] / "engine/mixfleet/reporting/page"
    script = "".join(path.read_text() for path in folder.glob("*.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp|import\(", script
    )


def test_every_unit_is_there_with_its_status(page: Page, run: Run) -> None:
    fleet = json.loads(page.pieces["fleet"])
    status = run.status
    assert [row["status"] for row in fleet["status"]] == status.status.tolist()
    assert len(page.pieces) == 1 + len(status)
    for place, row in enumerate(fleet["status"]):
        unit = json.loads(page.pieces[f"unit-{place}"])
        assert bool(unit["channels"]) == (row["status"] != "rejected")
    assert fleet["total"]["units"] == sum(row["ok"] for row in fleet["status"])
    assert fleet["total"]["excluded"] == len(status) - fleet["total"]["units"]
    problems = [one for one in fleet["remarks"] if one["severity"] == "problem"]
    assert len(problems) == fleet["total"]["excluded"]
    assert fleet["remarks"][: len(problems)] == problems


def test_no_word_of_the_engine_is_shown() -> None:
    folder = Path(__file__).parents[2] / "engine/mixfleet/reporting/page"
    script = "".join(path.read_text() for path in folder.glob("*.js"))
    shown = " ".join(re.findall(r'"([^"\n]*)"', script))
    assert not re.search(r"certified|quarantined|ok_\w+|R-hat", shown)
    assert "row.status" not in script


def test_the_first_screen_says_what_the_summary_says(page: Page, run: Run) -> None:
    fleet, said = json.loads(page.pieces["fleet"]), run.summary(run.budget())
    assert fleet["sentences"] == [[one.topic, one.text] for one in said.sentences]
    assert fleet["health"] == {
        "verdict": said.health.verdict,
        "counts": said.health.counts,
        "reasons": said.health.reasons,
    }
    assert [row["verdict"] for row in fleet["status"]] == list(said.health.units.values())
    assert (fleet["period"], fleet["break_even"]) == ([said.first, said.last], 1.0)
    assert {kind for kind, *_ in fleet["kinds"]} == {one["kind"] for one in fleet["remarks"]}


def test_fleet_views_are_those_of_the_tables(page: Page, run: Run) -> None:
    fleet, insight = json.loads(page.pieces["fleet"]), run.insight
    returns = insight.roi(by=()).set_index("channel")
    value = returns["mean"] * returns["spend"]
    for name, spent, brought, roi, _ in fleet["shares"]:
        assert spent == pytest.approx(returns.spend[name] / returns.spend.sum(), rel=1e-3)
        assert brought == pytest.approx(value[name] / value.sum(), rel=1e-3)
        assert roi[0] == pytest.approx(returns["mean"][name], rel=1e-3)
    change = fleet["waterfall"]
    rows = insight.waterfall(tuple(change["before"]), tuple(change["after"]), by=()).set_index("component")
    assert [step[0] for step in change["steps"]] == rows.index.tolist()
    assert sum(step[1] for step in change["steps"]) == pytest.approx(rows.kpi_change.iloc[0], rel=1e-2)
    months = insight.contributions(by=(), period="month").query("component == 'tv'")
    whole = [
        mean * weeks for mean, weeks in zip(fleet["over_time"]["mean"]["tv"], fleet["over_time"]["weeks"], strict=True)
    ]
    assert whole == pytest.approx(months["mean"].tolist(), rel=1e-3)
    plan = run.budget()
    moved = {tuple(unit): after - before for unit, before, after, _ in fleet["moves"]["units"]}
    cells = plan.table().query("binding != 'not certified'").groupby(["brand", "market"])
    expected = (cells.spend_plan.sum() - cells.spend_today.sum()).to_dict()
    assert moved == pytest.approx(expected, rel=1e-2, abs=0.01)


def test_the_saved_plan_is_shown(run: Run, tmp_path: Path) -> None:
    plan = run.budget(weeks=6, change=0.1)
    plan.save(run.path / "budget")
    try:
        fleet = json.loads(Page(run.report(tmp_path / "r.html").read_text("utf-8")).pieces["fleet"])
    finally:
        shutil.rmtree(run.path / "budget")
    assert fleet["plan"]["weeks"] == 6
    assert fleet["plan"]["gain"]["mean"] == pytest.approx(plan.totals["gain"]["mean"], rel=1e-3)


def planned(run: Run, path: Path, **economics: object) -> dict:
    return json.loads(Page(run.report(path, **economics).read_text("utf-8")).pieces["fleet"])["plan"]


def test_a_margin_reaches_the_plan_that_is_shown(run: Run, tmp_path: Path) -> None:
    shown = planned(run, tmp_path / "r.html", margin=0.4)
    expected = run.budget(maximise="profit", margin=0.4)
    assert shown["maximise"] == "profit"
    assert shown["gain"]["mean"] == pytest.approx(expected.totals["gain"]["mean"], rel=1e-3)
    assert shown["notes"] == []
    assert planned(run, tmp_path / "r.html")["maximise"] == "outcome"


def test_rates_reach_the_plan_of_report_and_export(run: Run, tmp_path: Path) -> None:
    rates = {"all": 1.0, "market=FR": 0.5}
    expected = run.budget(rates=rates)
    shown = planned(run, tmp_path / "r.html", rates=rates)
    assert shown["spend_plan"] == pytest.approx(expected.totals["spend_plan"], rel=1e-3)
    assert any("money is converted" in note for note in shown["notes"])
    run.export(tmp_path / "tables", "parquet", rates=rates)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables" / "plan.parquet"), expected.table())
    weekly = pd.read_parquet(tmp_path / "tables" / "plan_by_week.parquet")
    assert weekly.spend.sum() == pytest.approx(expected.by_week().spend.sum())
    with pytest.raises(ConfigError, match=r"budget\.rates"):
        run.export(tmp_path / "tables", "parquet", rates={"all": -1.0})


@pytest.mark.parametrize(
    ("asked", "given", "note"),
    [
        ({}, {"margin": 0.4}, "the plan was made without the margin that the profit of this page rests on: repeat"),
        ({"maximise": "profit", "margin": 0.3}, {"margin": 0.4}, r"such as 0\.3 for .*, where this page has 0\.4: re"),
        ({"maximise": "profit", "margin": 0.3}, {}, r"of profit by margins .* does not know, such as 0\.3 for"),
        ({"rates": {"all": 1.0, "market=FR": 0.5}}, {}, r"money is converted, by 0\.5 for .* / FR and so on"),
        ({}, {"rates": {"all": 2.0}}, "made without the rates that were given for this page: repeat mixfleet budget"),
        ({}, {"rates": {"all": 1.0}}, None),
        ({"maximise": "profit", "margin": 0.4}, {"margin": 0.4}, None),
    ],
)
def test_a_saved_plan_of_other_money_says_so(
    run: Run, tmp_path: Path, asked: dict, given: dict, note: str | None
) -> None:
    run.budget(weeks=6, **asked).save(run.path / "budget")
    try:
        notes = planned(run, tmp_path / "r.html", **given)["notes"]
    finally:
        shutil.rmtree(run.path / "budget")
    if note is None:
        assert notes == []
    else:
        assert len(notes) == 1
        assert re.search(note, notes[0])


def test_the_saved_forecast_is_shown_and_exported(run: Run, tmp_path: Path) -> None:
    table = replace(run.insight, frame="pyarrow").forecast(weeks=3, by="market", period="week")
    write_tables({"forecast": table}, run.path / "forecast", "parquet", name="forecast")
    try:
        fleet = json.loads(Page(run.report(tmp_path / "r.html").read_text("utf-8")).pieces["fleet"])
        exported = {path.name for path in run.export(tmp_path / "tables", "parquet")}
        (run.path / "forecast" / "forecast.parquet").write_bytes(b"no table")
        with pytest.raises(RunError, match="repeat mixfleet forecast"):
            run.report(tmp_path / "r.html")
    finally:
        shutil.rmtree(run.path / "forecast")
    shown = {one["name"]: one for one in fleet["forecast"]["subjects"]}
    assert shown.keys() == {"DE", "FR"}
    rows = table.to_pandas().query("market == 'DE'")
    kpi = rows[rows.component == "kpi"]
    assert shown["DE"]["period"] == kpi.period.tolist()
    assert shown["DE"]["kpi"][0] == pytest.approx(kpi[["mean", "q05", "q95"]].iloc[0].tolist(), rel=1e-3)
    components = rows.groupby("component")["mean"].sum()
    assert shown["DE"]["components"]["tv"] == pytest.approx(components["tv"], rel=1e-3)
    assert not {"kpi", "expected"} & shown["DE"]["components"].keys()
    assert "forecast.parquet" in exported
    past = shown["DE"]["before"]
    weeks = run.weekly().query("market == 'DE'")
    last = weeks[weeks.status.str.startswith("ok")].groupby("date").kpi.sum().sort_index()
    assert past["period"][-1] == str(last.index[-1])[:10]
    assert past["kpi"][-1] == pytest.approx(last.iloc[-1], rel=1e-3)


def test_without_a_saved_forecast_there_is_none(page: Page) -> None:
    assert json.loads(page.pieces["fleet"])["forecast"] is None


def test_each_unit_says_what_the_checks_of_its_model_said(page: Page, run: Run) -> None:
    fleet = json.loads(page.pieces["fleet"])
    checks = run.insight.checks()
    doubts = checks[checks.verdict == "doubt"]
    for place, row in enumerate(fleet["status"]):
        unit = json.loads(page.pieces[f"unit-{place}"])
        own = (checks.brand == row["unit"][0]) & (checks.market == row["unit"][1])
        assert unit["checks"] == checks[own & (checks.verdict == "doubt")].statement.tolist()
        assert unit["checked"] == own.sum()
        assert unit["borrowed"] == []
    assert len(doubts)
    said = [one["text"] for one in fleet["remarks"] if one["severity"] == "doubt"]
    assert sum(text in set(doubts.statement) for text in said) == len(doubts)


def test_findings_go_to_their_unit(tmp_path: Path) -> None:
    plain = panel()
    found = about_unit("kpi_outlier", ("acme", "DE"), "an outlier", severity="warning")
    checked = replace(plain, findings=(found, Finding(rule="date_clock", severity="info", message="the clock")))
    page = Page(saved_run(tmp_path, Model(window=5), of=checked).report().read_text("utf-8"))
    fleet = json.loads(page.pieces["fleet"])
    assert [row[0] for row in fleet["findings"]] == ["warning", "info"]
    place = next(i for i, row in enumerate(fleet["status"]) if row["unit"] == ["acme", "DE"])
    assert json.loads(page.pieces[f"unit-{place}"])["findings"] == [["warning", found.message]]
    assert json.loads(page.pieces[f"unit-{1 - place}"])["findings"] == []


def test_the_frontier_and_experiments_are_shown_if_saved(run: Run, tmp_path: Path) -> None:
    run.budget(weeks=6, change=0.1, frontier=True, experiment_error=0.2).save(run.path / "budget")
    try:
        path = run.report(tmp_path / "r.html")
    finally:
        shutil.rmtree(run.path / "budget")
    plan = json.loads(Page(path.read_text("utf-8")).pieces["fleet"])["plan"]
    assert len(plan["frontier"]) == 13
    assert plan["experiments"][0]["experiment_value"] >= plan["experiments"][-1]["experiment_value"]
    if CHROMIUM is not None:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
        assert "CONSOLE" not in done.stderr, done.stderr
        assert "What to measure next" in done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_draws_it_without_complaint(run: Run, tmp_path: Path) -> None:
    path = run.report(tmp_path / "report.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    drawn = Page(done.stdout)
    assert [tag for tag, _ in drawn.tags].count("svg") > 5
    assert "img" not in {tag for tag, _ in drawn.tags}


def test_what_changed_since_an_earlier_run_is_shown(tmp_path: Path) -> None:
    before = saved_run(tmp_path / "before", Model(window=5))
    made = panel()
    heavier = tuple(replace(unit, spend=2.0 * unit.spend) for unit in made.units)
    after = saved_run(tmp_path / "after", Model(window=5), of=replace(made, units=heavier))
    page = Page(after.report(tmp_path / "r.html", since=before.path).read_text("utf-8"))
    shown = json.loads(page.pieces["fleet"])["since"]
    found = after.compare(before)
    assert sum(shown["units"].values()) == found.units.num_rows
    assert shown["alerts"] == list(found.alerts[:12])
    same = Page(after.report(tmp_path / "same.html").read_text("utf-8"))
    assert json.loads(same.pieces["fleet"])["since"] is None


def test_returns_that_moved_furthest_come_first() -> None:
    moves = [("DE", "tv", 1.0, 1.5, 0.4), ("DE", "search", 2.0, 2.0, 0.0), ("FR", "tv", 1.0, 0.2, -2.0)]
    names = ("market", "channel", "before", "after", "in_sd")
    rows = [dict(zip(names, row, strict=True)) | {"difference": row[3] - row[2]} for row in moves]
    changes = Comparison(
        units=pa.table({"change": ["fitted", "fitted", "came"]}),
        roi=pa.Table.from_pylist(rows),
        links=pa.table({}),
        not_split="",
        alerts=tuple(f"unit {i}" for i in range(20)),
    )
    found = since(changes, ("market",), Wording(locale=LOCALES["en"]))
    assert found["moved"] == [[["FR"], "tv", 1.0, 0.2, -2.0], [["DE"], "tv", 1.0, 1.5, 0.4]]
    assert (len(found["alerts"]), found["more"], found["units"]) == (12, 8, {"fitted": 2, "came": 1})


def test_numbers_of_the_fleet_are_rounded_once(page: Page, run: Run) -> None:
    """The page's script rounds them as sentences are rounded; numbers cut before would differ in the last digit."""
    fleet, whole = json.loads(page.pieces["fleet"]), run.insight.whole_roi(by=())
    assert fleet["total"]["roi"] == pytest.approx(whole.loc[0, ["mean", "q05", "q95"]].tolist(), rel=1e-13)
    assert fleet["plan"]["gain"]["mean"] == pytest.approx(run.budget().totals["gain"]["mean"], rel=1e-13)


def test_what_other_priors_would_say_is_what_the_table_says(page: Page, run: Run) -> None:
    insight, shown = run.insight, json.loads(page.pieces["fleet"])["priors"]
    keys, table = ["brand", "market", "channel"], run.insight.sensitivity()
    roi = insight.roi()
    roi = roi[roi["status"].isin(insight.fleet.summed)].sort_values("spend", ascending=False, kind="stable")
    assert [[*row[0], row[1]] for row in shown] == roi[keys].head(12).to_numpy().tolist()
    assert [row[2] for row in shown] == pytest.approx(roi["spend"].head(12).tolist())
    for unit, channel, _, alternative, shift, ratio in shown:
        own = table[table["reliable"] & (table[keys] == [*unit, channel]).all(axis=1)]
        if alternative is None:
            assert own.empty
            continue
        furthest = own.iloc[own["shift"].abs().argmax()]
        assert alternative == furthest["alternative"]
        assert (shift, ratio) == pytest.approx((furthest["shift"], furthest["ratio"]), rel=1e-9)
