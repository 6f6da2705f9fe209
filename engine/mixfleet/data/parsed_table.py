"""All rows of a table as parsed arrays, sorted by unit and date, one row per unit and date."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from mixfleet.data.sources import Table
from mixfleet.data.validation.finding import Finding


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number per row of the sheet."""

    name: str
    """As messages call it: the column's name, in a long table with the channel's."""
    values: Float[np.ndarray, " row"]
    """NaN where the cell is at fault."""
    fault: UInt8[np.ndarray, " row"]
    """`Fault` per cell."""
    row: Int[np.ndarray, " row"]
    """Row of the table that the cell stands in, from 0."""
    source: str
    """Column of the table that the cell stands in."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """The columns of one channel."""

    name: str
    media: Column
    """Impressions where there are any, else spend."""
    spend: Column | None
    reported: Column | None
    """What the platform claims; cells may be missing."""


@dataclass(frozen=True, kw_only=True)
class ParsedTable:
    """A table in the order of its units."""

    table: Table
    labels: tuple[tuple[str, ...], ...]
    """Labels of each unit, sorted."""
    start: Int[np.ndarray, " unit+1"]
    """First row of each unit, and the number of rows."""
    row: Int[np.ndarray, " row"]
    """Row of the table, from 0."""
    dates: Shaped[np.ndarray, " row"]
    """datetime64[D], ascending within a unit; NaT comes first."""
    date_fault: UInt8[np.ndarray, " row"]
    """`Fault` of the date cell."""
    offset: Int[np.ndarray, " row"]
    """Minutes east of UTC where the date cell says so, else `NO_OFFSET`."""
    kpi: Column
    channels: tuple[Media, ...]
    linear: tuple[Column, ...]
    """Controls, then treatments."""
    population: Column | None
    revenue_per_kpi: Column | None
    kpi_scale: Column | None
    findings: tuple[Finding, ...]
    """Faults that only the making of the sheet could see."""

    @property
    def unit(self) -> Int[np.ndarray, " row"]:
        """Number of the unit of each row."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.start))

    def keep(self, mask: Bool[np.ndarray, " row"]) -> "ParsedTable":
        """The rows where the mask holds, which must be some of every unit."""

        def cut(value: Any) -> Any:
            if isinstance(value, Column):
                kept = {name: getattr(value, name)[mask] for name in ("values", "fault", "row")}
                return replace(value, **kept)
            if isinstance(value, Media):
                return replace(value, media=cut(value.media), spend=cut(value.spend), reported=cut(value.reported))
            return value

        changes = {field.name: cut(getattr(self, field.name)) for field in fields(self)}
        changes |= {name: getattr(self, name)[mask] for name in ("row", "dates", "date_fault", "offset")}
        changes |= {name: tuple(map(cut, getattr(self, name))) for name in ("channels", "linear")}
        start = np.searchsorted(self.unit[mask], np.arange(len(self.labels) + 1))
        return replace(self, **{**changes, "start": start})

    def by_unit(self, mask: Bool[np.ndarray, " row"]) -> Iterator[tuple[int, Int[np.ndarray, " some"]]]:
        """The unit and rows of each unit that has rows where the mask holds."""
        rows = np.flatnonzero(mask)
        units = np.searchsorted(self.start, rows, side="right") - 1
        cuts = np.flatnonzero(np.diff(units)) + 1
        for piece in np.split(rows, cuts):
            if len(piece):
                yield int(np.searchsorted(self.start, piece[0], side="right") - 1), piece
