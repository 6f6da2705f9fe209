"""What notebooks show: little, and with markup of nobody else."""

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mixfleet.config import Model
from mixfleet.data.frames import table_html
from mixfleet.errors import ConfigError, RunError
from mixfleet.reporting.charts import Figure
from mixfleet.run import Run
from tests.support.saved_run import panel, saved_run

MOST = 200_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plain = panel()
    named = tuple(
        replace(unit, labels=("<b>acme", unit.labels[1])) if unit.labels[0] == "acme" else unit for unit in plain.units
    )
    made = replace(plain, units=tuple(sorted(named, key=lambda unit: unit.labels)))
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5), of=made)


def test_objects_show_themselves_briefly(run: Run) -> None:
    pytest.importorskip("altair")
    unit = run.unit("bolt", "DE")
    for shown in (run, run.budget(), run.summary(), run.insight, unit, run.compare(run)):
        markup = shown._repr_html_()
        assert len(markup) <= MOST
        assert "<b>acme" not in markup
        assert "http" not in markup, "it would need a network"
        assert len(repr(shown)) < 1000, shown
    assert repr(unit) == "<mixfleet unit bolt / DE: ok_retried (it was ok_retried)>"
    assert repr(run.compare(run)).startswith("<mixfleet comparison of 6 units (6 same): 0 alerts")


def test_figures_are_drawn_by_the_notebook(run: Run) -> None:
    pytest.importorskip("altair")
    plots, plan = run.plot, run.budget(frontier=True)
    figures = [plots.roi(by=()), plots.contributions(by=()), plots.decomposition(by=()), plots.curves("bolt", "DE")]
    figures += [plots.fit("bolt", "DE"), plots.forecast(plan=plan.by_week()), plots.budget(plan), plots.frontier(plan)]
    for figure in figures:
        bundle = figure._repr_mimebundle_()
        [kind] = [kind for kind in bundle if kind.startswith("application/vnd.vegalite")]
        assert bundle[kind]["datasets"]
        assert len(json.dumps(bundle)) <= MOST, "and JSON it is"
        assert len(repr(figure)) < 1000


def test_a_large_figure_is_a_picture_or_its_first_rows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    small = run.plot.fit("bolt", "DE")
    frame = pd.concat([small.frame] * 200)
    large = Figure(small.chart.properties(data=frame), frame)
    bundle = large._repr_mimebundle_()
    assert 1000 < len(bundle["image/png"]) <= MOST
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    bundle = large._repr_mimebundle_()
    assert "save" in bundle["text/html"]
    assert len(json.dumps(bundle)) <= MOST


def test_tables_are_shown_in_part_and_without_their_markup() -> None:
    table = pa.table({"name": ["<script>" + "x" * 10_000] * 300, "value": [1.0 / 3] * 300})
    markup = table_html("three & more", table)
    assert len(markup) <= MOST
    assert "<script>" not in markup
    assert "three &amp; more" in markup
    assert "0.3333" in markup
    assert "and 280 more rows" in markup


def test_what_is_misspelt_is_guessed(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"budget\.chnage: unknown option; did you mean change\?"):
        run.budget(chnage=0.2)  # pyright: ignore[reportCallIssue]
    with pytest.raises(RunError, match=r"did you mean bolt/DE\?"):
        run.unit("Bolt", "DE")


def test_a_fit_in_a_notebook_keeps_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mixfleet.fitting.progress import Progress, notebook_listener

    assert notebook_listener() is None
    lines: list[str] = []

    class Handle:
        def update(self, line: dict[str, str], raw: bool) -> None:
            lines.append(line["text/plain"])

    def display(line: dict[str, str], raw: bool, display_id: bool) -> Handle:
        lines.append(line["text/plain"])
        return Handle()

    fake = types.ModuleType("IPython.display")
    monkeypatch.setattr(fake, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    listen = notebook_listener()
    assert listen is not None
    for done, left in ((1, 3.0), (2, None)):
        listen(Progress(done=done, ok=done, total=2, active=1, phase="sampling", elapsed=3.0, left=left))
    assert lines == [
        "sampling: 1/2 units, 1 ok, 0 not ok, 1 active, 3 s, about 3 s left",
        "sampling: 2/2 units, 2 ok, 0 not ok, 1 active, 3 s",
    ]
