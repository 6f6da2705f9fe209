"""Our transforms equal what other marketing mix systems compute, to 1e-6 in float64.

`transform_outputs_by_peer.json` holds outputs of those systems' own functions on one short series,
`unit_test_values.json` the values that their unit tests expect.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet_kernels import adstock, saturation
from tests.kernels import window_conventions
from tests.support.shared_data import shared

pytestmark = pytest.mark.usefixtures("x64")

NUMBER = r"(-?[\d.]+)"


def carried(system: str, family: str, media: np.ndarray, *parameters: float, **changes: Any) -> np.ndarray:
    convention = dataclasses.replace(window_conventions.convention(system, family), **changes)
    values = tuple(np.asarray(parameter, np.float64) for parameter in parameters)
    weights = window_conventions.weights(convention, family, values, weeks=len(media))
    return np.asarray(adstock.convolve(media, weights))


def robyn_weibull_table(family: str, media: np.ndarray, shape: float, scale: float) -> np.ndarray:
    """Robyn's weights as the table applies them.

    Robyn shifts its weights by each purchase's week with dplyr's `lag`. The table was made without dplyr,
    where R's own `lag` shifts nothing, so that every purchase meets the weight of the calendar week.
    """
    convention = window_conventions.convention("robyn", family)
    weights = window_conventions.weights(convention, family, (jnp.asarray(shape), jnp.asarray(scale)), weeks=len(media))
    return np.asarray(weights) * np.cumsum(media)


def curve(family: str, media: np.ndarray, *parameters: float) -> np.ndarray:
    return np.asarray(saturation.saturate(family, media, parameters))


def pymc_normalise(flag: str) -> str:
    return "window" if flag == "True" else "none"


Rule = tuple[str, Callable[..., np.ndarray]]
"""A pattern of the table's keys, and our value given the series and the pattern's groups."""

ROBYN: list[Rule] = [
    (rf"adstock_geometric_theta_{NUMBER}", lambda x, a: carried("robyn", "geometric", x, float(a))),
    (
        rf"adstock_weibull_(cdf|pdf)_shape_{NUMBER}_scale_{NUMBER}",
        lambda x, kind, k, s: robyn_weibull_table(f"weibull_{kind}", x, float(k), float(s)),
    ),
    (
        rf"saturation_hill_alpha_{NUMBER}_gamma_{NUMBER}",
        lambda x, a, g: curve("hill", x, float(a), float(g) * x.max()),
    ),
    ("mic_men_Vmax5_Km0.5_x5to10", lambda _: 5 * curve("michaelis_menten", np.arange(5.0, 11), 0.5)),
    (
        "doc_example_adstock_geometric_rep100_5_theta0.5",
        lambda _: carried("robyn", "geometric", np.full(5, 100.0), 0.5),
    ),
    (
        "doc_example_saturation_hill",
        lambda _: curve("hill", np.array([100.0, 150, 170, 190, 200]), 3, 0.5 * 200),
    ),
]
PYMC: list[Rule] = [
    (
        rf"geometric_adstock\(x,alpha={NUMBER},l_max=8,normalize=(\w+)\)",
        lambda x, a, n: carried("pymc_marketing", "geometric", x, float(a), normalise=pymc_normalise(n)),
    ),
    (
        rf"delayed_adstock\(x,alpha={NUMBER},theta={NUMBER},l_max=8,normalize=(\w+)\)",
        lambda x, a, d, n: carried("pymc_marketing", "delayed", x, float(a), float(d), normalise=pymc_normalise(n)),
    ),
    (
        rf"weibull_adstock\(x,lam={NUMBER},k={NUMBER},l_max=8,type=(PDF|CDF),normalize=(\w+)\)",
        lambda x, s, k, kind, n: carried(
            "pymc_marketing", f"weibull_{kind.lower()}", x, float(k), float(s), normalise=pymc_normalise(n)
        ),
    ),
    (
        rf"logistic_saturation\(x/100,lam={NUMBER}\)",
        lambda x, rate: curve("logistic", x / 100, float(rate)),
    ),
    (
        rf"hill_function\(x/100,slope={NUMBER},kappa={NUMBER}\)",
        lambda x, s, k: curve("hill", x / 100, float(s), float(k)),
    ),
    (
        rf"tanh_saturation\(x/100,b={NUMBER},c={NUMBER}\)",
        lambda x, b, c: float(b) * curve("tanh", x / 100, float(b) * float(c)),
    ),
    (
        rf"michaelis_menten\(x,alpha={NUMBER},lam={NUMBER}\)",
        lambda x, a, k: float(a) * curve("michaelis_menten", x, float(k)),
    ),
    (rf"root_saturation\(x/100,alpha={NUMBER}\)", lambda x, a: curve("root", x / 100, float(a))),
]
MERIDIAN: list[Rule] = [
    (
        rf"AdstockTransformer\(alpha={NUMBER},max_lag=8,(geometric|binomial)\)",
        lambda x, a, family: carried("meridian", family, x / 100, float(a)),
    ),
    (
        rf"HillTransformer\(ec={NUMBER},slope={NUMBER}\)",
        lambda x, k, s: curve("hill", x / 100, float(s), float(k)),
    ),
]
LIGHTWEIGHT: list[Rule] = [
    (
        rf"adstock\(lag_weight={NUMBER},normalise=(\w+)\)",
        lambda x, a, n: carried(
            "lightweight_mmm", "geometric", x / 100, float(a), normalise="limit" if n == "True" else "none"
        ),
    ),
    (
        rf"carryover\(retention={NUMBER},delay={NUMBER},number_lags=13\)",
        lambda x, a, d: carried("lightweight_mmm", "delayed", x / 100, float(a), float(d)),
    ),
    (rf"hill\(ec={NUMBER},slope={NUMBER}\)", lambda x, k, s: curve("hill", x / 100, float(s), float(k))),
]
RULES = {
    "robyn_R": ROBYN,
    "pymc_marketing_0.15.1": PYMC,
    "meridian_2.1.0": MERIDIAN,
    "lightweight_mmm": LIGHTWEIGHT,
}
NOT_OURS = {"x", "scaled", "hill_saturation_sigmoid(x/100,sigma=2,beta=3,lam=0.5)"}
"""The series itself, and PyMC-Marketing's sigmoid, a family we do not have."""


