"""A run folder is read as it was committed, or not at all: no damage passes silently or ends in a traceback."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixfleet import run as saved
from mixfleet.budgeting.plan import Plan
from mixfleet.config import Model
from mixfleet.errors import RunError
from mixfleet.storage.output_folder import read_output
from mixfleet.storage.table_files import write_tables
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
    return found


def delete(path: Path, _: Path, chance: random.Random) -> None:
    path.unlink()


def flip(path: Path, _: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def truncate(path: Path, _: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def swap(path: Path, other: Path, chance: random.Random) -> None:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


@pytest.mark.parametrize("damages", [120, pytest.param(500, marks=(pytest.mark.slow, pytest.mark.nightly))])
def test_no_damage_passes_silently_or_ends_in_a_traceback(tmp_path: Path, damages: int) -> None:
    run = saved_run(tmp_path, Model())
    run.budget(weeks=4, frontier=True).save(run.path / "budget")
    write_tables({"forecast": run.table("roi")}, run.path / "forecast", "csv", "parquet", name="forecast")
    whole = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.stat().st_size}
    expected = everything(tmp_path)
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    kinds: list[Callable[[Path, Path, random.Random], None]] = [delete, flip, truncate, swap]
    said: list[str] = []
    for number in range(damages):
        path, damage = list(whole)[number % len(whole)], chance.choice(kinds)
        other = chance.choice([one for one in whole if one != path])
        damage(path, other, chance)
        try:
            assert everything(tmp_path) == expected, f"{damage.__name__} of {path}, seed {seed}"
        except RunError as error:
            said.append(str(error))
        path.write_bytes(whole[path])
        other.write_bytes(whole[other])
    # Few files are not read: the log, the lock and the settings to be used again.
    assert len(said) > 0.8 * damages
    assert all(str(tmp_path) in text for text in said)
    assert everything(run.path) == expected


def test_a_missing_shard_is_said_with_its_remedy(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    (run.path / "posterior.zarr" / "effect" / "c.0.0.0.0").unlink()
    with pytest.raises(RunError, match=r"effect/c\.0\.0\.0\.0 cannot be read.*fit again with another run.id"):
        run.insight.roi()


def test_another_variables_shard_is_no_substitute(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model())
    draws = run.path / "posterior.zarr"
    (draws / "effect" / "c.0.0.0.0").write_bytes((draws / "rate" / "c.0.0.0.0").read_bytes())
    with pytest.raises(RunError, match=r"effect/c\.0\.0\.0\.0 is damaged"):
        run.budget()
