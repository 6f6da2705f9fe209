"""The code of the documentation, found in its pages and run in their order, and the output that they show.

Every fenced block is run unless a comment above it says otherwise, with the reason:

    <!-- not run: it installs packages -->
    <!-- nightly: it fits 95 units -->

A block of text is what the block before it printed. It may begin and end anywhere in that, a line of three dots leaves
something out, and line breaks and frames of tables count for nothing. Words must be the same. Numbers may differ by
`TOLERANCE`, or by one in their last digit: on another kind of processor draws are others. YAML whose first line is a
comment with a path is a file, and is written there.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from mixfleet.cli.entry import main

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
LANGUAGES = {"bash", "python", "text", "yaml", "sql", "toml", "dockerfile"}
TOLERANCE = 0.15
"""Of a number that a page shows; in standard errors of a posterior's mean or quantile that is several."""

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"<!-- (not run|nightly|no output): ([^>]*\S) -->\s*\Z")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_FRAME = re.compile(r"[─-╿]+")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    """`not run`, `nightly`, `no output` (a text that nothing printed), or nothing."""
    reason: str

    def __str__(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text("utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        mark = _MARK.search(text[: fence.start()])
        found.append(
            Block(
                page=page,
                line=text[: fence.start()].count("\n") + 1,
                language=fence[1],
                text=fence[2],
                mark=mark[1] if mark else "",
                reason=mark[2] if mark else "",
            )
        )
    return found


def commands(block: Block) -> Iterator[str]:
    """The commands of a shell block, lines that go on joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


@dataclass
class Desk:
    """A folder in which pages are followed: what one block leaves, files and names, the next one finds."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)
    printed: str = ""
    """By the last block."""

    def follow(self, page: Path, *, nightly: bool = False) -> None:
        """Runs the blocks of a page and compares what they print.

        Args:
            page: The page.
            nightly: Whether the blocks that take long are run too.
        """
        with contextlib.chdir(self.folder), mock.patch.dict(os.environ, {"COLUMNS": "120"}):
            for block in blocks(page):
                if block.mark in ("", *(("nightly",) if nightly else ())):
                    self.run(block)

    def run(self, block: Block) -> None:
        """Runs a block, or compares it with what the one before printed."""
        if block.language == "text":
            missing = unlike(block.text, self.printed)
            assert not missing, f"{block} shows {missing!r}, printed was:\n{self.printed}"
        elif block.language == "yaml":
            self._write(block)
        else:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                for command in commands(block) if block.language == "bash" else ():
                    self._command(command, block)
                if block.language == "python":
                    self.python(block.text, str(block))
            self.printed = printed.getvalue()

    def _command(self, command: str, block: Block) -> None:
        wanted = re.search(r"# .*exit code (\d+)", command)
        words = shlex.split(command, comments=True)
        if words[0] == "mixfleet":
            with mock.patch.object(sys, "argv", words):
                try:
                    main()
                    code: Any = 0
                except SystemExit as ended:
                    code = ended.code or 0
        else:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
            code = done.returncode
            print(done.stdout, done.stderr)
        assert code == (int(wanted[1]) if wanted else 0), f"{block}: {command} ended with {code}"

    def python(self, text: str, place: str) -> None:
        """Runs code with the names that the code before it left.

        Args:
            text: The code.
            place: Where it stands, for who reads of a mistake in it.
        """
        file = self.folder / ".block.py"
        file.write_text(text, "utf-8")
        known = {name: value for name, value in self.names.items() if not name.startswith("__")}
        try:
            self.names |= runpy.run_path(str(file), known)
        except Exception as error:
            error.add_note(place)
            raise
        finally:
            file.unlink()

    def _write(self, block: Block) -> None:
        named = re.match(r"# ([\w./-]+\.yaml)\b", block.text)
        assert named, f"{block}: begin with a comment that has the file's path, or say why it is not run"
        assert isinstance(yaml.safe_load(block.text), dict), block
        path = self.folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, "utf-8")


def unlike(shown: str, printed: str) -> str:
    """The first part of what is shown that was not printed, in its order; empty where all was."""
    place, output = 0, _tokens(printed)
    for part in re.split(r"^\s*\.\.\.\s*$", shown, flags=re.MULTILINE):
        wanted = _tokens(part)
        starts = range(place, len(output) - len(wanted) + 1)
        where = next((i for i in starts if all(map(_alike, wanted, output[i:]))), None)
        if where is None:
            return part.strip()
        place = where + len(wanted)
    return ""


def _tokens(text: str) -> list[str]:
    return _FRAME.sub(" ", text).split()


def _alike(shown: str, printed: str) -> bool:
    """Whether two words are the same but for the size of numbers in them; days and paths are no numbers."""
    if shown == printed:
        return True
    if re.match(r"\d{4}-\d\d", shown) or _NUMBER.sub("#", shown) != _NUMBER.sub("#", printed):
        return False
    return all(map(_close, _NUMBER.findall(shown), _NUMBER.findall(printed)))


def _close(shown: str, printed: str) -> bool:
    one, other = (float(text.replace(",", "")) for text in (shown, printed))
    digit = 10.0 ** -max(len(text.partition(".")[2]) for text in (shown, printed))
    return abs(one - other) <= max(TOLERANCE * max(abs(one), abs(other)), 1.001 * digit)