@pytest.mark.parametrize("system", RULES)
def test_every_tabled_output_is_reproduced(system: str):
    table = json.loads(shared("acceptance_tables/transform_outputs_by_peer.json").read_text())[system]
    series = np.array(table["x"], np.float64)
    for key in table.keys() - NOT_OURS:
        matches = [(re.fullmatch(pattern, key), ours) for pattern, ours in RULES[system]]
        found = [ours(series, *match.groups()) for match, ours in matches if match]
        assert len(found) == 1, key
        np.testing.assert_allclose(found[0], table[key], rtol=0, atol=1e-6, err_msg=key)


def unit_test_values(system: str) -> dict[str, Any]:
    return json.loads(shared("acceptance_tables/unit_test_values.json").read_text())[system]


def test_meridian_decay_weights():
    expected = unit_test_values("meridian")["decay_weights_max_lag_4_unnormalised_oldest_first"]
    for family, by_decay in expected.items():
        convention = dataclasses.replace(window_conventions.convention("meridian", family), window=5, normalise="none")
        for decay, oldest_first in by_decay.items():
            weights = window_conventions.weights(convention, family, (np.float64(decay),), weeks=52)
            np.testing.assert_allclose(weights[::-1], oldest_first, rtol=0, atol=1e-12)


def test_meridian_adstock_outputs():
    expected = unit_test_values("meridian")["adstock_test_output"]
    media = np.array(expected["media_rows_time_cols_channel"])
    for family, last_week in expected["expected_last_time"].items():
        out = carried("meridian", family, media, expected["alpha"], window=expected["window"])
        np.testing.assert_allclose(out[-1], last_week, rtol=expected["rtol"])


def test_meridian_constant_media():
    for decay in (0.2, 0.9):
        out = carried("meridian", "geometric", np.ones(12), decay, window=5)
        terms = np.minimum(np.arange(1, 13), 5)
        np.testing.assert_allclose(out, (1 - decay**terms) / (1 - decay**5), atol=1e-12)


def test_meridian_window_is_cut_to_the_series():
    weights = window_conventions.weights(
        window_conventions.convention("meridian", "binomial"), "binomial", (jnp.asarray(0.5),), weeks=4
    )
    np.testing.assert_allclose(weights, np.array([4, 3, 2, 1]) / 10, atol=1e-12)


def test_meridian_hill():
    media = np.array([0.0, 0.5, 1, 4])
    np.testing.assert_allclose(curve("hill", media, 1, 1), media / (1 + media), atol=1e-12)
    np.testing.assert_array_equal(curve("hill", media[1:], 0, 1), 0.5)


def test_pymc_marketing_michaelis_menten():
    for point in unit_test_values("pymc_marketing")["michaelis_menten"]:
        out = point["alpha"] * curve("michaelis_menten", np.array([float(point["x"])]), point["lam"])
        np.testing.assert_allclose(out, point["expected"], atol=0.005)


def test_pymc_marketing_binomial_denominator():
    convention = dataclasses.replace(window_conventions.convention("pymc_marketing", "binomial"), normalise="none")
    weights = window_conventions.weights(convention, "binomial", (jnp.asarray(0.4),), weeks=52)
    np.testing.assert_allclose(weights, (1 - np.arange(8) / 9) ** (1 / 0.4 - 1), atol=1e-12)


def test_robyn_weibull_is_a_causal_window():
    """The weights that the table confirms, shifted by each purchase's week, as in the R package."""
    convention = window_conventions.convention("robyn", "weibull_cdf")
    weights = np.asarray(window_conventions.weights(convention, "weibull_cdf", (2.0, jnp.asarray(0.3)), weeks=12))
    media = np.zeros(12)
    media[4] = 10
    out = carried("robyn", "weibull_cdf", media, 2.0, 0.3)
    np.testing.assert_allclose(out, 10 * np.concatenate([np.zeros(4), weights[:8]]), atol=1e-12)


def test_mixfleet_preset_has_every_family():
    assert window_conventions.PRESETS["mixfleet"].keys() == adstock.PARAMETERS.keys()
    for family, names in adstock.PARAMETERS.items():
        parameters = tuple(jnp.asarray(0.6) for _ in names)
        weights = window_conventions.weights(
            window_conventions.convention("mixfleet", family), family, parameters, weeks=52
        )
        np.testing.assert_array_equal(weights, adstock.weights(family, parameters, window=9))


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="unknown adstock convention 'excel': choose one of lightweight_mmm"):
        window_conventions.convention("excel", "geometric")
    with pytest.raises(ValueError, match="unknown adstock family of robyn 'delayed': choose one of geometric"):
        window_conventions.convention("robyn", "delayed")
    for normalise, message in (
        ("limit", "geometric family's alone"),
        ("sum", "choose window, limit or none"),
    ):
        convention = window_conventions.Convention(normalise=normalise)
        with pytest.raises(ValueError, match=message):
            window_conventions.weights(convention, "binomial", (jnp.asarray(0.5),), weeks=9)
