"""All checks of one unit's model, from what its fit knows."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from mixfleet.config import Spec
from mixfleet.models import baseline
from mixfleet.models.baseline.decomposition import decompose
from mixfleet.models.batch import PreparedUnit
from mixfleet.models.observation import OBSERVATIONS, is_autocorrelated
from mixfleet.posterior.model_checks.check import ModelCheck
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit, Lasting, Marginal, whitened
from mixfleet.posterior.model_checks.experiments import ToldTest, experiment_check
from mixfleet.posterior.model_checks.forecasts import forecast_check
from mixfleet.posterior.model_checks.levels import level_checks
from mixfleet.posterior.model_checks.link import link_checks
from mixfleet.posterior.model_checks.omissions import omission_checks
from mixfleet.posterior.model_checks.residuals import residual_checks
from mixfleet.posterior.model_checks.single_weeks import single_week_checks
from mixfleet.posterior.unit_series import UnitSeries
from mixfleet_kernels.response import Response

__all__ = ["checked_unit", "judge_model"]

DRAWS = 200
"""Draws that the checks look at, evenly spaced; whether an alarm is harmless is asked of all of them."""

FEWEST_WEEKS = 20
"""Weeks below which a unit's model is judged by nothing but its draws."""


def judge_model(unit: CheckedUnit) -> tuple[ModelCheck, ...]:
    """Every check of the unit, passed or not; none of a unit with hardly a week, or with draws that are no numbers."""
    known = (unit.residual, unit.expected, unit.contribution, unit.prior_contribution)
    if unit.weeks < FEWEST_WEEKS or not all(np.all(np.isfinite(values)) for values in known):
        return ()
    with np.errstate(all="ignore"):
        checks = (*level_checks(unit), *_of_the_noise(unit), forecast_check(unit))
        told = (experiment_check(unit.tests),) if unit.tests else ()
        return (*link_checks(unit, checks, _of_the_noise), *told)


def _of_the_noise(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Checks whose law rests on noise that is as large in all weeks."""
    yield from single_week_checks(unit)
    yield from residual_checks(unit)
    yield from omission_checks(unit)


def checked_unit(
    member: PreparedUnit,
    series: UnitSeries,
    brought: Response,
    prior_contribution: Float[np.ndarray, "channel sample"],
    spec: Spec,
    channels: tuple[str, ...],
    tests: tuple[ToldTest, ...] = (),
) -> CheckedUnit:
    """What the checks look at.

    Args:
        member: The unit as its fit saw it.
        series: Its data and draws.
        brought: What its channels bring, their sum over the weeks of the likelihood as the last one.
        prior_contribution: That sum under the prior.
        spec: All settings.
        channels: Their names.
        tests: Its lift tests, by all draws.
    """
    total = series.effect.shape[-1]

    def of(kept: slice | np.ndarray) -> CheckedUnit:
        return _of_draws(kept, member, series, brought, prior_contribution, spec, channels)

    return replace(of(_some(total)), tests=tests, whole=cache(lambda: of(slice(None))) if total > DRAWS else None)


def _of_draws(
    kept: slice | Int[np.ndarray, " kept"],
    member: PreparedUnit,
    series: UnitSeries,
    brought: Response,
    prior_contribution: Float[np.ndarray, "channel sample"],
    spec: Spec,
    channels: tuple[str, ...],
) -> CheckedUnit:
    unit, fitted, weeks = member.unit, member.fitted, len(member.unit.dates)
    media = brought.weekly[:weeks, kept]
    expected = series.design[:weeks] @ series.coefficients[:, kept] + media
    observation = series.observation[:, kept]
    noise = observation[0]
    kpi = np.nan_to_num(unit.kpi)
    if series.log_link:
        # The model is of the logarithm, and so are its checks.
        kpi = np.log(np.where(fitted, kpi, 1.0))
    residual = np.where(fitted[:, None], (kpi[:, None] - expected) / noise, 0.0)
    marginal, lasting = _marginal(member, media, observation, spec), None
    if is_autocorrelated(spec.model):
        if marginal is None:
            no_column = np.zeros((weeks, 0))
            lasting = Lasting(
                fitted=fitted, residual=residual, basis=no_column, variance=np.zeros(0), correlation=observation[1]
            )
        residual = whitened(residual, fitted, observation[1])
    return CheckedUnit(
        dates=unit.dates.astype("datetime64[D]"),
        fitted=fitted,
        kpi=np.where(fitted, kpi, 0.0),
        expected=np.where(fitted[:, None], expected, 0.0),
        residual=residual,
        noise=noise,
        kpi_scale=member.scale.kpi,
        log_link=series.log_link,
        channels=channels,
        media=unit.media,
        response=brought.mean[:weeks],
        contribution=brought.total[-1][:, kept],
        prior_contribution=prior_contribution,
        prior_on=spec.prior.on.media,
        season=365 if spec.data.frequency == "daily" else 52,
        marginal=marginal,
        lasting=lasting,
    )


def _marginal(
    member: PreparedUnit,
    media: Float[np.ndarray, "week draw"],
    observation: Float[np.ndarray, "parameter draw"],
    spec: Spec,
) -> Marginal | None:
    sampled = not OBSERVATIONS[spec.model.observation].marginal or member.arrays["along"].shape[1] > 0
    if sampled or spec.pooling.by != "none":
        return None
    weeks, scale = len(media), member.scale.kpi
    kpi = member.arrays["kpi"][:weeks, None]
    residual = np.where(member.fitted[:, None], kpi - media / scale, 0.0)
    basis, variance = member.arrays["basis"][:weeks] * member.fitted[:, None], member.arrays["variance"]
    sd, lasting = np.sqrt(variance), None
    if spec.model.scale_parameters:
        # One basis for all draws, as checks look at many directions in it: at the mean of the baseline's scales.
        scales = dict(zip(spec.model.unit_parameters, observation / scale, strict=True))
        known = np.diag(member.loading)
        learned = baseline.by_column(scales, spec.model, spec.data)
        usual = [sd if draws is None else draws.mean() for sd, draws in zip(known, learned, strict=True)]
        basis, sd = basis @ member.arrays["turned"], np.array(usual) / known
        variance = sd**2
    if is_autocorrelated(spec.model):
        lasting = Lasting(
            fitted=member.fitted, residual=residual, basis=basis, variance=variance, correlation=observation[1]
        )
        # Likewise at the mean correlation.
        last = float(observation[1].mean())
        residual, basis = (whitened(values, member.fitted, last) for values in (residual, basis))
    if is_autocorrelated(spec.model) or spec.model.scale_parameters:
        basis, variance, _ = decompose(basis, sd)
    return Marginal(
        residual=residual,
        basis=basis,
        variance=variance,
        noise=observation[0] / scale,
        lasting=lasting,
    )


def _some(total: int) -> np.ndarray:
    """Places of the draws that the checks look at."""
    return (np.arange(min(DRAWS, total)) * total) // min(DRAWS, total)
