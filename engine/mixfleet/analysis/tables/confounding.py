"""Confounding: how strong a cause that the table lacks would have to be to turn the verdict on a channel.

A cause of both media and KPI moves a channel's effect by its standard error times the square root of the degrees of
freedom and of what the cause explains of either (partial R2). The verdict is whether a channel's return is above the
break-even; the correlation at which a cause that goes as much with the media as with the KPI would take the return to
there is the square root of the robustness value. Standard errors are what the data say beside the prior.

References:
    Cinelli, Hazlett (2020), Making sense of sensitivity: extending omitted variable bias, doi:10.1111/rssb.12348.
"""

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mixfleet.analysis.posterior_draws import Fleet
from mixfleet.data.scaling import likelihood_weeks
from mixfleet.models import baseline

__all__ = ["confounding", "robustness"]


def confounding(fleet: Fleet, roi: pa.Table, break_even: float) -> pa.Table:
    """One row per unit and paid channel: `verdict` above or below the break-even, and the `correlation` that turns it.

    `correlation` is that of the cause with what is left of the KPI, and of the media, once all that the model has is
    taken out; zero where the data say nothing beside the prior.

    Args:
        fleet: The run's units.
        roi: The run's table of ROI.
        break_even: Return on a unit of spend at which a channel pays for itself.
    """
    spec, free = fleet.spec, {}
    columns = len(baseline.column_names(spec.model, spec.data))
    for unit in fleet.units:
        weeks = likelihood_weeks(unit, window=spec.model.window, holdout=spec.data.holdout or 0)
        ran = np.any(unit.media[weeks] != 0, axis=0) if weeks.any() else np.zeros(0)
        free[unit.labels] = float(weeks.sum() - columns - np.sum(ran))
    labels = zip(*(roi[key].to_pylist() for key in fleet.keys), strict=True)
    freedom = np.array([free[own] for own in labels], float)
    mean, sd, prior_sd = (roi[name].to_numpy() for name in ("mean", "sd", "prior_sd"))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(sd < prior_sd, 1 / np.sqrt(1 / sd**2 - 1 / prior_sd**2), np.inf)
    found = {
        "roi": mean,
        "break_even": np.full(len(mean), float(break_even)),
        "verdict": np.where(mean > break_even, "above", "below").astype(object),
        "correlation": robustness(np.abs(mean - break_even) / error, freedom),
    }
    return pa.table(
        {name: roi[name] for name in (*fleet.keys, "status", "channel")}
        | {name: pa.array(values) for name, values in found.items()}
    )


def robustness(distance: Float[np.ndarray, " row"], freedom: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Correlation with both KPI and media of the weakest cause that moves an effect so far.

    Args:
        distance: In standard errors.
        freedom: Degrees of freedom, those of the cause left out of account; without any the answer is zero.
    """
    strength = distance**2 / np.maximum(freedom, 1.0)
    value = 0.5 * (np.sqrt(strength**2 + 4 * strength) - strength)
    return np.where(freedom > 0, np.sqrt(np.maximum(value, 0.0)), 0.0)
