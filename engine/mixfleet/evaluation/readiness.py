"""What a table can tell before any fit: how well each ROI would be known, and what to do where that is not enough.

The expected standard deviations come from the Fisher information of the model with its baseline integrated out, at
the middle of the prior's curves: columns for what each channel brings and for how it moves with the parameters of its
curve, noise from a ridge regression, the priors as they are. Nothing is sampled.

References:
    Chaloner, Verdinelli (1995), Bayesian experimental design: a review, doi:10.1214/ss/1177009939.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.api import fit_inputs, read_settings
from mixfleet.config import SettingGroups, Spec
from mixfleet.data.frames import FrameKind, Shown, frame_kind, to_frame
from mixfleet.data.panel import Panel, Rejection
from mixfleet.data.sources import TableSource
from mixfleet.data.validation.calendar import YEAR_WEEKS, period_days
from mixfleet.errors import counted
from mixfleet.evaluation.readiness_parts import PARTS, score_parts
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.media import Curves
from mixfleet.models.media.term import MediaTerm, media_term
from mixfleet.models.priors.moments import prior_sample
from mixfleet.posterior.counterfactual import responses
from mixfleet.posterior.prior_draws import prior_contributions

__all__ = ["Readiness", "readiness"]

ENOUGH = 0.5**0.5
"""Share of the prior's standard deviation of what all media bring that may be left: half of its variance."""

TOO_FEW_WEEKS = "too_few_weeks"
"""Rule of the table's check by which a unit is refused for its length alone."""

PATIENCE = 3.0
"""Times its present length that a series may have to grow; beyond, waiting is no advice."""

STEP = 0.5
"""Prior standard deviations, as quantiles of a standard normal, over which curves are differentiated."""

ROUNDS = 5
"""Of the ridge regression and its noise; it settles in three."""


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


class _Expected(NamedTuple):
    """Standard deviations of mean contributions, in shares of the KPI's scale."""

    channel: Float[np.ndarray, " channel"]
    prior: Float[np.ndarray, " channel"]
    total: float
    prior_total: float


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
        expected = _expected(member, term)
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


def _of_channels(member: PreparedUnit, panel: Panel, expected: _Expected) -> list[dict[str, Any]]:
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
    member: PreparedUnit, shared: _Shared, expected: _Expected, channels: Sequence[Mapping[str, Any]]
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


def _expected(member: PreparedUnit, term: MediaTerm) -> _Expected:
    """Posterior standard deviations that the design lets expect."""
    prior = prior_contributions(member, term) / member.scale.kpi
    active = np.flatnonzero(member.arrays["active"])
    sd, of_prior = np.zeros(len(prior)), prior.std(axis=1)
    own = prior[active]
    total = float(own.sum(axis=0).std())
    if len(active) and member.fitted.any():
        covariance = _covariance(member, term, active, np.median(own, axis=1), of_prior[active])
        # A prior of heavy tails is worth less than its variance says, but no data make anybody know less.
        sd[active] = np.minimum(np.sqrt(np.diag(covariance)), of_prior[active])
        return _Expected(sd, of_prior, min(float(np.sqrt(covariance.sum())), total), total)
    return _Expected(of_prior, of_prior, total, total)


def _covariance(
    member: PreparedUnit,
    term: MediaTerm,
    active: np.ndarray,
    size: Float[np.ndarray, " channel"],
    prior_sd: Float[np.ndarray, " channel"],
) -> Float[np.ndarray, "channel channel"]:
    """Of mean contributions, curves and baseline integrated out.

    Args:
        member: The unit.
        term: Form of each channel's response.
        active: The channels that run.
        size: What each brings in the middle of its prior, by which its curve's parameters are told.
        prior_sd: Of what it brings.
    """
    value, slopes = _responses(member, term)
    columns = value[:, active]
    kpi = member.arrays["kpi"][: len(member.fitted)][member.fitted]
    noise = _noise(member, kpi, columns, prior_sd)
    curves = [slope[:, active] * size for slope in slopes]
    design = np.concatenate([columns, *curves], axis=1)
    precision = design.T @ _weighed(member, design, noise)
    precision += np.diag(np.concatenate([prior_sd**-2.0, np.ones(design.shape[1] - len(active))]))
    return np.linalg.inv(precision)[: len(active), : len(active)]


