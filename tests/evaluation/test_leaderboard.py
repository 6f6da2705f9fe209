"""The leaderboard of a sweep: a table, a page, a notebook's output; whole or in part."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

import mixfleet
from mixfleet.errors import RunError
from mixfleet.evaluation.leaderboard import Leaderboard, leaderboard

POINTS = [
    {"point": 1, "changes": "prior.decay.a=3", "run": "r/1", "score": 0.0, "near_best": True, "holdout_r2": 0.412},
    {"point": 0, "changes": "", "run": "r/0", "score": 0.12, "score_se": 0.04, "near_best": False, "holdout_r2": 0.3},
    {"point": 2, "changes": "data.kpi=<b>", "error": "ConfigError: no <b>"},
]
NAMES = ("point", "changes", "run", "error", "certified", "score", "score_se", "near_best", "holdout_crps")
NAMES += ("holdout_r2", "roi_shift", "truth_coverage90", "seconds")


def board(folder: Path, *, points: int = 3, locale: str = "en") -> Leaderboard:
    rows = [dict.fromkeys(NAMES) | {"certified": 1.0, "seconds": 3.0} | row for row in POINTS]
    return Leaderboard(folder=folder, table=pa.Table.from_pylist(rows), points=points, locale=locale)


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = board(tmp_path / "sweep", points=5, locale="de_DE")
    assert written.write() == tmp_path / "sweep" / "sweep.parquet"
    read = mixfleet.leaderboard(tmp_path / "sweep")
    assert (read.table.to_pylist(), read.points, read.locale) == (written.table.to_pylist(), 5, "de_DE")
    assert read.page() == (tmp_path / "sweep" / "leaderboard.html").read_text()
    with pytest.raises(RunError, match="no leaderboard that can be read"):
        leaderboard(tmp_path)


def test_the_page_says_what_is_within_noise_and_why_points_failed(tmp_path: Path) -> None:
    page = board(tmp_path, points=4).page()
    assert "Leaderboard of 4 points, 1 not fitted yet: 1 within noise of the best" in page
    assert "12 % &plusmn; 4.0 %, worse" in page
    assert "<code>data.kpi=&lt;b&gt;</code>): ConfigError: no &lt;b&gt;" in page
    assert "<b>" not in page
    assert "http" not in page
    assert "12\u00a0% &plusmn; 4,0\u00a0%" in board(tmp_path, locale="de_DE").page()


def test_a_notebook_shows_it_and_a_terminal_says_it(tmp_path: Path) -> None:
    found = board(tmp_path)
    assert repr(found) == "<mixfleet leaderboard of 3 points: 1 within noise of the best>"
    assert found._repr_html_() in found.page()
    assert len(found._repr_html_()) < 20_000


@pytest.mark.nightly
def test_a_killed_sweep_leaves_a_leaderboard_and_goes_on(tmp_path: Path) -> None:
    main = "from mixfleet.cli.entry import main; main()"
    settings = ["data=simulated", *(f"data.simulated.{name}=3" for name in ("brands", "markets", "channels"))]
    command = [sys.executable, "-c", main, "fit", "-m", *settings, "inference.seed=1,2,3", "run.id=s"]
    command += [f"run.root={tmp_path}"]
    started = subprocess.Popen(command, start_new_session=True)
    while not (tmp_path / "s" / "sweep.parquet").exists():
        assert started.poll() is None
        time.sleep(0.2)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    found = leaderboard(tmp_path / "s")
    ended = found.table.num_rows
    assert 0 < ended < 3 == found.points
    assert f"{3 - ended} not fitted yet" in (tmp_path / "s" / "leaderboard.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s" / "points" / "0").glob("*.json")}
    assert subprocess.run(command, check=False).returncode in (0, 1)
    assert leaderboard(tmp_path / "s").table.num_rows == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
