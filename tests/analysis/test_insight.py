"""Insight against brute force: every number recomputed draw by draw, in float64, from independent formulas."""

from pathlib import Path

import numpy as np
import pytest

from mixfleet.analysis.aggregate import totals
from mixfleet.analysis.periods import read_period
from mixfleet.config import Model, Output, RunConfig, Spec
from mixfleet.config.priors import ADSTOCK_PARAMETERS, SATURATION_PARAMETERS
from mixfleet.data.panel import Unit
from mixfleet.data.scaling import MEDIA_POWERS, likelihood_weeks, measure
from mixfleet.errors import ConfigError, RunError
from mixfleet.fitting.runner import execute
from mixfleet.models import baseline
from mixfleet.posterior.statistics import statistics
from mixfleet.run import Run
from mixfleet.run import open as open_run
from mixfleet.simulation.truth import saturated_adstock
from tests.support import stub_engine
from tests.support.saved_run import CHANNELS, panel, saved_run

WINDOW = 5
MIXED = Model(
    window=WINDOW,
    channels={
        CHANNELS[0]: {"adstock": "none", "saturation": "log"},
        CHANNELS[1]: {"saturation": "hill", "adstock_first": False, "window": 3},
    },
)
VARIANTS = [
    *(Model(window=WINDOW, adstock=name) for name in ADSTOCK_PARAMETERS),
    *(Model(window=WINDOW, saturation=name) for name in SATURATION_PARAMETERS),
    *(Model(window=WINDOW, saturation=name, adstock_first=False) for name in ("logistic", "hill", "root")),
    Model(window=WINDOW, adstock="weibull_pdf", saturation="hill", normalise=False),
    Model(window=WINDOW, adstock="binomial", saturation="tanh", normalise=False, adstock_first=False),
    MIXED,
]


def name(model: Model) -> str:
    if model.channels:
        return "mixed"
    order = "" if model.adstock_first else "-saturation_first"
    return f"{model.adstock}-{model.saturation}{order}{'' if model.normalise else '-raw'}"


class Brute:
    """One unit and one draw, recomputed."""

    def __init__(self, run: Run, unit: Unit, draw: int) -> None:
        self.model, self.unit = run.fleet().spec.model, unit
        self.scale = measure(unit, likelihood_weeks(unit, window=WINDOW, holdout=0))
        found = run.unit(*unit.labels).draws().draws
        flat = {key: values.reshape(-1, *values.shape[2:])[draw].astype(float) for key, values in found.items()}
        self.parameters = {
            key: flat[key] / self.scale.media ** MEDIA_POWERS.get(key, 0) for key in self.model.channel_parameters[:-1]
        }
        self.effect, self.coefficients = flat["effect"], flat["coefficients"]
        self.counted = likelihood_weeks(unit, window=WINDOW, holdout=0)

    def contribution(self, media: np.ndarray) -> np.ndarray:
        return saturated_adstock(media / self.scale.media, self.parameters, self.model, CHANNELS) * self.effect

    def lost(self, inside: np.ndarray, *, share: float = 1.0) -> np.ndarray:
        """KPI by week and channel that goes with `share` of the media of some weeks."""
        media = self.unit.media
        return self.contribution(media) - self.contribution(media * (1 - share * inside[:, None]))


@pytest.fixture(params=VARIANTS, ids=name)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return saved_run(tmp_path, request.param)


@pytest.mark.parametrize("period", ["all", ("2023-12-20", "2024-02-11")])
def test_every_number_is_that_of_a_counterfactual(run: Run, period: object) -> None:
    fleet = run.fleet()
    windows = read_period(period, [unit.dates for unit in fleet.units])
    for unit, account in zip(fleet.units, totals(fleet, windows), strict=True):
        index = windows.index(unit.dates)
        for draw in (0, fleet.draws - 1):
            brute = Brute(run, unit, draw)
            counted, value = brute.counted[:, None], unit.value_per_kpi[:, None]
            every = brute.contribution(unit.media) * counted
            for w in np.unique(index[index >= 0]):
                inside = index == w
                lost = brute.lost(inside) * counted
                step = 1e-5
                slope = (brute.lost(inside, share=step) - brute.lost(inside, share=-step)) / (2 * step) * counted
                paid = np.array([1.0, 1.0, 0.0])
                expected = {
                    "contribution": every[inside].sum(axis=0),
                    "incremental": lost.sum(axis=0) * paid,
                    "returned": (lost * value).sum(axis=0) * paid,
                    "marginal": slope.sum(axis=0) * paid,
                    "marginal_returned": (slope * value).sum(axis=0) * paid,
                    "carry_in": (every - lost)[inside].sum(axis=0),
                    "carry_out": lost[~inside].sum(axis=0),
                }
                for key, number in expected.items():
                    found = getattr(account, key)[w, : len(CHANNELS), draw]
                    # Sums over weeks, some of which are differences: to 1e-6 of what the channel brought at all.
                    size = np.abs(every * np.maximum(value, 1)).sum(axis=0)
                    np.testing.assert_allclose(found / size, number / size, atol=1e-6, rtol=1e-6, err_msg=key)
                known = inside & brute.counted
                np.testing.assert_allclose(account.spend[w, :2], unit.spend[known, :2].sum(axis=0), rtol=1e-12)


