"""Claims: the KPI that platforms report for themselves, beside what their channels brought.

Both are counted in the same weeks: those that count at all and for which the platform reported something.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from mixfleet.analysis.aggregate import gather
from mixfleet.analysis.breakdown import ALL_CHANNELS, read_by, subjects, with_all
from mixfleet.analysis.counterfactual import contributions
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.periods import Windows
from mixfleet.analysis.posterior_draws import Block, Fleet
from mixfleet.errors import ConfigError
from mixfleet.models.media import Curves
from mixfleet.posterior.statistics import statistics

__all__ = ["claims", "reports"]


class Claim(NamedTuple):
    """A unit's or group's reports by window; the last channel is all of them together."""

    reported: Float[np.ndarray, "window channel"]
    incremental: Float[np.ndarray, "window channel draw"]
    """KPI that came in the reported weeks because of the channel's media of these and earlier weeks."""
    kpi: Float[np.ndarray, "window channel"]
    weeks: Int[np.ndarray, "window channel"]
    """Unit-weeks with a report."""


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
    columns = read_by(fleet, by)

    def work(block: Block) -> tuple[Claim, Any]:
        claim = _claim(fleet, block, windows)
        return claim, _summarise(claim)

    aggregation = gather(fleet, fleet.walk(work), [] if columns is None else [columns])
    long_table, axes = LongTable(), {"period": windows.names, "channel": (*fleet.channels, ALL_CHANNELS)}
    for head, found in subjects(fleet, columns, aggregation, _summarise):
        for measure in ("incremental", "factor"):
            long_table.add(
                {**head, "measure": measure}, axes, {**found[measure], **found["facts"]}, where=found["there"]
            )
    return long_table.table()


def _summarise(claim: Claim) -> dict[str, Any]:
    with np.errstate(divide="ignore", invalid="ignore"):
        claimed = claim.reported / claim.kpi
        facts = {
            "reported": claim.reported,
            "kpi": claim.kpi,
            "weeks": claim.weeks,
            "claimed": claimed,
            "double_claimed": np.where(claimed > 1, 1 - 1 / claimed, 0.0),
        }
        factor = statistics(claim.incremental / claim.reported[..., None])
    # Of nothing reported, nothing can be said in proportion.
    none = {name: np.where(claim.reported > 0, values, np.nan) for name, values in factor.items()}
    return {"incremental": statistics(claim.incremental), "factor": none, "facts": facts, "there": claim.weeks > 0}


def _claim(fleet: Fleet, block: Block, windows: Windows) -> Claim:
    unit = fleet.units[block.places[0]]
    channels, weeks = len(fleet.channels), len(unit.dates)
    reported = np.full((weeks, channels), np.nan) if unit.reported is None else unit.reported
    inside = windows.index(unit.dates)[:, None] == np.arange(len(windows.names))
    known = np.isfinite(reported) & block.counted[0, :weeks, None]
    # [week, window, channel], the last channel where any of them reports.
    within = inside[:, :, None] & np.concatenate([known, known.any(axis=1, keepdims=True)], axis=1)[:, None, :]
    padded = np.zeros((fleet.weeks, len(windows.names), channels))
    padded[:weeks] = within[..., :-1]
    with jax.enable_x64(True):
        brought = np.asarray(
            contributions(block.media[0], padded, Curves(block.shape[:, 0], block.effect[0]), model=fleet.spec.model)
        )
    sums = np.einsum("twc,tc->wc", padded[:weeks], np.nan_to_num(reported))
    return Claim(
        reported=with_all(sums),
        incremental=with_all(brought),
        kpi=np.einsum("twc,t->wc", within.astype(float), block.kpi[0, :weeks]),
        weeks=within.sum(axis=0),
    )
