"""Law 8: nothing is lost. A run cut off at any moment resumes to the bytes of one that was not."""

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mixfleet import run as saved
from mixfleet.errors import RunError
from mixfleet.fitting import runner
from mixfleet.storage import atomic_files
from tests.support import stub_engine
from tests.support.stub_engine import brands, engine, fleet, spec, tree_sha256

UNITS = 40


def outcome(folder: Path) -> tuple[str, dict[str, str]]:
    """What must be equal between two runs of the same table, once the run is finished."""
    run = saved.open(folder, frame="pyarrow")
    status = run.status
    assert status.num_rows == run.manifest["units"]
    assert len(set(status["unit_id"].to_pylist())) == status.num_rows
    timeless = status.drop_columns(["seconds"]).to_pylist()
    return run.manifest["result_sha256"] + repr(timeless), tree_sha256(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Outcome of a run that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    runner.execute(fleet(brands(UNITS)), spec(root), engine())
    return outcome(root / "r")


def start_child(root: Path) -> tuple[Any, Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.stub_engine"])
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=stub_engine.work, args=(str(root), UNITS, there))
    child.start()
    there.close()
    return child, here


def wait_for(pipe: Any, left: int) -> None:
    """Return when the child has no more than so many units left, or has ended."""
    with suppress(EOFError):
        while pipe.recv() > left:
            pass


def test_killed_ten_times_at_random_moments(tmp_path: Path, whole: tuple[str, dict[str, str]]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    killed = 0
    for trial in range(5):
        root = tmp_path / str(trial)
        for again in range(2):
            child, pipe = start_child(root)
            # The second child of every other trial gets as far as merging the parts.
            late = again and trial % 2
            wait_for(pipe, 1 if late else UNITS - moments.randint(1, 15) * (again + 1))
            time.sleep(moments.uniform(0.0, 0.15 if late else 0.01))
            child.kill()
            child.join()
            pipe.close()
            killed += child.exitcode == -signal.SIGKILL
        runner.execute(fleet(brands(UNITS)), spec(root), engine(order=-1))
        assert outcome(root / "r") == whole
        assert not (root / "r" / "parts").exists()
    assert killed >= 8


def test_sigterm_saves_what_is_finished_and_marks_the_run(tmp_path: Path, whole: tuple[str, dict[str, str]]) -> None:
    child, pipe = start_child(tmp_path)
    wait_for(pipe, UNITS - 10)
    child.terminate()
    child.join(5.0)
    pipe.close()
    assert child.exitcode == 1
    assert (tmp_path / "r" / "_PARTIAL").exists()
    fitted: list[str] = []
    runner.execute(fleet(brands(UNITS)), spec(tmp_path), recording(engine(), fitted))
    assert 1 <= UNITS - len(fitted) <= UNITS - 1
    assert UNITS - len(fitted) >= 10
    assert outcome(tmp_path / "r") == whole
    assert not (tmp_path / "r" / "_PARTIAL").exists()


def test_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    child, pipe = start_child(tmp_path)
    wait_for(pipe, UNITS - 3)
    with pytest.raises(RunError, match=rf"being written by process {child.pid} on .*choose another run.id"):
        runner.execute(fleet(brands(UNITS)), spec(tmp_path), engine())
    child.kill()
    child.join()
    pipe.close()
    assert runner.execute(fleet(brands(UNITS)), spec(tmp_path), engine()).manifest["state"] == "finished"


def recording(inner: Callable[..., Any], fitted: list[str]) -> Callable[..., Any]:
    def fit_units(*arguments: Any, **keywords: Any) -> Any:
        for result in inner(*arguments, **keywords):
            fitted.append("/".join(result.labels))
            yield result

    return fit_units


class PowerLoss(BaseException):
    """The process is gone."""


class FaultyOs:
    """`os` for `mixfleet.storage.atomic_files`, in which the n-th operation that touches the disk fails.

    Without an error number the failure is a loss of power: nothing happens after it, and `lose` undoes what
    no fsync had made durable: bytes of files, and names in folders.
    """

    COUNTED = ("open", "write", "fsync", "link", "replace", "unlink", "mkdir", "ftruncate")

    def __init__(self, fail_at: int, number: int | None) -> None:
        self.operations = 0
        self._fail_at = fail_at
        self._errno = number
        self._dead = False
        self._paths: dict[int, Path] = {}
        self._unsynced: dict[int, tuple[int, int]] = {}
        self._names: dict[Path, list[tuple[Path, bytes | None]]] = {}

    def __getattr__(self, name: str) -> Any:
        return self._counted(name) if name in self.COUNTED else getattr(os, name)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        self._paths.pop(descriptor, None)

    def lose(self) -> None:
        for copy, size in self._unsynced.values():
            os.ftruncate(copy, size)
        for names in self._names.values():
            for path, before in reversed(names):
                path.unlink(missing_ok=True)
                if before is not None:
                    path.write_bytes(before)
        self.release()

    def release(self) -> None:
        for copy, _ in self._unsynced.values():
            os.close(copy)
        self._unsynced.clear()

    def _counted(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self._dead:
                raise PowerLoss
            self.operations += 1
            if self.operations == self._fail_at:
                if self._errno is not None:
                    raise OSError(self._errno, os.strerror(self._errno))
                self._dead = True
                raise PowerLoss
            return getattr(self, f"_{name}", getattr(os, name))(*arguments)

        return call

    def _open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        new = bool(flags & os.O_CREAT) and not path.exists()
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        if new:
            self._names.setdefault(path.parent, []).append((path, None))
        return descriptor

    def _write(self, descriptor: int, data: memoryview) -> int:
        inode = os.fstat(descriptor).st_ino
        if inode not in self._unsynced:
            # Opened anew, because the caller closes its own descriptor before power may be lost.
            copy = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY)
            self._unsynced[inode] = (copy, os.fstat(descriptor).st_size)
        # Every write is short: what a caller does about that is tested on the way.
        return os.write(descriptor, data[: max(1, len(data) // 2)] if len(data) > 4096 else data)

    def _fsync(self, descriptor: int) -> None:
        # The real disk is not made to wait: that would take most of the test's time.
        path = self._paths[descriptor]
        self._names.pop(path, None)
        held = self._unsynced.pop(os.fstat(descriptor).st_ino, None)
        if held is not None:
            os.close(held[0])

    def _link(self, old: Path, new: Path) -> None:
        os.link(old, new)
        self._names.setdefault(new.parent, []).append((new, None))

    def _replace(self, old: Path, new: Path) -> None:
        before = new.read_bytes() if new.exists() else None
        os.replace(old, new)
        self._names.setdefault(new.parent, []).append((new, before))


def small_run(root: Path, draws: str) -> None:
    runner.execute(fleet(brands(3), [("z", "z")]), spec(root, draws=draws), engine())


def operations_of(root: Path, draws: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    faulty = FaultyOs(0, None)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "os", faulty)
        small_run(root, draws)
    faulty.release()
    return faulty.operations, outcome(root / "r")


FAULTS = {"power": None, "full": errno.ENOSPC, "broken": errno.EIO}


@pytest.mark.parametrize(
    ("fault", "draws", "step"), [("power", "summary", 2), ("power", "thin", 29), ("full", "thin", 23)]
)
def test_an_operation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, draws: str, step: int) -> None:
    fail_every(tmp_path, monkeypatch, fault, draws, step)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "draws", "step"),
    [
        ("power", "summary", 1),
        pytest.param("power", "thin", 3, marks=pytest.mark.nightly),
        *((fault, "thin", 9) for fault in ("full", "broken")),
    ],
)
def test_many_operations_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, draws: str, step: int
) -> None:
    fail_every(tmp_path, monkeypatch, fault, draws, step)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("draws", ["summary", "thin"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, draws: str) -> None:
    fail_every(tmp_path, monkeypatch, fault, draws, 1)


def fail_every(root: Path, monkeypatch: pytest.MonkeyPatch, fault: str, draws: str, step: int) -> None:
    """Let every `step`-th operation of a run fail, each in a run of its own, and resume that run."""
    monkeypatch.setattr(runner, "COMMIT_UNITS", 2)
    operations, expected = operations_of(root / "whole", draws, monkeypatch)
    for n in range(random.SystemRandom().randint(1, step), operations + 1, step):
        folder = root / str(n)
        faulty = FaultyOs(n, FAULTS[fault])
        with monkeypatch.context() as patch:
            patch.setattr(atomic_files, "os", faulty)
            # A failure in tidying up after the result is committed may do no harm, so success is no fault.
            with suppress(RunError, PowerLoss):
                small_run(folder, draws)
        assert faulty.operations >= n
        if fault == "power":
            faulty.lose()
        faulty.release()
        with monkeypatch.context() as patch:
            patch.setattr(atomic_files, "os", calm := FaultyOs(0, None))
            small_run(folder, draws)
        calm.release()
        assert outcome(folder / "r") == expected, f"operation {n} of {operations}"
        assert not list(folder.rglob("*.tmp-*")), f"operation {n} of {operations}"


def test_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "COMMIT_UNITS", 10)
    room = 200_000

    class FullOs:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, descriptor: int, data: memoryview) -> int:
            nonlocal room
            if room < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room -= len(data)
            return os.write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(atomic_files, "os", FullOs())
        with pytest.raises(RunError, match=r"disk is full: writing .*part needs \d+ bytes.*same run.id"):
            runner.execute(fleet(brands(UNITS)), spec(tmp_path), engine())
    fitted: list[str] = []
    runner.execute(fleet(brands(UNITS)), spec(tmp_path), recording(engine(), fitted))
    assert 0 < len(fitted) < UNITS
