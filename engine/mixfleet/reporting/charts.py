"""The report's charts as Altair objects, each beside the frame that it shows."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.data.frames import table_html
from mixfleet.errors import ConfigError, counted
from mixfleet.storage import atomic_files

if TYPE_CHECKING:
    import altair as alt

__all__ = ["Figure", "Plots"]

SHOWN_CHARACTERS = 150_000
"""Of the specification of the largest chart that a notebook is given to draw."""


@dataclass(frozen=True)
class Figure:
    """A chart and the frame behind it; notebooks show the chart."""

    chart: "alt.LayerChart | alt.FacetChart | alt.Chart"
    frame: pd.DataFrame

    def __repr__(self) -> str:
        """How much it shows."""
        return f"<mixfleet figure of {counted(len(self.frame), 'row')}; .chart is Altair's, .frame what it shows>"

    def save(self, path: str | Path, *, scale: float = 2.0) -> Path:
        """Write the chart as a picture: PNG or SVG, as the name ends.

        Args:
            path: The file, which is replaced.
            scale: Pixels of a PNG per pixel of the chart.

        Raises:
            ConfigError: Another ending, or vl-convert-python (`mixfleet[plots]`) is missing.
        """
        path = Path(path)
        convert = _vl_convert()
        if convert is None:
            raise ConfigError("needs vl-convert-python: pip install 'mixfleet[plots]'", key="plot.save")
        if path.suffix == ".svg":
            picture = convert.vegalite_to_svg(self._specification()).encode()
        elif path.suffix == ".png":
            picture = convert.vegalite_to_png(self._specification(), scale=scale)
        else:
            raise ConfigError(f"must end in .png or .svg, is {path.name!r}", key="plot.save")
        atomic_files.replace_bytes(path, picture)
        return path

    def _repr_mimebundle_(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The chart's specification, which notebooks draw themselves, without a network.

        One that is large, as of many units, would stay in the notebook's file: a picture is shown instead, or, where
        that is large too or vl-convert-python is missing, what the chart is made of.
        """
        version = _altair().SCHEMA_VERSION.removeprefix("v").split(".")[0]
        specification, said = self._specification(), {"text/plain": repr(self)}
        if len(json.dumps(specification)) <= SHOWN_CHARACTERS:
            return {f"application/vnd.vegalite.v{version}+json": specification, **said}
        convert = _vl_convert()
        picture = base64.b64encode(convert.vegalite_to_png(specification)).decode() if convert is not None else ""
        if 0 < len(picture) <= SHOWN_CHARACTERS:
            return {"image/png": picture, **said}
        sentence = f"{repr(self)[1:-1]}; too large to be drawn here: .save('chart.svg') writes it to a file"
        return {"text/html": table_html(sentence, pa.Table.from_pandas(self.frame)), **said}

    def _specification(self) -> dict[str, Any]:
        with _altair().data_transformers.disable_max_rows():
            return self.chart.to_dict()


