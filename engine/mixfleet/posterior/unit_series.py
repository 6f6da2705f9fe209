"""A unit's data and kept draws as the arrays that every table is computed from, when it is fitted and ever after."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Model
from mixfleet.data import scaling
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, Scale
from mixfleet.models import baseline

if TYPE_CHECKING:
    from mixfleet.models.media import Curves

__all__ = [
    "SUMMARY_DRAWS",
    "UnitSeries",
    "baseline_sums",
    "counted_weeks",
    "evenly_spaced",
    "series_variables",
    "unit_series",
]

SUMMARY_DRAWS = 1000
"""Draws of a unit behind its tables, at most; evenly spaced over those that are kept."""


class UnitSeries(NamedTuple):
    """One unit; behind its last week everything is zero."""

    media: Float[np.ndarray, "week channel"]
    """In shares of each channel's scale."""
    spend: Float[np.ndarray, "week channel"]
    """In the table's currency; NaN where a channel has no spend column."""
    kpi: Float[np.ndarray, " week"]
    """Zero in weeks that do not count."""
    value: Float[np.ndarray, " week"]
    """Revenue per KPI."""
    counted: Bool[np.ndarray, " week"]
    """Weeks that count in sums and scores."""
    design: Float[np.ndarray, "week column"]
    """Columns of the linear block, controls less their means, treatments less their baselines."""
    shape: Float[np.ndarray, "parameter channel draw"]
    """Adstock, then saturation parameters, on the model's scale."""
    effect: Float[np.ndarray, "channel draw"]
    """In KPI."""
    coefficients: Float[np.ndarray, "column draw"]
    """In KPI, for the columns of `design`."""
    observation: Float[np.ndarray, "parameter draw"]
    """Parameters of the observation; its scale, in KPI, comes first. Then learned scales of coefficients, in KPI."""
    known: Bool[np.ndarray, " week"]
    """Weeks that the fit saw, whose errors may go on into later ones."""
    log_link: bool = False
    """Whether effects, coefficients and noise are of the KPI's logarithm: see `posterior.counterfactual.log_link`."""

    @property
    def curves(self) -> "Curves":
        """What shapes the response of every channel."""
        # Starts jax, without which a saved run and its tables are read.
        from mixfleet.models.media import Curves

        return Curves(self.shape, self.effect)


def series_variables(model: Model) -> tuple[str, ...]:
    """Names of the kept draws that a `UnitSeries` is made of."""
    return (*model.channel_parameters[:-1], "effect", "coefficients", *model.unit_parameters)


def counted_weeks(unit: Unit, *, window: int) -> Bool[np.ndarray, " week"]:
    """The weeks that tables look at: those with a KPI and known media; a holdout is among them."""
    return scaling.likelihood_weeks(unit, window=window, holdout=0)


def evenly_spaced(values: Float[np.ndarray, "chain draw ..."], count: int) -> Float[np.ndarray, "kept ..."]:
    """At most `count` draws of all chains, evenly spaced, chain after chain.

    Index i of units that were sampled jointly is one joint draw.
    """
    total = values.shape[0] * values.shape[1]
    every = values.reshape(total, *values.shape[2:])
    return every if total <= count else every[(np.arange(count) * total) // count]


def baseline_sums(
    series: UnitSeries, within: Float[np.ndarray, "week window"], rows: Float[np.ndarray, "component column"]
) -> Float[np.ndarray, "window component draw"]:
    """KPI of the baseline's components, summed over each window's weeks."""
    by_component = np.einsum("cj,wj->wcj", rows, within.T @ series.design)
    return np.einsum("wcj,jd->wcd", by_component, series.coefficients)


def unit_series(
    unit: Unit,
    scale: Scale,
    draws: Mapping[str, Float[np.ndarray, "draw ..."]],
    model: Model,
    *,
    keys: tuple[str, ...],
    counted: Bool[np.ndarray, " week"],
    weeks: int,
    lent: Float[np.ndarray, " linear"] | None = None,
) -> UnitSeries:
    """The unit's arrays.

    Args:
        unit: In the table's units.
        scale: On which the unit was fitted.
        draws: Each of `series_variables`, in the table's units.
        model: Families, and terms of the baseline.
        keys: Names of the columns that `unit.labels` are of.
        counted: Weeks that count.
        weeks: Length of the arrays, at least the unit's.
        lent: Spreads of the unit's constant controls in others, as `scaling.lent_spread` has them.
    """

    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.zeros((weeks - len(values), *values.shape[1:]), values.dtype)])

    numbers = np.arange(len(unit.dates))
    # Draws last: lanes that are summed over lie side by side.
    own = {name: np.asarray(values, float).T for name, values in draws.items()}
    # Coefficients are kept per unit of a column; a control's contribution is that of its distance from its mean, and a
    # treatment's from its baseline, with which it brings nothing.
    controls = scale.controls_against(unit, scale.reference)
    names = dict(zip(keys, unit.labels, strict=True))
    design = baseline.design(unit.dates, controls, model=model, fitted_weeks=scale.trend_weeks, unit=names)
    coefficients = own["coefficients"].copy()
    linear = len(coefficients) - len(scale.control_mean)
    coefficients[0] += scale.reference @ coefficients[linear:]
    if lent is not None:
        coefficients[linear:] /= lent[:, None]
    shapes = [own[name] / scale.media[:, None] ** MEDIA_POWERS.get(name, 0) for name in model.channel_parameters[:-1]]
    return UnitSeries(
        media=padded(scale.scaled_media(unit)),
        spend=padded(unit.spend),
        kpi=padded(np.where(counted, unit.kpi, 0.0)),
        value=padded(unit.value_per_kpi),
        counted=padded(counted),
        design=padded(design),
        shape=np.stack(shapes) if shapes else np.zeros((0, *own["effect"].shape)),
        effect=own["effect"],
        coefficients=coefficients,
        observation=np.stack([own[name] for name in model.unit_parameters]),
        known=padded(scaling.likelihood_weeks(unit, window=model.window, holdout=0) & (numbers < scale.trend_weeks)),
        log_link=scale.log_link,
    )
