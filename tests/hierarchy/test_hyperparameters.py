"""Redrawing hyperparameters leaves the joint distribution of hyperparameters and units invariant (Geweke 2004,
doi:10.1198/016214504000001132): chains that start with draws from it still have it after any number of rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy.hyperparameters import Hierarchy, Hyper

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

CHAINS, ROWS, ROUNDS = 20_000, 2, 12
NO_TYPES = np.zeros((0, ROWS))
ONE_TYPE = np.array([[1.0, 0.0, 1.0]])
"""Of the first and the last of three rows."""


def group(keys: tuple[int, ...], units: int, seed: int = 0, types: np.ndarray = NO_TYPES) -> Hierarchy:
    """A group with a padded unit at its end and, for each key, a label that no unit has."""
    rows = types.shape[1]
    random = np.random.default_rng(seed)
    members = []
    for levels in keys:
        member = np.zeros((levels + 1, units + 1))
        member[np.concatenate([np.arange(levels), random.integers(levels, size=units - levels)]), np.arange(units)] = 1
        members.append(jnp.asarray(member))
    return Hierarchy(
        centre=jnp.array([0.3, -1.0, 0.6])[:rows],
        centre_sd=jnp.array([0.8, 0.4, 0.6])[:rows],
        scale=jnp.array([0.5, 0.2, 0.3])[:rows],
        # The second row has no effects of the last key.
        used=jnp.asarray([[1.0, float(k + 1 < len(keys) or k == 0), 1.0][:rows] for k in range(len(keys))]).reshape(
            len(keys), rows
        ),
        keys=tuple(members),
        present=jnp.asarray(np.arange(units + 1) < units, float),
        types=jnp.asarray(types),
        type_scale=jnp.full(len(types), 0.7),
    )


def drawn(hierarchy: Hierarchy, key: jax.Array) -> Hyper:
    """Hyperparameters from their prior, a spread's coordinate by inverting its distribution function."""
    parts, rows, types = 1 + len(hierarchy.keys), len(hierarchy.centre), len(hierarchy.types)
    a, b, c = jax.random.split(key, 3)
    spread = jnp.abs(jax.random.normal(b, (parts, rows, CHAINS)))
    mean, of_types = jax.random.normal(jax.random.fold_in(key, 3), (2, types, CHAINS))
    return Hyper(
        centre=jax.random.normal(a, (rows, CHAINS)),
        spread=hierarchies.inverse_log_ramp(jnp.log(spread)),
        levels=tuple(
            jax.random.normal(jax.random.fold_in(c, k), (len(member), rows, CHAINS))
            for k, member in enumerate(hierarchy.keys)
        ),
        types=jnp.stack([mean, hierarchies.inverse_log_ramp(jnp.log(jnp.abs(of_types)))]),
    )


def units_given(hierarchy: Hierarchy, hyper: Hyper, key: jax.Array) -> jax.Array:
    mean = hierarchies.means(hierarchy, hyper)
    return mean + hierarchies.spreads(hierarchy, hyper)[0][:, None] * jax.random.normal(key, mean.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "units", "types"),
    [
        ((), 3, NO_TYPES),
        pytest.param((3,), 7, NO_TYPES, marks=pytest.mark.nightly),
        pytest.param((3, 2), 9, NO_TYPES, marks=pytest.mark.nightly),
        pytest.param((), 2, ONE_TYPE, marks=pytest.mark.nightly),
        ((3, 2), 9, ONE_TYPE),
    ],
)
def test_redrawing_leaves_the_joint_distribution_invariant(
    keys: tuple[int, ...], units: int, types: np.ndarray
) -> None:
    with jax.enable_x64(True):
        hierarchy, rows = group(keys, units, types=types), types.shape[1]
        numbers = hierarchies.uniform_rows(tuple(len(member) for member in hierarchy.keys), len(types))

        @jax.jit
        def a_round(hyper: Hyper, key: jax.Array) -> Hyper:
            first, second = jax.random.split(key)
            theta = units_given(hierarchy, hyper, first)
            uniform = jax.random.uniform(second, (numbers, rows, CHAINS), minval=1e-12)
            return hierarchies.redraw(hierarchy, hyper, theta, uniform)

        key = jax.random.key(1)
        hyper = drawn(hierarchy, key)
        for i in range(ROUNDS):
            hyper = a_round(hyper, jax.random.fold_in(key, i))
        spread = np.asarray(hierarchies.spreads(hierarchy, hyper) / hierarchy.scale[:, None])
        columns = {"centre": (np.asarray(hyper.centre), stats.norm)}
        columns["spread"] = (spread.reshape(-1, CHAINS), stats.halfnorm)
        columns["mean of the type"] = (np.asarray(hyper.types[0]), stats.norm)
        columns["spread of the type"] = (np.exp(hierarchies.log_softplus_normal(hyper.types[1])), stats.halfnorm)
        # An unused label has its prior as well, or drifts where it does no harm: only used ones are asked for.
        for k, levels in enumerate(keys):
            columns[f"levels {k}"] = (np.asarray(hyper.levels[k])[:levels].reshape(-1, CHAINS), stats.norm)
        for name, (values, distribution) in columns.items():
            for row in values.reshape(-1, CHAINS):
                assert stats.kstest(row, distribution.cdf).pvalue > 1e-4, name
        theta = np.asarray(units_given(hierarchy, hyper, jax.random.fold_in(key, 99)))
        products = np.asarray(hyper.centre)[0] * np.log(spread[0, 0])
        assert abs(stats.ttest_1samp(products, 0.0).statistic) < 4
        parts = 1 + np.asarray(hierarchy.used).sum(axis=0)
        typed = 1 + np.asarray(hierarchy.type_scale**2 @ hierarchy.types)
        variance = (np.asarray(hierarchy.centre_sd) ** 2 * typed + parts * np.asarray(hierarchy.scale) ** 2)[:, None]
        error = theta[:, :units].var(axis=2) / variance - 1
        assert np.max(np.abs(error)) < 0.06


def test_a_small_spread_of_a_type_is_left_again_in_single_precision() -> None:
    """The centres of a type then differ by less than their rounding."""
    hierarchy = jax.tree.map(lambda values: values.astype("float32"), group((), 2, types=ONE_TYPE))
    start = jax.tree.map(lambda values: values.astype("float32"), drawn(hierarchy, jax.random.key(2)))
    small = hierarchies.inverse_log_ramp(jnp.full(start.types[1].shape, np.log(1e-9), "float32"))
    hyper = start._replace(types=jnp.stack([start.types[0], small]))

    @jax.jit
    def a_round(hyper: Hyper, key: jax.Array) -> Hyper:
        first, second = jax.random.split(key)
        uniform = jax.random.uniform(second, (hierarchies.uniform_rows((), 1), 3, CHAINS), "float32", 1e-6, 1 - 1e-6)
        return hierarchies.redraw(hierarchy, hyper, units_given(hierarchy, hyper, first), uniform)

    for i in range(4 * ROUNDS):
        hyper = a_round(hyper, jax.random.fold_in(jax.random.key(3), i))
    assert all(np.all(np.isfinite(values)) for values in jax.tree.leaves(hyper))
    assert np.quantile(np.exp(hierarchies.log_softplus_normal(hyper.types[1])), 0.05) > 1e-3


def test_the_ramp_is_inverted() -> None:
    with jax.enable_x64(True):
        x = jnp.linspace(-6, 12, 400)
        found = hierarchies.inverse_log_ramp(hierarchies.log_softplus_normal(x))
        np.testing.assert_allclose(found, x, atol=1e-8)
