"""Signals end a run in order: nothing that is being saved is cut short, and a second one changes nothing."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mixfleet.cli.printing import print_run
from mixfleet.fitting import runner
from mixfleet.storage.journal import Parts
from mixfleet.storage.run_folder import RunFolder
from mixfleet_kernels import native_library
from tests.support.stub_engine import brands, engine, fleet, spec, tree_sha256


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Signals as a shell's foreground has them; in its background they may be ignored."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("while_saving", [True, False])
def test_two_signals_cut_nothing_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, while_saving: bool
) -> None:
    monkeypatch.setattr(runner, "COMMIT_UNITS", 3)
    add, interrupt, commits = Parts.add, RunFolder.interrupt, []

    def send() -> None:
        os.kill(os.getpid(), number)

    def saving(parts: Parts, results: Any) -> None:
        if while_saving and len(commits) == 1:
            send()
            send()
        add(parts, results)
        commits.append(len(parts.units))

    def interrupting(folder: RunFolder, reason: str) -> None:
        send()
        interrupt(folder, reason)
        send()

    def on_event(event: Any) -> None:
        if not while_saving and len(commits) == 2:
            send()

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(Parts, "add", saving)
    monkeypatch.setattr(RunFolder, "interrupt", interrupting)
    panel = fleet(brands(24))
    with pytest.raises(KeyboardInterrupt):
        runner.execute(panel, spec(tmp_path, "cut"), engine(), on_event=on_event)
    assert (tmp_path / "cut" / "_PARTIAL").is_file()
    assert 0 < commits[-1] < 24
    assert {one: signal.getsignal(one) for one in before} == before
    resumed = runner.execute(panel, spec(tmp_path, "cut"), engine())
    whole = runner.execute(panel, spec(tmp_path, "whole"), engine())
    assert tree_sha256(resumed.path) == tree_sha256(whole.path)


def test_a_fit_without_native_code_is_told_to_be_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = "the native kernels were built from other sources: install mixfleet anew"
    monkeypatch.setattr(native_library, "_library", lambda: stale)
    settings = spec(tmp_path, "slow")
    settings = replace(settings, run=replace(settings.run, log=str(tmp_path / "log")))
    with pytest.warns(UserWarning, match=stale):
        run = runner.execute(fleet(brands(2)), settings, engine())
    console = Console(record=True, width=200)
    print_run(console, run, seconds=1.0)
    assert f"slow: {stale}; until then fits run in XLA alone" in console.export_text()
    first = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert (first["event"], first["level"], first["why"]) == ("slow", "warning", run.manifest["slow"])
    monkeypatch.undo()
    assert "slow" not in runner.execute(fleet(brands(2)), spec(tmp_path, "fast"), engine()).manifest
