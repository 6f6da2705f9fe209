"""Residuals: whether they are independent over time, of one spread, and normal.

References:
    Newey, West (1987), A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent covariance
    matrix, doi:10.2307/1913610.
    Cochrane, Orcutt (1949), Application of least squares regression to relationships containing auto-correlated error
    terms, doi:10.1080/01621459.1949.10483290.
    Lange, Little, Taylor (1989), Robust statistical modeling using the t distribution,
    doi:10.1080/01621459.1989.10478852.
    Goldfeld, Quandt (1965), Some tests for homoscedasticity, doi:10.1080/01621459.1965.10480811.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtrit

from mixfleet.errors import counted
from mixfleet.posterior.model_checks.check import FALSE_ALARMS, ModelCheck, concluded, untested
from mixfleet.posterior.model_checks.checked_unit import CheckedUnit
from mixfleet.posterior.model_checks.displacement import MISLEADING, moves_media, reweighed
from mixfleet.posterior.statistics import quantile

__all__ = ["long_run_variance", "residual_checks", "too_narrow"]

LEAST_LEFT = 0.5
"""Share of the variance of a sum of products that its posterior mean is taken to have at least."""

LAGS = 4
"""Periods back that short autocorrelation is looked for."""

NARROW = float(ndtri(0.95) / ndtri(0.9))
"""Factor by which a channel's interval is too narrow from which on it is said: one of 90 % holds less than 80 %."""

MUCH_LASTING = 6.0
"""Long-run variance of the residuals, in multiples of the model's, at which they mislead."""

STRONGEST, HALVINGS = 0.95, 10
"""Correlation of errors that is looked for at most, and how often the place of it is halved."""

TOLD = 1e-6
"""Share of a column that the others must leave for its coefficient to be told from theirs."""

YEARLY = 0.25
"""Correlation with the residuals a year before that goes unsaid."""

WEEKDAYS = 0.2
"""Correlation of daily residuals with those seven days before that goes unsaid."""

UNEVEN = 4.0
"""Noise in the third of the weeks with the highest expected KPI over that in the lowest third, or the other way round,
that goes unsaid."""

OUTLIER = 8.0
"""Standard deviations from which on a week is an outlier, which is looked for by itself, and no part of a tail."""

FAINT = 0.01
"""Least typical miss, in standard deviations, that is told from others."""

KURTOSIS = 12.0
"""Excess kurtosis that goes unsaid: tails hurt the answer by weeks that decide it, which are looked for one by one."""

LONG_VARIANCE, LONG_KURTOSIS = 1.8, 6.0
"""How much further out than a normal's lies the quantile at 1 - `FALSE_ALARMS` of the long-run variance and of the
kurtosis of independent normal numbers, times the square root of how many: `python -m benchmarks.model_checks constants`
finds both anew, for 40 to 700."""

TAIL = 4.0
"""Degrees of freedom of an observation with heavy tails."""

HARDLY_FADES = 0.95
"""Correlation of one week's noise with the next one's from which half of a miss is left after a quarter."""

MOST = 0.7
"""Share of a third's absolute misses below the one that says how large they are, which varies less than their median
and which outliers do not decide either."""

THIRDS = 2.4
"""Standard deviation of the logarithm of the ratio of two such sizes, each of a third of all weeks, times the square
root of how many weeks there are: `python -m benchmarks.model_checks constants` finds it anew."""

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
        total += weight * products
        variance += weight**2 * pairs
    sd = np.sqrt(variance) / unit.weeks
    return 1 + _settled_products(total, variance) * sd, float(sd)


def _autocorrelation(unit: CheckedUnit) -> ModelCheck:
    """By how much misses that last make intervals of media too narrow, where they last by more than chance.

    Where the model lets them last: whether they hardly fade, so that the noise is a level that wanders and media are
    told from little more than changes from one week to the next.
    """
    if unit.lasting_noise is not None and (last := quantile(unit.lasting_noise.correlation, 0.5)) >= HARDLY_FADES:
        statement = (
            f"what one period misses hardly fades (correlation {last:.3f} with the next): the level wanders or bends "
            "otherwise than the baseline; use model=moving, or a control for what changed"
        )
        return concluded("autocorrelation", last, HARDLY_FADES, statement)
    inflation, sd = long_run_variance(unit)
    if not len(unit.channels) or inflation < 1 + ONE_SIDED * sd * (1 + LONG_VARIANCE / np.sqrt(unit.weeks)):
        return concluded("autocorrelation", 1.0, NARROW, "")
    factors = too_narrow(unit)
    worst = int(np.argmax(factors))
    about, factor = unit.channels[worst], float(factors[worst])
    found = [_lag_correlation(unit, lag) for lag in range(1, LAGS + 1)]
    lag = 1 + int(np.argmax(found))
    or_noise = ", or let misses last (model.observation=ar1)" if unit.lasting_noise is None else ""
    statement = (
        f"misses {counted(lag, 'period')} apart go the same way (correlation {found[lag - 1]:.2f}), and so do the "
        f"media of {about}: its interval is too narrow by a factor of {factor:.1f}; add what lasts (a control, "
        f"model=moving){or_noise}"
    )
    misfit = NARROW if inflation >= MUCH_LASTING else np.inf
    return concluded("autocorrelation", factor, NARROW, statement, misfit=misfit, about=about)


