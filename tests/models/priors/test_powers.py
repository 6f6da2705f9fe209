"""Powers of priors: densities that are powers of one another, in every unit and channel."""

import numpy as np
import pytest

from mixfleet.config import Prior
from mixfleet.config.measures import On
from mixfleet.config.priors import Distribution, Override, distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.errors import ConfigError
from mixfleet.models.priors.families import FAMILIES
from mixfleet.models.priors.powers import POWERED, powered, powered_settings

PRIORS = [
    distribution("normal", mean=0.3, sd=0.7),
    distribution("laplace", mean=-0.2, scale=0.4),
    distribution("student_t", df=7, mean=0.1, scale=0.3),
    distribution("half_normal", sd=0.5),
    distribution("half_student_t", df=4, scale=0.36),
    distribution("lognormal", mean_log=0.2, sd_log=0.9),
    distribution("shifted_lognormal", shift=0.1, mean_log=0.2, sd_log=0.9),
    distribution("gamma", shape=3, rate=1.5),
    distribution("inverse_gamma", shape=3, scale=0.8),
    distribution("exponential", rate=2),
    distribution("beta", a=2, b=3),
    distribution("uniform", low=0.1, high=0.9),
    distribution("truncated_normal", mean=0.2, sd=0.5, low=0.0, high=1.0),
]


def log_density(prior: Distribution, values: np.ndarray) -> np.ndarray:
    if prior.family in ("laplace", "student_t"):
        from scipy import stats

        h = prior.hyperparameters
        own = stats.laplace(h["mean"], h["scale"]) if "df" not in h else stats.t(h["df"], h["mean"], h["scale"])
        return own.logpdf(values)
    return FAMILIES[prior.family].frozen(**prior.hyperparameters).logpdf(values)


@pytest.mark.parametrize("power", [0.5, 2.0])
@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.family)
def test_a_power_has_the_density_to_that_power(prior: Distribution, power: float) -> None:
    values = np.linspace(0.15, 0.85, 29)
    ratio = log_density(powered(prior, power), values) - power * log_density(prior, values)
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-11)


def test_every_family_is_among_these() -> None:
    assert {prior.family for prior in PRIORS} | {"fixed"} == POWERED.keys()
    fixed = distribution("fixed", value=0.5)
    assert powered(fixed, 2.0) == fixed


def test_what_would_be_no_distribution_is_refused() -> None:
    with pytest.raises(ConfigError, match="shape"):
        powered(distribution("inverse_gamma", shape=0.5, scale=1), 0.5)
    wide = Prior(parameters=FrozenMapping({"control": distribution("student_t", df=3, mean=0, scale=1)}))
    with pytest.raises(ConfigError, match="standard deviation"):
        powered_settings(wide, ["control"], 0.5)


def test_exceptions_are_powers_of_what_they_were_where_they_overlap_too() -> None:
    exceptions = (
        Override(parameter="roi", unit=FrozenMapping({"market": "DE"}), hyperparameters=FrozenMapping({"sd_log": 0.5})),
        Override(parameter="roi", channel="tv", hyperparameters=FrozenMapping({"mean_log": 1.0})),
        Override(parameter="noise", hyperparameters=FrozenMapping({"sd": 0.3})),
        Override(parameter="roi", unit=FrozenMapping({"brand": "a"}), hyperparameters=FrozenMapping({"sd_log": 0.7})),
    )
    prior = Prior(overrides=exceptions, on=On(media="roi"))
    other = powered_settings(prior, ["roi"], 0.5)
    for brand in "ab":
        for market in ("DE", "FR"):
            for channel in ("tv", "search"):
                at = {"unit": {"brand": brand, "market": market}, "channel": channel}
                assert other.distribution("roi", **at) == powered(prior.distribution("roi", **at), 0.5)
    assert other.distribution("noise", unit={}) == prior.distribution("noise", unit={})
