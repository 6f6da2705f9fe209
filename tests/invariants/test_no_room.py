"""Where nothing can be written every command ends with a clear error, and no half file stands under a final name."""

import gc
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from mixfleet import api
from mixfleet.cli.main import app
from mixfleet.config import Model
from mixfleet.storage import atomic_files
from tests.data.test_reshape import wide
from tests.support.saved_run import made_up, saved_run

# What is compiled here cannot be kept for the next time either, which jax says and goes on.
# openpyxl's unfinished sheets complain once more when they are collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TABLE = ("data=table", "data.path=sales.csv", "data.channels=[tv,search]")
COMMANDS: dict[str, tuple[str, ...]] = {
    "init": ("init", "sales.csv"),
    "init --force": ("init", "sales.csv", "--force"),
    "fit": ("fit", *TABLE, "run.id=june"),
    "sweep": ("fit", "-m", *TABLE, "prior=weak,tight", "run.id=sweep"),
    "shard": ("fit", *TABLE, "run.id=other", "compute.shard=0/1"),
    "collect": ("collect", "runs/whole"),
    "backtest": ("backtest", *TABLE, "--origins", "1", "--horizon", "4", "run.id=past"),
    "budget": ("budget", "a/r", "--weeks", "5"),
    "report": ("report", "a/r"),
    "export csv": ("export", "a/r"),
    "export parquet": ("export", "a/r", "--format", "parquet"),
    "export xlsx": ("export", "a/r", "--format", "xlsx"),
    "forecast": ("forecast", "a/r", "--plan", "a/r/budget/plan_by_week.csv"),
    "counterfactual": ("counterfactual", "a/r", "--plan", "past.csv"),
    "compare": ("compare", "b/r", "a/r"),
    "slides": ("slides", "a/r"),
    "business": ("business", "a/r", "--margin", "0.4"),
}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(api, "fit_units", made_up(2, 6))
        wide().to_csv("sales.csv", index=False)
        for name in ("a", "b"):
            saved_run(folder / name, Model())
        assert call("budget", "a/r").exit_code == 0
        plan = pd.read_csv("a/r/budget/plan_by_week.csv").assign(date="2024-01-08")
        plan.drop_duplicates(["brand", "market", "channel"]).to_csv("past.csv", index=False)
        assert call("fit", *TABLE, "run.id=whole", "compute.shard=0/1").exit_code == 0
        yield folder


@contextmanager
def files_of(most: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, view: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files, "_write_all", write)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only disk: permissions do not stop the superuser, who runs tests in containers."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "link", "replace", "rename"):
        monkeypatch.setattr(f"mixfleet.storage.atomic_files.os.{name}", refuse)


def contents(folder: Path) -> dict[str, bytes]:
    """Final files: no locks, logs or drafts."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "events.jsonl")]
    return {str(path): path.read_bytes() for path in found if atomic_files.TEMPORARY not in str(path)}


def refused(home: Path, name: str, words: str) -> None:
    before = contents(home)
    result = call(*COMMANDS[name])
    gc.collect()
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    last = result.output.strip().splitlines()[-1]
    assert words in last
    assert last.count(words) == 1
    after = contents(home)
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after.keys() - before.keys() if not path.endswith("_PARTIAL")]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("most", [0, 100])
def test_a_limit_of_file_sizes_is_said(home: Path, name: str, most: int) -> None:
    with files_of(most):
        refused(home, name, "the workbook" if name == "export xlsx" else "File too large")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_said(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch)
    refused(home, name, "the disk is full")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_disk_is_said(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only(monkeypatch)
    refused(home, name, "Read-only file system")


def test_commands_that_write_nothing_need_no_room(home: Path) -> None:
    with files_of(0):
        for name in ("check", "prior"):
            assert call(name, *TABLE).exit_code in (0, 1)
