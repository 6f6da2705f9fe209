"""Law 1 for groups: a pooled unit's result is the same to the bit, whatever other groups are fitted with its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixfleet.config import Model, Pooling, Spec
from mixfleet.config.model import SATURATION_PARAMETERS
from mixfleet.data.panel import unit_id
from mixfleet.errors import ConfigError
from mixfleet.fitting import group_driver
from mixfleet.hierarchy import sampler
from mixfleet.hierarchy.sampler import FinishedGroup
from mixfleet.hierarchy.state import GibbsState
from tests.support.agreement import LOGISTIC
from tests.support.quick import Labels, digests, fit, only, ragged_fleet, settings, with_units

pytestmark = pytest.mark.usefixtures("programs")
FLEET = ragged_fleet()
CURVE = SATURATION_PARAMETERS[Model().saturation]


def pooled(**chosen: object) -> Spec:
    return replace(settings(FLEET.data), pooling=Pooling(**{"by": "brand", **chosen}))


@pytest.fixture(scope="module")
def together() -> dict[Labels, str]:
    return digests(FLEET, pooled())


def test_a_group_alone(together: dict[Labels, str]) -> None:
    assert len(set(together.values())) == 6
    mine = [unit for unit in FLEET.units if unit.labels[0] == "brand_002"]
    assert digests(with_units(FLEET, mine), pooled()) == only(together, mine)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_group_of_logistic_curves_and_independent_noise_alone() -> None:
    spec = replace(pooled(), model=LOGISTIC)
    mine = [unit for unit in FLEET.units if unit.labels[0] == "brand_002"]
    assert digests(with_units(FLEET, mine), spec) == only(digests(FLEET, spec), mine)


def test_in_another_order_with_more_threads(together: dict[Labels, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_driver, "workers_of", lambda devices, _: devices * 3)
    assert digests(with_units(FLEET, FLEET.units[::-1]), pooled()) == together


def test_a_resumed_group_gives_what_is_missing(together: dict[Labels, str]) -> None:
    done = frozenset(unit_id(unit.labels) for unit in FLEET.units[1:4])
    assert digests(FLEET, pooled(), skip=done) == only(together, [FLEET.units[0], *FLEET.units[4:]])


def test_company_in_the_group_matters(together: dict[Labels, str]) -> None:
    one = [FLEET.units[0]]
    assert digests(with_units(FLEET, one), pooled())[one[0].labels] != together[one[0].labels]


@pytest.mark.slow
@pytest.mark.nightly
def test_crossed_effects_and_unpooled_families_are_reported() -> None:
    results = fit(FLEET, pooled(by=("market", "brand"), adstock=None))
    for result in results.values():
        table = result.tables["pooling"]
        assert set(table["source"]) == {"unit", "market", "brand"}
        assert set(table["parameter"]) == {*CURVE, "effect", "trend", "seasonality", "control"}
        shares = np.asarray(table["share"]).reshape(-1, 3)
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-6)
        borrowed = np.asarray(table["borrowed"]).reshape(-1, 3)
        assert np.all((borrowed[:, 0] > 0) & (borrowed[:, 0] <= 1))
        assert np.all(np.isnan(borrowed[:, 1:]))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_family_has_effects_of_the_keys_that_it_is_given() -> None:
    results = fit(FLEET, pooled(by="crossed", keys={"adstock": ["brand"], "trend": []}))
    for result in results.values():
        table = result.tables["pooling"]
        sources = {
            name: set(np.asarray(table["source"])[np.asarray(table["parameter"]) == name])
            for name in table["parameter"]
        }
        assert sources["decay"] == {"unit", "brand"}
        assert sources["trend"] == {"unit"}
        assert sources["effect"] == sources["seasonality"] == {"unit", "brand", "market"}


@pytest.mark.slow
@pytest.mark.parametrize("by", [pytest.param("brand", marks=pytest.mark.nightly), "crossed"])
def test_the_baseline_alone_is_pooled(by: str) -> None:
    results = fit(FLEET, pooled(by=by, effect=None, adstock=None, saturation=None))
    for result in results.values():
        assert result.status in ("ok", "ok_warn", "quarantined")
        assert set(result.tables["pooling"]["parameter"]) == {"trend", "seasonality", "control"}


def test_a_group_that_does_not_fit_is_refused_before_it_is_sampled() -> None:
    spec = pooled()
    tiny = replace(spec, compute=replace(spec.compute, memory_limit_gib=1e-4))
    said = r"memory_limit_gib.*group brand_00. needs about .* GiB.*max_draws.*chains.*pooling.by"
    with pytest.raises(ConfigError, match=said):
        fit(FLEET, tiny)
    whole = replace(tiny, pooling=Pooling(by="crossed"))
    with pytest.raises(ConfigError, match="the group of all units needs about"):
        fit(FLEET, whole)


def test_the_estimate_of_a_groups_memory_holds_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[int, int] = {}
    usual = sampler.Record.add

    def weighed(self: Any, sweep: Any) -> None:
        usual(self, sweep)
        kept[id(self)] = self.nbytes

    monkeypatch.setattr(sampler.Record, "add", weighed)
    # Never enough, and with steps too small to diverge, so that all draws there may be are kept.
    never = replace(pooled().inference, ess_floor=10**6, ess_target=10**6, target_accept=0.95)
    spec = replace(pooled(), inference=never)
    found: list[FinishedGroup] = []
    mine = [unit for unit in FLEET.units if unit.labels[0] == "brand_002"]
    fit(with_units(FLEET, mine), spec, on_group=found.append)
    assert found[0].units[0].count == spec.inference.max_draws
    record = max(kept.values()) / 2**30
    assert record <= group_driver.group_memory_estimate(found[0].group.pool, spec) <= 4 * record


def test_a_unit_that_diverges_too_often_goes_on_with_smaller_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its group with the draws that it has, until few enough of all trajectories diverged."""
    usual, smaller = sampler.Record.add, sampler.with_smaller_steps
    changes: list[np.ndarray] = []

    def diverged(self: Any, sweep: Any) -> None:
        usual(self, sweep)
        self.divergences[:] = [5, 0]

    def followed(state: GibbsState, which: np.ndarray, factor: float) -> GibbsState:
        after = smaller(state, which, factor)
        assert not np.asarray(after.unit_stepping.adapting).any()
        changes.append(np.asarray(after.unit_stepping.log_step - state.unit_stepping.log_step))
        return after

    monkeypatch.setattr(sampler.Record, "add", diverged)
    monkeypatch.setattr(sampler, "with_smaller_steps", followed)
    spec = pooled()
    spec = replace(spec, inference=replace(spec.inference, max_draws=2048, ladder=True))
    found: list[FinishedGroup] = []
    fit(with_units(FLEET, [unit for unit in FLEET.units if unit.labels[0] == "brand_002"]), spec, on_group=found.append)
    first, second = found[0].units
    assert first.job.rung == second.job.rung == 0
    assert first.verdict.passed
    assert first.count * spec.inference.chains >= 5000
    np.testing.assert_allclose(changes[0][:2], [np.log(sampler.SMALLER), 0], rtol=1e-5)
    assert all(not np.any(later) for later in changes[1:])


