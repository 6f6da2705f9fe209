"""Panel: a table checked, sorted and labelled, one value per unit, as plain float64 arrays."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mixfleet import config
from mixfleet.data.experiments.experiment import Experiment
from mixfleet.data.experiments.placement import with_experiments
from mixfleet.data.lake.assemble import LakeRead, assemble
from mixfleet.data.parsed_table import Column, Media, ParsedTable
from mixfleet.data.reshape import needed_columns, read_sheet
from mixfleet.data.sources import Table, example_path, read_table
from mixfleet.data.validation.calendar import period_days, without_planned_rows
from mixfleet.data.validation.cells import empty_units
from mixfleet.data.validation.checks import check_sheet
from mixfleet.data.validation.finding import Finding, findings_table
from mixfleet.errors import ConfigError, TableError

__all__ = ["Finding", "Panel", "Rejection", "Unit", "findings_table", "read_panel", "unit_id"]


_MODEL = config.Model()
_ALONE = config.Pooling()


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One brand in one market, in the table's own units, on a regular grid of weeks (or days)."""

    labels: tuple[str, ...]
    """Values of the key columns, as text."""
    dates: Shaped[np.ndarray, " week"]
    """datetime64[D], first to last row of the unit in regular steps; weeks without a row are included."""
    kpi: Float[np.ndarray, " week"]
    """KPI per week; NaN where not observed."""
    observed: Bool[np.ndarray, " week"]
    """False at weeks that the table does not hold. Media, spend, controls and value_per_kpi are 0.0 there,
    which is no statement about those weeks: whoever models must leave out every week whose carry-over
    window touches one."""
    media: Float[np.ndarray, "week channel"]
    """Impressions where the channel has them, else spend without credit notes (negative cells are zero); an absent
    channel is a column of zeros."""
    spend: Float[np.ndarray, "week channel"]
    """Spend in the table's currency; a column of NaN where the channel has no spend column."""
    controls: Float[np.ndarray, "week linear"]
    """Controls, then treatments."""
    value_per_kpi: Float[np.ndarray, " week"]
    """Revenue per unit of KPI; 1.0 without such a column."""
    population: float
    """Population of the unit; NaN without such a column."""
    kpi_scale: float | None
    """KPI scale that the table prescribes, or that its group lends a unit of few weeks; else None."""
    warnings: tuple[Finding, ...]
    """Findings of severity `warning` about this unit."""
    reported: Float[np.ndarray, "week channel"] | None = None
    """What platforms claim, in KPI; NaN without a report, None where no channel has such a column."""
    experiments: tuple[Experiment, ...] = ()
    """Lift tests of the unit."""
    measured_until: np.datetime64 | None = None
    """Last day of the weeks that its scales are measured on, where they are frozen; None: of all."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A unit that cannot be modelled, and why."""

    labels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """All units of a table; whatever could not be used is named in `rejected` and `findings`."""

    data: config.Data
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    """Paid channels in the order of the configuration, then organic ones: last axis of media and spend."""
    linear: tuple[str, ...]
    """Controls, then treatments: last axis of `Unit.controls`."""
    units: tuple[Unit, ...]
    """Units that can be modelled, sorted by labels."""
    rejected: tuple[Rejection, ...]
    """Units that cannot, sorted by labels."""
    findings: tuple[Finding, ...]
    lake: LakeRead | None = None
    """What was read of several sources, where the table is made of such."""


