"""Commands that are killed while they write: SIGKILL at a change of the disk, in a process that has done all the rest.

`python -m tests.support.mortal_writers FOLDER STEP FIRST NAME...` runs each of `WRITERS` by one request and then, over
its output, by another. The second stops where it begins to write and is forked there for every STEP-th change of the
disk from FIRST on: the fork goes on alone and is killed at that change, readers look at what it leaves, and one more
fork writes over that. Prints how many were killed, by name.
"""

import importlib
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from typer.testing import CliRunner

from mixfleet import api
from mixfleet.budgeting.plan import Plan
from mixfleet.cli.main import app
from mixfleet.config import Model
from mixfleet.storage.atomic_files import TEMPORARY
from mixfleet.storage.output_folder import read_output
from tests.support.saved_run import made_up, panel, saved_run

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"}
"""What Python's audit calls changes of the disk; besides there are files opened for writing and folders exchanged."""

OUTPUTS = "mixfleet.storage.table_files:output_folder"
FILE = "mixfleet.storage.atomic_files:replace_bytes"

DAY, OTHER_DAY = "2024-01-08", "2024-01-15"


class GoOn(Exception):
    """Out of the trials and back to the command."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A command that writes over what it wrote before."""

    earlier: tuple[str, ...]
    """Its arguments; `{run}` is the run, `{root}` the folder of all."""
    later: tuple[str, ...]
    begins: str
    """Module and function, or method, with whose call the command begins to write what differs."""
    target: str
    """File or folder of the output below the folder of all."""
    read: Callable[[Path], Any] = Path.read_bytes
    """Reads the output as its readers do; fails unless it is whole."""
    call: int = 1
    """Which call that is: those before write what there is already."""
    beside: str = ""
    """Folder within the target that is no part of the output. The target cannot be replaced as a whole then, and
    readers find by their digests which of its files belong together."""


def listed(name: str, *, whole: bool = False) -> Callable[[Path], Any]:
    """Files of these names that belong together, `whole` with their bytes."""

    def read(folder: Path) -> Any:
        files = read_output(folder, name, "do it again")
        return files if whole else sorted(files)

    return read


def planned(folder: Path) -> tuple[Any, ...]:
    plan = Plan.read(folder)
    return plan.totals["weeks"], plan.cells.num_rows, plan.weekly.num_rows, sorted(plan.extra)


def contents(path: Path) -> Any:
    """The file's bytes; of a workbook or slides those of their parts, for they also hold the time of writing."""
    if path.suffix in {".xlsx", ".pptx"}:
        with zipfile.ZipFile(path) as file:
            return {one.filename: one.CRC for one in file.infolist() if "docProps" not in one.filename}
    return None if path.suffix == ".sha256" else path.read_bytes()


def of_run(command: str, *options: str) -> tuple[str, ...]:
    return command, "{run}", *options


SETTINGS = (
    "data=simulated",
    "data.simulated.brands=1",
    "data.simulated.markets=2",
    "data.simulated.channels=2",
    "run.root={root}",
)
BACKTEST = ("backtest", *SETTINGS, "run.id=backtest", "--horizon", "4", "--origins")
SWEEP = ("fit", "-m", *SETTINGS, "run.id=sweep")

