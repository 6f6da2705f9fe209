"""Money that is still to be spent buys media at today's price, and past money at that of its week."""

import numpy as np
import pandas as pd

from mixfleet import config
from mixfleet.data.panel import Unit, read_panel
from mixfleet.posterior.media_prices import media_price, past_prices
from tests.data.test_reshape import TODAY, wide

DATA = config.build(
    config.Data, {"channels": {"tv": {"spend": "tv", "impressions": "shown"}, "search": {"spend": "search"}}}
)


def unit_of(frame: pd.DataFrame) -> Unit:
    return read_panel(frame, DATA, today=TODAY).units[0]


def bought(frame: pd.DataFrame) -> np.ndarray:
    return media_price(unit_of(frame))


def test_price_is_that_of_the_last_thirteen_weeks():
    frame = wide("DE")
    frame["shown"] = frame["tv"] / np.linspace(1.0, 3.0, len(frame))
    last = frame.tail(13)
    np.testing.assert_allclose(bought(frame), [last["tv"].sum() / last["shown"].sum(), 1.0], rtol=1e-12)  # pyright: ignore[reportCallIssue]


def test_a_channel_that_rests_has_its_price_of_all_weeks():
    frame = wide("DE").assign(shown=lambda rows: rows["tv"] * 4)
    frame.loc[40:, ["tv", "shown"]] = 0.0
    np.testing.assert_allclose(bought(frame), [0.25, 1.0], rtol=1e-12)


def test_a_years_bill_is_the_price_of_a_year():
    frame = wide("DE").assign(shown=100.0, tv=0.0)
    frame.loc[55, "tv"] = 5200.0
    np.testing.assert_allclose(bought(frame)[0], 1.0, rtol=1e-12)
    frame.loc[55, "tv"], frame.loc[2, "tv"] = 0.0, 6000.0
    np.testing.assert_allclose(bought(frame)[0], 6000 / 6000, rtol=1e-12)


def test_past_weeks_have_the_price_of_their_day():
    price = np.linspace(1.0, 3.0, 60)
    frame = wide("DE")
    frame["shown"] = frame["tv"] / price
    frame.loc[[20, 21], ["tv", "shown"]] = 0.0
    found = past_prices(unit_of(frame))
    np.testing.assert_allclose(np.delete(found[:, 0], [20, 21]), np.delete(price, [20, 21]), rtol=1e-12)
    around = frame.iloc[14:27]
    np.testing.assert_allclose(found[20, 0], around.tv.sum() / around.shown.sum(), rtol=1e-12)
    np.testing.assert_array_equal(found[:, 1], 1.0)


def test_past_weeks_that_were_billed_together_have_the_price_around_them():
    frame = wide("DE").assign(shown=100.0, tv=0.0)
    frame.loc[::4, "tv"] = 800.0
    # Weeks 24 to 36 around week 30 were billed 3 times, in 24 to 36 shown 13 times.
    np.testing.assert_allclose(past_prices(unit_of(frame))[[30, 32], 0], [4 * 800 / 1300, 3 * 800 / 1300], rtol=1e-12)
