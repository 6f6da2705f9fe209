"""Units fitted by workers of a Ray cluster are those that one process fits, whoever is lost on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import mixfleet
from mixfleet.config import Cluster, Pooling, Spec
from mixfleet.data.panel import unit_id
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting.executors import ray_cluster
from mixfleet.fitting.executors.ray_cluster import fit_part, on_ray
from mixfleet.fitting.executors.work_order import write_order
from mixfleet.fitting.runner import execute
from mixfleet.storage.result_bytes import decode, digest
from mixfleet.storage.run_folder import as_stored
from tests.support.quick import fit, ragged_fleet, settings, with_units
from tests.support.stub_engine import brands, engine, fleet, spec

PANEL = fleet(brands(23), [("z", "z")])
ROOT = Path(__file__).parents[3]


class Here:
    """Ray as far as it is used, in this process; tasks are done when they are waited for, the last first."""

    class exceptions:
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

    def __init__(self, lost: int | None = None) -> None:
        self.tasks: list[list[str]] = []
        self.cancelled: list[int] = []
        self._lost = lost
        self._work: Callable[..., Any] = lambda: None

    def is_initialized(self) -> bool:
        return True

    def remote(self, work: Callable[..., Any]) -> Any:
        self._work = work
        return self

    def options(self, **resources: Any) -> Any:
        self.resources = resources
        return _Task(self)

    def put(self, value: Any) -> Any:
        return value

    def wait(self, waiting: Sequence[int], timeout: float) -> tuple[list[int], list[int]]:
        return [waiting[-1]], list(waiting[:-1])

    def get(self, place: int) -> Any:
        if place == self._lost:
            raise self.exceptions.RayError
        return self._work(self.order, self.tasks[place])

    def cancel(self, place: int, *, force: bool) -> None:
        self.cancelled.append(place)


class _Task:
    def __init__(self, there: Here) -> None:
        self._there = there

    def remote(self, order: bytes, units: list[str]) -> int:
        self._there.order = order
        self._there.tasks.append(units)
        return len(self._there.tasks) - 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    there = Here()
    monkeypatch.setitem(sys.modules, "ray", there)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(
        ray_cluster, "fit_units", lambda panel, spec, *, skip: engine()(panel, spec, skip=skip, on_event=None)
    )
    return there


def shared_out(settings: Spec, **cluster: Any) -> Spec:
    return replace(settings, compute=replace(settings.compute, executor="ray", ray=Cluster(**cluster)))


@pytest.mark.parametrize("by", ["none", "brand"])
def test_the_run_is_that_of_one_process(by: str, here: Here, tmp_path: Path) -> None:
    own = replace(spec(tmp_path, "whole"), pooling=Pooling(by=by))
    whole = execute(PANEL, own, engine())
    on_workers = shared_out(replace(own, run=replace(own.run, id="ray")), units=4, cpus=2, retries=7)
    run = execute(PANEL, on_workers, on_ray)
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]
    assert sorted(unit for task in here.tasks for unit in task) == sorted(unit_id(u.labels) for u in PANEL.units)
    assert len(here.tasks) == 6
    assert here.resources["num_cpus"] == 2
    assert here.resources["max_retries"] == 7
    if by == "brand":
        brand = {unit_id(unit.labels): unit.labels[0] for unit in PANEL.units}
        of_tasks = [{brand[unit] for unit in task} for task in here.tasks]
        assert sum(map(len, of_tasks)) == len(set().union(*of_tasks))


def test_a_run_that_was_interrupted_asks_for_the_rest_only(here: Here, tmp_path: Path) -> None:
    own = shared_out(spec(tmp_path), units=5)
    with pytest.raises(KeyboardInterrupt):
        execute(PANEL, own, engine(stop_after=7))
    run = execute(PANEL, own, on_ray)
    assert sum(map(len, here.tasks)) == 16
    assert run.manifest["result_sha256"] == execute(PANEL, spec(tmp_path, "whole"), engine()).manifest["result_sha256"]


def test_a_task_lost_again_and_again_ends_the_run_resumably(here: Here, tmp_path: Path) -> None:
    own = shared_out(spec(tmp_path), units=8)
    here._lost = 1
    with pytest.raises(RunError, match=r"lost again and again.*Repeat the command to resume"):
        execute(PANEL, own, on_ray)
    assert here.cancelled == [0]
    here._lost = None
    assert execute(PANEL, own, on_ray).manifest["units"] == 24


def test_what_a_worker_says_is_wrong_is_said(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("is 4, but", key="compute.memory_limit_gib")

    monkeypatch.setattr(ray_cluster, "fit_units", refuse)
    with pytest.raises(RunError, match=r"^compute\.memory_limit_gib: is 4, but$"):
        execute(PANEL, shared_out(spec(tmp_path)), on_ray)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"compute\.executor.*pip install 'mixfleet\[ray\]'"):
        list(on_ray(PANEL, shared_out(spec("x")), skip=frozenset()))


def test_a_worker_gives_the_records_of_its_units(usual_broadcasts: None) -> None:
    panel = ragged_fleet()
    own = settings(panel.data)
    records = fit_part(write_order(panel, own), [unit_id(unit.labels) for unit in panel.units[1:3]])
    assert not isinstance(records, str)
    found = {result.labels: digest(result) for result in map(decode, records)}
    alone = fit(with_units(panel, panel.units[1:3]), own)
    assert found == {labels: digest(as_stored(result, own.output)) for labels, result in alone.items()}


UNITS = ["data=simulated", "data.simulated.brands=50", "data.simulated.markets=4", "data.simulated.weeks=104"]
WORKERS, DRIVERS = 5, 2
"""How many are killed."""


@pytest.mark.nightly
def test_killed_workers_and_drivers_change_nothing(tmp_path: Path) -> None:
    """200 units: five workers are killed by SIGKILL while they fit, the driver twice; the last session ends."""
    driver = "import sys; sys.path[:0] = sys.argv.pop(1).split(); from mixfleet.cli.entry import main; main()"
    sources = f"{ROOT / 'engine'} {ROOT / 'kernels'}"
    own = [f"run.root={tmp_path}", f"compute.cache_dir={tmp_path}"]
    on_workers = ["compute.executor=ray", "compute.ray.units=10", "run.id=ray"]
    command = [sys.executable, "-c", driver, sources, "fit", *UNITS, *own]
    environment = {name: text for name, text in os.environ.items() if name != "RAY_ADDRESS"}
    log = tmp_path / "ray" / "events.jsonl"
    killed, said = 0, ""
    for session in range(DRIVERS + 1):
        with subprocess.Popen([*command, *on_workers], env=environment, stdout=subprocess.PIPE, text=True) as process:
            wanted = (session + 1) * WORKERS // (DRIVERS + 1)
            while killed < wanted and process.poll() is None:
                busy = [child for child in psutil.Process(process.pid).children(recursive=True) if _fits(child)]
                if busy:
                    time.sleep(0.5)
                    busy[0].kill()
                    killed += 1
                time.sleep(1.0)
            before = _committed(log)
            if session < DRIVERS:
                while _committed(log) <= before and process.poll() is None:
                    time.sleep(0.1)
                process.kill()
            said, _ = process.communicate(timeout=900)
        assert (process.returncode == -signal.SIGKILL) == (session < DRIVERS)
    assert killed == WORKERS
    assert json.loads((tmp_path / "ray" / "manifest.json").read_text())["state"] == "finished", said
    subprocess.run([*command, "run.id=whole"], env=environment, capture_output=True, check=False)
    runs = [mixfleet.open(tmp_path / name, frame="pyarrow") for name in ("ray", "whole")]
    status = [run.table("status").drop_columns(["seconds"]).to_pylist() for run in runs]
    assert len(status[0]) == 200
    assert status[0] == status[1]
    assert runs[0].manifest["result_sha256"] == runs[1].manifest["result_sha256"]


def _fits(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("ray::fit_part") or process.cmdline()[:1] == ["ray::fit_part"]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _committed(log: Path) -> int:
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(json.loads(line).get("units", 0) for line in lines if '"committed"' in line)
