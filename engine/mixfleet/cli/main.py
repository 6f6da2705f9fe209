"""`mixfleet fit`, `collect`, `check`, `prior`, `calibrate`, `backtest`, `doctor`; others: `cli.{analysis,budget}`.

| code | what | does a repeat help |
|---|---|---|
| 0 | all units are ok, or the share that `--fail-under` asks for | |
| 1 | finished, but some units are not ok | no: the data or the settings must change |
| 2 | a setting is wrong, or the run folder cannot be used | no, unless another process held the folder |
| 3 | the table cannot be read at all | no, unless the table changes |
| 4 | an error that nobody foresaw | perhaps; nothing finished is lost |
| 130, 137 | interrupted, killed | yes: with its run.id the command goes on |
"""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mixfleet
from mixfleet import runtime
from mixfleet.cli import printing
from mixfleet.cli.analysis import business, compare, counterfactual, export, forecast, report, sensitivity, slides
from mixfleet.cli.budget import budget
from mixfleet.cli.console import AsJson, Terminal, errors_shown
from mixfleet.cli.entry import INTERRUPTED
from mixfleet.cli.hydra_compose import PRIMARY, Request, SweepPoint, compose_spec, groups, quoted, sweep_points
from mixfleet.cli.init import init
from mixfleet.cli.progress import showing
from mixfleet.cli.prune import prune
from mixfleet.cli.sweep import PointOutcome, board_of, known_points, plan, run_sweep
from mixfleet.config import RunConfig, Spec
from mixfleet.errors import ConfigError
from mixfleet.evaluation.leaderboard import PAGE, TABLE
from mixfleet.fitting.event_log import STDERR
from mixfleet.posterior.unit_result import certified
from mixfleet.storage.remote.address import within
from mixfleet.storage.run_folder import SHARDS

if TYPE_CHECKING:
    from mixfleet.run import Run

SOME_NOT_OK = 1

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
FailUnder = Annotated[
    float, typer.Option("--fail-under", min=0.0, max=1.0, help="Exit code 1 only below this share of certified units.")
]
RunToBe = Annotated[
    Path, typer.Argument(help="The run folder, or address, to be, as run.root and run.id of its shards say.")
]


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def fit(
    context: typer.Context,
    multirun: Multirun = False,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    fail_under: FailUnder = 1.0,
    as_json: AsJson = False,
) -> None:
    """Fits every unit of a table: mixfleet fit data=example."""
    terminal = Terminal.of(as_json)
    request = _request(context, multirun, config_dir, config_name)
    with errors_shown(terminal):
        points = sweep_points(request)
        if points:
            _fit_sweep(terminal, points)
        spec = compose_spec(request)
        if spec.compute.shard is not None:
            _fit_shard(terminal, spec)
        spec = _named(spec)
        with _resumable(terminal, spec.run):
            start = time.monotonic()
            run = _fit(terminal, spec)
            seconds = time.monotonic() - start
        _finish_run(terminal, run, seconds, "fit", fail_under)


