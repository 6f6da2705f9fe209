"""Charts that judge models: forecasts of the past beside what came, and points of a sweep beside each other."""

import numpy as np
import pyarrow as pa

from mixfleet.errors import ConfigError
from mixfleet.reporting.charts.figure import Figure, the_altair

__all__ = ["backtest", "leaderboard"]

NAMES = {"model": "model", "last_year": "last year", "last_value": "last value"}
"""Forecasts by name, in the order of their colours."""

COVERED = 0.9
"""Share of the weeks that a 90 % interval is to cover."""


def backtest(summary: pa.Table, locale: str = "en") -> Figure:
    """Median error of each forecast by origin, for every horizon, and below it how much the model's intervals cover.

    Args:
        summary: Of `Backtest.summary`.
        locale: One of `mixfleet.config.LOCALES`.
    """
    alt = the_altair()
    frame = summary.to_pandas()
    frame = frame.assign(
        forecast=frame["forecast"].map(NAMES),
        origin=frame["origin"].astype(str).str[:10],
        horizon="weeks " + frame["horizon"].astype(str),
    )
    order = list(dict.fromkeys(frame["horizon"]))
    rows = alt.Chart(frame).encode(tooltip=["origin", "horizon", "forecast", "units", "wmape", "coverage90", "skill"])
    # Origins are named once, below both rows of charts.
    blank = alt.X("origin:O", title=None, axis=alt.Axis(labels=False, ticks=False))
    named = alt.X("origin:O", title="last day that was seen", axis=alt.Axis(labelAngle=-45))
    colour = alt.Color("forecast:N", title=None, sort=list(NAMES.values()))
    error = rows.mark_line(point=True).encode(
        y=alt.Y("wmape:Q", title="weighted error (wMAPE)", axis=alt.Axis(format="%")), x=blank, color=colour
    )
    own = rows.transform_filter("datum.forecast == 'model'")
    share = alt.Y(
        "coverage90:Q", title="inside the 90 % interval", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])
    )
    covered = own.mark_bar(opacity=0.6, size=14).encode(x=named, y=share)
    wanted = alt.Chart(frame).mark_rule(strokeDash=[4, 3]).encode(y=alt.datum(COVERED))
    charts = []
    for chart, height, header in (
        (alt.layer(error), 150, alt.Header()),
        (alt.layer(covered, wanted, data=frame), 90, alt.Header(labels=False)),
    ):
        column = alt.Column("horizon:N", title=None, sort=order, header=header)
        charts.append(chart.properties(width=170, height=height).facet(column=column))
    return Figure(alt.vconcat(*charts), frame, locale)


def leaderboard(table: pa.Table, locale: str = "en") -> Figure:
    """Score of each finished point of a sweep, and a standard error either way; what is within noise is darker.

    Args:
        table: Of `mixfleet.evaluation.leaderboard.Leaderboard`.
        locale: One of `mixfleet.config.LOCALES`.

    Raises:
        ConfigError: No point has a score.
    """
    alt = the_altair()
    frame = table.to_pandas()
    frame = frame[frame["score"].notna()].reset_index(drop=True)
    if frame.empty:
        raise ConfigError("no point has a score yet", key="leaderboard")
    error = np.nan_to_num(frame["score_se"].to_numpy(float))
    frame = frame.assign(
        named=frame["changes"].where(frame["changes"] != "", "as it is"),
        standing=frame["near_best"].map({True: "within noise of the best", False: "worse than the best"}),
        low=frame["score"] - error,
        high=frame["score"] + error,
    )
    colour = alt.Color(
        "standing:N",
        title=None,
        scale=alt.Scale(domain=["within noise of the best", "worse than the best"], range=["#1f5fa8", "#b7bfca"]),
    )
    rows = alt.Chart(frame).encode(
        y=alt.Y("named:N", sort=None, title=None, axis=alt.Axis(labelLimit=320)),
        color=colour,
        tooltip=["point", "named", "score", "score_se", "holdout_crps", "holdout_r2", "certified"],
    )
    title = "how much larger the error of the forecasts is than the best point's (log CRPS)"
    rule = rows.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    dot = rows.mark_circle(size=80, opacity=1).encode(x="score:Q")
    return Figure(alt.layer(rule, dot).properties(width=420), frame, locale)
