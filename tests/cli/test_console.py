import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from mixfleet.cli.console import Terminal, errors_shown
from mixfleet.cli.printing import printable
from mixfleet.errors import RunError


def test_labels_reach_the_terminal_with_their_escapes_spelled_out() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    label = "\x1b[31mred\x07 \N{RIGHT-TO-LEFT OVERRIDE}x\x9b \ud800"
    with pytest.raises(typer.Exit), errors_shown(Terminal(as_json=False, out=console, err=console)):
        raise RunError(f"no unit {label}\nsecond line")
    assert shown.getvalue() == "RunError: no unit \\x1b[31mred\\x07 \\u202ex\\x9b \\ud800\nsecond line\n"


def test_ordinary_text_is_left_as_it_is() -> None:
    assert printable("Köln \N{GRINNING FACE} 5 %") == "Köln \N{GRINNING FACE} 5 %"


GO_ON = """
import typer
from mixfleet.cli.console import Terminal
terminal = Terminal.of({as_json})
for console in (terminal.out, terminal.err):
    for number in range(3):
        console.print("x" * 100)
try:
    terminal.finish({{"command": "fit"}}, 0)
except typer.Exit as end:
    assert end.exit_code == 0
open({done!r}, "w").close()
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_goes_on_where_nobody_reads_what_it_shows(tmp_path: Path, as_json: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    done = tmp_path / "done"
    code = GO_ON.format(as_json=as_json, done=str(done))
    ended = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=write, check=False)
    os.close(write)
    assert ended.returncode == 0
    assert done.exists()
