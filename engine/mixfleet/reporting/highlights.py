"""What deserves attention in a run, in plain words and with what to do about it, worst first."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixfleet.data.experiments.experiment import is_meant

__all__ = ["KINDS", "SEVERITIES", "Highlight", "Kind", "highlights"]

SEVERITIES = ("problem", "doubt", "surprise")
"""What must not be used, what should be used with care, and what is worth a look."""

LOOSE_FIT, LOST_COVERAGE = 0.3, 0.75
FAR_FROM_PRIOR = 3.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What remarks of one sort have in common."""

    severity: str
    """One of `SEVERITIES`."""
    title: str
    step: str
    """What to do about it."""


KINDS: Mapping[str, Kind] = {
    "unsettled": Kind(
        severity="problem",
        title="the sampler found no stable answer",
        step="do not use these numbers; more weeks, fewer channels or tighter priors usually help, then fit again",
    ),
    "misfit": Kind(
        severity="problem",
        title="the data contradict the model",
        step="mend what the reason names, then fit again; `--include misfit` takes such units into totals all the same",
    ),
    "rejected": Kind(
        severity="problem",
        title="the table's rows cannot be modelled",
        step="mend the rows that `mixfleet check` names, then fit again",
    ),
    "error": Kind(
        severity="problem",
        title="the fit ended with an error",
        step="fit again; if it happens again, report it with the output of `mixfleet doctor`",
    ),
    "warned": Kind(
        severity="doubt",
        title="a doubt about the data or the sampling",
        step="read the reason, and look at the rows that it names",
    ),
    "experiment": Kind(
        severity="doubt",
        title="a lift test contradicts the model",
        step="check the test's dates, size and channel; where the test itself may be off, give it a `bias_sd`",
    ),
    "baseline": Kind(
        severity="doubt",
        title="sales without media would be below zero: media get too much",
        step="look for outliers of the KPI, add what else drives sales, or tighten `prior.parameters.media_share`",
    ),
    "fit": Kind(
        severity="doubt",
        title="the model misses much of the KPI",
        step="add what drives sales besides media: price, promotions, holidays (`data.controls`, `baseline`)",
    ),
    "coverage": Kind(
        severity="doubt",
        title="the intervals of the KPI are too narrow",
        step="look for outliers and for weeks in which something else happened; read intervals as too narrow",
    ),
    "overlap": Kind(
        severity="doubt",
        title="two channels cannot be told apart",
        step="read the sum of the two, or switch one of them off somewhere for some weeks and add that as a lift test",
    ),
    "model": Kind(
        severity="doubt",
        title="the data speak against something that the model assumes",
        step="each remark names its remedy; the table `checks` of `mixfleet export` has every check of every unit",
    ),
    "far": Kind(
        severity="surprise",
        title="a return is far from what was expected",
        step="check the unit of the spend column; if it is right, confirm the return by a lift test",
    ),
}
"""By name, in the order in which groups of one severity are shown."""

OF_CHECKS = {"negative_baseline": "baseline", "experiment_conflict": "experiment"}
"""Kinds of remarks by those of model checks; of all others `model`."""


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """One sentence about one unit."""

    kind: str
    """One of `KINDS`."""
    unit: tuple[str, ...]
    text: str
    weight: float = 0.0
    """Orders remarks of one severity, the greatest first."""

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`."""
        return KINDS[self.kind].severity


def highlights(
    status: Sequence[Mapping[str, Any]],
    fit: Iterable[Mapping[str, Any]],
    overlap: Iterable[Mapping[str, Any]],
    movement: Iterable[Mapping[str, Any]],
    checks: Iterable[Mapping[str, Any]],
    experiments: Iterable[Mapping[str, Any]],
    keys: tuple[str, ...],
) -> list[Highlight]:
    """Remarks on all units, from rows of the tables of those names."""
    found = [*_of_status(status, keys), *_of_fit(fit, keys), *_of_overlap(overlap, keys), *_of_movement(movement, keys)]
    rows = list(checks)
    found += [*_of_checks(rows, keys), *_of_experiments(experiments, rows, status, keys)]
    return sorted(found, key=lambda remark: (SEVERITIES.index(remark.severity), -remark.weight, remark.unit))


def _of_status(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Iterable[Highlight]:
    meaning = {
        "misfit": ("misfit", "has a model that its data contradict, and is in no total unless you include it"),
        "quarantined": ("unsettled", "did not pass the checks of its draws and is in no total"),
        "rejected": ("rejected", "could not be modelled"),
        "failed": ("error", "ended with an error"),
    }
    for row in rows:
        reason = f": {row['reason']}" if row["reason"] else ""
        if row["status"] in meaning:
            kind, words = meaning[row["status"]]
            yield Highlight(kind=kind, unit=_unit(row, keys), text=f"{words}{reason}", weight=9.0)
        elif row["status"] == "ok_warn":
            yield Highlight(kind="warned", unit=_unit(row, keys), text=f"usable, with a doubt{reason}", weight=1.0)


def _of_fit(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Iterable[Highlight]:
    for row in rows:
        unit = _unit(row, keys)
        if row["wmape"] is not None and row["wmape"] > LOOSE_FIT:
            text = f"the model misses the KPI by {row['wmape']:.0%} on average"
            yield Highlight(kind="fit", unit=unit, text=text, weight=2 + row["wmape"])
        if row["coverage90"] is not None and row["coverage90"] < LOST_COVERAGE:
            text = f"only {row['coverage90']:.0%} of the weeks lie in the model's 90 % interval"
            yield Highlight(kind="coverage", unit=unit, text=text, weight=2.0)


def _of_overlap(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Iterable[Highlight]:
    for row in rows:
        if row["statement"].startswith("cannot"):
            text = f"{row['channel']} and {row['other']} {row['statement']}"
            yield Highlight(kind="overlap", unit=_unit(row, keys), text=text, weight=-row["posterior_correlation"])


def _of_movement(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Iterable[Highlight]:
    for row in rows:
        if row["parameter"] != "roi" or not math.isfinite(shift := row["shift"]) or abs(shift) <= FAR_FROM_PRIOR:
            continue
        where = f"{abs(shift):.1f} prior sds of its logarithm {'above' if shift > 0 else 'below'} what the prior said"
        text = f"ROI of {row['channel']} is {row['mean']:.2f}, {where}"
        yield Highlight(kind="far", unit=_unit(row, keys), text=text, weight=abs(shift))


def _of_checks(rows: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> Iterable[Highlight]:
    for row in rows:
        if row["verdict"] == "doubt":
            kind = OF_CHECKS.get(row["kind"], "model")
            weight = 3 * row["statistic"] / row["threshold"]
            yield Highlight(kind=kind, unit=_unit(row, keys), text=row["statement"], weight=weight)


def _of_experiments(
    rows: Iterable[Mapping[str, Any]],
    checks: Iterable[Mapping[str, Any]],
    status: Iterable[Mapping[str, Any]],
    keys: tuple[str, ...],
) -> Iterable[Highlight]:
    """Tests that no check of a unit was about: those of several units together, and all of an older run."""
    units = [_unit(row, keys) for row in status]
    judged = {_unit(row, keys) for row in checks if row["kind"] == "experiment_conflict"}
    for row in rows:
        if row["conflict"] and _unit(row, keys) not in judged:
            text = f"the lift test {row['test']} of {row['channel']} is {row['statement']}"
            for unit in units:
                if is_meant(_unit(row, keys), unit):
                    yield Highlight(kind="experiment", unit=unit, text=text, weight=4.0 - row["tail"])


def _unit(row: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row[key] for key in keys)
