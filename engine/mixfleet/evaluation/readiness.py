"""What a table can tell before any fit: how well each ROI would be known, and what to do where that is not enough.

Nothing is sampled: `expected_information` says what the design lets expect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np
import pyarrow as pa

from mixfleet.api import fit_inputs, read_settings
from mixfleet.config import SettingGroups, Spec
from mixfleet.data.frames import FrameKind, Shown, frame_kind, to_frame
from mixfleet.data.panel import Panel, Rejection
from mixfleet.data.sources import TableSource
from mixfleet.data.validation.calendar import YEAR_WEEKS, period_days
from mixfleet.errors import counted
from mixfleet.evaluation.expected_information import Expected, expected_deviations
from mixfleet.evaluation.readiness_parts import PARTS, score_parts
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.media.term import media_term

__all__ = ["Readiness", "readiness"]

ENOUGH = 0.5**0.5
"""Share of the prior's standard deviation of what all media bring that may be left: half of its variance."""

TOO_FEW_WEEKS = "too_few_weeks"
"""Rule of the table's check by which a unit is refused for its length alone."""

PATIENCE = 3.0
"""Times its present length that a series may have to grow; beyond, waiting is no advice."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Readiness(Shown):
    """What each unit's table can tell."""

    units: pa.Table
    """By unit: key columns; `weeks` in the likelihood; `score`, 0 to 100, the geometric mean of its parts, each 0 to
    1: length, variation, overlap, breaks, calendar, outliers; `left`, the share of the prior's standard
    deviation of what all media bring that a fit would leave; `verdict` (alone, pooled, wait, test, or mend of a unit
    that the check of the table refuses), `weeks_needed` of a series like this for it to be told alone (null where that
    is not in sight), and `reason`."""
    channels: pa.Table
    """By unit and channel that runs there: key columns, channel, spend; expected and prior standard deviation of its
    ROI, `roi_sd` and `prior_roi_sd`; null without spend."""
    frame: FrameKind = "pandas"

    @property
    def table(self) -> Any:
        """The units as a frame of the library that the input was in."""
        return to_frame(self.units, self.frame)

    def _sentence(self) -> str:
        verdicts = self.units["verdict"].to_pylist()
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        return f"readiness of {counted(len(verdicts), 'unit')}: {counts}"

    def _shown(self) -> pa.Table:
        return self.units


class _Shared(NamedTuple):
    """What a verdict rests on besides the unit."""

    year: int
    pooled: bool
    mates: Mapping[tuple[str, ...], int]


def readiness(
    table: TableSource | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    **groups: Unpack[SettingGroups],
) -> Readiness:
    """How much a table can tell of each unit's media, without fitting it.

    Args:
        table: As in `mixfleet.fit`.
        spec: All settings; by default the defaults.
        **groups: Groups of settings, as in `mixfleet.fit`.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The table cannot be read at all, or lacks a column.
    """
    panel, settings, _ = fit_inputs(table, read_settings(spec, groups))
    term = media_term(settings.model, panel.channels)
    shared = _Shared(_year(panel, settings), settings.pooling.by != "none", _mates(panel, settings))
    units, channels = [], []
    for unit in panel.units:
        member = prepare(unit, panel, settings)
        labels = dict(zip(panel.keys, unit.labels, strict=True))
        expected = expected_deviations(member, term, settings.model)
        own = _of_channels(member, panel, expected)
        units.append({**labels, **_of_unit(member, shared, expected, own)})
        channels.extend({**labels, **row} for row in own)
    for refused in panel.rejected:
        labels = dict(zip(panel.keys, refused.labels, strict=True))
        units.append({**labels, **_of_refused(refused, panel, settings)})
    return Readiness(
        units=pa.Table.from_pylist(units, _unit_schema(panel.keys)),
        channels=pa.Table.from_pylist(channels, _channel_schema(panel.keys)),
        frame=frame_kind(table),
    )


def _of_channels(member: PreparedUnit, panel: Panel, expected: Expected) -> list[dict[str, Any]]:
    unit, weeks = member.unit, member.contribution_weeks
    spend = np.maximum(np.nansum(unit.spend[weeks], axis=0), 0.0)
    money = float(np.mean(unit.value_per_kpi[weeks])) * member.scale.kpi * weeks.sum()
    if member.scale.log_link:
        # A little more of the logarithm is that share of the KPI.
        money *= float(np.nanmean(np.where(weeks, unit.kpi, np.nan)))

    def row(c: int) -> dict[str, Any]:
        paid = spend[c] > 0 and np.isfinite(money)
        known = {"channel": panel.channels[c], "spend": float(spend[c])}
        roi = [float(sd[c] * money / spend[c]) if paid else None for sd in (expected.channel, expected.prior)]
        return {**known, "roi_sd": roi[0], "prior_roi_sd": roi[1]}

    return [row(c) for c in np.flatnonzero(member.arrays["active"]).tolist()]


