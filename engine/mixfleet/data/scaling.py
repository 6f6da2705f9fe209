"""The factors between the table's units and the model's, one value per unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config.data import FEWEST_WEEKS, Treatment
from mixfleet.config.model import Model
from mixfleet.data.panel import Unit
from mixfleet.data.validation.calendar import weeks_to_fit

__all__ = ["MEDIA_POWERS", "Scale", "is_new", "known_weeks", "lent_spread", "likelihood_weeks", "measure"]

_MODEL = Model()

MEDIA_POWERS = {"half_saturation": 1, "scale": 1, "rate": -1}
"""Saturation parameters that the table has in the media's unit, or in one over it."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Divisors and shifts of one unit, in the table's own units, in float64."""

    kpi: float
    """Highest absolute KPI, or the scale that the table prescribes or the unit's group lends; under the convention
    `meridian` the standard deviation."""
    kpi_shift: float
    """KPI at which the scaled one is zero: its mean under the convention `meridian`, else 0."""
    log_link: bool
    """Whether the model has the KPI's logarithm, as the scale and the shift then are of it."""
    media: Float[np.ndarray, " channel"]
    """Highest media of a week, or the median of those with any; 1.0 for an absent channel."""
    control_mean: Float[np.ndarray, " linear"]
    control_sd: Float[np.ndarray, " linear"]
    """Over every period whose controls are known; 1.0 for a constant column, which thereby becomes zero. Under the
    convention `pymc_marketing`, which leaves controls as they are, 1.0 beside means of zero."""
    control_varies: Bool[np.ndarray, " linear"]
    """False for a constant column."""
    control_log: Bool[np.ndarray, " linear"]
    """Columns that the model has as their logarithms, as everything else here is of them."""
    reference: Float[np.ndarray, " linear"]
    """Value against which a column's contribution is told: a control's mean, a treatment's baseline."""
    usual_controls: Float[np.ndarray, " linear"]
    """Mean of each column over the fitted weeks in the table's unit, geometric where the model has its logarithm."""
    trend_weeks: int
    """First weeks, over which the trend runs from -0.5 to 0.5."""

    def column_mixing(self, columns: int) -> Float[np.ndarray, "column column"]:
        """Takes scaled coefficients to the table's: controls per their own unit, the intercept at controls of zero."""
        mixing = np.eye(columns) * self.kpi
        first = columns - len(self.control_sd)
        for j, (mean, sd) in enumerate(zip(self.control_mean, self.control_sd, strict=True)):
            mixing[first + j, first + j] = self.kpi / sd
            mixing[0, first + j] = -self.kpi * mean / sd
        return mixing

    def scaled_kpi(self, unit: Unit) -> Float[np.ndarray, " week"]:
        """KPI less its shift in shares of the scale; zero where not observed."""
        kpi = _log_kpi(unit.kpi) if self.log_link else unit.kpi
        return np.nan_to_num(kpi - self.kpi_shift, nan=0.0) / self.kpi

    def scaled_media(self, unit: Unit) -> Float[np.ndarray, "week channel"]:
        """Media in shares of each channel's scale."""
        return unit.media / self.media

    def scaled_controls(self, unit: Unit) -> Float[np.ndarray, "week linear"]:
        """Controls and treatments with mean 0 over the fitted weeks and standard deviation 1 over all."""
        return self.controls_against(unit, self.control_mean) / self.control_sd

    def controls_against(self, unit: Unit, reference: Float[np.ndarray, " linear"]) -> Float[np.ndarray, "week linear"]:
        """Controls and treatments, in their logarithms where the model has them so, less a value of each."""
        return np.where(unit.observed[:, None], _logged(unit.controls, self.control_log) - reference, 0.0)


def known_weeks(unit: Unit, *, window: int) -> Bool[np.ndarray, " week"]:
    """Which weeks' media are known, with a KPI or without: those whose carry-over window is complete."""
    return _on_grid(unit, np.ones(int(unit.observed.sum()), bool), window=window, holdout=0)


def likelihood_weeks(unit: Unit, *, window: int, holdout: int) -> Bool[np.ndarray, " week"]:
    """Which weeks enter the likelihood, as `weeks_to_fit` says: not held out, with a KPI and a known carry-over."""
    return _on_grid(unit, np.isfinite(unit.kpi[unit.observed]), window=window, holdout=holdout)


def _on_grid(unit: Unit, has_kpi: Bool[np.ndarray, " row"], *, window: int, holdout: int) -> Bool[np.ndarray, " week"]:
    rows = np.flatnonzero(unit.observed)
    fitted = np.zeros(len(unit.observed), bool)
    fitted[rows] = weeks_to_fit(rows, np.array([0, len(rows)]), has_kpi, window=window, holdout=holdout)
    return fitted


def is_new(fitted: Bool[np.ndarray, " week"]) -> bool:
    """Whether a unit has too few weeks for scales of its own."""
    return int(fitted.sum()) < FEWEST_WEEKS