def unit_id(labels: tuple[str, ...]) -> str:
    """SHA-256 (hex) of the labels as a UTF-8 JSON list.

    Labels are taken as they are: names that differ in case or in Unicode normalisation are different units.
    """
    text = json.dumps(list(labels), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_panel(
    source: Any,
    data: config.Data,
    *,
    seasonality: int = _MODEL.seasonality,
    window: int = _MODEL.window,
    pooling: config.Pooling = _ALONE,
    link: str = _MODEL.link,
    trend: bool = _MODEL.has_trend,
    today: np.datetime64 | None = None,
    experiments: Any = None,
) -> Panel:
    """The units of a table, each checked on its own; faulty ones are rejected and the others go on.

    Args:
        source: Path (file, folder, glob), pandas or polars frame, Arrow table, DuckDB relation, any object
            with `__arrow_c_stream__`; None reads `data.path`, the bundled table where `data.source` is `example`,
            or the sources of `data.lake`.
        data: What the columns mean.
        seasonality: Fourier order of the model to come; histories below a year are then doubtful.
        window: Carry-over window of the model to come; it decides which weeks after a hole can be fitted.
        pooling: Which units share hyperparameters; a group lends a unit of few weeks its KPI scale.
        link: Of the model to come; the KPI of a logarithm must be above zero.
        trend: Whether the model to come has a straight line; a control that is one is then superfluous.
        today: Day after which dates count as future; the clock's when not given.
        experiments: Table of lift tests, or its path; by default what `data.experiments.path` says.

    Raises:
        TableError: The table cannot be read at all, has no rows, or a column is missing or of the wrong type; or a
            lift test cannot be used. `findings` lists all such faults.
    """
    table, lake = _table(source, data)
    now = np.datetime64("today", "D") if today is None else today
    sheet = without_planned_rows(read_sheet(table, data), data, today=now)
    findings, lent = check_sheet(
        sheet, data, seasonality=seasonality, window=window, pooling=pooling, link=link, trend=trend, today=now
    )
    by_unit: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.unit is not None:
            by_unit.setdefault(finding.unit, []).append(finding)
    rows, step = _rows(sheet), np.timedelta64(period_days(data), "D")
    units, rejected = [], []
    for index, labels in enumerate(sheet.labels):
        own = by_unit.get(labels, [])
        errors = [finding for finding in own if finding.severity == "error"]
        if errors:
            rejected.append(Rejection(labels=labels, reason="; ".join(error.message for error in errors)))
        else:
            warnings = tuple(finding for finding in own if finding.severity == "warning")
            scale = sheet.kpi_scale.values[sheet.start[index]] if sheet.kpi_scale else lent[index]
            kpi_scale = None if np.isnan(scale) else float(scale)
            units.append(_unit(sheet, rows, index, step=step, kpi_scale=kpi_scale, warnings=warnings))
    panel = Panel(
        data=data,
        keys=data.unit_keys,
        channels=tuple(channel.name for channel in sheet.channels),
        linear=tuple(column.name for column in sheet.linear),
        units=tuple(units),
        rejected=tuple(rejected),
        findings=findings,
        lake=lake,
    )
    tests = data.experiments.path if experiments is None else experiments
    return panel if tests is None else _tested(panel, tests, window, pooling)


def _tested(panel: Panel, tests: Any, window: int, pooling: config.Pooling) -> Panel:
    """The panel with its units' lift tests."""
    units, findings = with_experiments(
        panel.units,
        [rejection.labels for rejection in panel.rejected],
        panel.channels,
        tests,
        panel.data,
        window=window,
        days=period_days(panel.data),
        pooling=pooling,
    )
    return replace(panel, units=units, findings=(*panel.findings, *findings))


def _for_one_series(error: TableError, data: config.Data) -> TableError:
    """The error, with the remedy for a table that has none of the key columns, as one of a single series has not."""
    lacking = {finding.column for finding in error.findings if finding.rule == "column_missing"}
    if not data.keys or not lacking.issuperset(data.keys):
        return error
    remedy = f"for a table of one series, which has no {' or '.join(data.keys)}, set data.keys to []"
    found = Finding(rule="one_series", severity="error", column=data.keys[0], message=remedy)
    return TableError(f"{error}; {remedy}", findings=(*error.findings, found))


def _table(source: Any, data: config.Data) -> tuple[Table, LakeRead | None]:
    """The needed columns, and what was read of a lake where they come from one."""
    assembled = assemble(data.lake) if source is None and data.source == "lake" else None
    source = _source(source, data) if assembled is None else assembled.table
    try:
        table = read_table(source, needed_columns(data), date=data.date, encoding=data.encoding)
    except TableError as error:
        raise _for_one_series(error, data) from error
    if assembled is None:
        return table, None
    return replace(table, findings=(*assembled.findings, *table.findings)), assembled.read


def _source(source: Any, data: config.Data) -> Any:
    if source is not None:
        return source
    if data.source == "example":
        return example_path()
    if data.path is None:
        raise ConfigError("name a file, folder or glob, or pass a table", key="data.path")
    return data.path


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """All rows of a sheet side by side, ready to be cut into units."""

    kpi: Float[np.ndarray, " row"]
    media: Float[np.ndarray, "row channel"]
    spend: Float[np.ndarray, "row channel"]
    controls: Float[np.ndarray, "row linear"]
    value_per_kpi: Float[np.ndarray, " row"]
    reported: Float[np.ndarray, "row channel"] | None


def _rows(sheet: ParsedTable) -> _Rows:
    count = len(sheet.row)
    value = np.ones(count) if sheet.revenue_per_kpi is None else sheet.revenue_per_kpi.values
    return _Rows(
        kpi=sheet.kpi.values,
        # A credit note returns money and undoes no advertising.
        media=_side_by_side([np.maximum(_present(channel.media), 0.0) for channel in sheet.channels], count),
        spend=_side_by_side([_paid(sheet, channel) for channel in sheet.channels], count),
        controls=_side_by_side([_present(column) for column in sheet.linear], count),
        value_per_kpi=value,
        reported=_reported(sheet),
    )


def _reported(sheet: ParsedTable) -> Float[np.ndarray, "row channel"] | None:
    claims = [channel.reported for channel in sheet.channels]
    if not any(claims):
        return None
    silent = np.full(len(sheet.row), np.nan)
    return np.stack([silent if claim is None else claim.values for claim in claims], axis=1)


def _side_by_side(columns: Sequence[np.ndarray], count: int) -> Float[np.ndarray, "row column"]:
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


def _present(column: Column) -> Float[np.ndarray, " row"]:
    # In a unit that passed the checks a column is complete or, where the unit has no such channel, empty.
    return np.where(np.isnan(column.values), 0.0, column.values)


def _paid(sheet: ParsedTable, channel: Media) -> Float[np.ndarray, " row"]:
    if channel.spend is None:
        return np.full(len(sheet.row), np.nan)
    spend = _present(channel.spend)
    if channel.spend is not channel.media:
        ran = np.logical_or.reduceat(_present(channel.media) != 0, sheet.start[:-1])
        spend[(empty_units(sheet, channel.spend) & ran)[sheet.unit]] = np.nan
    return spend


def _unit(
    sheet: ParsedTable,
    rows: _Rows,
    index: int,
    *,
    step: np.timedelta64,
    kpi_scale: float | None,
    warnings: tuple[Finding, ...],
) -> Unit:
    own = slice(int(sheet.start[index]), int(sheet.start[index + 1]))
    dates = sheet.dates[own]
    grid = np.arange(dates[0], dates[-1] + step, step)
    place = (dates - dates[0]) // step
    observed = np.zeros(len(grid), bool)
    observed[place] = True
    return Unit(
        labels=sheet.labels[index],
        dates=_frozen(grid),
        kpi=_on_grid(rows.kpi[own], place, len(grid), np.nan),
        observed=_frozen(observed),
        media=_on_grid(rows.media[own], place, len(grid)),
        spend=_on_grid(rows.spend[own], place, len(grid)),
        controls=_on_grid(rows.controls[own], place, len(grid)),
        value_per_kpi=_on_grid(rows.value_per_kpi[own], place, len(grid)),
        population=np.nan if sheet.population is None else float(sheet.population.values[own][0]),
        kpi_scale=kpi_scale,
        warnings=warnings,
        reported=None if rows.reported is None else _on_grid(rows.reported[own], place, len(grid), np.nan),
    )


def _on_grid(values: np.ndarray, place: np.ndarray, length: int, hole: float = 0.0) -> np.ndarray:
    out = np.full((length, *values.shape[1:]), hole)
    out[place] = values
    return _frozen(out)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