WRITERS = {
    "plan": Writer(
        earlier=of_run("budget", "--weeks", "4", "--frontier"),
        later=of_run("budget", "--weeks", "8"),
        begins=OUTPUTS,
        target="r/budget",
        read=planned,
    ),
    "report": Writer(
        earlier=of_run("report"), later=of_run("report", "--margin", "0.4"), begins=FILE, target="r/report.html"
    ),
    "slides": Writer(
        earlier=of_run("slides", "--exclude", "ok_warn"),
        later=of_run("slides"),
        begins=FILE,
        target="r/slides.pptx",
        read=contents,
    ),
    "business": Writer(
        earlier=of_run("business", "--margin", "0.4"),
        later=of_run("business", "--margin", "0.5", "--rate", "1"),
        begins="mixfleet.storage.reader:output_folder",
        target="r/business",
        read=listed("business", whole=True),
    ),
    "compare": Writer(
        earlier=("compare", "{root}/one/r", "{run}"),
        later=("compare", "{root}/two/r", "{run}"),
        begins=OUTPUTS,
        target="r/changes",
        read=listed("changes"),
    ),
    "forecast": Writer(
        earlier=of_run("forecast", "--weeks", "4"),
        later=of_run("forecast", "--weeks", "8"),
        begins=OUTPUTS,
        target="r/forecast",
        read=listed("forecast"),
    ),
    "counterfactual": Writer(
        earlier=of_run("counterfactual", "--plan", "{root}/one.csv"),
        later=of_run("counterfactual", "--plan", "{root}/two.csv"),
        begins=OUTPUTS,
        target="r/counterfactual",
        read=listed("counterfactual"),
    ),
    "export": Writer(
        earlier=of_run("export", "--margin", "0.4"),
        later=of_run("export"),
        begins=OUTPUTS,
        target="r/tables",
        read=listed("tables_csv"),
    ),
    "workbook": Writer(
        earlier=of_run("export", "--format", "xlsx", "--margin", "0.4"),
        later=of_run("export", "--format", "xlsx"),
        begins=OUTPUTS,
        target="r/tables",
        read=listed("tables_xlsx"),
    ),
    "backtest": Writer(
        earlier=(*BACKTEST, "1"),
        later=(*BACKTEST, "2"),
        begins=OUTPUTS,
        target="backtest",
        read=listed("backtest", whole=True),
        beside="origins",
    ),
    "sweep": Writer(
        earlier=(*SWEEP, "prior=weak,tight"),
        later=(*SWEEP, "prior=weak,tight,default"),
        begins="mixfleet.evaluation.leaderboard:Leaderboard.write",
        # The first is after the last point that was there.
        call=2,
        target="sweep/sweep.parquet",
        read=lambda path: pd.read_parquet(path).shape,
    ),
}


