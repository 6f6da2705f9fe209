"""Command line: `mixfleet fit`, `check`, `budget`, `forecast`, `report`, `export`, `calibrate` and `doctor`.

Exit codes: 0 all units ok, 1 finished but some units are not, 2 a setting is wrong or the run folder cannot
be used, 3 the table cannot be read at all, 130 interrupted (repeat the command with its run.id to go on).
"""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import mixfleet
from mixfleet import backend, closing
from mixfleet.composition import PRIMARY, Point, Request, compose_spec, groups, sweep_points
from mixfleet.config import RunConfig, Spec
from mixfleet.errors import ConfigError, MixfleetError, TableError
from mixfleet.export import write_tables
from mixfleet.progress import showing
from mixfleet.sweep import comparison, plan, run_sweep, write_comparison

if TYPE_CHECKING:
    from mixfleet.saved import Run

SOME_NOT_OK = 1
INTERRUPTED = 130

_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}


def _groups_help() -> str:
    names = "; ".join(f"{group}={'|'.join(choices)}" for group, choices in groups().items())
    return f"Settings are Hydra overrides: of groups, {names}; and of values, inference.seed=1 run.root=runs."


app = typer.Typer(
    name="mixfleet",
    help="One table in, a whole fleet of Bayesian marketing mix models out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Multirun = Annotated[bool, typer.Option("--multirun", "-m", help="Sweep over all values given as a,b,c.")]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", "-cd", help="Folder of your own groups.")]
ConfigName = Annotated[str, typer.Option("--config-name", "-cn", help="Primary configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Last line of the output is one JSON object.")]


