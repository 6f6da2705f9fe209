"""The checked table of a run as one Parquet file beside its draws, and back.

With it a saved run explains itself: scale, design and fitted weeks follow from it by the functions that the fit
used. One row per unit and period, unit by unit; rejected units are not in it.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from mixfleet.data.panel import Panel, Unit

__all__ = ["COLUMNS", "panel_table", "read_units"]

COLUMNS = {
    "date": pa.date32(),
    "observed": pa.bool_(),
    "kpi": pa.float64(),
    "value_per_kpi": pa.float64(),
    "population": pa.float64(),
    "kpi_scale": pa.float64(),
}
"""Columns after the keys; behind them come `media:` and `spend:` of each channel, `linear:` of each control and, where
there are any, `reported:` of each channel."""


_MEASURED = "measured_until:"
"""Column of the days until which scales were measured, where they are frozen."""


def panel_table(panel: Panel) -> pa.Table:
    """All units of the panel in original units; media as zero and KPI as missing where a row was missing."""
    lengths = [len(unit.dates) for unit in panel.units]
    columns: dict[str, pa.Array] = {
        key: pa.array([unit.labels[i] for unit in panel.units], pa.string()).take(
            pa.array(np.repeat(np.arange(len(lengths)), lengths))
        )
        for i, key in enumerate(panel.keys)
    }
    columns["date"] = pa.array(_joined([unit.dates.astype("datetime64[D]") for unit in panel.units], "M8[D]"))
    columns["observed"] = pa.array(_joined([unit.observed for unit in panel.units], bool))
    columns["kpi"] = pa.array(_joined([unit.kpi for unit in panel.units]))
    columns["value_per_kpi"] = pa.array(_joined([unit.value_per_kpi for unit in panel.units]))
    columns["population"] = pa.array(np.repeat([unit.population for unit in panel.units], lengths), pa.float64())
    scales = [np.nan if unit.kpi_scale is None else unit.kpi_scale for unit in panel.units]
    columns["kpi_scale"] = pa.array(np.repeat(scales, lengths), pa.float64())
    for kind, names in (("media", panel.channels), ("spend", panel.channels)):
        for i, name in enumerate(names):
            columns[f"{kind}:{name}"] = pa.array(_joined([getattr(unit, kind)[:, i] for unit in panel.units]))
    for i, name in enumerate(panel.linear):
        columns[f"linear:{name}"] = pa.array(_joined([unit.controls[:, i] for unit in panel.units]))
    claims = [unit.reported for unit in panel.units if unit.reported is not None]
    for i, name in enumerate(panel.channels if claims else ()):
        columns[f"reported:{name}"] = pa.array(_joined([claim[:, i] for claim in claims]))
    if any(unit.measured_until is not None for unit in panel.units):
        last = [np.datetime64("NaT") if unit.measured_until is None else unit.measured_until for unit in panel.units]
        columns[_MEASURED] = pa.array(np.repeat(np.array(last, "M8[D]"), lengths), pa.date32())
    return pa.table(columns)


def read_units(table: pa.Table, keys: Sequence[str]) -> tuple[Unit, ...]:
    """The units of a table that `panel_table` made; their warnings stay in the findings table."""
    if not table.num_rows:
        return ()
    labels = np.stack([table[key].to_numpy(zero_copy_only=False).astype(object) for key in keys], axis=1)
    changes = np.any(labels[1:] != labels[:-1], axis=1)
    starts = np.r_[0, np.flatnonzero(changes) + 1, len(labels)]

    def side_by_side(kind: str) -> np.ndarray:
        names = [name for name in table.column_names if name.startswith(f"{kind}:")]
        return np.stack([_floats(table, name) for name in names], axis=1) if names else np.zeros((len(labels), 0))

    dates = table["date"].to_numpy().astype("datetime64[D]")
    observed = table["observed"].to_numpy()
    kpi, value = _floats(table, "kpi"), _floats(table, "value_per_kpi")
    population, kpi_scale = _floats(table, "population"), _floats(table, "kpi_scale")
    media, spend, linear = side_by_side("media"), side_by_side("spend"), side_by_side("linear")
    reported = side_by_side("reported")
    measured = table[_MEASURED].to_numpy().astype("M8[D]") if _MEASURED in table.column_names else None
    return tuple(
        Unit(
            labels=tuple(str(label) for label in labels[start]),
            dates=dates[start:stop],
            kpi=kpi[start:stop],
            observed=observed[start:stop],
            media=media[start:stop],
            spend=spend[start:stop],
            controls=linear[start:stop],
            value_per_kpi=value[start:stop],
            population=float(population[start]),
            kpi_scale=None if np.isnan(kpi_scale[start]) else float(kpi_scale[start]),
            warnings=(),
            reported=reported[start:stop] if reported.shape[1] else None,
            measured_until=None if measured is None or np.isnat(measured[start]) else measured[start],
        )
        for start, stop in pairwise(starts)
    )


def _joined(parts: list[np.ndarray], dtype: str | type = float) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype) for part in parts]) if parts else np.zeros(0, dtype)


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False).astype(float)
