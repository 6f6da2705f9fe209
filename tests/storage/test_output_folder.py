"""Outputs of several files: the old ones or the new ones, whatever moment the writer is killed at."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mixfleet.budgeting.plan import Plan
from mixfleet.errors import RunError
from mixfleet.storage import atomic_files, output_folder
from mixfleet.storage.output_folder import read_output
from mixfleet.storage.table_files import write_tables


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class MortalOs:
    """`os` and `shutil` whose n-th change of the disk fails: as a kill, or with an error number and that once."""

    COUNTED = ("open", "write", "fsync", "link", "replace", "rename", "unlink", "mkdir", "rmtree", "exchange")

    def __init__(self, fail_at: int, number: int | None = None) -> None:
        self.operations = 0
        self._fail_at = fail_at
        self._errno = number
        self._exchange = output_folder._exchange

    def __getattr__(self, name: str) -> Any:
        real = self._exchange if name == "exchange" else getattr(shutil if hasattr(shutil, name) else os, name)
        if name == "fsync":  # The real disk is not made to wait.
            return self._counted(lambda descriptor: None)
        return self._counted(real) if name in self.COUNTED else real

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.operations += 1
            if self.operations == self._fail_at and self._errno is not None:
                raise OSError(self._errno, os.strerror(self._errno))
            if self.operations >= self._fail_at and self._errno is None:
                raise Killed
            return real(*arguments)

        return call


def plan(value: int) -> Plan:
    table = pa.table({"market": ["DE"], "spend": [float(value)]})
    extra = {"frontier": table} if value == 1 else {"experiments": table}
    return Plan(cells=table, weekly=table, totals={"spend": value}, extra=extra)


def tables(value: int, *kinds: str) -> Callable[[Path], Any]:
    names = {f"only{value}", "both"}
    return lambda folder: write_tables({name: pa.table({"x": [value]}) for name in names}, folder, *kinds)


def report(value: int) -> Callable[[Path], Any]:
    return lambda folder: atomic_files.replace_bytes(folder / "report.html", b"%d" % value * 5000)


WRITERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "plan": (plan(1).save, plan(2).save),
    "forecast": (tables(1, "csv", "parquet"), tables(2, "csv", "parquet")),
    "workbook": (tables(1, "xlsx"), tables(2, "xlsx")),
    "report": (report(1), report(2)),
}


def content(folder: Path) -> dict[str, bytes]:
    """The files by name, without those that have no final name yet."""
    paths = [path for path in folder.iterdir() if atomic_files.TEMPORARY not in path.name] if folder.exists() else []
    return {path.name: path.read_bytes() for path in paths}


def failing(monkeypatch: pytest.MonkeyPatch, fail_at: int, number: int | None, work: Callable[[], Any]) -> int:
    """Do the work with the n-th operation failing; how many there were."""
    mortal = MortalOs(fail_at, number)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "os", mortal)
        patch.setattr(atomic_files, "shutil", mortal)
        patch.setattr(output_folder, "os", mortal)
        patch.setattr(output_folder, "shutil", mortal)
        patch.setattr(output_folder, "_exchange", mortal.exchange)
        with suppress(Killed, RunError):
            work()
    return mortal.operations


@pytest.mark.parametrize("number", [None, errno.ENOSPC, errno.EROFS, errno.EMFILE])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_that_fails_anywhere_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, number: int | None
) -> None:
    write_old, write_new = WRITERS[writer]
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("of the user")
    write_old(folder)
    old = content(folder)
    write_new(folder)
    names = content(folder).keys()
    write_old(folder)
    operations = failing(monkeypatch, 10**9, None, lambda: write_new(folder))
    new = content(folder)
    # A workbook holds the time it was made.
    same = (lambda: content(folder).keys() == names) if writer == "workbook" else (lambda: content(folder) == new)
    for n in range(1, operations + 1):
        shutil.rmtree(folder)
        folder.mkdir()
        for name, data in old.items():
            (folder / name).write_bytes(data)
        failing(monkeypatch, n, number, lambda: write_new(folder))
        assert content(folder) == old or same(), f"operation {n} of {operations}"
        write_new(folder)
        assert same()
        assert (folder / "mine.txt").read_text() == "of the user"
        assert [path.name for path in tmp_path.iterdir()] == ["out"], f"operation {n} of {operations}"


@pytest.mark.parametrize("kind", ["beside a folder", "current"])
def test_where_the_folder_cannot_be_replaced_the_old_or_the_new_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "out"
    (folder / "origins").mkdir(parents=True) if kind == "beside a folder" else folder.mkdir()
    (folder / "origins.txt").write_text("of the user")
    if kind == "current":
        monkeypatch.chdir(folder)
    write_old, write_new = WRITERS["plan"]
    write_old(folder)
    operations = failing(monkeypatch, 10**9, None, lambda: write_new(folder))
    found = set()
    for n in range(1, operations + 1):
        write_old(folder)
        failing(monkeypatch, n, None, lambda: write_new(folder))
        read = Plan.read(folder)
        found.add(read.totals["spend"])
        assert (read.totals["spend"], *read.cells["spend"].to_pylist()) in ((1, 1.0), (2, 2.0)), n
        assert [*read.extra] == [{1: "frontier", 2: "experiments"}[read.totals["spend"]]]
    assert found == {1, 2}
    write_new(folder)
    assert Plan.read(folder).totals == {"spend": 2}
    hidden = [path.name for path in (*folder.iterdir(), *tmp_path.iterdir()) if path.name.startswith(".")]
    assert hidden == []
    assert (folder / "origins.txt").read_text() == "of the user"
    assert not (folder / "frontier.parquet").exists()


def test_files_of_two_plans_do_not_belong_together(tmp_path: Path) -> None:
    plan(1).save(tmp_path / "one")
    plan(2).save(tmp_path / "two")
    shutil.copy(tmp_path / "one" / "plan_by_week.parquet", tmp_path / "two")
    with pytest.raises(RunError, match=r"plan_by_week\.parquet is damaged; repeat mixfleet budget"):
        Plan.read(tmp_path / "two")
    with pytest.raises(RunError, match=r"cannot be read: .*; repeat mixfleet budget"):
        Plan.read(tmp_path / "three")


def test_outputs_follow_no_links(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "plan.csv").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match="link is a link, which outputs do not follow"):
        plan(1).save(tmp_path / "link")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plan.csv").symlink_to(tmp_path / "victim" / "plan.csv")
    plan(1).save(tmp_path / "out")
    assert not (tmp_path / "out" / "plan.csv").is_symlink()
    assert content(tmp_path / "victim") == {"plan.csv": b"precious"}


def test_where_folders_cannot_be_exchanged_they_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_folder.sys, "platform", "other")
    plan(1).save(tmp_path / "out")
    plan(2).save(tmp_path / "out")
    assert Plan.read(tmp_path / "out").totals == {"spend": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_lists_are_those_of_sha256sum(tmp_path: Path) -> None:
    plan(1).save(tmp_path)
    assert subprocess.run(["sha256sum", "--strict", "-c", "plan.sha256"], cwd=tmp_path, check=False).returncode == 0
    assert read_output(tmp_path, "plan", "").keys() == set(content(tmp_path)) - {"plan.sha256"}


def test_a_name_that_the_disk_cannot_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="File name too long"):
        plan(1).save(tmp_path / ("x" * 300))
    with pytest.raises(RunError, match="File name too long"):
        atomic_files.make_folder(tmp_path / ("x" * 300))
