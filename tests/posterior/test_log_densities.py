"""Densities of weeks at kept draws: those of autocorrelated noise add up to the joint one."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Model
from mixfleet.posterior.log_densities import log_likelihood
from tests.support.saved_run import saved_run


def test_weeks_of_autocorrelated_noise_add_up_to_their_joint_density(tmp_path: Path) -> None:
    model = Model(observation="ar1")
    fleet = saved_run(tmp_path, Model()).fleet()
    unit, series = fleet.units[0], next(fleet.series())
    draws = series.effect.shape[1]
    correlation = np.linspace(-0.5, 0.9, draws)
    series = series._replace(observation=np.stack([series.observation[0], correlation, np.ones(draws)]))
    media = np.zeros((len(series.kpi), draws))
    weeks = series.known[: len(unit.dates)].copy()
    weeks[20:23] = False
    found = log_likelihood(unit, series, media, weeks, model)
    assert found.shape == (draws, weeks.sum())
    places = np.flatnonzero(weeks)
    for d in (0, draws - 1):
        mean = series.design[: len(weeks)][weeks] @ series.coefficients[:, d]
        covariance = series.observation[0, d] ** 2 * correlation[d] ** np.abs(places[:, None] - places)
        joint = stats.multivariate_normal(mean, covariance).logpdf(unit.kpi[weeks])
        assert found[d].sum() == pytest.approx(joint, rel=1e-9)
