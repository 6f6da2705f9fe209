"""Units: a unit of a mixfleet panel as the problem that the peers are given."""

import pandas as pd

from benchmarks.peers.exchange import Column, Problem
from mixfleet.config import Spec
from mixfleet.data import scaling
from mixfleet.data.panel import Panel, Unit
from mixfleet.models import baseline


def problem_of(unit: Unit, panel: Panel, spec: Spec) -> Problem:
    """The unit's data and model, in its own units, with mixfleet's linear columns and priors.

    Raises:
        ValueError: The unit has gaps or a prescribed scale, which the peers have no counterpart of.
    """
    model, keys = spec.model, dict(zip(panel.keys, unit.labels, strict=True))
    fitted = scaling.likelihood_weeks(unit, window=model.window, holdout=0)
    if unit.kpi_scale is not None or not fitted.all():
        raise ValueError(f"unit {unit.labels} has gaps or a KPI scale of its own; choose a complete unit")
    controls = scaling.measure(unit, fitted).scaled_controls(unit)
    design = baseline.design(unit.dates, controls, model=model, fitted_weeks=len(unit.dates))
    names = baseline.column_names(model, spec.data)
    mean, sd = baseline.column_priors(model, spec.data, spec.prior, keys)
    columns = [
        Column(name=name, kind=_kind(name), mean=float(mean[i]), sd=float(sd[i])) for i, name in enumerate(names)
    ]
    table = pd.DataFrame({"date": unit.dates.astype("datetime64[ns]"), "kpi": unit.kpi})
    table[list(panel.channels)] = unit.media
    table[list(names)] = design
    return Problem(
        table=table.drop(columns="intercept"),
        channels=list(panel.channels),
        columns=columns[1:],
        window=model.window,
        saturation=model.saturation,
        seasonality=model.seasonality,
        priors={
            name: spec.prior.distribution(name, unit=keys).to_mapping()
            for name in (*model.channel_parameters, "noise", "intercept", "seasonality")
        },
        seed=spec.inference.seed,
    )


def _kind(column: str) -> str:
    if column.startswith(("sin_", "cos_")):
        return "seasonality"
    return column if column in ("intercept", "trend") else "control"
