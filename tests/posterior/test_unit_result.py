from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixfleet.posterior.unit_result import TABLES, UnitResult, thin_draws
from tests.support.stub_engine import unit_result

ACME = ("acme", "DE")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "good"}, "unknown status 'good'"),
        ({"status": "failed"}, "must not carry tables or draws"),
        ({"diagnostics": {"rhat": 1.0}}, r"unknown diagnostics \['rhat'\]"),
        ({"tables": {"rois": {}}}, "unknown table 'rois'"),
        ({"tables": {"roi": {"channel": np.array(["tv"])}}}, "table 'roi' misses"),
        ({"draws": {"noise": np.zeros((2, 3))}, "dims": {}}, "must be float32"),
        ({"draws": {"noise": np.zeros((2, 3, 4), np.float32)}, "dims": {}}, "name 0 axes, draws have 1"),
        ({"coords": {"channel": ("tv", "tv"), "column": ("a", "b")}}, "needs 2 distinct labels"),
    ],
)
def test_refuses_what_the_store_cannot_keep(change: dict[str, Any], message: str) -> None:
    good = replace(unit_result(("a", "b")), status="ok")
    assert good.draws
    with pytest.raises(ValueError, match=message):
        replace(good, **change)


def test_columns_must_agree_in_kind_and_length() -> None:
    table = {name: np.zeros(2) for name in TABLES["roi"]} | {"channel": np.array(["tv", "search"])}
    UnitResult(labels=ACME, status="ok", tables={"roi": table})
    with pytest.raises(ValueError, match="differ in length"):
        UnitResult(labels=ACME, status="ok", tables={"roi": table | {"mean": np.zeros(3)}})
    with pytest.raises(ValueError, match=r"roi\.channel must be a one-dimensional text array"):
        UnitResult(labels=ACME, status="ok", tables={"roi": table | {"channel": np.zeros(2)}})


def test_thinning_is_even_keeps_the_last_and_is_idempotent() -> None:
    draws = {"x": np.arange(24, dtype=np.float32).reshape(2, 12)}
    thin = thin_draws(draws, 8)["x"]
    np.testing.assert_array_equal(thin[0], [2, 5, 8, 11])
    np.testing.assert_array_equal(thin_draws({"x": thin}, 8)["x"], thin)
    assert thin_draws(draws, 1)["x"].shape == (2, 1)
