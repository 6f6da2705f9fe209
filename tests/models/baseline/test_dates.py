"""The dates of holidays and events are looked up once and then part of the settings."""

from pathlib import Path

import numpy as np
import pytest

from mixfleet.config import Model, build, to_mapping
from mixfleet.config.baseline import Events, Holidays, Intercept
from mixfleet.errors import ConfigError
from mixfleet.models.baseline import fitting, with_dates
from tests.support.units import odd_unit, panel_of

FIRST, LAST = np.datetime64("2022-01-03"), np.datetime64("2023-12-25")


def dated(term, *markets: str):
    model = Model(baseline=(Intercept(), term))
    found = with_dates(model, [{"brand": "acme", "market": market} for market in markets], FIRST, LAST)
    assert build(Model, to_mapping(found)) == found
    return found.baseline[1]


def test_holidays_of_every_country_of_the_table() -> None:
    pytest.importorskip("holidays")
    found = dated(Holidays(country="{market}"), "DE", "US", "DE")
    assert set(found.dates) == {"DE", "US"}
    assert {"2022-10-03", "2023-10-03", "2026-12-25"} <= set(found.dates["DE"])
    assert "2022-07-04" in found.dates["US"]
    assert "2022-07-04" not in found.dates["DE"]


def test_days_that_are_given_stay() -> None:
    given = Holidays(country="XX", dates={"XX": ("2022-05-01",)})  # pyright: ignore[reportArgumentType]
    assert dated(given, "DE") == given


def test_an_unknown_country_is_named_with_the_remedy() -> None:
    pytest.importorskip("holidays")
    with pytest.raises(ConfigError, match=r"'Atlantis' is no code.*countries"):
        dated(Holidays(country="{market}"), "Atlantis")
    with pytest.raises(ConfigError, match="'DE-XX' is no code"):
        dated(Holidays(country="DE-XX"), "DE")


def test_events_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("date,end,what\n2023-11-24,,friday\n2022-12-20,2022-12-31,sale\n")
    found = dated(Events(file=str(path), at=("2022-02-02",)), "DE")
    assert found.file is None
    assert found.at == ("2022-02-02", "2022-12-20/2022-12-31", "2023-11-24")
    path.write_text("date,what\n2023-11-24,friday\n")
    assert dated(Events(file=str(path)), "DE").at == ("2023-11-24",)


@pytest.mark.parametrize("row", ["soon,", "2022-12-31,2022-12-20", "2022-12-31,later"])
def test_a_faulty_row_is_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f"date,end\n2023-11-24,\n{row}\n")
    with pytest.raises(ConfigError, match=r"events\.csv line 3"):
        dated(Events(file=str(path)), "DE")


def test_a_term_that_does_not_go_with_a_unit_is_named_before_the_fit() -> None:
    model = build(Model, {"baseline": [{"term": "intercept"}, {"term": "knots", "every": 4, "over": 12}]})
    with pytest.raises(ConfigError, match="acme / DE"):
        fitting(model, panel_of(odd_unit()))
