"""Parquet is read within a bound on what it decodes to, whatever it says and however small it is."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixfleet.data.formats.parquet_file import ParquetTooLarge, read_parquet

SMALL = 200 << 20


def written(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def test_tables_come_back_as_they_were() -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None, "ü"] * 50_000),
            "large": pa.array(["x", "", None] * 50_000, pa.large_string()),
            "category": pa.array(["x", "y", None] * 50_000).dictionary_encode(),
            "number": np.arange(150_000.0),
            "flag": pa.array([True, None, False] * 50_000),
            "date": pa.array(np.arange(150_000, dtype=np.int32), pa.date32()),
        }
    )
    found = read_parquet(written(table))
    assert found.schema == table.schema
    assert found.to_pydict() == table.to_pydict()
    assert read_parquet(written(table), ["number", "text"]).to_pydict() == table.select(["number", "text"]).to_pydict()
    assert read_parquet(written(table.slice(0, 0))).schema == table.schema


def bombs() -> dict[str, bytes]:
    text = pa.array(["x" * 100_000])
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), text)
    return {
        "one long text, many times": written(pa.table({"brand": codes}), store_schema=False),
        "the same as a category": written(pa.table({"brand": codes})),
        "rows": written(pa.table({"kpi": np.zeros(19_000_000)})),
        "more rows": written(pa.table({"kpi": np.zeros(20_000_001, np.int8)})),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, name: str) -> None:
    data = bombs()[name]
    assert len(data) < 1 << 20
    (tmp_path / "bomb.parquet").write_bytes(data)
    with pytest.raises(ParquetTooLarge, match="at most"):
        read_parquet(tmp_path / "bomb.parquet")


def test_memory_stays_small(tmp_path: Path) -> None:
    (tmp_path / "bomb.parquet").write_bytes(bombs()["one long text, many times"])
    code = (
        "import resource, sys, pathlib; from mixfleet.data.formats import parquet_file as p\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: p.read_parquet(pathlib.Path(sys.argv[1]))\n"
        "except p.ParquetTooLarge: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    told = subprocess.run([sys.executable, "-c", code, tmp_path / "bomb.parquet"], capture_output=True, check=True)
    assert int(told.stdout) * 1024 < SMALL
