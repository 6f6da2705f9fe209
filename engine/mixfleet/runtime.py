"""Where work runs: the cores, threads on them, and where jax keeps compiled programs.

Jax is told by environment variables before it starts, so this module loads no jax and a variable that the user has set
wins.
"""

import ctypes
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock
from typing import TypeVar

from mixfleet.config import Compute
from mixfleet.errors import ConfigError

T = TypeVar("T")
Item = TypeVar("Item")

POLL_SECONDS = 0.5
"""How long who waits for threads waits at a time, to see whether one of them has failed."""

PRODUCT_THREADS = "OPENBLAS_NUM_THREADS"
"""Threads of a product of matrices, as the library that works it out reads it when it is loaded."""

CACHE = "JAX_COMPILATION_CACHE_DIR"
CACHE_FROM_SECONDS = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """The folder of compiled programs."""

    folder: Path
    usable: bool
    files: int
    size: int
    """Bytes."""

    note: str
    """Why it is not usable; empty when it is."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(
    works: Sequence[Callable[[], None]], threads: int, outcomes: SimpleQueue[T], stop: Event
) -> Generator[T | None]:
    """What the works put into `outcomes`, as it comes, and None now and then while there is nothing.

    It does not end by itself: whoever has enough closes it, which sets `stop` and waits for the works to end. An error
    of one of them is raised here.
    """
    with products_on_one_thread(), ThreadPoolExecutor(threads, thread_name_prefix="mixfleet") as pool:
        running = [pool.submit(work) for work in works]
        try:
            while True:
                try:
                    outcome = outcomes.get(timeout=POLL_SECONDS)
                except Empty:
                    for future in running:
                        if future.done():
                            future.result()
                    outcome = None
                yield outcome
        finally:
            stop.set()
            for future in running:
                future.cancel()


def side_by_side(work: Callable[[Item], T], items: Iterable[Item], threads: int) -> Iterator[T]:
    """What the work makes of each item, in their order, several at a time and few ahead of who takes them."""
    with ThreadPoolExecutor(threads, thread_name_prefix="mixfleet") as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def products_on_one_thread() -> Iterator[None]:
    """Products of matrices are worked out by the thread that asks for them, unless the user has said otherwise.

    Those of one unit are small and many: other threads would mostly spin, and take the cores from those that sample.
    """
    if PRODUCT_THREADS in os.environ:
        yield
        return
    with _ON_ONE.lock:
        if not _ON_ONE.fits:
            _ON_ONE.before = [(tell, asked()) for asked, tell in _openblas()]
            for tell, _ in _ON_ONE.before:
                tell(1)
        _ON_ONE.fits += 1
    try:
        yield
    finally:
        with _ON_ONE.lock:
            _ON_ONE.fits -= 1
            for tell, threads in _ON_ONE.before if not _ON_ONE.fits else ():
                tell(threads)


class _OnOne:
    """Fits of this process that have products on one thread, and how many threads there were before the first."""

    def __init__(self) -> None:
        self.lock, self.fits = Lock(), 0
        self.before: list[tuple[Callable[[int], None], int]] = []


_ON_ONE = _OnOne()


def _openblas() -> Iterator[tuple[Callable[[], int], Callable[[int], None]]]:
    """How many threads each OpenBLAS uses that numpy or scipy brought and loaded, and what says how many it is to."""
    for package in ("numpy", "scipy"):
        if (loaded := sys.modules.get(package)) is None or not hasattr(os, "RTLD_NOLOAD"):
            continue
        for path in (Path(str(loaded.__file__)).parent.parent / f"{package}.libs").glob("libscipy_openblas*"):
            try:
                library = ctypes.CDLL(str(path), os.RTLD_NOLOAD)
            except OSError:  # nobody has loaded it
                continue
            for width in ("64_", ""):
                if hasattr(library, name := f"scipy_openblas_set_num_threads{width}"):
                    yield getattr(library, name.replace("set", "get")), getattr(library, name)


def cache_folder(compute: Compute) -> Path:
    """Where compiled programs are kept between processes."""
    if compute.cache_dir is not None:
        # A folder of our own, so that the one that was named keeps its mode.
        return Path(compute.cache_dir).expanduser() / "mixfleet-xla"
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "mixfleet" / "xla"


def prepare(compute: Compute) -> CacheState:
    """Sets the compile cache; to be called before jax is imported.

    A cache in the usual place that cannot be used is done without; one that was asked for must work.

    Raises:
        ConfigError: `compute.cache_dir` cannot be written, or belongs to somebody else.
    """
    state = cache_state(compute, create=True)
    if state.usable:
        os.environ.setdefault(CACHE, str(state.folder))
        os.environ.setdefault(CACHE_FROM_SECONDS, "0.2")
    elif compute.cache_dir is not None:
        raise ConfigError(state.note, key="compute.cache_dir")
    return state


def cache_state(compute: Compute, *, create: bool = False) -> CacheState:
    """What the compile cache looks like.

    Args:
        compute: Says where it is.
        create: Make the folder, and make it private: it holds programs that later processes run.
    """
    folder = cache_folder(compute)
    note = "" if compute.cache_dir is None else _named_fault(folder.parent)
    note = note or (_private(folder) if create else _fault(folder))
    files = [] if note or not folder.is_dir() else [path for path in folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return CacheState(folder=folder, usable=not note, files=len(files), size=size, note=note)


def _private(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    if not (fault := _owner_fault(folder)) and not folder.is_symlink():
        folder.chmod(0o700)
    return fault or _fault(folder)


def _fault(folder: Path) -> str:
    if not folder.is_dir():
        return "" if not folder.exists() else "is no folder"
    if fault := _owner_fault(folder):
        return fault
    if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        return "can be read or written by others; use chmod 700"
    return "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "cannot be written"


def _named_fault(folder: Path) -> str:
    """Why the folder that the user named, whose mode stays as it is, is no place for a private one."""
    if os.name != "posix" or not folder.is_dir():
        return ""
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0):
        return "belongs to another user"
    # Whoever may rename the private folder could put another one in its place; the sticky bit forbids it.
    exposed = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    return "can be written by others; use chmod go-w, or chmod +t" if exposed else ""


def _owner_fault(folder: Path) -> str:
    # Whoever owns the folder chooses the programs that this process would run.
    return "belongs to another user" if os.name == "posix" and folder.stat().st_uid != os.getuid() else ""
