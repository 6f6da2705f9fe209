"""What every unit's components bring by window of time, draw by draw, and the sums over groups of units.

Units are taken one after the other and forgotten once they are summarised and added to their groups, so memory does
not grow with the fleet. A group's totals are the sum of its certified units' totals, draw by draw.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from mixfleet.analysis.periods import Windows
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.models.baseline import component_rows
from mixfleet.models.media import Curves, MediaTerm
from mixfleet.models.observation import is_autocorrelated
from mixfleet.posterior import counterfactual
from mixfleet.posterior.counterfactual import log_link
from mixfleet.posterior.fit_quality import predictive, weekly_noise
from mixfleet.posterior.unit_series import UnitSeries, baseline_sums

__all__ = ["Aggregation", "Group", "Totals", "gather", "keep", "totals"]


class Totals(NamedTuple):
    """One unit's or group's outcome by window. KPI and money are those of the table.

    Without returns being asked for, everything between `contribution` and `spend` has no channels.
    """

    contribution: Float[np.ndarray, "window component draw"]
    """KPI in the window's weeks: channels, then the terms of the baseline."""
    incremental: Float[np.ndarray, "window channel draw"]
    """KPI, whenever it came, that there would not be without the window's media; of paid channels only."""
    returned: Float[np.ndarray, "window channel draw"]
    """Its value."""
    returned_by_all: Float[np.ndarray, "window draw"]
    """Value that there would not be without the window's media of any paid channel: the sum of `returned` where
    contributions are one, less than it where channels multiply each other."""
    marginal: Float[np.ndarray, "window channel draw"]
    """Change of `incremental` per 100 % more of the window's media, at the margin."""
    marginal_returned: Float[np.ndarray, "window channel draw"]
    worth: Float[np.ndarray, "rate window channel draw"]
    """`incremental` at each of the unit's rates."""
    worth_of_all: Float[np.ndarray, "rate window draw"]
    """The same of all paid channels together, as `returned_by_all`."""
    marginal_worth: Float[np.ndarray, "rate window channel draw"]
    carry_in: Float[np.ndarray, "window channel draw"]
    """KPI in the window's weeks that earlier media brought."""
    carry_out: Float[np.ndarray, "window channel draw"]
    """KPI in later weeks that the window's media brought."""
    noise: Float[np.ndarray, "window draw"]
    """KPI that chance added in the window's weeks, drawn anew; zero unless it is asked for."""
    spend: Float[np.ndarray, "window channel"]
    kpi: Float[np.ndarray, " window"]
    weeks: Int[np.ndarray, " window"]
    """Unit-weeks that count."""

    DRAWN = (
        *("contribution", "incremental", "returned", "returned_by_all", "marginal", "marginal_returned"),
        *("worth", "worth_of_all", "marginal_worth", "carry_in", "carry_out", "noise"),
    )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Units that a table adds up."""

    labels: tuple[str, ...]
    """Values of the ledger's `by` columns."""
    units: tuple[tuple[str, ...], ...]
    """Labels of the certified units, which are in the sums."""
    excluded: tuple[tuple[str, ...], ...]
    """Labels of the units that are not."""


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """What was kept of every unit's account, in unit order, and the accounts of all groups."""

    units: tuple[Any, ...]
    groups: Mapping[tuple[str, ...], tuple[tuple[Group, Any], ...]]
    """Columns -> groups in order of their labels; () is the whole fleet. One without certified units is all NaN."""


def keep(
    fleet: Fleet,
    windows: Windows,
    groupings: Sequence[tuple[str, ...]],
    summarise: Callable[[Totals], Any],
    *,
    returns: bool = True,
    rates: Float[np.ndarray, "unit rate"] | None = None,
    chance: bool = False,
) -> Aggregation:
    """Walk the fleet once; keep `summarise(account)` of every unit and the accounts of all groups.

    Args:
        fleet: The units.
        windows: Windows of time.
        groupings: Key columns of each kind of group; () is the whole fleet.
        summarise: What to keep of a unit's account; called in several threads.
        returns: Whether to weigh the counterfactual without each window's media, which takes most of the time.
        rates: Money per KPI of each unit at which `worth` is reckoned; none by default.
        chance: Whether to draw the noise of the weeks.
    """
    walked = _walk(fleet, windows, summarise, returns=returns, rates=rates, chance=chance)
    return gather(fleet, walked, groupings)