@dataclass(frozen=True, kw_only=True)
class Plots:
    """Charts of one run: of one unit by its labels, or of a whole group (`by`, see `Insight`)."""

    insight: Insight
    weekly: pa.Table
    """The run's table of weekly fit."""

    def roi(self, *unit: str, by: Any = ()) -> Figure:
        """ROI by channel with 90 % intervals."""
        frame = self._own(self._arrow.roi(None if unit else by), unit)
        return Figure(_intervals(frame, "channel", "ROI", self._names(frame)), frame)

    def marginal_roi(self, *unit: str, by: Any = ()) -> Figure:
        """ROI by channel beside that of the last money, with 90 % intervals."""
        frame = self._own(self._arrow.returns(None if unit else by), unit)
        frame = frame.query("measure in ('roi', 'marginal_roi')").reset_index(drop=True)
        return Figure(_intervals(frame, "measure", "ROI", ["channel", *self._names(frame)]), frame)

    def movement(self, *unit: str) -> Figure:
        """Prior and posterior of every parameter by channel: mean, and a standard deviation either way.

        Raises:
            ConfigError: No such unit.
        """
        alt = _altair()
        own = self._own(self._arrow.movement(), unit)
        own = own.query("channel != ''")
        columns = [*self.insight.fleet.keys, "parameter", "channel"]
        parts = [
            own[columns].assign(of=of, mean=own[prefix + "mean"], low=low, high=high)
            for of, prefix in (("prior", "prior_"), ("posterior", ""))
            for low, high in [(own[prefix + "mean"] - own[prefix + "sd"], own[prefix + "mean"] + own[prefix + "sd"])]
        ]
        frame = pd.concat(parts, ignore_index=True)
        rows = alt.Chart(frame).encode(
            y=alt.Y("channel:N", sort=None, title=None),
            yOffset=alt.YOffset("of:N", sort=["prior", "posterior"]),
            color=alt.Color("of:N", title=None, sort=["prior", "posterior"]),
        )
        rule = rows.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None), x2="high:Q")
        dot = rows.mark_circle(size=60, opacity=1).encode(x="mean:Q", tooltip=["of", "channel", "mean", "low", "high"])
        chart = alt.layer(rule, dot).properties(width=200)
        faceted = _faceted(chart, ["parameter", *self._names(frame)])
        return Figure(faceted.resolve_scale(x="independent"), frame)

    def lags(self, *unit: str) -> Figure:
        """Share of each channel's effect that comes so many periods after its media, with 90 % intervals.

        Raises:
            ConfigError: No such unit.
        """
        alt = _altair()
        frame = self._own(self._arrow.lags(), unit)
        lines = alt.Chart(frame).encode(x=alt.X("lag:Q", title="periods after the media"), color="channel:N")
        band = lines.mark_area(opacity=0.15).encode(y=alt.Y("q05:Q", title="share of the effect"), y2="q95:Q")
        mean = lines.mark_line(point=True).encode(y="mean:Q", tooltip=["channel", "lag", "mean", "q05", "q95"])
        return Figure(_faceted(alt.layer(band, mean), self._names(frame)), frame)

    def waterfall(self, before: Any, after: Any, *unit: str, by: Any = ()) -> Figure:
        """What changed the KPI between two windows, component by component; see `Insight.waterfall`.

        `start` and `end` are where each step begins and ends.
        """
        alt = _altair()
        frame = self._own(self._arrow.waterfall(before, after, None if unit else by), unit)
        names = self._names(frame)
        steps = frame.groupby(names)["mean"] if names else frame["mean"]
        frame = frame.assign(end=steps.cumsum())
        frame["start"] = frame["end"] - frame["mean"]
        bars = (
            alt.Chart(frame)
            .mark_bar()
            .encode(
                y=alt.Y("component:N", sort=None, title=None),
                x=alt.X("start:Q", title=f"change of the KPI per {frame['per'].iloc[0]}"),
                x2="end:Q",
                color=alt.condition("datum.mean < 0", alt.value("#c8641b"), alt.value("#1f5fa8")),
                tooltip=["component", "mean", "q05", "q95"],
            )
        )
        return Figure(_faceted(bars, names), frame)

    def contributions(self, *unit: str, by: Any = ()) -> Figure:
        """KPI by component with 90 % intervals."""
        frame = self._own(self._arrow.contributions(None if unit else by), unit)
        return Figure(_intervals(frame, "component", "KPI", self._names(frame)), frame)

    def decomposition(self, *unit: str, period: str = "month", by: Any = ()) -> Figure:
        """What the KPI is made of over time."""
        alt = _altair()
        frame = self._own(self._arrow.contributions(None if unit else by, period), unit)
        chart = (
            alt.Chart(frame)
            .mark_bar()
            .encode(
                x=alt.X("period:O", title=None),
                y=alt.Y("mean:Q", title="KPI"),
                color=alt.Color("component:N", sort=list(dict.fromkeys(frame["component"]))),
                tooltip=["period", "weeks", "component", "mean", "q05", "q95"],
            )
        )
        return Figure(_faceted(chart, self._names(frame)), frame)

    def curves(self, *unit: str) -> Figure:
        """Weekly response by channel at steady spend, up to what was seen; the dotted part was not.

        Raises:
            ConfigError: No such unit.
        """
        alt = _altair()
        frame = self._own(self._arrow.curves(), unit)
        lines = alt.Chart(frame).encode(x=alt.X("spend:Q", title="spend a week"))
        band = lines.mark_area(opacity=0.2).encode(y="q05:Q", y2="q95:Q")
        mean = lines.mark_line().encode(y=alt.Y("mean:Q", title="KPI a week"))
        seen = lines.transform_filter("datum.seen").mark_line(strokeWidth=3).encode(y="mean:Q")
        usual = lines.mark_rule(strokeDash=[3, 3]).encode(x="usual:Q")
        chart = alt.layer(band, mean, seen, usual).properties(width=200, height=140)
        faceted = chart.facet(facet=alt.Facet("channel:N", title=None), columns=4)
        return Figure(faceted.resolve_scale(x="independent", y="independent"), frame)

    def fit(self, *unit: str) -> Figure:
        """KPI by week, and the model with the 90 % interval of the KPI.

        Raises:
            ConfigError: No such unit.
        """
        alt = _altair()
        frame = self._own(self.weekly, unit)
        weeks = alt.Chart(frame).encode(x=alt.X("date:T", title=None))
        band = weeks.mark_area(opacity=0.2).encode(y="q05:Q", y2="q95:Q")
        mean = weeks.mark_line().encode(y=alt.Y("mean:Q", title="KPI"))
        dots = weeks.mark_circle(color="black", size=12).encode(y="kpi:Q")
        return Figure(alt.layer(band, mean, dots).properties(width=600), frame)

    def forecast(
        self,
        *unit: str,
        plan: Any = None,
        controls: Any = None,
        weeks: int | None = None,
        by: Any = (),
        period: str = "week",
    ) -> Figure:
        """KPI of the coming weeks with its 90 % interval, and its mean without the noise; see `Insight.forecast`."""
        alt = _altair()
        table = self._arrow.forecast(plan, controls=controls, weeks=weeks, by=None if unit else by, period=period)
        frame = self._own(table, unit)
        frame = frame.query("component in ('expected', 'kpi')").reset_index(drop=True)
        rows = alt.Chart(frame).encode(x=alt.X("period:O", title=None))
        band = rows.transform_filter("datum.component == 'kpi'").mark_area(opacity=0.2)
        line = rows.transform_filter("datum.component == 'expected'").mark_line(point=True)
        layers = (
            band.encode(y=alt.Y("q05:Q", title="KPI"), y2="q95:Q"),
            line.encode(y="mean:Q", tooltip=["period", "mean", "q05", "q95"]),
        )
        return Figure(_faceted(alt.layer(*layers), self._names(frame)), frame)

    def budget(self, plan: Plan) -> Figure:
        """Spend by channel today and in the plan."""
        alt = _altair()
        cells = plan.cells.to_pandas()
        sums = cells[~cells["binding"].isin(KEPT)].groupby("channel", sort=False)
        spends = sums[["spend_today", "spend_plan"]].sum().rename(columns=lambda name: name.removeprefix("spend_"))
        frame = spends.reset_index().melt("channel", var_name="plan", value_name="spend")
        chart = (
            alt.Chart(frame)
            .mark_bar()
            .encode(
                x=alt.X("spend:Q"),
                y=alt.Y("plan:N", title=None, sort=["today", "plan"]),
                color=alt.Color("plan:N", legend=None),
                row=alt.Row("channel:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left")),
                tooltip=["channel", "plan", "spend"],
            )
        )
        return Figure(chart, frame)

    def frontier(self, plan: Plan) -> Figure:
        """Gain of the best plan of every total, with 90 % intervals; the rule is today's total.

        Raises:
            ConfigError: The plan was made without its frontier.
        """
        alt = _altair()
        frame = replace(plan, frame="pandas").frontier()
        lines = alt.Chart(frame).encode(x=alt.X("spend:Q", scale=alt.Scale(zero=False)))
        band = lines.mark_area(opacity=0.2).encode(y="gain_q05:Q", y2="gain_q95:Q")
        tooltip = ["spend", "gain_mean", "gain_q05", "gain_q95", "roi", "marginal_roi"]
        mean = lines.mark_line(point=True).encode(y=alt.Y("gain_mean:Q", title=plan.gain_words), tooltip=tooltip)
        today = lines.transform_filter("datum.today").mark_rule(strokeDash=[3, 3])
        return Figure(alt.layer(band, mean, today), frame)

    @property
    def _arrow(self) -> Insight:
        return replace(self.insight, frame="pyarrow")

    def _own(self, table: pa.Table, unit: tuple[str, ...]) -> pd.DataFrame:
        # Dates as such have no place in a chart's JSON.
        keys, frame = self.insight.fleet.keys, table.to_pandas(date_as_object=False)
        if not unit:
            return frame
        if len(unit) != len(keys):
            raise ConfigError(f"a unit has {len(keys)} labels ({', '.join(keys)}), got {len(unit)}", key="unit")
        for key, label in zip(keys, unit, strict=True):
            frame = frame[frame[key] == label]
        if frame.empty:
            raise ConfigError(f"there is nothing to show of {' / '.join(unit)}", key="unit")
        return frame

    def _names(self, frame: pd.DataFrame) -> list[str]:
        """Columns that tell several subjects of a frame apart."""
        return [key for key in self.insight.fleet.keys if key in frame.columns and len(set(frame[key])) > 1]


def _intervals(frame: pd.DataFrame, column: str, title: str, names: list[str]) -> Any:
    alt = _altair()
    rows = alt.Chart(frame).encode(y=alt.Y(f"{column}:N", sort=None, title=None))
    rule = rows.mark_rule(strokeWidth=2).encode(x=alt.X("q05:Q", title=title), x2="q95:Q")
    dot = rows.mark_circle(size=60, opacity=1).encode(x="mean:Q", tooltip=[column, "mean", "q05", "q95"])
    return _faceted(alt.layer(rule, dot), names)


def _faceted(chart: Any, names: list[str]) -> Any:
    if not names:
        return chart
    label = " + ' / ' + ".join(f"datum[{name!r}]" for name in names)
    return chart.transform_calculate(subject=label).facet(facet="subject:N", columns=4)


def _vl_convert() -> Any:
    """The library that draws pictures; None where it is missing."""
    try:
        import vl_convert
    except ImportError:
        return None
    return vl_convert


def _altair() -> Any:
    try:
        import altair
    except ImportError as error:
        raise ConfigError("charts need altair: pip install 'mixfleet[plots]'", key="plot") from error
    return altair