def lent_spread(scales: Sequence[Scale]) -> Float[np.ndarray, "unit linear"]:
    """Spread of each column over the units where it varies, for those where it never did, whose own says nothing.

    1.0 for columns that have a spread of their own, or none in any unit. A coefficient whose column is constant keeps
    its prior, so that one in the fleet's measure is the unit's own, divided by this.
    """
    if not scales:
        return np.ones((0, 0))
    varies = np.array([scale.control_varies for scale in scales])
    squares = np.where(varies, np.array([scale.control_sd for scale in scales]) ** 2, 0.0)
    common = np.sqrt(squares.sum(axis=0) / np.maximum(varies.sum(axis=0), 1))
    return np.where(varies | (common == 0), 1.0, common)


def measure(
    unit: Unit,
    fitted: Bool[np.ndarray, " week"],
    holdout: int = 0,
    *,
    treatments: Sequence[Treatment] = (),
    model: Model = _MODEL,
) -> Scale:
    """The scale of a unit, from the weeks `fitted`, so that held-out weeks tell nothing of what is to be foretold.

    How far controls move is told by all weeks: they are inputs, and one that first moves after the fit has a prior that
    means something there.

    Where these are fewer than `FEWEST_WEEKS` the KPI's scale must be prescribed or lent, and media, controls and trend
    are measured over all weeks, which are planned ones: how high media will be is no outcome.

    Args:
        unit: In the table's units; where its scales are frozen, later weeks are not looked at.
        fitted: Weeks of the likelihood.
        holdout: Last weeks that are held out, over which the trend goes on.
        treatments: What the last columns of the controls are.
        model: Its scaling and link.
    """
    within = np.ones(len(fitted), bool) if unit.measured_until is None else unit.dates <= unit.measured_until
    fitted = fitted & within
    few = is_new(fitted)
    seen = unit.observed & within if few else fitted
    past = np.arange(len(seen)) <= np.flatnonzero(seen)[-1]
    media = _media_scale(np.where(past[:, None], unit.media, 0.0), model.scaling)
    kpi, shift = _kpi_scale(unit, fitted, model)
    log = np.zeros(unit.controls.shape[1], bool)
    log[len(log) - len(treatments) :] = [treatment.form == "log" for treatment in treatments]
    controls = _logged(unit.controls[unit.observed & within], log)
    sd = controls.std(axis=0)
    # A constant column of large numbers has a standard deviation of rounding errors, not of zero.
    constant = sd <= 1e-12 * np.maximum(np.abs(controls).max(axis=0), np.finfo(float).tiny)
    own = _logged(unit.controls[seen], log)
    mean = own.mean(axis=0)
    treated = own.T[len(log) - len(treatments) :]
    baselines = [_baseline(treatment, column) for treatment, column in zip(treatments, treated, strict=True)]
    reference = np.concatenate([mean[: len(mean) - len(treatments)], baselines])
    as_they_are = model.scaling == "pymc_marketing"
    return Scale(
        kpi=kpi,
        kpi_shift=shift,
        log_link=model.link == "log",
        media=np.where(media > 0, media, 1.0),
        control_mean=np.zeros(len(mean)) if as_they_are else mean,
        control_sd=np.where(constant | as_they_are, 1.0, sd),
        control_varies=~constant,
        control_log=log,
        # Of a column that never moved nothing is known, and so it brings nothing.
        reference=np.where(constant, mean, reference),
        usual_controls=np.where(log, np.exp(np.where(log, mean, 0.0)), mean),
        trend_weeks=int(within.sum()) - (0 if few else holdout),
    )


def _kpi_scale(unit: Unit, fitted: Bool[np.ndarray, " week"], model: Model) -> tuple[float, float]:
    """Divisor and shift of the KPI; under a log link of its logarithm, whose shift does what a divisor does of it."""
    kpi, log = unit.kpi[fitted], model.link == "log"
    if unit.kpi_scale is None and model.scaling == "meridian":
        kpi = _log_kpi(kpi) if log else kpi
        return float(kpi.std()), float(kpi.mean())
    scale = unit.kpi_scale if unit.kpi_scale is not None else float(np.max(np.abs(kpi)))
    return (1.0, float(np.log(scale))) if log else (scale, 0.0)


def _log_kpi(kpi: Float[np.ndarray, " week"]) -> Float[np.ndarray, " week"]:
    """The logarithm, and NaN where there is none: such a KPI is refused where the table is read."""
    return np.log(np.where(kpi > 0, kpi, np.nan))


def _media_scale(media: Float[np.ndarray, "week channel"], convention: str) -> Float[np.ndarray, " channel"]:
    """Divisor of each channel's media; 0 where there are none."""
    if convention != "meridian":
        return np.max(np.abs(media), axis=0)
    return np.array([np.median(column[column != 0]) if column.any() else 0.0 for column in media.T])


def _logged(controls: Float[np.ndarray, "week linear"], log: Bool[np.ndarray, " linear"]) -> np.ndarray:
    """The columns, with the logarithms of those that the model has so; of weeks without a row, whose are zero, zero."""
    if not log.any():
        return controls
    # A value that is not above zero is refused where the table is read.
    return np.where(log, np.log(np.where(log & (controls > 0), controls, 1.0)), controls)


def _baseline(treatment: Treatment, column: Float[np.ndarray, " week"]) -> float:
    """The value of a treatment's column, as the model has it, that brings nothing."""
    if isinstance(treatment.baseline, str):
        return float(column.min() if treatment.baseline == "min" else column.max())
    return float(np.log(treatment.baseline)) if treatment.form == "log" else treatment.baseline
