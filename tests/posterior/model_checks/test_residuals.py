"""Residuals: the size of noise in weeks of a high and a low KPI is told though what is expected is not known well."""

from dataclasses import replace

import numpy as np

from mixfleet.posterior.model_checks.residuals import residual_checks
from tests.support.regressions import regression


def test_uneven_noise_is_told_by_weeks_as_far_apart_as_they_are() -> None:
    unit, weeks = regression(0, weeks=300), 300
    known, unknown, uneven = 80.0, 60.0, 0.008
    found, true = [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        mean = known * rng.standard_normal(weeks)
        level = mean + unknown * rng.standard_normal(weeks)
        miss = np.exp(uneven * level) * rng.standard_normal(weeks)
        expected = mean[:, None] + unknown * rng.standard_normal((weeks, 200))
        about = replace(unit, expected=1000 + expected, residual=np.repeat(miss[:, None], 200, axis=1))
        [check] = [one for one in residual_checks(about) if one.kind == "uneven_noise"]
        low, high = np.quantile(level, [1 / 3, 2 / 3])
        above, below = (np.quantile(np.abs(miss[third]), 0.7) for third in (level >= high, level <= low))
        found.append(np.log(check.statistic))
        true.append(np.log(above / below))
    assert abs(np.mean(found) / np.mean(true) - 1) < 0.1