@app.command()
def collect(run: RunToBe, fail_under: FailUnder = 1.0, as_json: AsJson = False) -> None:
    """Puts the shards of a fleet together to one run: mixfleet collect runs/june."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        start = time.monotonic()
        runtime.prepare(mixfleet.Compute())
        collected = mixfleet.collect(run)
        _finish_run(terminal, collected, time.monotonic() - start, "collect", fail_under)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def check(
    context: typer.Context,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says what is wrong with a table, and what it can tell, without fitting: mixfleet check data=example."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        spec = compose_spec(_request(context, False, config_dir, config_name))
        if spec.data.source == "simulated":
            raise ConfigError("a simulated fleet has no faults to find", key="data.source")
        findings = mixfleet.check(None, spec.data, spec.pooling, spec.model).to_dict("records")
        printing.print_findings(terminal.out, findings)
        found = printing.severities(findings)
        ready = mixfleet.readiness(None, spec)
        printing.print_readiness(terminal.out, ready)
        answer = {"command": "check", "findings": found, "readiness": ready.units.to_pylist()}
        terminal.finish(answer, SOME_NOT_OK if found["error"] else 0)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def prior(
    context: typer.Context,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says what the priors expect of media before any fit: mixfleet prior data=example prior.on=effect."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        spec = compose_spec(_request(context, False, config_dir, config_name))
        runtime.prepare(spec.compute)
        found = mixfleet.prior(None, spec)
        printing.print_prior(terminal.out, found)
        answer = {"command": "prior", "statements": list(found.statements), "warnings": list(found.warnings)}
        terminal.finish({**answer, "rows": found.rows.to_pylist()}, SOME_NOT_OK if found.warnings else 0)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def calibrate(
    context: typer.Context,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says by simulation whether posteriors are calibrated: mixfleet calibrate data=simulated."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        spec = compose_spec(_request(context, False, config_dir, config_name))
        if spec.data.source != "simulated":
            raise ConfigError("must be simulated, for only there the truth is known", key="data.source")
        runtime.prepare(spec.compute)
        with showing(terminal.err) as show:
            found = mixfleet.calibrate(spec, on_event=show)
        printing.print_calibration(terminal.out, found)
        answer = {"command": "calibrate", "passed": found.passed, "quantities": found.table.to_pylist()}
        terminal.finish(answer, 0 if found.passed else SOME_NOT_OK)


@app.command(context_settings=_OVERRIDES, epilog=_groups_help())
def backtest(
    context: typer.Context,
    origins: Annotated[int, typer.Option(help="How many past days to fit the table at.")] = 4,
    horizon: Annotated[int, typer.Option(help="Weeks after each of them that are judged.")] = 13,
    every: Annotated[int | None, typer.Option(help="Weeks between two of them; the horizon by default.")] = None,
    config_dir: ConfigDir = None,
    config_name: ConfigName = PRIMARY,
    as_json: AsJson = False,
) -> None:
    """Says how well past forecasts would have been: mixfleet backtest data=example --origins 4 --horizon 13."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        spec = _named(compose_spec(_request(context, False, config_dir, config_name)))
        with _resumable(terminal, spec.run), showing(terminal.err) as show:
            runtime.prepare(spec.compute)
            found = mixfleet.backtest(None, spec, origins=origins, horizon=horizon, every=every, on_event=show)
        printing.print_backtest(terminal.out, found)
        answer = {"command": "backtest", "folder": str(found.folder), "summary": found.summary().to_pylist()}
        terminal.finish(answer, SOME_NOT_OK if any(_exit_code(run) for run in found.runs) else 0)


for command in (init, budget, report, slides, export, forecast, counterfactual, compare, sensitivity, business, prune):
    app.command()(command)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Shows versions, devices, memory, the compile cache, and what stands in the way."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        runtime.prepare(mixfleet.Compute())
        # Starts jax, which the other commands, and --help, do not need so early.
        from mixfleet.cli.doctor import diagnose

        diagnosis = diagnose()
        printing.print_diagnosis(terminal.out, asdict(diagnosis))
        terminal.finish({"command": "doctor", **asdict(diagnosis)}, 0)


def _request(context: typer.Context, multirun: bool, config_dir: Path | None, config_name: str) -> Request:
    return Request(
        overrides=tuple(map(quoted, context.args)), folder=config_dir, primary=config_name, multirun=multirun
    )


def _named(spec: Spec) -> Spec:
    return replace(spec, run=replace(spec.run, id=_run_id(spec.run)))


def _run_id(run: RunConfig) -> str:
    """The run's name, chosen here and not later, so that an interrupted command can say how to go on."""
    if run.id is not None:
        return run.id
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    taken = [name for name in (stamp, *(f"{stamp}-{n}" for n in range(2, 100))) if not (Path(run.root) / name).exists()]
    return taken[0]


def _fit(terminal: Terminal, spec: Spec) -> "Run":
    runtime.prepare(spec.compute)
    with showing(terminal.err, quiet=spec.run.log == STDERR) as show:
        return mixfleet.fit(None, spec, on_event=show)


