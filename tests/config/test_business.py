import pytest

from mixfleet.config import Business, build, to_mapping
from mixfleet.errors import ConfigError


def test_one_number_is_that_of_all_units() -> None:
    assert Business(margin=0.4) == build(Business, {"margin": {"all": 0.4}})  # pyright: ignore[reportArgumentType]
    settings = Business(rates={"all": 1, "market=US": 0.9}, fiscal_year_start=4)  # pyright: ignore[reportArgumentType]
    assert build(Business, to_mapping(settings)) == settings
    assert hash(settings) != hash(Business())


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"margin": 0}, "business.margin", "must be above zero"),
        ({"rates": {"market=US": -1.0}}, "business.rates", "must be above zero, is -1.0 for market=US"),
        ({"rates": {"all": "a lot"}}, "business.rates.all", "must be a number"),
        ({"retention": ()}, "business.retention", "shares"),
        ({"retention": (1.0, 1.5)}, r"business.retention\[1\]", "between 0 and 1"),
        ({"fiscal_year_start": 13}, "business.fiscal_year_start", "between 1 and 12"),
    ],
)
def test_what_is_no_money_or_no_month_is_refused(given: dict, key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*{message}"):
        build(Business, given, key="business")
