import numpy as np
import pytest

from mixfleet.analysis.long_table import LongTable
from mixfleet.analysis.periods import read_period
from mixfleet.posterior.statistics import QUANTILES, quantile, statistics


def test_statistics_are_those_of_the_draws() -> None:
    draws = np.random.default_rng(0).gamma(2.0, 1e6, size=(3, 4, 501))
    found = statistics(draws)
    np.testing.assert_allclose(found["mean"], draws.mean(axis=-1))
    np.testing.assert_allclose(found["sd"], draws.std(axis=-1, ddof=1))
    for name, share in QUANTILES.items():
        np.testing.assert_allclose(found[name], np.quantile(draws, share, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 31])
@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.5, 0.95, 1.0])
def test_a_quantile_of_few_numbers_is_that_of_numpy(count: int, share: float) -> None:
    values = np.random.default_rng(count).standard_normal(count)
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-12)


def test_a_row_that_holds_no_number_has_none() -> None:
    draws = np.ones((2, 10))
    draws[1, 3] = np.nan
    found = statistics(draws)
    assert all(np.isfinite(values[0]) and np.isnan(values[1]) for values in found.values())


@pytest.mark.parametrize(
    ("period", "names"),
    [
        ("all", ("all",)),
        ("year", ("2023", "2024")),
        ("quarter", ("2023-Q4", "2024-Q1")),
        ("month", ("2023-12", "2024-01")),
        ("week", ("2023-12-25", "2024-01-01", "2024-01-08")),
        (("2024-01-01", "2024-01-31"), ("2024-01-01..2024-01-31",)),
    ],
)
def test_windows_of_time(period: object, names: tuple[str, ...]) -> None:
    dates = np.array(["2023-12-25", "2024-01-01", "2024-01-08"], "M8[D]")
    windows = read_period(period, [dates])
    assert windows.names == names
    index = windows.index(dates)
    if len(names) == 3:
        assert index.tolist() == [0, 1, 2]
    elif len(names) == 2:
        assert index.tolist() == [0, 1, 1]
    else:
        assert index.tolist() == ([0, 0, 0] if period == "all" else [-1, 0, 0])


def test_a_tidy_table_has_a_row_for_each_number() -> None:
    long_table = LongTable()
    long_table.add({"unit": "a"}, {"channel": ("tv", "search"), "level": range(2)}, {"x": np.arange(4.0).reshape(2, 2)})
    long_table.add(
        {"unit": "b"}, {"channel": ("tv", "search"), "level": range(2)}, {"x": 7.0}, where=np.array([[True], [False]])
    )
    table = long_table.table()
    assert table["unit"].to_pylist() == ["a"] * 4 + ["b"] * 2
    assert table["channel"].to_pylist() == ["tv", "tv", "search", "search", "tv", "tv"]
    assert table["x"].to_pylist() == [0, 1, 2, 3, 7, 7]