def _fit_sweep(terminal: Terminal, points: tuple[SweepPoint, ...]) -> None:
    sweep = plan(points, _run_id)

    def announce(number: int, point: SweepPoint) -> None:
        changes = printing.printable(" ".join(point.changes))
        terminal.err.print(f"point {number + 1}/{len(points)}: {changes}", markup=False)

    outcomes: list[PointOutcome] = []
    with _resumable(terminal, RunConfig(root=str(sweep.folder.parent), id=sweep.folder.name)):
        try:
            known = min(known_points(sweep.folder), len(points))
            for outcome in run_sweep(sweep, lambda spec: _fit(terminal, spec), announce):
                outcomes.append(outcome)
                # After each point, so that a killed sweep has a leaderboard; one that goes on never has a shorter one.
                if len(outcomes) >= known:
                    board_of(sweep, outcomes).write()
        finally:
            printing.print_comparison(terminal.out, board_of(sweep, outcomes))
    found, runs = board_of(sweep, outcomes), [outcome.run for outcome in outcomes]
    if not any(runs):
        code = ConfigError.exit_code
    else:
        code = SOME_NOT_OK if any(run is None or _exit_code(run) for run in runs) else 0
    files = {"sweep": str(found.folder / TABLE), "page": str(found.folder / PAGE)}
    terminal.finish({"command": "fit", **files, "points": found.table.to_pylist()}, code)


def _fit_shard(terminal: Terminal, spec: Spec) -> None:
    runtime.prepare(spec.compute)
    start = time.monotonic()
    with _resumable(terminal, spec.run), showing(terminal.err, quiet=spec.run.log == STDERR) as show:
        mixfleet.fit_shard(None, spec, on_event=show)
    run = within(spec.run.root, str(spec.run.id))
    folder = within(f"{run}{SHARDS}", str(spec.compute.shard).replace("/", "-of-"))
    remedy = f"when all are done: mixfleet collect {run}"
    terminal.out.print(f"shard {spec.compute.shard} is in {folder}; {remedy}", markup=False, soft_wrap=True)
    seconds = round(time.monotonic() - start, 3)
    terminal.finish({"command": "fit", "shard": spec.compute.shard, "folder": folder, "seconds": seconds}, 0)


def _finish_run(terminal: Terminal, run: "Run", seconds: float, command: str, fail_under: float) -> None:
    printing.print_run(terminal.out, run, seconds=seconds)
    answer = {"command": command, **_answer(run, seconds), **_said(terminal, run)}
    terminal.finish(answer, _exit_code(run, fail_under))


def _exit_code(run: "Run", fail_under: float = 1.0) -> int:
    return 0 if run.ok_share >= fail_under else SOME_NOT_OK


def _said(terminal: Terminal, run: "Run") -> dict[str, Any]:
    """Prints the run in sentences, where draws were kept to make them of."""
    if not run.keeps_draws or not run.ok_share:
        return {}
    summary = run.summary()
    printing.print_answer(terminal.out, summary.lines(), summary.command)
    return {"summary": summary.lines(), "next": summary.command}


def _answer(run: "Run", seconds: float) -> dict[str, Any]:
    rows = printing.status_rows(run)
    statuses = printing.counts(rows)
    ok = sum(count for status, count in statuses.items() if certified(status))
    units = sum(statuses.values())
    return {
        "run": run.place,
        "units": units,
        "ok": ok,
        "not_ok": units - ok,
        "statuses": statuses,
        "loosened": run.manifest.get("loosened", []),
        "carried": run.manifest.get("base", {}).get("carried", 0),
        "reweighted": sum(row.get("origin") == "reweighted" for row in rows),
        "units_not_ok": [
            {name: row[name] for name in (*run.manifest["keys"], "status", "reason")}
            for row in rows
            if not certified(row["status"])
        ],
        "seconds": round(seconds, 3),
    }


@contextmanager
def _resumable(terminal: Terminal, run: RunConfig) -> Iterator[None]:
    """An interrupted command ends by saying which command goes on."""
    try:
        yield
    except KeyboardInterrupt:
        given = [item for item in sys.argv[1:] if not item.startswith(("run.id=", "run.root="))]
        command = shlex.join(["mixfleet", *given, f"run.root={run.root}", f"run.id={run.id}"])
        terminal.err.print(f"interrupted; to go on: {command}", markup=False, highlight=False, soft_wrap=True)
        terminal.finish({"error": "interrupted", "resume": command}, INTERRUPTED)