def _responses(
    member: PreparedUnit, term: MediaTerm
) -> tuple[Float[np.ndarray, "week channel"], list[Float[np.ndarray, "week channel"]]]:
    """Responses in the fitted weeks over their mean, and their change by each parameter per prior deviation of it."""
    levels = [NormalDist().cdf(step) for step in (0.0, STEP, -STEP)]
    quantiles = np.array(
        [
            [np.quantile(prior_sample(prior, i, c), levels) for c, prior in enumerate(row)]
            for i, row in enumerate(member.priors)
        ]
    ).reshape(len(member.priors), len(member.strength.distributions), len(levels))
    # In the middle, then each parameter in turn above and below it.
    draws = 1 + 2 * len(quantiles)
    shape = np.repeat(quantiles[:, :, :1], draws, axis=2)
    for i in range(len(quantiles)):
        shape[i, :, 1 + 2 * i : 3 + 2 * i] = quantiles[i, :, 1:]
    curves = Curves(shape, np.ones(shape.shape[1:]))
    found = responses(member.arrays["media"], curves, term=term)[:, : len(member.fitted)]
    mean = np.maximum(found[:, member.contribution_weeks].mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    value = (found / mean)[:, member.fitted]
    slopes = [(value[..., 1 + 2 * i] - value[..., 2 + 2 * i]).T / (2 * STEP) for i in range(len(quantiles))]
    return value[..., 0].T, slopes


def _weighed(
    member: PreparedUnit, columns: Float[np.ndarray, "week column"], noise: float
) -> Float[np.ndarray, "week column"]:
    """Columns times the precision of the fitted weeks, the baseline integrated out."""
    basis = member.arrays["basis"][: len(member.fitted)][member.fitted]
    share = member.arrays["variance"] / (member.arrays["variance"] + noise)
    return (columns - basis @ (share[:, None] * (basis.T @ columns))) / noise


def _noise(
    member: PreparedUnit,
    kpi: Float[np.ndarray, " week"],
    columns: Float[np.ndarray, "week channel"],
    prior_sd: Float[np.ndarray, " channel"],
) -> float:
    """Variance of the weeks around a ridge regression with the priors as its ridge."""
    basis, variance = member.arrays["basis"][: len(member.fitted)][member.fitted], member.arrays["variance"]
    noise = float(np.var(kpi)) + 1e-12
    for _ in range(ROUNDS):
        weighed = _weighed(member, columns, noise)
        information = columns.T @ weighed
        precision = information + np.diag(prior_sd**-2.0)
        rest = kpi - columns @ np.linalg.solve(precision, weighed.T @ kpi)
        share = variance / (variance + noise)
        rest = rest - basis @ (share * (basis.T @ rest))
        used = share.sum() + np.trace(np.linalg.solve(precision, information))
        noise = float(rest @ rest + 1e-12) / max(len(kpi) - used, 1.0)
    return noise


def _unit_schema(keys: Sequence[str]) -> pa.Schema:
    numbers = [(name, pa.float64()) for name in ("score", *PARTS, "left")]
    ends = [("verdict", pa.string()), ("weeks_needed", pa.int64()), ("reason", pa.string())]
    return pa.schema([*((key, pa.string()) for key in keys), ("weeks", pa.int64()), *numbers, *ends])


def _channel_schema(keys: Sequence[str]) -> pa.Schema:
    texts = [(name, pa.string()) for name in (*keys, "channel")]
    return pa.schema([*texts, *((name, pa.float64()) for name in ("spend", "roi_sd", "prior_roi_sd"))])
