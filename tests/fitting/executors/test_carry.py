"""What an earlier run has of a unit is taken over where its data and settings are the same, and only there."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mixfleet import config
from mixfleet.cli import printing
from mixfleet.config import Output, Pooling, Prior, Spec
from mixfleet.data.panel import Panel, read_panel, unit_id
from mixfleet.data.validation.finding import Finding
from mixfleet.errors import RunError
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from mixfleet.storage.manifest import unit_fingerprints
from tests.support.stub_engine import brands, engine, fleet, spec, tree_sha256

PANEL = fleet(brands(12), [("z", "z")])


class Watched:
    """The stand-in engine, with the labels that it fitted."""

    def __init__(self) -> None:
        self.fitted: list[tuple[str, ...]] = []

    def __call__(self, panel: Panel, spec: Spec, *, skip: frozenset[str], on_event) -> Iterator:
        for result in engine()(panel, spec, skip=skip, on_event=on_event):
            self.fitted.append(result.labels)
            yield result


def tonight(panel: Panel, base: Run, settings: Spec | None = None) -> tuple[Run, list[tuple[str, ...]]]:
    """A run on the base, and what was fitted for it."""
    chosen = spec(base.path.parent) if settings is None else settings
    watched = Watched()
    run = replace(chosen.run, id="tonight", base=str(base.path))
    return execute(panel, replace(chosen, run=run), watched), watched.fitted


def failed(run: Run) -> list[tuple[str, ...]]:
    return [(row["brand"], row["market"]) for row in run.table("status").to_pylist() if row["status"] == "failed"]


@pytest.mark.parametrize("output", [{"draws": "summary"}, {"draws": "thin", "thin": 100}, {"draws": "full"}])
def test_an_unchanged_fleet_is_the_same_run(output: dict, tmp_path: Path) -> None:
    settings = spec(tmp_path, **output)
    base = execute(PANEL, settings, engine())
    run, fitted = tonight(PANEL, base, settings)
    assert fitted == failed(base)
    assert run.manifest["result_sha256"] == base.manifest["result_sha256"]
    assert tree_sha256(run.path) == tree_sha256(base.path)
    assert run.manifest["base"] == {
        "run": str(base.path),
        "result_sha256": base.manifest["result_sha256"],
        "carried": 12 - len(failed(base)),
    }


def later(panel: Panel, labels: tuple[str, ...], **changes) -> Panel:
    """The panel with one unit changed."""
    units = tuple(replace(unit, **changes) if unit.labels == labels else unit for unit in panel.units)
    return replace(panel, units=units)


CHANGED = ("brand001", "market2")


@pytest.mark.parametrize(
    "changes",
    [
        {"kpi": np.arange(12.0)},
        {"media": np.ones((12, 2))},
        {"value_per_kpi": np.full(12, 2.0)},
        {"population": 5.0},
        {"kpi_scale": 3.0},
        {"warnings": (Finding(rule="outlier", severity="warning", message="a high week"),)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_unit_alone_is_fitted(changes: dict, tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    _, fitted = tonight(later(PANEL, CHANGED, **changes), base)
    assert set(fitted) - set(failed(base)) == {CHANGED} - set(failed(base))
    assert CHANGED in fitted


def test_rows_of_other_units_move_no_unit(tmp_path: Path) -> None:
    # Messages name the outlier and the unknown KPI by file and line.
    data = config.Data(keys=("market",), channels=(config.Channel(name="tv", spend="tv"),), gaps="absent")
    rng = np.random.default_rng(2)
    dates = pd.date_range("2022-01-03", periods=60, freq="7D")
    one = pd.DataFrame({"market": "b", "date": dates, "kpi": rng.gamma(50, 1, 60), "tv": rng.gamma(2, 1, 60)})
    one.loc[30, "kpi"], one.loc[40, "kpi"] = 10_000.0, np.nan
    both = pd.concat([one.assign(market="c", kpi=rng.gamma(50, 1, 60)), one])

    def inputs(table: pd.DataFrame, name: str) -> tuple[str, ...]:
        table.to_csv(tmp_path / name, index=False)
        panel = read_panel(str(tmp_path / name), data)
        unit = next(unit for unit in panel.units if unit.labels == ("b",))
        assert {f.rule for f in unit.warnings if name in f.message} == {"kpi_unknown", "kpi_outlier"}
        return unit_fingerprints(panel, Spec(data=data))[unit_id(unit.labels)], *(f.statement for f in unit.warnings)

    before = inputs(both, "before.csv")
    assert before == inputs(pd.concat([both[both.market == "c"].assign(market="a"), both]), "after.csv")
    assert any("2022-10-10" in statement for statement in before)


def test_units_that_come_are_fitted_and_those_that_go_are_gone(tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    panel = fleet([*brands(12)[1:], ("new", "market")])
    run, fitted = tonight(panel, base)
    assert set(fitted) - set(failed(base)) == {("new", "market")}
    assert run.manifest["units"] == 12


def test_a_pooled_unit_changes_with_its_group(tmp_path: Path) -> None:
    settings = replace(spec(tmp_path), pooling=Pooling(by="brand"))
    base = execute(PANEL, settings, engine())
    _, fitted = tonight(later(PANEL, CHANGED, kpi=np.arange(12.0)), base, settings)
    assert set(fitted) - set(failed(base)) == {row for row in brands(12) if row[0] == "brand001"} - set(failed(base))


def test_what_is_other_than_in_the_base_is_said(tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    settings = spec(tmp_path)
    run, _ = tonight(PANEL, base, replace(settings, inference=replace(settings.inference, seed=9)))
    assert run.manifest["base"]["carried"] == 0
    assert run.manifest["base"]["other_settings"] == ["inference.seed was 0, now it is 9"]
    console = Console(file=io.StringIO(), width=200)
    printing.print_run(console, run, seconds=1.0)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert f"from {base.path}: 0 carried over, 0 reweighted, " in said
    assert "other than there: inference.seed was 0, now it is 9" in said
    with pytest.raises(RunError, match=r"run\.base cannot be read: .*nowhere is no run folder"):
        execute(PANEL, replace(settings, run=replace(settings.run, id="x", base=str(tmp_path / "nowhere"))), engine())


def test_a_setting_reaches_the_units_that_it_is_for(tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    override = {"parameter": "noise", "unit": {"market": "market2"}, "hyperparameters": {"sd": 1.0}}
    for prior, reached in (
        (Prior(overrides=(override,)), {row for row in brands(12) if row[1] == "market2"}),
        (Prior(parameters={"noise": {"sd": 1.0}}), set(brands(12))),
    ):
        settings = replace(spec(tmp_path / str(len(reached))), prior=prior)
        _, fitted = tonight(PANEL, base, replace(settings, run=replace(settings.run, root=str(tmp_path / "other"))))
        assert set(fitted) - set(failed(base)) == reached - set(failed(base))
        for path in sorted((tmp_path / "other" / "tonight").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_killed_night_goes_on_with_its_base(tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    panel = fleet([*brands(12), *[("new", f"market{i}") for i in range(5)]])
    settings = spec(tmp_path, "tonight")
    settings = replace(settings, run=replace(settings.run, base=str(base.path)))
    with pytest.raises(KeyboardInterrupt):
        execute(panel, settings, engine(stop_after=3))
    watched = Watched()
    run = execute(panel, settings, watched)
    whole = execute(panel, spec(tmp_path, "whole"), engine())
    assert len([row for row in watched.fitted if row[0] == "new"]) >= 2 - len(failed(base))
    assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]


def test_a_base_that_was_changed_is_not_trusted(tmp_path: Path) -> None:
    base = execute(PANEL, spec(tmp_path), engine())
    path = base.path / "summary" / "roi.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="roi"):
        tonight(PANEL, base)
    with pytest.raises(RunError, match="no run folder"):
        execute(PANEL, replace(spec(tmp_path), run=replace(spec(tmp_path, "two").run, base="nowhere")), engine())


def test_draws_of_another_extent_are_the_same_draws(tmp_path: Path) -> None:
    """The store of draws pads units to the longest of its run, which tonight may be another one."""
    settings = replace(spec(tmp_path), output=Output(draws="full"))
    base = execute(PANEL, settings, engine())
    few = replace(PANEL, units=PANEL.units[3:6], rejected=())
    run, fitted = tonight(few, base, settings)
    whole = execute(few, replace(settings, run=replace(settings.run, id="whole")), engine())
    assert set(fitted) <= set(failed(base))
    assert tree_sha256(run.path) == tree_sha256(whole.path)
    assert {unit_id(unit.labels) for unit in few.units} == set(run.table("status")["unit_id"].to_pylist())
