import os
import stat
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Event

import pytest

from mixfleet import runtime
from mixfleet.config import Compute
from mixfleet.errors import ConfigError


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (runtime.CACHE, runtime.CACHE_FROM_SECONDS):
        # Set first, so that what the test sets is taken back too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_jax_gets_a_private_cache(tmp_path: Path) -> None:
    state = runtime.prepare(Compute())
    assert os.environ[runtime.CACHE] == str(state.folder) == str(tmp_path / "mixfleet" / "xla")
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    (state.folder / "program").write_bytes(b"123")
    assert (runtime.cache_state(Compute()).files, runtime.cache_state(Compute()).size) == (1, 3)


@pytest.mark.parametrize("wished", [None, "2"])
def test_products_are_on_one_thread_while_units_are_sampled(
    monkeypatch: pytest.MonkeyPatch, wished: str | None
) -> None:
    monkeypatch.setenv(runtime.PRODUCT_THREADS, wished or "")
    if wished is None:
        monkeypatch.delenv(runtime.PRODUCT_THREADS)
    known = list(runtime._openblas())

    def threads() -> list[int]:
        return [asked() for asked, _ in known]

    before, outcomes, stop = threads(), SimpleQueue[list[int]](), Event()
    for _, tell in known:
        tell(3)
    try:
        with closing(runtime.in_threads([lambda: outcomes.put(threads())], 1, outcomes, stop)) as found:
            assert next(found) == [1 if wished is None else 3] * len(known)
            # Another fit at the same time, which ends first.
            with runtime.products_on_one_thread():
                pass
            assert threads() == [1 if wished is None else 3] * len(known)
        assert threads() == [3] * len(known)
    finally:
        for (_, tell), count in zip(known, before, strict=True):
            tell(count)


def test_what_the_user_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.CACHE, "elsewhere")
    runtime.prepare(Compute())
    assert os.environ[runtime.CACHE] == "elsewhere"


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o1777])
def test_a_folder_that_was_named_keeps_its_mode_and_the_cache_below_is_private(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    folder.chmod(mode)
    state = runtime.prepare(Compute(cache_dir=str(folder)))
    assert state.usable
    assert state.folder.parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    state.folder.chmod(0o777)
    assert "others" in runtime.cache_state(Compute(cache_dir=str(folder))).note
    assert runtime.prepare(Compute(cache_dir=str(folder))).usable
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700


def test_a_folder_that_others_may_change_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match=r"can be written by others; use chmod go-w, or chmod \+t"):
        runtime.prepare(Compute(cache_dir=str(folder)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    assert not list(folder.iterdir())


def test_a_cache_that_was_asked_for_must_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"compute\.cache_dir: cannot be made"):
        runtime.prepare(Compute(cache_dir=str(file / "below")))


def test_the_usual_cache_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert not runtime.prepare(Compute()).usable
    assert runtime.CACHE not in os.environ


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs to give a folder away")
def test_a_cache_of_another_user_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        runtime.prepare(Compute(cache_dir=str(folder)))


def test_work_side_by_side_comes_in_order_and_not_far_ahead() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item**2

    made = runtime.side_by_side(work, range(40), 2)
    assert next(made) == 0
    assert max(begun) <= 3
    assert list(made) == [item**2 for item in range(1, 40)]


def test_an_error_of_work_side_by_side_is_raised_where_its_outcome_is_asked_for() -> None:
    made = runtime.side_by_side(lambda item: 1 / item, (1, 0, 2), 2)
    assert next(made) == 1
    with pytest.raises(ZeroDivisionError):
        next(made)
