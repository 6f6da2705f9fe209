"""Shards: parts of a fleet that together are the run that one process would have made."""

from dataclasses import replace
from pathlib import Path

import pytest

from mixfleet.config import Pooling, Spec
from mixfleet.data.panel import Panel, unit_id
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting.executors.shards import collected, shard_folders, shard_of
from mixfleet.fitting.runner import execute, execute_shard
from tests.support.stub_engine import brands, engine, fleet, spec, tree_sha256

PANEL = fleet(brands(23), [("z", "z")])


def part(settings: Spec, shard: str) -> Spec:
    return replace(settings, compute=replace(settings.compute, shard=shard))


def fit_shards(root: Path, settings: Spec, parts: int, panel: Panel = PANEL) -> list[Path]:
    return [execute_shard(panel, part(settings, f"{i}/{parts}"), engine()) for i in range(parts)]


@pytest.mark.parametrize("parts", [1, 4, 40])
@pytest.mark.parametrize("by", ["none", "brand", "crossed"])
def test_every_unit_is_in_one_shard_with_its_group(by: str, parts: int, tmp_path: Path) -> None:
    settings = replace(spec(tmp_path), pooling=Pooling(by=by))
    shards = [shard_of(PANEL, settings, i, parts) for i in range(parts)]
    units = [unit for shard in shards for unit in shard]
    assert sorted(units) == sorted(unit_id(unit.labels) for unit in PANEL.units)
    largest = {"none": 1, "brand": 4, "crossed": 23}[by]
    assert max(map(len, shards)) <= len(units) / parts + largest
    if by != "none":
        for places in settings.pooling.groups(PANEL.keys, [unit.labels for unit in PANEL.units]).values():
            ids = {unit_id(PANEL.units[place].labels) for place in places}
            assert sum(not ids.isdisjoint(shard) for shard in shards) == 1
    turned = replace(PANEL, units=PANEL.units[::-1])
    assert [shard_of(turned, settings, i, parts) for i in range(parts)] == shards


@pytest.mark.parametrize("by", ["none", "brand"])
def test_what_is_collected_is_what_one_process_makes(by: str, tmp_path: Path) -> None:
    settings = replace(spec(tmp_path, "june"), pooling=Pooling(by=by))
    fit_shards(tmp_path, settings, 4)
    run = execute(PANEL, settings, collected(shard_folders(tmp_path / "june")))
    whole = execute(PANEL, replace(settings, run=replace(settings.run, id="whole")), engine())
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]
    assert tree_sha256(run.path) == tree_sha256(whole.path)
    assert run.counts == whole.counts


def test_an_interrupted_shard_goes_on(tmp_path: Path) -> None:
    settings = part(spec(tmp_path, "june"), "0/2")
    with pytest.raises(KeyboardInterrupt):
        execute_shard(PANEL, settings, engine(stop_after=5))
    with pytest.raises(RunError, match=r"not finished: 0/2, 1/2; repeat"):
        shard_folders(tmp_path / "june")
    fitted: list[frozenset[str]] = []

    def watching(panel, spec, *, skip, on_event):
        fitted.append(skip)
        return engine()(panel, spec, skip=skip, on_event=on_event)

    folder = execute_shard(PANEL, settings, watching)
    assert len(fitted[0]) == 23 - len(shard_of(PANEL, settings, 0, 2)) + 5
    assert (folder / "_DONE").is_file()
    assert not (folder / "_PARTIAL").exists()
    assert execute_shard(PANEL, settings, watching) == folder
    assert len(fitted) == 1


def test_shards_of_another_table_or_setting_are_refused(tmp_path: Path) -> None:
    settings = spec(tmp_path, "june")
    fit_shards(tmp_path, settings, 2)
    other = fleet(brands(23), [("z", "z")], seed=1)
    with pytest.raises(RunError, match="the data differ"):
        execute(other, settings, collected(shard_folders(tmp_path / "june")))
    with pytest.raises(RunError, match="the data differ"):
        execute_shard(other, part(settings, "1/2"), engine())


def test_missing_and_mixed_shards_are_named(tmp_path: Path) -> None:
    settings = spec(tmp_path, "june")
    with pytest.raises(RunError, match="holds no shards"):
        shard_folders(tmp_path / "june")
    execute_shard(PANEL, part(settings, "1/3"), engine())
    with pytest.raises(RunError, match=r"not finished: 0/3, 2/3"):
        shard_folders(tmp_path / "june")
    execute_shard(PANEL, part(settings, "0/4"), engine())
    with pytest.raises(RunError, match="shards of 3 and of 4"):
        shard_folders(tmp_path / "june")


def test_a_damaged_shard_is_fitted_again(tmp_path: Path) -> None:
    settings = spec(tmp_path, "june")
    folders = fit_shards(tmp_path, settings, 2)
    damaged = next((folders[0] / "parts").glob("*.part"))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"is damaged: repeat its command with compute.shard=0/2"):
        execute(PANEL, settings, collected(shard_folders(tmp_path / "june")))
    fit_shards(tmp_path, settings, 2)
    run = execute(PANEL, settings, collected(shard_folders(tmp_path / "june")))
    assert run.manifest["units"] == 24


def test_a_shard_needs_a_run_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.id"):
        execute_shard(PANEL, part(spec(tmp_path, None), "0/2"), engine())
    with pytest.raises(ConfigError, match=r"compute\.shard: must be i/n"):
        part(spec(tmp_path), "2/2")
