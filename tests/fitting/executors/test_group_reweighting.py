"""A pooled group's draws of last night, weighed as one, are tonight's posterior; where they cannot be, it is fitted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixfleet.config import Pooling, Spec
from mixfleet.data.panel import Panel, Unit, unit_id
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.executors.carry import Base
from mixfleet.fitting.executors.reweighting import reweighting
from mixfleet.fitting.runner import execute
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.run import Run
from mixfleet.storage.reader import read_run
from tests.support.lift_tests import with_tests
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

PANEL = ragged_fleet()
GROUPS = tuple(sorted({unit.labels[0] for unit in PANEL.units}))
ONE = replace(PANEL, units=tuple(unit for unit in PANEL.units if unit.labels[0] == GROUPS[0]))


def spec(root: Path, name: str, base: Run | None = None, **run: str) -> Spec:
    own = settings(PANEL.data)
    given = {} if base is None else {"base": str(base.path)}
    return replace(own, pooling=Pooling(by="brand"), run=replace(own.run, root=str(root), id=name, **given, **run))


def revised(unit: Unit, weeks: int, factor: float) -> Unit:
    """Whose last weeks read otherwise, the last one, which ends the calendar, left out."""
    kpi = unit.kpi.copy()
    kpi[-1 - weeks : -1] *= factor
    return replace(unit, kpi=kpi)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, usual_broadcasts: None) -> Run:
    """Of one group."""
    return execute(ONE, spec(tmp_path_factory.mktemp("evening"), "evening"), fit_units, frame="pyarrow")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_revised_week_moves_the_whole_group_as_a_fit_would(tmp_path: Path) -> None:
    def thorough(name: str, base: Run | None = None, **run: str) -> Spec:
        """With so many draws that how much is borrowed, a ratio of variances, is known to a tenth."""
        own = spec(tmp_path, name, base, **run)
        longer = replace(own.inference, ess_target=6000, max_draws=12_000)
        return replace(own, inference=longer, output=replace(own.output, draws="full"))

    evening = execute(PANEL, thorough("evening"), fit_units, frame="pyarrow")
    of = {brand: [unit for unit in PANEL.units if unit.labels[0] == brand] for brand in GROUPS}
    first, second, third = (of[brand] for brand in GROUPS)
    units = (revised(first[0], 1, 1.04), first[1], revised(second[0], 26, 2.0), second[1], *third)
    tonight = replace(PANEL, units=units)
    run = execute(tonight, thorough("night", evening, reuse="reweighted"), fit_units, frame="pyarrow")
    whole = execute(tonight, thorough("whole"), fit_units, frame="pyarrow")
    status = {row["market"] + row["brand"]: row for row in run.table("status").to_pylist()}
    by_brand = {brand: {row["origin"] for row in status.values() if row["brand"] == brand} for brand in GROUPS}
    assert [by_brand[brand] for brand in GROUPS] == [{"reweighted"}, {"fitted"}, {"carried"}]
    for name, row in status.items():
        if row["brand"] == GROUPS[1]:
            assert row["why_fitted"].startswith("its group is fitted: ")
        else:
            assert row["why_fitted"] is None
        assert (row["pareto_k"] is not None) == (row["brand"] == GROUPS[0]), name
    for table, column, spread in (("params", "mean", "sd"), ("roi", "mean", "sd"), ("pooling", "sd", None)):
        rows = zip(run.table(table).to_pylist(), whole.table(table).to_pylist(), strict=True)
        for mine, fitted in rows:
            assert [mine.get(key) for key in ("parameter", "channel", "source")] == [
                fitted.get(key) for key in ("parameter", "channel", "source")
            ]
            sd = fitted[spread] if spread else (fitted["sd_q95"] - fitted["sd_q05"]) / 3.3
            assert abs(mine[column] - fitted[column]) <= 0.25 * sd + 1e-9, (table, mine, fitted)
            if table == "params":
                np.testing.assert_allclose(mine["prior_sd"], fitted["prior_sd"], rtol=1e-9)
            if table == "pooling" and mine["borrowed"] is not None:
                assert mine["borrowed"] == pytest.approx(fitted["borrowed"], abs=0.2)


def test_a_resumed_night_weighs_what_is_missing(evening: Run, tmp_path: Path) -> None:
    """One unit's result of a weighed group is the same whichever others are there already."""
    tonight = replace(ONE, units=(revised(ONE.units[0], 1, 1.04), *ONE.units[1:]))
    own = spec(tmp_path, "night", evening, reuse="reweighted")
    group = [unit_id(unit.labels) for unit in tonight.units]
    both = weighed(evening, tonight, own, {name: "is asked for" for name in group})
    one = weighed(evening, tonight, own, {name: "is asked for" for name in group}, skip=frozenset(group[:1]))
    assert [unit_id(result.labels) for result in both] == group
    assert [unit_id(result.labels) for result in one] == group[1:]
    np.testing.assert_array_equal(both[1].draws["effect"], one[0].draws["effect"])
    for name, values in both[1].tables["pooling"].items():
        np.testing.assert_array_equal(values, one[0].tables["pooling"][name])


def test_groups_say_why_they_are_fitted(evening: Run, tmp_path: Path) -> None:
    first = ONE.units[0]
    own = spec(tmp_path, "night", evening, reuse="reweighted")
    window, alone = own.model.window, replace(ONE, units=(first,))
    test = dict(zip(ONE.keys, first.labels, strict=True)) | {"channel": ONE.channels[0], "roi": 8.0, "se": 0.1}
    test |= {"start": str(first.dates[40]), "end": str(first.dates[43] + 6)}
    higher = replace(first, kpi=np.r_[first.kpi[:-1], 2 * np.nanmax(first.kpi)])
    said = {
        "has other scales, which run.scales=frozen would keep": (higher, *ONE.units[1:]),
        "it has other units than in the base": (first,),
        "has other lift tests": (*with_tests(alone, [test], window=window).units, *ONE.units[1:]),
    }
    for reason, units in said.items():
        others = {unit_id(first.labels): "is asked for"}
        assert weighed(evening, replace(ONE, units=units), own, others) == []
        assert others[unit_id(first.labels)].startswith("its group is fitted: ")
        assert others[unit_id(first.labels)].endswith(reason)


def weighed(
    base: Run, panel: Panel, own: Spec, others: dict[str, str], skip: frozenset[str] = frozenset()
) -> list[UnitResult]:
    """What is weighed of these units, with nothing that could fit them."""

    def none(panel: Panel, spec: Spec, *, skip: frozenset[str], on_event: object = None) -> Iterator[UnitResult]:
        yield from ()

    return list(reweighting(Base(read_run(base.path)), others, none)(panel, own, skip=skip, on_event=None))
