"""Another media plan over past weeks, against brute force."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mixfleet.cli.main import app
from mixfleet.config import Model
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from mixfleet.simulation.truth import saturated_adstock
from tests.support.saved_run import panel, saved_run

WINDOW = 5
PERIOD = ("2024-01-01", "2024-03-31")
COST = np.array([0.01, 1.0, np.nan])
"""What a medium costs in each channel of the made-up panel."""


@pytest.fixture(scope="module", params=[Model(window=WINDOW), Model(window=WINDOW, adstock_first=False)], ids=str)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), request.param)


def plan(run: Run) -> pd.DataFrame:
    """Other spend in some weeks of tv and search in every unit."""
    rng = np.random.default_rng(0)
    rows = [
        {"brand": unit.labels[0], "market": unit.labels[1], "channel": name, "date": day, "spend": rng.gamma(2.0, size)}
        for unit in run.fleet().units
        for name, size in (("tv", 0.5), ("search", 40.0))
        for day in unit.dates[12:22:2]
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("period", ["all", PERIOD])
@pytest.mark.parametrize("by", [None, "brand"])
def test_the_change_is_that_of_two_pasts(run: Run, period: object, by: str | None) -> None:
    asked = plan(run)
    table = run.insight.counterfactual(asked, by=by, period=period)
    kpi = value = spent = 0.0
    for unit in run.fleet().units:
        if unit.labels[0] != "acme" or (by is None and unit.labels[1] != "DE"):
            continue
        own = asked[(asked.brand == unit.labels[0]) & (asked.market == unit.labels[1])]
        media, spend = unit.media.copy(), np.nan_to_num(unit.spend)
        for row in own.itertuples():
            week, channel = int(np.flatnonzero(unit.dates == np.datetime64(row.date, "D"))[0]), 0
            channel = ("tv", "search").index(row.channel)
            media[week, channel], spend[week, channel] = row.spend / COST[channel], row.spend
        counted = likelihood_weeks(unit, window=WINDOW, holdout=0)
        scale = measure(unit, counted)
        draws = run.unit(*unit.labels).draws().draws
        flat = {name: values.reshape(-1, *values.shape[2:]).astype(float) for name, values in draws.items()}
        inside = counted.copy()
        if period != "all":
            inside &= (unit.dates >= np.datetime64(PERIOD[0])) & (unit.dates <= np.datetime64(PERIOD[1]))
        changes = []
        for draw in range(len(flat["noise"])):
            model = run.fleet().spec.model
            curve = {
                name: flat[name][draw] / scale.media ** MEDIA_POWERS.get(name, 0)
                for name in model.channel_parameters[:-1]
            }
            then, now = (saturated_adstock(one / scale.media, curve, model) for one in (media, unit.media))
            changes.append((then - now) * flat["effect"][draw] * inside[:, None])
        kpi += np.sum(changes, axis=1)
        value += np.einsum("dtc,t->dc", changes, unit.value_per_kpi)
        spent += spend[inside].sum(axis=0)
    here = table[(table.brand == "acme") & ((table.market == "DE") if by is None else True)]
    for measure_name, change in (("kpi", kpi), ("value", value)):
        own = here[here.measure == measure_name].set_index("channel")
        for place, channel in ((0, "tv"), (1, "search"), (2, "newsletter")):
            assert own.loc[channel, "mean"] == pytest.approx(change[:, place].mean(), rel=1e-6, abs=1e-6)
            assert own.loc[channel, "q95"] == pytest.approx(np.quantile(change[:, place], 0.95), rel=1e-5, abs=1e-6)
            assert own.loc[channel, "spend_plan"] == pytest.approx(spent[place])
        total = change.sum(axis=1)
        assert own.loc["all channels", "sd"] == pytest.approx(total.std(ddof=1), rel=1e-6)


def test_nothing_at_all_is_what_the_channel_brought(run: Run) -> None:
    rows = [
        {"brand": unit.labels[0], "market": unit.labels[1], "channel": "search", "date": day, "spend": 0.0}
        for unit in run.fleet().units
        for day in unit.dates
    ]
    lost = run.insight.counterfactual(pd.DataFrame(rows), by=()).query("measure == 'kpi'").set_index("channel")
    brought = run.insight.contributions(by=()).set_index("component")
    assert lost.loc["search", "mean"] == pytest.approx(-brought.loc["search", "mean"], rel=1e-9)
    assert lost.loc["tv", "mean"] == 0
    assert lost.loc["search", "spend_plan"] == 0


def test_past_money_buys_at_the_price_of_its_week(tmp_path: Path) -> None:
    def dearer(unit: Unit) -> Unit:
        # Media cost three times as much at the end as in the beginning.
        price = np.stack([np.linspace(1, 3, len(unit.dates)), np.ones(len(unit.dates)), np.ones(len(unit.dates))])
        return replace(unit, spend=unit.spend * price.T)

    made = panel()
    # A concave curve, so that media twice bring less than they did once.
    run = saved_run(
        tmp_path, Model(window=WINDOW, saturation="logistic"), of=replace(made, units=tuple(map(dearer, made.units)))
    )
    [unit] = [unit for unit in run.fleet().units if unit.labels == ("acme", "DE")]
    weeks = np.flatnonzero(unit.spend[:, 0] > 0)
    rows = pd.DataFrame({"brand": "acme", "market": "DE", "channel": "tv", "date": unit.dates[weeks]})
    as_it_was = run.insight.counterfactual(rows.assign(spend=unit.spend[weeks, 0]))
    np.testing.assert_allclose(as_it_was["mean"], 0.0, atol=1e-9)
    # One early week without media: what the same media bring that were there is the change with the sign turned.
    one = rows.iloc[[0]]
    twice, none = (
        run.insight.counterfactual(one.assign(spend=factor * unit.spend[weeks[0], 0])).query("measure == 'kpi'")
        for factor in (2.0, 0.0)
    )
    brought, lost = (float(part.set_index("channel").loc["tv", "mean"].iloc[0]) for part in (twice, none))
    assert 0 < brought < -lost * 1.0001


def test_the_command_writes_the_table(run: Run, tmp_path: Path) -> None:
    plan(run).to_csv(tmp_path / "other.csv", index=False)
    given = ["counterfactual", str(run.path), "--plan", str(tmp_path / "other.csv"), "--by", "brand", "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(run.path / "counterfactual" / "counterfactual.csv")
    expected = run.insight.counterfactual(plan(run), by="brand")
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-6)
    missing = CliRunner().invoke(app, ["counterfactual", str(run.path), "--plan", str(tmp_path / "none.csv")])
    assert missing.exit_code == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"market": "IT"}, "is no unit of the run"),
        ({"channel": "fax"}, "is none of tv, search, newsletter"),
        ({"channel": "newsletter"}, "was never paid for"),
        ({"spend": -1.0}, "must be zero or more"),
        ({"date": "2031-01-06"}, "is no week of"),
        ({"date": "soon"}, "cannot be read"),
    ],
)
def test_a_plan_of_something_else_is_refused(run: Run, change: dict, message: str) -> None:
    asked = plan(run)
    asked = asked[(asked.brand == "acme") & (asked.market == "DE")]
    with pytest.raises(ConfigError, match=re.escape(message)):
        run.insight.counterfactual(asked.assign(**change))
    with pytest.raises(ConfigError, match="is there twice"):
        run.insight.counterfactual(pd.concat([asked, asked]))
