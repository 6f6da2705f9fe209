"""Numbers as text are read to the last digit in each way of writing them that is known, or refused."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixfleet.data.parse import Fault, decimal_marks, read_numbers

CENTS = st.integers(-(10**12), 10**12)


def column(cells: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.large_string())])


def english(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def german(cents: int) -> str:
    return english(cents).translate(str.maketrans(",.", ".,"))


@settings(max_examples=60, deadline=None)
@given(cents=st.lists(CENTS, min_size=1, max_size=20))
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("write", [english, german])
def test_numbers_with_marks_are_read_exactly(write, grouped: bool, cents: list[int]) -> None:
    mark = "," if write is english else "."
    cells = [write(each) if grouped else write(each).replace(mark, "") for each in cents]
    marks = decimal_marks(column(cells))
    assert (marks.comma, marks.point) == (write is german, write is english)
    found = read_numbers(column(cells), decimal_comma=marks.comma, thousands=marks.thousands)
    assert (found.fault == Fault.NONE).all()
    np.testing.assert_array_equal(found.values, [each / 100 for each in cents])


@settings(max_examples=60, deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False, width=64), blanks=st.sampled_from(["", " ", "\t "]))
def test_plain_numbers_are_read_to_the_last_bit(value: float, blanks: str) -> None:
    # An integer beyond 2^53 is one of several that share a float64.
    text = repr(value)
    found = read_numbers(column([f"{blanks}{text}{blanks}"]))
    assert found.values[0] == value


WRITTEN = [
    "({})",
    "{}-",
    "{} -",
    "€{}",
    "{} EUR",
    "${}",
    "{}%",
    "{} %",
    "{} Mio",
    "{}k",
    "\u2212{}",
    "{}*",
    "'{}",
    "{}/2",
]


@settings(max_examples=30, deadline=None)
@given(cents=CENTS)
@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("write", [english, german])
def test_what_is_written_otherwise_is_refused_and_never_another_number(write, form: str, cents: int) -> None:
    cells = column([form.format(write(abs(cents)))])
    for keywords in ({}, {"decimal_comma": True}, {"thousands": True}):
        found = read_numbers(cells, **keywords)
        assert found.fault[0] == Fault.TEXT
        assert np.isnan(found.values[0])


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="0123456789.,-+eE '\u00a0%()€", min_size=1, max_size=12))
def test_any_cell_is_the_number_it_says_or_none(text: str) -> None:
    found = read_numbers(column([text]))
    if found.fault[0] == Fault.NONE:
        assert found.values[0] == float(text)