def too_narrow(unit: CheckedUnit) -> Float[np.ndarray, " channel"]:
    """By how much each channel's interval is too narrow: the standard deviation of its error, in posterior ones.

    Errors are taken for autoregressive of order one. Residuals of a model with p columns last less than its errors, and
    vary less: the errors' correlation is the one under which residuals would last as they do, and a coefficient's
    variance is x'Rx for what x the other columns do not tell of the channel, over what residuals say of the noise
    (Cochrane and Orcutt 1949). The part of the posterior that is the prior's is none of it.
    """
    response, fitted = unit.response[unit.fitted], unit.fitted
    ran = np.flatnonzero(np.ptp(response, axis=0) > 0)
    level = np.ones((unit.weeks, 1)) if unit.marginal is None else unit.marginal.basis[fitted]
    media = response[:, ran] / np.sqrt(np.sum(response[:, ran] ** 2, axis=0))
    columns, triangle = np.linalg.qr(np.column_stack([media, level[:, np.any(level != 0, axis=0)]]))
    known = np.abs(np.diagonal(triangle)) > TOLD
    factors = np.ones(len(unit.channels))
    if not known.all():
        return factors
    correlation, left = _error_correlation(columns, _lag_correlation(unit, 1))
    alone = columns @ np.linalg.solve(triangle, np.eye(len(triangle))).T[:, : len(ran)]
    size = np.sum(alone**2, axis=0)
    inflation = np.sum(alone * _carried(alone, correlation), axis=0) / size / left * (unit.weeks - len(triangle))
    posterior, prior = unit.contribution[ran].var(axis=1), unit.prior_contribution[ran].var(axis=1)
    share = np.where(prior > 0, np.minimum(posterior / np.where(prior > 0, prior, 1.0), 1.0), 1.0)
    factors[ran] = np.sqrt(share + (1 - share) * np.maximum(inflation, 1.0))
    return factors


def _lag_correlation(unit: CheckedUnit, lag: int) -> float:
    """Correlation of the residuals' posterior means from a fitted period to the one so many later."""
    mean = unit.residual[unit.fitted].mean(axis=1)
    return float(mean[lag:] @ mean[:-lag] / (mean @ mean))


def _carried(columns: Float[np.ndarray, "week column"], correlation: float) -> Float[np.ndarray, "week column"]:
    """R @ columns for R[i, j] = correlation ** |i - j|: what comes from before, and the same from behind."""
    forward, backward = columns, columns[::-1]
    span, factor = 1, correlation
    # 1 / (1 - r z) is the product of all 1 + (r z)^(2^k).
    while span < len(columns):
        forward, backward = _added(forward, span, factor), _added(backward, span, factor)
        span, factor = 2 * span, factor * factor
    return forward + backward[::-1] - columns


def _added(values: Float[np.ndarray, "week column"], span: int, factor: float) -> Float[np.ndarray, "week column"]:
    """With a share of the values so many weeks before."""
    found = values.copy()
    found[span:] += factor * values[:-span]
    return found


def _error_correlation(columns: Float[np.ndarray, "week column"], observed: float) -> tuple[float, float]:
    """The errors' correlation under which residuals have the one that was observed, and those residuals' squares.

    Args:
        columns: Of the model, orthonormal.
        observed: Correlation of residuals from one week to the next.
    """
    low, high, correlation, left, weeks = 0.0, STRONGEST, STRONGEST, 0.0, len(columns)
    for step in range(HALVINGS):
        correlation = high if step == 0 else (low + high) / 2
        carried = _carried(columns, correlation)
        among = columns.T @ carried
        left = weeks - float(np.trace(among))
        both = np.sum(columns[:-1] * carried[1:]) + np.sum(carried[:-1] * columns[1:])
        follows = (weeks - 1) * correlation - both + np.sum(columns[:-1] @ among * columns[1:])
        if follows < observed * left:
            low = correlation
            if step == 0:
                break
        else:
            high = correlation
    return correlation, left


