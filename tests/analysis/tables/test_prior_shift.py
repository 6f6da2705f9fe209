"""What the data said of ROI, told of its logarithm: tails of a prior make nothing look learnt."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mixfleet.analysis.tables.prior_shift import movement
from mixfleet.posterior.statistics import statistics

QUANTILES = ("q05", "q50", "q95")
EVEN = (np.arange(20_000) + 0.5) / 20_000


def told(values: np.ndarray, prefix: str = "") -> dict[str, float]:
    return {prefix + name: float(value) for name, value in statistics(values, QUANTILES).items()}


def verdict(prior: np.ndarray, posterior: np.ndarray) -> dict[str, object]:
    ends = {"brand": "acme", "status": "ok", "channel": "tv"}
    params = {**ends, "parameter": "rate", **told(EVEN), "prior_mean": 0.5, "prior_sd": 0.3}
    roi = {**ends, **told(posterior), **told(prior, "prior_")}
    found = movement(pa.Table.from_pylist([params]), pa.Table.from_pylist([roi]), ("brand",))
    assert found["parameter"].to_pylist() == ["rate", "roi"]
    assert found["contraction"][0].as_py() == pytest.approx(1 - (EVEN.std() / 0.3) ** 2, rel=1e-3)
    return found.to_pylist()[1]


def test_contraction_and_shift_are_those_of_lognormals():
    prior, posterior = stats.lognorm(0.9, scale=np.exp(0.2)).ppf(EVEN), stats.lognorm(0.3, scale=np.exp(0.65)).ppf(EVEN)
    row = verdict(prior, posterior)
    assert row["contraction"] == pytest.approx(1 - (0.3 / 0.9) ** 2, rel=1e-3)
    assert row["shift"] == pytest.approx(0.45 / 0.9, rel=1e-3)
    assert row["verdict"] == "the data decided"


def test_a_posterior_that_lacks_only_the_priors_tail_has_learnt_little():
    prior = stats.lognorm(2.0).ppf(EVEN)
    row = verdict(prior, prior[prior < np.quantile(prior, 0.99)])
    assert prior[prior < np.quantile(prior, 0.99)].std() < 0.5 * prior.std()
    assert row["verdict"] == "the prior speaks: the data said little"


def test_a_loss_has_no_logarithm():
    row = verdict(stats.lognorm(1.0).ppf(EVEN), stats.norm(0.0, 1.0).ppf(EVEN))
    assert row["verdict"] == "prior has no spread to compare with"