def gather(fleet: Fleet, walked: Iterable[tuple[Any, Any]], groupings: Sequence[tuple[str, ...]]) -> Aggregation:
    """The summaries, and the sums by group, of a walk that gives each unit's account and its summary in unit order.

    An account is a named tuple of arrays, which are added up: of one shape in all units but for the draws, the last
    axis of those that its `DRAWN` names. A unit with fewer draws than `fleet.draws` repeats some.
    """
    sums: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {by: {} for by in groupings}
    kept, account = [], None
    for unit, included, (account, summary) in zip(fleet.units, fleet.included, walked, strict=True):
        kept.append(summary)
        for by, found in sums.items() if included else ():
            label, whole = _labels(fleet, by, unit.labels), _repeated(account, fleet.draws)
            if label in found:
                # In place, as a fresh array for every unit would cost more than the sum.
                for total, part in zip(found[label], whole, strict=True):
                    total += part
            else:
                found[label] = type(account)(*(np.array(part) for part in whole))
    # A group of which no unit is certified is there, and has no numbers.
    nothing = None if account is None else type(account)(*(np.full(part.shape, np.nan) for part in account))
    groups = {}
    for by, found in sums.items():
        every = {_labels(fleet, by, labels) for labels in (*(unit.labels for unit in fleet.units), *fleet.missing)}
        groups[by] = tuple((_group(fleet, by, label), found.get(label, nothing)) for label in sorted(every) if nothing)
    return Aggregation(units=tuple(kept), groups=groups)


