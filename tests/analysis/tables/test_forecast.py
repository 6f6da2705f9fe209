"""Forecasts of made-up runs against brute force, draw by draw."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mixfleet.config import Model
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.models import baseline
from mixfleet.run import Run
from mixfleet.simulation.truth import saturated_adstock
from mixfleet.storage.table_files import write_tables
from tests.support.saved_run import panel, saved_run

WEEKS = 6
MODEL = Model(window=5, saturation="hill", adstock="delayed")
UNIT = ("acme", "DE")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), MODEL, draws=40)


def frame(run: Run, **columns: object) -> pd.DataFrame:
    """Rows for each unit and coming week."""
    rows = [
        {"brand": unit.labels[0], "market": unit.labels[1], "date": unit.dates[-1] + 7 * week, **columns}
        for unit in run.fleet().units
        for week in range(1, WEEKS + 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def plan(run: Run) -> pd.DataFrame:
    table = pd.concat([frame(run, channel="tv"), frame(run, channel="search")], ignore_index=True)
    return table.assign(spend=np.random.default_rng(0).gamma(2.0, 1.0, len(table)))


@pytest.fixture(scope="module")
def controls(run: Run) -> pd.DataFrame:
    table = frame(run)
    return table.assign(price=np.random.default_rng(1).gamma(4.0, 2.0, len(table)))


def own(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table.brand == UNIT[0]) & (table.market == UNIT[1])]


def test_a_forecast_is_the_model_some_weeks_further(run: Run, plan: pd.DataFrame, controls: pd.DataFrame) -> None:
    unit = next(unit for unit in run.fleet().units if unit.labels == UNIT)
    scale = measure(unit, likelihood_weeks(unit, window=5, holdout=0))
    past = len(unit.dates)
    ahead = own(plan).pivot(index="date", columns="channel", values="spend")[["tv", "search"]].to_numpy()
    cost = np.array([0.01, 1.0])
    organic = unit.media[unit.observed][-52:, 2].mean()
    media = np.vstack([unit.media, np.column_stack([ahead / cost, np.full(WEEKS, organic)])])
    linear = np.vstack([unit.controls, own(controls)[["price"]].to_numpy()])
    dates = np.concatenate([unit.dates, unit.dates[-1] + 7 * np.arange(1, WEEKS + 1)])
    design = baseline.design(dates, linear, model=MODEL, fitted_weeks=past)[past:]
    draws = run.unit(*UNIT).draws().draws
    flat = {name: values.reshape(-1, *values.shape[2:]).astype(float) for name, values in draws.items()}
    found = []
    for draw in range(len(flat["noise"])):
        parameters = {
            name: flat[name][draw] / scale.media ** MEDIA_POWERS.get(name, 0) for name in MODEL.channel_parameters[:-1]
        }
        parts = saturated_adstock(media / scale.media, parameters, MODEL)[past:] * flat["effect"][draw]
        found.append([*parts.sum(axis=0), design.sum(axis=0) @ flat["coefficients"][draw]])
    means = np.mean(found, axis=0)
    table = own(run.insight.forecast(plan, controls=controls)).set_index("component")
    np.testing.assert_allclose(table.loc[["tv", "search", "newsletter"], "mean"], means[:3], rtol=1e-5)
    assert table.loc["expected", "mean"] == pytest.approx(means.sum(), rel=1e-5)
    assert table.loc["expected", "q05"] == pytest.approx(np.quantile(np.sum(found, axis=1), 0.05), rel=1e-4)
    assert table.loc["tv", "spend"] == pytest.approx(ahead[:, 0].sum())
    assert set(table.weeks) == {WEEKS}
    assert set(table.held) == {"newsletter"}


def test_controls_that_nobody_gives_stay_at_their_mean(run: Run, controls: pd.DataFrame) -> None:
    table = own(run.insight.forecast(weeks=WEEKS))
    assert set(table.held) == {"price; newsletter"}
    unit = next(unit for unit in run.fleet().units if unit.labels == UNIT)
    mean = unit.controls[likelihood_weeks(unit, window=5, holdout=0)].mean()
    again = own(run.insight.forecast(weeks=WEEKS, controls=controls.assign(price=mean)))
    several = run.insight.forecast(weeks=WEEKS, controls=controls.iloc[:3])
    assert set(again.held) == {"newsletter"}
    np.testing.assert_allclose(again["mean"], table["mean"], rtol=1e-9, atol=1e-6)
    assert set(several.held) == {"price; newsletter"}


def test_what_goes_where_nothing_was_seen_is_named(run: Run, plan: pd.DataFrame, controls: pd.DataFrame) -> None:
    assert set(run.insight.forecast(plan, controls=controls).beyond) == {""}
    dear = controls.assign(price=np.where(controls.market == UNIT[1], 1e7, 8.0))
    (words,) = set(run.insight.forecast(plan.assign(spend=plan.spend * 200), controls=dear).beyond)
    assert re.search(r"price: nothing was learnt about it \(\d units?\)", words)
    assert "tv: " in words
    assert "search: " in words


def test_what_the_plan_has_no_row_of_is_named(run: Run, plan: pd.DataFrame) -> None:
    assert set(run.insight.forecast(plan).unplanned) == {""}
    assert set(run.insight.forecast(weeks=WEEKS).unplanned) == {""}
    assert set(run.insight.forecast(plan.assign(spend=0.0)).unplanned) == {""}
    units = len(run.fleet().units)
    some = plan[(plan.channel == "search") & (plan.market == UNIT[1])]
    others = units - some.groupby(["brand", "market"]).ngroups
    assert set(run.insight.forecast(some).unplanned) == {f"tv ({units} units); search ({others} units)"}
    (words,) = set(run.insight.forecast(plan, weeks=WEEKS + 3).unplanned)
    assert words == f"3 of {WEEKS + 3} periods"


def test_without_a_plan_the_past_still_carries_over(run: Run) -> None:
    table = own(run.insight.forecast(weeks=WEEKS, period="week")).set_index(["component", "period"])["mean"]
    tv = table["tv"].to_numpy()
    assert tv[0] > 0
    # The window of five weeks reaches four weeks further.
    np.testing.assert_allclose(tv[4:], 0.0, atol=1e-9)


def test_weeks_add_up_and_so_do_units(run: Run, plan: pd.DataFrame) -> None:
    whole = run.insight.forecast(plan, by=()).set_index("component")["mean"]
    weeks = run.insight.forecast(plan, by=(), period="week").groupby("component")["mean"].sum()
    units = run.insight.forecast(plan)
    certified = units[units.status.str.startswith("ok")].groupby("component")["mean"].sum()
    for other in (weeks, certified):
        np.testing.assert_allclose(other[whole.index], whole, rtol=1e-9)
    assert set(run.insight.forecast(plan, by=()).excluded) == {np.sum(~run.fleet().included) + 1}


def test_the_kpi_has_the_noise_of_its_weeks(run: Run) -> None:
    table = own(run.insight.forecast(weeks=WEEKS)).set_index("component")
    noise = run.unit(*UNIT).draws().draws["noise"]
    expected = np.sqrt(table.loc["expected", "sd"] ** 2 + WEEKS * np.mean(noise.astype(float) ** 2))
    assert table.loc["kpi", "sd"] == pytest.approx(expected, rel=0.3)
    again = own(run.insight.forecast(weeks=WEEKS)).set_index("component")
    assert again.loc["kpi", "q95"] == table.loc["kpi", "q95"]


def test_a_budget_plan_is_a_plan(run: Run, tmp_path: Path) -> None:
    table = run.budget(weeks=WEEKS, change=0.2).by_week()
    own(run.insight.forecast(table))
    table.to_csv(tmp_path / "plan.csv", index=False)
    pd.testing.assert_frame_equal(run.insight.forecast(str(tmp_path / "plan.csv")), run.insight.forecast(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"brand": "nobody"}, "nobody / DE is no unit of the run"),
        ({"channel": "radio"}, "is none of tv, search, newsletter"),
        ({"channel": "newsletter"}, "was never paid for"),
        ({"spend": -1.0}, "must be zero or more"),
        ({"date": "2020-01-06"}, "is no week after"),
        ({"date": "soon"}, "row 1, column date: 'soon' cannot be read as a date: write dates as"),
        ({"spend": "1 500,5 EUR"}, "row 1, column spend: '1 500,5 EUR' cannot be read as a number: write plain"),
        ({"spend": None}, "must be zero or more, is nan"),
    ],
)
def test_a_table_of_something_else_is_refused(run: Run, plan: pd.DataFrame, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        run.insight.forecast(own(plan).assign(**change))
    with pytest.raises(ConfigError, match="reach to the end of the plan"):
        run.insight.forecast(plan, weeks=WEEKS - 1)


def test_rows_that_stand_twice_are_refused(run: Run, plan: pd.DataFrame, controls: pd.DataFrame) -> None:
    message = rf"row {len(plan) + 1}: tv of acme / DE is there twice in one week: add the rows up"
    with pytest.raises(ConfigError, match=message):
        run.insight.forecast(pd.concat([plan, plan]))
    with pytest.raises(ConfigError, match=rf"row {len(controls) + 1}: a week of acme / DE is there twice: drop one"):
        run.insight.forecast(controls=pd.concat([controls, controls]), weeks=WEEKS)


def test_an_infinite_control_is_not_one_that_nobody_gave(run: Run, controls: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="row 2, column price: inf is infinite: correct the cell"):
        run.insight.forecast(controls=controls.assign(price=[1.0, np.inf, *controls.price[2:]]), weeks=WEEKS)


@pytest.mark.parametrize("written", ["{:%Y-%m-%d} 00:00:00", "{:%Y-%m-%d}T00:00:00Z", "{:%d.%m.%Y}"])
def test_dates_are_read_as_those_of_the_table(run: Run, plan: pd.DataFrame, tmp_path: Path, written: str) -> None:
    dates = [written.format(day) for day in plan.date]
    plan.assign(date=dates).to_csv(tmp_path / "plan.csv", index=False)
    expected = run.insight.forecast(plan)
    pd.testing.assert_frame_equal(run.insight.forecast(str(tmp_path / "plan.csv")), expected)


def test_a_decimal_comma_is_read_as_in_the_table(run: Run, plan: pd.DataFrame, tmp_path: Path) -> None:
    rounded = plan.assign(spend=plan.spend.round(2))
    rounded.to_csv(tmp_path / "plan.csv", index=False, sep=";", decimal=",")
    pd.testing.assert_frame_equal(run.insight.forecast(str(tmp_path / "plan.csv")), run.insight.forecast(rounded))


@pytest.mark.parametrize("own_form", [True, False])
def test_a_plan_of_ours_is_read_whatever_the_fleets_table_is_like(tmp_path: Path, own_form: bool) -> None:
    made = panel()
    data = replace(made.data, decimal="comma", encoding="cp1252", date_format="DD/MM/YYYY")
    units = tuple(
        replace(unit, labels=("Süd", unit.labels[1])) if unit.labels[0] == "acme" else unit for unit in made.units
    )
    units = tuple(sorted(units, key=lambda unit: unit.labels))
    run = saved_run(tmp_path, MODEL, of=replace(made, data=data, units=units))
    plan = run.budget(weeks=4)
    plan.save(run.path / "budget")
    expected, path = run.insight.forecast(plan.by_week()), run.path / "budget" / "plan_by_week.csv"
    if not own_form:
        # As Excel saves it again.
        table, path = pd.read_csv(path), tmp_path / "excel.csv"
        table["date"] = pd.to_datetime(table["date"]).dt.strftime("%d/%m/%Y")
        table.to_csv(path, index=False, sep=";", decimal=",", encoding="cp1252")
    pd.testing.assert_frame_equal(run.insight.forecast(str(path)), expected)


def test_a_date_off_the_weekday_says_so(run: Run, plan: pd.DataFrame) -> None:
    unit = next(unit for unit in run.fleet().units if unit.labels == UNIT)
    wrong = own(plan).assign(date=unit.dates[-1] + 13)
    message = (
        f"row 1, column date: .* its weeks begin on Mondays, such as {unit.dates[-1] + 7} and {unit.dates[-1] + 14}"
    )
    with pytest.raises(ConfigError, match=message):
        run.insight.forecast(wrong)


@pytest.mark.parametrize("brand", ["@Home", "+Plus", "=2+5", "-", "'=2+5"])
def test_what_a_plan_wrote_is_what_a_forecast_reads(tmp_path: Path, brand: str) -> None:
    made = panel()
    units = tuple(
        replace(unit, labels=(brand, unit.labels[1])) if unit.labels[0] == "acme" else unit for unit in made.units
    )
    made = replace(made, units=tuple(sorted(units, key=lambda unit: unit.labels)))
    run = saved_run(tmp_path / "runs", MODEL, of=made)
    plan = run.budget(weeks=WEEKS)
    plan.save(tmp_path / "plan")
    found = run.insight.forecast(str(tmp_path / "plan" / "plan_by_week.csv"))
    pd.testing.assert_frame_equal(found, run.insight.forecast(plan.by_week()))
    past = plan.by_week()
    past = past[(past.brand == brand) & (past.market == "DE")].assign(
        date=next(unit for unit in run.fleet().units if unit.labels == (brand, "DE")).dates[20]
    )
    past = past.drop_duplicates(["channel"])
    write_tables({"past": pa.Table.from_pandas(past, preserve_index=False)}, tmp_path / "past", "csv")
    other = run.insight.counterfactual(str(tmp_path / "past" / "past.csv"))
    pd.testing.assert_frame_equal(other, run.insight.counterfactual(past))


def test_a_budget_plan_is_forecast_in_its_own_weeks(run: Run) -> None:
    plan = run.budget(weeks=WEEKS).by_week()
    assert len({unit.dates[-1] for unit in run.fleet().units}) == 2
    table = run.insight.forecast(plan)
    assert set(table.weeks) == {WEEKS}
    expected = plan[plan.channel == "tv"].groupby(["brand", "market"]).spend.sum()
    found = table[table.component == "tv"].set_index(["brand", "market"]).spend
    np.testing.assert_allclose(found, expected.reindex(found.index))
