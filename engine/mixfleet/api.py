"""Run: the calls a user makes to fit a table, open what was fitted, and check a table."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from mixfleet.budgeting.plan import Plan
from mixfleet.config import GROUPS, Data, Model, Pooling, Prior, Spec, build, preset, to_mapping
from mixfleet.data.frames import frame_kind, to_frame
from mixfleet.data.panel import read_panel
from mixfleet.data.validation.finding import findings_table
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import OnEvent, execute
from mixfleet.run import Run, open
from mixfleet.simulation import fleet as simulate
from mixfleet.storage.summary_tables import write_table

__all__ = ["Run", "budget", "check", "fit", "open", "read_settings"]


def fit(
    table: Any = None,
    spec: Spec | Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    model: Any = None,
    prior: Any = None,
    pooling: Any = None,
    inference: Any = None,
    compute: Any = None,
    output: Any = None,
    run: Any = None,
    on_event: OnEvent | None = None,
) -> Run:
    """A finished run of the table: every unit fitted, or named with the reason why not.

    With the `run.id` of an interrupted run of the same table and settings it goes on where that one stopped;
    with that of a finished one it returns it at once.

    Args:
        table: pandas, polars or pyarrow table, DuckDB relation, or path of a file, folder or glob. By default
            what `data.source` and `data.path` say.
        spec: All settings; by default the defaults.
        data: Group of settings, in place of the spec's: its dataclass, a mapping of what differs from the
            spec's, or the name of a preset. The same holds for the groups below.
        model: Structure of a unit's model.
        prior: Prior laws.
        pooling: Which units share hyperparameters.
        inference: Sampling and certification.
        compute: Devices and precision.
        output: What is kept.
        run: Where the run folder goes.
        on_event: Called with progress events.

    Returns:
        The run, whose tables are frames of the library that `table` is of.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The table cannot be read at all, or lacks a column.
        RunError: The run folder is in use, belongs to something else, or cannot be written.
        KeyboardInterrupt: SIGINT or SIGTERM; finished units are saved.
    """
    groups = {
        "data": data,
        "model": model,
        "prior": prior,
        "pooling": pooling,
        "inference": inference,
        "compute": compute,
        "output": output,
        "run": run,
    }
    settings = read_settings(spec, groups)
    truth = None
    frame = frame_kind(table)
    if table is None and settings.data.source == "simulated":
        # The default prior and model, so that the points of a sweep are all fitted to the same table.
        simulated = simulate.from_config(settings.data.simulated, Prior(), Model(), Pooling())
        table, truth = simulated.table, simulated.truth
        settings = replace(settings, data=_simulated_data(settings.data, simulated.data))
    model = settings.model
    panel = read_panel(
        table, settings.data, seasonality=model.seasonality, window=model.window, pooling=settings.pooling
    )
    devices = tuple(str(device) for device in jax.devices())
    finished = execute(panel, settings, fit_units, devices=devices, frame=frame, on_event=on_event)
    if truth is not None:
        write_table(finished.path / "truth.parquet", truth)
    return finished


def check(table: Any, data: Data, pooling: Pooling | None = None) -> Any:
    """Findings about the table, one row each: rule, severity, unit, column, message.

    Args:
        table: pandas, polars or pyarrow table, DuckDB relation, or path of a file, folder or glob.
        data: What its columns mean.
        pooling: Which units are to share hyperparameters: those of few weeks need others.

    Returns:
        A frame of the library that `table` is of; pandas for a path.

    Raises:
        TableError: The table cannot be read at all, or lacks a column.
    """
    return to_frame(findings_table(read_panel(table, data, pooling=pooling or Pooling()).findings), frame_kind(table))


def budget(run: Run | str | Path, **request: Any) -> Plan:
    """The plan for the coming weeks that brings most, on the draws of a finished run.

    Args:
        run: The run, or its folder.
        **request: What to ask for, such as `total`, `weeks`, `change`, `bounds`, `lock`, `aim`; see
            `mixfleet.budgeting.request.Wish`.

    Raises:
        ConfigError: A wish is wrong, or no plan fulfils all of them.
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
