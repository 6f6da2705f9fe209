"""What a unit's parameters are on the scale that hyperparameters are of is finite, wherever its draws lie."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from mixfleet.config import Pooling
from mixfleet.hierarchy.groups import groups_of, prepared
from mixfleet.posterior.pooling_factors import pooled_parameters
from tests.support.quick import ragged_fleet, settings

pytestmark = pytest.mark.usefixtures("usual_broadcasts")


def test_a_share_that_is_rounded_to_one_is_as_far_out_as_any_other_draw() -> None:
    panel = ragged_fleet()
    spec = replace(settings(panel.data), pooling=Pooling(by="brand"))
    label, units = groups_of(panel, spec)[0]
    with jax.enable_x64(True):
        group = prepared(label, units, panel, spec)
    structure = group.pool.structure
    names, draws = spec.model.channel_parameters, 6
    shape = np.full((len(names) - 1, structure.channels, draws), 0.5) + 0.01 * np.arange(draws)
    measure = np.exp(np.linspace(-1.0, 1.0, draws)) * np.ones((structure.channels, 1))
    columns = np.zeros((len(group.members[0].loading), draws))
    usual = pooled_parameters(group, 0, shape, measure, columns)
    shape[names.index("decay"), 0, 2] = 1.0
    found = pooled_parameters(group, 0, shape, measure, columns)
    row = [group.pool.parameters.index(names.index("decay")) * structure.channels]
    assert np.all(np.isfinite(found))
    assert found[row, 2] == usual[row].max()
    np.testing.assert_array_equal(np.delete(found, 2, axis=1), np.delete(usual, 2, axis=1))
