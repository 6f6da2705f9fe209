"""The report's charts of one run as Altair objects, each beside the frame that it shows."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import KEPT, Plan
from mixfleet.errors import ConfigError
from mixfleet.reporting.charts.figure import Figure, faceted, intervals, the_altair

if TYPE_CHECKING:
    # Starts the models, which other charts do without.
    from mixfleet.analysis.comparison import Comparison

__all__ = ["Plots"]

MOVED = 30
"""Returns of a comparison that are drawn, those that moved furthest."""

LABELLED = 400
"""Cells of a map up to which each is written out too."""


@dataclass(frozen=True, kw_only=True)
class Plots:
    """Charts of one run: of one unit by its labels, or of a whole group (`by`, see `Insight`)."""

    insight: Insight
    weekly: pa.Table
    """The run's table of weekly fit."""

    def roi(self, *unit: str, by: Any = ()) -> Figure:
        """ROI by channel with 90 % intervals."""
        frame = self._own(self._arrow.roi(None if unit else by), unit)
        return self._figure(intervals(frame, "channel", "ROI", self._names(frame)), frame)

    def marginal_roi(self, *unit: str, by: Any = ()) -> Figure:
        """ROI by channel beside that of the last money, with 90 % intervals."""
        frame = self._own(self._arrow.returns(None if unit else by), unit)
        frame = frame.query("measure in ('roi', 'marginal_roi')").reset_index(drop=True)
        return self._figure(intervals(frame, "measure", "ROI", ["channel", *self._names(frame)]), frame)

    def movement(self, *unit: str) -> Figure:
        """Prior and posterior of every parameter by channel: mean, and a standard deviation either way.

        Raises:
            ConfigError: No such unit.
        """
        alt = the_altair()
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
        found = faceted(chart, ["parameter", *self._names(frame)])
        return self._figure(found.resolve_scale(x="independent"), frame)

    def lags(self, *unit: str) -> Figure:
        """Share of each channel's effect that comes so many periods after its media, with 90 % intervals.

        Raises:
            ConfigError: No such unit.
        """
        alt = the_altair()
        frame = self._own(self._arrow.lags(), unit)
        lines = alt.Chart(frame).encode(x=alt.X("lag:Q", title="periods after the media"), color="channel:N")
        band = lines.mark_area(opacity=0.15).encode(y=alt.Y("q05:Q", title="share of the effect"), y2="q95:Q")
        mean = lines.mark_line(point=True).encode(y="mean:Q", tooltip=["channel", "lag", "mean", "q05", "q95"])
        return self._figure(faceted(alt.layer(band, mean), self._names(frame)), frame)

    def waterfall(self, before: Any, after: Any, *unit: str, by: Any = ()) -> Figure:
        """What changed the KPI between two windows, component by component; see `Insight.waterfall`.

        `start` and `end` are where each step begins and ends.
        """
        alt = the_altair()
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
        return self._figure(faceted(bars, names), frame)

    def contributions(self, *unit: str, by: Any = ()) -> Figure:
        """KPI by component with 90 % intervals."""
        frame = self._own(self._arrow.contributions(None if unit else by), unit)
        return self._figure(intervals(frame, "component", "KPI", self._names(frame)), frame)

    def decomposition(self, *unit: str, period: str = "month", by: Any = ()) -> Figure:
        """What the KPI is made of over time."""
        alt = the_altair()
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
        return self._figure(faceted(chart, self._names(frame)), frame)

    def curves(self, *unit: str) -> Figure:
        """Weekly response by channel at steady spend, up to what was seen; the dotted part was not.

        Raises:
            ConfigError: No such unit.
        """
        alt = the_altair()
        frame = self._own(self._arrow.curves(), unit)
        lines = alt.Chart(frame).encode(x=alt.X("spend:Q", title="spend a week"))
        band = lines.mark_area(opacity=0.2).encode(y="q05:Q", y2="q95:Q")
        mean = lines.mark_line().encode(y=alt.Y("mean:Q", title="KPI a week"))
        seen = lines.transform_filter("datum.seen").mark_line(strokeWidth=3).encode(y="mean:Q")
        usual = lines.mark_rule(strokeDash=[3, 3]).encode(x="usual:Q")
        chart = alt.layer(band, mean, seen, usual).properties(width=200, height=140)
        found = chart.facet(facet=alt.Facet("channel:N", title=None), columns=4)
        return self._figure(found.resolve_scale(x="independent", y="independent"), frame)

    def fit(self, *unit: str) -> Figure:
        """KPI by week, and the model with the 90 % interval of the KPI.

        Raises:
            ConfigError: No such unit.
        """
        alt = the_altair()
        frame = self._own(self.weekly, unit)
        weeks = alt.Chart(frame).encode(x=alt.X("date:T", title=None))
        band = weeks.mark_area(opacity=0.2).encode(y="q05:Q", y2="q95:Q")
        mean = weeks.mark_line().encode(y=alt.Y("mean:Q", title="KPI"))
        dots = weeks.mark_circle(color="black", size=12).encode(y="kpi:Q")
        return self._figure(alt.layer(band, mean, dots).properties(width=600), frame)

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
        alt = the_altair()
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
        return self._figure(faceted(alt.layer(*layers), self._names(frame)), frame)

    def budget(self, plan: Plan) -> Figure:
        """Spend by channel today and in the plan."""
        alt = the_altair()
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
        return self._figure(chart, frame)

    def frontier(self, plan: Plan) -> Figure:
        """Gain of the best plan of every total, with 90 % intervals; the rule is today's total.

        Raises:
            ConfigError: The plan was made without its frontier.
        """
        alt = the_altair()
        frame = replace(plan, frame="pandas").frontier()
        lines = alt.Chart(frame).encode(x=alt.X("spend:Q", scale=alt.Scale(zero=False)))
        band = lines.mark_area(opacity=0.2).encode(y="gain_q05:Q", y2="gain_q95:Q")
        tooltip = ["spend", "gain_mean", "gain_q05", "gain_q95", "roi", "marginal_roi"]
        mean = lines.mark_line(point=True).encode(y=alt.Y("gain_mean:Q", title=plan.gain_words), tooltip=tooltip)
        today = lines.transform_filter("datum.today").mark_rule(strokeDash=[3, 3])
        return self._figure(alt.layer(band, mean, today), frame)

    def map(self, channel: str | None = None) -> Figure:
        """ROI of every unit as a map: the last key across, the others down.

        Args:
            channel: Its ROI; by default that of all paid media together.

        Raises:
            ConfigError: No unit paid for the channel.
        """
        alt, keys = the_altair(), list(self.insight.fleet.keys)
        frame = self._own(self._arrow.whole_roi() if channel is None else self._arrow.roi(), ())
        if channel is not None:
            frame = frame.query("channel == @channel").reset_index(drop=True)
        if frame.empty:
            raise ConfigError(f"no unit paid for {channel or 'media'}", key="channel")
        labels = frame[keys[:-1]].to_numpy().tolist()
        frame["down"] = [" / ".join(row) or "all" for row in labels]
        frame = frame.reindex(columns=[*keys, "status", "down", "mean", "q05", "q95", "spend"])
        # Colours between the 5 % and 95 % of the units, so that one outlier does not make the rest look alike.
        ends = np.nanquantile(frame["mean"], [0.05, 0.95]).tolist()
        colours = alt.Scale(scheme="blues", domain=ends, clamp=True)
        cells = alt.Chart(frame).encode(
            x=alt.X(f"{keys[-1]}:N", title=keys[-1], axis=alt.Axis(orient="top", labelAngle=-45)),
            y=alt.Y("down:N", title=" / ".join(keys[:-1]) or None),
        )
        rect = cells.mark_rect(stroke="white").encode(
            color=alt.Color("mean:Q", title="ROI", scale=colours),
            opacity=alt.condition("slice(datum.status, 0, 2) == 'ok'", alt.value(1.0), alt.value(0.35)),
            tooltip=[*keys, "status", "mean", "q05", "q95", "spend"],
        )
        dark = alt.condition(f"datum.mean > {sum(ends) / 2}", alt.value("white"), alt.value("#1c2430"))
        digits = ",.0f" if ends[1] >= 100 else ".1f" if ends[1] >= 10 else ".2f"
        words = cells.mark_text(fontSize=10).encode(text=alt.Text("mean:Q", format=digits), color=dark)
        chart = alt.layer(rect, words) if len(frame) <= LABELLED else rect
        return self._figure(chart.properties(width=alt.Step(44), height=alt.Step(22)), frame)

    def experiments(self, *unit: str) -> Figure:
        """Each lift test beside the model's lift of the same media, with the test in the fit and without it (95 %).

        Raises:
            ConfigError: The run was fitted without tests, or there is no such unit.
        """
        alt, keys = the_altair(), self.insight.fleet.keys
        own = self._own(self._arrow.experiments(), unit)
        subject = own[[*keys, "test", "channel", "measure"]].agg(" / ".join, axis=1)
        parts = [
            pd.DataFrame({"subject": subject, "of": "test", "mean": own["estimate"]}).assign(
                low=own["estimate"] - 1.96 * own["sd"], high=own["estimate"] + 1.96 * own["sd"]
            )
        ]
        for of, name in (("model without it", "without"), ("model with it", "with")):
            columns = {"mean": own[f"{name}_mean"], "low": own[f"{name}_q025"], "high": own[f"{name}_q975"]}
            parts.append(pd.DataFrame({"subject": subject, "of": of, **columns}))
        frame = pd.concat(parts, ignore_index=True)
        order = ["test", "model without it", "model with it"]
        rows = alt.Chart(frame).encode(
            y=alt.Y("of:N", sort=order, title=None), color=alt.Color("of:N", sort=order, legend=None)
        )
        rule = rows.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=None), x2="high:Q")
        dot = rows.mark_circle(size=70, opacity=1).encode(x="mean:Q", tooltip=["subject", "of", "mean", "low", "high"])
        chart = alt.layer(rule, dot).properties(width=280, height=70)
        found = chart.facet(facet=alt.Facet("subject:N", title=None), columns=2)
        return self._figure(found.resolve_scale(x="independent"), frame)

    def compare(self, comparison: "Comparison") -> Figure:
        """Returns of two runs, from the earlier to the later, of the channels that moved furthest; see `Run.compare`.

        Raises:
            ConfigError: No return is in both runs.
        """
        alt, keys = the_altair(), self.insight.fleet.keys
        frame = comparison.roi.to_pandas()
        frame = frame[np.isfinite(frame["in_sd"])]
        if frame.empty:
            raise ConfigError("no return is in both runs", key="compare")
        furthest = frame["in_sd"].abs().sort_values(ascending=False, kind="stable").index[:MOVED]
        frame = frame.loc[furthest].reset_index(drop=True)
        frame = frame.assign(subject=frame[[*keys, "channel"]].agg(" / ".join, axis=1))
        rows = alt.Chart(frame).encode(
            y=alt.Y("subject:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
            color=alt.condition("datum.alert", alt.value("#c8641b"), alt.value("#1f5fa8")),
            tooltip=["subject", "before", "after", "difference", "in_sd", "alert"],
        )
        rule = rows.mark_rule(strokeWidth=2).encode(
            x=alt.X("before:Q", title="ROI, earlier (ring) and later"), x2="after:Q"
        )
        ring = rows.mark_point(size=60, filled=False, fill="white", opacity=1).encode(x="before:Q")
        dot = rows.mark_point(size=60, filled=True, opacity=1).encode(x="after:Q")
        return self._figure(alt.layer(rule, ring, dot).properties(width=420), frame)

    def _figure(self, chart: Any, frame: pd.DataFrame) -> Figure:
        return Figure(chart, frame, self.insight.fleet.spec.business.locale)

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
