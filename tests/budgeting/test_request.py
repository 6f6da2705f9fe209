"""What is asked of a plan is listed once."""

import dataclasses
import math
from typing import Any, get_type_hints

import pytest

from mixfleet.analysis.economics import Economics, EconomicsOptions
from mixfleet.budgeting.request import BudgetOptions, BudgetRequest
from mixfleet.cli.budget import OPTIONS
from mixfleet.errors import ConfigError


def test_keywords_and_options_are_the_fields() -> None:
    names = [field.name for field in dataclasses.fields(BudgetRequest)]
    assert get_type_hints(BudgetOptions) == get_type_hints(BudgetRequest)
    assert sorted(OPTIONS) == sorted(names)
    assert get_type_hints(EconomicsOptions) == get_type_hints(Economics)


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        ({"change": 30}, "budget.change: is a share of today's spend, so that 30 is 3000%; write 0.3 for 30 %"),
        ({"change": math.inf}, "budget.change: must be a finite number"),
        ({"total": math.nan}, "budget.total: must be a finite number"),
        ({"rates": {"all": 1e300}}, "budget.rates: all: 1e\\+300 is no exchange rate"),
        ({"margin": 0.4}, "budget.margin: outcome knows no margin: maximise profit, or give none"),
        ({"maximise": "profit"}, "budget.margin: profit is earned at a margin: give one, such as 0.4, or keep one"),
    ],
)
def test_numbers_that_nobody_means_are_refused(asked_for: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BudgetRequest(**asked_for)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"weeks": 100_000}, "at most 1,040 weeks can be planned, is 100,000"),
        ({"total": 1e300}, r"at most 1e\+30 can be planned, is 1e\+300"),
    ],
)
def test_a_plan_beyond_all_sense_is_refused_in_few_words(wish: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        BudgetRequest(**wish)
    assert len(str(refused.value)) < 100
