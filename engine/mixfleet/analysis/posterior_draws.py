"""The fitted units of a finished run as padded arrays - their data, and draws aligned by index."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Spec
from mixfleet.data import scaling
from mixfleet.data.experiments.experiment import read_experiments
from mixfleet.data.panel import Panel, Unit
from mixfleet.data.panel_parquet import read_units
from mixfleet.data.scaling import Scale
from mixfleet.errors import RunError
from mixfleet.models import baseline
from mixfleet.posterior.unit_result import CERTIFIED, FITTED_STATUSES, kept_draws
from mixfleet.posterior.unit_series import UnitSeries, counted_weeks, series_variables, unit_series
from mixfleet.runtime import cores
from mixfleet.storage.draws_reader import Archive
from mixfleet.storage.draws_zarr import SHARD_UNITS
from mixfleet.storage.reader import RunReader

if TYPE_CHECKING:
    from mixfleet.models.media import MediaTerm

__all__ = ["CONTRIBUTION", "Fleet", "read_fleet"]

Result = TypeVar("Result")

CONTRIBUTION = "contribution"
"""Name of the draws of what a channel brings."""

KEPT_BYTES = 256 * 2**20
"""A fleet whose draws need no more is read once; a larger one is read anew on every walk."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The fitted units of a run. Draw i of all units together is one draw of the fleet."""

    archive: Archive
    spec: Spec
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    columns: tuple[str, ...]
    """Names of the linear columns."""
    units: tuple[Unit, ...]
    """Those that have draws, in the order of the status table."""
    statuses: tuple[str, ...]
    """Of each of `units`."""
    rows: tuple[int, ...]
    """Of each of `units`: its place in the archive."""
    missing: Mapping[tuple[str, ...], str]
    """Labels of the units that have no draws at all, and their status."""
    draws: int
    """Draws per unit that are looked at, at most; a unit that kept fewer has those in its own numbers and repeats some
    in sums."""
    scales: tuple[Scale, ...]
    """On which each of `units` was fitted."""
    lent: Float[np.ndarray, "unit linear"]
    """What coefficients of each unit's constant controls are measured in: the spread that they have in other units."""
    summed: frozenset[str] = CERTIFIED
    """Statuses of the units that enter totals and plans."""
    ahead: int = 0
    """Last weeks of every unit that have yet to come; where there are any, only they count."""
    _kept: dict[int, list[dict[str, np.ndarray]]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def weeks(self) -> int:
        """Weeks of the longest unit."""
        return max((len(unit.dates) for unit in self.units), default=0)

    @cached_property
    def term(self) -> "MediaTerm":
        """Form of each channel's response."""
        # Starts jax, without which a saved run and its tables are read.
        from mixfleet.models.media import media_term

        return media_term(self.spec.model, self.channels)

    @cached_property
    def panel(self) -> Panel:
        """The units as they were fitted, for who prepares them again."""
        return Panel(
            data=self.spec.data,
            keys=self.keys,
            channels=self.channels,
            linear=self.columns[len(self.columns) - self.lent.shape[1] :],
            units=self.units,
            rejected=(),
            findings=(),
        )

    @property
    def included(self) -> Bool[np.ndarray, " unit"]:
        """Which of `units` enter totals and plans."""
        return np.array([status in self.summed for status in self.statuses], bool)

    @property
    def included_statuses(self) -> list[str]:
        """Statuses of these units, those that occur."""
        return sorted(self.summed.intersection(self.statuses))

    def seen(self) -> "Fleet":
        """The same, of which only the weeks count that the fit saw."""
        held = self.spec.data.holdout or 0
        units = (
            replace(unit, kpi=np.where(np.arange(len(unit.kpi)) < len(unit.kpi) - held, unit.kpi, np.nan))
            for unit in self.units
        )
        return replace(self, units=tuple(units))

    def held_out(self) -> "Fleet":
        """The same, of which only the holdout counts."""
        data = replace(self.spec.data, holdout=None)
        return replace(self, spec=replace(self.spec, data=data), ahead=self.spec.data.holdout or 0)

    def counted(self, unit: Unit) -> Bool[np.ndarray, " week"]:
        """The weeks of a unit that insight looks at: those with a KPI and known media; a holdout is among them."""
        counted = counted_weeks(unit, window=self.spec.model.window)
        if self.ahead:
            counted[: -self.ahead] = False
        return counted

    def series(self) -> Iterator[UnitSeries]:
        """The arrays of every unit, in order."""
        return (make() for make in self.makers())

    def makers(self) -> Iterator[Callable[[], UnitSeries]]:
        """What makes each unit's arrays, once its draws are read."""
        for start in range(0, len(self.units), SHARD_UNITS):
            places = range(start, min(start + SHARD_UNITS, len(self.units)))
            draws = self._read(places)
            for place in places:
                yield partial(self.series_of, place, draws[place - start])

    def walk(self, work: Callable[[int, UnitSeries], Result]) -> Iterator[Result]:
        """`work` of every unit's place and arrays, in order; called in as many threads as there are cores."""
        makers, workers = enumerate(self.makers()), cores()
        with ThreadPoolExecutor(workers) as pool:

            def submitted(count: int) -> list[Future[Result]]:
                return [pool.submit(lambda place, make: work(place, make()), *one) for one in islice(makers, count)]

            # A few units ahead of who reads, so that all cores are at work and memory stays flat.
            ahead = submitted(2 * workers)
            while ahead:
                done = ahead.pop(0).result()
                ahead.extend(submitted(1))
                yield done

    def contributions(self) -> Iterator[Float[np.ndarray, "draw channel"] | None]:
        """Draws of what each channel of every unit brings over its fitted weeks, in order; None where a run has none.

        As the fit kept them: without its curves, which take longer to work out than to read.
        """
        for start in range(0, len(self.units), SHARD_UNITS):
            rows = self.rows[start : start + SHARD_UNITS]
            read = slice(rows[0], rows[-1] + 1)
            draws, _ = self.archive.read_block(read, draws=self.draws, variables=[CONTRIBUTION])
            for row in rows:
                yield draws[CONTRIBUTION][row - rows[0]] if CONTRIBUTION in draws else None

    def _read(self, places: range) -> list[dict[str, Float[np.ndarray, "draw ..."]]]:
        if places.start in self._kept:
            return self._kept[places.start]
        rows = [self.rows[place] for place in places]
        read = slice(rows[0], rows[-1] + 1)
        variables = series_variables(self.spec.model)
        draws, labels = self.archive.read_block(read, draws=self.draws, variables=variables)
        for name, expected in (("effect", self.channels), ("coefficients", self.columns)):
            if labels[name] != expected:
                raise RunError(
                    f"draws of {name!r} are of {labels[name]}, the table is of {expected}; "
                    "fit again with another run.id"
                )
        own = [{name: values[row - rows[0]] for name, values in draws.items()} for row in rows]
        size = sum(values.nbytes for unit in own for values in unit.values())
        if size * len(self.units) <= KEPT_BYTES * len(places):
            self._kept[places.start] = own
        return own

    def series_of(self, place: int, draws: Mapping[str, np.ndarray]) -> UnitSeries:
        """The arrays of one unit with these draws, in the table's units."""
        unit = self.units[place]
        return unit_series(
            unit,
            self.scales[place],
            draws,
            self.spec.model,
            keys=self.keys,
            counted=self.counted(unit),
            weeks=self.weeks,
            lent=self.lent[place],
        )


def read_fleet(reader: RunReader, draws: int, *, summed: frozenset[str] = CERTIFIED) -> Fleet:
    """The fitted units of a finished run.

    Args:
        reader: Of the run.
        draws: How many draws of each unit to look at, at most; evenly spaced over all chains.
        summed: Statuses of the units that enter totals and plans.

    Raises:
        RunError: The run kept no draws, or an older version made it that did not keep the table.
    """
    archive, keys = reader.archive, reader.keys
    if not reader.keeps_panel:
        raise RunError(f"run {reader.place} did not keep its table, an older mixfleet made it; fit again")
    spec, panel, status = reader.spec, reader.table("panel"), reader.table("status")
    tests = read_experiments(reader.table("tests"), keys) if reader.keeps_tests else {}
    known = {unit.labels: replace(unit, experiments=tests.get(unit.labels, ())) for unit in read_units(panel, keys)}
    labels, statuses = reader.labels(), status["status"].to_pylist()
    with_draws = [row for row, name in enumerate(statuses) if name in FITTED_STATUSES]
    thin = spec.output.thin if spec.output.draws == "thin" else None
    sizes = [kept_draws(row["chains"], row["draws"], thin) for row in status.to_pylist() if row["draws"]]
    units = tuple(known[labels[row]] for row in with_draws)
    window, holdout = spec.model.window, spec.data.holdout or 0
    fitted = (scaling.likelihood_weeks(unit, window=window, holdout=holdout) for unit in units)
    scales = tuple(
        scaling.measure(unit, weeks, holdout, treatments=spec.data.treatments, model=spec.model)
        for unit, weeks in zip(units, fitted, strict=True)
    )
    return Fleet(
        archive=archive,
        spec=spec,
        keys=keys,
        channels=tuple(name.removeprefix("media:") for name in panel.column_names if name.startswith("media:")),
        columns=baseline.column_names(spec.model, spec.data),
        units=units,
        statuses=tuple(statuses[row] for row in with_draws),
        rows=tuple(with_draws),
        missing={labels[row]: name for row, name in enumerate(statuses) if name not in FITTED_STATUSES},
        draws=min(draws, max(sizes, default=0)),
        scales=scales,
        summed=summed,
        lent=scaling.lent_spread(scales),
    )
