"""Frame: tables in the caller's own library."""

import html
from abc import ABC, abstractmethod
from typing import Any, Literal, get_args

import pyarrow as pa

from mixfleet.errors import ConfigError

FrameKind = Literal["pandas", "polars", "pyarrow"]
FRAME_KINDS: tuple[str, ...] = get_args(FrameKind)

SHOWN_ROWS = 20
"""Most rows of a table that a notebook shows of a result."""
SHOWN_CHARACTERS = 200
"""Most characters of a cell there."""


class Shown(ABC):
    """A result that shows itself: a sentence in a terminal, and in a notebook the first rows of its table as well."""

    @abstractmethod
    def _sentence(self) -> str:
        """What it is, in a line."""

    @abstractmethod
    def _shown(self) -> pa.Table:
        """Its table."""

    def __repr__(self) -> str:
        """The sentence."""
        return f"<mixfleet {self._sentence()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows, without a network."""
        return table_html(self._sentence(), self._shown())


def table_html(sentence: str, table: pa.Table) -> str:
    """Markup of a sentence and of the first rows of a table, in which nothing of the table is markup."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.column_names)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>"
        for row in table.slice(0, SHOWN_ROWS).to_pylist()
    )
    more = f"<p>and {table.num_rows - SHOWN_ROWS:,} more rows</p>" if table.num_rows > SHOWN_ROWS else ""
    return f"<p>{html.escape(sentence)}</p><table><tr>{head}</tr>{rows}</table>{more}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return html.escape(text[:SHOWN_CHARACTERS])


def frame_kind(table: Any) -> FrameKind:
    """In which library to answer whoever passed `table`: its own, pandas for a path or nothing."""
    library = type(table).__module__.split(".")[0].lstrip("_")
    if library in ("pandas", "polars"):
        return library  # pyright: ignore[reportReturnType]
    # A DuckDB relation lives on its connection, so its owner gets Arrow, which DuckDB queries as it is.
    return "pyarrow" if library in ("pyarrow", "duckdb") else "pandas"


def to_frame(table: pa.Table, kind: FrameKind) -> Any:
    """The Arrow table as a frame of that library.

    Raises:
        ConfigError: Unknown library.
    """
    if kind == "pyarrow":
        return table
    if kind == "pandas":
        return table.to_pandas()
    if kind == "polars":
        # An optional library: whoever asks for its frames has it.
        import polars

        return polars.from_arrow(table)
    raise ConfigError(f"must be one of {', '.join(FRAME_KINDS)}, is {kind!r}", key="frame")
