"""What changed between two runs, and why: the link of what was changed carries the change."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from mixfleet import run
from mixfleet.analysis import comparison
from mixfleet.analysis.change_links import _on_scale, changes
from mixfleet.config import Model, Output, Prior, RunConfig, Spec
from mixfleet.data.panel import Panel, Unit, read_panel
from mixfleet.data.scaling import likelihood_weeks
from mixfleet.errors import ConfigError
from mixfleet.fitting.driver import fit_units
from mixfleet.fitting.runner import execute
from mixfleet.posterior import summarize
from mixfleet.posterior.counterfactual import weekly
from mixfleet.posterior.importance import effective_draws, pareto_smoothed
from mixfleet.posterior.log_densities import scaled_coefficients
from mixfleet.run import Run
from mixfleet.simulation import fleet as simulate
from tests.support import quick
from tests.support.saved_run import panel, saved_run
from tests.support.stub_engine import brands, engine, fleet, spec

pytestmark = pytest.mark.usefixtures("usual_broadcasts")
WEEKS, LATER = 96, 4
PLAIN = Model(saturation="logistic", observation="normal")


@pytest.fixture(scope="module")
def whole() -> Panel:
    made = simulate.fleet(
        brands=1, markets=2, weeks=WEEKS + LATER, channels=2, controls=1, seed=4, truth="fixed", model=PLAIN
    )
    return read_panel(made.table, made.data)


def cut(unit: Unit, weeks: int) -> Unit:
    names = ("dates", "kpi", "observed", "media", "spend", "controls", "value_per_kpi")
    return replace(unit, **{name: getattr(unit, name)[:weeks] for name in names})


def changed(panel: Panel, change: Callable[[Unit], Unit]) -> Panel:
    """The panel with its first unit changed."""
    return replace(panel, units=(change(panel.units[0]), *panel.units[1:]))


@pytest.fixture(scope="module", autouse=True)
def every_draw() -> Iterator[None]:
    """Tables and links of all draws: the Monte Carlo error of a thousand is a fifth of what one revised week moves."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (comparison, run, summarize):
            patch.setattr(module, "SUMMARY_DRAWS", 100_000)
        yield


@pytest.fixture(scope="module")
def settings(whole: Panel, tmp_path_factory: pytest.TempPathFactory) -> Spec:
    chosen = quick.settings(whole.data, max_draws=2000, ess_target=4000, ess_floor=400)
    return replace(
        chosen,
        model=PLAIN,
        prior=Prior(on="effect"),
        output=Output(draws="full"),
        run=RunConfig(root=str(tmp_path_factory.mktemp("runs")), id="base"),
    )


@pytest.fixture(scope="module")
def short(whole: Panel) -> Panel:
    return replace(whole, units=tuple(cut(unit, WEEKS) for unit in whole.units))


@pytest.fixture(scope="module")
def base(short: Panel, settings: Spec) -> Run:
    return execute(short, settings, fit_units)


def refitted(panel: Panel, settings: Spec, base: Run, name: str) -> Run:
    return execute(panel, replace(settings, run=replace(settings.run, id=name, base=str(base.path))), fit_units)


def revised(unit: Unit) -> Unit:
    kpi = unit.kpi.copy()
    kpi[60] *= 0.93
    return replace(unit, kpi=kpi)


@pytest.mark.parametrize("link", ["settings", "scale", "past", "new_weeks"])
def test_the_link_of_what_was_changed_carries_the_change(
    link: str, whole: Panel, short: Panel, settings: Spec, base: Run
) -> None:
    panel, chosen = short, settings
    if link == "settings":
        chosen = replace(
            settings, prior=Prior(on="effect", parameters={"rate": {"family": "gamma", "shape": 3, "rate": 1.5}})
        )
    elif link == "scale":
        # Priors are in shares of the scale.
        panel = changed(short, lambda unit: replace(unit, kpi_scale=float(unit.kpi.max()) / 2.2))
    elif link == "past":
        panel = changed(short, revised)
    else:
        panel = changed(short, lambda unit: whole.units[0])
    found = refitted(panel, chosen, base, link).compare(base)
    assert found.not_split == ""
    first = dict(zip(panel.keys, panel.units[0].labels, strict=True))
    roi = [row for row in found.roi.to_pylist() if all(row[key] == label for key, label in first.items())]
    links = found.links.to_pylist()
    moved = max(roi, key=lambda row: abs(row["in_sd"]))
    for row in found.roi.to_pylist():
        own = [one for one in links if all(one[name] == row[name] for name in (*panel.keys, "channel"))]
        assert sum(one["difference"] for one in own) == pytest.approx(row["difference"] if own else 0.0, abs=1e-9)
    own = {one["link"]: one for one in links if all(one[name] == moved[name] for name in (*panel.keys, "channel"))}
    # What the money is divided by changes with the weeks, as does what the media are.
    assert own[link]["difference"] / (moved["difference"] - own["spend"]["difference"]) > 0.8
    assert own[link]["reliable"]
    second = {row["change"] for row in found.units.to_pylist() if row["market"] != first["market"]}
    assert second == ({"fitted"} if link == "settings" else {"same"})


