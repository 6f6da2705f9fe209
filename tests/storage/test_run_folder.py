import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from mixfleet import run as saved
from mixfleet.config import Channel, Data, RunConfig, Spec, build, presets
from mixfleet.data.panel import unit_id
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting import runner
from mixfleet.posterior.unit_result import TABLES, UnitResult, thin_draws
from mixfleet.storage import manifest, run_folder
from mixfleet.storage.lock import hold_lock
from tests.support.stub_engine import brands, engine, fleet, spec, tree_sha256, unit_result

ACME = ("acme", "DE")


def run_of(root: Path, **keywords: Any) -> saved.Run:
    labels = keywords.pop("labels", brands(12))
    return runner.execute(fleet(labels, [("z", "z")]), spec(root, **keywords), engine(), frame="pyarrow")


class TestRun:
    def test_tables_hold_every_unit_once_in_order(self, tmp_path: Path) -> None:
        run = run_of(tmp_path)
        status = run.status.to_pylist()
        assert [(row["brand"], row["market"]) for row in status] == [*brands(12), ("z", "z")]
        assert status[-1]["status"] == "rejected"
        assert status[-1]["reason"] == "KPI is constant"
        assert status[-1]["rhat_max"] is None
        for name in TABLES:
            table = run.table(name)
            assert table.schema.names == ["brand", "market", "status", *TABLES[name]]
            expected = {row["unit_id"] for row in status if row["status"] not in ("failed", "rejected")}
            assert {unit_id((r["brand"], r["market"])) for r in table.to_pylist()} == expected
        by_unit = {unit_id((row["brand"], row["market"])): row["status"] for row in status}
        assert all(by_unit[unit_id((r["brand"], r["market"]))] == r["status"] for r in run.roi().to_pylist())
        assert run.fit_quality()["holdout_r2"].null_count == run.fit_quality().num_rows

    @pytest.mark.parametrize(("draws", "thin"), [("thin", 100), ("full", 1000)])
    def test_draws_come_back_ragged(self, tmp_path: Path, draws: str, thin: int) -> None:
        run = run_of(tmp_path, draws=draws, thin=thin, labels=brands(60))
        shapes = set()
        for labels in [*brands(60)[::7], brands(60)[-1]]:
            expected = unit_result(labels)
            kept = thin_draws(expected.draws, thin) if draws == "thin" else expected.draws
            got = run.unit(*labels).draws()
            assert got.draws.keys() == kept.keys()
            for name, values in kept.items():
                np.testing.assert_array_equal(got.draws[name], values)
                assert got.dims[name] == expected.dims.get(name, ())
                shapes.add(values.shape[:2])
        assert len(shapes) > 1
        assert not run.unit("z", "z").draws().draws
        with xr.open_zarr(tmp_path / "r" / "posterior.zarr", consolidated=False) as whole:
            assert whole["effect"].dims == ("unit", "chain", "draw", "channel")
            assert [str(label) for label in whole["key_0"].values[:2]] == ["brand000", "brand000"]

    def test_units_may_differ_in_variables_and_axis_labels(self, tmp_path: Path) -> None:
        def differing(*arguments: Any, **keywords: Any) -> Any:
            for number, labels in enumerate(brands(3)):
                names = ("tv", "search", "radio")[number:]
                effect = np.full((2, 3, len(names)), number, np.float32)
                draws = {"effect": effect} | ({"noise": effect[..., 0]} if number else {})
                coords = {"channel": names[::-1]}
                yield UnitResult(labels=labels, status="ok", draws=draws, dims={"effect": ("channel",)}, coords=coords)

        run = runner.execute(fleet(brands(3)), spec(tmp_path), differing)
        first, last = (run.unit(*brands(3)[i]).draws() for i in (0, 2))
        assert first.coords["channel"] == ("radio", "search", "tv")
        assert set(first.draws) == {"effect"}
        assert last.coords["channel"] == ("radio",)
        np.testing.assert_array_equal(last.draws["effect"], np.full((2, 3, 1), 2, np.float32))

    def test_no_draws_when_only_the_summary_is_wanted(self, tmp_path: Path) -> None:
        run = run_of(tmp_path, draws="summary")
        assert not (run.path / "posterior.zarr").exists()
        with pytest.raises(RunError, match="kept no draws"):
            run.unit(*brands(1)[0]).draws()

    def test_order_of_the_engine_does_not_matter(self, tmp_path: Path) -> None:
        panel = fleet(brands(30))
        one = runner.execute(panel, spec(tmp_path, "one"), engine())
        two = runner.execute(panel, spec(tmp_path, "two"), engine(order=-1))
        assert one.manifest["result_sha256"] == two.manifest["result_sha256"]
        assert tree_sha256(one.path) == tree_sha256(two.path)

    def test_folder_says_what_it_was_made_of(self, tmp_path: Path) -> None:
        run = run_of(tmp_path)
        assert run.manifest["versions"]["zarr"]
        assert run.manifest["counts"]["rejected"] == 1
        assert json.loads((tmp_path / "latest.json").read_text()) == {"run": "r"}
        again = build(Spec, presets.read_settings(run.path / "config.yaml"))
        assert again == spec(tmp_path)
        events = [json.loads(line)["event"] for line in (run.path / "events.jsonl").read_text().splitlines()]
        assert (events[0], events[-1]) == ("started", "finished")
        assert not (run.path / "parts").exists()

    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("summary/roi.parquet", lambda run: run.roi()),
            ("summary/status.parquet", lambda run: run.status),
            ("posterior.zarr/noise/c.0.0.0", lambda run: run.unit(*brands(1)[0]).draws()),
            ("manifest.json", lambda run: saved.open(run.path)),
        ],
    )
    def test_damage_of_a_finished_run_is_noticed(
        self, tmp_path: Path, name: str, read: Callable[[saved.Run], Any]
    ) -> None:
        run_of(tmp_path, labels=brands(1))
        path = tmp_path / "r" / name
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 40)):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(RunError, match=r"damaged|changed after"):
                read(saved.open(tmp_path / "r"))
        path.write_bytes(whole)
        read(saved.open(tmp_path / "r"))


