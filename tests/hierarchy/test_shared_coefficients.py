"""Shared coefficients: they are those of the plain hierarchical linear model, and redrawing leaves them invariant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixfleet.hierarchy import hyperparameters as hierarchies
from mixfleet.hierarchy import shared_coefficients
from mixfleet.hierarchy.hyperparameters import Hyper
from mixfleet.hierarchy.shared_coefficients import Columns, LikelihoodSummary, Shared
from mixfleet_kernels.likelihood.autocorrelated import Last
from tests.hierarchy.test_hyperparameters import CHAINS, ROWS, drawn, group, units_given

pytestmark = pytest.mark.usefixtures("usual_broadcasts")

WEEKS, OWN, ROUNDS = 9, 2, 12


def columns_of(keys: tuple[int, ...], units: int) -> tuple[Columns, jax.Array]:
    """A group whose units have two columns of their own, integrated out, and two that they share."""
    hierarchy = group(keys, units)
    random = np.random.default_rng(3)
    count = len(hierarchy.present)
    basis = np.linalg.qr(random.normal(size=(count, WEEKS, OWN + ROWS)))[0]
    # What units share reaches into what they have for themselves.
    mixed = random.normal(size=(count, OWN + ROWS, ROWS)) * np.array([0.5, 0.5, 1.5, 1.5])[:, None]
    variance = np.concatenate([random.uniform(0.2, 2.0, (OWN, count)), np.zeros((ROWS, count))])
    columns = Columns(jnp.asarray(basis @ mixed), jnp.moveaxis(jnp.asarray(mixed), 0, -1), hierarchy)
    return columns, jnp.asarray(variance)


@pytest.mark.parametrize("keys", [(), (3, 2)])
def test_the_linear_block_given_hyperparameters_is_the_plain_one(keys: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        columns, variance = columns_of(keys, 7)
        hyper = jax.tree.map(lambda values: values[..., :4], drawn(columns.hierarchy, jax.random.key(0)))
        mean, covariance = shared_coefficients.prior(columns, hyper, variance, lasting=False)
        means = np.asarray(hierarchies.means(columns.hierarchy, hyper))
        spread = np.asarray(hierarchies.spreads(columns.hierarchy, hyper))[0]
        for u in range(7):
            along = np.asarray(columns.along)[..., u]
            for c in range(4):
                expected = along @ np.diag(spread[:, c] ** 2) @ along.T + np.diag(np.asarray(variance)[:, u])
                np.testing.assert_allclose(covariance[..., u, c], expected, atol=1e-12)
                np.testing.assert_allclose(mean[:, u, c], np.asarray(columns.design)[u] @ means[:, u, c], atol=1e-12)


def test_what_data_say_does_not_depend_on_where_they_are_looked_at_from() -> None:
    with jax.enable_x64(True):
        columns, variance = columns_of((), 5)
        random = np.random.default_rng(4)
        noise = jnp.asarray(random.uniform(0.2, 1.0, (6, 3)))
        whole, values = (
            jnp.asarray(random.normal(size=(OWN + ROWS, 6, 3))),
            jnp.asarray(random.normal(size=(ROWS, 6, 3))),
        )
        here = shared_coefficients.likelihood_summary(columns, 0 * values, variance, noise, whole)
        less = jnp.einsum("kru,ruc->kuc", columns.along, values)
        there = shared_coefficients.likelihood_summary(columns, values, variance, noise, whole - less)
        np.testing.assert_allclose(here.total, there.total, rtol=1e-10)
        along, u, c = np.asarray(columns.along)[..., 2], 2, 1
        covariance = np.diag(np.asarray(variance)[:, u] + float(noise[u, c]) ** 2)
        precision = along.T @ np.linalg.solve(covariance, along)
        np.testing.assert_allclose(here.precision[..., u, c], precision, rtol=1e-10)
        np.testing.assert_allclose(
            here.total[:, u, c], along.T @ np.linalg.solve(covariance, whole[:, u, c]), rtol=1e-10
        )


def test_what_lasting_data_say_does_not_depend_on_where_they_are_looked_at_from() -> None:
    with jax.enable_x64(True):
        columns, _ = columns_of((), 5)
        hyper = jax.tree.map(lambda values: values[..., :3], drawn(columns.hierarchy, jax.random.key(2)))
        random = np.random.default_rng(5)
        root, whole = random.normal(size=(ROWS, ROWS, 6, 3)), random.normal(size=(ROWS, 6, 3))
        precision = np.einsum("rtuc,stuc->rsuc", root, root)
        means = np.asarray(hierarchies.means(columns.hierarchy, hyper))
        left = whole - np.einsum("rsuc,suc->ruc", precision, means)
        nothing = np.zeros((0, 18))
        last = Last(precision.reshape(ROWS, ROWS, -1), left.reshape(ROWS, -1), nothing, nothing[:, None])
        found = shared_coefficients.lasting_summary(columns, hyper, jax.tree.map(jnp.asarray, last))
        np.testing.assert_allclose(found.precision, precision, rtol=1e-12)
        np.testing.assert_allclose(found.total, whole, rtol=1e-10, atol=1e-12)


def test_a_spread_that_rounds_to_nothing_has_an_inverse() -> None:
    # Of powers of two a spread less itself is nothing.
    hierarchy = group((), 3)._replace(scale=jnp.full(ROWS, 0.25))
    hierarchy = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), hierarchy)
    values = jnp.asarray(np.random.default_rng(7).normal(size=(ROWS, len(hierarchy.present), 4)), jnp.float32)
    told = LikelihoodSummary(jnp.zeros((ROWS, *values.shape)), jnp.zeros_like(values))
    shared = Shared(values, hierarchies.zero_state(hierarchy, 4))
    slid = jax.jit(shared_coefficients._slide)(hierarchy, shared, told, jnp.zeros((2, ROWS, 4)))
    spread = hierarchies.spreads(hierarchy, slid.hyper)
    assert np.max(spread) < 1e-7
    assert np.all(np.isfinite(1 / spread**2))


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "units"), [((), 3), ((3, 2), 7)])
def test_redrawing_leaves_the_joint_distribution_invariant(keys: tuple[int, ...], units: int) -> None:
    """Chains that start with joint draws, and get new data at every round, keep their distribution (Geweke 2004)."""
    with jax.enable_x64(True):
        columns, variance = columns_of(keys, units)
        hierarchy = columns.hierarchy
        levels = tuple(len(member) for member in hierarchy.keys)
        noise = jnp.full((len(hierarchy.present), CHAINS), 0.4)

        @jax.jit
        def a_round(hyper: Hyper, values: jax.Array, key: jax.Array) -> tuple[Hyper, jax.Array]:
            first, second, third = jax.random.split(key, 3)
            error = jnp.sqrt(noise**2 + variance[..., None]) * jax.random.normal(first, (OWN + ROWS, *noise.shape))
            whole = jnp.einsum("kru,ruc->kuc", columns.along, values) + error
            summary = shared_coefficients.likelihood_summary(columns, 0 * values, variance, noise, whole)
            own = jax.random.uniform(second, (2, *values.shape), minval=1e-12)
            uniform = jax.random.uniform(third, (shared_coefficients.uniform_rows(levels), ROWS, CHAINS), minval=1e-12)
            shared = shared_coefficients.redraw(columns, hyper, summary, own, uniform)
            return shared.hyper, shared.values

        key = jax.random.key(1)
        hyper = drawn(hierarchy, key)
        values = units_given(hierarchy, hyper, jax.random.fold_in(key, 77))
        for i in range(ROUNDS):
            hyper, values = a_round(hyper, values, jax.random.fold_in(key, i))
        spread = np.asarray(hierarchies.spreads(hierarchy, hyper) / hierarchy.scale[:, None]).reshape(-1, CHAINS)
        found = [(np.asarray(hyper.centre), stats.norm), (spread, stats.halfnorm)]
        found += [(np.asarray(hyper.levels[k])[:count].reshape(-1, CHAINS), stats.norm) for k, count in enumerate(keys)]
        away = (values - hierarchies.means(hierarchy, hyper)) / hierarchies.spreads(hierarchy, hyper)[0][:, None]
        found += [(np.asarray(away)[:, :units].reshape(-1, CHAINS), stats.norm)]
        for rows, distribution in found:
            for row in rows:
                assert stats.kstest(row, distribution.cdf).pvalue > 1e-4
        products = np.asarray(hyper.centre)[0] * np.log(spread[0])
        assert abs(stats.ttest_1samp(products, 0.0).statistic) < 4
