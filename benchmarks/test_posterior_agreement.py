"""How closely the production path agrees with long float64 NUTS on the plain model, unit by unit.

    pytest benchmarks/test_posterior_agreement.py --benchmark-only

The time is that of the production path, compiling included. `extra_info` holds the worst shift of a mean in posterior
standard deviations, the worst ratio of standard deviations, the parameters that have them, their Monte Carlo errors,
and the seconds and least effective draws of NUTS.
"""

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.support.agreement import CASES, compare, effective, fitted, sampled, unit_of


@pytest.mark.parametrize("name", CASES)
def test_posterior_agreement(benchmark: BenchmarkFixture, name: str):
    panel, spec = unit_of(CASES[name])
    status, mine = benchmark.pedantic(fitted, (panel, spec), rounds=1)
    began = time.perf_counter()
    plain = sampled(panel, spec)
    rows = compare(mine, plain)
    widest = max(rows, key=lambda row: abs(row.ratio - 1))
    benchmark.extra_info |= {
        "status": status,
        "parameters": len(rows),
        "plain_seconds": time.perf_counter() - began,
        "plain_noise_effective": effective(plain["noise"]),
        "worst_shift": [rows[0].name, rows[0].shift, rows[0].shift_error],
        "worst_ratio": [widest.name, widest.ratio, widest.ratio_error],
    }
