"""What priors expect of media before any data, against the priors' own quantiles and the cases that ask for it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mixfleet as mf
from mixfleet.evaluation.prior_check import ALL, PriorCheck
from tests.support.shared_data import shared_case

CHANNELS = ("tv", "search", "social")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(3)
    weeks = np.tile(pd.date_range("2022-01-03", periods=60, freq="7D"), 2)
    spend = {name: random.gamma(2.0, 50.0 * (1 + place), 120) for place, name in enumerate(CHANNELS)}
    keys = {"brand": "acme", "market": np.repeat(["DE", "FR"], 60), "date": weeks}
    return pd.DataFrame({**keys, "kpi": random.normal(5000, 300, 120), **spend})


def found(table: pd.DataFrame, **groups: object) -> PriorCheck:
    return mf.prior(table, data={"channels": CHANNELS}, **groups)  # pyright: ignore[reportArgumentType]


def of(check: PriorCheck, channel: str, market: str = "DE") -> pd.Series:
    rows = check.table
    return rows[(rows["channel"] == channel) & (rows["market"] == market)].iloc[0]


def test_rows_say_what_the_prior_says_in_kpi_and_in_money(table: pd.DataFrame):
    check = found(table, prior={"on": "roi"})
    row, sold = of(check, "tv"), table[table["market"] == "DE"]
    expected = stats.lognorm(0.9, scale=np.exp(0.2)).ppf([0.05, 0.5, 0.95])
    assert (row["prior_on"], row["spend"]) == ("roi", pytest.approx(sold["tv"].sum()))
    np.testing.assert_allclose(row[["roi_q05", "roi_q50", "roi_q95"]].astype(float), expected, rtol=0.25)
    np.testing.assert_allclose(row["share_q50"], row["roi_q50"] * row["spend"] / sold["kpi"].sum(), rtol=1e-9)
    assert check.table["channel"].tolist() == [*CHANNELS, ALL] * 2
    assert check.table["below_all"].notna().tolist() == [False, False, False, True] * 2


def test_the_usual_prior_is_sane_and_says_so(table: pd.DataFrame):
    check = found(table)
    row = of(check, ALL)
    assert 0.2 < row["share_q50"] < 0.5
    assert row["below_all"] >= 0.95
    assert check.warnings == ()
    assert check.statements[0].startswith("before any data media bring 3")
    assert check.statements[0].endswith("medians over 2 units")


def test_what_is_believed_of_all_media_weighs_the_priors_of_channels(table: pd.DataFrame):
    usual, check = found(table), found(table, prior={"total_share": {"mean": 0.4, "sd": 0.02}})
    row = of(check, ALL)
    # Of a prior that is about flat there, in 512 draws.
    assert row["share_q50"] == pytest.approx(0.4, abs=0.01)
    assert row["share_q95"] - row["share_q05"] == pytest.approx(2 * 1.64 * 0.02, rel=0.25)
    assert of(check, "tv")["share_q50"] > of(usual, "tv")["share_q50"]
    wide = of(found(table, prior={"total_share": {"mean": 0.4, "sd": 50}}), ALL)
    assert wide["share_q50"] == pytest.approx(of(usual, ALL)["share_q50"], rel=0.01)


def test_under_a_log_link_media_never_bring_all(table: pd.DataFrame):
    check = found(table, model={"link": "log"})
    row, added = of(check, ALL), stats.t(4, scale=0.36)
    # One prior for all would be 1 - exp(-half-t); three of them, each in proportion to spend, spread less.
    assert row["below_all"] == 1.0
    assert 0.5 * added.ppf(0.75) < -np.log1p(-row["share_q50"]) < 1.5 * added.ppf(0.75)
    one = found(table, model={"link": "log"}, prior={"on": "contribution"})
    log_sold = -np.log1p(-of(one, "tv")[["share_q05", "share_q50", "share_q95"]].astype(float))
    share = np.array([0.05, 0.5, 0.95])
    # Of 512 draws; three standard errors.
    away = stats.halfnorm(scale=0.1).cdf(log_sold) - share
    assert np.all(np.abs(away) < 3 * np.sqrt(share * (1 - share) / 512))
    sold, row = table[table["market"] == "DE"], of(one, "tv")
    np.testing.assert_allclose(row["share_q50"], row["roi_q50"] * row["spend"] / sold["kpi"].sum(), rtol=1e-9)


def test_a_prior_on_effects_draws_the_curves(table: pd.DataFrame):
    """A curve's mean response lies between nothing and the effect."""
    share = of(found(table, prior={"on": "effect"}), "tv")["share_q95"]
    mean = table.loc[table["market"] == "DE", "kpi"].mean() / table.loc[table["market"] == "DE", "kpi"].max()
    assert 0.1 < share < stats.halfnorm(scale=0.5).ppf(0.95) / mean


def test_a_wide_prior_is_named(table: pd.DataFrame):
    check = found(table, prior="weak")
    assert "in 2 of 2 units media bring more than all of the KPI" in check.warnings[0]
    assert "more than 60%" in check.warnings[1]


def test_units_of_a_group_are_as_uncertain_as_hyperparameters_make_them(table: pd.DataFrame):
    alone, together = found(table), found(table, pooling={"by": "brand", "effect": 2.0})
    assert of(together, ALL)["share_q95"] > 1.5 * of(alone, ALL)["share_q95"]
    unpooled = found(table, pooling={"by": "brand", "effect": None})
    assert of(unpooled, ALL)["share_q95"] == of(alone, ALL)["share_q95"]


def test_a_table_without_a_usable_unit_says_so(table: pd.DataFrame):
    check = found(table.head(5))
    assert check.statements == ("no unit of the table can be modelled",)
    assert len(check.table) == 0


def test_a_tiny_channel_is_not_expected_to_do_wonders():
    frame = pd.read_csv(shared_case("tiny_channel") / "input.csv")
    data = {"channels": CHANNELS, "controls": ["price"]}
    assert mf.prior(frame, data=data).warnings == ()  # pyright: ignore[reportArgumentType]
    effect = mf.prior(frame, data=data, prior={"on": "effect"})  # pyright: ignore[reportArgumentType]
    assert "social in Case / tiny" in effect.warnings[-1]


def test_twenty_channels_are_not_expected_to_bring_more_than_all():
    frame = pd.read_csv(shared_case("twenty_channels") / "input.csv")
    data = {"channels": [name for name in frame if str(name).startswith("c")]}
    row = mf.prior(frame, data=data).table.iloc[-1]  # pyright: ignore[reportArgumentType]
    assert 0.2 < row["share_q50"] < 0.5
    assert row["below_all"] > 0.99
