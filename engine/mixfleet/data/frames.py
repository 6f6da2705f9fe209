"""Frame: tables in the caller's own library."""

from typing import Any, Literal, get_args

import pyarrow as pa

from mixfleet.errors import ConfigError

FrameKind = Literal["pandas", "polars", "pyarrow"]
FRAME_KINDS: tuple[str, ...] = get_args(FrameKind)


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
