"""Budgeting: `mixfleet budget`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import mixfleet
from mixfleet import backend, closing
from mixfleet.errors import ConfigError
from mixfleet.terminal import AsJson, RunPath, Terminal, errors_shown

__all__ = ["budget"]


def budget(
    run: RunPath,
    total: Annotated[float | None, typer.Option(help="Spend of the coming weeks; today's by default.")] = None,
    target_roi: Annotated[float | None, typer.Option(help="Spend as much as returns so many times itself.")] = None,
    target_marginal_roi: Annotated[float | None, typer.Option(help="Spend until the last one returns it.")] = None,
    target_outcome: Annotated[float | None, typer.Option(help="Spend the least that brings so much.")] = None,
    weeks: Annotated[int, typer.Option(help="Weeks to plan; today's plan is that of as many last weeks.")] = 13,
    change: Annotated[float, typer.Option(help="Greatest change of any channel in a unit, 0.3 is 30 %.")] = 0.3,
    bound: Annotated[list[str] | None, typer.Option(help="Other limits: channel=tv,market=DE:0.5:2 x today's.")] = None,
    lock: Annotated[list[str] | None, typer.Option(help="What stays as it is: market=DE, or channel=tv.")] = None,
    within: Annotated[list[str] | None, typer.Option(help="Key column: money stays within each of its values.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Sums: channel=tv:0.9:1.2 x today's, in all units.")] = None,
    group_money: Annotated[list[str] | None, typer.Option(help="Sums in money: market=DE:5000:, no end.")] = None,
    share: Annotated[list[str] | None, typer.Option(help="Share of the total: channel=tv:0.2:0.4.")] = None,
    ratio: Annotated[list[str] | None, typer.Option(help="One for another: channel=tv:channel=search:1:2.")] = None,
    aim: Annotated[str, typer.Option(help="mean, cvar, quantile or mean_less_spread.")] = "mean",
    level: Annotated[float, typer.Option(help="Share of the worst draws that cvar and quantile look at.")] = 0.1,
    spread: Annotated[float, typer.Option(help="Standard deviations that mean_less_spread takes off.")] = 1.0,
    flighting: Annotated[str, typer.Option(help="today's weekly pattern, or even.")] = "today",
    out: Annotated[Path | None, typer.Option(help="Folder of the plan; budget/ in the run by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plans where the coming weeks' money brings most: mixfleet budget runs/2026-11-21 --change 0.2."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        opened = mixfleet.open(run)
        plan = opened.budget(
            total=total,
            target_roi=target_roi,
            target_marginal_roi=target_marginal_roi,
            target_outcome=target_outcome,
            weeks=weeks,
            change=change,
            bounds=_ranges(bound, "bounds"),
            lock=tuple(lock or ()),
            within=tuple(within or ()),
            groups=_ranges(group, "groups"),
            groups_money=_ranges(group_money, "groups_money"),
            shares=_ranges(share, "shares"),
            ratios=_ratios(ratio),
            aim=aim,
            level=level,
            spread=spread,
            flighting=flighting,
        )
        files = plan.save(out or opened.path / "budget")
        closing.print_plan(terminal.out, plan, files)
        terminal.finish({"command": "budget", **plan.totals, "files": [str(path) for path in files]}, 0)


def _ranges(texts: Sequence[str] | None, name: str) -> dict[str, tuple[float, float]]:
    """Selector to least and greatest; an end that is left out is no limit."""
    found = {}
    for text in texts or ():
        selector, *limits = text.rsplit(":", 2)
        found[selector] = _range(limits, text, "channel=tv,market=DE:0.5:2", name)
    return found


def _ratios(texts: Sequence[str] | None) -> dict[tuple[str, str], tuple[float, float]]:
    found = {}
    for text in texts or ():
        *selectors, low, high = text.rsplit(":", 3)
        limits = _range([low, high] if len(selectors) == 2 else [], text, "channel=tv:channel=search:1:2", "ratios")
        found[selectors[0], selectors[1]] = limits
    return found


def _range(limits: Sequence[str], text: str, form: str, name: str) -> tuple[float, float]:
    try:
        low, high = limits
        return float(low or 0), float(high or "inf")
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form {form}", key=f"budget.{name}") from error
