"""Where commands write, how they end, and what their options have in common."""

import json
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mixfleet.cli import printing
from mixfleet.cli.entry import INTERRUPTED
from mixfleet.errors import MixfleetError, TableError

if TYPE_CHECKING:
    from mixfleet.data.frames import FrameKind
    from mixfleet.run import Run

__all__ = ["AsJson", "Exclude", "Include", "RunPath", "Terminal", "errors_shown", "open_run"]

UNEXPECTED = 4
"""Exit code of an error that nobody foresaw."""

FORESEEN = (MixfleetError, KeyboardInterrupt, SystemExit, typer.Exit, typer.Abort, typer.BadParameter)

FRAMES = 6
"""Calls that are shown of an error that nobody foresaw."""

AsJson = Annotated[bool, typer.Option("--json", help="Last line of the output is one JSON object.")]
Include = Annotated[list[str] | None, typer.Option(help="Status that enters totals too: misfit.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Status that enters no total: ok_warn.")]
RunPath = Annotated[
    Path, typer.Argument(help="A run folder, or a folder of runs for the one finished last; or an address, s3://...")
]


def open_run(
    path: Path, include: list[str] | None, exclude: list[str] | None, *, frame: "FrameKind" = "pandas"
) -> "Run":
    """The run, whose totals and plans hold the certified units, and more or fewer where that was asked for."""
    import mixfleet  # after the programs' cache was set

    return mixfleet.open(path, frame=frame, include=include or (), exclude=exclude or ())


class _LastingConsole(Console):
    """A console whose reader may go away: what is shown is lost then, and the command goes on to its own end."""

    def on_broken_pipe(self) -> None:
        """Writes to nowhere from now on; a night's fit does not end with the terminal that it was started from."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where a command writes: results to stdout, progress to stderr, and with --json only JSON to stdout."""

    as_json: bool
    out: Console
    err: Console

    @staticmethod
    def of(as_json: bool) -> "Terminal":
        """With `as_json`, what people read goes to stderr as well."""
        # Users' names are printed as they are, :a: and the like too.
        err = _LastingConsole(stderr=True, emoji=False)
        return Terminal(as_json=as_json, out=err if as_json else _LastingConsole(emoji=False), err=err)

    def finish(self, answer: Mapping[str, Any], code: int) -> None:
        """Writes the JSON line, where it is asked for, and ends the command."""
        if self.as_json:
            line = json.dumps({**answer, "exit_code": code}, default=str)
            _LastingConsole().print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        raise typer.Exit(code)


class _Unexpected:
    """Ends a command with an exit code of its own where it meets an error that nobody foresaw."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind
        if error is None or isinstance(error, FORESEEN):
            return
        message = printing.printable(f"{type(error).__name__}: {error}")
        said = f"unexpected error, {message}\nPlease report it with the output of `mixfleet doctor` and these lines:"
        self._terminal.err.print(said, markup=False, highlight=False, soft_wrap=True)
        for frame in traceback.extract_tb(trace)[-FRAMES:]:
            place = f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
            self._terminal.err.print(place, markup=False, highlight=False, soft_wrap=True)
        self._terminal.finish({"error": type(error).__name__, "message": str(error), "unexpected": True}, UNEXPECTED)


@contextmanager
def errors_shown(terminal: Terminal) -> Iterator[None]:
    """One clear message and the exit code in place of a traceback."""
    try:
        with _Unexpected(terminal):
            yield
    except MixfleetError as error:
        text = str(error)
        if isinstance(error, TableError) and error.findings:
            printing.print_findings(terminal.err, [vars(finding) for finding in error.findings])
            text = "the table cannot be read, for what is said above"
        lines = map(printing.printable, f"{type(error).__name__}: {text}".split("\n"))
        terminal.err.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        answer = {"error": type(error).__name__, "message": str(error), "key": getattr(error, "key", None)}
        terminal.finish(answer, error.exit_code)
    except KeyboardInterrupt:
        terminal.err.print("interrupted")
        terminal.finish({"error": "interrupted"}, INTERRUPTED)
