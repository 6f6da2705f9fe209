"""Law 3: whatever is wrong with one unit, it ends as the catalogue says and no other unit loses a bit.

What the panel rejects is tested with the panel; here is what reaches the sampler, all of it in one batch.
"""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Spec
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.posterior.unit_result import UnitResult
from mixfleet.storage.result_bytes import digest
from tests.support import poison
from tests.support.poison import CASES, FIRST, STEEP_LIFT, TODAY, VICTIM
from tests.support.quick import Labels, digests, fit, settings, with_units

pytestmark = pytest.mark.usefixtures("programs")
FITTED = [name for name, case in CASES.items() if case.panel != "rejected"]
ALONE = ("P4_constant_channel", "P7_collinear", "P8_huge_kpi", "P18_steep", "P19_outlier")


def clean() -> Panel:
    return read_panel(poison.clean_fleet().table, poison.clean_fleet().data, today=TODAY)


def spoiled_units(name: str) -> list[Unit]:
    """The units of a case, named for it where the case itself names none."""
    panel = read_panel(poison.alone(CASES[name]), poison.settings(CASES[name]), today=TODAY)
    return [replace(unit, labels=(name, "x")) if unit.labels == VICTIM else unit for unit in panel.units]


@pytest.fixture(scope="module")
def climbing() -> Spec:
    """With every rung of the ladder."""
    return settings(clean().data, ladder=True)


@pytest.fixture(scope="module")
def poisoned(climbing: Spec) -> dict[Labels, UnitResult]:
    units = [unit for name in FITTED for unit in spoiled_units(name)]
    middle = len(units) // 2
    return fit(with_units(clean(), [*units[:middle], *clean().units, *units[middle:]]), climbing)


@pytest.mark.parametrize("name", FITTED)
def test_a_poisoned_unit_ends_as_the_catalogue_says(name: str, poisoned: dict[Labels, UnitResult]) -> None:
    for unit in spoiled_units(name):
        result = poisoned[unit.labels]
        assert result.status in CASES[name].status, result.reason
        assert result.reason or result.status == "ok"
        for finding in unit.warnings:
            assert finding.statement in result.reason
        if result.status != "quarantined":
            numbers = [
                values for table in ("contributions", "curves", "fit") for values in result.tables[table].values()
            ]
            assert all(np.all(np.isfinite(values)) for values in numbers if values.dtype.kind == "f")


def test_neighbours_of_poison_keep_every_bit(climbing: Spec, poisoned: dict[Labels, UnitResult]) -> None:
    undisturbed = digests(clean(), climbing)
    assert {labels: digest(poisoned[labels]) for labels in undisturbed} == undisturbed


@pytest.mark.parametrize("name", ALONE)
def test_poison_alone_is_poison_in_company(name: str, climbing: Spec, poisoned: dict[Labels, UnitResult]) -> None:
    for labels, value in digests(with_units(clean(), spoiled_units(name)), climbing).items():
        assert value == digest(poisoned[labels])


def test_an_absent_channel_contributes_nothing(poisoned: dict[Labels, UnitResult]) -> None:
    for name in ("P3_zero_channel", "P3_empty_channel"):
        result = poisoned[name, "x"]
        assert result.status == "ok_warn", result.reason
        table = result.tables["contributions"]
        assert table["component"][0] == "tv"
        assert all(table[column][0] == 0.0 for column in ("mean", "sd", "q05", "q95", "share"))
        assert np.all(result.draws["contribution"][..., 0] == 0.0)
        assert "tv" not in result.tables["roi"]["channel"]
        effect = result.tables["params"]
        row = (effect["parameter"] == "effect") & (effect["channel"] == "tv")
        assert effect["mean"][row] == pytest.approx(effect["prior_mean"][row], rel=0.2)
        assert effect["sd"][row] == pytest.approx(effect["prior_sd"][row], rel=0.2)


def test_a_unit_without_media_is_baseline_alone(poisoned: dict[Labels, UnitResult]) -> None:
    result = poisoned["P3_no_media", "x"]
    assert result.status in ("ok_warn", "ok_retried"), result.reason
    assert np.all(result.draws["contribution"] == 0.0)
    assert "roi" not in result.tables


def test_of_collinear_channels_only_the_sum_is_known(poisoned: dict[Labels, UnitResult]) -> None:
    result = poisoned["P7_collinear", "x"]
    assert "tv and search move together" in result.reason
    each = result.draws["contribution"][..., :2].astype(float)
    assert each.sum(axis=-1).std() < 0.7 * np.sqrt(np.sum(each.std(axis=(0, 1)) ** 2))


def test_a_steep_likelihood_is_certified_only_where_it_is_found(poisoned: dict[Labels, UnitResult]) -> None:
    result = poisoned["P18_steep", "x"]
    spend = poison.alone(CASES["P18_steep"])[FIRST].to_numpy()
    table = result.tables["roi"]
    assert table["channel"][0] == "tv"
    if result.status != "quarantined":
        assert table["mean"][0] == pytest.approx(STEEP_LIFT / spend.max(), rel=0.02)
