from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixfleet.config import Prior, build
from mixfleet.config.elicitation import elicited
from mixfleet.errors import ConfigError

FROZEN: dict[str, Any] = {
    "normal": lambda h: stats.norm(h["mean"], h["sd"]),
    "lognormal": lambda h: stats.lognorm(h["sd_log"], scale=np.exp(h["mean_log"])),
    "gamma": lambda h: stats.gamma(h["shape"], scale=1 / h["rate"]),
    "inverse_gamma": lambda h: stats.invgamma(h["shape"], scale=h["scale"]),
    "beta": lambda h: stats.beta(h["a"], h["b"]),
    "half_normal": lambda h: stats.halfnorm(scale=h["sd"]),
    "exponential": lambda h: stats.expon(scale=1 / h["rate"]),
}
ONE = ("half_normal", "exponential")
TWO = tuple(name for name in FROZEN if name not in ONE)


@pytest.mark.parametrize("family", TWO)
def test_mean_and_sd_are_those_told(family: str):
    found = FROZEN[family](elicited(family, {"mean": 0.3, "sd": 0.1}, "prior"))
    np.testing.assert_allclose((found.mean(), found.std()), (0.3, 0.1), rtol=1e-9)
    assert elicited(family, {"estimate": 0.3, "standard_error": 0.1}, "prior") == elicited(
        family, {"mean": 0.3, "sd": 0.1}, "prior"
    )


@pytest.mark.parametrize("family", TWO)
def test_an_interval_holds_the_mass_told(family: str):
    found = FROZEN[family](elicited(family, {"low": 0.1, "high": 0.6, "mass": 0.8}, "prior"))
    np.testing.assert_allclose(found.ppf([0.1, 0.9]), (0.1, 0.6), rtol=1e-6)
    usual = elicited(family, {"low": 0.1, "high": 0.6}, "prior")
    np.testing.assert_allclose(FROZEN[family](usual).cdf([0.1, 0.6]), (0.05, 0.95), atol=1e-7)


def test_a_tail_is_told_by_two_quantiles():
    found = elicited("half_student_t", {"quantiles": {0.5: 0.4, 0.95: 1.6}}, "prior")
    np.testing.assert_allclose(2 * stats.t(found["df"]).cdf(np.array([0.4, 1.6]) / found["scale"]) - 1, (0.5, 0.95))
    with pytest.raises(ConfigError, match="no half_student_t"):
        # A half-normal's tail would be longer.
        elicited("half_student_t", {"quantiles": {0.5: 0.4, 0.95: 1.0}}, "prior")


@pytest.mark.parametrize("family", ONE)
def test_one_number_fixes_a_family_of_one(family: str):
    np.testing.assert_allclose(FROZEN[family](elicited(family, {"mean": 0.3}, "prior")).mean(), 0.3)
    np.testing.assert_allclose(FROZEN[family](elicited(family, {"quantiles": {0.9: 2}}, "prior")).ppf(0.9), 2.0)
    with pytest.raises(ConfigError, match="fixed by 1"):
        elicited(family, {"mean": 0.3, "sd": 0.1}, "prior")


@pytest.mark.parametrize(
    ("family", "told", "message"),
    [
        ("lognormal", {"mean": -1, "sd": 1}, "no lognormal"),
        ("lognormal", {"mean": 1, "sd": 0}, "spread above 0"),
        ("gamma", {"low": 3, "high": 1}, "must rise"),
        ("gamma", {"low": 1, "high": 3, "mass": 90}, "between 0 and 1"),
        ("beta", {"mean": 0.5, "sd": 0.6}, "no beta"),
        ("gamma", {"quantiles": {0.5: 1}}, "fixed by 2"),
        ("gamma", {"median": 1}, "has median"),
        ("uniform", {"mean": 1, "sd": 1}, "cannot be turned into uniform"),
    ],
)
def test_what_no_prior_has_is_refused(family: str, told: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        elicited(family, told, "prior.parameters.roi.from")


def test_settings_take_what_is_told_for_parameters_and_overrides():
    prior = build(
        Prior,
        {
            "on": "roi",
            "parameters": {
                "roi": {"from": {"mean": 1.8, "sd": 0.5}},
                "effect": {"family": "gamma", "from": {"mean": 1, "sd": 1}},
            },
            "overrides": [{"parameter": "roi", "channel": "tv", "from": {"low": 0.5, "high": 3}}],
        },
        key="prior",
    )
    roi, tv = prior.of("roi"), prior.distribution("roi", unit={}, channel="tv")
    assert roi.family == tv.family == "lognormal"
    np.testing.assert_allclose(FROZEN["lognormal"](roi.hyperparameters).mean(), 1.8)
    np.testing.assert_allclose(FROZEN["lognormal"](tv.hyperparameters).ppf([0.05, 0.95]), (0.5, 3))
    assert prior.of("effect").family == "gamma"
    with pytest.raises(ConfigError, match=r"prior.parameters.roi.from"):
        build(Prior, {"parameters": {"roi": {"sd_log": 1, "from": {"mean": 1, "sd": 1}}}}, key="prior")
