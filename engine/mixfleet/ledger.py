"""Ledger: what every unit's components bring by window of time, draw by draw, and the sums over groups of units.

Units are taken one after the other and forgotten once they are summarised and added to their groups, so memory does
not grow with the fleet. A group's account is the sum of its certified units' accounts, draw by draw.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mixfleet.config import Model
from mixfleet.fleet import Block, Fleet, term_rows
from mixfleet.panel import unit_id
from mixfleet.period import Windows
from mixfleet.response import Curves, along, in_chunks, respond

__all__ = ["CHUNK", "Account", "Group", "Ledger", "accounts", "gather", "keep"]

CHUNK = 100
"""Draws that are evaluated at once: so few that a unit's response stays in the processor's cache."""


class Account(NamedTuple):
    """One unit's or group's outcome by window. KPI and money are those of the table.

    Without returns being asked for, everything between `contribution` and `spend` has no channels.
    """

    contribution: Float[np.ndarray, "window component draw"]
    """KPI in the window's weeks: channels, then the terms of the baseline."""
    incremental: Float[np.ndarray, "window channel draw"]
    """KPI, whenever it came, that there would not be without the window's media; of paid channels only."""
    returned: Float[np.ndarray, "window channel draw"]
    """Its value."""
    marginal: Float[np.ndarray, "window channel draw"]
    """Change of `incremental` per 100 % more of the window's media, at the margin."""
    marginal_returned: Float[np.ndarray, "window channel draw"]
    worth: Float[np.ndarray, "rate window channel draw"]
    """`incremental` at each of the unit's rates."""
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

    def plus(self, other: "Account") -> "Account":
        """The account of both together."""
        return Account(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


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
class Ledger:
    """What was kept of every unit's account, in unit order, and the accounts of all groups."""

    units: tuple[Any, ...]
    groups: Mapping[tuple[str, ...], tuple[tuple[Group, Any], ...]]
    """Columns -> groups in order of their labels; () is the whole fleet. One without certified units is all NaN."""


def keep(
    fleet: Fleet,
    windows: Windows,
    groupings: Sequence[tuple[str, ...]],
    summarise: Callable[[Account], Any],
    *,
    returns: bool = True,
    rates: Float[np.ndarray, "unit rate"] | None = None,
    chance: bool = False,
) -> Ledger:
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


def gather(fleet: Fleet, walked: Iterable[tuple[Any, Any]], groupings: Sequence[tuple[str, ...]]) -> Ledger:
    """The summaries, and the sums by group, of a walk that gives each unit's account and its summary in unit order.

    An account is a named tuple of arrays that knows its sum with another, `plus`.
    """
    sums: dict[tuple[str, ...], dict[tuple[str, ...], Any]] = {by: {} for by in groupings}
    kept, account = [], None
    for unit, certified, (account, summary) in zip(fleet.units, fleet.certified, walked, strict=True):
        kept.append(summary)
        for by, found in sums.items() if certified else ():
            label = _labels(fleet, by, unit.labels)
            found[label] = found[label].plus(account) if label in found else account
    # A group of which no unit is certified is there, and has no numbers.
    nothing = None if account is None else type(account)(*(np.full(part.shape, np.nan) for part in account))
    groups = {}
    for by, found in sums.items():
        every = {_labels(fleet, by, labels) for labels in (*(unit.labels for unit in fleet.units), *fleet.missing)}
        groups[by] = tuple((_group(fleet, by, label), found.get(label, nothing)) for label in sorted(every) if nothing)
    return Ledger(units=tuple(kept), groups=groups)


def accounts(fleet: Fleet, windows: Windows, *, returns: bool = True, chance: bool = False) -> Iterator[Account]:
    """Every unit's account in unit order, each draw by draw."""
    return (account for account, _ in _walk(fleet, windows, lambda _: None, returns=returns, chance=chance))


def _walk(
    fleet: Fleet,
    windows: Windows,
    summarise: Callable[[Account], Any],
    *,
    returns: bool,
    rates: Float[np.ndarray, "unit rate"] | None = None,
    chance: bool = False,
) -> Iterator[tuple[Account, Any]]:
    money = np.zeros((len(fleet.units), 0)) if rates is None else rates
    span = max((_longest(windows.index(unit.dates)) for unit in fleet.units), default=0)

    def work(block: Block) -> tuple[Account, Any]:
        account = _account(fleet, block, windows, span if returns else 0, money[block.places[0]])
        if chance:
            account = account._replace(noise=_noise(fleet, block, windows))
        return account, summarise(account)

    return fleet.walk(work)


def _account(fleet: Fleet, block: Block, windows: Windows, span: int, rates: Float[np.ndarray, " rate"]) -> Account:
    unit, model = fleet.units[block.places[0]], fleet.spec.model
    weeks = len(unit.dates)
    index = np.full(fleet.weeks, -1)
    index[:weeks] = windows.index(unit.dates)
    inside = index[:, None] == np.arange(len(windows.names))
    counted = block.counted[0]
    within = inside & counted[:, None]
    spend = np.where(within[:, :, None], block.spend[0][:, None, :], 0.0).sum(axis=0)
    paid = np.nan_to_num(np.where(counted[:, None], block.spend[0], 0.0).sum(axis=0)) > 0
    by_column = np.einsum("tw,tj->wj", within.astype(float), block.design[0])
    linear = np.einsum("cj,wj,jd->wcd", term_rows(fleet.columns), by_column, block.coefficients[0])
    weights = np.stack([counted, np.where(counted, block.value[0], 0.0)], axis=1)
    curves = Curves(block.shape[:, 0], block.effect[0])
    with jax.enable_x64(True):
        if windows.kind == "all":
            sums = [np.asarray(part) for part in _whole(block.media[0], weights, curves, model=model)]
            contribution, nothing = sums[0], np.zeros_like(sums[0])
            incremental, returned, marginal, marginal_returned = sums
            carry_in = carry_out = nothing
        elif not span:
            contribution = np.asarray(_contributions(block.media[0], within.astype(float), curves, model=model))
            incremental = returned = marginal = marginal_returned = carry_in = carry_out = contribution[:, :0]
            paid = paid[:0]
        else:
            starts = np.where(inside.any(axis=0), inside.argmax(axis=0), -1)
            found = _by_window(block.media[0], weights, index, starts, curves, model=model, span=span)
            contribution, incremental, returned, marginal, marginal_returned, carry_in, carry_out = map(
                np.asarray, found
            )
    only, by_rate = paid[None, :, None], rates[:, None, None, None]
    return Account(
        contribution=np.concatenate([contribution, linear], axis=1),
        incremental=incremental * only,
        returned=returned * only,
        marginal=marginal * only,
        marginal_returned=marginal_returned * only,
        worth=by_rate * (incremental * only),
        marginal_worth=by_rate * (marginal * only),
        carry_in=carry_in,
        carry_out=carry_out,
        noise=np.zeros((len(windows.names), fleet.draws)),
        spend=np.nan_to_num(spend),
        kpi=within.T.astype(float) @ block.kpi[0],
        weeks=within.sum(axis=0),
    )


def _noise(fleet: Fleet, block: Block, windows: Windows) -> Float[np.ndarray, "window draw"]:
    """The same for a unit whatever is planned and whichever other units there are."""
    unit = fleet.units[block.places[0]]
    weeks = len(unit.dates)
    rng = np.random.default_rng(int(unit_id(unit.labels)[:12], 16))
    by_week = rng.standard_normal((weeks, fleet.draws)) * block.noise[0]
    inside = windows.index(unit.dates) == np.arange(len(windows.names))[:, None]
    return (inside & block.counted[0, :weeks]).astype(float) @ by_week


def _longest(index: Int[np.ndarray, " week"]) -> int:
    known = index[index >= 0]
    return int(np.bincount(known).max()) if len(known) else 0


@partial(jax.jit, static_argnames="model")
def _whole(
    media: Float[Array, "week channel"], weights: Float[Array, "week 2"], curves: Curves, *, model: Model
) -> tuple[Float[Array, "1 channel draw"], ...]:
    """KPI and its value over all weeks, and the slopes of both."""

    def of_chunk(part: Curves) -> tuple[Array, ...]:
        found = respond(media[:, None], _lanes(part), model=model)
        kpi, value = jnp.einsum("tucd,tk->kucd", found.contribution, weights)
        slope = along(found.derivative, media[:, None], _lanes(part), model=model)
        kpi_slope, value_slope = jnp.einsum("tucd,tk->kucd", slope, weights)
        return kpi, value, kpi_slope, value_slope

    return in_chunks(of_chunk, curves, size=CHUNK)


@partial(jax.jit, static_argnames="model")
def _contributions(
    media: Float[Array, "week channel"], within: Float[Array, "week window"], curves: Curves, *, model: Model
) -> Float[Array, "window channel draw"]:
    """KPI by window."""

    def of_chunk(part: Curves) -> Array:
        return jnp.einsum("tucd,tw->wcd", respond(media[:, None], _lanes(part), model=model).contribution, within)

    return in_chunks(of_chunk, curves, size=CHUNK)


@partial(jax.jit, static_argnames=("model", "span"))
def _by_window(
    media: Float[Array, "week channel"],
    weights: Float[Array, "week 2"],
    index: Int[Array, " week"],
    starts: Int[Array, " window"],
    curves: Curves,
    *,
    model: Model,
    span: int,
) -> tuple[Float[Array, "window channel draw"], ...]:
    """The same by window, each against the counterfactual without the window's media, carry-over included."""
    before = model.window - 1
    after = span + before
    media, weights, index = (
        jnp.pad(values, [(before, before + after)] + [(0, 0)] * (values.ndim - 1), constant_values=fill)
        for values, fill in ((media, 0.0), (weights, 0.0), (index, -1))
    )

    def of_chunk(part: Curves) -> tuple[Array, ...]:
        actual = respond(media[:, None], _lanes(part), model=model)

        def of_window(place: tuple[Array, Array]) -> tuple[Array, ...]:
            number, start = place

            def cut(values: Array, length: int, *, early: int = 0) -> Array:
                # The padding before the first week has the length of a window's history.
                return jax.lax.dynamic_slice_in_dim(values, jnp.maximum(start, 0) + before - early, length)

            inside = (cut(index, after) == number).astype(media.dtype) * (start >= 0)
            own = cut(media, after) * inside[:, None]
            rest = cut(media, before + after, early=before) - jnp.pad(own, ((before, 0), (0, 0)))
            without = respond(rest[:, None], _lanes(part), model=model, first=before).contribution
            contribution = cut(actual.contribution, after)
            slope = along(cut(actual.derivative, after), own[:, None], _lanes(part), model=model)
            weight = cut(weights, after)
            within, later = weight[:, 0] * inside, weight[:, 0] * (1 - inside)
            lost = contribution - without
            sums = [jnp.einsum("tucd,tk->kcd", values, weight) for values in (lost, slope)]
            parts = (contribution, within), (without, within), (lost, later)
            by_place = [jnp.einsum("tucd,t->cd", values, counted) for values, counted in parts]
            return by_place[0], *sums[0], *sums[1], *by_place[1:]

        return jax.lax.map(of_window, (jnp.arange(len(starts)), starts))

    return in_chunks(of_chunk, curves, size=CHUNK)


def _lanes(part: Curves) -> Curves:
    return Curves(part.shape[:, None], part.effect[None])


def _group(fleet: Fleet, by: tuple[str, ...], label: tuple[str, ...]) -> Group:
    fitted = [(unit.labels, bool(certified)) for unit, certified in zip(fleet.units, fleet.certified, strict=True)]
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
