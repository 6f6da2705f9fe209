"""What the priors expect of media before any data: shares of the KPI and ROI, by unit and channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from mixfleet.api import fit_inputs, read_settings
from mixfleet.config import SettingGroups, Spec
from mixfleet.config.priors import Distribution
from mixfleet.data.frames import FrameKind, Shown, frame_kind, to_frame
from mixfleet.data.panel import Panel, Unit
from mixfleet.data.scaling import Scale
from mixfleet.data.sources import TableSource
from mixfleet.data.validation.finding import unit_name
from mixfleet.models.batch import PreparedUnit, prepare
from mixfleet.models.media.term import media_term
from mixfleet.models.priors.moments import DRAWS
from mixfleet.models.strength import MEAN_KPI, has_spend
from mixfleet.posterior.prior_draws import Drawn, prior_contributions
from mixfleet.simulation.truth import draw_pooled

__all__ = ["ALL", "PriorCheck", "prior"]

ALL = "all"
"""In place of a channel: all media together."""

BELOW = 0.95
"""Probability with which media should bring less than all of the KPI."""

SHARES = (0.05, 0.6)
"""Least and largest median share of media that nobody is asked about."""

FAR = 20.0
"""Times the ROI of all media, or one part in so many of it, at which a channel's is named."""

LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True, kw_only=True, repr=False)
class PriorCheck(Shown):
    """What priors expect of media."""

    rows: pa.Table
    """By unit and channel that runs there, then `all` of them: key columns, channel, `prior_on`, spend of the fitted
    weeks; 5 %, 50 % and 95 % quantiles of the share of the KPI and of ROI (null without spend); and, of all media,
    `below_all`, the probability that they bring less than all of the KPI."""
    statements: tuple[str, ...]
    warnings: tuple[str, ...]
    """What hardly anybody means, and the remedy."""
    frame: FrameKind = "pandas"

    @property
    def table(self) -> Any:
        """The rows as a frame of the library that the input was in."""
        return to_frame(self.rows, self.frame)

    def _sentence(self) -> str:
        return f"prior: {'; '.join((*self.statements, *self.warnings[:1]))}"

    def _shown(self) -> pa.Table:
        return self.rows


def prior(
    table: TableSource | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    **groups: Unpack[SettingGroups],
) -> PriorCheck:
    """What the priors expect of media in a table, without fitting it.

    Args:
        table: As in `mixfleet.fit`.
        spec: All settings; by default the defaults.
        **groups: Groups of settings, as in `mixfleet.fit`.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The table cannot be read at all, or lacks a column.
    """
    panel, settings, _ = fit_inputs(table, read_settings(spec, groups))
    settings.model.refuse_structures()
    pooled = _pooled_draws(panel, settings)
    rows = [row for unit in panel.units for row in _of_unit(prepare(unit, panel, settings), panel, settings, pooled)]
    units = [row for row in rows if row["channel"] == ALL]
    return PriorCheck(
        rows=pa.Table.from_pylist(rows, _schema(panel.keys)),
        statements=_statements(units) if units else ("no unit of the table can be modelled",),
        warnings=tuple(_warnings(rows, units, panel.keys)) if units else (),
        frame=frame_kind(table),
    )


def _of_unit(member: PreparedUnit, panel: Panel, spec: Spec, pooled: Drawn) -> list[dict[str, Any]]:
    """The rows of one unit."""
    unit, weeks = member.unit, member.contribution_weeks
    brought = prior_contributions(member, media_term(spec.model, panel.channels), pooled)
    spend = np.maximum(np.nansum(unit.spend[weeks], axis=0), 0.0)
    worth = float(np.mean(unit.value_per_kpi[weeks]))
    kpi, whole = _mean_kpi(unit, weeks, member.scale), brought.sum(axis=0)
    if member.scale.log_link:
        # What is added to the logarithm of an average week: of its KPI, what would be missing without.
        share, all_share = -np.expm1(-brought), -np.expm1(-whole)
    else:
        share, all_share = brought / kpi, whole / kpi
    whole_kpi, runs = kpi * weeks.sum() * worth, np.flatnonzero(member.arrays["active"])

    def row(channel: str, on: str | None, share: np.ndarray, value: np.ndarray, spend: float) -> dict[str, Any]:
        roi = value / spend if spend > 0 and np.isfinite(worth) else None
        return {
            **dict(zip(panel.keys, unit.labels, strict=True)),
            **{"channel": channel, "prior_on": on, "spend": spend},
            **_quantiles("share", share),
            "below_all": float(np.mean(share < 1)) if channel == ALL else None,
            **_quantiles("roi", roi),
        }

    rows = [
        row(panel.channels[c], member.strength.measures[c], share[c], share[c] * whole_kpi, float(spend[c]))
        for c in runs.tolist()
    ]
    by_paid = brought[spend > 0].sum(axis=0)
    paid = -np.expm1(-by_paid) if member.scale.log_link else by_paid / kpi
    return [*rows, row(ALL, None, all_share, paid * whole_kpi, float(spend.sum()))]


