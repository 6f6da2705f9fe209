"""Money that is still to be spent buys media at today's price."""

import numpy as np
import pandas as pd

from mixfleet import config
from mixfleet.data.panel import read_panel
from mixfleet.posterior.response_curves import media_price
from tests.data.test_reshape import TODAY, wide

DATA = config.build(
    config.Data, {"channels": {"tv": {"spend": "tv", "impressions": "shown"}, "search": {"spend": "search"}}}
)


def bought(frame: pd.DataFrame) -> np.ndarray:
    return media_price(read_panel(frame, DATA, today=TODAY).units[0])


def test_price_is_that_of_the_last_thirteen_weeks():
    frame = wide("DE")
    frame["shown"] = frame["tv"] / np.linspace(1.0, 3.0, len(frame))
    last = frame.tail(13)
    np.testing.assert_allclose(bought(frame), [last["tv"].sum() / last["shown"].sum(), 1.0], rtol=1e-12)  # pyright: ignore[reportCallIssue]


def test_a_channel_that_rests_has_its_price_of_all_weeks():
    frame = wide("DE").assign(shown=lambda rows: rows["tv"] * 4)
    frame.loc[40:, ["tv", "shown"]] = 0.0
    np.testing.assert_allclose(bought(frame), [0.25, 1.0], rtol=1e-12)
