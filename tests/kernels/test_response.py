"""Responses of draws in native code are those that XLA makes of the same curves, to rounding."""

from typing import Any

import jax
import numpy as np
import pytest

from mixfleet.config import Model, build
from mixfleet.models.media import Curves, held, native_curves, native_forms, steady
from mixfleet.models.media.term import MediaTerm, media_term
from mixfleet.posterior.counterfactual import decompose, whole
from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import SATURATIONS
from mixfleet_kernels.response import Response, respond

pytestmark = pytest.mark.skipif(not native_library.available(), reason="needs the native library")

WEEKS, CHANNELS, DRAWS = 41, 3, 21


def drawn(parameters: int, draws: int = DRAWS) -> tuple[np.ndarray, np.ndarray, Curves]:
    """Media with nothing, refunds and a long pause; weights; curves."""
    random = np.random.default_rng(0)
    media = random.gamma(0.7, 1.0, (WEEKS, CHANNELS))
    media[5:12, 0], media[20, 1], media[:, 2] = 0.0, -0.4, np.where(np.arange(WEEKS) < 30, 0.0, media[:, 2])
    weights = np.stack([np.ones(WEEKS), random.random(WEEKS)], axis=1)
    shape = np.concatenate(
        [random.uniform(0, 0.95, (1, CHANNELS, DRAWS)), random.uniform(0.3, 3.0, (parameters, CHANNELS, DRAWS))]
    )
    curves = Curves(shape[..., :draws], random.gamma(2.0, 1.0, (CHANNELS, DRAWS))[:, :draws])
    return media, weights, curves


MIXED = {
    "c0": {"saturation": "hill", "window": 4},
    "c1": {"adstock": "delayed", "window_convention": "pymc_marketing"},
    "c2": {"adstock": "none", "saturation": "michaelis_menten", "adstock_first": False},
}
WEIBULL = {"c0": {"adstock": "weibull_pdf"}, "c1": {"adstock": "weibull_cdf", "saturation": "root"}}
PEER = {"adstock": "weibull_pdf", "window_convention": "pymc_marketing"}
MODELS: list[dict[str, Any]] = [
    *({"saturation": name} for name in SATURATIONS),
    *({"saturation": name, "adstock_first": False} for name in ("logistic", "hill", "none")),
    {"adstock": "delayed", "saturation": "root", "adstock_first": False},
    *({"channels": own} for own in (MIXED, WEIBULL, {"c0": {"adstock": "binomial"}, "c2": PEER})),
]


def term_of(**model: Any) -> MediaTerm:
    names = [f"c{c}" for c in range(CHANNELS)]
    return media_term(build(Model, {"window": 7, **model}), names)


def response_of(media: np.ndarray, weights: np.ndarray, curves: Curves, term: MediaTerm) -> Response:
    own = native_curves(curves, term)
    assert own is not None
    return respond(media, weights, own)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_contributions_slopes_and_steady_responses_are_those_of_xla(
    model: dict[str, Any], normalise: bool, monkeypatch: pytest.MonkeyPatch, x64: None
) -> None:
    term = term_of(normalise=normalise, **model)
    media, weights, curves = drawn(len(term.parameters) - 1)
    levels = np.linspace(0, 1.5, 4)[:, None] * np.array([1.0, 0.5, 2.0])
    assert native_forms(term) is not None
    ours = [*decompose(media, weights, curves, term=term), *whole(media, weights, curves, term=term)]
    ours += steady(levels, curves, term=term)
    np.testing.assert_array_equal(held(levels, curves, term=term), ours[-2])
    monkeypatch.setattr(native_library, "available", lambda: False)
    with jax.numpy_rank_promotion("allow"):
        theirs = [*decompose(media, weights, curves, term=term), *whole(media, weights, curves, term=term)]
        theirs += steady(levels, curves, term=term)
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_gives_the_same_to_six_digits(model: dict[str, Any]) -> None:
    term = term_of(**model)
    media, weights, curves = drawn(len(term.parameters) - 1)
    exact = decompose(media, weights, curves, term=term)
    found = decompose(media, weights, curves, term=term, single=True)
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-6 * np.max(np.abs(theirs)))


def test_a_draw_is_the_same_alone_as_among_others() -> None:
    term = term_of(channels=MIXED)
    media, weights, curves = drawn(len(term.parameters) - 1)
    alone = response_of(media, weights, Curves(curves.shape[..., :1], curves.effect[:, :1]), term)
    whole = response_of(media, weights, curves, term)
    np.testing.assert_array_equal(whole.total[..., :1], alone.total)
    np.testing.assert_array_equal(whole.weekly[:, :1], alone.weekly)
    np.testing.assert_allclose(whole.mean.sum(axis=1), whole.weekly.mean(axis=1), rtol=1e-12)


def test_a_channel_is_the_same_among_other_forms() -> None:
    mixed, single = term_of(channels=MIXED), term_of(saturation="hill", window=4)
    media, weights, curves = drawn(len(mixed.parameters) - 1)
    shape = np.stack([np.asarray(curves.shape)[mixed.parameters.index(name)] for name in single.parameters])
    found = response_of(media, weights, curves, mixed)
    alone = response_of(media, weights, Curves(shape, curves.effect), single)
    np.testing.assert_array_equal(found.total[:, 0], alone.total[:, 0])
    np.testing.assert_array_equal(found.mean[:, 0], alone.mean[:, 0])


def test_what_is_no_number_stays_in_its_draw_and_channel() -> None:
    term = term_of(saturation="hill")
    media, weights, curves = drawn(2)
    shape = np.array(curves.shape)
    shape[1, 1, 4] = np.nan
    found = response_of(media, weights, Curves(shape, curves.effect), term)
    wrong = np.zeros((CHANNELS, DRAWS), bool)
    wrong[1, 4] = True
    np.testing.assert_array_equal(np.isnan(found.total).any(axis=0), wrong)