@pytest.mark.parametrize("scaling", ["max", "pymc_marketing", "meridian"])
def test_coefficients_are_told_as_the_model_has_them(
    scaling: Literal["max", "pymc_marketing", "meridian"], tmp_path: Path
) -> None:
    fleet = saved_run(tmp_path, Model(scaling=scaling), of=panel(), draws=100).fleet()
    series, scale = next(fleet.series()), fleet.scales[0]
    found = _on_scale(fleet, fleet.units[0], series, scale)
    # A series has its intercept where controls are at their references; the table where they are zero.
    kept = series.coefficients.copy()
    kept[0] -= scale.reference @ kept[len(kept) - len(scale.reference) :]
    expected = scaled_coefficients({"coefficients": kept.T}, scale)
    np.testing.assert_allclose(found, expected.T, rtol=1e-6, atol=1e-9)


def test_where_noise_lasts_a_revised_past_is_weighed_by_the_density_of_all_weeks(tmp_path: Path) -> None:
    made, model = panel(), Model()
    unit = made.units[0]
    revised = replace(unit, kpi=unit.kpi * np.where(np.arange(len(unit.kpi)) == 20, 1.01, 1.0))
    runs = {"was": made, "is": replace(made, units=(revised, *made.units[1:]))}
    before, after = (saved_run(tmp_path / name, model, of=of, draws=100).fleet() for name, of in runs.items())
    [found] = changes(before, after, frozenset({unit.labels}))
    series = next(before.series())
    places = np.flatnonzero(likelihood_weeks(unit, window=model.window, holdout=0))
    media = np.asarray(weekly(series.media, series.curves, term=before.term))
    expected = (series.design @ series.coefficients + media)[places]
    apart, (noise, correlation) = np.abs(places[:, None] - places), series.observation
    ratio = np.zeros(expected.shape[1])
    for draw in range(len(ratio)):
        given = stats.multivariate_normal(expected[:, draw], noise[draw] ** 2 * correlation[draw] ** apart)
        ratio[draw] = given.logpdf(revised.kpi[places]) - given.logpdf(unit.kpi[places])
    weight, shape = pareto_smoothed(ratio)
    assert found.links["past"].k == pytest.approx(shape, rel=1e-6)
    assert found.links["past"].ess == pytest.approx(effective_draws(weight), rel=1e-6)


def test_equal_runs_have_no_change(short: Panel, settings: Spec, base: Run) -> None:
    found = refitted(short, settings, base, "again").compare(base)
    assert found.alerts == ()
    assert set(found.units["change"].to_pylist()) == {"same"}
    assert np.all(found.roi["difference"].to_numpy() == 0.0)
    assert found.links.num_rows == 0


def test_units_that_come_go_and_lose_their_status_are_named(tmp_path: Path) -> None:
    before = execute(fleet(brands(8)), spec(tmp_path, "before", draws="summary"), engine())

    def worse(panel, spec, *, skip, on_event):
        for result in engine()(panel, spec, skip=skip, on_event=on_event):
            yield replace(result, status="quarantined") if result.labels[1] == "market1" and result.tables else result

    after = execute(fleet([*brands(8)[1:], ("new", "one")]), spec(tmp_path, "after", draws="summary"), worse)
    found = after.compare(before.path)
    changes = {(row["brand"], row["market"]): row["change"] for row in found.units.to_pylist()}
    assert changes["brand000", "market0"] == "went"
    assert changes["new", "one"] == "came"
    assert found.alerts[0].startswith("brand000 / market0: is gone")
    assert found.not_split == "a run kept no draws"
    with pytest.raises(ConfigError, match="must be above 0"):
        after.compare(before, threshold=0.0)
