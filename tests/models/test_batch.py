"""Batch: what stands in a member's arrays, apart from padding, which is an invariant of its own."""

from dataclasses import replace

import numpy as np
import pytest

from mixfleet.config import Compute, Data, Model, Prior, Spec
from mixfleet.config.priors import distribution
from mixfleet.config.schema import FrozenMapping
from mixfleet.data.panel import Panel
from mixfleet.errors import ConfigError
from mixfleet.models.batch import LENGTHS, batch_shapes, padded_weeks, prepare, stack, structure_of
from tests.support.units import odd_unit, panel_of

UNIT = odd_unit(weeks=60, gap=slice(20, 21), absent=(1,))
PANEL = panel_of(UNIT, holdout=5)


def spec(panel: Panel = PANEL, **parts: object) -> Spec:
    return Spec(data=panel.data, **parts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("length", LENGTHS)
def test_padded_lengths_hold_their_weeks_in_slices_of_sixteen(length):
    assert padded_weeks(length) == length
    assert padded_weeks(length - 1) == length
    assert length % 16 == 0


@pytest.mark.parametrize(("weeks", "padded"), [(1, 112), (545, 560), (560, 560), (561, 672), (3650, 3696)])
def test_longer_series_are_padded_by_the_hundred(weeks, padded):
    assert padded_weeks(weeks) == padded
    assert padded % 16 == 0


def test_basis_and_loading_are_the_linear_block_again():
    """basis diag(sqrt(variance)) reproduces design diag(sd), rotated by an orthogonal matrix."""
    member = prepare(UNIT, PANEL, spec())
    arrays, weeks = member.arrays, len(UNIT.dates)
    basis, root = arrays["basis"][:weeks], np.sqrt(arrays["variance"])
    sd = np.array([0.5, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    rotation = member.loading / sd[:, None]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(7), atol=1e-13)
    design = member.design * member.fitted[:, None]
    np.testing.assert_allclose(basis * root @ rotation.T, design * sd, atol=1e-13)
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-13)


def test_an_empty_place_has_no_week_and_the_others_keep_theirs():
    structure = structure_of(spec(), PANEL, 60)
    member = prepare(UNIT, PANEL, spec())
    batch = stack([None, member, None, member], replace(structure, units=5))
    assert [bool(batch.weight[:, place].any()) for place in range(5)] == [False, True, False, True, True]
    full = stack([member] * 5, replace(structure, units=5))
    for name in set(batch._fields) - {"weight"}:
        np.testing.assert_array_equal(getattr(batch, name), getattr(full, name))
    np.testing.assert_array_equal(batch.weight[:, 1], full.weight[:, 1])


COLLINEAR = {
    "zero": lambda controls: np.zeros_like(controls),
    "repeated": lambda controls: np.repeat(controls[:, :1], 2, axis=1),
    "trend": lambda controls: np.column_stack([np.arange(len(controls)), controls[:, 1]]).astype(float),
}


@pytest.mark.parametrize("name", COLLINEAR)
def test_columns_that_say_the_same_share_a_direction(name):
    unit = odd_unit(weeks=60, linear=2)
    unit = replace(unit, controls=COLLINEAR[name](unit.controls))
    panel = panel_of(unit)
    member = prepare(unit, panel, spec(panel))
    used = member.arrays["variance"] > 0
    assert used.sum() == (6 if name == "zero" else 7)
    gram = member.arrays["basis"].T @ member.arrays["basis"]
    np.testing.assert_allclose(gram, np.diag(used.astype(float)), atol=1e-12)
    sd = np.array([0.5, 0.3, *[0.1] * 6])
    root = np.sqrt(member.arrays["variance"])
    rebuilt = member.arrays["basis"][:60] * root @ (member.loading / sd[:, None]).T
    np.testing.assert_allclose(rebuilt, member.design * sd, atol=1e-12)


def test_fewer_weeks_than_columns():
    unit = odd_unit(weeks=29, linear=3)
    panel = panel_of(unit)
    member = prepare(unit, panel, spec(panel, model=Model(seasonality=13)))
    assert len(member.prior_mean) == 31
    sd = np.array([0.5, 0.3, *[0.1] * 29])
    rotation = member.loading / sd[:, None]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(31), atol=1e-12)
    root = np.sqrt(member.arrays["variance"])
    rebuilt = member.arrays["basis"][:29] * root @ rotation.T
    np.testing.assert_allclose(rebuilt, member.design * member.fitted[:, None] * sd, atol=1e-12)


def test_kpi_is_what_the_prior_mean_of_the_baseline_leaves():
    arrays = prepare(UNIT, PANEL, spec()).arrays
    member = prepare(UNIT, PANEL, spec())
    expected = np.where(member.fitted, UNIT.kpi / member.scale.kpi - 0.5, 0.0)
    np.testing.assert_allclose(arrays["kpi"][:60], np.nan_to_num(expected), rtol=1e-14)
    np.testing.assert_array_equal(arrays["weight"][:60], member.fitted)


def test_a_channel_is_active_if_its_media_reach_a_fitted_week():
    media = np.zeros((60, 5))
    media[2, 0] = 1.0  # fitted
    media[20, 1] = 1.0  # in the hole's week, where the table holds nothing
    media[57, 2] = 1.0  # held out
    media[12, 3] = 1.0  # fitted itself, just before the hole
    unit = odd_unit(weeks=60, channels=5, gap=slice(20, 21))
    media[20] = 0.0
    unit = replace(unit, media=media, spend=media)
    panel = panel_of(unit, holdout=5)
    member = prepare(unit, panel, spec(panel))
    np.testing.assert_array_equal(member.arrays["active"], [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(member.arrays["media"][:, 2], 0.0)


def test_a_tile_has_the_shapes_that_its_program_was_compiled_for():
    structure = structure_of(spec(compute=Compute(lanes=32)), PANEL, 60)
    member = prepare(UNIT, PANEL, spec())
    batch = stack([member], structure)
    assert structure.lanes == 32
    # Decay, slope, half-saturation and strength of three channels, noise and how long it lasts.
    assert structure.dimension == 14
    for found, expected in zip(batch, batch_shapes(structure), strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype


def test_a_strength_with_a_bound_is_refused():
    prior = Prior(parameters=FrozenMapping({"media_share": distribution("uniform", low=0, high=1)}))
    with pytest.raises(ConfigError, match=r"prior\.parameters\.media_share.*without an upper bound, is uniform"):
        structure_of(spec(prior=prior), PANEL, 60)


def test_units_of_one_structure_may_differ_in_hyperparameters_alone():
    data = Data(channels=PANEL.data.channels, controls=PANEL.data.controls)
    tight = Prior(parameters=FrozenMapping({"rate": distribution("gamma", shape=30, rate=10)}))
    kinds = {structure_of(Spec(data=data, prior=prior), PANEL, 60) for prior in (Prior(), tight)}
    assert len(kinds) == 1
