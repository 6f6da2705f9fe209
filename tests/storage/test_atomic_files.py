"""Drafts of files: what a killed process leaves is cleared away, what somebody writes stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixfleet.config import Model
from mixfleet.errors import RunError
from mixfleet.storage import atomic_files
from mixfleet.storage.atomic_files import TEMPORARY, Draft
from tests.support.saved_run import saved_run

KILLED = """
import os, signal, sys
from pathlib import Path
from mixfleet.storage.atomic_files import Draft
Draft(Path(sys.argv[1])).write(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(f".*{TEMPORARY}*"))


def test_the_next_report_clears_away_what_a_killed_one_left(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    for name in ("report.html", "other.html"):
        subprocess.run([sys.executable, "-c", KILLED, str(run.path / name)], check=False)
    assert len(drafts(run.path)) == 2
    run.report()
    assert [path.name.startswith(".other.html") for path in drafts(run.path)] == [True]


def test_a_draft_that_somebody_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a[1].html"
    draft = Draft(path)
    draft.write(b"whole")
    (tmp_path / f".a[1].html{TEMPORARY}link").symlink_to(path)
    atomic_files.remove_abandoned(path)
    assert len(drafts(tmp_path)) == 2
    draft.replace()
    assert path.read_bytes() == b"whole"


def test_an_address_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("s3://lake/plans"), Path("gs://lake").absolute()):
        with pytest.raises(RunError, match=r"outputs are written on this machine, and (s3|gs):// is an address"):
            atomic_files.make_folder(path)
    assert not list(tmp_path.iterdir())
