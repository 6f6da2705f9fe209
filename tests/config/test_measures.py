import datetime

import pytest

from mixfleet.config import Prior, build, preset, to_mapping
from mixfleet.config.measures import On
from mixfleet.errors import ConfigError


def test_one_word_is_for_all_paid_channels():
    on = build(Prior, {"on": "roi"}, key="prior").on
    assert on.measure("tv", spend=True) == "roi"
    assert on.measure("mail", spend=False) == "contribution"
    assert Prior().on.measure("tv", spend=True) == Prior().on.measure("mail", spend=False) == "media_share"


def test_channels_may_have_a_measure_of_their_own():
    prior = build(Prior, {"on": {"media": "roi", "organic": "media_share", "channels": {"tv": "effect"}}}, key="prior")
    assert prior.on.measure("tv", spend=True) == prior.on.measure("tv", spend=False) == "effect"
    assert prior.on.measure("mail", spend=False) == "media_share"
    assert prior.on.possible == ("roi", "media_share", "effect")
    assert build(Prior, to_mapping(prior), key="prior") == prior


@pytest.mark.parametrize(
    ("prior", "key"),
    [
        ({"parameters": {"effect": {"sd": 1}}}, "prior.parameters.effect"),
        ({"overrides": [{"parameter": "roi", "hyperparameters": {"sd_log": 1}}]}, "prior.overrides[0]"),
        ({"parameters": {"media_share": {"scale": 1}}, "on": "roi"}, "prior.parameters.media_share"),
    ],
)
def test_a_prior_that_no_channel_has_is_refused(prior: dict[str, object], key: str):
    with pytest.raises(ConfigError, match=r"say prior\.on=") as caught:
        build(Prior, prior, key="prior")
    assert caught.value.key == key
    assert preset("prior", "weak").of("media_share").values == (4.0, 1.08)


@pytest.mark.parametrize(
    ("on", "message"),
    [("roas", "must be one of effect"), ({"organic": "roi"}, "no spend"), ({"media": "margin"}, "must be one of")],
)
def test_what_no_prior_is_on_is_refused(on: object, message: str):
    with pytest.raises(ConfigError, match=message):
        build(Prior, {"on": on}, key="prior")


def test_returns_may_be_about_some_days() -> None:
    on = build(On, {"media": "roi", "start": datetime.date(2024, 1, 1), "end": "2024-03-31"})
    assert (on.start, on.end, on.of_changes) == ("2024-01-01", "2024-03-31", True)
    assert build(On, {"media": "mroi"}).of_changes
    assert not build(On, {"media": "media_share", "start": "2024-01-01"}).of_changes
    with pytest.raises(ConfigError, match="lies before the start"):
        build(On, {"start": "2024-02-01", "end": "2024-01-01"})
    with pytest.raises(ConfigError, match="must be a day such as 2024-01-31"):
        build(On, {"start": "last week"})
