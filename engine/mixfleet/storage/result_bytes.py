"""One `UnitResult` as bytes and back, without pickle, and its digest.

Length of the header (8 bytes, little endian), header (JSON), payload. The header holds everything that is no
array, and type, shape and place of every array in the payload. Arrays follow in sorted order, so equal
results are equal bytes.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mixfleet.errors import RunError
from mixfleet.posterior.unit_result import DIAGNOSTICS, TABLES, TIMINGS, UnitResult

_DTYPES: Mapping[str, np.dtype] = {
    "float": np.dtype("<f8"),
    "bool": np.dtype("?"),
    "date": np.dtype("<M8[D]"),
    "draws": np.dtype("<f4"),
}


def encode(result: UnitResult) -> bytes:
    """The result as bytes."""
    payload: list[bytes] = []
    size = 0

    def place(values: np.ndarray, kind: str) -> list[Any]:
        nonlocal size
        data = np.ascontiguousarray(values, dtype=_DTYPES[kind]).tobytes()
        payload.append(data)
        size += len(data)
        return [kind, list(values.shape), size - len(data)]

    header = {
        "labels": list(result.labels),
        "status": result.status,
        "reason": result.reason,
        "rung": int(result.rung),
        "diagnostics": {
            name: int(value) if DIAGNOSTICS[name] == "int" else float(value)
            for name, value in sorted(result.diagnostics.items())
        },
        "tables": {
            table: {
                column: ["text", [str(value) for value in values]]
                if TABLES[table][column] == "text"
                else place(np.asarray(values), TABLES[table][column])
                for column, values in sorted(result.tables[table].items())
            }
            for table in sorted(result.tables)
        },
        "draws": {name: place(values, "draws") for name, values in sorted(result.draws.items())},
        "dims": {name: list(axes) for name, axes in sorted(result.dims.items())},
        "coords": {axis: list(names) for axis, names in sorted(result.coords.items())},
    }
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    return b"".join((struct.pack("<Q", len(text)), text, *payload))


def decode(record: bytes) -> UnitResult:
    """The result that `encode` wrote; its arrays share the record's memory and are read-only.

    Raises:
        RunError: The bytes are no record.
    """
    try:
        (length,) = struct.unpack_from("<Q", record)
        header = json.loads(record[8 : 8 + length])
        start = 8 + length

        def find(entry: list[Any]) -> np.ndarray:
            if entry[0] == "text":
                return np.array(entry[1], dtype=object)
            kind, shape, offset = entry
            count = math.prod(shape)
            return np.frombuffer(record, _DTYPES[kind], count, start + offset).reshape(shape)

        return UnitResult(
            labels=tuple(header["labels"]),
            status=header["status"],
            reason=header["reason"],
            rung=header["rung"],
            diagnostics=header["diagnostics"],
            tables={
                table: {column: find(entry) for column, entry in columns.items()}
                for table, columns in header["tables"].items()
            },
            draws={name: find(entry) for name, entry in header["draws"].items()},
            dims={name: tuple(axes) for name, axes in header["dims"].items()},
            coords={axis: tuple(names) for axis, names in header["coords"].items()},
        )
    except (struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise RunError(f"a saved unit cannot be decoded: {error}. Repeat the command to fit it again") from error


def digest(result: UnitResult) -> str:
    """SHA-256 (hex) of everything in the result but its timings: equal for equal results, on any day."""
    timeless = {name: value for name, value in result.diagnostics.items() if name not in TIMINGS}
    return hashlib.sha256(encode(replace(result, diagnostics=timeless))).hexdigest()
