"""Terminal: where commands write, how they end, and what their options have in common."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mixfleet.cli import printing
from mixfleet.errors import MixfleetError, TableError

__all__ = ["INTERRUPTED", "AsJson", "RunPath", "Terminal", "errors_shown"]

INTERRUPTED = 130
"""Exit code."""

AsJson = Annotated[bool, typer.Option("--json", help="Last line of the output is one JSON object.")]
RunPath = Annotated[Path, typer.Argument(help="A run folder, or a folder of runs for the one finished last.")]


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where a command writes: results to stdout, progress to stderr, and with --json only JSON to stdout."""

    as_json: bool
    out: Console
    err: Console

    @staticmethod
    def of(as_json: bool) -> "Terminal":
        """With `as_json`, what people read goes to stderr as well."""
        err = Console(stderr=True)
        return Terminal(as_json=as_json, out=err if as_json else Console(), err=err)

    def finish(self, answer: Mapping[str, Any], code: int) -> None:
        """Writes the JSON line, where it is asked for, and ends the command."""
        if self.as_json:
            typer.echo(json.dumps({**answer, "exit_code": code}, default=str))
        raise typer.Exit(code)


@contextmanager
def errors_shown(terminal: Terminal) -> Iterator[None]:
    """One clear message and the exit code in place of a traceback, for what a user can mend."""
    try:
        yield
    except MixfleetError as error:
        if isinstance(error, TableError) and error.findings:
            printing.print_findings(terminal.err, [vars(finding) for finding in error.findings])
        lines = map(printing.printable, f"{type(error).__name__}: {error}".split("\n"))
        terminal.err.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        answer = {"error": type(error).__name__, "message": str(error), "key": getattr(error, "key", None)}
        terminal.finish(answer, error.exit_code)
    except KeyboardInterrupt:
        terminal.err.print("interrupted")
        terminal.finish({"error": "interrupted"}, INTERRUPTED)
