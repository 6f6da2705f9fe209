"""How the columns of each unit move together: what several rules look at, worked out once for all units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.data.parse import Fault
from mixfleet.data.parsed_table import Column, ParsedTable

CONSTANT = 1e-9
"""Range relative to the largest value below which a column counts as constant."""
EMPTY = 1e-9
"""Least eigenvalue of correlations below which a column follows from others, as far as files are exact."""


@dataclass(frozen=True, kw_only=True)
class Correlations:
    """Series of every unit, standardised: the columns, then the KPI, then a straight line over the unit's rows."""

    columns: tuple[tuple[str, Column], ...]
    """Channels by their media, then controls and treatments, as messages call them."""
    channels: int
    """How many of the columns are channels."""
    values: Float[np.ndarray, "row series"]
    """Centred and of unit length within a unit; zeros where the series is constant there, or a cell is at fault."""
    moves: Bool[np.ndarray, "unit series"]
    """Where it is neither."""
    matrix: Float[np.ndarray, "unit series series"]
    """Correlations; a series that does not move has none, not even with itself."""

    def singular(self, series: Sequence[int]) -> Bool[np.ndarray, " unit"]:
        """Units in which one of these series follows from the others and a constant, or nearly."""
        matrix = self.matrix[:, series][:, :, series]
        place = np.arange(len(series))
        matrix[:, place, place] = 1.0
        # Where no direction is all but empty none does.
        return np.linalg.eigvalsh(matrix)[:, 0] < EMPTY


def correlations(sheet: ParsedTable) -> Correlations:
    """All units' correlations."""
    channels = [(channel.name, channel.media) for channel in sheet.channels]
    columns = [*channels, *((column.name, column) for column in sheet.linear)]
    first, unit, rows = sheet.start[:-1], sheet.unit, np.diff(sheet.start)
    series = [column for _, column in columns] + [sheet.kpi]
    values = np.empty((len(unit), len(series) + 1))
    values[:, -1] = np.arange(len(unit)) - first[unit]
    for place, column in enumerate(series):
        values[:, place] = column.values
    low, high = np.fmin.reduceat(values, first), np.fmax.reduceat(values, first)
    moves = high - low > CONSTANT * np.fmax(np.abs(low), np.abs(high))
    for place, column in enumerate(series):
        moves[:, place] &= ~np.logical_or.reduceat(column.fault != Fault.NONE, first)
    # Scaled before they are centred, for squares of large numbers may be infinite.
    values /= np.where(moves, np.fmax(np.abs(low), np.abs(high)), 1.0)[unit]
    values[~moves[unit]] = 0.0
    values -= (np.add.reduceat(values, first) / rows[:, None])[unit]
    square = np.stack([own.T @ own for own in np.split(values, first[1:])])
    norm = np.sqrt(np.diagonal(square, axis1=1, axis2=2))
    norm = np.where(moves & (norm > 0), norm, 1.0)
    values /= norm[unit]
    matrix = square / norm[:, :, None] / norm[:, None, :]
    return Correlations(columns=tuple(columns), channels=len(channels), values=values, moves=moves, matrix=matrix)
