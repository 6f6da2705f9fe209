"""`mixfleet init`: a commented settings file for a table, with a guess at what its columns mean."""

import os
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mixfleet.cli import printing
from mixfleet.cli.console import AsJson, Terminal, errors_shown
from mixfleet.data.guess import Guess, guess_settings
from mixfleet.errors import ConfigError, RunError
from mixfleet.storage import atomic_files

SHIPPED = frozenset({"table", "example", "simulated"})


def init(
    table: Annotated[str, typer.Argument(help="CSV, Excel or Parquet file.")],
    folder: Annotated[Path, typer.Option("--config-dir", "-cd", help="Folder of your own groups.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Writes a settings file for a table, with guesses to look over: mixfleet init sales.csv."""
    terminal = Terminal.of(as_json)
    with errors_shown(terminal):
        name = _group_name(Path(table).stem)
        path = folder / "data" / f"{name}.yaml"
        guess = guess_settings(table)
        _write(path, _text(table, guess), force=force)
        command = f"mixfleet fit --config-dir {shlex.quote(str(folder))} data={name} run.id={name}"
        unused = ", ".join(" ".join(name.split()) for name in guess.unused)
        left = (f"not used: {unused}; name under channels or controls what moves the KPI",) if unused else ()
        for line in (*guess.notes, *left, f"settings: {path} (look over its guesses)", f"next: {command}"):
            terminal.out.print(printing.printable(line), markup=False, highlight=False, soft_wrap=True)
        terminal.finish({"command": "init", "settings": str(path), "next": command}, 0)


def _group_name(stem: str) -> str:
    plain = unicodedata.normalize("NFKD", stem.lower()).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    return name if re.match(r"[a-z]", name) and name not in SHIPPED else f"my_{name or 'table'}"


def _text(table: str, guess: Guess) -> str:
    """The settings as YAML, each with a word on what it means."""
    lines = [
        "# Written by mixfleet init: guesses from the table, to be looked over.",
        "source: table",
        _line("path", table),
    ]
    for key, value, words in guess.settings:
        lines += ["", *(f"# {line}" for line in words.splitlines())]
        lines += [f"{key}:", *(f"  {_line(*item)}" for item in value.items())] if isinstance(value, dict) else []
        lines += [] if isinstance(value, dict) else [_line(key, value)]
    if guess.unused:
        lines += ["", f"# Not used: {', '.join(' '.join(name.split()) for name in guess.unused)}"]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    text = yaml.safe_dump({key: value}, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removeprefix("{").removesuffix("}")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Whole or not at all, and over an existing file only where that is asked for."""
    there = ConfigError(f"{path} is there already: --force writes over it", key="init")
    atomic_files.make_folder(path.parent)
    if force:
        atomic_files.replace_bytes(path, text.encode())
        return
    if os.path.lexists(path):
        raise there
    try:
        atomic_files.publish_bytes(path, text.encode())
    except RunError as error:
        raise there if path.exists() else error from error
