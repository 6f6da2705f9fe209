"""Law 6: results are in the units of the table, and the table's units change nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.data.panel import Panel, Unit
from mixfleet.posterior.unit_result import UnitResult
from tests.support.quick import fit, ragged_fleet, with_units

pytestmark = pytest.mark.usefixtures("programs")
FLEET = ragged_fleet()
UNITS = {unit.labels: unit for unit in FLEET.units}
PARTS = ("mean", "sd", "q05", "q50", "q95")


@pytest.fixture(scope="module")
def plain() -> dict[tuple[str, ...], UnitResult]:
    return fit(FLEET)


def in_other_units(*, kpi: float = 1.0, spend: float = 1.0) -> Panel:
    def converted(unit: Unit) -> Unit:
        return replace(unit, kpi=unit.kpi * kpi, media=unit.media * spend, spend=unit.spend * spend)

    return with_units(FLEET, map(converted, FLEET.units))


@pytest.mark.parametrize(("kpi", "spend"), [(2.0**13, 1.0), (2.0**-30, 1.0), (1.0, 2.0**20), (2.0**-7, 2.0**-9)])
def test_powers_of_two_change_no_digit(kpi: float, spend: float, plain: dict[tuple[str, ...], UnitResult]) -> None:
    for labels, result in fit(in_other_units(kpi=kpi, spend=spend)).items():
        before = plain[labels]
        assert (result.status, result.reason, result.rung) == (before.status, before.reason, before.rung)
        timeless = {name: value for name, value in result.diagnostics.items() if name != "seconds"}
        assert timeless == {name: before.diagnostics[name] for name in timeless}
        np.testing.assert_array_equal(result.draws["lp"], before.draws["lp"])
        # Media that never ran have no unit, so neither has their saturation.
        ran = np.flatnonzero(UNITS[labels].media.any(axis=0))
        factors = {"decay": 1.0, "slope": 1.0, "half_saturation": spend, "effect": kpi, "contribution": kpi}
        for variable, factor in factors.items():
            expected = np.float32(factor) * before.draws[variable][..., ran]
            np.testing.assert_array_equal(result.draws[variable][..., ran], expected, err_msg=variable)
        np.testing.assert_array_equal(result.draws["noise"], np.float32(kpi) * before.draws["noise"])
        for table, factor in {"roi": kpi / spend, "contributions": kpi, "curves": kpi}.items():
            for part in PARTS:
                expected = factor * before.tables[table][part]
                np.testing.assert_array_equal(result.tables[table][part], expected, err_msg=f"{table} {part}")
        paid = np.isin(result.tables["curves"]["channel"], np.array(FLEET.channels)[ran])
        spends = result.tables["curves"]["spend"][paid], before.tables["curves"]["spend"][paid]
        np.testing.assert_array_equal(spends[0], spend * spends[1])
        np.testing.assert_array_equal(result.tables["contributions"]["share"], before.tables["contributions"]["share"])
        for score, factor in {"r2": 1.0, "wmape": 1.0, "coverage90": 1.0, "crps": kpi}.items():
            np.testing.assert_array_equal(result.tables["fit"][score], factor * before.tables["fit"][score])


@pytest.mark.parametrize(
    ("kpi", "spend"), [(1e-9, 1.0), (1e12, 1.0), (1.0, 1e-9), (1.0, 1e12), (1e12, 1e-9), (0.9, 1.1)]
)
def test_any_other_unit_changes_no_roi(kpi: float, spend: float, plain: dict[tuple[str, ...], UnitResult]) -> None:
    for labels, result in fit(in_other_units(kpi=kpi, spend=spend)).items():
        before = plain[labels]
        assert result.status == before.status
        for table, factor in {"roi": kpi / spend, "contributions": kpi, "curves": kpi}.items():
            for part in PARTS:
                expected = factor * before.tables[table][part]
                largest = np.abs(expected).max()
                np.testing.assert_allclose(result.tables[table][part], expected, rtol=1e-5, atol=1e-9 * largest)
