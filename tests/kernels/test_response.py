"""Responses of draws in native code are those that XLA makes of the same curves, to rounding."""

import jax
import numpy as np
import pytest

from mixfleet.config import Model
from mixfleet.models.media import Curves, native_form, steady
from mixfleet.models.media.term import media_term
from mixfleet.posterior.counterfactual import decompose
from mixfleet_kernels import native_library
from mixfleet_kernels.response import FAMILIES, respond
from mixfleet_kernels.saturation import PARAMETERS

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


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_and_steady_responses_are_those_of_xla(
    family: str, normalise: bool, monkeypatch: pytest.MonkeyPatch, x64: None
) -> None:
    media, weights, curves = drawn(len(PARAMETERS[family]))
    model = Model(saturation=family, normalise=normalise, window=7)
    term = media_term(model, [f"c{c}" for c in range(CHANNELS)])
    levels = np.linspace(0, 1.5, 4)[:, None] * np.array([1.0, 0.5, 2.0])
    assert native_form(term) is not None
    ours = [*decompose(media, weights, curves, term=term), *steady(levels, curves, term=term)]
    monkeypatch.setattr(native_library, "available", lambda: False)
    with jax.numpy_rank_promotion("allow"):
        theirs = [*decompose(media, weights, curves, term=term), *steady(levels, curves, term=term)]
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_a_draw_is_the_same_alone_as_among_others() -> None:
    media, weights, curves = drawn(1)
    whole, alone = (
        respond(
            media,
            weights,
            part.shape[0],
            (part.shape[1],),
            part.effect,
            family="logistic",
            window=9,
            normalised=True,
        )
        for part in (curves, Curves(curves.shape[..., :1], curves.effect[:, :1]))
    )
    np.testing.assert_array_equal(whole.total[..., :1], alone.total)
    np.testing.assert_array_equal(whole.weekly[:, :1], alone.weekly)
    np.testing.assert_allclose(whole.mean.sum(axis=1), whole.weekly.mean(axis=1), rtol=1e-12)


def test_what_is_no_number_stays_in_its_draw_and_channel() -> None:
    media, weights, curves = drawn(2)
    shape = np.array(curves.shape)
    shape[1, 1, 4] = np.nan
    found = respond(
        media,
        weights,
        shape[0],
        (shape[1], shape[2]),
        np.asarray(curves.effect),
        family="hill",
        window=9,
        normalised=True,
    )
    wrong = np.zeros((CHANNELS, DRAWS), bool)
    wrong[1, 4] = True
    np.testing.assert_array_equal(np.isnan(found.total).any(axis=0), wrong)
