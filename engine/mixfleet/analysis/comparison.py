"""Two runs of one fleet beside each other: which units came and went, how returns moved, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mixfleet.analysis.change_links import LINKS, UnitLinks, changes, why_not
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.frames import Shown
from mixfleet.errors import ConfigError, counted
from mixfleet.posterior.unit_result import FITTED_STATUSES, certified
from mixfleet.posterior.unit_series import SUMMARY_DRAWS

__all__ = ["THRESHOLD", "Comparison", "compared"]

THRESHOLD = 0.5
"""Posterior standard deviations of the earlier run beyond which a return's change is worth a look."""

ERRORS = 3.0
"""Standard errors beyond which a change is none of Monte Carlo's."""

Labels = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """What changed between two runs."""

    units: pa.Table
    """One row per unit of either run: status `before` and `after` (missing where it is not in that run), and `change`:
    came, went, status, fitted or reweighted (anew, and the status stayed) or same (to the byte)."""
    roi: pa.Table
    """One row per unit and channel with a return in both: `before`, `after`, `difference`, that in posterior standard
    deviations of the earlier run (`in_sd`), its Monte Carlo standard error (`error`), and whether it is an `alert`."""
    links: pa.Table
    """One row per row of `roi` and link of `change_links.LINKS`; a channel's links sum to its `difference`. `k` and
    `ess` judge the weights that a link rests on; where it is not `reliable`, only a fit would tell."""
    not_split: str
    """Why there are no links; empty where there are."""
    alerts: tuple[str, ...]
    """A line for each unit that is no longer certified or there, and each return that moved beyond the threshold."""

    def _sentence(self) -> str:
        changes = self.units["change"].to_pylist()
        counts = ", ".join(f"{changes.count(kind)} {kind}" for kind in sorted(set(changes)))
        return f"comparison of {counted(len(changes), 'unit')} ({counts}): {counted(len(self.alerts), 'alert')}"

    def _shown(self) -> pa.Table:
        """The returns that moved furthest."""
        moved = np.abs(np.asarray(self.roi["in_sd"], dtype=np.float64))
        return self.roi.take(np.argsort(-np.nan_to_num(moved), kind="stable"))


def compared(
    before: Mapping[str, pa.Table],
    after: Mapping[str, pa.Table],
    keys: tuple[str, ...],
    fleets: tuple[Fleet, Fleet] | None,
    *,
    threshold: float = THRESHOLD,
) -> Comparison:
    """The comparison.

    Args:
        before: Summary tables `status`, `roi` and `params` of the earlier run.
        after: Of the later run.
        keys: Key columns of both.
        fleets: Both runs' draws, to split changes; None where one kept none.
        threshold: Posterior standard deviations that a change of ROI must exceed to be an alert.

    Raises:
        ConfigError: The threshold is no positive number.
    """
    if not threshold > 0:
        raise ConfigError(f"must be above 0, is {threshold:g}", key="threshold")
    status = [{_labels(row, keys): row for row in tables["status"].to_pylist()} for tables in (before, after)]
    units = [
        _unit_row(labels, keys, *(own.get(labels) for own in status)) for labels in sorted({*status[0], *status[1]})
    ]
    roi = _roi_rows(before, after, keys, status, threshold)
    fitted = frozenset(
        labels
        for labels in status[0].keys() & status[1].keys()
        if all(own[labels]["status"] in FITTED_STATUSES for own in status)
        and status[0][labels]["digest"] != status[1][labels]["digest"]
    )
    reason = "a run kept no draws" if fleets is None else why_not(*fleets)
    split = {} if fleets is None or reason else {found.labels: found for found in changes(*fleets, fitted)}
    channels = () if fleets is None else fleets[0].channels
    links = [link for row in roi for link in _link_rows(row, keys, split.get(_labels(row, keys)), channels)]
    return Comparison(
        units=_table(units, [(key, pa.string()) for key in (*keys, "before", "after", "change")]),
        roi=_table(
            roi,
            [(key, pa.string()) for key in (*keys, "status", "channel")]
            + [(name, pa.float64()) for name in ("before", "after", "difference", "in_sd", "error")]
            + [("alert", pa.bool_())],
        ),
        links=_table(
            links,
            [(key, pa.string()) for key in (*keys, "channel", "link")]
            + [(name, pa.float64()) for name in ("difference", "k", "ess")]
            + [("reliable", pa.bool_())],
        ),
        not_split=reason,
        alerts=tuple([*_unit_alerts(units, keys), *_roi_alerts(roi, links, keys)]),
    )


def _labels(row: Mapping[str, Any], keys: tuple[str, ...]) -> Labels:
    return tuple(row[key] for key in keys)


