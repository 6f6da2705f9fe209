"""Lift tests beside what the model says of them, with them and, by weighing its draws, without.

What stands for without a test, and when the two are at odds, is in `mixfleet.posterior.model_checks.experiments`. Where
the test moved the posterior too far for that, `k_hat` is above 0.7 and the row says so: fit without the test to know.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.breakdown import by_unit
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.experiments.experiment import Experiment
from mixfleet.posterior.counterfactual import decompose, value_weights
from mixfleet.posterior.importance import BAD_TAIL
from mixfleet.posterior.model_checks.experiments import Without, expected, lifts, without
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["experiments", "has_experiments"]

CONFLICT = 0.05
"""Chance, without the test, of an estimate as far out: below it the two are said to be at odds."""

ROUNDING = 1e-9


class _Told(NamedTuple):
    """What a unit's draws say of its part in a test; parts of several units add up."""

    lift: Float[np.ndarray, " draw"]
    value: Float[np.ndarray, "channel draw"]
    """Money that each channel brought over all weeks."""
    spend: Float[np.ndarray, " channel"]


class _Spread(NamedTuple):
    """What a distribution over draws says of a test, in the test's own unit."""

    mean: float
    low: float
    high: float


def has_experiments(fleet: Fleet) -> bool:
    """Whether lift tests were fitted."""
    return any(unit.experiments for unit in fleet.units)


def experiments(fleet: Fleet) -> pa.Table:
    """One row per unit and test; one of several units together has one row, with the labels that its table has.

    `estimate` and `sd` (standard error and bias together) are in what `measure` says: lift in KPI, revenue in money,
    roi in money per money. `with_mean`, `with_q025`, `with_q975`: the model's own lift by the posterior. `without_`
    likewise without the test. `expected_q025` and `expected_q975`: where, without it, 95 % of such estimates would lie.
    `tail`: how likely one at least as far out is; `conflict`: whether it is less than one chance in 20, of which the
    check `experiment_conflict` makes a doubt where it is less than one in 200. `roi_with`, `roi_without`: return of the
    test's channels over all weeks; NaN where nothing is paid. `statement` says it in words.
    """
    long_table = LongTable()

    def work(place: int, series: UnitSeries) -> list[_Told]:
        own = fleet.units[place].experiments
        if not own:
            return []
        weights, price = value_weights(series.counted, series.value)
        value = decompose(series.media, weights, series.curves, term=fleet.term).total[-1] * price
        spend = np.nansum(series.spend[series.counted], axis=0)
        return [_Told(lifts(test, fleet.scales[place], series, fleet.term), value, spend) for test in own]

    # Several units' parts of one test are together when the last of them has been seen.
    apart: dict[tuple[tuple[str, ...], str], list[tuple[Experiment, dict[str, Any], _Told]]] = {}
    for place, head, told in by_unit(fleet, work):
        for test, own in zip(fleet.units[place].experiments, told, strict=True):
            parts = [(test, head, own)]
            if test.together:
                parts = apart.setdefault((test.together, test.name), [])
                parts.append((test, head, own))
                if sum(part.share for part, _, _ in parts) < 1 - ROUNDING:
                    continue
            lift, value, spend = (np.sum(one, axis=0) for one in zip(*(own for _, _, own in parts), strict=True))
            long_table.add(_head_of(fleet, parts), {}, _row(test, lift, value, spend))
    return long_table.table()


def _head_of(fleet: Fleet, parts: list[tuple[Experiment, dict[str, Any], "_Told"]]) -> dict[str, Any]:
    """Labels and status of the unit, or the labels that the table has for several and every status that these have."""
    test, head, _ = parts[0]
    if not test.together:
        return head
    statuses = "; ".join(sorted({head["status"] for _, head, _ in parts}))
    return {**dict(zip(fleet.keys, test.together, strict=True)), "status": statuses}


def _row(
    test: Experiment,
    lift: Float[np.ndarray, " draw"],
    value: Float[np.ndarray, "channel draw"],
    spend: Float[np.ndarray, " channel"],
) -> dict[str, Any]:
    found = without(test, lift)
    low, high = expected(test, lift, found.weight)
    # In the test's own unit: that of a return is per the money that moved.
    even, own = np.full(len(lift), 1 / len(lift)), lift / test.per
    places = list(test.places)
    paid = float(spend[places].sum())
    roi = value[places].sum(axis=0) / paid if paid > 0 else np.full(len(lift), np.nan)
    now, then = (_spread(own, weight) for weight in (even, found.weight))
    before, after = float(roi @ found.weight), float(roi.mean())
    return {
        "test": test.name,
        "channel": " + ".join(test.channels),
        "start": test.start,
        "end": test.end,
        "measure": test.measure,
        "estimate": test.given,
        "sd": test.sd / abs(test.per),
        **{f"with_{name}": part for name, part in zip(("mean", "q025", "q975"), now, strict=True)},
        **{f"without_{name}": part for name, part in zip(("mean", "q025", "q975"), then, strict=True)},
        "expected_q025": low,
        "expected_q975": high,
        "tail": found.tail,
        "conflict": found.tail < CONFLICT,
        "k_hat": found.shape,
        "roi_with": after,
        "roi_without": before,
        "statement": _statement(found, before, after, conflict=found.tail < CONFLICT),
    }


def _spread(values: Float[np.ndarray, " draw"], weight: Float[np.ndarray, " draw"]) -> _Spread:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) - weight[order] / 2
    low, high = np.interp((0.025, 0.975), share, values[order])
    return _Spread(float(values @ weight), float(low), float(high))


def _statement(found: Without, before: float, after: float, *, conflict: bool) -> str:
    about = "about " if found.shape > BAD_TAIL else ""
    moved = "" if np.isnan(after) else f"; with it the return is {after:.2f}, without it {about}{before:.2f}"
    if conflict:
        return f"at odds with everything else, which leaves it a chance of {about}{found.tail:.2g}{moved}"
    if found.shape > BAD_TAIL:
        return f"says more than everything else: fit without it to know what it moved{moved}"
    return f"agrees with everything else{moved}"
