from dataclasses import replace

import numpy as np
import pytest

from mixfleet.errors import RunError
from mixfleet.storage import result_bytes
from tests.support.stub_engine import brands, unit_result

ACME = ("acme", "DE")


@pytest.mark.parametrize("labels", brands(9))
def test_round_trip(labels: tuple[str, ...]) -> None:
    result = unit_result(labels)
    again = result_bytes.decode(result_bytes.encode(result))
    assert result_bytes.encode(again) == result_bytes.encode(result)
    assert (again.labels, again.status, again.reason) == (result.labels, result.status, result.reason)
    for name, values in result.draws.items():
        np.testing.assert_array_equal(again.draws[name], values)
    for table, columns in result.tables.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(again.tables[table][column], values)


def test_digest_sees_everything_but_the_time() -> None:
    result = replace(unit_result(("brand000", "market0")), status="ok")
    slow = replace(result, diagnostics={**result.diagnostics, "seconds": 99.0})
    assert result_bytes.digest(slow) == result_bytes.digest(result)
    noise = result.draws["noise"].copy()
    noise[0, 0] = np.nextafter(noise[0, 0], np.float32(9))
    for change in ({"reason": "x"}, {"rung": 9}, {"draws": {**result.draws, "noise": noise}}):
        assert result_bytes.digest(replace(result, **change)) != result_bytes.digest(result)


def test_garbage_is_refused() -> None:
    data = result_bytes.encode(unit_result(ACME))
    for damaged in (b"", data[:5], data[:50], b"\x80\x04K\x01.", data[:-1]):
        with pytest.raises(RunError, match="cannot be decoded"):
            result_bytes.decode(damaged)
