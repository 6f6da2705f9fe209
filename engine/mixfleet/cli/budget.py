"""`mixfleet budget`, whose options are the fields of `BudgetRequest`."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_origin, get_type_hints

import typer

import mixfleet
from mixfleet import runtime
from mixfleet.analysis.selectors import ALL
from mixfleet.budgeting.request import BudgetOptions, BudgetRequest
from mixfleet.cli import printing
from mixfleet.cli.console import AsJson, Exclude, Include, RunPath, Terminal, errors_shown, open_run
from mixfleet.errors import ConfigError

__all__ = ["OPTIONS", "budget", "read_number"]


def _range(text: str, form: str, name: str) -> tuple[str, tuple[float, float]]:
    """Selector, and least and greatest; an end that is left out is no limit."""
    selector, *limits = text.rsplit(":", 2)
    return selector, _limits(limits, text, form, name)


def _ratio(text: str, form: str, name: str) -> tuple[tuple[str, str], tuple[float, float]]:
    parts = text.rsplit(":", 3)
    limits = _limits(parts[2:], text, form, name)
    return (parts[0], parts[1]), limits


def read_number(text: str, form: str, key: str) -> tuple[str, float]:
    """Selector and number; a number alone is for all."""
    selector, _, number = text.rpartition(":")
    try:
        return selector or ALL, float(number)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form {form}", key=key) from error


def _number(text: str, form: str, name: str) -> tuple[str, float]:
    return read_number(text, form, f"budget.{name}")


def _limits(limits: Sequence[str], text: str, form: str, name: str) -> tuple[float, float]:
    try:
        low, high = limits
        return float(low or 0), float(high or "inf")
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form {form}", key=f"budget.{name}") from error


Reader = Callable[[str, str, str], tuple[Any, Any]]


@dataclass(frozen=True)
class Option:
    """How the command line asks for one field of `BudgetRequest`."""

    help: str
    flag: str = ""
    """Its name without dashes, where it is not the field's."""
    form: str = ""
    """Of what is given as many times as there are entries: how one is written."""
    read: Reader | None = None
    """Key and value of one entry."""


OPTIONS = {
    "total": Option("Spend of the coming weeks; today's by default."),
    "target_roi": Option("Spend as much as returns so many times itself."),
    "target_marginal_roi": Option("Spend until the last one returns it."),
    "target_outcome": Option("Spend the least that brings so much."),
    "weeks": Option("Weeks to plan; today's plan is that of as many last weeks."),
    "change": Option("Greatest change of any channel in a unit, 0.3 is 30 %."),
    "bounds": Option("Other limits, x today's.", "bound", "channel=tv,market=DE:0.5:2", _range),
    "bounds_money": Option("The same in money.", "bound-money", "channel=tv:5000:20000", _range),
    "lock": Option("What stays as it is: market=DE, or channel=tv."),
    "within": Option("Key column: money stays within each of its values."),
    "groups": Option("Limits of a sum in all units, x today's.", "group", "channel=tv:0.9:1.2", _range),
    "groups_money": Option("The same in money.", "group-money", "market=DE:5000:20000", _range),
    "shares": Option("Limits of a share of the total.", "share", "channel=tv:0.2:0.4", _range),
    "ratios": Option("One sum per another.", "ratio", "channel=tv:channel=search:1:2", _ratio),
    "steps": Option("Spends are multiples.", "step", "channel=tv:1000", _number),
    "flights": Option("Nothing, or at least so much.", "flight", "channel=tv:50000", _number),
    "rates": Option("Plan's currency per unit's: 1 for all, then others.", "rate", "market=US:0.92", _number),
    "maximise": Option("outcome, profit or kpi; profit where the run has a margin."),
    "margin": Option("Earned per KPI, for profit: 0.4 for all, then others.", "margin", "market=DE:0.3", _number),
    "aim": Option("mean, cvar, quantile, mean_less_spread or beat_today."),
    "level": Option("Share of the worst draws that cvar and quantile look at."),
    "spread": Option("Standard deviations that mean_less_spread takes off."),
    "flighting": Option("today's weekly pattern, even, or free."),
    "week_bounds": Option(
        "Free weeks, x an average week.", "week-bound", "channel=tv@2026-01-05..2026-02-01:0:2", _range
    ),
    "lock_weeks": Option("Weeks that stay: all@2026-01-05..2026-01-25."),
    "frontier": Option("Also the best plans of other totals."),
    "experiment_error": Option("Also what experiments as exact are worth."),
}
"""By field of `BudgetRequest`; a test holds the two lists equal."""

