"""Residuals: whether they are independent over time, of one spread, and normal.

References:
    Newey, West (1987), A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent covariance
    matrix, doi:10.2307/1913610.
    Harvey (1976), Estimating regression models with multiplicative heteroscedasticity, doi:10.2307/1913974.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtri

from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit

__all__ = ["long_run_variance", "residual_checks"]

LEAST_LEFT = 0.5
"""Share of the variance of a sum of products that its posterior mean is taken to have at least."""

LAGS = 4
"""Periods back that short autocorrelation is looked for."""

WIDER, MUCH_WIDER = 1.6, 6.0
"""Long-run variance of the residuals, in multiples of the model's, at which intervals are too narrow to go unsaid
(sds by 26 %), and at which they mislead."""

YEARLY = 0.25
"""Correlation with the residuals a year before that goes unsaid."""

WEEKDAYS = 0.2
"""Correlation of daily residuals with those seven days before that goes unsaid."""

UNEVEN = 4.0
"""Noise where the KPI is high (one sd above its mean) over noise where it is as low that goes unsaid."""

OUTLIER = 8.0
"""Standard deviations from which on a week is an outlier, which is looked for by itself, and no part of a tail."""

FAINT = 1e-4
"""Least square whose logarithm is told from others."""

KURTOSIS = 12.0
"""Excess kurtosis that goes unsaid: tails hurt the answer by weeks that decide it, which are looked for one by one."""

LONG_VARIANCE, LONG_KURTOSIS = 1.8, 6.0
"""How much further out than a normal's lies the quantile at 1 - `FALSE_ALARMS` of the long-run variance and of the
kurtosis of independent normal numbers, times the square root of how many: `python -m benchmarks.model_checks constants`
finds both anew, for 40 to 700."""

ONE_SIDED = -float(ndtri(FALSE_ALARMS))
TWO_SIDED = -float(ndtri(FALSE_ALARMS / 2))


def residual_checks(unit: CheckedUnit) -> Iterator[ModelCheck]:
    """Autocorrelation short, weekly (of daily data) and yearly; heteroscedasticity; tails."""
    yield _autocorrelation(unit)
    if unit.season > 100:
        yield _weekdays(unit)
    yield _yearly(unit)
    yield _spread(unit)
    yield _tails(unit)


def _products(unit: CheckedUnit, lag: int) -> tuple[np.ndarray, int]:
    """Sum by draw of the products of residuals so far apart, and how many products there are."""
    if lag >= len(unit.dates):
        return np.zeros(unit.residual.shape[1]), 0
    pairs = int(np.sum(unit.fitted[lag:] & unit.fitted[:-lag]))
    return np.einsum("td,td->d", unit.residual[lag:], unit.residual[:-lag]), pairs


def _settled_products(values: np.ndarray, variance: float) -> float:
    """As `settled`, but never NaN: misfit itself widens the posterior of a sum of products."""
    left = max(variance - float(values.var()), LEAST_LEFT * variance)
    return float(values.mean()) / np.sqrt(left)


def long_run_variance(unit: CheckedUnit) -> tuple[float, float]:
    """How many times as much a sum of residuals varies as if they were independent, by Bartlett's weights; its sd."""
    total, variance = np.zeros(unit.residual.shape[1]), 0.0
    for lag in range(1, LAGS + 1):
        weight = 2 * (1 - lag / (LAGS + 1))
        products, pairs = _products(unit, lag)
        total, variance = total + weight * products, variance + weight**2 * pairs
    sd = np.sqrt(variance) / unit.weeks
    return 1 + _settled_products(total, variance) * sd, float(sd)


def _autocorrelation(unit: CheckedUnit) -> ModelCheck:
    inflation, sd = long_run_variance(unit)
    threshold = max(1 + ONE_SIDED * sd * (1 + LONG_VARIANCE / np.sqrt(unit.weeks)), WIDER)
    statement = (
        f"neighbouring periods' misses go the same way: intervals are too narrow by a factor of "
        f"{np.sqrt(max(inflation, 1)):.1f}; add what lasts (a control, model=moving), or trust wider intervals"
    )
    return concluded("autocorrelation", inflation, threshold, statement, misfit=MUCH_WIDER)


def _weekdays(unit: CheckedUnit) -> ModelCheck:
    return _repeated(unit, "weekday_pattern", (7,), WEEKDAYS, "every 7 days: add days of the week (model=daily)")


def _yearly(unit: CheckedUnit) -> ModelCheck:
    year = unit.season
    lags = (year - 1, year, year + 1) if year < 100 else range(year - 4, year + 5)
    remedy = "a year apart: add holidays or events, or raise model.seasonality"
    return _repeated(unit, "yearly_pattern", tuple(lags), YEARLY, remedy)


def _repeated(unit: CheckedUnit, kind: str, lags: tuple[int, ...], material: float, remedy: str) -> ModelCheck:
    """Correlation with the mean of the residuals at these lags."""
    found = [_products(unit, lag) for lag in lags]
    pairs = sum(count for _, count in found)
    if pairs < 20 * len(lags):
        return untested(kind)
    total = np.sum([products for products, _ in found], axis=0)
    scale = np.sqrt(len(lags) / pairs)
    correlation = _settled_products(total, float(pairs)) * scale
    threshold = max(ONE_SIDED * scale, material)
    statement = f"what is left of the KPI repeats (correlation {correlation:.2f}) {remedy}"
    return concluded(kind, correlation, threshold, statement)


def _spread(unit: CheckedUnit) -> ModelCheck:
    """Whether squared residuals go with the expected KPI: by how much noise differs between its high and low weeks."""
    fitted, mean = unit.fitted, unit.expected.mean(axis=1)
    level = np.where(fitted, mean - mean[fitted].mean(), 0.0)
    size = float(np.sqrt(np.sum(level**2)))
    if not size > 1e-9 * float(np.max(np.abs(unit.kpi))):
        return untested("uneven_noise")
    # The log of a squared standard normal has a variance of pi^2 / 2, and its slope says what noise does, however far.
    squared = np.log(np.maximum(unit.miss[fitted] ** 2, FAINT))
    change = float(level[fitted] / size @ (squared - squared.mean())) / np.sqrt(unit.weeks)
    ratio = np.exp(abs(change))
    threshold = max(np.exp(TWO_SIDED * np.pi / np.sqrt(2 * unit.weeks)), UNEVEN)
    where = "high" if change > 0 else "low"
    statement = (
        f"noise is {ratio:.1f} times as large where the KPI is {where}: intervals are too narrow there and too wide "
        "elsewhere; model the KPI's logarithm or another observation"
    )
    return concluded("uneven_noise", float(ratio), float(threshold), statement)


def _tails(unit: CheckedUnit) -> ModelCheck:
    """Excess kurtosis, as the mean of the fourth Hermite polynomial, of weeks that are no outliers by themselves."""
    squared = unit.miss[unit.fitted & (np.abs(unit.miss) < OUTLIER)] ** 2
    if not len(squared):
        return untested("heavy_tails")
    excess, sd = float(np.mean(squared**2 - 6 * squared + 3)), np.sqrt(24 / unit.weeks)
    threshold = max(ONE_SIDED * sd * (1 + LONG_KURTOSIS / np.sqrt(unit.weeks)), KURTOSIS)
    statement = (
        f"some weeks miss far more than a normal law allows (excess kurtosis {excess:.1f}): those weeks weigh too "
        "much; look at them, or use an observation with heavy tails"
    )
    return concluded("heavy_tails", excess, threshold, statement)
