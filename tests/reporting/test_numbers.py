"""Numbers as readers meet them."""

import math
import shutil
import subprocess
from pathlib import Path

import pytest

from mixfleet.errors import counted
from mixfleet.reporting.numbers import amount, listing, money, percent

EXAMPLES = {
    0.0: "0",
    1.2e9: "1.2bn",
    -6_207_628.46: "-6.2m",
    123e6: "123m",
    45_600.0: "45.6k",
    9_999.0: "9999",
    731.4: "731",
    24.06: "24.1",
    2.4111: "2.41",
    0.0031: "0.0031",
}


@pytest.mark.parametrize(("value", "text"), EXAMPLES.items())
def test_amounts_have_three_digits(value: float, text: str) -> None:
    assert amount(value) == text


def test_what_is_no_number_is_a_dash() -> None:
    assert amount(math.nan) == amount(None) == percent(math.inf) == "\u2013"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_page_writes_numbers_the_same_way() -> None:
    script = (Path(__file__).parents[2] / "engine/mixfleet/reporting/page/charts.js").read_text()
    start = script.index("const digits")
    own = script[start : script.index("const range", start)]
    own += 'const fleet = { locale: { decimal: ".", percent: " %" } }, decimal = (text) => text;'
    values = list(EXAMPLES)
    asked = f"{own}\nconsole.log(JSON.stringify([{values}.map(number), {[0.042, 0.5]}.map(percent)]));"
    done = subprocess.run(["node", "-e", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([list(EXAMPLES.values()), [percent(0.042), percent(0.5)]]).replace(
        "'", '"'
    ).replace(", ", ",")


def test_currencies_and_nouns_agree() -> None:
    assert money(1234.0, "EUR") == "1234 EUR"
    assert money(1234.0, "") == "1234"
    assert (counted(1, "unit"), counted(2_000, "unit"), counted(2, "body", "bodies")) == (
        "1 unit",
        "2,000 units",
        "2 bodies",
    )
    assert listing(["a", "b", "c"], 2) == "a, b and 1 more"