@dataclass(frozen=True, kw_only=True)
class _Terminal:
    """Where a command writes: results to stdout, progress to stderr, and with --json only JSON to stdout."""

    as_json: bool
    out: Console
    err: Console

    @staticmethod
    def of(as_json: bool) -> "_Terminal":
        err = Console(stderr=True)
        return _Terminal(as_json=as_json, out=err if as_json else Console(), err=err)

    def finish(self, answer: Mapping[str, Any], code: int) -> None:
        """Writes the JSON line, where it is asked for, and ends the command."""
        if self.as_json:
            typer.echo(json.dumps({**answer, "exit_code": code}, default=str))
        raise typer.Exit(code)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def fit(
    context: typer.Context,
    multirun: Multirun = False,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Fits every unit of a table: mixfleet fit data=example."""
    terminal = _Terminal.of(as_json)
    request = _request(context, multirun, config_dir, config_name)
    with _errors_shown(terminal):
        points = sweep_points(request)
        if points:
            _fit_sweep(terminal, points)
        spec = _named(compose_spec(request))
        with _resumable(terminal, spec.run):
            start = time.monotonic()
            run = _fit(terminal, spec)
            seconds = time.monotonic() - start
        closing.print_run(terminal.out, run, seconds=seconds)
        terminal.finish(_answer(run, seconds), _exit_code(run))


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def check(
    context: typer.Context,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says what is wrong with a table, without fitting: mixfleet check data=example."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        spec = compose_spec(_request(context, False, config_dir, config_name))
        if spec.data.source == "simulated":
            raise ConfigError("a simulated fleet has no faults to find", key="data.source")
        findings = mixfleet.check(None, spec.data).to_dict("records")
        closing.print_findings(terminal.out, findings)
        found = closing.severities(findings)
        terminal.finish({"command": "check", "findings": found}, SOME_NOT_OK if found["error"] else 0)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def calibrate(
    context: typer.Context,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says by simulation whether posteriors are calibrated: mixfleet calibrate data=simulated."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        spec = compose_spec(_request(context, False, config_dir, config_name))
        if spec.data.source != "simulated":
            raise ConfigError("must be simulated, for only there the truth is known", key="data.source")
        backend.prepare(spec.compute)
        with showing(terminal.err) as show:
            found = mixfleet.calibrate(spec, on_event=show)
        closing.print_calibration(terminal.out, found)
        answer = {"command": "calibrate", "passed": found.passed, "quantities": found.table.to_pylist()}
        terminal.finish(answer, 0 if found.passed else SOME_NOT_OK)


RunPath = Annotated[Path, typer.Argument(help="A run folder, or a folder of runs for the one finished last.")]
Margin = Annotated[
    list[str] | None, typer.Option(help="Earned per KPI before media: 0.4 for all units, market=DE:0.3 for some.")
]
CustomerValue = Annotated[
    list[str] | None, typer.Option(help="What a customer brings, where the KPI is new customers; like --margin.")
]
Retention = Annotated[
    str | None, typer.Option(help="Share of new customers still there, period by period: 1,0.6,0.45.")
]


@app.command()
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
    aim: Annotated[str, typer.Option(help="mean, cvar, quantile or mean_less_spread.")] = "mean",
    level: Annotated[float, typer.Option(help="Share of the worst draws that cvar and quantile look at.")] = 0.1,
    spread: Annotated[float, typer.Option(help="Standard deviations that mean_less_spread takes off.")] = 1.0,
    flighting: Annotated[str, typer.Option(help="today's weekly pattern, or even.")] = "today",
    out: Annotated[Path | None, typer.Option(help="Folder of the plan; budget/ in the run by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plans where the coming weeks' money brings most: mixfleet budget runs/2026-11-21 --change 0.2."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        opened = mixfleet.open(run)
        plan = opened.budget(
            total=total,
            target_roi=target_roi,
            target_marginal_roi=target_marginal_roi,
            target_outcome=target_outcome,
            weeks=weeks,
            change=change,
            bounds=dict(map(_read_bound, bound or [])),
            lock=tuple(lock or ()),
            within=tuple(within or ()),
            aim=aim,
            level=level,
            spread=spread,
            flighting=flighting,
        )
        files = plan.save(out or opened.path / "budget")
        closing.print_plan(terminal.out, plan, files)
        terminal.finish({"command": "budget", **plan.totals, "files": [str(path) for path in files]}, 0)


@app.command()
def report(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="The file; report.html in the run by default.")] = None,
    margin: Margin = None,
    customer_value: CustomerValue = None,
    retention: Retention = None,
    as_json: AsJson = False,
) -> None:
    """Writes one HTML file that needs no network: mixfleet report runs/2026-11-21."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        path = mixfleet.open(run).report(out, **_economics(margin, customer_value, retention))
        closing.print_path(terminal.out, "report", path)
        terminal.finish({"command": "report", "report": str(path)}, 0)


@app.command()
def export(
    run: RunPath,
    out: Annotated[Path | None, typer.Option(help="Folder of the tables; tables/ in the run by default.")] = None,
    kind: Annotated[str, typer.Option("--format", help="csv, parquet or xlsx.")] = "csv",
    margin: Margin = None,
    customer_value: CustomerValue = None,
    retention: Retention = None,
    as_json: AsJson = False,
) -> None:
    """Writes every table of a run for a spreadsheet: mixfleet export runs/2026-11-21 --format xlsx."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        opened = mixfleet.open(run)
        given = _economics(margin, customer_value, retention)
        files = opened.export(out or opened.path / "tables", kind, **given)
        for path in files:
            closing.print_path(terminal.out, "table", path)
        terminal.finish({"command": "export", "files": [str(path) for path in files]}, 0)


@app.command()
def forecast(
    run: RunPath,
    plan: Annotated[Path | None, typer.Option(help="Keys, channel, date, spend; nothing is spent by default.")] = None,
    weeks: Annotated[int | None, typer.Option(help="Weeks ahead; by default to the end of the plan, or 13.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="Key column to sum over units by.")] = None,
    period: Annotated[str, typer.Option(help="all, year, quarter, month or week.")] = "week",
    as_json: AsJson = False,
) -> None:
    """Says what the coming weeks bring under a plan: mixfleet forecast RUN --plan RUN/budget/plan_by_week.csv."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        opened = mixfleet.open(run, frame="pyarrow")
        table = opened.insight.forecast(plan, weeks=weeks, by=by or None, period=period)
        [path] = write_tables({"forecast": table}, opened.path / "forecast", "csv")
        closing.print_path(terminal.out, "forecast", path)
        terminal.finish({"command": "forecast", "forecast": str(path)}, 0)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Shows versions, devices, memory, the compile cache, and what stands in the way."""
    terminal = _Terminal.of(as_json)
    with _errors_shown(terminal):
        backend.prepare(mixfleet.Compute())
        # Starts jax, which the other commands, and --help, do not need so early.
        from mixfleet.doctor import diagnose

        diagnosis = diagnose()
        closing.print_diagnosis(terminal.out, asdict(diagnosis))
        terminal.finish({"command": "doctor", **asdict(diagnosis)}, 0)


def main() -> None:
    """Entry point of the `mixfleet` command."""
    app()


def _read_bound(text: str) -> tuple[str, tuple[float, float]]:
    selector, *limits = text.rsplit(":", 2)
    try:
        low, high = map(float, limits)
    except ValueError as error:
        raise ConfigError(f"{text!r} is not of the form channel=tv,market=DE:0.5:2", key="budget.bounds") from error
    return selector, (low, high)


def _economics(margin: list[str] | None, customer_value: list[str] | None, retention: str | None) -> dict[str, Any]:
    """Fields of `mixfleet.economics.Economics`, those that were given."""
    money = {"margin": margin, "customer_value": customer_value}
    found: dict[str, Any] = {
        name: dict(_read_money(text, f"economics.{name}") for text in texts) for name, texts in money.items() if texts
    }
    if retention is not None:
        key = "economics.retention"
        found["retention"] = tuple(_read_number(text, retention, "1,0.6,0.45", key) for text in retention.split(","))
    return found


def _read_money(text: str, key: str) -> tuple[str, float]:
    selector, _, number = text.rpartition(":")
    return selector or "all", _read_number(number, text, "0.4 or market=DE:0.3", key)


def _read_number(text: str, whole: str, form: str, key: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{whole!r} is not of the form {form}", key=key) from error


def _request(context: typer.Context, multirun: bool, config_dir: Path | None, config_name: str) -> Request:
    return Request(overrides=tuple(context.args), folder=config_dir, primary=config_name, multirun=multirun)


def _named(spec: Spec) -> Spec:
    return replace(spec, run=replace(spec.run, id=_run_id(spec.run)))


def _run_id(run: RunConfig) -> str:
    """The run's name, chosen here and not later, so that an interrupted command can say how to go on."""
    if run.id is not None:
        return run.id
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    taken = [name for name in (stamp, *(f"{stamp}-{n}" for n in range(2, 100))) if not (Path(run.root) / name).exists()]
    return taken[0]


def _fit(terminal: _Terminal, spec: Spec) -> "Run":
    backend.prepare(spec.compute)
    with showing(terminal.err) as show:
        return mixfleet.fit(None, spec, on_event=show)


def _fit_sweep(terminal: _Terminal, points: tuple[Point, ...]) -> None:
    sweep = plan(points, _run_id)

    def announce(number: int, point: Point) -> None:
        terminal.err.print(f"point {number + 1}/{len(points)}: {' '.join(point.changes)}", markup=False)

    with _resumable(terminal, RunConfig(root=str(sweep.folder.parent), id=sweep.folder.name)):
        outcomes = run_sweep(sweep, lambda spec: _fit(terminal, spec), announce)
    table = comparison(outcomes)
    path = write_comparison(table, sweep.folder)
    closing.print_comparison(terminal.out, table, path)
    runs = [outcome.run for outcome in outcomes]
    if not any(runs):
        code = ConfigError.exit_code
    else:
        code = SOME_NOT_OK if any(run is None or _exit_code(run) for run in runs) else 0
    terminal.finish({"command": "fit", "sweep": str(path), "points": table.to_pylist()}, code)


def _exit_code(run: "Run") -> int:
    return 0 if all(row["status"].startswith("ok") for row in closing.status_rows(run)) else SOME_NOT_OK


def _answer(run: "Run", seconds: float) -> dict[str, Any]:
    statuses = closing.counts(closing.status_rows(run))
    ok = sum(count for status, count in statuses.items() if status.startswith("ok"))
    units = sum(statuses.values())
    return {
        "command": "fit",
        "run": str(run.path),
        "units": units,
        "ok": ok,
        "not_ok": units - ok,
        "statuses": statuses,
        "seconds": round(seconds, 3),
    }


@contextmanager
def _errors_shown(terminal: _Terminal) -> Iterator[None]:
    """One clear message and the exit code in place of a traceback, for what a user can mend."""
    try:
        yield
    except MixfleetError as error:
        if isinstance(error, TableError) and error.findings:
            closing.print_findings(terminal.err, [vars(finding) for finding in error.findings])
        terminal.err.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        answer = {"error": type(error).__name__, "message": str(error), "key": getattr(error, "key", None)}
        terminal.finish(answer, error.exit_code)
    except KeyboardInterrupt:
        terminal.err.print("interrupted")
        terminal.finish({"error": "interrupted"}, INTERRUPTED)


@contextmanager
def _resumable(terminal: _Terminal, run: RunConfig) -> Iterator[None]:
    """An interrupted command ends by saying which command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        given = [item for item in sys.argv[1:] if not item.startswith(("run.id=", "run.root="))]
        command = shlex.join(["mixfleet", *given, f"run.root={run.root}", f"run.id={run.id}"])
        terminal.err.print(f"interrupted; to go on: {command}", markup=False, highlight=False, soft_wrap=True)
        terminal.finish({"error": "interrupted", "resume": command}, INTERRUPTED)
