"""Rules about periods after the fitted ones: columns that move there and did not before."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mixfleet.config.data import FEWEST_WEEKS
from mixfleet.data.extrapolation import beyond
from mixfleet.data.parsed_table import Column, ParsedTable
from mixfleet.data.validation.finding import Finding, about_unit

__all__ = ["check_later_periods"]


def check_later_periods(sheet: ParsedTable, *, fitted: Bool[np.ndarray, " row"]) -> Iterator[Finding]:
    """Findings about controls and channels in the held-out or planned rows of a unit."""
    linear = [(column.name, column) for column in sheet.linear]
    media = [(channel.name, channel.media) for channel in sheet.channels]
    for unit, rows in sheet.by_unit(fitted):
        later = np.arange(rows[-1] + 1, sheet.start[unit + 1])
        if len(rows) < FEWEST_WEEKS or not len(later):
            continue
        for columns, channels in ((linear, False), (media, True)):
            names = [name for name, _ in columns]
            found = beyond(names, _values(columns, rows), _values(columns, later), channels=channels)
            for name, words in found.items():
                kind = "channel" if channels else "column"
                yield about_unit(
                    "beyond_what_was_seen",
                    sheet.labels[unit],
                    f"{kind} {name} in the periods from {sheet.dates[later[0]]} on, after the {len(rows)} that are "
                    f"fitted: {words}, and forecasts of them rest on its prior",
                    column=dict(columns)[name].name,
                    severity="warning",
                )


def _values(columns: Sequence[tuple[str, Column]], rows: np.ndarray) -> Float[np.ndarray, "row column"]:
    values = [np.nan_to_num(column.values[rows]) for _, column in columns]
    return np.stack(values, axis=1) if values else np.zeros((len(rows), 0))
