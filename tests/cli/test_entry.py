import sys
from typing import Any

import pytest

from mixfleet.cli import entry


class InterruptedImport:
    """Ctrl-C while the command's code is loaded."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "mixfleet.cli.main":
            raise KeyboardInterrupt


def test_an_interruption_while_code_is_loaded_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mixfleet.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [InterruptedImport(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == entry.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