class TestResume:
    def interrupted(self, root: Path, stop_after: int = 20) -> None:
        with pytest.raises(KeyboardInterrupt):
            runner.execute(fleet(brands(40)), spec(root), engine(stop_after=stop_after))

    @pytest.mark.parametrize("name", ["", "parts", "summary", "posterior.zarr"])
    def test_a_resumed_run_follows_no_link_out_of_its_folder(self, tmp_path: Path, name: str) -> None:
        self.interrupted(tmp_path)
        own, victim = tmp_path / "r" / name, tmp_path / "victim"
        if own.exists():
            own.rename(victim)
        else:
            victim.mkdir()
        (victim / ".mine.tmp-1").write_text("precious")
        own.symlink_to(victim)
        before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
        # The store of draws is replaced as a whole, its link too.
        with suppress(RunError) if name == "posterior.zarr" else pytest.raises(RunError, match="is a link, which"):
            runner.execute(fleet(brands(40)), spec(tmp_path), engine())
        assert {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()} == before

    def test_interrupted_run_is_marked_and_cannot_be_opened(self, tmp_path: Path) -> None:
        self.interrupted(tmp_path)
        marker = json.loads((tmp_path / "r" / "_PARTIAL").read_text())
        assert (marker["done"], marker["units"]) == (20, 40)
        with pytest.raises(RunError, match=r"not finished\. Resume it .*run.id=r"):
            saved.open(tmp_path / "r")

    def test_resumed_run_fits_the_rest_only(self, tmp_path: Path) -> None:
        self.interrupted(tmp_path)
        skipped: list[frozenset[str]] = []

        def watching(panel: Any, spec: Spec, *, skip: frozenset[str], on_event: Any) -> Any:
            skipped.append(skip)
            return engine()(panel, spec, skip=skip, on_event=on_event)

        run = runner.execute(fleet(brands(40)), spec(tmp_path), watching)
        assert skipped == [frozenset(map(unit_id, brands(40)[:20]))]
        whole = runner.execute(fleet(brands(40)), spec(tmp_path, "whole"), engine())
        assert run.manifest["result_sha256"] == whole.manifest["result_sha256"]
        assert tree_sha256(run.path) == tree_sha256(whole.path)
        assert not (run.path / "_PARTIAL").exists()

    def test_damaged_part_is_refitted_and_kept(self, tmp_path: Path) -> None:
        self.interrupted(tmp_path)
        victim = next((tmp_path / "r" / "parts").glob("*.part"))
        data = bytearray(victim.read_bytes())
        data[1000] ^= 1
        victim.write_bytes(data)
        run = runner.execute(fleet(brands(40)), spec(tmp_path), engine())
        whole = runner.execute(fleet(brands(40)), spec(tmp_path, "whole"), engine())
        assert tree_sha256(run.path) == tree_sha256(whole.path)
        assert [path.name for path in (run.path / "parts").iterdir()] == [f"{victim.name}.corrupt"]

    def test_finished_run_is_returned_at_once(self, tmp_path: Path) -> None:
        first = run_of(tmp_path)

        def never(*arguments: Any, **keywords: Any) -> Any:
            raise AssertionError("fitted again")

        panel = fleet(brands(12), [("z", "z")])
        again = runner.execute(panel, spec(tmp_path), never)
        assert again.manifest == first.manifest

    def test_other_settings_or_data_are_refused_with_the_difference(self, tmp_path: Path) -> None:
        self.interrupted(tmp_path)
        other = replace(spec(tmp_path), inference=replace(spec(tmp_path).inference, seed=7))
        with pytest.raises(RunError, match=r"inference.seed was 0, now it is 7. Choose another run.id"):
            runner.execute(fleet(brands(40)), other, engine())
        with pytest.raises(RunError, match="the data differ"):
            runner.execute(fleet(brands(40), seed=1), spec(tmp_path), engine())
        elsewhere = replace(spec(tmp_path), compute=replace(spec(tmp_path).compute, memory_limit_gib=2.0))
        runner.execute(fleet(brands(40)), elsewhere, engine())

    @pytest.mark.parametrize(
        ("name", "other"), [("kernels", "native (other)"), ("jaxlib", "0.0.1"), ("processor", "z80")]
    )
    def test_other_arithmetic_is_refused_until_the_run_is_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: str
    ) -> None:
        self.interrupted(tmp_path)
        here = manifest._arithmetic()
        with monkeypatch.context() as patch:
            patch.setattr(manifest, "_arithmetic", lambda: here | {name: other})
            with pytest.raises(RunError, match=rf"{name}: was .*, now it is {re.escape(other)}, .*restore what it was"):
                runner.execute(fleet(brands(40)), spec(tmp_path), engine())
        runner.execute(fleet(brands(40)), spec(tmp_path), engine())
        monkeypatch.setattr(manifest, "_arithmetic", lambda: here | {name: other})
        assert runner.execute(fleet(brands(40)), spec(tmp_path), engine()).manifest["state"] == "finished"

    def test_default_ids_are_times_and_never_shared(self, tmp_path: Path) -> None:
        runs = [runner.execute(fleet(brands(1)), spec(tmp_path, None), engine()) for _ in range(3)]
        assert len({run.path for run in runs}) == 3
        assert all(run.path.name[4] == "-" and "Z" in run.path.name for run in runs)
        assert saved.open(tmp_path).path == runs[-1].path

    def test_second_writer_is_refused_and_told_the_first(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        with (
            hold_lock(tmp_path / "r"),
            pytest.raises(RunError, match=r"being written by process \d+ on .* since"),
        ):
            runner.execute(fleet(brands(1)), spec(tmp_path), engine())
        runner.execute(fleet(brands(1)), spec(tmp_path), engine())

    def test_a_unit_without_result_fails_by_name(self, tmp_path: Path) -> None:
        def forgetful(*arguments: Any, **keywords: Any) -> Any:
            return (result for result in engine()(*arguments, **keywords) if result.labels != brands(3)[1])

        run = runner.execute(fleet(brands(3)), spec(tmp_path), forgetful)
        assert run.unit(*brands(3)[1]).reason == "the executor gave no result"


LABELS = [
    "x" * 10_000,
    "../../../up",
    "/etc/passwd",
    "CON",
    "a\nb",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "\N{ARABIC LETTER ALEF}\N{RIGHT-TO-LEFT OVERRIDE}x",
    "\N{GRINNING FACE}",
    "acme",
    "ACME",
    "=cmd()",
    "'; drop table--",
]


def test_labels_never_become_paths_and_come_back_as_they_were(tmp_path: Path) -> None:
    labels = [(label, other) for label in LABELS for other in ("..", "b")]
    run = run_of(tmp_path / "runs", labels=labels)
    assert {(row["brand"], row["market"]) for row in run.status.to_pylist()} == {*labels, ("z", "z")}
    for row in labels:
        unit = run.unit(*row)
        assert tuple(unit.labels.values()) == row
        assert unit.to_datatree().attrs["status"] == unit_result(row).status
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    assert all(path.name.isascii() and len(path.name) < 80 for path in tmp_path.rglob("*"))


def test_key_columns_must_not_hide_result_columns(tmp_path: Path) -> None:
    data = Data(keys=("brand", "channel"), channels=(Channel(name="tv", spend="tv"),))
    with pytest.raises(ConfigError, match=r"data.keys: 'channel' is a column of the summary tables; rename"):
        runner.execute(fleet(brands(1)), Spec(data=data, run=RunConfig(root=str(tmp_path))), engine())
    assert not list(tmp_path.iterdir())


def test_a_saved_run_is_read_without_the_sampling_stack(tmp_path: Path) -> None:
    run_of(tmp_path)
    program = (
        "import sys\n"
        "from mixfleet.run import open\n"
        "run = open(sys.argv[1])\n"
        "assert len(run.roi()) and run.unit('brand000', 'market0').to_datatree() is not None\n"
        "loaded = {'jax', 'numpyro', 'optax', 'hydra'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(tmp_path)], check=True)


def test_many_rows_make_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixfleet.storage.summary_tables._GROUP_ROWS", 50)
    run = run_of(tmp_path, labels=brands(40))
    assert pq.ParquetFile(run.path / run_folder.SUMMARY / "weekly.parquet").num_row_groups > 3


def test_every_status_says_which_gates_were_loosened(tmp_path: Path) -> None:
    settings = spec(tmp_path)
    usual = runner.execute(fleet(brands(2)), settings, engine()).table("status")["loosened"].to_pylist()
    loose = replace(
        settings, inference=replace(settings.inference, rhat_max=1.2), run=replace(settings.run, id="loose")
    )
    told = runner.execute(fleet(brands(2)), loose, engine()).table("status")["loosened"].to_pylist()
    assert (usual, told) == ([""] * 2, ["inference.rhat_max is 1.2, usually 1.01"] * 2)
