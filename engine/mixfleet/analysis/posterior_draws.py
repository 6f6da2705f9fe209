"""Fleet: the fitted units of a finished run as padded arrays - their data, and draws aligned by index."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config import Spec
from mixfleet.data import scaling
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, Scale
from mixfleet.errors import RunError
from mixfleet.models import baseline
from mixfleet.runtime import cores
from mixfleet.storage.draws_reader import Archive
from mixfleet.storage.draws_zarr import SHARD_UNITS

__all__ = ["CERTIFIED", "Block", "Fleet", "term_rows", "terms"]

CERTIFIED = ("ok", "ok_warn", "ok_retried", "ok_fallback")
"""Statuses whose numbers may enter a total."""


Result = TypeVar("Result")

KEPT_BYTES = 256 * 2**20
"""A fleet whose draws need no more is read once; a larger one is read anew on every walk."""


class Block(NamedTuple):
    """Neighbouring units; behind their last week, and behind the last unit, everything is zero."""

    places: tuple[int, ...]
    """Of its units in `Fleet.units`; the arrays may hold more, which count for nothing."""
    media: Float[np.ndarray, "unit week channel"]
    """In shares of each channel's scale."""
    spend: Float[np.ndarray, "unit week channel"]
    """In the table's currency; NaN where a channel has no spend column."""
    kpi: Float[np.ndarray, "unit week"]
    """Zero in weeks that do not count."""
    value: Float[np.ndarray, "unit week"]
    """Revenue per KPI."""
    counted: Bool[np.ndarray, "unit week"]
    """Weeks with a KPI whose carry-over window touches no missing row."""
    design: Float[np.ndarray, "unit week column"]
    """Columns of the linear block, controls and treatments less their means."""
    shape: Float[np.ndarray, "parameter unit channel draw"]
    """Adstock, then saturation parameters, on the model's scale."""
    effect: Float[np.ndarray, "unit channel draw"]
    """In KPI."""
    coefficients: Float[np.ndarray, "unit column draw"]
    """In KPI, for the columns of `design`."""
    noise: Float[np.ndarray, "unit draw"]
    """In KPI."""


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
    """Draws per unit that are looked at."""
    scales: tuple[Scale, ...]
    """On which each of `units` was fitted."""
    ahead: int = 0
    """Last weeks of every unit that have yet to come; where there are any, only they count."""
    _kept: dict[int, dict[str, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def weeks(self) -> int:
        """Weeks of the longest unit."""
        return max((len(unit.dates) for unit in self.units), default=0)

    @property
    def certified(self) -> Bool[np.ndarray, " unit"]:
        """Which of `units` may enter a total."""
        return np.array([status in CERTIFIED for status in self.statuses], bool)

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
        counted = scaling.likelihood_weeks(unit, window=self.spec.model.window, holdout=0)
        if self.ahead:
            counted[: -self.ahead] = False
        return counted

    def blocks(self, size: int) -> Iterator[Block]:
        """All units in blocks of `size`, the last one padded."""
        return (make() for make in self._makers(size))

    def _makers(self, size: int) -> Iterator[Callable[[], Block]]:
        """What makes each block, once its draws are read."""
        shape = self.spec.model.channel_parameters[:-1]
        variables = (*shape, "effect", "coefficients", "noise")
        for start in range(0, len(self.units), SHARD_UNITS):
            places = range(start, min(start + SHARD_UNITS, len(self.units)))
            draws = self._read(places, variables)
            for first in range(0, len(places), size):
                yield partial(self._block, tuple(places[first : first + size]), first, draws, size)

    def walk(self, work: Callable[[Block], Result]) -> Iterator[Result]:
        """`work` of every unit, one at a time to a block, in order; called in as many threads as there are cores."""
        makers, workers = self._makers(1), cores()
        with ThreadPoolExecutor(workers) as pool:

            def submitted(count: int) -> list[Future[Result]]:
                return [pool.submit(lambda make: work(make()), make) for make in islice(makers, count)]

            # A few units ahead of who reads, so that all cores are at work and memory stays flat.
            ahead = submitted(2 * workers)
            while ahead:
                done = ahead.pop(0).result()
                ahead.extend(submitted(1))
                yield done

    def _read(self, places: range, variables: tuple[str, ...]) -> dict[str, Float[np.ndarray, "unit draw ..."]]:
        if places.start in self._kept:
            return self._kept[places.start]
        rows = [self.rows[place] for place in places]
        read = slice(rows[0], rows[-1] + 1)
        draws, labels = self.archive.read_block(read, draws=self.draws, variables=variables)
        for name, expected in (("effect", self.channels), ("coefficients", self.columns)):
            if labels[name] != expected:
                raise RunError(
                    f"draws of {name!r} are of {labels[name]}, the table is of {expected}; "
                    "fit again with another run.id"
                )
        here = [row - rows[0] for row in rows]
        draws = {name: values[here] for name, values in draws.items()}
        size = sum(values.nbytes for values in draws.values())
        if size * len(self.units) <= KEPT_BYTES * len(places):
            self._kept[places.start] = draws
        return draws

    def _block(self, places: tuple[int, ...], first: int, draws: Mapping[str, np.ndarray], size: int) -> Block:
        parameters = self.spec.model.channel_parameters[:-1]
        width = (len(self.channels), self.draws)
        block = Block(
            places=places,
            media=np.zeros((size, self.weeks, len(self.channels))),
            spend=np.zeros((size, self.weeks, len(self.channels))),
            kpi=np.zeros((size, self.weeks)),
            value=np.zeros((size, self.weeks)),
            counted=np.zeros((size, self.weeks), bool),
            design=np.zeros((size, self.weeks, len(self.columns))),
            shape=np.full((len(parameters), size, *width), 0.5),
            effect=np.zeros((size, *width)),
            coefficients=np.zeros((size, len(self.columns), self.draws)),
            noise=np.zeros((size, self.draws)),
        )
        for i, place in enumerate(places):
            # [draw, channel] in the archive, [channel, draw] here: lanes that are summed over lie side by side.
            own = {name: np.moveaxis(values[first + i].astype(float), 0, -1) for name, values in draws.items()}
            self._fill(block, i, self.units[place], own)
        return block

    def _fill(self, block: Block, i: int, unit: Unit, draws: Mapping[str, np.ndarray]) -> None:
        model = self.spec.model
        measured = self.scales[block.places[i]]
        weeks, counted = len(unit.dates), self.counted(unit)
        block.media[i, :weeks] = measured.scaled_media(unit)
        block.spend[i, :weeks] = unit.spend
        block.kpi[i, :weeks] = np.where(counted, unit.kpi, 0.0)
        block.value[i, :weeks] = unit.value_per_kpi
        block.counted[i, :weeks] = counted
        # Coefficients are kept per unit of a control; a control's contribution is that of its distance from its mean.
        controls = np.where(unit.observed[:, None], unit.controls - measured.control_mean, 0.0)
        block.design[i, :weeks] = baseline.design(unit.dates, controls, model=model, fitted_weeks=measured.trend_weeks)
        block.coefficients[i] = draws["coefficients"]
        first = len(self.columns) - len(measured.control_mean)
        block.coefficients[i, 0] += measured.control_mean @ draws["coefficients"][first:]
        for j, name in enumerate(model.channel_parameters[:-1]):
            block.shape[j, i] = draws[name] / measured.media[:, None] ** MEDIA_POWERS.get(name, 0)
        block.effect[i] = draws["effect"]
        block.noise[i] = draws["noise"]


def terms(columns: Sequence[str]) -> tuple[str, ...]:
    """Components of the baseline in order: baseline, trend, seasonality, then each control and treatment."""
    return tuple(dict.fromkeys(_term(column) for column in columns))


def term_rows(columns: Sequence[str]) -> Float[np.ndarray, "term column"]:
    """Which columns make up which component of `terms`, as zeros and ones."""
    names = terms(columns)
    return np.array([[float(_term(column) == name) for column in columns] for name in names])


def _term(column: str) -> str:
    if column.startswith(("sin_", "cos_")):
        return "seasonality"
    return "baseline" if column == "intercept" else column
