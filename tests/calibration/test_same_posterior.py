"""The production path and long float64 NUTS on the plain model find the same posterior. Takes an hour."""

import pytest

from tests.support.agreement import CASES, compare, fitted, sampled, unit_of

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

SHIFT, RATIO = 0.1, 0.05
NOISE = 4.0
"""What lies within so many Monte Carlo standard errors is no disagreement."""


@pytest.mark.hours
@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_the_same_mean_and_spread(name):
    panel, spec = unit_of(CASES[name])
    status, mine = fitted(panel, spec)
    assert status.startswith("ok")
    rows = compare(mine, sampled(panel, spec))
    assert len(rows) > 10
    worse = [
        row
        for row in rows
        if abs(row.shift) > max(SHIFT, NOISE * row.shift_error)
        or abs(row.ratio - 1) > max(RATIO, NOISE * row.ratio_error)
    ]
    assert worse == []