def _table(rows: list[dict[str, Any]], schema: list[tuple[str, pa.DataType]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def _unit_row(
    labels: Labels, keys: tuple[str, ...], before: dict[str, Any] | None, after: dict[str, Any] | None
) -> dict[str, Any]:
    if before is None or after is None:
        change = "came" if before is None else "went"
    elif before["status"] != after["status"]:
        change = "status"
    else:
        weighed = "reweighted" if after.get("origin") == "reweighted" else "fitted"
        change = "same" if before["digest"] == after["digest"] else weighed
    statuses = {name: row and row["status"] for name, row in (("before", before), ("after", after))}
    return {**dict(zip(keys, labels, strict=True)), **statuses, "change": change}


def _roi_rows(
    before: Mapping[str, pa.Table],
    after: Mapping[str, pa.Table],
    keys: tuple[str, ...],
    status: list[dict[Labels, dict[str, Any]]],
    threshold: float,
) -> list[dict[str, Any]]:
    was = {(_labels(row, keys), row["channel"]): row for row in before["roi"].to_pylist()}
    draws = [_effective(tables["params"], keys) for tables in (before, after)]
    rows = []
    for row in after["roi"].to_pylist():
        place = _labels(row, keys), row["channel"]
        if place not in was:
            continue
        old, difference = was[place], row["mean"] - was[place]["mean"]
        # Equal bytes have no error.
        same = status[0][place[0]]["digest"] == status[1][place[0]]["digest"]
        error = (
            0.0
            if same
            else float(
                np.hypot(old["sd"] / draws[0].get(place, np.nan) ** 0.5, row["sd"] / draws[1].get(place, np.nan) ** 0.5)
            )
        )
        in_sd = difference / old["sd"] if old["sd"] else np.nan
        sure = certified(old["status"]) and certified(row["status"])
        rows.append(
            {
                **dict(zip(keys, place[0], strict=True)),
                "status": row["status"],
                "channel": row["channel"],
                "before": old["mean"],
                "after": row["mean"],
                "difference": difference,
                "in_sd": in_sd,
                "error": error,
                "alert": bool(sure and abs(in_sd) > threshold and abs(difference) > ERRORS * error),
            }
        )
    return rows


def _effective(params: pa.Table, keys: tuple[str, ...]) -> dict[tuple[Labels, str], float]:
    """Effective draws of each unit's effects, or as many as its tables are made of where those are fewer."""
    found = {}
    for row in params.select([*keys, "parameter", "channel", "ess_bulk"]).to_pylist():
        if row["parameter"] == "effect" and row["ess_bulk"] is not None:
            found[_labels(row, keys), row["channel"]] = min(row["ess_bulk"], float(SUMMARY_DRAWS))
    return found


def _link_rows(
    row: dict[str, Any], keys: tuple[str, ...], found: UnitLinks | None, channels: tuple[str, ...]
) -> list[dict[str, Any]]:
    if found is None:
        return []
    place = channels.index(row["channel"])
    head = {**{key: row[key] for key in keys}, "channel": row["channel"]}
    rows, left = [], row["difference"]
    for name in LINKS[:-1]:
        link = found.links[name]
        left -= float(link.difference[place])
        own = {"difference": float(link.difference[place]), "k": link.k, "ess": link.ess, "reliable": link.reliable}
        rows.append({**head, "link": name, **own})
    return [*rows, {**head, "link": LINKS[-1], "difference": left, "k": None, "ess": None, "reliable": None}]


def _unit_alerts(units: list[dict[str, Any]], keys: tuple[str, ...]) -> list[str]:
    lines = []
    for row in units:
        name = " / ".join(row[key] for key in keys)
        if row["change"] == "went":
            lines.append(f"{name}: is gone, was {row['before']}")
        elif row["before"] and certified(row["before"]) and not certified(row["after"]):
            lines.append(f"{name}: is {row['after']}, was {row['before']}")
    return lines


def _roi_alerts(roi: list[dict[str, Any]], links: list[dict[str, Any]], keys: tuple[str, ...]) -> list[str]:
    lines = []
    for row in roi:
        if row["alert"]:
            own = [link for link in links if all(link[name] == row[name] for name in (*keys, "channel"))]
            most = max(own, key=lambda link: abs(link["difference"]), default=None)
            why = (
                "" if most is None else f", most of it by {most['link'].replace('_', ' ')} ({most['difference']:+.3g})"
            )
            name = " / ".join(row[key] for key in (*keys, "channel"))
            lines.append(f"{name}: ROI {row['before']:.3g} to {row['after']:.3g}, {row['in_sd']:+.2g} sd{why}")
    return lines