def _of_unit(
    member: PreparedUnit, shared: _Shared, expected: Expected, channels: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    parts = score_parts(member)
    weeks = int(member.fitted.sum())
    left = expected.total / expected.prior_total if expected.prior_total > 0 else None
    needed = _weeks_needed(weeks, left, shared.year)
    verdict, reason = _verdict(member, shared, left, needed, channels)
    return {
        "weeks": weeks,
        "score": 100.0 * float(np.prod(list(parts.values())) ** (1 / len(parts))),
        **parts,
        "left": left,
        "verdict": verdict,
        "weeks_needed": needed,
        "reason": reason,
    }


def _of_refused(refused: Rejection, panel: Panel, spec: Spec) -> dict[str, Any]:
    faults = [each for each in panel.findings if each.severity == "error" and each.unit == refused.labels]
    if all(each.rule == TOO_FEW_WEEKS for each in faults):
        verdict = "pooled" if panel.units else "wait"
        return {"verdict": verdict, "weeks_needed": spec.data.min_weeks, "reason": refused.reason}
    return {"verdict": "mend", "reason": refused.reason}


def _year(panel: Panel, spec: Spec) -> int:
    """Periods without which seasons and media cannot be told apart; none of a model without seasons."""
    return YEAR_WEEKS * 7 // period_days(panel.data) if spec.model.seasonality else 0


def _weeks_needed(weeks: int, left: float | None, year: int) -> int | None:
    """Information grows with the weeks: those of a series like this that leave `ENOUGH` of the prior, or a year."""
    if left is None or weeks == 0 or left >= 1.0:
        return None
    times = (ENOUGH**-2 - 1.0) / (left**-2 - 1.0)
    return max(1, year, int(np.ceil(times * weeks))) if times < 1e3 else None


def _verdict(
    member: PreparedUnit,
    shared: _Shared,
    left: float | None,
    needed: int | None,
    channels: Sequence[Mapping[str, Any]],
) -> tuple[str, str]:
    weeks = int(member.fitted.sum())
    if left is None:
        return "wait", "no channel runs in these weeks"
    known = f"its {weeks} weeks would leave {left:.0%} of the prior's uncertainty about all media"
    if left <= ENOUGH and weeks >= shared.year:
        return "alone", known
    if left <= ENOUGH:
        known = f"its {weeks} weeks are less than a year, in which media cannot be told from seasons"
    if mates := shared.mates[member.unit.labels]:
        how = "it shares with" if shared.pooled else "pooling.by lets it share with"
        return "pooled", f"{known}: {how} {counted(mates, 'other unit')}"
    if needed is not None and needed <= PATIENCE * weeks:
        return "wait", f"{known}: wait until there are about {needed} weeks"
    paid = [row for row in channels if row["roi_sd"] is not None]
    if not paid:
        return "wait", known
    first = max(paid, key=lambda row: row["roi_sd"] * row["spend"])
    return "test", f"{known}, and more weeks like these add little: run a lift test of {first['channel']}"


def _mates(panel: Panel, spec: Spec) -> dict[tuple[str, ...], int]:
    """How many other units each one shares with or, where nothing is pooled, could share with."""
    labels = [unit.labels for unit in panel.units]
    groups = [range(len(labels))] if spec.pooling.by == "none" else spec.pooling.groups(panel.keys, labels).values()
    return {labels[place]: len(group) - 1 for group in groups for place in group}


def _unit_schema(keys: Sequence[str]) -> pa.Schema:
    numbers = [(name, pa.float64()) for name in ("score", *PARTS, "left")]
    ends = [("verdict", pa.string()), ("weeks_needed", pa.int64()), ("reason", pa.string())]
    return pa.schema([*((key, pa.string()) for key in keys), ("weeks", pa.int64()), *numbers, *ends])


def _channel_schema(keys: Sequence[str]) -> pa.Schema:
    texts = [(name, pa.string()) for name in (*keys, "channel")]
    return pa.schema([*texts, *((name, pa.float64()) for name in ("spend", "roi_sd", "prior_roi_sd"))])
