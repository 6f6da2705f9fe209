"""Response curves of every unit and channel, and what they say in one number each."""

import jax
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.breakdown import by_unit
from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.config.model import STRUCTURE
from mixfleet.models.baseline import component_rows
from mixfleet.models.media import MediaTerm, steady, windows
from mixfleet.posterior.counterfactual.log_link import usual_level
from mixfleet.posterior.media_prices import media_price
from mixfleet.posterior.response_curves import levels, response_curves
from mixfleet.posterior.statistics import statistics
from mixfleet.posterior.unit_series import UnitSeries

__all__ = ["curves", "lags", "shapes"]

_HALF = {
    "logistic": lambda rate: np.log(3.0) / rate,
    "hill": lambda *shape: shape[1],
    "tanh": lambda scale: scale * np.arctanh(0.5),
    "michaelis_menten": lambda half_saturation: half_saturation,
    "exponential": lambda rate: np.log(2.0) / rate,
}
"""Media at which a curve reaches half of its ceiling; families without one are not here."""


def curves(fleet: Fleet, points: int) -> pa.Table:
    """KPI a week at steady spend, from nothing to half again the highest week, and the derivative by spend.

    `spend` is media where nothing is paid. `seen` marks levels up to the highest week; `usual` is the mean of the weeks
    in which the channel ran.
    """
    long_table, grid = LongTable(), levels(points)

    def work(place: int, series: UnitSeries) -> dict[str, np.ndarray]:
        unit, scale = fleet.units[place], fleet.scales[place]
        level = usual_level(series, component_rows(fleet.spec.model, fleet.spec.data), fleet.term)
        found = response_curves(unit, scale, series.curves, fleet.term, points=points, level=level)
        return {
            "spend": found.spend,
            **statistics(found.kpi),
            "marginal": found.slope.mean(axis=-1),
            "seen": np.broadcast_to(grid <= 1.0, found.spend.shape),
            "usual": (_usual(series) * _cost(fleet, place))[:, None],
        }

    axes = {"channel": fleet.channels, "level": range(points)}
    for place, head, values in by_unit(fleet, work):
        long_table.add(head, axes, values, where=_ran(fleet, place)[:, None])
    return long_table.table()


def shapes(fleet: Fleet) -> pa.Table:
    """One row per unit, channel and measure.

    `half_saturation`: weekly spend (media where nothing is paid) at which the response is half of its ceiling.
    `saturation`: share of the ceiling that is reached at the usual level. `half_life`: weeks until half of the effect
    has come, between lags in proportion. `mean_lag`: weeks that the effect comes late on average.
    """
    long_table = LongTable()

    def work(place: int, series: UnitSeries) -> dict[str, dict[str, np.ndarray]]:
        return {measure: statistics(values) for measure, values in _shapes(fleet, place, series).items()}

    forms = [form.alternatives or (form,) for form in fleet.term.forms]
    halved = np.array([all(one.saturation in _HALF for one in own) for own in forms])
    for place, head, measures in by_unit(fleet, work):
        for measure, values in measures.items():
            axes, where = {"channel": fleet.channels}, _ran(fleet, place)
            if measure in ("half_saturation", "saturation"):
                where = where & halved
            long_table.add({**head, "measure": measure}, axes, values, where=where)
    return long_table.table()


def lags(fleet: Fleet) -> pa.Table:
    """Share of a channel's effect that comes `lag` periods after its media, by unit and channel."""
    long_table = LongTable()

    def work(_: int, series: UnitSeries) -> dict[str, np.ndarray]:
        weights = _weights(fleet, series)
        return statistics(np.moveaxis(weights / weights.sum(axis=0), 0, 1))

    for place, head, values in by_unit(fleet, work):
        axes = {"channel": fleet.channels, "lag": range(values["mean"].shape[1])}
        long_table.add(head, axes, values, where=_ran(fleet, place)[:, None])
    return long_table.table()


def _shapes(fleet: Fleet, place: int, series: UnitSeries) -> dict[str, Float[np.ndarray, "channel draw"]]:
    with jax.enable_x64(True):
        usual = steady(_usual(series)[None], series.curves, term=fleet.term)[0][0]
    weights = _weights(fleet, series)
    total = weights.sum(axis=0)
    late = np.einsum("lcd,l->cd", weights, np.arange(len(weights))) / total
    measures = {"half_life": half_life(weights), "mean_lag": late}
    half, first = _halves(fleet.term, series), np.array([[form.adstock_first] for form in fleet.term.forms])
    if np.any(np.isfinite(half)):
        before, ceiling = np.where(first, total, 1.0), np.where(first, 1.0, total)
        measures["half_saturation"] = half / before * _cost(fleet, place)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            measures["saturation"] = np.where(np.isfinite(half), usual / (series.effect * ceiling), np.nan)
    return measures


def _halves(term: MediaTerm, series: UnitSeries) -> Float[np.ndarray, "channel draw"]:
    """Media at which each channel's curve reaches half of its ceiling; NaN where it has none."""
    half = np.full(series.effect.shape, np.nan)
    for c, form in enumerate(term.forms):
        for number, one in enumerate(form.alternatives or (form,)):
            if one.saturation in _HALF:
                rows = [term.parameters.index(name) for name in one.saturation_parameters]
                found = _HALF[one.saturation](*series.shape[rows, c])
                own = series.shape[term.parameters.index(STRUCTURE), c] == number if form.alternatives else True
                half[c] = np.where(own, found, half[c])
    return half


def half_life(weights: Float[np.ndarray, "window channel draw"]) -> Float[np.ndarray, "channel draw"]:
    """Weeks until half of the effect has come; within the week at which it does, in proportion."""
    share = np.cumsum(weights, axis=0) / weights.sum(axis=0)
    lag = np.argmax(share >= 0.5, axis=0)[None]
    reached = np.take_along_axis(share, lag, 0)
    before = np.where(lag > 0, np.take_along_axis(share, np.maximum(lag - 1, 0), 0), 0.0)
    return (lag + (0.5 - before) / (reached - before))[0]


def _ran(fleet: Fleet, place: int) -> np.ndarray:
    """Which channels ran in a unit."""
    return np.any(fleet.units[place].media != 0, axis=0)


def _cost(fleet: Fleet, place: int) -> Float[np.ndarray, " channel"]:
    """Spend for one medium on the model's scale."""
    return fleet.scales[place].media * media_price(fleet.units[place])


def _weights(fleet: Fleet, series: UnitSeries) -> Float[np.ndarray, "window channel draw"]:
    return np.asarray(windows(series.curves, fleet.term), float)


def _usual(series: UnitSeries) -> Float[np.ndarray, " channel"]:
    """Mean of the weeks in which each channel ran, on the model's scale."""
    return series.media.sum(axis=0) / np.maximum((series.media != 0).sum(axis=0), 1)