def test_the_terms_of_the_baseline_add_up_to_the_linear_block(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    fleet = run.fleet()
    windows = read_period("month", [unit.dates for unit in fleet.units])
    for unit, account in zip(fleet.units, totals(fleet, windows, returns=False), strict=True):
        brute = Brute(run, unit, 3)
        design = baseline.design(unit.dates, unit.controls, model=brute.model, fitted_weeks=len(unit.dates))
        linear = np.where(brute.counted, design @ brute.coefficients, 0.0)
        index = windows.index(unit.dates)
        for w in np.unique(index):
            np.testing.assert_allclose(account.contribution[w, 3:, 3].sum(), linear[index == w].sum(), rtol=1e-6)
    assert baseline.components(fleet.spec.model, fleet.spec.data) == ("baseline", "trend", "seasonality", "price")


def test_sums_over_units_are_the_units_sums_draw_by_draw(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    fleet, insight = run.fleet(), run.insight
    windows = read_period("quarter", [unit.dates for unit in fleet.units])
    units = dict(zip([unit.labels for unit in fleet.units], totals(fleet, windows), strict=True))
    for by, members in (
        ((), [("acme", "DE"), ("acme", "FR"), ("bolt", "DE")]),
        (("brand",), [("acme", "DE"), ("acme", "FR")]),
    ):
        total = sum(units[labels].returned for labels in members)
        spend = sum(units[labels].spend for labels in members)[..., None]
        table = insight.roi(by=by, period="quarter")
        own = table[table.brand == "acme"] if by else table
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = statistics(total / spend)
        for column, numbers in expected.items():
            np.testing.assert_array_equal(own[column], numbers[spend[..., 0] > 0])


def test_totals_say_what_they_leave_out(tmp_path: Path) -> None:
    insight = saved_run(tmp_path, Model(window=WINDOW)).insight
    total = insight.contributions(by=())
    assert set(total.units) == {3}
    assert set(total.excluded) == {3}
    assert set(total.excluded_units) == {"bolt / FR; core / DE; core / FR"}
    brands = insight.contributions(by="brand").drop_duplicates("brand").set_index("brand")
    assert brands.units.to_dict() == {"acme": 2, "bolt": 1}
    left = insight.left_out()
    assert dict(zip(zip(left.brand, left.market, strict=True), left.status, strict=True)) == {
        ("bolt", "FR"): "quarantined",
        ("core", "DE"): "rejected",
        ("core", "FR"): "misfit",
    }


def test_totals_hold_what_the_reader_asks_for(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    more = open_run(run.path, include=("misfit",)).insight
    total = more.contributions(by=())
    assert set(total.units) == {4}
    assert set(total.excluded_units) == {"bolt / FR; core / DE"}
    assert set(total.included_statuses) == {"misfit; ok; ok_retried; ok_warn"}
    fewer = open_run(run.path, exclude=("ok_warn",))
    assert set(fewer.insight.contributions(by=()).units) == {2}
    assert "acme / FR" in fewer.budget(weeks=6).totals["excluded_units"]
    for asked in ({"include": ("quarantined",)}, {"exclude": ("misfit",)}):
        with pytest.raises(ConfigError, match="must be of"):
            open_run(run.path, **asked)


def test_quarantined_units_are_seen_as_such(tmp_path: Path) -> None:
    table = saved_run(tmp_path, Model(window=WINDOW)).insight.roi()
    assert set(table[(table.brand == "bolt") & (table.market == "FR")].status) == {"quarantined"}


def test_draws_of_one_index_belong_together(tmp_path: Path) -> None:
    """Units sampled jointly keep their joint draws, whatever the number that is looked at."""
    run = saved_run(tmp_path, Model(window=WINDOW), draws=40)
    fleet = run.fleet(draws=10)
    for unit, series in zip(fleet.units, fleet.series(), strict=True):
        every = run.unit(*unit.labels).draws().draws["noise"].reshape(-1)
        np.testing.assert_array_equal(series.observation[0], every[(np.arange(10) * 80) // 10])


def test_the_waterfall_closes(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    table = run.insight.waterfall(("2024-01-01", "2024-02-25"), ("2024-03-04", "2024-04-28"), by=None)
    for _, own in table.groupby(["brand", "market"]):
        assert own["mean"].sum() == pytest.approx(own.kpi_change.iloc[0])
    back = run.insight.waterfall(("2024-03-04", "2024-04-28"), ("2024-01-01", "2024-02-25"), by=None)
    np.testing.assert_allclose(back["mean"], -table["mean"])


def test_windows_of_different_lengths_are_compared_by_week(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=WINDOW))
    short, long = ("2023-11-06", "2023-12-17"), ("2024-02-12", "2024-04-28")
    rows = run.insight.waterfall(short, long, by=None)
    own = rows[(rows.brand == "acme") & (rows.market == "DE")].set_index("component")
    assert set(own.weeks_before) == {6}
    assert set(own.weeks_after) == {11}
    assert set(own.per) == {"week"}
    parts = [run.insight.contributions(period=window) for window in (short, long)]
    before, after = (part[(part.brand == "acme") & (part.market == "DE")].set_index("component") for part in parts)
    assert (before.weeks == 6).all()
    expected = after["mean"] / 11 - before["mean"] / 6
    np.testing.assert_allclose(own["mean"].drop("unexplained"), expected, atol=1e-9)
    assert own["mean"].sum() == pytest.approx(own.kpi_change.iloc[0])
    same = run.insight.waterfall(("2024-02-12", "2024-03-10"), ("2024-03-11", "2024-04-07"))
    assert set(same.per) == {"window"}


def test_shapes_are_those_of_the_curves(tmp_path: Path) -> None:
    run = saved_run(tmp_path, Model(window=30, saturation="michaelis_menten"), of=panel(weeks=60), draws=1, chains=2)
    shapes = run.insight.shapes().set_index(["brand", "market", "channel", "measure"])["mean"]
    own = run.unit("acme", "DE").draws().draws
    decay = own["decay"].reshape(-1, 3)[:, 1]
    whole = np.floor(np.log(0.5) / np.log(decay))
    assert whole.min() <= shapes["acme", "DE", "search", "half_life"] <= whole.max() + 1
    assert shapes["acme", "DE", "search", "mean_lag"] == pytest.approx(np.mean(decay / (1 - decay)), rel=1e-2)
    assert shapes["acme", "DE", "search", "half_saturation"] == pytest.approx(own["half_saturation"][..., 1].mean())
    half = shapes["acme", "DE", "tv", "half_saturation"]
    assert half == pytest.approx(own["half_saturation"][..., 0].mean() * 0.01, rel=1e-6)


def test_curves_mark_what_was_seen(tmp_path: Path) -> None:
    table = saved_run(tmp_path, Model(window=WINDOW)).insight.curves(points=7)
    own = table[(table.brand == "acme") & (table.market == "DE") & (table.channel == "search")]
    unit = next(unit for unit in panel().units if unit.labels == ("acme", "DE"))
    assert own[own.seen].spend.max() == pytest.approx(unit.spend[:, 1].max())
    assert own.usual.iloc[0] == pytest.approx(unit.spend[unit.spend[:, 1] > 0, 1].mean())


def test_overlap_names_channels_that_stand_in_for_each_other(tmp_path: Path) -> None:
    table = saved_run(tmp_path, Model(window=WINDOW), draws=200).insight.overlap()
    assert set(table.statement) == {"told apart"}
    assert (table.vif < 2).all()


def test_a_wrong_question_is_refused(tmp_path: Path) -> None:
    insight = saved_run(tmp_path, Model(window=WINDOW)).insight
    with pytest.raises(ConfigError, match="no key column"):
        insight.roi(by="region")
    with pytest.raises(ConfigError, match="must be one of all, year"):
        insight.roi(period="decade")
    with pytest.raises(ConfigError, match="must not overlap"):
        insight.roi(period=[("2024-01-01", "2024-03-01"), ("2024-02-01", "2024-04-01")])


def test_a_run_without_draws_says_so(tmp_path: Path) -> None:
    spec = Spec(run=RunConfig(root=str(tmp_path), id="r"), output=Output(draws="summary"))
    run = execute(stub_engine.fleet(stub_engine.brands(4)), spec, stub_engine.engine())
    with pytest.raises(RunError, match=r"output\.draws=thin"):
        _ = run.insight