@pytest.mark.slow
@pytest.mark.nightly
def test_channels_of_one_type_have_a_variance_of_their_own() -> None:
    results = fit(FLEET, pooled(by="crossed", types={"first": ["tv", "search"]}))
    for result in results.values():
        table = result.tables["pooling"]
        typed = np.asarray(table["source"]) == "type"
        assert set(np.asarray(table["channel"])[typed]) == {"tv", "search"}
        assert set(np.asarray(table["parameter"])[typed]) == {"decay", *CURVE, "effect"}
        assert np.all(np.isnan(np.asarray(table["borrowed"])[typed]))
        assert np.all(np.isfinite(np.asarray(table["rhat"])) & (np.asarray(table["ess_bulk"]) > 0))
        share = np.asarray(table["share"])
        for parameter, channel in {*zip(table["parameter"], table["channel"], strict=True)}:
            mine = (np.asarray(table["parameter"]) == parameter) & (np.asarray(table["channel"]) == channel)
            np.testing.assert_allclose(share[mine].sum(), 1.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_pooled_fleet_without_effects_is_sampled_in_contributions() -> None:
    results = fit(FLEET, pooled(effect=None, trend=None, seasonality=None, control=None))
    assert {result.status for result in results.values()} <= {"ok", "ok_warn", "quarantined"}
    assert set(results[FLEET.units[0].labels].tables["pooling"]["parameter"]) == {"decay", *CURVE}
