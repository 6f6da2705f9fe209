"""Mixture: draws of each structure as its weight says, in the order of the structures."""

import jax
import numpy as np
import pytest

from mixfleet.config import Model, Spec
from mixfleet.models.media import Curves, media_term
from mixfleet.posterior.counterfactual import responses
from mixfleet.posterior.structures.mixture import mixed_draws, shares

STRUCTURES = ({"saturation": "logistic"}, {"adstock": "weibull_pdf", "saturation": "hill"}, {"saturation": "none"})
MODEL = Model(structures=STRUCTURES)  # pyright: ignore[reportArgumentType]
CHANNELS = ("tv", "search")


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, 0.0), (0.333, 0.333, 0.334), (0.0004, 0.9996)])
def test_shares_add_up_and_are_the_weights(weights: tuple[float, ...]) -> None:
    counts = shares(np.array(weights), 997)
    assert counts.sum() == 997
    np.testing.assert_allclose(counts / 997, weights, atol=1 / 997)


def test_a_draw_responds_as_in_its_own_structure() -> None:
    rng, spec = np.random.default_rng(0), Spec(model=MODEL)
    own = []
    for model in MODEL.alternatives:
        names = (*model.channel_parameters, "contribution")
        draws = {name: rng.uniform(0.2, 0.9, (4, 25, 2)).astype(np.float32) for name in names}
        draws["coefficients"] = rng.normal(size=(4, 25, 3)).astype(np.float32)
        own.append({**draws, "noise": rng.uniform(0.1, 1.0, (4, 25)).astype(np.float32)})
    counts = np.array([20, 50, 30])
    mixed = mixed_draws(own, counts, spec, channels=2)
    np.testing.assert_array_equal(mixed["structure"][0, :, 1], np.repeat([0, 1, 2], counts))
    assert np.isnan(mixed["slope"][0, :20]).all()
    assert np.isfinite(mixed["slope"][0, 20:70]).all()
    media = rng.gamma(1.0, 1.0, (40, 2))

    def response(model: Model, draws: dict[str, np.ndarray]) -> np.ndarray:
        """[channel, week, draw]."""
        shape = [draws[name].reshape(-1, 2).T for name in model.channel_parameters[:-1]]
        curves = Curves(np.array(shape, float).reshape(len(shape), 2, -1), draws["effect"].reshape(-1, 2).T)
        return np.asarray(responses(media, curves, term=media_term(model, CHANNELS)))

    with jax.enable_x64(True):
        found = response(MODEL, mixed)
        start = 0
        for model, draws, count in zip(MODEL.alternatives, own, counts.tolist(), strict=True):
            picked = (np.arange(count) * 100) // count
            expected = response(model, draws)[..., picked]
            np.testing.assert_allclose(found[..., start : start + count], expected, rtol=1e-6)
            start += count
