"""The fleet's pages as PowerPoint slides, with charts that can be edited there."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.errors import ConfigError, counted
from mixfleet.reporting import fleet_view
from mixfleet.reporting.answers import planned_spend
from mixfleet.reporting.highlights import KINDS
from mixfleet.reporting.numbers import Wording, amount, percent, span
from mixfleet.reporting.summary import Summary

if TYPE_CHECKING:
    from pptx.presentation import Presentation

__all__ = ["compose_slides"]

TITLE, TITLE_AND_BODY, TITLE_ONLY = 0, 1, 5
"""Layouts of the usual template."""

PLACE = (0.5, 1.5, 9.0, 5.4)
"""Left, top, width and height of what a slide holds, in inches."""

ROWS = 12
"""Rows of a table that fit on a slide."""


def compose_slides(insight: Insight, said: Summary, plan: Plan | None) -> bytes:
    """The slides: the answer, returns, shares, the KPI over time, the plan, and what needs attention.

    Args:
        insight: Of the run; its frame must be pyarrow.
        said: Its summary.
        plan: The budget plan to show, if any.

    Raises:
        ConfigError: python-pptx is missing.
    """
    try:
        from pptx import Presentation
    except ImportError as error:
        raise ConfigError("needs python-pptx: pip install 'mixfleet[slides]'", key="slides") from error
    deck, say = Presentation(), Wording.of(insight.fleet)
    about = f"{said.subjects}\nData from {said.first} to {said.last}, fitted on {said.made}"
    _texts(deck, TITLE, "Media mix report", [about])
    _texts(deck, TITLE_AND_BODY, "The answer", said.lines())
    returns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in insight.returns(by=()).to_pylist():
        returns[row["measure"]].append(row)
    if shares := fleet_view.channel_shares(returns):
        names = [f"{row[0]} ({say(span(*row[3][1:]))})" for row in shares]
        title = f"{said.terms.ratio} by channel, with {say('90 %')} intervals"
        _bars(deck, title, names, {"all money": [row[3][0] for row in shares], "last money": [r[4][0] for r in shares]})
        heads = {"share of spend": [row[1] for row in shares], "share of what media returned": [r[2] for r in shares]}
        _bars(deck, "Share of spend against share of what media returned", [row[0] for row in shares], heads, "0%")
    if over_time := fleet_view.over_time(insight, fleet_view.monthly(insight)):
        title = f"What the {said.terms.kpi} of an average {said.step} is made of, by month"
        parts = {name: list(map(float, values)) for name, values in over_time["mean"].items()}
        _bars(deck, title, over_time["month"], parts, stacked=True)
    if plan is not None:
        _table(deck, "Budget plan", ("channel", "today", "plan", "change", plan.gain_words), _planned(plan, say))
    doubts = [
        f"{say(counted(group.units, 'unit'))}: {KINDS[group.kind].title}. What to do: {KINDS[group.kind].step}."
        for group in said.health.groups
    ]
    _texts(deck, TITLE_AND_BODY, "What needs attention", [text.replace("`", "") for text in doubts] or ["Nothing."])
    file = io.BytesIO()
    deck.save(file)
    return file.getvalue()


def _texts(deck: "Presentation", layout: int, title: str, lines: Sequence[str]) -> None:
    """A slide of a title and paragraphs."""
    from pptx.util import Pt

    slide: Any = deck.slides.add_slide(deck.slide_layouts[layout])
    slide.shapes.title.text = title
    frame = slide.placeholders[1].text_frame
    frame.text = lines[0]
    for line in lines[1:]:
        frame.add_paragraph().text = line
    for paragraph in frame.paragraphs:
        paragraph.font.size = Pt(18 if len(lines) <= 6 else 13)


def _bars(
    deck: "Presentation",
    title: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    form: str = "#,##0.0#",
    *,
    stacked: bool = False,
) -> None:
    """A slide with a bar chart; stacked columns over time."""
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE, XL_LEGEND_POSITION
    from pptx.util import Inches, Pt

    slide: Any = deck.slides.add_slide(deck.slide_layouts[TITLE_ONLY])
    slide.shapes.title.text = title
    data = CategoryChartData(number_format=form)
    # Bars stand from the bottom up.
    data.categories = names if stacked else names[::-1]
    for name, values in series.items():
        data.add_series(name, values if stacked else values[::-1])
    kind = XL_CHART_TYPE.COLUMN_STACKED if stacked else XL_CHART_TYPE.BAR_CLUSTERED
    left, top, width, height = map(Inches, PLACE)
    chart = slide.shapes.add_chart(kind, left, top, width, height, data).chart
    chart.has_legend, chart.font.size = True, Pt(11)
    chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.BOTTOM, False
    if not stacked:
        chart.plots[0].has_data_labels = True
        chart.plots[0].data_labels.number_format, chart.plots[0].data_labels.number_format_is_linked = form, False


def _planned(plan: Plan, say: Wording) -> list[tuple[str, ...]]:
    gains: dict[str, float] = defaultdict(float)
    for row in plan.cells.select(["channel", "binding", "gain_mean"]).to_pylist():
        if row["binding"] not in KEPT:
            gains[row["channel"]] += row["gain_mean"]
    return [
        (name, *say.each(_cells(today, after, gains[name]))) for name, (today, after) in planned_spend(plan).items()
    ]


def _cells(today: float, after: float, gain: float) -> tuple[str, ...]:
    return amount(today), amount(after), percent(after / today - 1) if today else "new", amount(gain)


def _table(deck: "Presentation", title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Slides of one table, as many as its rows need."""
    from pptx.util import Inches, Pt

    for start in range(0, len(rows), ROWS):
        own = [heads, *rows[start : start + ROWS]]
        slide: Any = deck.slides.add_slide(deck.slide_layouts[TITLE_ONLY])
        slide.shapes.title.text = title
        left, top, width, _ = map(Inches, PLACE)
        table = slide.shapes.add_table(len(own), len(heads), left, top, width, Inches(0.36 * len(own))).table
        for i, row in enumerate(own):
            for j, text in enumerate(row):
                cell = table.cell(i, j)
                cell.text = text
                cell.text_frame.paragraphs[0].font.size = Pt(14)
