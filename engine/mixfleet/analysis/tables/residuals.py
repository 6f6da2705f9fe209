"""Whether what a unit's model leaves unexplained looks like the noise that it assumes.

References:
    Ljung, Box (1978), On a measure of lack of fit in time series models, doi:10.1093/biomet/65.2.297.
    Koenker (1981), A note on studentizing a test for heteroscedasticity, doi:10.1016/0304-4076(81)90062-2.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float
from scipy.stats import chi2, norm

from mixfleet.analysis.breakdown import by_unit
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.analysis.tables.predictive import WeeklyKpi, weekly_kpi
from mixfleet.posterior.statistics import statistics
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["NOISE", "NOTHING", "heteroscedasticity", "ljung_box", "repeats_weekly", "residuals"]

CHECKS = ("autocorrelation", "autocorrelation_p", "heteroscedasticity_p", "coverage50", "coverage90")

LAGS = 4
"""Weeks back that autocorrelation is looked for."""

WEEK = 7
"""Days back that a pattern of weekdays shows at."""

UNLIKELY = 0.01
"""p-value below which a pattern is said to be there."""

LOST = 0.8
"""Share of weeks in the 90 % interval below which intervals are said to be too narrow."""

NOISE, NOTHING = "looks like noise", "no week with a KPI"


def residuals(fleet: Fleet) -> pa.Table:
    """One row per unit, over the weeks that its fit saw; residuals are the KPI less the posterior mean.

    `autocorrelation` at one week and `autocorrelation_p` (Ljung-Box over four weeks); `heteroscedasticity_p` (Koenker's
    form of Breusch-Pagan, of the squared residuals on the mean); `coverage50` and `coverage90`, shares of the weeks in
    the posterior predictive intervals; and a `statement` in words.
    """
    seen, long_table = fleet.seen(), LongTable()
    daily = fleet.spec.data.frequency == "daily"

    def work(place: int, series: UnitSeries) -> dict[str, object]:
        return _checked(weekly_kpi(seen, place, series), daily=daily)

    for _, head, found in by_unit(seen, work):
        long_table.add(head, {}, found)
    return long_table.table()


def ljung_box(residual: Float[np.ndarray, " week"], there: Bool[np.ndarray, " week"]) -> tuple[float, float]:
    """Autocorrelation at one week, and the p-value of none over `LAGS` weeks, of the weeks that are there."""
    own = np.where(there, residual - residual[there].mean(), 0.0)
    weeks, power = int(there.sum()), float(own @ own)
    if weeks <= LAGS + 1 or power == 0:
        return np.nan, np.nan
    by_lag = np.array([own[lag:] @ own[:-lag] for lag in range(1, LAGS + 1)]) / power
    statistic = weeks * (weeks + 2) * np.sum(by_lag**2 / (weeks - np.arange(1, LAGS + 1)))
    return float(by_lag[0]), float(chi2.sf(statistic, LAGS))


def repeats_weekly(residual: Float[np.ndarray, " day"], there: Bool[np.ndarray, " day"]) -> tuple[float, float]:
    """Autocorrelation of daily residuals at seven days, and the p-value of none that is above zero."""
    own = np.where(there, residual - residual[there].mean(), 0.0)
    days, power = int(there.sum()), float(own @ own)
    if days <= 2 * WEEK or power == 0:
        return np.nan, np.nan
    at_week = float(own[WEEK:] @ own[:-WEEK]) / power
    return at_week, float(norm.sf(at_week * np.sqrt(days * (days + 2) / (days - WEEK))))


def heteroscedasticity(residual: Float[np.ndarray, " week"], mean: Float[np.ndarray, " week"]) -> float:
    """p-value of a spread that does not grow or shrink with the mean."""
    squared = residual**2
    if len(residual) < 4 or np.ptp(squared) == 0 or np.ptp(mean) == 0:
        return np.nan
    return float(chi2.sf(len(residual) * np.corrcoef(squared, mean)[0, 1] ** 2, 1))


def _checked(own: WeeklyKpi, *, daily: bool) -> dict[str, object]:
    there = own.weeks > 0
    if not there.any():
        return {"weeks": 0, **dict.fromkeys(CHECKS, np.nan), "statement": NOTHING}
    mean = own.expected.mean(axis=-1)
    residual = own.kpi - mean
    first, chance = ljung_box(residual, there)
    spread = heteroscedasticity(residual[there], mean[there])
    levels, kpi = statistics(own.expected[there] + own.noise[there]), own.kpi[there]
    inner = float(np.mean((kpi >= levels["q25"]) & (kpi <= levels["q75"])))
    outer = float(np.mean((kpi >= levels["q05"]) & (kpi <= levels["q95"])))
    checks = dict(zip(CHECKS, (first, chance, spread, inner, outer), strict=True))
    weekly = repeats_weekly(residual, there)[1] if daily else np.nan
    return {"weeks": int(there.sum()), **checks, "statement": _statement(first, chance, spread, outer, weekly)}


def _statement(first: float, chance: float, spread: float, covered: float, weekly: float) -> str:
    found = []
    if weekly < UNLIKELY:
        found.append("what is left of the KPI repeats every 7 days: the model needs days of the week (model=daily)")
    if chance < UNLIKELY:
        direction = "follow" if first > 0 else "offset"
        found.append(
            f"neighbouring weeks {direction} each other ({first:.2f}): something that lasts is not in the model"
        )
    if spread < UNLIKELY:
        found.append("the misses change with the level of sales: intervals are too wide at one end")
    if covered < LOST:
        found.append(f"only {covered:.0%} of the weeks lie in the 90 % interval: intervals are too narrow")
    return "; ".join(found) or NOISE