KEPT_WITH_THE_RUN = "maximise"
"""Field that follows from what is kept with the run where nobody says it."""


def _signature() -> inspect.Signature:
    """The command's parameters: the run, one option for each field with the field's default, and where to write."""
    empty = inspect.Parameter.empty
    parameters: list[tuple[str, Any, Any]] = [("run", RunPath, empty)]
    hints = get_type_hints(BudgetRequest)
    for field in dataclasses.fields(BudgetRequest):
        option = OPTIONS[field.name]
        flag = "--" + (option.flag or field.name.replace("_", "-"))
        text = f"{option.help} {option.form}" if option.form else option.help
        repeated = option.read is not None or get_origin(hints[field.name]) is Sequence
        typed = list[str] | None if repeated else _scalar(hints[field.name])
        default = None if repeated else field.default
        if field.name == KEPT_WITH_THE_RUN:
            typed, default = str | None, None
        parameters.append((field.name, Annotated[typed, typer.Option(flag, help=text)], default))
    out = Annotated[Path | None, typer.Option(help="Folder of the plan; budget/ in the run by default.")]
    parameters += [("out", out, None), ("include", Include, None), ("exclude", Exclude, None)]
    parameters += [("as_json", AsJson, False)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [inspect.Parameter(name, keyword, annotation=hint, default=default) for name, hint, default in parameters]
    )


def _scalar(hint: Any) -> Any:
    """A field's type as an option's: a choice of words is a text, whose words the request checks."""
    return str if get_origin(hint) is Literal else hint


def budget(
    run: Path,
    out: Path | None,
    include: list[str] | None,
    exclude: list[str] | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Plans where the coming weeks' money brings most: mixfleet budget runs/2026-11-21 --change 0.2."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude)
        plan = opened.budget(**_request(given))
        files = plan.save(out or opened.path / "budget")
        # Loaded with the plan, and not when a command starts.
        from mixfleet.reporting.answers import Terms, plan_answer
        from mixfleet.reporting.numbers import Wording

        say = Wording.of(opened.insight.fleet)
        printing.print_plan(terminal.out, plan, files, say)
        lines = [say(one.text) for one in plan_answer(plan, Terms.of(opened.manifest))]
        weekly = next(path for path in files if path.name == "plan_by_week.csv")
        printing.print_answer(terminal.out, lines, f"mixfleet forecast {opened.place} --plan {weekly}")
        answer = {"summary": lines, "files": [str(path) for path in files]}
        terminal.finish({"command": "budget", **plan.totals, **answer}, 0)


budget.__signature__ = _signature()  # pyright: ignore[reportFunctionMemberAccess]
budget.__annotations__ = {name: one.annotation for name, one in _signature().parameters.items()}


def _request(given: Mapping[str, Any]) -> BudgetOptions:
    """Fields of the request; what may be given several times is read entry by entry."""
    request = dict(given)
    for field, option in OPTIONS.items():
        if option.read is not None:
            request[field] = dict(option.read(text, option.form, field) for text in request[field] or ())
        elif field in ("lock", "within", "lock_weeks"):
            request[field] = tuple(request[field] or ())
    # What is kept with the run holds where nothing is said.
    for field in ("margin", "rates", KEPT_WITH_THE_RUN):
        if not request[field]:
            del request[field]
    return cast(BudgetOptions, request)
