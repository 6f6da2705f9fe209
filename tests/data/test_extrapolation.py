"""Which columns are named for going where the fit has not seen them."""

import numpy as np
import pytest

from mixfleet.data.extrapolation import beyond

SEEN = np.linspace(10.0, 20.0, 30)[:, None]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ([12.0, 19.0], None),
        ([39.0], None),
        ([-9.0], None),
        ([45.0], "2.5 times its range"),
        ([-30.0, np.nan], "4.0 times its range"),
        ([5000.0], "nothing was learnt"),
    ],
)
def test_a_control_is_known_around_its_range(later: list[float], words: str | None) -> None:
    found = beyond(("price",), SEEN, np.array(later)[:, None])
    assert found == {} if words is None else words in found["price"]


@pytest.mark.parametrize(("later", "words"), [(59.0, None), (0.0, None), (61.0, "2.0 times"), (1e4, "nothing")])
def test_a_channel_is_known_from_zero_to_its_highest(later: float, words: str | None) -> None:
    found = beyond(("tv",), SEEN, np.array([[later]]), channels=True)
    assert found == {} if words is None else words in found["tv"]


def test_constants_and_nothing_at_all() -> None:
    constant = np.full((30, 2), [0.0, 1e9 + 0.1])
    assert beyond(("a", "b"), constant, constant[:3]) == {}
    assert set(beyond(("a", "b"), constant, constant[:3] + 5)) == {"a", "b"}
    assert beyond(("a",), SEEN[:0], SEEN) == beyond(("a",), SEEN, SEEN[:0]) == {}
    assert beyond(("tv",), np.zeros((30, 1)), np.ones((2, 1)), channels=True) == {"tv": "nothing was learnt about it"}
