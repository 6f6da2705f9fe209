"""Old runs on the command line: listed first, removed only where that is said."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mixfleet.cli.main import app
from tests.storage.retention.test_prune import aged, run_in


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("old", "new"):
        run_in(tmp_path, name)
    aged(tmp_path / "old", 31)
    return tmp_path


def test_runs_are_listed_and_removed_only_where_that_is_said(root: Path) -> None:
    listed = CliRunner().invoke(app, ["prune", str(root), "--keep", "30d"])
    assert listed.exit_code == 0, listed.output
    assert f"stays {root / 'new'}: is the run finished last; finished 0 days ago\n" in listed.stdout
    assert f"goes {root / 'old'}: finished 31 days ago, 0." in listed.stdout
    assert "1 run to go" in listed.stdout
    assert (root / "old").is_dir()
    done = CliRunner().invoke(app, ["prune", str(root), "--keep", "4w", "--delete", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [run["run"] for run in answer["runs"]] == [str(root / "old")]
    assert list(answer["kept"]) == [str(root / "new")]
    assert not (root / "old").exists()
    again = CliRunner().invoke(app, ["prune", str(root), "--keep", "30d", "--delete"])
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "0 runs removed, 0.0 MB")


@pytest.mark.parametrize("age", ["30", "0d", "1.5w", "-3d", "tomorrow"])
def test_an_age_that_is_none_exits_2(root: Path, age: str) -> None:
    result = CliRunner().invoke(app, ["prune", str(root), f"--keep={age}", "--delete"])
    assert result.exit_code == 2
    assert "--keep: must be a number of days or weeks" in result.stderr
    assert (root / "old").is_dir()


@pytest.mark.parametrize(("place", "said"), [("nowhere", "is no folder"), ("https://host/runs", "begin with s3://")])
def test_a_place_without_runs_exits_2(place: str, said: str) -> None:
    result = CliRunner().invoke(app, ["prune", place, "--keep", "30d"])
    assert result.exit_code == 2
    assert said in result.stderr