def _mean_kpi(unit: Unit, weeks: Bool[np.ndarray, " week"], scale: Scale) -> float:
    """Of a unit whose KPI is not known yet, what the priors take for it."""
    known = unit.kpi[weeks & np.isfinite(unit.kpi)]
    if len(known) and known.mean() != 0:
        return float(abs(known.mean()))
    return MEAN_KPI * (float(np.exp(scale.kpi_shift)) if scale.log_link else scale.kpi)


def _quantiles(name: str, values: Float[np.ndarray, " sample"] | None) -> dict[str, float | None]:
    names = [f"{name}_q{round(100 * level):02d}" for level in LEVELS]
    found = np.quantile(values, LEVELS).tolist() if values is not None else [None] * len(names)
    return dict(zip(names, found, strict=True))


def _schema(keys: Sequence[str]) -> pa.Schema:
    numbers = ["spend", *_quantiles("share", None), "below_all", *_quantiles("roi", None)]
    texts = [(name, pa.string()) for name in (*keys, "channel", "prior_on")]
    return pa.schema([*texts, *((name, pa.float64()) for name in numbers)])


def _pooled_draws(panel: Panel, spec: Spec) -> Drawn:
    """Draws of what pooled parameters are in a unit of a group: hyperparameters first, then the unit's own."""
    pooling, on = spec.pooling, spec.prior.on
    if pooling.by == "none" or not panel.units:
        return {}
    paid = has_spend(panel)

    def prior_of(name: str, c: int) -> Distribution:
        channel = panel.channels[c]
        known = on.measure(channel, spend=bool(paid[c])) if name == "effect" else name
        return spec.prior.distribution(known, unit={}, channel=channel)

    pooled = [name for name in spec.model.channel_parameters if pooling.scale(name) is not None]
    distributions = {name: [prior_of(name, c) for c in range(len(panel.channels))] for name in pooled}
    keys = panel.keys if pooling.by == "crossed" else () if isinstance(pooling.by, str) else pooling.by
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        group = draw_pooled(random, distributions=distributions, pooling=pooling, keys=keys, channels=panel.channels)
        drawn.append(group.unit(random, [random] * len(keys), distributions))
    return {name: np.stack([one[name] for one in drawn], axis=-1) for name in pooled}


def _statements(units: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    low, mid, high = (np.median([row[name] for row in units]) for name in _quantiles("share", None))
    below = np.median([row["below_all"] for row in units])
    some = f", medians over {len(units)} units" if len(units) > 1 else ""
    said = [
        f"before any data media bring {mid:.0%} of the KPI (90 % interval {low:.0%} to {high:.0%}), and less than all "
        f"of it with probability {below:.3f}{some}"
    ]
    paid = [row for row in units if row["roi_q50"] is not None]
    if paid:
        low, mid, high = (np.median([row[name] for row in paid]) for name in _quantiles("roi", None))
        said.append(f"a unit of spend brings {mid:.3g} ({low:.3g} to {high:.3g})")
    return tuple(said)


def _warnings(rows: Sequence[Mapping[str, Any]], units: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """What hardly anybody means, with the worst case of each."""

    def name(row: Mapping[str, Any]) -> str:
        return unit_name([row[key] for key in keys]) if keys else "the series"

    found = []
    # Two standard errors of a share of so many draws.
    above = [row for row in units if row["below_all"] < BELOW - 2 * (BELOW * (1 - BELOW) / DRAWS) ** 0.5]
    if above:
        worst = min(above, key=lambda row: row["below_all"])
        found.append(
            f"in {len(above)} of {len(units)} units media bring more than all of the KPI with a probability above "
            f"{1 - BELOW:.0%} (most in {name(worst)}: {1 - worst['below_all']:.0%}): tighten the priors, or put "
            "them on media_share, which counts the channels"
        )
    odd = [row for row in units if not SHARES[0] <= row["share_q50"] <= SHARES[1]]
    if odd:
        worst = max(odd, key=lambda row: abs(np.log(row["share_q50"] / 0.3)))
        found.append(
            f"in {len(odd)} of {len(units)} units media are expected to bring less than {SHARES[0]:.0%} or more than "
            f"{SHARES[1]:.0%} of the KPI ({name(worst)}: {worst['share_q50']:.2g}): is that meant?"
        )
    ours = {name(row): row["roi_q50"] for row in units if row["roi_q50"]}
    times = [(row["roi_q50"] / ours[name(row)], row) for row in rows if row["channel"] != ALL and row["roi_q50"]]
    far = [(ratio, row) for ratio, row in times if not 1 / FAR < ratio < FAR]
    if far:
        ratio, row = max(far, key=lambda pair: abs(np.log(pair[0])))
        found.append(
            f"a channel's prior ROI is more than {FAR:.0f} times that of all media, or less than 1/{FAR:.0f} of it, in "
            f"{len(far)} of {len(times)} cases ({row['channel']} in {name(row)}: {row['roi_q50']:.3g} against "
            f"{row['roi_q50'] / ratio:.3g}): put the priors on media_share or roi, which know what a channel costs"
        )
    return found
