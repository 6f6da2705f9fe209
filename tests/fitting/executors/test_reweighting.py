"""Draws of last night, weighed anew, are tonight's posterior; where they cannot be, the unit is fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.config import Spec
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, Unit
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.executors.reweighting import reweighted
from mixfleet.fitting.runner import execute
from mixfleet.run import Run
from tests.support.lift_tests import with_tests
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

PANEL = replace(ragged_fleet(), units=ragged_fleet().units[::2])
CHANGED = PANEL.units[2].labels
"""Of this unit half a year reads otherwise tonight, too much for weights."""


def cut(unit: Unit, weeks: int) -> Unit:
    """Without its last weeks."""
    names = ("dates", "kpi", "observed", "media", "spend", "controls", "value_per_kpi")
    return replace(unit, **{name: getattr(unit, name)[: len(unit.dates) - weeks] for name in names})


def ended(weeks: int) -> Panel:
    return replace(PANEL, units=tuple(cut(unit, weeks) for unit in PANEL.units))


def spec(root: Path, name: str, base: Run | None = None, **run: str) -> Spec:
    own = settings(PANEL.data)
    given = {} if base is None else {"base": str(base.path)}
    # Units that miss a gate by chance are tried again, for only draws of certified ones are weighed anew.
    inference = replace(own.inference, ladder=True, max_draws=4000)
    return replace(own, inference=inference, run=replace(own.run, root=str(root), id=name, **given, **run))


def night(panel: Panel, own: Spec) -> Run:
    return execute(panel, own, fit_units, frame="pyarrow")


def by_unit(run: Run, column: str) -> dict[tuple[str, ...], object]:
    rows = run.table("status").to_pylist()
    return {(row["brand"], row["market"]): row[column] for row in rows}


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, usual_broadcasts: None) -> Run:
    return night(ended(1), spec(tmp_path_factory.mktemp("evening"), "evening"))


@pytest.fixture(scope="module")
def tonight() -> Panel:
    """A week came to two units, and much is new in the third."""
    other = PANEL.units[2]
    revised = np.where(np.arange(len(other.kpi)) >= len(other.kpi) - 26, 2 * other.kpi, other.kpi)
    return replace(PANEL, units=(*PANEL.units[:2], replace(other, kpi=revised)))


@pytest.mark.parametrize("scales", [pytest.param("own", marks=pytest.mark.nightly), "frozen"])
def test_new_weeks_move_draws_as_a_fit_would(scales: str, evening: Run, tonight: Panel, tmp_path: Path) -> None:
    run = night(tonight, spec(tmp_path, "night", evening, scales=scales, reuse="reweighted"))
    whole = night(tonight, spec(tmp_path, "whole", evening, scales=scales))
    assert by_unit(run, "origin") == {unit.labels: "reweighted" for unit in PANEL.units[:2]} | {CHANGED: "fitted"}
    assert set(by_unit(whole, "origin").values()) == {"fitted"}
    assert by_unit(run, "digest")[CHANGED] == by_unit(whole, "digest")[CHANGED]
    why = by_unit(run, "why_fitted")
    assert (why.pop(CHANGED) or "").startswith(("has weights whose tail has the shape ", "would be left with "))
    assert set(why.values()) == {None}
    assert set(by_unit(whole, "why_fitted").values()) == {"has other rows or settings, or its group has"}
    assert {labels for labels, k in by_unit(run, "pareto_k").items() if k is not None} == {
        unit.labels for unit in PANEL.units[:2]
    }
    for table in ("params", "contributions"):
        rows = zip(run.table(table).to_pylist(), whole.table(table).to_pylist(), strict=True)
        for mine, fitted in rows:
            assert mine["parameter" if table == "params" else "component"] in fitted.values()
            assert abs(mine["mean"] - fitted["mean"]) <= 0.25 * fitted["sd"] + 1e-9
            if table == "params":
                np.testing.assert_allclose(mine["prior_sd"], fitted["prior_sd"], rtol=1e-9)
    assert run.insight.contributions().num_rows == whole.insight.contributions().num_rows


def test_what_was_reweighted_is_not_reweighted_again(evening: Run, tmp_path: Path) -> None:
    first = night(ended(0), spec(tmp_path, "first", evening, reuse="reweighted"))
    assert set(by_unit(first, "origin").values()) == {"reweighted"}
    same = night(ended(0), spec(tmp_path, "same", first, reuse="reweighted"))
    assert set(by_unit(same, "origin").values()) == {"carried"}
    assert by_unit(same, "digest") == by_unit(first, "digest")
    assert set(by_unit(same, "why_fitted").values()) == {None}
    plain = night(ended(0), spec(tmp_path, "plain", first))
    assert set(by_unit(plain, "why_fitted").values()) == {"was reweighted in the base"}
    back = night(ended(2), spec(tmp_path, "back", first, reuse="reweighted"))
    assert set(by_unit(back, "why_fitted").values()) == {
        "was reweighted in the base, and weights of weights degenerate"
    }


def test_the_same_data_keep_every_draw(evening: Run) -> None:
    results = {result.labels: result for result in fit_units(ended(1), spec(Path("x"), "x"))}
    for unit in ended(1).units:
        again = reweighted(unit, ended(1), unit, ended(1), spec(Path("x"), "x"), results[unit.labels])
        assert not isinstance(again, str)
        assert again.diagnostics["pareto_k"] == -np.inf
        np.testing.assert_array_equal(again.draws["effect"][0], results[unit.labels].draws["effect"].reshape(-1, 4))
        mine, before = (result.tables["params"] for result in (again, results[unit.labels]))
        np.testing.assert_allclose(mine["prior_mean"], before["prior_mean"])
        effects = mine["mean"][mine["parameter"] == "effect"]
        np.testing.assert_allclose(effects, again.draws["effect"][0].mean(axis=0), rtol=1e-5)
        assert again.tables["roi"].keys() == results[unit.labels].tables["roi"].keys()


def test_lift_tests_that_stay_as_they_were_are_in_the_draws(evening: Run, tmp_path: Path) -> None:
    unit = PANEL.units[0]
    row = dict(zip(PANEL.keys, unit.labels, strict=True)) | {"channel": PANEL.channels[0]}
    row |= {"start": str(unit.dates[40]), "end": str(unit.dates[43] + 6), "roi": 8.0, "se": 0.1}
    window = settings(PANEL.data).model.window
    tested, other = (
        with_tests(replace(PANEL, units=(unit,)), [row | {"se": error}], window=window) for error in (0.1, 0.2)
    )
    early = replace(tested, units=tuple(cut(one, 1) for one in tested.units))
    base = night(early, spec(tmp_path, "evening"))
    run = night(tested, spec(tmp_path, "night", base, reuse="reweighted"))
    assert by_unit(run, "origin") == {unit.labels: "reweighted"}
    whole = night(tested, spec(tmp_path, "whole"))
    for mine, fitted in zip(run.table("roi").to_pylist(), whole.table("roi").to_pylist(), strict=True):
        assert mine["mean"] == pytest.approx(fitted["mean"], abs=0.25 * fitted["sd"])
        assert mine["sd"] == pytest.approx(fitted["sd"], rel=0.2)
    # The channel under test is known by its test.
    assert 2 * run.table("roi")["sd"][0].as_py() < evening.table("roi")["sd"][0].as_py()
    assert run.insight.experiments().num_rows == whole.insight.experiments().num_rows == 1
    changed = night(other, spec(tmp_path, "changed", base, reuse="reweighted"))
    assert by_unit(changed, "why_fitted") == {unit.labels: "has other lift tests"}


def test_frozen_scales_are_those_of_the_weeks_of_the_base(evening: Run, tmp_path: Path) -> None:
    high = replace(PANEL.units[0], kpi=np.r_[PANEL.units[0].kpi[:-1], 1e7])
    panel = replace(PANEL, units=(high, *ended(1).units[1:]))
    run = night(panel, spec(tmp_path, "night", evening, scales="frozen"))
    origins = by_unit(run, "origin")
    assert [origins[unit.labels] for unit in panel.units] == ["fitted", "carried", "carried"]
    frozen, before = run.fleet(10).scales[0], evening.fleet(10).scales[0]
    assert frozen.kpi == pytest.approx(before.kpi, rel=1e-12)
    assert frozen.trend_weeks == before.trend_weeks
    np.testing.assert_array_equal(frozen.media, before.media)
    np.testing.assert_array_equal(frozen.control_sd, before.control_sd)
    moved = spec(tmp_path, "held", evening, scales="frozen")
    with pytest.raises(ConfigError, match=r"run\.scales.*data\.holdout"):
        night(panel, replace(moved, data=replace(moved.data, holdout=13)))


def test_later_weeks_say_nothing_of_a_frozen_scale() -> None:
    unit = PANEL.units[0]
    until = replace(unit, measured_until=unit.dates[-14])
    measured = [
        scaling.measure(one, scaling.likelihood_weeks(one, window=13, holdout=0)) for one in (cut(unit, 13), until)
    ]
    for name in ("kpi", "media", "control_mean", "control_sd", "trend_weeks"):
        np.testing.assert_array_equal(*(getattr(scale, name) for scale in measured))
