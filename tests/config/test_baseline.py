"""Terms of the baseline as they are written, and what is refused."""

from typing import Any

import pytest

from mixfleet.config import Data, Model, Pooling, Spec, build, to_mapping
from mixfleet.config.baseline import TERMS, Fourier, Intercept, Knots, Linear
from mixfleet.config.priors import PARAMETERS
from mixfleet.errors import ConfigError
from tests.support.terms import EVERY_TERM

INTERCEPT = {"term": "intercept"}


def model(*terms: dict[str, Any]) -> Model:
    return build(Model, {"baseline": [INTERCEPT, *terms]})


def test_the_short_form_is_a_list_of_terms() -> None:
    assert Model().baseline_terms == (Intercept(), Linear(), Fourier(order=2))
    assert Model(trend="none", seasonality=0).baseline_terms == (Intercept(),)
    assert model({"term": "fourier", "order": 3}).baseline_terms == (Intercept(), Fourier(order=3))
    assert (Model().yearly_order, model().yearly_order, model({"term": "fourier"}).yearly_order) == (2, 0, 2)


def test_terms_are_written_and_read_back() -> None:
    assert build(Model, to_mapping(EVERY_TERM)) == EVERY_TERM
    assert {term.term for term in EVERY_TERM.baseline} == set(TERMS)
    assert all(PARAMETERS[term.parameter].linear for term in EVERY_TERM.baseline)
    assert hash(EVERY_TERM) == hash(build(Model, to_mapping(EVERY_TERM)))


def test_yaml_dates_are_dates() -> None:
    import yaml

    read = yaml.safe_load("{term: knots, at: [2024-01-31, 2024-05-01]}")
    assert model(read).baseline[1] == Knots(at=("2024-01-31", "2024-05-01"))


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([{"term": "linear"}], "begin with"),
        ([INTERCEPT, INTERCEPT], "have it once"),
        ([INTERCEPT, {"term": "knot"}], "one of intercept, linear"),
        ([INTERCEPT, {"term": "knots"}], "either"),
        ([INTERCEPT, {"term": "knots", "every": 13, "at": ["2024-01-31"]}], "either"),
        ([INTERCEPT, {"term": "knots", "at": ["31.01.2024"]}], "2024-01-31"),
        ([INTERCEPT, {"term": "knots", "at": ["2024-05-01", "2024-01-31"]}], "later"),
        ([INTERCEPT, {"term": "knots", "every": 0}], "at least 1"),
        ([INTERCEPT, {"term": "events"}], "needs"),
        ([INTERCEPT, {"term": "fourier"}, {"term": "fourier", "order": 1}], "two terms have a column 'sin_1'"),
        ([INTERCEPT, {"term": "linear", "slope": 1}], "unknown setting"),
        ([INTERCEPT, {"term": "linear", "name": "a b"}], "letters"),
    ],
)
def test_what_is_wrong_is_refused(terms: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(Model, {"baseline": terms})


def test_two_of_a_kind_go_with_names() -> None:
    both = model({"term": "fourier", "period": 10, "order": 1}, {"term": "fourier", "period": 20, "name": "lunar"})
    names = [name for term in both.baseline for name in term.names()]
    assert names[:3] == ["intercept", "cycle_sin_1", "cycle_cos_1"]
    assert names[3:] == ["lunar_sin_1", "lunar_cos_1", "lunar_sin_2", "lunar_cos_2"]
    assert both.baseline[2].parameter == "cycle"
    lines = model({"term": "linear"}, {"term": "linear", "name": "drift"}).baseline
    assert [(term.names(), term.component, term.parameter) for term in lines[1:]] == [
        (("trend",), "trend", "trend"),
        (("drift",), "drift", "trend"),
    ]


def test_a_control_of_the_same_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'holidays' is a column of the table too"):
        Spec(data=Data(controls=("holidays",)), model=model({"term": "holidays", "country": "DE"}))
    Spec(data=Data(controls=("holidays",)), model=model({"term": "holidays", "country": "DE", "name": "public"}))


def test_days_of_the_week_are_not_seen_in_weeks() -> None:
    weekday = model({"term": "fourier", "period": "week", "order": 3})
    with pytest.raises(ConfigError, match="too short"):
        Spec(model=weekday)
    Spec(model=weekday, data=Data(frequency="daily"))


def test_columns_of_units_own_ends_are_not_pooled() -> None:
    pooling = Pooling(by="brand", intercept=0.5)
    with pytest.raises(ConfigError, match="cannot be pooled"):
        Spec(model=model({"term": "random_walk"}), pooling=pooling)
    Spec(model=model({"term": "knots", "at": ["2024-01-31"]}), pooling=pooling)
    Spec(model=model({"term": "random_walk"}), pooling=Pooling(by="brand"))