def _weekdays(unit: CheckedUnit) -> ModelCheck:
    return _repeated(unit, "weekday_pattern", 7, (7,), WEEKDAYS, "every 7 days: add days of the week (model=daily)")


def _yearly(unit: CheckedUnit) -> ModelCheck:
    year = unit.season
    lags = (year - 1, year, year + 1) if year < 100 else range(year - 4, year + 5)
    remedy = "a year apart: add holidays or events, or raise model.seasonality"
    return _repeated(unit, "yearly_pattern", year, tuple(lags), YEARLY, remedy)


def _repeated(
    unit: CheckedUnit, kind: str, period: int, lags: tuple[int, ...], material: float, remedy: str
) -> ModelCheck:
    """Correlation with the mean of the residuals at these lags."""
    found = [_products(unit, lag) for lag in lags]
    pairs = sum(count for _, count in found)
    if pairs < 20 * len(lags):
        return untested(kind)
    total = np.sum([products for products, _ in found], axis=0)
    scale = np.sqrt(len(lags) / pairs)
    correlation = _settled_products(total, float(pairs)) * scale
    threshold = max(ONE_SIDED * scale, material)
    worst = lags[int(np.argmax([products.mean() / max(count, 1) for products, count in found]))]
    most = f", most after {worst}" if len(lags) > 1 else ""
    statement = f"what is left of the KPI repeats (correlation {correlation:.2f}{most}) {remedy}"
    harmless = correlation >= threshold and not _moves_media_repeated(unit, period, min(correlation, STRONGEST))
    return concluded(kind, correlation, threshold, statement, harmless=harmless)


def _moves_media_repeated(unit: CheckedUnit, period: int, correlation: float) -> bool:
    """Whether media would move with a level for each place in the period, of levels that repeat to this correlation."""
    alike = np.arange(len(unit.dates))[:, None] % period == np.arange(period)
    levels = np.where(unit.fitted[:, None], alike - alike[unit.fitted].mean(axis=0), 0.0)
    seen = float(np.sum(unit.as_residuals(levels) ** 2) / np.sum(levels**2))
    return moves_media(unit, levels, against=(1 - correlation) / correlation * seen)


def _spread(unit: CheckedUnit) -> ModelCheck:
    """By how much noise differs between weeks of a high and of a low expected KPI, which outliers do not decide.

    What is expected on average varies less from week to week than what is expected in a draw, by what is not known of
    it: weeks that seem apart are often less so. The ratio is that of weeks as far apart as they are in the draws.
    """
    expected, miss = unit.expected[unit.fitted], np.abs(unit.miss[unit.fitted])
    level = expected.mean(axis=1)
    low, high = quantile(level, 1 / 3), quantile(level, 2 / 3)
    if not high - low > TOLD * float(np.max(np.abs(unit.kpi))):
        return untested("uneven_noise")
    above, below = (max(quantile(miss[third], MOST), FAINT) for third in (level >= high, level <= low))
    apart = float(np.sqrt(expected.var(axis=0).mean() / level.var()))
    ratio = float(np.exp(apart * np.abs(np.log(above / below))))
    threshold = max(float(np.exp(apart * TWO_SIDED * THIRDS / np.sqrt(unit.weeks))), UNEVEN)
    statement = (
        f"noise is {ratio:.1f} times as large where the KPI is {'high' if above > below else 'low'}: intervals are too "
        "narrow there and too wide elsewhere; model the KPI's logarithm or another observation"
    )
    return concluded("uneven_noise", ratio, threshold, statement)


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
    harmless = excess >= threshold and not _tails_move_media(unit)
    return concluded("heavy_tails", excess, threshold, statement, harmless=harmless)


def _tails_move_media(unit: CheckedUnit) -> bool:
    """Whether media would move with an observation of heavy tails, which weighs a week the less the further it misses.

    At the scale at which the typical miss is as large as it is.
    """
    scale = float(np.median(np.abs(unit.miss[unit.fitted]))) / float(stdtrit(TAIL, 0.75))
    weight = (TAIL + 1) / (TAIL * scale**2 + unit.miss**2)
    return bool(np.any(np.abs(reweighed(unit, weight)) >= MISLEADING))
