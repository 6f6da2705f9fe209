"""Pooled columns mean the same in every unit, and the units' linear block is still the one that it was."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Model, Pooling, Spec
from mixfleet.data.panel import Panel, read_panel
from mixfleet.errors import ConfigError
from mixfleet.hierarchy import shared_baseline
from mixfleet.hierarchy.groups import Prepared, groups_of, prepared
from mixfleet.models.baseline import column_kinds, column_names
from mixfleet.models.gaps import gap_arrays
from mixfleet.simulation import fleet as simulate


def ragged(observation: str = "normal", **pooling: object) -> tuple[Prepared, Panel, Spec]:
    fleet = simulate.fleet(brands=1, markets=3, weeks=80, channels=2, controls=1, ragged=True)
    spec = Spec(data=fleet.data, model=Model(observation=observation), pooling=Pooling(**{"by": "brand", **pooling}))
    panel = read_panel(fleet.table, fleet.data, seasonality=spec.model.seasonality, window=spec.model.window)
    ((label, units),) = groups_of(panel, spec)
    return prepared(label, units, panel, spec), panel, spec


def test_shared_columns_are_measured_in_the_groups_units() -> None:
    group, _, spec = ragged()
    kinds = column_kinds(spec.model, spec.data)
    starts = [member.unit.dates[0] for member in group.members]
    ends = [member.unit.dates[-1] for member in group.members]
    assert len(set(starts)) + len(set(ends)) > 2
    trend, control = group.shared.parameters.index("trend"), group.shared.parameters.index("control")
    spread = np.sqrt(np.mean([member.unit.controls.var(axis=0) for member in group.members]))
    for member, loading in zip(group.members, group.shared.loadings, strict=True):
        calendar = (member.unit.dates - min(starts)) / (max(ends) - min(starts)) - 0.5
        np.testing.assert_allclose(member.design @ loading[:, trend], calendar, atol=1e-12)
        index = (member.unit.controls[:, 0] - member.unit.controls.mean()) / spread
        np.testing.assert_allclose(member.design @ loading[:, control], index, atol=1e-12)
        season = kinds.index("seasonality")
        np.testing.assert_allclose(member.design @ loading[:, 1], member.design[:, season], atol=1e-12)


def test_a_control_that_is_constant_somewhere_does_not_set_the_groups_unit() -> None:
    fleet = simulate.fleet(brands=1, markets=3, weeks=80, channels=2, controls=1)
    spec = Spec(data=fleet.data, pooling=Pooling(by="brand"))
    table = fleet.table.to_pandas()
    table["control_1"] *= 1e-3
    table.loc[table["market"] == "market_002", "control_1"] = 0.1
    panel = read_panel(table, fleet.data, seasonality=spec.model.seasonality, window=spec.model.window)
    ((label, units),) = groups_of(panel, spec)
    group = prepared(label, units, panel, spec)
    row, place = group.shared.parameters.index("control"), column_kinds(spec.model, spec.data).index("control")
    own = [loading[place, row] for loading in group.shared.loadings]
    spread = [unit.controls.std() for unit in units]
    usual = np.sqrt((spread[0] ** 2 + spread[2] ** 2) / 2)
    np.testing.assert_allclose(own, [spread[0] / usual, 1 / usual, spread[2] / usual], rtol=1e-9)
    assert np.max(np.abs(group.columns.design[1, :, row])) < 1e-9


@pytest.mark.parametrize("observation", ["normal", "ar1"])
@pytest.mark.parametrize("pooling", [{}, {"trend": None, "control": None}, {"intercept": 0.5}])
def test_what_is_left_and_what_is_shared_span_the_linear_block(
    pooling: dict[str, float | None], observation: str
) -> None:
    group, _, spec = ragged(observation, **pooling)
    shared = len(group.shared.places)
    assert group.pool.structure.shared == shared
    names = column_names(spec.model, spec.data)
    assert group.shared.names == tuple(names[k] for k in group.shared.places)
    for i, (member, alone) in enumerate(zip(group.members, group.alone, strict=True)):
        weeks = len(member.design)
        basis, variance = member.arrays["basis"][:weeks], member.arrays["variance"]
        if observation == "ar1":
            np.testing.assert_allclose(basis[:, -shared:], group.columns.design[i, :weeks], atol=1e-6)
            told = gap_arrays(member.fitted, basis)["gap_gram"]
            np.testing.assert_array_equal(member.arrays["gap_gram"], told)
        else:
            np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-9)
        assert np.all(variance[-shared:] == 0)
        own = basis[:, :-shared] * variance[:-shared] @ basis[:, :-shared].T
        rest = [k for k in range(basis.shape[1]) if k not in group.shared.places]
        seen = member.design * member.fitted[:, None]
        sd = np.array(
            [spec.prior.distribution(column_kinds(spec.model, spec.data)[k], unit={}).values[1] for k in rest]
        )
        np.testing.assert_allclose(own, (seen[:, rest] * sd**2) @ seen[:, rest].T, atol=1e-9)
        columns = group.columns.design[i, :weeks]
        np.testing.assert_allclose(basis @ group.columns.along[..., i], columns, atol=1e-5)
        # Coefficients along the basis, those of shared columns last, are coefficients of the unit's own columns.
        random = np.random.default_rng(i)
        along, values = random.normal(size=len(rest)), random.normal(size=shared)
        linear = seen @ (member.loading @ np.concatenate([along, values]))
        expected = basis[:, : len(rest)] @ (np.sqrt(variance[: len(rest)]) * along) + columns @ values
        np.testing.assert_allclose(linear, expected, atol=1e-5)
        assert member.prior_mean[list(group.shared.places)].sum() == 0
        taken = seen[:, list(group.shared.places)] @ alone.prior_mean[list(group.shared.places)]
        np.testing.assert_allclose(member.arrays["kpi"][:weeks], alone.arrays["kpi"][:weeks] + taken, atol=1e-12)


def test_a_pooled_columns_prior_is_the_groups() -> None:
    _, panel, spec = ragged()
    override = {"parameter": "trend", "unit": {"market": "market_001"}, "hyperparameters": {"sd": 0.1}}
    spec = replace(spec, prior=replace(spec.prior, overrides=(override,)))
    ((label, units),) = groups_of(panel, spec)
    with pytest.raises(ConfigError, match=r"prior.overrides\[0\].unit"):
        prepared(label, units, panel, spec)


def test_nothing_is_shared_where_no_scale_is_given() -> None:
    _, _, spec = ragged(trend=None, seasonality=None, control=None)
    assert shared_baseline.shared_places(spec) == ()


def test_pooling_what_the_model_has_not_is_refused() -> None:
    fleet = simulate.fleet(brands=1, markets=3, weeks=80, channels=2, controls=0)
    unpooled = dict.fromkeys(("effect", "adstock", "saturation", "trend", "seasonality"))
    spec = Spec(data=fleet.data, pooling=Pooling(by="brand", **unpooled))
    panel = read_panel(fleet.table, fleet.data)
    ((label, units),) = groups_of(panel, spec)
    with pytest.raises(ConfigError, match="nothing that the model has"):
        prepared(label, units, panel, spec)
