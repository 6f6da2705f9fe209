"""Draws: rows of a buffer read as parameters of the plain model, and coefficients from their exact distribution."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Model, Spec
from mixfleet.models.reference import saturated_adstock
from tests.support.drawn import CHAINS, Drawn, drawn
from tests.support.units import odd_unit, panel_of

PANEL = panel_of(
    odd_unit(weeks=66, labels=("other", "FR"), seed=3),
    odd_unit(weeks=60, gap=slice(20, 21), absent=(1,)),
    holdout=4,
)


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module", params=["contribution", "effect"])
def found(request: pytest.FixtureRequest) -> Drawn:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        return drawn(PANEL, Spec(model=Model(saturation="hill", coordinate=request.param)))


def responses(found: Drawn) -> np.ndarray:
    """[week, channel, draw, chain] of the plain model."""
    series, _ = found.plain
    model = found.spec.model
    names = model.channel_parameters[:-1]

    def of_draw(shape: jax.Array) -> jax.Array:
        return saturated_adstock(jnp.asarray(series.media), dict(zip(names, shape, strict=True)), model)

    flat = found.draws.shape.reshape(len(names), PANEL.units[1].media.shape[1], -1)
    by_draw = jax.jit(jax.vmap(of_draw, in_axes=-1, out_axes=-1))(jnp.asarray(flat))
    return np.asarray(by_draw).reshape(*by_draw.shape[:-1], -1, CHAINS)


def test_contributions_are_effects_times_mean_responses(found: Drawn):
    mean = responses(found)[found.member.fitted].mean(axis=0)
    np.testing.assert_allclose(found.draws.contribution, found.draws.effect * mean, rtol=1e-10)
    assert np.all(found.draws.effect > 0)


def test_an_absent_channel_contributes_nothing_and_is_still_judged(found: Drawn):
    np.testing.assert_array_equal(found.draws.contribution[1], 0.0)
    assert np.all(np.isfinite(found.judgement.rhat))
    assert np.all(np.isfinite(found.judgement.ess_bulk))


def test_the_value_is_the_density_of_the_row(found: Drawn):
    np.testing.assert_array_equal(found.draws.value, found.values)
    assert bool(found.judgement.finite)
    np.testing.assert_array_equal(found.judgement.repeated, 0.0)


def test_coefficients_follow_their_distribution_given_the_rest():
    """Normal, with the textbook's mean and covariance for a regression on what the media leave unexplained."""
    found = drawn(PANEL, Spec(model=Model(observation="normal")), count=512, spread=0.0)
    draws, (series, priors) = found.draws, found.plain
    assert np.ptp(draws.noise) == 0
    noise, fitted = float(draws.noise[0, 0]), series.fitted
    media = (responses(found)[:, :, 0, 0] @ draws.effect[:, 0, 0])[fitted]
    design = series.design[fitted]
    precision = design.T @ design / noise**2 + np.diag(priors.coefficient_sd**-2.0)
    covariance = np.linalg.inv(precision)
    pull = design.T @ (series.kpi[fitted] - media) / noise**2 + priors.coefficient_mean / priors.coefficient_sd**2
    sample = draws.coefficients.reshape(len(precision), -1)
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), sample - (covariance @ pull)[:, None])
    size = sample.shape[1]
    np.testing.assert_array_less(np.abs(whitened.mean(axis=1)), 5 / np.sqrt(size))
    np.testing.assert_array_less(np.abs(np.cov(whitened) - np.eye(len(precision))), 5 * np.sqrt(2 / size))


def test_a_chain_that_stands_still_shows():
    found = drawn(PANEL, Spec(), count=64, spread=0.0)
    np.testing.assert_array_equal(found.judgement.repeated, 1.0)
    # Constant quantities have no diagnostics, and that is what closes the gate.
    assert np.all(np.isnan(found.judgement.rhat[:3]))
    assert not found.finished().verdict.passed
