"""Parquet, bounded by what it decodes to: a kilobyte may claim, or repeat into, gigabytes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["ParquetTooLarge", "read_parquet"]

ROWS = 20_000_000
"""Most rows of one file."""
BYTES = 8 << 30
"""Most decoded bytes of the columns that are read."""
FREE_BYTES = 64 << 20
"""Decoded bytes that any file may have, however small it is."""
RATIO = 1000
"""Decoded bytes per byte of a larger file, at most: columns that vary do not shrink so far."""
BATCH_ROWS = 1 << 16


class ParquetTooLarge(ValueError):
    """What the file decodes to is more than it may; says how much."""


def read_parquet(source: Path | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a Parquet file, all by default.

    Texts stay what they are in the file, numbers of a dictionary's entries, until their sum is known to be small.

    Raises:
        ParquetTooLarge: It would decode to too much.
        pa.ArrowException: It is no Parquet file, or damaged.
        OSError: It cannot be read.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    most = min(BYTES, max(FREE_BYTES, RATIO * size))
    with pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        meta, schema = file.metadata, file.schema_arrow
        names = schema.names if columns is None else list(columns)
        if meta.num_rows > ROWS:
            raise ParquetTooLarge(f"has {meta.num_rows:,} rows, at most {ROWS:,}")
        _check(_claimed(meta, frozenset(names)), most)
        width = sum(_width(schema.field(name).type) for name in names)
        _check(meta.num_rows * width, most)
    texts = [name for name in names if _is_text(schema.field(name).type)]
    kept = None if columns is None else names
    with pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source, read_dictionary=texts) as file:
        batches, decoded = [], 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=kept):
            decoded += batch.num_rows * width + sum(map(_text_bytes, batch.columns))
            _check(decoded, most)
            batches.append(batch)
        read = pa.Table.from_batches(batches, batches[0].schema) if batches else file.read(columns=kept)
    for place, name in enumerate(read.column_names):
        if name in texts:
            read = read.set_column(place, name, read.column(name).cast(schema.field(name).type))
    return read


def _check(decoded: int, most: int) -> None:
    if decoded > most:
        raise ParquetTooLarge(f"decodes to {decoded:,} bytes or more, at most {most:,}")


def _claimed(meta: pq.FileMetaData, names: frozenset[str]) -> int:
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in names)


def _width(kind: pa.DataType) -> int:
    """Bytes of a row, of texts those of its place in the dictionary."""
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return 4


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string))


def _text_bytes(column: pa.Array) -> int:
    """Bytes that a dictionary's texts have once they are spelt out; none of other columns."""
    if not isinstance(column, pa.DictionaryArray) or not _is_text(column.dictionary.type):
        return 0
    codes, used = column.indices.drop_null(), column.dictionary
    if not len(codes):
        return 0
    place = used.buffers()[1]
    offsets = np.frombuffer(place, np.int64 if pa.types.is_large_string(used.type) else np.int32)
    sizes = np.diff(offsets[used.offset : used.offset + len(used) + 1])
    return int(sizes[codes.to_numpy()].sum(dtype=np.int64))
