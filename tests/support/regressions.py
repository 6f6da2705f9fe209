"""Units whose posterior needs no sampler: linear regressions with known curves, drawn from their own prior.

Truth and data come from the model, and draws of the posterior from Gibbs sweeps of two exact conditionals, so that what
holds of draws under the model holds here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mixfleet.models.baseline.decomposition import decompose
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Lasting, Marginal, whitened

DRAWS, WARM_UP = 200, 30
SCALE = 1000.0
CHANNELS = ("tv", "search")
MEAN = np.array([1.0, 0, 0, 0, 0, 0, 0.3, 0.2])
SD = np.array([0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
SHAPE, RATE = 20.0, 20.0 * 0.05**2
"""Of the noise's precision: a noise of about 0.05."""


@dataclass(frozen=True)
class Drawn:
    """What a fault may change before the KPI is added up, in shares of the KPI's scale."""

    rng: np.random.Generator
    media: np.ndarray
    response: np.ndarray
    """[week, channel], of an effect of 1."""
    effect: np.ndarray
    baseline: np.ndarray
    noise: float
    errors: np.ndarray
    """Standard normal."""


Fault = Callable[[Drawn], Drawn]


def regression(
    seed: int, *, weeks: int = 104, fault: Fault | None = None, correlation: float | None = None, draws: int = DRAWS
) -> CheckedUnit:
    """A unit drawn from the prior, with a fault or without, and draws of its posterior; with autocorrelated noise, of a
    correlation that is known, where that is given."""
    rng = np.random.default_rng(seed)
    time = np.arange(weeks)
    media = rng.gamma(1.5, 1.0, size=(weeks, 2))
    design = baseline_columns(time)
    response = saturated(media)
    truth = MEAN + SD * rng.standard_normal(len(MEAN))
    noise = 1 / np.sqrt(rng.gamma(SHAPE, 1 / RATE))
    drawn = Drawn(rng, media, response, truth[6:], design @ truth[:6], noise, rng.standard_normal(weeks))
    if fault is not None:
        drawn = fault(drawn)
    errors = drawn.errors.copy()
    if correlation is not None:
        for week in range(1, weeks):
            errors[week] = correlation * errors[week - 1] + np.sqrt(1 - correlation**2) * errors[week]
    kpi = drawn.baseline + drawn.response @ drawn.effect + drawn.noise * errors
    return posterior(rng, kpi, drawn.media, correlation=correlation, count=draws)


def posterior(
    rng: np.random.Generator,
    kpi: np.ndarray,
    media: np.ndarray,
    *,
    correlation: float | None = None,
    count: int = DRAWS,
) -> CheckedUnit:
    """Draws given the data, by the model without any fault."""
    weeks = len(kpi)
    time, fitted = np.arange(weeks), np.ones(len(kpi), bool)
    design = baseline_columns(time)

    def told(values: np.ndarray) -> np.ndarray:
        return values if correlation is None else whitened(values, fitted, correlation)

    columns, seen = told(np.column_stack([design, saturated(media)])), told(kpi[:, None])[:, 0]
    gram, along = columns.T @ columns, columns.T @ seen
    draws, sigmas, sigma = [], [], 0.05
    for sweep in range(WARM_UP + count):
        factor = np.linalg.cholesky(gram / sigma**2 + np.diag(SD**-2))
        mean = np.linalg.solve(factor.T, np.linalg.solve(factor, along / sigma**2 + MEAN / SD**2))
        coefficients = mean + np.linalg.solve(factor.T, rng.standard_normal(len(mean)))
        miss = seen - columns @ coefficients
        sigma = 1 / np.sqrt(rng.gamma(SHAPE + weeks / 2, 1 / (RATE + miss @ miss / 2)))
        if sweep >= WARM_UP:
            draws.append(coefficients)
            sigmas.append(sigma)
    found, noise = np.array(draws).T, np.array(sigmas)
    by_channel = saturated(media)[:, :, None] * found[6:]
    residual = kpi[:, None] - by_channel.sum(axis=1) - (design @ MEAN[:6])[:, None]
    basis, variance, _ = decompose(design, SD[:6])
    lasting = None
    if correlation is not None:
        same = np.full(len(noise), correlation)
        lasting = Lasting(fitted=fitted, residual=residual, basis=basis, variance=variance, correlation=same)
        basis, variance, _ = decompose(told(design), SD[:6])
    prior = np.abs(MEAN[6:, None] + SD[6:, None] * rng.standard_normal((2, 500)))
    return CheckedUnit(
        log_link=False,
        dates=np.datetime64("2022-01-03") + 7 * time,
        fitted=fitted,
        kpi=kpi * SCALE,
        expected=(design @ found[:6] + by_channel.sum(axis=1)) * SCALE,
        residual=(seen[:, None] - columns @ found) / noise,
        noise=noise * SCALE,
        kpi_scale=SCALE,
        channels=CHANNELS,
        media=media,
        response=by_channel.mean(axis=-1) * SCALE,
        contribution=by_channel.sum(axis=0) * SCALE,
        prior_contribution=prior * saturated(media).sum(axis=0)[:, None] * SCALE,
        prior_on="effect",
        season=52,
        marginal=Marginal(
            residual=told(residual),
            basis=basis,
            variance=variance,
            noise=noise,
            lasting=lasting,
        ),
    )


def baseline_columns(time: np.ndarray) -> np.ndarray:
    """Intercept, trend and two waves a year."""
    turn = 2 * np.pi * time / 52
    waves = [part(order * turn) for order in (1, 2) for part in (np.sin, np.cos)]
    return np.column_stack([np.ones(len(time)), time / len(time) - 0.5, *waves])


def saturated(media: np.ndarray) -> np.ndarray:
    """The curve of every channel, carry-over included."""
    carried = media.copy()
    for week in range(1, len(media)):
        carried[week] += 0.4 * carried[week - 1]
    return 1 - np.exp(-0.5 * carried)


def replaced(name: str, change: Callable[[Drawn], np.ndarray]) -> Fault:
    """A fault of one field."""
    return lambda drawn: replace(drawn, **{name: change(drawn)})
