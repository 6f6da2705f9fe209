"""`mixfleet prune`: old runs of a folder, listed and then removed."""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from mixfleet.cli import printing
from mixfleet.cli.console import AsJson, Terminal, errors_shown
from mixfleet.errors import ConfigError, counted
from mixfleet.storage.remote.address import Address
from mixfleet.storage.retention.prune import Verdict, remove, verdicts

DAYS = {"d": 1, "w": 7}


def prune(
    root: Annotated[str, typer.Argument(help="Folder of runs, or their address, as run.root.")],
    keep: Annotated[str, typer.Option(help="Age up to which runs are kept: 30d, 12w.")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; otherwise they are only listed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists runs older than an age, and removes them: mixfleet prune runs --keep 30d --delete."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        age = _age(keep)
        found = verdicts(Address.of(root) or Path(root), age)
        _print(terminal, found)
        going = remove([verdict for verdict in found if verdict.run]) if delete else found
        gone = [verdict for verdict in going if verdict.run]
        for verdict in going if delete else ():
            if verdict.run is None:
                _print_line(terminal, f"kept {verdict.path}: {verdict.reason}")
        size = f"{sum(verdict.size for verdict in gone) / 1e6:,.1f} MB"
        said = (
            f"{counted(len(gone), 'run')} removed, {size}" if delete else f"{counted(len(gone), 'run')} to go, {size}"
        )
        _print_line(terminal, said if delete or not gone else f"{said}; to remove: the same command with --delete")
        terminal.finish({"command": "prune", "deleted": delete, **_answer(found, gone)}, 0)


def _age(text: str) -> timedelta:
    parsed = re.fullmatch(r"([1-9]\d{0,4})([dw])", text)
    if parsed is None:
        raise ConfigError(f"must be a number of days or weeks such as 30d or 12w, is {text!r}", key="--keep")
    return timedelta(days=int(parsed[1]) * DAYS[parsed[2]])


def _print(terminal: Terminal, found: Sequence[Verdict]) -> None:
    for verdict in found:
        size = f", {verdict.size / 1e6:,.1f} MB" if verdict.run else ""
        _print_line(terminal, f"{'goes' if verdict.run else 'stays'} {verdict.path}: {verdict.reason}{size}")


def _print_line(terminal: Terminal, text: str) -> None:
    terminal.out.print(printing.printable(text), markup=False, highlight=False, soft_wrap=True)


def _answer(found: Sequence[Verdict], gone: Sequence[Verdict]) -> dict[str, Any]:
    paths = {verdict.path for verdict in gone}
    return {
        "runs": [{"run": str(verdict.path), "reason": verdict.reason, "bytes": verdict.size} for verdict in gone],
        "bytes": sum(verdict.size for verdict in gone),
        "kept": {str(verdict.path): verdict.reason for verdict in found if verdict.path not in paths},
    }
