import io

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
