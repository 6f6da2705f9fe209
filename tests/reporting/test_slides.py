"""The slides say what the summary says, and their charts hold the numbers of the tables."""

from pathlib import Path

import pytest

from mixfleet.config import Model
from mixfleet.run import Run
from tests.support.saved_run import saved_run

pptx = pytest.importorskip("pptx")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=5))


def test_slides_hold_the_answer_and_the_numbers(run: Run, tmp_path: Path) -> None:
    slides = list(pptx.Presentation(str(run.slides(tmp_path / "s.pptx"))).slides)
    texts = {slide.shapes.title.text: slide for slide in slides}
    answer = [paragraph.text for paragraph in texts["The answer"].placeholders[1].text_frame.paragraphs]
    assert answer == run.summary(run.budget()).lines()
    charts = [shape.chart for slide in slides for shape in slide.shapes if shape.has_chart]
    roi = run.insight.roi(by=()).set_index("channel")["mean"]
    assert list(charts[0].plots[0].series[0].values)[::-1] == pytest.approx(roi.tolist(), rel=1e-12)
    assert [name.split(" (")[0] for name in charts[0].plots[0].categories][::-1] == roi.index.tolist()
    months = run.insight.contributions(by=(), period="month")
    tv = months[months.component == "tv"]
    found = dict(zip(charts[2].plots[0].categories, charts[2].plots[0].series[0].values, strict=True))
    assert list(found) == tv.period.tolist()
    [table] = [shape.table for shape in texts["Budget plan"].shapes if shape.has_table]
    assert [table.cell(i, 0).text for i in range(3)] == ["channel", "tv", "search"]
