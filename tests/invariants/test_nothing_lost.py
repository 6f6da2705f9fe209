"""Law 8 with the real engine: a run that is killed or interrupted goes on to the bytes of one that was not.

The many ways to fail at any single operation of the disk are tested with a stand-in for the sampler.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mixfleet
from mixfleet import run as saved
from mixfleet.cli.hydra_compose import PRIMARY, Request, compose_spec
from mixfleet.fitting import runner
from mixfleet.posterior.unit_result import UnitResult
from tests.support.mortal import run_whole
from tests.support.stub_engine import brands, fleet, spec, tree_sha256, unit_result

pytestmark = pytest.mark.usefixtures("programs")
ROOT = Path(__file__).parents[2]
KILLS = 4


def outcome(folder: Path) -> tuple[str, str, dict[str, str]]:
    """What two runs of the same table must have in common: all but timings."""
    run = saved.open(folder, frame="pyarrow")
    status = run.table("status")
    assert len(set(status["unit_id"].to_pylist())) == status.num_rows == run.manifest["units"]
    timeless = status.drop_columns(["seconds"]).to_pylist()
    return run.manifest["result_sha256"], repr(timeless), tree_sha256(folder)


@pytest.fixture(scope="module")
def whole(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("whole") / "r"
    run_whole(folder)
    return outcome(folder)


@pytest.fixture
def environment(programs: Path) -> dict[str, str]:
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("engine", "kernels", "")),
    }


def test_killed_at_random_moments(
    tmp_path: Path, whole: tuple[str, str, dict[str, str]], environment: dict[str, str]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    folder = tmp_path / "r"
    command = [sys.executable, "-m", "tests.support.mortal", str(folder), str(seed), str(KILLS)]
    child = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) >= KILLS // 2
    run_whole(folder)
    assert outcome(folder) == whole
    assert not list(folder.rglob("*.tmp-*"))
    assert not (folder / "parts").exists()


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path, programs: Path, environment: dict[str, str]) -> None:
    settings = [
        *("data=simulated", "data.simulated.brands=60", "data.simulated.markets=4", "data.simulated.weeks=104"),
        *("data.simulated.channels=4", "data.simulated.controls=1", "data.simulated.ragged=true"),
        *("inference.ladder=false", "inference.ess_target=2000", "inference.ess_floor=100"),
        *("inference.rhat_max=1.05", "inference.max_draws=1536", "compute.lanes=16", "compute.devices=1"),
        *(f"compute.cache_dir={programs}", f"run.root={tmp_path}", "run.id=r"),
    ]
    programs.chmod(0o700)
    command = [sys.executable, "-c", "from mixfleet.cli.entry import main; main()", "fit", *settings]
    child = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "r"
    give_up = time.monotonic() + 120
    while not list(folder.glob("parts/*")) and child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert "interrupted; to go on: mixfleet fit" in said
    assert f"run.root={tmp_path} run.id=r" in said
    assert (folder / "_PARTIAL").exists()

    fitted: list[int] = []
    composed = compose_spec(Request(overrides=tuple(settings), folder=None, primary=PRIMARY, multirun=False))
    run = mixfleet.fit(None, composed, on_event=lambda event: fitted.append(event.total))
    assert 0 < fitted[0] < 240
    assert run.table("status").num_rows == len(set(run.table("status")["unit_id"].to_pylist())) == 240
    assert not (folder / "_PARTIAL").exists()


def test_an_interruption_stops_the_engine_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that comes while a result is being saved: no thread samples on behind a run that is over."""
    stopped: list[bool] = []

    def engine(panel: Any, spec: Any, *, skip: Any, on_event: Callable[[Any], None]) -> Iterator[UnitResult]:
        try:
            for unit in panel.units:
                yield unit_result(unit.labels)
        finally:
            stopped.append(True)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner._Buffer, "flush_if_due", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        runner.execute(fleet(brands(4)), replace(spec(tmp_path)), engine)
    assert caught.value.__traceback__ is not None
    assert stopped == [True]
