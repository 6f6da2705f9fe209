"""Order statistics are those of a sort, whatever the values are; mean and spread those of numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixfleet_kernels import native_library
from mixfleet_kernels.quantiles import row_statistics


def order_statistics(values: np.ndarray, ranks: Sequence[int]) -> np.ndarray:
    return row_statistics(values, ranks).ordered


def sorted_at(values: np.ndarray, ranks: Sequence[int]) -> np.ndarray:
    return np.sort(values, axis=-1)[..., list(ranks)]


ROWS = {
    "normal": np.random.default_rng(0).standard_normal((3, 4, 1001)),
    "with far outliers": np.random.default_rng(1).standard_cauchy((5, 777)) ** 3,
    "of few values": np.random.default_rng(2).integers(0, 3, (5, 64)) / 7,
    "of one value": np.full((2, 9), -0.3),
    "with infinite ones": np.array([[np.inf, 1.0, -np.inf, 2.0, 2.0], [np.inf, 1.0, 0.0, 2.0, 1.0]]),
    "close together": 1.0 + np.arange(30.0).reshape(3, 10) * np.finfo(float).eps,
    "tiny": np.arange(20.0)[::-1].reshape(2, 10) * 5e-324,
    "of opposite extremes": np.array([[1.7e308, -1.7e308, 0.0, 3.0]]),
    "of one draw": np.arange(3.0)[:, None],
}


@pytest.mark.parametrize("kind", ROWS)
def test_they_are_those_of_a_sort(kind: str) -> None:
    values = ROWS[kind]
    last = values.shape[-1] - 1
    ranks = sorted({0, last // 20, last // 2, min(last // 2 + 1, last), last})
    np.testing.assert_array_equal(order_statistics(values, ranks), sorted_at(values, ranks))


@pytest.mark.parametrize("length", [2, 7, 8, 1001])
def test_mean_and_spread_are_those_of_numpy(length: int) -> None:
    """Also of values that are far from zero and close together."""
    values = 1e6 + np.random.default_rng(3).standard_normal((4, 3, length))
    found = row_statistics(values, [0])
    np.testing.assert_allclose(found.mean, values.mean(axis=-1), rtol=1e-14)
    np.testing.assert_allclose(found.sd, values.std(axis=-1, ddof=1), rtol=1e-9)


def test_infinite_values_have_a_mean_where_numpy_gives_one() -> None:
    values = np.array([[np.inf, 1.0, 2.0], [np.inf, 1.0, -np.inf], [1.0, 2.0, np.nan]])
    found = row_statistics(values, [1])
    np.testing.assert_array_equal(found.mean, [np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(found.sd, [np.nan] * 3)
    np.testing.assert_array_equal(found.ordered[:, 0], [2.0, 1.0, np.nan])


def test_order_and_layout_of_the_values_are_nothing() -> None:
    values = ROWS["normal"]
    found = order_statistics(np.moveaxis(values, 0, 1), [0, 50, 51, 1000])
    np.testing.assert_array_equal(found, sorted_at(np.moveaxis(values, 0, 1), [0, 50, 51, 1000]))


@pytest.mark.parametrize("native", [True, False])
def test_a_row_that_holds_no_number_has_none(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(native_library, "available", lambda: False)
    values = np.arange(20.0).reshape(2, 10)
    values[1, 3] = np.nan
    found = row_statistics(values, [0, 4])
    np.testing.assert_array_equal(found.ordered, [[0.0, 4.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(np.isnan(found.mean), [False, True])
    np.testing.assert_allclose(found.sd, np.array([np.std(np.arange(10.0), ddof=1), np.nan]))


@given(st.lists(st.floats(allow_nan=False, width=64), min_size=1, max_size=40))
def test_every_rank_of_any_values(values: list[float]) -> None:
    ranks = range(len(values))
    np.testing.assert_array_equal(order_statistics(np.array(values), ranks), np.sort(values))
