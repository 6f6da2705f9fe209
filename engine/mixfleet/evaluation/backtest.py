"""A fleet fitted as it would have been at several past days, and judged on the weeks that followed each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mixfleet.api import fit, read_settings
from mixfleet.config import RunConfig, SettingGroups, Spec
from mixfleet.data.frames import Shown, to_frame
from mixfleet.data.sources import TableSource
from mixfleet.errors import ConfigError, counted
from mixfleet.evaluation.forecast_scores import score_forecasts
from mixfleet.fitting.progress import OnEvent
from mixfleet.posterior.unit_result import CERTIFIED
from mixfleet.run import Run
from mixfleet.storage.remote.address import Address
from mixfleet.storage.table_files import write_tables

if TYPE_CHECKING:
    from mixfleet.reporting.charts import Figure

__all__ = ["Backtest", "backtest"]

ORIGINS, HORIZON = 4, 13

SUMMARISED = ("r2", "wmape", "crps", "coverage90", "skill")


@dataclass(frozen=True, kw_only=True, repr=False)
class Backtest(Shown):
    """What a backtest found."""

    folder: Path
    """Holds `backtest.parquet`, `backtest.csv` and, below `origins`, one run for each origin."""
    runs: tuple[Run, ...]
    """From the earliest origin to the latest; named for the weeks that each holds out."""
    table: pa.Table
    """See `mixfleet.evaluation.forecast_scores.hindsight`; of all origins."""

    def _sentence(self) -> str:
        return f"backtest of {counted(len(self.runs), 'origin')} in {self.folder}"

    def _shown(self) -> pa.Table:
        return self.summary()

    def scores(self) -> Any:
        """The table as a frame of the library that the input was in."""
        return to_frame(self.table, self.runs[0].frame)

    def plot(self) -> "Figure":
        """Median errors by origin and horizon beside those of a glance at the past, and what the intervals cover.

        Raises:
            ConfigError: Altair (`mixfleet[plots]`) is missing.
        """
        from mixfleet.reporting.charts import backtest as chart  # needs altair, which a backtest does without

        return chart(self.summary(), self.runs[0].business.locale)

    def summary(self) -> pa.Table:
        """Medians over certified units, by origin, horizon and forecast; of coverage the mean."""
        certified = self.table.filter(pc.field("status").isin(sorted(CERTIFIED)))
        rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in certified.to_pylist():
            rows.setdefault((row["origin"], row["horizon"], row["forecast"]), []).append(row)
        return pa.Table.from_pylist(
            [
                {"origin": origin, "horizon": horizon, "forecast": forecast, "units": len(own)}
                | {name: _middle(name, own) for name in SUMMARISED}
                for (origin, horizon, forecast), own in rows.items()
            ]
        )


def backtest(
    table: TableSource | None = None,
    spec: Spec | Mapping[str, Any] | None = None,
    *,
    origins: int = ORIGINS,
    horizon: int = HORIZON,
    every: int | None = None,
    on_event: OnEvent | None = None,
    **groups: Unpack[SettingGroups],
) -> Backtest:
    """Fits the table at several origins and judges each run on the `horizon` weeks after its origin.

    Each origin is an ordinary run in `run.root/run.id/origins`; repeated with the same `run.id`, finished ones are
    taken as they are and an interrupted one goes on.

    Args:
        table: As in `fit`.
        spec: As in `fit`.
        origins: How many; the last lies `horizon` weeks before the end of each unit.
        horizon: Weeks (periods of the table) that are judged.
        every: Weeks between two origins; by default `horizon`, so that no week is judged twice.
        on_event: Called with progress events.
        **groups: Groups of settings, as in `fit`.

    Raises:
        ConfigError: A setting is wrong, or no unit is long enough for any origin.
        TableError: The table cannot be read at all, or lacks a column.
        RunError: A run folder is in use, belongs to something else, or cannot be written.
    """
    settings = read_settings(spec, groups)
    step = horizon if every is None else every
    _refuse(settings, origins=origins, horizon=horizon, every=step)
    folder = Path(settings.run.root) / str(settings.run.id)
    runs = tuple(
        fit(table, _at(settings, folder, horizon + step * number), on_event=on_event)
        for number in reversed(range(origins))
    )
    judged = [score_forecasts(run.fleet(), horizon) for run in runs]
    judged = [one for one in judged if one.num_rows]
    if not judged:
        raise ConfigError("no unit is long enough for any origin: fewer origins or a shorter horizon", key="origins")
    found = pa.concat_tables(judged, promote_options="permissive")
    write_tables({"backtest": found}, folder, "parquet", "csv", name="backtest")
    return Backtest(folder=folder, runs=runs, table=found)


def _refuse(settings: Spec, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"must be 1 or more, is {number}", key=name)
    if Address.of(settings.run.root) is not None:
        raise ConfigError(
            "backtests are kept in a folder of this machine: name one, such as run.root=backtests", key="run.root"
        )
    if settings.run.id is None:
        raise ConfigError("name the folder of the origins' runs, such as run.id=backtest", key="run.id")
    if settings.data.holdout is not None:
        raise ConfigError("is what each origin sets: leave it out", key="data.holdout")
    if settings.output.draws == "summary":
        raise ConfigError("must be thin or full: forecasts are judged by their draws", key="output.draws")


def _at(settings: Spec, folder: Path, held: int) -> Spec:
    """The settings of the origin that holds out so many weeks."""
    run = RunConfig(root=str(folder / "origins"), id=str(held))
    return replace(settings, data=replace(settings.data, holdout=held), run=run)


def _middle(name: str, rows: list[dict[str, Any]]) -> float | None:
    values = np.array([row[name] for row in rows], float)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return float(values.mean() if name == "coverage90" else np.median(values))
