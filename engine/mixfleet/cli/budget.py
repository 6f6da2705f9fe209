"""Budgeting: `mixfleet budget`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import mixfleet
from mixfleet import runtime
from mixfleet.analysis.selectors import ALL
from mixfleet.cli import printing
from mixfleet.cli.console import AsJson, RunPath, Terminal, errors_shown
from mixfleet.errors import ConfigError

__all__ = ["budget"]

Texts = list[str] | None


def budget(
    run: RunPath,
    total: Annotated[float | None, typer.Option(help="Spend of the coming weeks; today's by default.")] = None,
    target_roi: Annotated[float | None, typer.Option(help="Spend as much as returns so many times itself.")] = None,
    target_marginal_roi: Annotated[float | None, typer.Option(help="Spend until the last one returns it.")] = None,
    target_outcome: Annotated[float | None, typer.Option(help="Spend the least that brings so much.")] = None,
    weeks: Annotated[int, typer.Option(help="Weeks to plan; today's plan is that of as many last weeks.")] = 13,
    change: Annotated[float, typer.Option(help="Greatest change of any channel in a unit, 0.3 is 30 %.")] = 0.3,
    bound: Annotated[Texts, typer.Option(help="Other limits: channel=tv,market=DE:0.5:2 x today's.")] = None,
    bound_money: Annotated[Texts, typer.Option(help="The same in money: channel=tv:5000:20000.")] = None,
    lock: Annotated[Texts, typer.Option(help="What stays as it is: market=DE, or channel=tv.")] = None,
    within: Annotated[Texts, typer.Option(help="Key column: money stays within each of its values.")] = None,
    group: Annotated[Texts, typer.Option(help="Limits of a sum: channel=tv:0.9:1.2 x today's, in all units.")] = None,
    group_money: Annotated[Texts, typer.Option(help="The same in money: market=DE:5000: without an end.")] = None,
    share: Annotated[Texts, typer.Option(help="Limits of a share of the total: channel=tv:0.2:0.4.")] = None,
    ratio: Annotated[Texts, typer.Option(help="One sum per another: channel=tv:channel=search:1:2.")] = None,
    step: Annotated[Texts, typer.Option(help="Spends are multiples: channel=tv:1000.")] = None,
    flight: Annotated[Texts, typer.Option(help="Nothing, or at least so much: channel=tv:50000.")] = None,
    aim: Annotated[str, typer.Option(help="mean, cvar, quantile, mean_less_spread or beat_today.")] = "mean",
    level: Annotated[float, typer.Option(help="Share of the worst draws that cvar and quantile look at.")] = 0.1,
    spread: Annotated[float, typer.Option(help="Standard deviations that mean_less_spread takes off.")] = 1.0,
    flighting: Annotated[str, typer.Option(help="today's weekly pattern, even, or free.")] = "today",
    week_bound: Annotated[Texts, typer.Option(help="channel=tv@2026-01-05..2026-02-01:0:2 x an average week.")] = None,
    lock_weeks: Annotated[Texts, typer.Option(help="Weeks that stay: all@2026-01-05..2026-01-25.")] = None,
    rate: Annotated[Texts, typer.Option(help="Plan's currency per unit's: 1, then market=US:0.92.")] = None,
    maximise: Annotated[str, typer.Option(help="outcome, profit or kpi.")] = "outcome",
    margin: Annotated[Texts, typer.Option(help="Earned per KPI, for profit: 0.4, then market=DE:0.3.")] = None,
    frontier: Annotated[bool, typer.Option("--frontier", help="Also the best plans of other totals.")] = False,
    experiment_error: Annotated[float | None, typer.Option(help="Also what experiments as exact are worth.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the plan; budget/ in the run by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plans where the coming weeks' money brings most: mixfleet budget runs/2026-11-21 --change 0.2."""
    given = locals()
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = mixfleet.open(run)
        plan = opened.budget(**_wish(given))
        files = plan.save(out or opened.path / "budget")
        printing.print_plan(terminal.out, plan, files)
        terminal.finish({"command": "budget", **plan.totals, "files": [str(path) for path in files]}, 0)


def _wish(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the wish: options that may be repeated have a form of their own."""
    request = {name: value for name, value in given.items() if name not in ("run", "out", "as_json")}
    for option, (name, form, read) in FORMS.items():
        request[name] = dict(read(text, form, name) for text in request.pop(option) or ())
    for name in ("lock", "within", "lock_weeks"):
        request[name] = tuple(request[name] or ())
    request["margin"] = request["margin"] or None
    return request


def _range(text: str, form: str, name: str) -> tuple[str, tuple[float, float]]:
    """Selector, and least and greatest; an end that is left out is no limit."""
    selector, *limits = text.rsplit(":", 2)
    return selector, _limits(limits, text, form, name)


def _ratio(text: str, form: str, name: str) -> tuple[tuple[str, str], tuple[float, float]]:
    parts = text.rsplit(":", 3)
    limits = _limits(parts[2:], text, form, name)
    return (parts[0], parts[1]), limits


def _number(text: str, form: str, name: str) -> tuple[str, float]:
    """Selector and number; a number alone is for all."""
    selector, _, number = text.rpartition(":")
    try:
        return selector or ALL, float(number)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form {form}", key=f"budget.{name}") from error


def _limits(limits: Sequence[str], text: str, form: str, name: str) -> tuple[float, float]:
    try:
        low, high = limits
        return float(low or 0), float(high or "inf")
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form {form}", key=f"budget.{name}") from error


FORMS = {
    "bound": ("bounds", "channel=tv,market=DE:0.5:2", _range),
    "bound_money": ("bounds_money", "channel=tv:5000:20000", _range),
    "group": ("groups", "channel=tv:0.9:1.2", _range),
    "group_money": ("groups_money", "market=DE:5000:20000", _range),
    "share": ("shares", "channel=tv:0.2:0.4", _range),
    "ratio": ("ratios", "channel=tv:channel=search:1:2", _ratio),
    "step": ("steps", "channel=tv:1000", _number),
    "flight": ("flights", "channel=tv:50000", _number),
    "week_bound": ("week_bounds", "channel=tv@2026-01-05..2026-02-01:0:2", _range),
    "rate": ("rates", "market=US:0.92", _number),
    "margin": ("margin", "market=DE:0.3", _number),
}
"""Option -> field of the wish, its form, and what reads it."""
