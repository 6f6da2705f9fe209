"""Parts of joint tests are drawn from what is left once their sum is known."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixfleet.config import Model, Pooling, Spec
from mixfleet.hierarchy.groups import prepared
from mixfleet.hierarchy.joint_tests import JointTests, redrawn
from tests.support.lift_tests import day, with_tests
from tests.support.units import odd_unit, panel_of

UNITS, DRAWS = 3, 40_000


def test_parts_have_the_distribution_that_their_sum_leaves():
    share, estimate = np.array([0.5, 0.3, 0.2]), 1.7
    weight = np.zeros((1, 2, UNITS))
    # In the second unit the test comes after one of its own.
    places = [0, 1, 0]
    weight[0, places, range(UNITS)] = np.sqrt(share)
    given: Any = weight, np.array([estimate])
    tests = JointTests(*given)
    lifts = np.random.default_rng(0).normal(size=(2, UNITS))
    parts = np.full((2, UNITS, DRAWS), 9.0)
    white = np.random.default_rng(1).normal(size=parts.shape)
    with jax.enable_x64(True):
        found = np.asarray(redrawn(tests, *map(jnp.asarray, (parts, lifts[..., None] + 0 * parts, white))))
    held = found[places, range(UNITS)]
    np.testing.assert_allclose(np.sqrt(share) @ held, estimate, rtol=1e-9)
    # Of a normal with covariance one, given its product with a unit vector.
    own, root = lifts[places, range(UNITS)], np.sqrt(share)
    np.testing.assert_allclose(held.mean(axis=1), own + root * (estimate - root @ own), atol=0.03)
    np.testing.assert_allclose(np.cov(held), np.eye(UNITS) - np.outer(root, root), atol=0.03)
    # The second unit's own test is as it was, and so is a place without a test.
    assert np.all(found[[1, 0, 1], range(UNITS)] == 9.0)


def test_a_group_knows_which_units_a_test_measured():
    panel = panel_of(*(odd_unit(weeks=60, seed=i, labels=("acme", f"m{i}")) for i in range(UNITS)))
    days = {"start": day(panel, 20), "end": day(panel, 23, 6), "factor": 2.0, "lift": 900.0, "se": 300.0}
    rows = [
        {"brand": "acme", "market": "m1", "channel": "channel_1", **days},
        {"brand": "acme", "market": "*", "channel": "channel_0", **days, "test": "all"},
        {"brand": "acme", "market": "m0 + m2", "channel": "channel_0", **days, "test": "two"},
    ]
    pooling = Pooling(by="brand")
    spec = Spec(data=panel.data, model=Model(window=5, seasonality=1), pooling=pooling)
    told = with_tests(panel, rows, window=5, pooling=pooling)
    group = prepared("acme", told.units, told, spec)
    assert group.pool.joint == 2
    weight = np.asarray(group.joint.weight)
    found = [[list(np.flatnonzero(one)) for one in test.T] for test in weight[..., :UNITS]]
    assert found == [[[0], [1], [0]], [[1], [], [1]]]
    np.testing.assert_allclose((weight**2).sum(axis=(1, 2)), 1.0)
    np.testing.assert_allclose(group.joint.estimate, 3.0)
    # Each unit begins with its share, and is measured in the share's own error.
    first = group.members[0].unit.experiments[0]
    np.testing.assert_allclose(group.members[0].arrays["lift_estimate"][0, 0], 3.0 * np.sqrt(first.share))
    alone = replace(told, units=panel.units)
    assert prepared("acme", alone.units, alone, spec).pool.joint == 0
