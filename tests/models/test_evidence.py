"""The term of lift tests is that of the plain model, in value and gradient, on either path of the density."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.config.measures import On
from mixfleet.config.model import ChannelForm
from mixfleet.config.priors import distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.models.evidence import log_evidence
from tests.invariants.test_fast_is_plain import Case, Setting, made_ready, prior
from tests.support.lift_tests import day, with_tests
from tests.support.reference import at_each
from tests.support.units import odd_unit, panel_of

WEEKS = 60


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


MODELS = {
    "geometric_logistic": Model(saturation="logistic"),
    "hill_effect": Model(saturation="hill", coordinate="effect"),
    "delayed_saturation_first": Model(adstock="delayed", adstock_first=False, normalise=False, window=6),
    "weibull_exponential": Model(adstock="weibull_cdf", saturation="exponential", seasonality=1),
    "none_none": Model(adstock="none", saturation="none", seasonality=0),
    "families_by_channel": Model(
        channels=FrozenMapping(
            {
                "channel_0": ChannelForm(adstock="delayed", saturation="hill", window=4),
                "channel_2": ChannelForm(adstock="none", saturation="root", adstock_first=False),
            }
        )
    ),
    "binomial_root": Model(adstock="binomial", saturation="root", coordinate="effect"),
}


def rows(panel: Any, window: int) -> list[dict[str, Any]]:
    """Switched off, increased, two channels at once in some days of weeks, off the end of the series, steady."""
    own = {"brand": "acme", "market": "DE", "se": 200.0}
    return [
        {**own, "channel": "channel_0", "start": day(panel, 20), "end": day(panel, 23, 6), "factor": 0, "lift": -900},
        {
            **{**own, "channel": "channel_1", "start": day(panel, 40, 2), "end": day(panel, 42, 3)},
            **{"factor": 1.5, "revenue": 700, "bias_sd": 150.0},
        },
        {
            **{**own, "channel": "channel_0+channel_2", "start": day(panel, 3), "end": day(panel, 5, 6)},
            **{"factor": 2, "lift": 1200, "measured_until": day(panel, 7, 3)},
        },
        {**own, "channel": "channel_2", "start": day(panel, 58), "end": day(panel, 59, 6), "roi": 0.9, "se": 0.2},
        {**own, "channel": "channel_1", "x": 600.0, "delta_x": 200.0, "lift": 60.0, "se": 30.0},
    ]


def setting(model: Model, on: str = "effect") -> Setting:
    # Where a decay is nearly zero the plain formula of binomial weights has no derivative.
    bounded = {"decay": distribution("uniform", low=0.05, high=0.9)} if model.adstock == "binomial" else {}
    case = Case(model=model, unit=odd_unit(weeks=WEEKS, value_per_kpi=2.5), prior=prior(on=On(media=on), **bounded))
    other = odd_unit(weeks=80, seed=9, labels=("other", "FR"))
    panel = panel_of(case.unit, other)
    panel = with_tests(panel, rows(panel, model.window), window=model.window)
    # In the second place of the tile, behind a unit without tests.
    panel = replace(panel, units=(panel.units[1], panel.units[0]))
    found = made_ready(case, panel)
    assert len(found.series.tests) == 5
    return found


SHORT = ("geometric_logistic", "hill_effect")
"""The others show the same of more curves: left to the long runs."""


@pytest.mark.parametrize(
    ("name", "on"),
    [
        *(pytest.param(name, "effect", marks=() if name in SHORT else pytest.mark.nightly) for name in MODELS),
        ("geometric_logistic", "roi"),
        pytest.param("hill_effect", "roi", marks=pytest.mark.nightly),
        pytest.param("geometric_logistic", "media_share", marks=pytest.mark.slow),
    ],
)
def test_value_and_gradient_are_the_plain_models(name: str, on: str):
    made = setting(MODELS[name], on)
    positions = made.positions()
    fast = jax.block_until_ready(made.fast(positions))
    values, gradients = at_each(jax.value_and_grad(partial(made.plain, dense=False)), positions.T)
    assert np.all(np.isfinite(fast.value))
    assert np.all(np.isfinite(fast.gradient))
    np.testing.assert_array_less(np.abs(fast.value - values) / (1 + np.abs(values)), 1e-10)
    steepest = 1 + np.max(np.abs(gradients), axis=1)
    np.testing.assert_array_less(np.max(np.abs(fast.gradient.T - gradients), axis=1) / steepest, 1e-9)


def test_the_composed_density_differentiates_the_same_term():
    """What jax takes for the gradient of the value, in `composed_density`, is what its differences say."""
    made, random = setting(MODELS["geometric_logistic"]), np.random.default_rng(3)
    lanes = (made.structure.channels, made.structure.lanes)
    shape = (jnp.asarray(random.uniform(0.1, 0.9, lanes)), jnp.asarray(random.uniform(0.5, 4.0, lanes)))
    effect = jnp.asarray(random.uniform(0.01, 1.0, lanes))
    parts = (*shape, effect)

    def total(parts: tuple[jax.Array, ...]) -> jax.Array:
        return log_evidence(parts[:2], parts[2], made.batch, made.structure).sum()

    gradient = jax.jit(jax.grad(total))(parts)
    for _ in range(8):
        along = tuple(jnp.asarray(random.standard_normal(lanes)) for _ in parts)
        ends = [tuple(p + step * a for p, a in zip(parts, along, strict=True)) for step in (-1e-6, 1e-6)]
        low, high = map(jax.jit(total), ends)
        expected = sum(float(jnp.vdot(g, a)) for g, a in zip(gradient, along, strict=True))
        np.testing.assert_allclose((high - low) / 2e-6, expected, rtol=1e-5)