class Trials:
    """A writer, killed at one change of the disk after the other."""

    def __init__(self, root: Path, writer: Writer, step: int, first: int) -> None:
        self._root, self._writer, self._step, self._number = root, writer, step, first
        self._target = root / writer.target
        self._write = os.write
        self._changes = 0
        self._dying_at = -1
        self._copy = root / "before"

    def run(self) -> None:
        """Both requests. Ends this process after the last trial, and its forks after what they write."""
        invoke(self._root, self._writer.earlier)
        self._before = self._found()
        self._copied(self._target, self._copy)
        module, _, path = self._writer.begins.partition(":")
        owner, _, name = path.rpartition(".")
        place = importlib.import_module(module)
        place = getattr(place, owner) if owner else place
        real, calls = getattr(place, name), count(1)

        def begin(*arguments: Any, **keywords: Any) -> Any:
            if next(calls) < self._writer.call:
                return real(*arguments, **keywords)
            setattr(place, name, real)
            try:
                self._try()
            except GoOn:
                self._watch()
            made = real(*arguments, **keywords)
            if self._writer.begins.endswith(":output_folder"):
                return self._last(made)
            os._exit(0)

        setattr(place, name, begin)
        invoke(self._root, self._writer.later)
        raise AssertionError("the command never began to write")

    @contextmanager
    def _last(self, written: AbstractContextManager[Any]) -> Iterator[Any]:
        """A fork ends with what it writes: what commands compute after that jax cannot do in a fork."""
        with written as value:
            yield value
        os._exit(0)

    def _try(self) -> NoReturn:
        assert self._go_on(0) == 0
        whole = self._found()
        assert whole != self._before, "the two requests write the same"
        kills = 0
        while True:
            self._remove(self._target)
            self._copied(self._copy, self._target)
            status = self._go_on(self._number)
            if not os.WIFSIGNALED(status):
                assert status == 0
                assert self._found() == whole
                # The command's own output is kept from the terminal.
                os.write(1, f"{kills}\n".encode())
                os._exit(0)
            kills += 1
            left = self._found()
            assert left in (self._before, whole), f"neither the old nor the new, killed at change {self._number}"
            assert self._go_on(0) == 0
            assert self._found() == whole, f"the next command, after a kill at change {self._number}"
            hidden = [path for path in self._target.parent.glob(f".*{TEMPORARY}*") if path.is_dir()]
            assert not hidden, f"{hidden} are left of a kill at change {self._number}"
            self._number += self._step

    def _go_on(self, dying_at: int) -> int:
        """The status of a fork that goes on with the command and dies at that change; at none if 0."""
        child = os.fork()
        if not child:
            self._dying_at = dying_at
            raise GoOn
        return os.waitpid(child, 0)[1]

    def _watch(self) -> None:
        sys.addaudithook(self._hear)
        os.write, os.fsync = self._write_half, lambda _: self._change()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR) and self._is_ours(arguments[0]):
                self._change()
        elif event in CHANGES and self._is_ours(arguments[0]):
            self._change()
        elif event == "ctypes.dlsym" and arguments[1] == "renameat2":
            self._change()

    def _is_ours(self, path: Any) -> bool:
        # A name alone is that of a file in a folder that is being removed.
        return isinstance(path, str | Path) and (not os.path.isabs(path) or Path(path).is_relative_to(self._root))

    def _write_half(self, descriptor: int, data: Any) -> int:
        if descriptor <= 2 or not os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(self._root)):
            return self._write(descriptor, data)
        written = self._write(descriptor, data[: max(1, len(data) // 2)])
        self._change()
        return written

    def _change(self) -> None:
        self._changes += 1
        if self._changes == self._dying_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _found(self) -> Any:
        """What readers find, and all files that have a final name, which readers of other programs take as they are."""
        read = self._writer.read(self._target)
        if self._writer.beside or self._target.is_file():
            return read
        return read, {path.name: contents(path) for path in sorted(self._target.iterdir())}

    def _remove(self, path: Path) -> None:
        if path.is_file():
            path.unlink()
        elif self._writer.beside:
            for own in path.iterdir():
                if own.name != self._writer.beside:
                    self._remove(own)
        else:
            shutil.rmtree(path)

    def _copied(self, source: Path, target: Path) -> None:
        if source.is_file():
            shutil.copy(source, target)
        else:
            ignored = shutil.ignore_patterns(self._writer.beside) if self._writer.beside else None
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)


def invoke(root: Path, request: Sequence[str]) -> None:
    """A command in this process."""
    result = CliRunner().invoke(app, [part.format(run=root / "r", root=root) for part in request])
    assert result.exit_code in (0, 1), (result.output, result.exception)


def work(root: Path, name: str, step: int, first: int) -> None:
    """Body of one writer's process."""
    root.mkdir(parents=True)
    saved_run(root, Model(window=4), draws=4)
    saved_run(root / "one", Model(window=4), draws=4)
    saved_run(root / "two", Model(window=4), draws=4, of=panel(statuses={("acme", "DE"): "ok"}))
    for plan, day in (("one", DAY), ("two", OTHER_DAY)):
        (root / f"{plan}.csv").write_text(f"brand,market,channel,date,spend\nacme,DE,search,{day},50\n")
    api.fit_units = made_up(2, 4)
    Trials(root, WRITERS[name], step, first).run()


def main() -> None:
    """All the writers, each in a process that has imported all."""
    folder, step, first = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    failed = False
    for name in sys.argv[4:]:
        print(name, end=" ", flush=True)
        child = os.fork()
        if not child:
            try:
                work(folder / name, name, step, first)
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        failed |= os.waitpid(child, 0)[1] != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
