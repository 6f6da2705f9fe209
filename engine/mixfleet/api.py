"""The calls a user makes to fit a table, open what was fitted, and check a table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import pyarrow as pa

from mixfleet.analysis.selectors import by_unit
from mixfleet.config import (
    GROUPS,
    Business,
    Data,
    Model,
    Pooling,
    Prior,
    Setting,
    SettingGroups,
    Spec,
    build,
    preset,
    presets,
    to_mapping,
)
from mixfleet.data.frames import frame_kind, to_frame
from mixfleet.data.panel import Panel, read_panel
from mixfleet.data.sources import TableSource
from mixfleet.data.validation.finding import findings_table
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.executors.executor import Executor
from mixfleet.fitting.executors.shards import collected, shard_folders
from mixfleet.fitting.progress import OnEvent, notebook_listener
from mixfleet.fitting.runner import execute, execute_shard
from mixfleet.models import baseline
from mixfleet.run import Run, open
from mixfleet.simulation import fleet as simulate
from mixfleet.storage.manifest import CONFIG
from mixfleet.storage.summary_tables import write_table

if TYPE_CHECKING:
    from mixfleet.budgeting.plan import Plan
    from mixfleet.budgeting.request import BudgetOptions

__all__ = ["Run", "budget", "check", "collect", "fit", "fit_inputs", "fit_shard", "open", "read_settings"]


def fit(
    table: TableSource | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    *,
    experiments: TableSource | None = None,
    on_event: OnEvent | None = None,
    **groups: Unpack[SettingGroups],
) -> Run:
    """A finished run of the table: every unit fitted, or named with the reason why not.

    With the `run.id` of an interrupted run of the same table and settings it goes on where that one stopped;
    with that of a finished one it returns it at once.

    Args:
        table: pandas, polars or pyarrow table, DuckDB relation, or path of a file, folder or glob. By default
            what `data.source` and `data.path` say.
        spec: All settings; by default the defaults.
        experiments: Table of lift tests, or its path; by default what `data.experiments` says.
        on_event: Called with progress events; by default a notebook shows them in a line under the cell.
        **groups: Groups of settings in place of the spec's - `data`, `model`, `prior`, `pooling`, `inference`,
            `compute`, `output`, `run` - each its dataclass, a mapping of what differs from the spec's, or the name of
            a preset.

    Returns:
        The run, whose tables are frames of the library that `table` is of.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The table cannot be read at all, or lacks a column; or a lift test cannot be used.
        RunError: The run folder is in use, belongs to something else, or cannot be written.
        KeyboardInterrupt: SIGINT or SIGTERM; finished units are saved.
    """
    settings = read_settings(spec, groups)
    if settings.compute.shard is not None:
        raise ConfigError("a part of a fleet is no run: fit it by fit_shard", key="compute.shard")
    return _executed(table, settings, _executor(settings), experiments, on_event)


def fit_shard(
    table: TableSource | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    *,
    experiments: TableSource | None = None,
    on_event: OnEvent | None = None,
    **groups: Unpack[SettingGroups],
) -> Path:
    """The part `compute.shard` of a fleet fitted, for `collect` to put together with the others.

    Every shard is given the whole table, for what a unit's model is may depend on all rows. Shards may be fitted at
    the same time, on any number of machines of one kind that see the folder, or the object store, `run.root`.

    Args and errors as for `fit`.

    Returns:
        The shard's folder, `run.root/<run.id>.shards/<i>-of-<n>`; in an object store the local one that stands for it.
    """
    settings = read_settings(spec, groups)
    if settings.compute.shard is None:
        raise ConfigError("name the part to fit, such as 0/4", key="compute.shard")
    if settings.run.base is not None:
        raise ConfigError("goes with whole runs only: leave it or compute.shard out", key="run.base")
    inputs = fit_inputs(table, settings, experiments)
    listener = on_event or notebook_listener()
    return execute_shard(inputs.panel, inputs.spec, _executor(settings), devices=_devices(), on_event=listener)


def collect(path: str | Path, table: TableSource | None = None, *, experiments: TableSource | None = None) -> Run:
    """The finished run of all shards of a fleet: to the byte the one that a single process would have made.

    Args:
        path: Folder, or address in an object store, of the run to be, `run.root/run.id` of its shards.
        table: As it was given to `fit_shard`; read again by default.
        experiments: As they were given to `fit_shard`.

    Raises:
        TableError: The table cannot be read any more.
        RunError: A shard is missing, unfinished, damaged or was made from something else, or the run folder is in use.
    """
    folders = shard_folders(path)
    settings = read_settings(presets.read_settings(folders[0] / CONFIG), {})
    settings = replace(settings, compute=replace(settings.compute, shard=None))
    return _executed(table, settings, collected(folders), experiments, None)


def _executed(
    table: TableSource | None,
    settings: Spec,
    executor: Executor,
    experiments: TableSource | None,
    on_event: OnEvent | None,
) -> Run:
    inputs = fit_inputs(table, settings, experiments)
    finished = execute(
        inputs.panel,
        inputs.spec,
        executor,
        devices=_devices(),
        frame=frame_kind(table),
        on_event=on_event or notebook_listener(),
    )
    if inputs.truth is not None:
        write_table(finished.path / "truth.parquet", inputs.truth)
    return finished


def _executor(settings: Spec) -> Executor:
    if settings.compute.executor == "local":
        return fit_units
    from mixfleet.fitting.executors.ray_cluster import on_ray  # few fits are shared out

    return on_ray


def _devices() -> tuple[str, ...]:
    return tuple(str(device) for device in jax.devices())


class FitInputs(NamedTuple):
    """What is fitted: the checked table, and the settings with all that follows from it."""

    panel: Panel
    spec: Spec
    truth: pa.Table | None
    """Of a simulated fleet."""


def fit_inputs(table: TableSource | None, settings: Spec, experiments: TableSource | None = None) -> FitInputs:
    """What `fit` fits.

    Raises:
        ConfigError: A term of the baseline cannot have its dates, or does not go with a unit; or `business` names what
            the table does not have.
        TableError: The table cannot be read at all, or lacks a column; or a lift test cannot be used.
    """
    truth = None
    if table is None and settings.data.source == "simulated":
        # The default prior and model, so that the points of a sweep are all fitted to the same table.
        simulated = simulate.from_config(settings.data.simulated, Prior(), Model(), Pooling())
        table, truth, experiments = simulated.table, simulated.truth, simulated.experiments
        settings = replace(settings, data=_simulated_data(settings.data, simulated.data))
    panel = checked_panel(table, settings, experiments)
    _check_business(panel, settings.business)
    return FitInputs(panel, replace(settings, model=baseline.fitting(settings.model, panel)), truth)


def _check_business(panel: Panel, business: Business) -> None:
    """Refuses money that names no unit of the table or says nothing about one, before hours are spent on a fit."""
    fitted, rejected = ([unit.labels for unit in units] for units in (panel.units, panel.rejected))
    for name in ("margin", "customer_value", "rates"):
        if numbers := getattr(business, name):
            by_unit(numbers, panel.keys, fitted, absent=rejected, key=f"business.{name}")


def check(
    table: TableSource | None = None,
    data: Setting[Data] = None,
    pooling: Setting[Pooling] = None,
    model: Setting[Model] = None,
    *,
    experiments: TableSource | None = None,
) -> Any:
    """Findings about the table, one row each: rule, severity, unit, column, message.

    Args:
        table: As in `fit`.
        data: What its columns mean; like the groups below as its dataclass, a mapping or a preset's name.
        pooling: Which units are to share hyperparameters: those of few weeks need others.
        model: Structure of a unit's model, whose window and seasons ask for so many weeks.
        experiments: Table of lift tests, as in `fit`.

    Returns:
        A frame of the library that `table` is of; pandas for a path.

    Raises:
        ConfigError: A term of the baseline cannot have its dates, or does not go with a unit.
        TableError: The table cannot be read at all, or lacks a column.
    """
    settings = read_settings(None, {"data": data, "pooling": pooling, "model": model})
    panel = checked_panel(table, settings, experiments)
    baseline.fitting(settings.model, panel)
    return to_frame(findings_table(panel.findings), frame_kind(table))


def checked_panel(table: TableSource | None, settings: Spec, experiments: TableSource | None = None) -> Panel:
    """The table as `fit` reads it, with all that the checks find.

    Raises:
        TableError: The table cannot be read at all, or lacks a column.
    """
    model = settings.model
    return read_panel(
        table,
        settings.data,
        seasonality=model.yearly_order,
        window=model.window,
        link=model.link,
        trend=model.has_trend,
        pooling=settings.pooling,
        experiments=experiments,
    )


def budget(run: Run | str | Path, **request: Unpack["BudgetOptions"]) -> "Plan":
    """The plan for the coming weeks that brings most, on the draws of a finished run.

    Args:
        run: The run, or its folder or address.
        **request: What to ask for; see `mixfleet.budgeting.request.BudgetRequest`.

    Raises:
        ConfigError: An option is wrong, or no plan fulfils all of them.
        RunError: The run is not finished, or kept no draws.
    """
    return (run if isinstance(run, Run) else open(run)).budget(**request)


def _simulated_data(asked: Data, made: Data) -> Data:
    """What the simulator says about its columns, with the settings that are about the fit, not the table."""
    return replace(made, source=asked.source, simulated=asked.simulated, holdout=asked.holdout)


def read_settings(spec: Spec | Mapping[str, Any] | None, groups: Mapping[str, Any]) -> Spec:
    """The spec with what `groups` say in place of its groups, each a dataclass, a mapping or the name of a preset.

    Raises:
        ConfigError: A setting is wrong, or there is no such group.
    """
    settings = spec if isinstance(spec, Spec) else build(Spec, spec or {})
    chosen = {}
    for name, group in groups.items():
        if name not in GROUPS:
            raise ConfigError(f"unknown group of settings; known: {', '.join(GROUPS)}", key=name)
        if isinstance(group, GROUPS[name]):
            chosen[name] = group
        elif isinstance(group, str):
            chosen[name] = preset(name, group)
        elif isinstance(group, Mapping):
            current = to_mapping(getattr(settings, name))
            chosen[name] = build(GROUPS[name], {**current, **group}, key=name)
        elif group is not None:
            raise ConfigError(f"must be a {GROUPS[name].__name__}, a mapping or a preset, is {group!r}", key=name)
    return replace(settings, **chosen)
