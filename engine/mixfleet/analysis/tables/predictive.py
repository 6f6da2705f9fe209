"""Expected KPI of units and of sums over them: its mean by component, and week by week beside what came."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from mixfleet.analysis.aggregate import gather
from mixfleet.analysis.breakdown import by_subject
from mixfleet.analysis.periods import Windows
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.models.baseline import component_rows, components
from mixfleet.posterior import fit_quality
from mixfleet.posterior.counterfactual import decompose, log_link, weekly
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["ComponentMeans", "Means", "WeeklyKpi", "agreement", "component_means", "fit_by_group", "weekly_kpi"]


class WeeklyKpi(NamedTuple):
    """One unit's or group's weeks; zero in those that do not count."""

    kpi: Float[np.ndarray, " week"]
    expected: Float[np.ndarray, "week draw"]
    noise: Float[np.ndarray, "week draw"]
    weeks: Int[np.ndarray, " week"]
    """Unit-weeks that count."""

    DRAWN = ("expected", "noise")


def weekly_kpi(fleet: Fleet, place: int, series: UnitSeries) -> WeeklyKpi:
    """All weeks of one unit."""
    unit = fleet.units[place]
    weeks = len(unit.dates)
    counted = series.counted[:weeks]
    with jax.enable_x64(True):
        media = np.asarray(weekly(series.media, series.curves, term=fleet.term))
    expected, noise = fit_quality.predictive(unit, series, media, fleet.spec.model)
    expected[~counted] = noise[~counted] = 0.0
    return WeeklyKpi(series.kpi[:weeks], expected, noise, counted.astype(int))


def fit_by_group(fleet: Fleet, by: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """Head columns and scores of every group: those of its certified units' sum, date by date of the whole fleet."""
    dates = np.unique(np.concatenate([unit.dates for unit in fleet.units])) if fleet.units else np.zeros(0, "M8[D]")

    def account(place: int, series: UnitSeries) -> WeeklyKpi:
        own, at = weekly_kpi(fleet, place, series), np.searchsorted(dates, fleet.units[place].dates)
        wide = [np.zeros((len(dates), *part.shape[1:]), part.dtype) for part in own]
        for target, part in zip(wide, own, strict=True):
            target[at] = part
        return WeeklyKpi(*wide)

    return by_subject(fleet, by, account, agreement)


def agreement(own: WeeklyKpi) -> dict[str, float]:
    """Scores of the weeks in which there is anything."""
    there = own.weeks > 0
    found = fit_quality.agreement(own.kpi[there], fit_quality.Predictive(own.expected[there], own.noise[there]))
    return {name: float(values[0]) for name, values in found.items()}


class Means(NamedTuple):
    """One unit's or the fleet's."""

    mean: Float[np.ndarray, "window component"]
    """KPI over the weeks of a window that count."""
    weeks: Int[np.ndarray, " window"]
    """Unit-weeks that count."""

    DRAWN = ()


class ComponentMeans(NamedTuple):
    """Of a run."""

    periods: tuple[str, ...]
    components: tuple[str, ...]
    """Channels, then parts of the baseline."""
    units: tuple[Means, ...]
    """In the order of `Fleet.units`."""
    total: Means | None
    """Of the units in totals; None where there is no unit, NaN where none is in totals."""


def component_means(fleet: Fleet, windows: Windows) -> ComponentMeans:
    """The means of `Insight.contributions`, without the quantiles and sums of draws that take most of its time.

    Each unit's are from its own draws, and the total's from the fleet's.
    """
    rows = component_rows(fleet.spec.model, fleet.spec.data)

    def means(series: UnitSeries, index: np.ndarray) -> Means:
        inside = np.zeros((len(series.counted), len(windows.names)), bool)
        inside[: len(index)] = index[:, None] == np.arange(len(windows.names))
        within = (inside & series.counted[:, None]).astype(float)
        if series.log_link:
            mean = log_link.shares(log_link.logarithms(series, rows, fleet.term), within).mean(axis=-1)
        else:
            media = decompose(series.media, within[:, :0], series.curves, term=fleet.term).mean
            baseline = (series.design * series.coefficients.mean(axis=1)) @ rows.T
            mean = within.T @ np.concatenate([media, baseline], axis=1)
        return Means(mean, within.sum(axis=0).astype(int))

    def work(place: int, series: UnitSeries) -> tuple[Means, Means]:
        index = windows.index(fleet.units[place].dates)
        own = means(series, index)
        # Sums are over draws of the fleet, of which a unit with fewer repeats some.
        return (own if series.effect.shape[-1] == fleet.draws else means(_repeated(series, fleet.draws), index)), own

    found = gather(fleet, fleet.walk(work), [()])
    total = found.groups[()][0][1] if found.groups[()] else None
    names = (*fleet.channels, *components(fleet.spec.model, fleet.spec.data))
    return ComponentMeans(windows.names, names, found.units, total)


def _repeated(series: UnitSeries, draws: int) -> UnitSeries:
    pick = (np.arange(draws) * series.effect.shape[-1]) // draws
    drawn = ("shape", "effect", "coefficients", "observation")
    return series._replace(**{name: getattr(series, name)[..., pick] for name in drawn})