def _repeated(account: Any, draws: int) -> Any:
    """The account with this many draws, evenly spaced over its own."""

    def repeated(values: np.ndarray) -> np.ndarray:
        own = values.shape[-1]
        return values if own == draws else values[..., (np.arange(draws) * own) // draws]

    return account._replace(**{name: repeated(getattr(account, name)) for name in account.DRAWN})


def totals(fleet: Fleet, windows: Windows, *, returns: bool = True) -> Iterator[Totals]:
    """Every unit's account in unit order, each draw by draw."""
    return (account for account, _ in _walk(fleet, windows, lambda _: None, returns=returns))


def _walk(
    fleet: Fleet,
    windows: Windows,
    summarise: Callable[[Totals], Any],
    *,
    returns: bool,
    rates: Float[np.ndarray, "unit rate"] | None = None,
    chance: bool = False,
) -> Iterator[tuple[Totals, Any]]:
    money = np.zeros((len(fleet.units), 0)) if rates is None else rates
    span = max((_longest(windows.index(unit.dates)) for unit in fleet.units), default=0)

    def work(place: int, series: UnitSeries) -> tuple[Totals, Any]:
        account = _account(fleet, place, series, windows, span if returns else 0, money[place])
        if chance:
            account = account._replace(noise=_noise(fleet, place, series, windows))
        return account, summarise(account)

    return fleet.walk(work)


def _account(
    fleet: Fleet, place: int, series: UnitSeries, windows: Windows, span: int, rates: Float[np.ndarray, " rate"]
) -> Totals:
    counted = series.counted
    dates = fleet.units[place].dates
    index = np.full(fleet.weeks, -1)
    index[: len(dates)] = windows.index(dates)
    inside = index[:, None] == np.arange(len(windows.names))
    within = (inside & counted[:, None]).astype(float)
    spend = np.einsum("tw,tc->wc", within, np.nan_to_num(series.spend))
    paid = np.nan_to_num(np.where(counted[:, None], series.spend, 0.0).sum(axis=0)) > 0
    returns = bool(span) or windows.kind == "all"
    weights, price = counterfactual.value_weights(counted, series.value) if returns else (within, 1.0)
    told = _multiplied if series.log_link else _added
    contribution, found, of_all = told(fleet, series, within, weights if returns else None, index, windows, span, paid)
    present, lost, slope, inner = found
    paid = paid if returns else paid[:0]
    carry_in, carry_out = np.subtract(present[:, : inner.shape[1]], inner), np.subtract(lost[0], inner)
    # The last weight is that of money, or the only one where money follows from KPI by one price.
    lost, slope = lost * paid[:, None], slope * paid[:, None]
    of_all = lost.sum(axis=2) if of_all is None else of_all
    by_rate = rates[:, None, None, None]
    return Totals(
        contribution=contribution,
        incremental=lost[0],
        returned=lost[-1] * price,
        returned_by_all=of_all[-1] * price,
        marginal=slope[0],
        marginal_returned=slope[-1] * price,
        worth=by_rate * lost[0],
        worth_of_all=by_rate[..., 0] * of_all[0],
        marginal_worth=by_rate * slope[0],
        carry_in=carry_in,
        carry_out=carry_out,
        noise=np.zeros((len(windows.names), series.effect.shape[-1])),
        spend=spend,
        kpi=within.T @ series.kpi,
        weeks=within.sum(axis=0).astype(int),
    )


class _Told(NamedTuple):
    """What a unit's components brought."""

    contribution: Float[np.ndarray, "window component draw"]
    found: counterfactual.Difference
    """Of no channel where there are no weights."""
    of_all: Float[np.ndarray, "weight window draw"] | None
    """What would be missing without any paid channel; None where it is the sum over them."""


def _added(
    fleet: Fleet,
    series: UnitSeries,
    within: Float[np.ndarray, "week window"],
    weights: Float[np.ndarray, "week weight"] | None,
    index: Int[np.ndarray, " week"],
    windows: Windows,
    span: int,
    paid: Bool[np.ndarray, " channel"],
) -> _Told:
    """Contributions by component, and what windows make of a difference."""
    del paid
    linear = baseline_sums(series, within, component_rows(fleet.spec.model, fleet.spec.data))
    with jax.enable_x64(True):
        if weights is None:
            media, curves = series.media, series.curves
            brought = counterfactual.contributions(media, within[:, :, None], curves, term=fleet.term)
            found = _of_no_channel(np.asarray(brought))
        else:
            inside = index[:, None] == np.arange(len(windows.names))
            found = _differences(
                series.media, weights, index, inside, series.curves, windows, term=fleet.term, span=span
            )
    return _Told(np.concatenate([found.contribution, linear], axis=1), found, None)


def _multiplied(
    fleet: Fleet,
    series: UnitSeries,
    within: Float[np.ndarray, "week window"],
    weights: Float[np.ndarray, "week weight"] | None,
    index: Int[np.ndarray, " week"],
    windows: Windows,
    span: int,
    paid: Bool[np.ndarray, " channel"],
) -> _Told:
    """The same under a log link."""
    del span
    parts = log_link.logarithms(series, component_rows(fleet.spec.model, fleet.spec.data), fleet.term)
    contribution = log_link.shares(parts, within)
    if weights is None:
        return _Told(contribution, _of_no_channel(contribution), None)
    found, of_all = log_link.differences(series, parts, weights, index, len(windows.names), paid, fleet.term)
    return _Told(contribution, found, of_all)


def _of_no_channel(contribution: Float[np.ndarray, "window channel draw"]) -> counterfactual.Difference:
    nothing = contribution[:, :0]
    return counterfactual.Difference(contribution, nothing[None], nothing[None], nothing)


def _differences(
    media: Float[np.ndarray, "week channel"],
    weights: Float[np.ndarray, "week weight"],
    index: Int[np.ndarray, " week"],
    inside: Bool[np.ndarray, "week window"],
    curves: Curves,
    windows: Windows,
    *,
    term: MediaTerm,
    span: int,
) -> counterfactual.Difference:
    if windows.kind == "all":
        kpi, slope = counterfactual.whole(media, weights, curves, term=term)
        # Nothing comes before the whole or after it.
        return counterfactual.Difference(kpi[:1], kpi[:, None], slope[:, None], kpi[:1])
    starts = np.where(inside.any(axis=0), inside.argmax(axis=0), -1)
    found = counterfactual.by_window(media, weights, index, starts, curves, term=term, span=span)
    return counterfactual.Difference(*map(np.asarray, found))


def _noise(fleet: Fleet, place: int, series: UnitSeries, windows: Windows) -> Float[np.ndarray, "window draw"]:
    unit, model = fleet.units[place], fleet.spec.model
    inside = windows.index(unit.dates) == np.arange(len(windows.names))[:, None]
    within = (inside & series.counted[: len(unit.dates)]).astype(float)
    if not series.log_link and not is_autocorrelated(model):
        return within @ weekly_noise(unit, series.observation, model)
    with jax.enable_x64(True):
        media = np.asarray(counterfactual.weekly(series.media, series.curves, term=fleet.term))
    found = predictive(unit, series, media, model)
    if not is_autocorrelated(model):
        return within @ found.noise
    # What past misses let expect is no component's, and so part of what comes on top of them.
    components = series.design @ series.coefficients + media
    if series.log_link:
        components = np.exp(components + 0.5 * series.observation[0] ** 2)
    return within @ (found.expected + found.noise - components[: len(unit.dates)])


def _longest(index: Int[np.ndarray, " week"]) -> int:
    known = index[index >= 0]
    return int(np.bincount(known).max()) if len(known) else 0


def _group(fleet: Fleet, by: tuple[str, ...], label: tuple[str, ...]) -> Group:
    fitted = [(unit.labels, bool(included)) for unit, included in zip(fleet.units, fleet.included, strict=True)]
    own = [
        (labels, ok)
        for labels, ok in fitted + [(row, False) for row in fleet.missing]
        if _labels(fleet, by, labels) == label
    ]
    return Group(
        labels=label,
        units=tuple(labels for labels, ok in own if ok),
        excluded=tuple(sorted(labels for labels, ok in own if not ok)),
    )


def _labels(fleet: Fleet, by: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(labels[fleet.keys.index(key)] for key in by)
