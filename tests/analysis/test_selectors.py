"""Selectors name any label, commas and equals signs included."""

import pytest

from mixfleet.analysis.selectors import read_selector
from mixfleet.errors import ConfigError

READ = {
    "all": {},
    "channel=tv": {"channel": "tv"},
    "channel=tv, market = DE": {"channel": "tv", "market": "DE"},
    "channel=TV, linear": {"channel": "TV, linear"},
    "channel=TV, linear,market=DE": {"channel": "TV, linear", "market": "DE"},
    'channel="TV, a=b",market=DE': {"channel": "TV, a=b", "market": "DE"},
    "channel=a=b": {"channel": "a=b"},
}


@pytest.mark.parametrize("text", READ)
def test_selectors_are_read(text):
    assert read_selector(text, key="budget.bounds") == READ[text]


@pytest.mark.parametrize("text", ["", "tv", "=tv", "tv,market=DE", "channel=tv,"])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(ConfigError, match=r"budget\.bounds: .* is not of the form channel=tv,market=DE"):
        read_selector(text, key="budget.bounds")
