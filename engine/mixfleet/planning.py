"""Planning: where the coming weeks' money would bring most, against today's plan, on the draws of a finished run."""

from typing import Any

from mixfleet.fleet import Fleet
from mixfleet.outlook import look_ahead
from mixfleet.plan import Plan, make_plan
from mixfleet.problem import Problem
from mixfleet.wish import Wish

__all__ = ["plan_budget"]


def plan_budget(fleet: Fleet, **wish: Any) -> Plan:
    """The plan that brings most.

    Args:
        fleet: Units and draws of a finished run.
        **wish: Fields of `mixfleet.wish.Wish`, which says what each means.

    Raises:
        ConfigError: A wish is wrong, or no plan fulfils all of them; says why.
    """
    asked = Wish(**wish)
    outlook = look_ahead(fleet, asked.weeks, even=asked.flighting == "even")
    problem = Problem.of(asked, outlook)
    return make_plan(outlook, problem.limits, problem.solve(problem.total), problem.binding, aim=asked.aim)
