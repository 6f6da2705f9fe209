"""A run folder is read as it was committed, or not at all: no damage passes silently or ends in a traceback."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mixfleet import run as saved
from mixfleet.budgeting.plan import Plan
from mixfleet.config import Model
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting import runner
from mixfleet.fitting.runner import execute
from mixfleet.storage.output_folder import read_output
from mixfleet.storage.table_files import write_tables
from tests.support import stub_engine
from tests.support.saved_run import saved_run


def everything(path: Path) -> list[Any]:
    """All that can be read from a run, as values that can be compared."""
    run = saved.open(path, frame="pyarrow")
    found: list[Any] = [sorted(run.counts.items()), run.manifest["result_sha256"]]
    tables = sorted(name for name in run.manifest["files"] if name.startswith("summary/"))
    found += [repr(run.table(Path(name).stem).to_pydict()) for name in tables]
    for row in run.status.to_pylist():
        unit = run.unit(row["brand"], row["market"]).draws()
        found.append([(name, unit.dims[name], values.tobytes()) for name, values in sorted(unit.draws.items())])
        found.append(unit.coords)
    found += run.fleet(5).walk(lambda _, series: [np.asarray(part).tobytes() for part in series])
    plan = Plan.read(run.path / "budget")
    found += [plan.totals, *(repr(table.to_pydict()) for table in (plan.cells, plan.weekly, *plan.extra.values()))]
    found.append(read_output(run.path / "forecast", "forecast", ""))
    found.append(run.business)
    return found


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What happens to one file, or to two that are swapped."""

    kind: str
    path: Path
    other: Path
    place: int
    bit: int

    def strike(self) -> None:
        data = bytearray(self.path.read_bytes())
        place = self.place % len(data)
        if self.kind == "delete":
            self.path.unlink()
        elif self.kind == "flip":
            data[place] ^= 1 << self.bit
            self.path.write_bytes(data)
        elif self.kind == "cut":
            self.path.write_bytes(data[:place])
        else:
            self.path.write_bytes(self.other.read_bytes())
            self.other.write_bytes(data)


def damages(files: Iterable[Path]) -> st.SearchStrategy[Damage]:
    paths = st.sampled_from(sorted(files))
    return st.builds(
        Damage,
        kind=st.sampled_from(["delete", "flip", "cut", "swap"]),
        path=paths,
        other=paths,
        place=st.integers(0, 2**24),
        bit=st.integers(0, 7),
    ).filter(lambda damage: damage.kind != "swap" or damage.path != damage.other)


def examples(number: int) -> settings:
    return settings(max_examples=number, deadline=None, phases=(Phase.explicit, Phase.generate, Phase.shrink))


def files_of(folder: Path) -> dict[Path, bytes]:
    """The bytes of every file that has any."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size}


def put_back(whole: Mapping[Path, bytes]) -> None:
    for path, data in whole.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all that commands write into it and read again."""
    root = tmp_path_factory.mktemp("finished")
    run = saved_run(root, Model())
    run.budget(weeks=4, frontier=True).save(run.path / "budget")
    write_tables({"forecast": run.table("roi")}, run.path / "forecast", "csv", "parquet", name="forecast")
    run.keep(margin={"all": 0.4})
    return root


def check_a_finished_run(folder: Path, number: int) -> None:
    whole, expected = files_of(folder), everything(folder)
    said: list[str] = []

    @examples(number)
    @given(damage=damages(whole))
    def strike(damage: Damage) -> None:
        damage.strike()
        try:
            assert everything(folder) == expected
        except RunError as error:
            said.append(str(error))
        finally:
            put_back(whole)

    strike()
    # Few files are not read: the log, the lock and the settings to be used again.
    assert len(said) > 0.8 * number
    assert all(str(folder) in text for text in said)
    assert everything(folder) == expected


def check_an_unfinished_run(folder: Path, number: int) -> None:
    table, engine = stub_engine.fleet(stub_engine.brands(12)), stub_engine.engine()
    undisturbed = execute(table, stub_engine.spec(folder / "whole"), engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "COMMIT_UNITS", 2)
        with pytest.raises(KeyboardInterrupt):
            execute(table, stub_engine.spec(folder / "part"), stub_engine.engine(stop_after=7))
    whole = files_of(folder / "part")
    assert len(whole) > 6
    said: list[str] = []

    @examples(number)
    @given(damage=damages(whole))
    def strike(damage: Damage) -> None:
        damage.strike()
        try:
            resumed = execute(table, stub_engine.spec(folder / "part"), engine)
            assert resumed.manifest["result_sha256"] == undisturbed.manifest["result_sha256"]
            assert stub_engine.tree_sha256(resumed.path) == stub_engine.tree_sha256(undisturbed.path)
        except (RunError, ConfigError) as error:
            said.append(str(error))
        finally:
            shutil.rmtree(folder / "part")
            for path in whole:
                path.parent.mkdir(parents=True, exist_ok=True)
            put_back(whole)

    strike()
    assert all(str(folder) in text or "run.id" in text for text in said)


def test_no_damage_of_a_finished_run_passes_silently_or_ends_in_a_traceback(folder: Path) -> None:
    check_a_finished_run(folder, 100)


def test_an_unfinished_run_that_was_damaged_resumes_to_the_same_or_says_why_not(tmp_path: Path) -> None:
    check_an_unfinished_run(tmp_path, 12)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("check", [check_a_finished_run, check_an_unfinished_run])
def test_no_damage_passes_silently_many_times(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, check: Callable[[Path, int], None]
) -> None:
    check(folder if check is check_a_finished_run else tmp_path_factory.mktemp("unfinished"), 500)


def test_a_missing_shard_is_said_with_its_remedy(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    (run.path / "posterior.zarr" / "effect" / "c.0.0.0.0").unlink()
    with pytest.raises(RunError, match=r"effect/c\.0\.0\.0\.0 cannot be read.*fit again with another run.id"):
        run.insight.roi()


def test_another_variables_shard_is_no_substitute(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    draws = run.path / "posterior.zarr"
    (draws / "effect" / "c.0.0.0.0").write_bytes((draws / "slope" / "c.0.0.0.0").read_bytes())
    with pytest.raises(RunError, match=r"effect/c\.0\.0\.0\.0 is damaged"):
        run.budget()


def test_what_an_unfinished_run_stored_of_itself_is_not_believed(tmp_path: Path) -> None:
    table, engine = stub_engine.fleet(stub_engine.brands(4)), stub_engine.engine()
    with pytest.raises(KeyboardInterrupt):
        execute(table, stub_engine.spec(tmp_path), stub_engine.engine(stop_after=2))
    path = tmp_path / "r" / "manifest.json"
    whole = path.read_text()
    path.write_text(whole.replace('"fingerprint"', '"fingerprinu"'))
    with pytest.raises(RunError, match=r"the manifest of run .*r is damaged. Choose another run.id"):
        execute(table, stub_engine.spec(tmp_path), engine)
    path.write_text(whole.replace('"seed": 0', '"seed": 1', 1).replace('"units": 4', '"units": 5', 1))
    manifest = execute(table, stub_engine.spec(tmp_path), engine).manifest
    assert (manifest["seed"], manifest["units"]) == (0, 4)
