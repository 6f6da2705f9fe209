"""What a report or an export says that money is - margins, exchange rates - and the plan that stands in it."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from mixfleet.analysis.economics import unit_rates
from mixfleet.analysis.insight import Insight
from mixfleet.budgeting.plan import Plan
from mixfleet.budgeting.request import BudgetOptions, BudgetRequest

__all__ = ["money_notes", "usual_request"]

RATES = "budget.rates"


def usual_request(insight: Insight, rates: Mapping[str, float]) -> BudgetOptions:
    """The request of a plan with the usual limits: of profit where the insight has a margin, converted by the rates.

    Raises:
        ConfigError: A rate is none, a selector fits no unit, or a unit has no rate.
    """
    fleet, margin = insight.fleet, insight.economics.margin
    unit_rates(rates, fleet.keys, [unit.labels for unit in fleet.units], absent=fleet.missing, key=RATES)
    request: BudgetOptions = {"rates": rates, "maximise": "outcome" if margin is None else "profit", "margin": margin}
    BudgetRequest(**request)
    return request


def money_notes(plan: Plan, insight: Insight, rates: Mapping[str, float]) -> list[str]:
    """What the plan takes a KPI or a currency to be worth where the insight and these rates do not.

    Raises:
        ConfigError: As in `usual_request`.
    """
    units = [unit.labels for unit in insight.fleet.units]
    keys, given = insight.fleet.keys, insight.economics.given
    absent = insight.fleet.missing
    worth = insight.economics.per_kpi(keys, units, absent)
    margins = worth[:, given.index("margin")] if "margin" in given else None
    rate = unit_rates(rates, keys, units, absent=absent, key=RATES) if rates else None
    return [*_about_margins(plan, insight, margins), *_about_rates(plan, insight, rate)]


def _about_margins(plan: Plan, insight: Insight, margins: Float[np.ndarray, " unit"] | None) -> Iterator[str]:
    again = "repeat mixfleet budget with --maximise profit and --margin"
    if margins is not None and "margin" not in plan.cells.column_names:
        yield f"the plan was made without the margin that the profit of this page rests on: {again}"
    elif margins is not None:
        if found := _other(plan, insight, "margin", margins):
            yield f"the plan was made with other margins, such as {found}: {again}"
    elif "margin" in plan.cells.column_names:
        found = _example(plan, insight, "margin")
        yield f"the plan's gain is of profit by margins that the rest of this page does not know, such as {found}"


def _about_rates(plan: Plan, insight: Insight, rate: Float[np.ndarray, " unit"] | None) -> Iterator[str]:
    again = "repeat mixfleet budget with --rate"
    if rate is not None and "rate" not in plan.cells.column_names:
        if np.any(rate != 1):
            yield f"the plan was made without the rates that were given for this page: {again}"
    elif rate is not None and (found := _other(plan, insight, "rate", rate)):
        yield f"the plan was made with other rates, such as {found}: {again}"
    if "rate" in plan.cells.column_names:
        found = _example(plan, insight, "rate")
        yield f"the plan's money is converted, by {found} and so on; other money here is in each unit's currency"


def _other(plan: Plan, insight: Insight, column: str, wanted: Float[np.ndarray, " unit"]) -> str:
    """The first unit whose number in the plan is another than here; empty if there is none."""
    planned = _numbers(plan, insight, column)
    for unit, here in zip(insight.fleet.units, wanted.tolist(), strict=True):
        found = planned[unit.labels] if unit.labels in planned else here
        if not math.isclose(found, here, rel_tol=1e-9):
            return f"{found:g} for {' / '.join(unit.labels)}, where this page has {here:g}"
    return ""


def _example(plan: Plan, insight: Insight, column: str) -> str:
    numbers = _numbers(plan, insight, column)
    unit = next((unit for unit, number in numbers.items() if number != 1), next(iter(numbers)))
    return f"{numbers[unit]:g} for {' / '.join(unit)}"


def _numbers(plan: Plan, insight: Insight, column: str) -> dict[tuple[str, ...], float]:
    """A unit's number in the plan, of units that have cells."""
    rows = plan.cells.select([*insight.fleet.keys, column]).to_pylist()
    return {tuple(row[key] for key in insight.fleet.keys): row[column] for row in rows}
