"""`mixfleet report`, `export`, `forecast` and `counterfactual`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

import mixfleet
from mixfleet import runtime
from mixfleet.cli import printing
from mixfleet.cli.budget import read_number
from mixfleet.cli.console import AsJson, Exclude, Include, RunPath, Terminal, errors_shown, open_run
from mixfleet.config.presets import read_settings
from mixfleet.errors import counted
from mixfleet.storage.table_files import write_tables

__all__ = ["business", "compare", "counterfactual", "export", "forecast", "report", "sensitivity", "slides"]

ALERTED = 1
"""Exit code of a comparison with alerts."""

Margin = Annotated[
    list[str] | None, typer.Option(help="Earned per KPI before media: 0.4 for all units, market=DE:0.3 for some.")
]
CustomerValue = Annotated[
    list[str] | None, typer.Option(help="What a customer brings, where the KPI is new customers; like --margin.")
]
Retention = Annotated[
    str | None, typer.Option(help="Share of new customers still there, period by period: 1,0.6,0.45.")
]

Rate = Annotated[
    list[str] | None, typer.Option(help="Plan's currency per unit's, of the plan: 1 for all, market=US:0.92 for some.")
]

MONEY = "0.4 or market=DE:0.3"
"""How a number for all units or for some is written."""


def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The file; report.html in the run by default.")] = None,
    margin: Margin = None,
    customer_value: CustomerValue = None,
    retention: Retention = None,
    rate: Rate = None,
    since: Annotated[Path | None, typer.Option(help="Earlier run to show the changes since.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Writes one HTML file that needs no network: mixfleet report runs/2026-11-21."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude)
        path = opened.report(out, since=since, rates=_rates(rate), **_economics(margin, customer_value, retention))
        printing.print_path(terminal.out, "report", path)
        terminal.finish({"command": "report", "report": str(path)}, 0)


def export(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder of the tables; tables/ in the run by default.")] = None,
    kind: Annotated[str, typer.Option("--format", help="csv, parquet or xlsx.")] = "csv",
    margin: Margin = None,
    customer_value: CustomerValue = None,
    retention: Retention = None,
    rate: Rate = None,
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Writes every table of a run for a spreadsheet: mixfleet export runs/2026-11-21 --format xlsx."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude)
        given = _economics(margin, customer_value, retention)
        files = opened.export(out or opened.path / "tables", kind, rates=_rates(rate), **given)
        for path in files:
            printing.print_path(terminal.out, "table", path)
        terminal.finish({"command": "export", "files": [str(path) for path in files]}, 0)


def slides(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The file; slides.pptx in the run by default.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Writes the report's pages on the fleet as PowerPoint slides: mixfleet slides runs/2026-11-21."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        path = open_run(run, include, exclude).slides(out)
        printing.print_path(terminal.out, "slides", path)
        terminal.finish({"command": "slides", "slides": str(path)}, 0)


def business(
    run: RunPath,
    margin: Margin = None,
    customer_value: CustomerValue = None,
    retention: Retention = None,
    rate: Rate = None,
    fiscal_year_start: Annotated[int | None, typer.Option(help="Month in which the business' year begins.")] = None,
    locale: Annotated[
        str | None, typer.Option(help="How numbers are written, such as de_DE; tables stay as they are.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keeps with a run what report, plan and export take money to be: mixfleet business RUN --margin 0.4."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        opened = mixfleet.open(run)
        given = _economics(margin, customer_value, retention)
        given |= {"rates": _rates(rate)} if rate else {}
        said = {"fiscal_year_start": fiscal_year_start, "locale": locale}
        given |= {name: value for name, value in said.items() if value is not None}
        kept = mixfleet.config.to_mapping(opened.keep(**given).business if given else opened.business)
        for name, value in kept.items():
            terminal.out.print(f"{name}: {value or 'not said'}", markup=False, highlight=False)
        terminal.finish({"command": "business", **kept}, 0)


def compare(
    before: Annotated[Path, typer.Argument(help="Folder of the earlier run.")],
    after: Annotated[Path, typer.Argument(help="Folder of the later run.")],
    threshold: Annotated[float, typer.Option(help="Posterior sds that a change of ROI must exceed.")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="Folder of the tables; changes/ in the run by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Says what changed between two runs, and why: mixfleet compare runs/monday runs/tuesday."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        run = mixfleet.open(after)
        found = run.compare(before, threshold=threshold)
        tables = {"changed_units": found.units, "changes": found.roi, "change_links": found.links}
        files = write_tables(tables, out or run.path / "changes", "csv", name="changes")
        counts = dict(Counter(found.units["change"].to_pylist()))
        said = ", ".join(f"{count} {change}" for change, count in sorted(counts.items()))
        terminal.out.print(f"units: {said or 'none'}; {counted(len(found.alerts), 'alert')}", markup=False)
        if found.not_split:
            terminal.out.print(f"changes are not split: {found.not_split}", markup=False, soft_wrap=True)
        from mixfleet.reporting.numbers import Wording  # loaded with the run, and not when a command starts

        for line in Wording.of(run.fleet(draws=1)).each(found.alerts) if run.keeps_draws else found.alerts:
            terminal.out.print(printing.printable(line), markup=False, highlight=False, soft_wrap=True)
        for path in files:
            printing.print_path(terminal.out, "table", path)
        answer = {"command": "compare", "units": counts, "alerts": list(found.alerts), "not_split": found.not_split}
        terminal.finish({**answer, "files": [str(path) for path in files]}, ALERTED if found.alerts else 0)


def forecast(
    run: RunPath,
    plan: Annotated[Path | None, typer.Option(help="Keys, channel, date, spend; nothing is spent by default.")] = None,
    weeks: Annotated[int | None, typer.Option(help="Weeks ahead; by default to the end of the plan, or 13.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Key column to sum over units by.")] = None,
    period: Annotated[str, typer.Option(help="all, year, quarter, month or week.")] = "week",
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Says what the coming weeks bring under a plan: mixfleet forecast RUN --plan RUN/budget/plan_by_week.csv."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude, frame="pyarrow")
        table = opened.insight.forecast(plan, weeks=weeks, by=by or None, period=period)
        # The one for a spreadsheet, the other for the report and the export.
        path, _ = write_tables({"forecast": table}, opened.path / "forecast", "csv", "parquet", name="forecast")
        # Loaded with the run, and not when a command starts.
        from mixfleet.reporting.answers import Terms, forecast_answer
        from mixfleet.reporting.numbers import Wording

        insight = opened.insight
        weekly = table if period == "week" else insight.forecast(plan, weeks=weeks, by=(), period="week")
        days = sorted(weekly["period"].unique().to_pylist())
        total = insight.forecast(plan, weeks=weeks, by=()).to_pylist()
        said = forecast_answer(
            insight.fleet, total, (days[0], days[-1]), Terms.of(opened.manifest), planned=plan is not None
        )
        lines = Wording.of(insight.fleet).each(one.text for one in said)
        printing.print_answer(terminal.out, lines, f"mixfleet report {opened.place}")
        printing.print_path(terminal.out, "forecast", path)
        terminal.finish({"command": "forecast", "summary": lines, "forecast": str(path)}, 0)


def counterfactual(
    run: RunPath,
    plan: Annotated[Path, typer.Option(help="Keys, channel, date, spend; what it does not name stays as it was.")],
    by: Annotated[list[str] | None, typer.Option(help="Key column to sum over units by.")] = None,
    period: Annotated[str, typer.Option(help="all, year, quarter, month or week.")] = "all",
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Says what past weeks would have brought under another plan: mixfleet counterfactual RUN --plan other.csv."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude, frame="pyarrow")
        table = opened.insight.counterfactual(plan, by=by or None, period=period)
        [path] = write_tables({"counterfactual": table}, opened.path / "counterfactual", "csv", name="counterfactual")
        from mixfleet.reporting.answers import Terms, counterfactual_answer
        from mixfleet.reporting.numbers import Wording

        total = opened.insight.counterfactual(plan, by=())
        said = counterfactual_answer(total.to_pylist(), Terms.of(opened.manifest))
        lines = Wording.of(opened.insight.fleet).each(one.text for one in said)
        printing.print_path(terminal.out, "counterfactual", path)
        printing.print_answer(terminal.out, lines, f"mixfleet budget {opened.place}")
        terminal.finish({"command": "counterfactual", "summary": lines, "counterfactual": str(path)}, 0)


def sensitivity(
    run: RunPath,
    priors: Annotated[Path | None, typer.Option(help="Settings file: by name, the parameters of other priors.")] = None,
    refit: Annotated[bool, typer.Option(help="Fit the units whose draws cannot tell.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the table; sensitivity/ in the run by default.")] = None,
    include: Include = None,
    exclude: Exclude = None,
    as_json: AsJson = False,
) -> None:
    """Says how far other priors would move what each channel brings, by the run's draws: mixfleet sensitivity RUN."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        opened = open_run(run, include, exclude, frame="pyarrow")
        asked = None if priors is None else read_settings(priors)
        table = mixfleet.sensitivity(opened, asked) if refit else opened.insight.sensitivity(asked)
        [path] = write_tables({"sensitivity": table}, out or opened.path / "sensitivity", "csv", name="sensitivity")
        from mixfleet.reporting.answers import sensitivity_answer
        from mixfleet.reporting.numbers import Wording

        fleet = opened.insight.fleet
        lines = Wording.of(fleet).each(one.text for one in sensitivity_answer(table.to_pylist(), fleet.keys))
        printing.print_answer(terminal.out, lines, f"mixfleet report {opened.place}")
        printing.print_path(terminal.out, "sensitivity", path)
        terminal.finish({"command": "sensitivity", "summary": lines, "sensitivity": str(path)}, 0)


def _rates(rate: list[str] | None) -> dict[str, float]:
    return dict(read_number(text, "1 or market=US:0.92", "budget.rates") for text in rate or ())


def _economics(margin: list[str] | None, customer_value: list[str] | None, retention: str | None) -> dict[str, Any]:
    """Fields of `mixfleet.analysis.economics.Economics`, those that were given."""
    money = {"margin": margin, "customer_value": customer_value}
    found: dict[str, Any] = {
        name: dict(read_number(text, MONEY, f"economics.{name}") for text in texts)
        for name, texts in money.items()
        if texts
    }
    if retention is not None:
        key = "economics.retention"
        found["retention"] = tuple(read_number(text, "1,0.6,0.45", key)[1] for text in retention.split(","))
    return found
