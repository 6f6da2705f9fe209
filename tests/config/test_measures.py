import pytest

from mixfleet.config import Prior, build, to_mapping
from mixfleet.errors import ConfigError


def test_one_word_is_for_all_paid_channels():
    on = build(Prior, {"on": "roi"}, key="prior").on
    assert on.measure("tv", spend=True) == "roi"
    assert on.measure("mail", spend=False) == "contribution"
    assert Prior().on.measure("mail", spend=False) == "effect"


def test_channels_may_have_a_measure_of_their_own():
    prior = build(Prior, {"on": {"media": "roi", "organic": "media_share", "channels": {"tv": "effect"}}}, key="prior")
    assert prior.on.measure("tv", spend=True) == prior.on.measure("tv", spend=False) == "effect"
    assert prior.on.measure("mail", spend=False) == "media_share"
    assert prior.on.possible == ("roi", "media_share", "effect")
    assert build(Prior, to_mapping(prior), key="prior") == prior


@pytest.mark.parametrize(
    ("on", "message"),
    [("roas", "must be one of effect"), ({"organic": "roi"}, "no spend"), ({"media": "mroi"}, "must be one of")],
)
def test_what_no_prior_is_on_is_refused(on: object, message: str):
    with pytest.raises(ConfigError, match=message):
        build(Prior, {"on": on}, key="prior")
