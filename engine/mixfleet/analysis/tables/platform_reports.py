"""The KPI that platforms report for themselves, beside what their channels brought.

Both are counted in the same weeks: those that count at all and for which the platform reported something.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mixfleet.analysis.breakdown import ALL_CHANNELS, by_subject, with_all
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.periods import Windows
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.errors import ConfigError
from mixfleet.models.baseline import component_rows
from mixfleet.posterior.counterfactual import contributions, log_link
from mixfleet.posterior.statistics import statistics
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["claims", "reports"]


class PlatformReport(NamedTuple):
    """A unit's or group's reports by window; the last channel is all of them together."""

    reported: Float[np.ndarray, "window channel"]
    incremental: Float[np.ndarray, "window channel draw"]
    """KPI that came in the reported weeks because of the channel's media of these and earlier weeks."""
    kpi: Float[np.ndarray, "window channel"]
    weeks: Int[np.ndarray, "window channel"]
    """Unit-weeks with a report."""

    DRAWN = ("incremental",)


def reports(fleet: Fleet) -> bool:
    """Whether the run's table says what platforms report."""
    return any(unit.reported is not None for unit in fleet.units)


def claims(fleet: Fleet, by: Any, windows: Windows) -> pa.Table:
    """Two rows per subject, window and channel: the measures `incremental` and `factor`.

    `factor` is incremental over reported: what the platform's number must be multiplied by. `claimed` is reported over
    the KPI that came; `double_claimed` the share of the reported KPI that is more than all there was, which several
    channels must have claimed at once.

    Raises:
        ConfigError: The run has no such column, or `by` is no key column.
    """
    if not reports(fleet):
        remedy = "name the platforms' columns, data.channels.<name>.reported, and fit again"
        raise ConfigError(f"this run's table does not say what platforms report; {remedy}", key="data.channels")

    def account(place: int, series: UnitSeries) -> PlatformReport:
        return _platform_report(fleet, place, series, windows)

    long_table, axes = LongTable(), {"period": windows.names, "channel": (*fleet.channels, ALL_CHANNELS)}
    for head, found in by_subject(fleet, by, account, _summarise):
        for measure in ("incremental", "factor"):
            long_table.add(
                {**head, "measure": measure}, axes, {**found[measure], **found["facts"]}, where=found["there"]
            )
    return long_table.table()


def _summarise(report: PlatformReport) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        claimed = report.reported / report.kpi
        facts = {
            "reported": report.reported,
            "kpi": report.kpi,
            "weeks": report.weeks,
            "claimed": claimed,
            "double_claimed": np.where(claimed > 1, 1 - 1 / claimed, 0.0),
        }
        factor = statistics(report.incremental / report.reported[..., None])
    # Of nothing reported, nothing can be said in proportion.
    none = {name: np.where(report.reported > 0, values, np.nan) for name, values in factor.items()}
    return {"incremental": statistics(report.incremental), "factor": none, "facts": facts, "there": report.weeks > 0}


def _platform_report(fleet: Fleet, place: int, series: UnitSeries, windows: Windows) -> PlatformReport:
    unit = fleet.units[place]
    channels, weeks = len(fleet.channels), len(unit.dates)
    reported = np.full((weeks, channels), np.nan) if unit.reported is None else unit.reported
    inside = windows.index(unit.dates)[:, None] == np.arange(len(windows.names))
    known = np.isfinite(reported) & series.counted[:weeks, None]
    # [week, window, channel], the last channel where any of them reports.
    within = inside[:, :, None] & np.concatenate([known, known.any(axis=1, keepdims=True)], axis=1)[:, None, :]
    padded = np.zeros((fleet.weeks, len(windows.names), channels))
    padded[:weeks] = within[..., :-1]
    if series.log_link:
        # Shares, as of contributions: what single channels would be missed for would not add up.
        parts = log_link.logarithms(series, component_rows(fleet.spec.model, fleet.spec.data), fleet.term)
        brought = np.stack([log_link.shares(parts, padded[:, :, c])[:, c] for c in range(channels)], axis=1)
    else:
        with jax.enable_x64(True):
            brought = np.asarray(contributions(series.media, padded, series.curves, term=fleet.term))
    sums = np.einsum("twc,tc->wc", padded[:weeks], np.nan_to_num(reported))
    return PlatformReport(
        reported=with_all(sums),
        incremental=with_all(brought),
        kpi=np.einsum("twc,t->wc", within.astype(float), series.kpi[:weeks]),
        weeks=within.sum(axis=0),
    )
