"""What platforms report: read as it is, kept with the run, and set beside what media brought, against brute force."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixfleet.analysis.tables.forecast import look_further
from mixfleet.config import Channel, Model
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.data.panel_parquet import panel_table, read_units
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError
from mixfleet.run import Run
from mixfleet.simulation import fleet as simulate
from mixfleet.simulation.truth import saturated_adstock
from tests.reporting.test_html import Page
from tests.support.saved_run import panel, saved_run

WINDOW = 5
PERIOD = ("2024-01-01", "2024-04-28")
FLEET = simulate.fleet(brands=1, markets=2, weeks=60, channels=2, controls=0, seed=5)
CLAIMED = "claims_tv"


def reporting() -> Panel:
    """Units in which tv always reports, search from the tenth week on and not each week, and newsletter never."""
    plain = panel()

    def with_reports(unit: Unit) -> Unit:
        rng = np.random.default_rng(len(unit.dates))
        reported = rng.gamma(3.0, 300.0, size=unit.media.shape)
        reported[:10, 1] = reported[14, 1] = np.nan
        reported[:, 2] = np.nan
        return replace(unit, reported=reported)

    return replace(plain, units=tuple(map(with_reports, plain.units)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs"), Model(window=WINDOW), of=reporting(), draws=8)


def brought(run: Run, unit: Unit) -> np.ndarray:
    """KPI by draw, week and channel, zero in weeks that do not count."""
    model, counted = run.fleet().spec.model, likelihood_weeks(unit, window=WINDOW, holdout=0)
    scale = measure(unit, counted)
    draws = {
        name: values.reshape(-1, *values.shape[2:]).astype(float)
        for name, values in run.unit(*unit.labels).draws().draws.items()
    }
    found = []
    for draw in range(len(draws["noise"])):
        own = {
            name: draws[name][draw] / scale.media ** MEDIA_POWERS.get(name, 0) for name in model.channel_parameters[:-1]
        }
        found.append(saturated_adstock(unit.media / scale.media, own, model) * draws["effect"][draw])
    return np.array(found) * counted[:, None]


@pytest.mark.parametrize("period", ["all", PERIOD])
@pytest.mark.parametrize("by", [None, "brand"])
def test_the_factor_is_what_came_over_what_was_reported(run: Run, period: object, by: str | None) -> None:
    table = run.insight.calibration(by=by, period=period)
    members = [unit for unit in run.fleet().units if unit.labels[0] == "acme" and (by or unit.labels[1] == "DE")]
    incremental, reported, kpi = 0.0, 0.0, 0.0
    for unit in members:
        inside = likelihood_weeks(unit, window=WINDOW, holdout=0)
        if period != "all":
            inside &= (unit.dates >= np.datetime64(PERIOD[0])) & (unit.dates <= np.datetime64(PERIOD[1]))
        assert unit.reported is not None
        known = np.isfinite(unit.reported) & inside[:, None]
        own = (brought(run, unit) * known).sum(axis=1)
        incremental += np.column_stack([own, own.sum(axis=1)])
        said = np.where(known, unit.reported, 0.0).sum(axis=0)
        reported += np.append(said, said.sum())
        kpi += np.append(known, known.any(axis=1, keepdims=True), axis=1).T.astype(float) @ np.nan_to_num(unit.kpi)  # pyright: ignore[reportCallIssue]
    here = table[(table.brand == "acme") & ((table.market == "DE") if by is None else True)]
    assert set(here.channel) == {"tv", "search", "all channels"}
    for place, name in ((0, "tv"), (1, "search"), (3, "all channels")):
        rows = here[here.channel == name].set_index("measure")
        factor = incremental[:, place] / reported[place]
        assert rows.loc["factor", "mean"] == pytest.approx(factor.mean(), rel=1e-6)
        assert rows.loc["factor", "sd"] == pytest.approx(factor.std(ddof=1), rel=1e-6)
        assert rows.loc["factor", "q05"] == pytest.approx(np.quantile(factor, 0.05), rel=1e-5)
        assert rows.loc["incremental", "mean"] == pytest.approx(incremental[:, place].mean(), rel=1e-6)
        assert rows.loc["incremental", "reported"] == pytest.approx(reported[place])
        assert rows.loc["incremental", "claimed"] == pytest.approx(reported[place] / kpi[place])


def test_more_than_there_was_is_claimed_twice(tmp_path: Path) -> None:
    loud = reporting()
    units = tuple(
        replace(unit, reported=np.where(unit.observed[:, None], 2 * unit.kpi[:, None], np.nan) * [1, 0.5, np.nan])
        for unit in loud.units
    )
    run = saved_run(tmp_path, Model(window=WINDOW), of=replace(loud, units=units))
    rows = run.insight.calibration(by=()).drop_duplicates("channel").set_index("channel")
    assert rows.loc["all channels", "claimed"] == pytest.approx(3.0)
    assert rows.loc["all channels", "double_claimed"] == pytest.approx(2 / 3)
    assert rows.loc["search", "double_claimed"] == 0
    assert rows.loc["all channels", "units"] == 3


def test_a_run_without_reports_says_how_to_have_them(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    with pytest.raises(ConfigError, match=r"data\.channels\.<name>\.reported"):
        run.insight.calibration()
    assert not {name for name in run.insight.everything() if name.startswith("calibration")}
    assert not {name for name in run.table("panel").column_names if name.startswith("reported:")}


def test_the_report_and_the_export_hold_them(run: Run, tmp_path: Path) -> None:
    tables = run.insight.everything()
    assert {"calibration", "calibration_by_brand", "calibration_total", "calibration_quarterly"} <= tables.keys()
    page = Page(run.report(tmp_path / "r.html").read_text("utf-8"))
    for piece in (json.loads(page.pieces["fleet"])["total"]["claims"], json.loads(page.pieces["unit-0"])["claims"]):
        assert [row[0] for row in piece] == ["tv", "search", "all channels"]
        assert piece[0][5][1] < piece[0][5][0] < piece[0][5][2]


def test_the_saved_table_and_the_forecast_carry_them() -> None:
    made = reporting()
    for unit, again in zip(made.units, read_units(panel_table(made), made.keys), strict=True):
        np.testing.assert_array_equal(again.reported, unit.reported)


def test_a_forecast_of_a_run_with_reports_goes_on(run: Run) -> None:
    future = look_further(run.fleet(), weeks=3)
    assert all(unit.reported is None for unit in future.fleet.units)
    assert len(run.insight.forecast(weeks=3))


def claiming() -> pd.DataFrame:
    frame = FLEET.table.to_pandas()
    frame[CLAIMED] = np.where(np.arange(len(frame)) % 3 == 0, np.nan, 7.0 + np.arange(len(frame)))
    return frame


def wide():
    first, second = FLEET.data.channels
    return replace(FLEET.data, channels=(replace(first, reported=CLAIMED), second))


def test_missing_reports_are_no_fault_and_change_nothing_else() -> None:
    frame = claiming()
    plain, found = read_panel(FLEET.table, FLEET.data), read_panel(frame, wide())
    assert not found.rejected
    assert len(found.findings) == len(plain.findings)
    for unit, before in zip(found.units, plain.units, strict=True):
        np.testing.assert_array_equal(unit.media, before.media)
        own = frame[(frame.brand == unit.labels[0]) & (frame.market == unit.labels[1])].sort_values("date")  # pyright: ignore[reportCallIssue]
        assert unit.reported is not None
        np.testing.assert_array_equal(unit.reported[:, 0], own[CLAIMED])
        assert np.isnan(unit.reported[:, 1]).all()
        assert before.reported is None


def test_a_long_table_has_a_column_of_reports() -> None:
    frame = claiming()
    kept = ["brand", "market", "date", "kpi", "kpi_scale"]
    said = [frame[CLAIMED], np.nan]
    pieces = [
        frame[kept].assign(channel=one.name, spend=frame[str(one.spend)], claims=claims)
        for one, claims in zip(FLEET.data.channels, said, strict=True)
    ]
    long = replace(FLEET.data, layout="long", reported_column="claims")
    for unit, other in zip(read_panel(pd.concat(pieces), long).units, read_panel(frame, wide()).units, strict=True):
        np.testing.assert_array_equal(unit.reported, other.reported)


@pytest.mark.parametrize(("cell", "reason"), [(-1.0, "negative"), ("lots", "not a number"), (np.inf, "infinite")])
def test_a_report_that_is_no_number_of_sales_is_refused(cell: object, reason: str) -> None:
    frame = claiming()
    frame[CLAIMED] = frame[CLAIMED].astype(object)
    frame.loc[1, CLAIMED] = cell
    found = read_panel(frame, wide())
    assert len(found.rejected) == 1
    assert reason in found.rejected[0].reason
    assert CLAIMED in found.rejected[0].reason


def test_a_channel_of_reports_alone_is_no_channel() -> None:
    with pytest.raises(ConfigError, match="needs a spend or an impressions column"):
        Channel(name="tv", reported="claims")
