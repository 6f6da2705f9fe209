"""Where the coming weeks' money would bring most, against today's plan, on the draws of a finished run."""

import difflib
from dataclasses import fields, replace
from typing import Unpack

import numpy as np

from mixfleet.analysis.economics import Economics, unit_rates
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.budgeting.frontier import efficient_frontier
from mixfleet.budgeting.outcome import SpendOutcome, outcome_of_spend
from mixfleet.budgeting.plan import Plan, make_plan
from mixfleet.budgeting.problem import Problem
from mixfleet.budgeting.request import BudgetOptions, BudgetRequest
from mixfleet.budgeting.value_of_information import experiment_values
from mixfleet.config import Business
from mixfleet.errors import ConfigError

__all__ = ["plan_budget"]


def plan_budget(fleet: Fleet, **request: Unpack[BudgetOptions]) -> Plan:
    """The plan that brings most.

    Args:
        fleet: Units and draws of a finished run.
        **request: What is asked; `BudgetRequest` says what each field means.

    Raises:
        ConfigError: An option is wrong, or no plan fulfils all of them; says why.
    """
    known = [field.name for field in fields(BudgetRequest)]
    if unknown := [name for name in request if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        raise ConfigError(f"unknown option; {remedy}", key=f"budget.{unknown[0]}")
    asked = BudgetRequest(**_completed(request, fleet.spec.business))
    if fleet.spec.model.link == "log":
        raise ConfigError(
            "log makes channels multiply each other, of which no plan knows yet: see curves and counterfactual returns",
            key="model.link",
        )
    problem = Problem.of(asked, _spend_outcome(fleet, asked))
    decision = problem.decide(problem.total)
    said = {"aim": asked.aim, "maximise": asked.maximise, "flighting": asked.flighting}
    plan = make_plan(problem.spend_outcome, problem.limits, problem.climb(decision), said)
    extra = {"frontier": efficient_frontier(problem)} if asked.frontier else {}
    if asked.experiment_error is not None:
        extra["experiments"] = experiment_values(problem, decision, asked.experiment_error)
    return replace(plan, extra=extra)


def _completed(request: BudgetOptions, kept: Business) -> BudgetOptions:
    """The request with what the run knows of money where the request does not say it."""
    found: BudgetOptions = {"rates": kept.rates, **request}
    if not kept.margin:
        return found
    by_total = request.get("aim", "mean") == "mean" or request.get("total") is not None
    said = ("maximise", "margin", "target_roi", "target_marginal_roi", "target_outcome")
    profit = request.get("maximise") == "profit" and request.get("margin") is None
    if profit or (by_total and all(request.get(name) is None for name in said)):
        found |= {"maximise": "profit", "margin": kept.margin}
    return found


def _spend_outcome(fleet: Fleet, asked: BudgetRequest) -> SpendOutcome:
    units = [unit.labels for unit in fleet.units]
    rate = unit_rates(asked.rates, fleet.keys, units, absent=fleet.missing, key="budget.rates")
    worth = None
    if asked.maximise == "profit":
        worth = Economics(margin=asked.margin).per_kpi(fleet.keys, units, fleet.missing)[:, 0] * rate
    elif asked.maximise == "kpi":
        worth = np.ones(len(units))
    return outcome_of_spend(fleet, asked.weeks, even=asked.flighting == "even", rate=rate, worth=worth)
