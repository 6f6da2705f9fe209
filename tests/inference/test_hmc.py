"""Samplers on targets whose moments are known: the integrator, the warm-up, and the draws of a tile."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy.special import digamma, polygamma

from mixfleet.inference import adaptation, hmc, initialization
from mixfleet.inference.hmc import HMCState, LogDensity, Trace
from mixfleet.inference.random_numbers import threefry, uniforms
from mixfleet.inference.sinh_arcsinh import SinhArcsinh
from tests.support import monte_carlo_error

DIMENSION = 4


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        yield


def covariances(units: int) -> Float[np.ndarray, "unit coordinate coordinate"]:
    """Strongly correlated, with standard deviations from 0.01 to 30, another for every unit."""
    random = np.random.default_rng(1)
    mixing = random.standard_normal((units, DIMENSION, DIMENSION)) + 0.5
    sd = np.array([0.01, 0.3, 2.0, 30.0])
    return np.einsum("i,uij,ukj,k->uik", sd, mixing, mixing, sd)


def gaussian(covariance: np.ndarray, chains: int) -> LogDensity:
    """Normal with mean 1, 2, 3, 4; the extra is the position itself."""
    units = len(covariance)
    precision = jnp.asarray(np.linalg.inv(covariance))
    mean = jnp.arange(1.0, DIMENSION + 1)[:, None]

    def log_density(position: Array) -> tuple[Array, Array, Array]:
        centred = (position - mean).reshape(DIMENSION, units, chains)
        pull = jnp.einsum("uij,juk->iuk", precision, centred).reshape(position.shape)
        return -0.5 * jnp.sum(pull * (position - mean), axis=0), -pull, position

    return log_density


def skewed(position: Array) -> tuple[Array, Array, Array]:
    """Logarithms of independent gammas of shape 1 to 4, the first two sheared; tails of two kinds."""
    shape = jnp.arange(1.0, DIMENSION + 1)[:, None]
    v = position.at[0].add(-0.8 * position[1])
    pull = shape - jnp.exp(v)
    return jnp.sum(shape * v - jnp.exp(v), axis=0), pull.at[1].add(-0.8 * pull[0]), position


SKEWED_MEAN = digamma(np.arange(1.0, DIMENSION + 1))
SKEWED_VARIANCE = polygamma(1, np.arange(1.0, DIMENSION + 1))
SKEWED_MEAN = SKEWED_MEAN + np.array([0.8 * SKEWED_MEAN[1], 0, 0, 0])
SKEWED_VARIANCE = SKEWED_VARIANCE + np.array([0.64 * SKEWED_VARIANCE[1], 0, 0, 0])


def begun(
    log_density: LogDensity, position: Array, covariance: np.ndarray, *, step: float = 0.3, seed: int = 0
) -> HMCState:
    units = len(covariance)
    first = adaptation.first_adaptation(adaptation.metric_of(covariance, float), jnp.full(units, 0.8))
    stepping = first.stepping._replace(log_step=jnp.full(units, np.log(step)), adapting=jnp.zeros(units, bool))
    keys = jax.random.split(jax.random.key_data(jax.random.key(seed)), units)
    return hmc.begin(position, log_density(position), first._replace(stepping=stepping), keys)


def ticks(log_density: LogDensity, state: HMCState, count: int) -> HMCState:
    """So many leapfrog steps within one trajectory."""
    state = state._replace(steps_left=jnp.full_like(state.steps_left, count + 1))
    return many_ticks(log_density, state, jnp.int32(count))


@partial(jax.jit, static_argnums=0)
def many_ticks(log_density: LogDensity, state: HMCState, count: Array) -> HMCState:
    return jax.lax.fori_loop(0, count, lambda _, state: hmc.advance(log_density, state, 1)[0], state)


def energy(state: HMCState) -> Array:
    return -state.here.value + 0.5 * jnp.sum(state.momentum * state.velocity, axis=0)


def test_leapfrog_goes_back_the_way_it_came():
    position = jnp.asarray(np.random.default_rng(2).standard_normal((DIMENSION, 64)))
    state = begun(skewed, position, np.stack([np.diag(SKEWED_VARIANCE)] * 2))
    there = ticks(skewed, state, 40)
    assert np.min(np.max(np.abs(there.here.position - position), axis=0)) > 0.1
    back = ticks(skewed, there._replace(momentum=-there.momentum, velocity=-there.velocity), 40)
    np.testing.assert_allclose(back.here.position, position, atol=1e-10)
    np.testing.assert_allclose(back.momentum, -state.momentum, atol=1e-10)
    np.testing.assert_allclose(back.velocity, -state.velocity, atol=1e-10)


def test_velocity_stays_the_covariance_times_the_momentum():
    covariance = covariances(2)
    log_density = gaussian(covariance, 8)
    state = ticks(log_density, begun(log_density, jnp.ones((DIMENSION, 16)), 1.3 * covariance), 25)
    by_unit = state.momentum.reshape(DIMENSION, 2, 8)
    expected = jnp.einsum("uij,juk->iuk", state.adaptation.metric.covariance, by_unit).reshape(DIMENSION, 16)
    np.testing.assert_allclose(state.velocity, expected, rtol=1e-9)


def test_energy_error_falls_with_the_square_of_the_step():
    position = jnp.asarray(0.5 * np.random.default_rng(3).standard_normal((DIMENSION, 64)))
    counts = np.array([16, 32, 64, 128])
    errors = []
    for count in counts:
        state = begun(skewed, position, np.stack([np.diag(SKEWED_VARIANCE)] * 2), step=1.6 / count)
        errors.append(float(np.mean(np.abs(energy(ticks(skewed, state, int(count))) - state.start_energy))))
    slope = np.polyfit(np.log(1.6 / counts), np.log(errors), 1)[0]
    assert abs(slope - 2.0) < 0.1


def test_energy_errors_average_to_one_in_equilibrium():
    """E exp(-error) = 1 where positions come from the target and momenta from their distribution, whatever the step."""
    chains = 40_000
    covariance = covariances(1)
    random = np.random.default_rng(4)
    white = random.standard_normal((DIMENSION, chains))
    position = jnp.asarray(np.linalg.cholesky(covariance[0]) @ white + np.arange(1.0, 5.0)[:, None])
    log_density = gaussian(covariance, chains)
    # A metric that is off by a factor, and a long step: errors of the order of one.
    state = begun(log_density, position, covariance * 1.5, step=0.9)
    ratio = np.exp(np.asarray(state.start_energy - energy(ticks(log_density, state, 3))))
    assert np.std(ratio) > 0.2
    assert abs(np.mean(ratio) - 1.0) < 5 * np.std(ratio) / np.sqrt(chains)


@pytest.mark.parametrize(("spread", "balanced"), [(1.0, True), (1.2, False)])
def test_energies_rise_and_fall_in_balance_where_positions_come_from_the_target(spread: float, balanced: bool):
    chains = 40_000
    covariance = covariances(1)
    white = np.random.default_rng(5).standard_normal((DIMENSION, chains))
    position = jnp.asarray(spread * np.linalg.cholesky(covariance[0]) @ white + np.arange(1.0, 5.0)[:, None])
    log_density = gaussian(covariance, chains)
    state = begun(log_density, position, covariance * 1.5, step=0.9)
    accept = jnp.exp(jnp.minimum(state.start_energy - energy(ticks(log_density, state, 3)), 0.0))
    found = np.asarray(hmc.energy_balance(accept))
    assert (abs(np.mean(found)) < 5 * np.std(found) / np.sqrt(chains)) == balanced


def test_leapfrog_keeps_volume():
    """The derivative of where a trajectory ends by where it begins, positions and momenta together."""
    covariance = np.diag(SKEWED_VARIANCE)

    def end(start: Array) -> Array:
        position, momentum = start[:DIMENSION, None], start[DIMENSION:, None]
        state = begun(skewed, position, covariance[None], step=0.4)
        velocity = jnp.asarray(covariance) @ momentum
        state = ticks(skewed, state._replace(momentum=momentum, velocity=velocity), 12)
        return jnp.concatenate([state.here.position, state.momentum])[:, 0]

    for place in 0.5 * np.random.default_rng(6).standard_normal((4, 2 * DIMENSION)):
        moved = np.asarray(jax.jacfwd(end)(jnp.asarray(place)))
        assert np.max(np.abs(moved - np.eye(2 * DIMENSION))) > 0.1
        np.testing.assert_allclose(np.linalg.det(moved), 1.0, rtol=1e-9)


def test_momenta_have_the_metrics_inverse_for_their_covariance():
    chains = 40_000
    covariance = covariances(1)
    state = begun(gaussian(covariance, chains), jnp.zeros((DIMENSION, chains)), covariance)
    whitened = np.linalg.cholesky(covariance[0]).T @ np.asarray(state.momentum)
    np.testing.assert_allclose(np.cov(whitened), np.eye(DIMENSION), atol=0.04)
    np.testing.assert_allclose(whitened.mean(axis=1), 0.0, atol=0.03)


class Sampled(NamedTuple):
    state: HMCState
    draws: list[np.ndarray]
    """By unit: [chain, draw, coordinate]."""
    accept: np.ndarray
    """By unit, mean over the draws."""
    steps: np.ndarray
    energies: list[np.ndarray]


def collected(trace: Trace, unit: int, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One unit's draws [draw, coordinate, chain], energies and acceptances, from a trace of many ticks."""
    done = np.asarray(trace.done)[:, unit]
    lanes = trace.accept.shape[-1] // units
    own = slice(unit * lanes, (unit + 1) * lanes)
    position, energies, accept = (
        np.asarray(part)[done][..., own] for part in (trace.original.position, trace.energy, trace.accept)
    )
    return position, energies, accept


def of_unit(coordinates: SinhArcsinh, unit: int) -> SinhArcsinh:
    return SinhArcsinh(*(np.asarray(part)[:, unit] for part in coordinates))  # pyright: ignore[reportArgumentType]


def gradients(log_density: LogDensity, windows: list[np.ndarray]) -> list[np.ndarray]:
    """Of the log density at the units' draws, each [draw, coordinate, chain]: those of all units at a time."""
    found = [np.zeros_like(draws) for draws in windows]
    for i in range(max(len(draws) for draws in windows)):
        places = [min(i, len(draws) - 1) for draws in windows]
        together = np.concatenate([draws[place] for draws, place in zip(windows, places, strict=True)], axis=1)
        told = np.split(np.asarray(log_density(jnp.asarray(together))[1]), len(windows), axis=1)
        for own, place, gradient in zip(found, places, told, strict=True):
            own[place] = gradient
    return found


def learnt(state: HMCState, windows: list[np.ndarray], gradients: list[np.ndarray], *, mapped: bool) -> HMCState:
    """The state after every unit has learnt from its window's draws."""
    old = jax.tree.map(np.asarray, state.adaptation)
    known = [(of_unit(old.coordinates, unit), old.metric.covariance[unit]) for unit in range(len(windows))]
    found = adaptation.learn(
        [
            adaptation.Window(draws, pull, *own, mapped=mapped)
            for draws, pull, own in zip(windows, gradients, known, strict=True)
        ]
    )
    # What allows nothing better leaves the unit as it was.
    kept = [
        both or (of_unit(old.coordinates, unit), jax.tree.map(lambda part, unit=unit: part[unit], old.metric))
        for unit, both in enumerate(found)
    ]
    coordinates, metrics = zip(*kept, strict=True)
    return hmc.adopt(
        state,
        jax.tree.map(lambda *parts: jnp.stack(parts, axis=-1), *coordinates),
        jax.tree.map(lambda *parts: jnp.stack(parts), *metrics),
        jnp.array([both is not None for both in found]),
    )


def settled(state: HMCState) -> HMCState:
    everyone = jnp.ones(len(state.key), bool)
    stepping = adaptation.settle(state.adaptation.stepping, everyone)
    return state._replace(adaptation=state.adaptation._replace(stepping=stepping))


def sampled(log_density: LogDensity, units: int, chains: int, length: int) -> Sampled:
    """Warm-up and draws as a fit does them, from a mode and its curvature on."""
    keys = jax.random.split(jax.random.key_data(jax.random.key(7)), units)
    advance = jax.jit(lambda state: hmc.advance(log_density, state, 128))

    compiled = jax.jit(log_density)
    modes, values = initialization.optimise(compiled, jnp.zeros((DIMENSION, units)), chains, keys)
    modes, values, metric = initialization.laplace(compiled, modes, values, units)
    position, evaluation = initialization.scatter(compiled, modes, values, metric, keys)
    first = adaptation.first_adaptation(metric, jnp.full(units, 0.8))
    state = hmc.begin(position, evaluation, first, keys)
    # As in a fit the last window is the longest, and what it teaches the least uncertain.
    for window, blocks in enumerate((1, 1, 3)):
        positions: list[list[np.ndarray]] = [[] for _ in range(units)]
        for _ in range(blocks):
            state, trace = advance(state)
            for unit in range(units):
                positions[unit].append(collected(trace, unit, units)[0])
        windows = [np.concatenate(own) for own in positions]
        state = learnt(state, windows, gradients(compiled, windows), mapped=window > 0)
    # The average of the step sizes tried is worth something after a hundred trajectories.
    state = settled(advance(advance(state)[0])[0])
    parts: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(units)]
    for _ in range(length):
        state, trace = advance(state)
        for unit in range(units):
            parts[unit].append(collected(trace, unit, units))
    joined = [[np.concatenate(column) for column in zip(*part, strict=True)] for part in parts]
    return Sampled(
        state=state,
        draws=[np.moveaxis(position, 2, 0) for position, _, _ in joined],
        accept=np.array([accept.mean() for _, _, accept in joined]),
        steps=np.array([length * 128 / len(energies) for _, energies, _ in joined]),
        energies=[energies.T for _, energies, _ in joined],
    )


mcse_mean = jax.jit(monte_carlo_error.mcse_mean)
ROOM = 3072
"""Rows for draws, so that one compilation judges every unit's."""


def check_moments(draws: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> None:
    """Means within five Monte Carlo standard errors, and standard deviations with them."""
    both = np.concatenate([draws, (draws - mean) ** 2], axis=2)
    count = draws.shape[1] - draws.shape[1] % 2
    padded = np.zeros((len(both), ROOM, both.shape[2]))
    padded[:, :count] = both[:, :count]
    error = np.asarray(mcse_mean(jnp.asarray(padded), jnp.int32(count)))
    off = np.abs(both[:, :count].mean(axis=(0, 1)) - np.concatenate([mean, sd**2])) / error
    assert np.all(off < 5), off
    # Five errors of next to nothing would be no test: the draws must be worth something.
    assert np.all(error[: len(sd)] < 0.05 * sd)


UNITS, CHAINS = 3, 8


@pytest.fixture(scope="module")
def of_gaussians() -> Sampled:
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        return sampled(gaussian(covariances(UNITS), CHAINS), UNITS, CHAINS, length=24)


def test_draws_of_correlated_gaussians_have_their_moments(of_gaussians: Sampled):
    for draws, covariance in zip(of_gaussians.draws, covariances(UNITS), strict=True):
        check_moments(draws, np.arange(1.0, DIMENSION + 1), np.sqrt(np.diag(covariance)))


def test_the_metric_is_learnt(of_gaussians: Sampled):
    adapted, mean = of_gaussians.state.adaptation, np.arange(1.0, DIMENSION + 1)
    for unit, covariance in enumerate(covariances(UNITS)):
        draws = np.random.default_rng(8).multivariate_normal(mean, covariance, 20_000).T
        mapped = SinhArcsinh(*(part[:, None] for part in of_unit(adapted.coordinates, unit)))
        z = mapped.inverse(draws)
        pulls = mapped.by_mapped(z, -np.linalg.solve(covariance, draws - mean[:, None]))
        [expected], _ = adaptation.covariance_between(
            np.cov(z)[None], (pulls @ pulls.T / draws.shape[1])[None], adaptation.GRADIENTS_SHARE
        )
        factor = np.linalg.cholesky(expected)
        whitened = np.linalg.solve(factor, np.asarray(adapted.metric.covariance[unit]))
        spread = np.linalg.eigvalsh(np.linalg.solve(factor, whitened.T))
        assert np.all((spread > 0.6) & (spread < 1.7)), spread


def test_the_step_size_meets_the_acceptance_aimed_for(of_gaussians: Sampled):
    assert np.all(np.abs(of_gaussians.accept - 0.8) < 0.06), of_gaussians.accept
    assert not np.any(of_gaussians.state.adaptation.stepping.adapting)
    assert np.all(of_gaussians.steps < 8)


def test_draws_of_a_skewed_target_have_its_moments():
    found = sampled(skewed, 1, 16, length=24)
    check_moments(found.draws[0], SKEWED_MEAN, np.sqrt(SKEWED_VARIANCE))


def test_energies_are_those_of_the_draws(of_gaussians: Sampled):
    """Energy is minus the log density plus half a chi-square with as many degrees of freedom as coordinates.

    The density is that of the coordinates in which the chains move.
    """
    all_coordinates = of_gaussians.state.adaptation.coordinates
    for unit, covariance in enumerate(covariances(UNITS)):
        draws, energies = of_gaussians.draws[unit], of_gaussians.energies[unit]
        centred = draws - np.arange(1.0, DIMENSION + 1)
        potential = 0.5 * np.einsum("cdi,ij,cdj->cd", centred, np.linalg.inv(covariance), centred)
        coordinates = SinhArcsinh(*(jnp.asarray(part)[:, None] for part in of_unit(all_coordinates, unit)))
        flat = coordinates.inverse(jnp.asarray(draws.reshape(-1, DIMENSION).T))
        log_slope, _, _ = coordinates.density(lambda x: (0 * x[0], 0 * x, x), flat.shape[1])(flat)
        kinetic = energies - (potential - np.asarray(log_slope).reshape(energies.shape))
        assert np.all(kinetic > -1e-9)
        assert abs(kinetic.mean() - DIMENSION / 2) < 0.15


def test_a_tail_that_falls_off_a_cliff_does_not_stop_the_start():
    """Starts that land where the density is not finite end at the best mode instead."""

    def cliff(position: Array) -> tuple[Array, Array, Array]:
        value, gradient, extra = skewed(position)
        bad = position[0] > 1.0
        return jnp.where(bad, jnp.nan, value), jnp.where(bad, jnp.nan, gradient), extra

    key, compiled = jax.random.split(jax.random.key_data(jax.random.key(3)), 1), jax.jit(cliff)
    modes, values = initialization.optimise(compiled, jnp.zeros((DIMENSION, 1)), 8, key)
    modes, values, metric = initialization.laplace(compiled, modes, values, 1)
    position, (value, _, _) = initialization.scatter(compiled, modes, values, metric, key)
    assert np.all(np.isfinite(value))
    assert np.all(position[0] <= 1.0)


def test_random_words_are_threefrys():
    """The known answer of the generator's own test suite."""
    key, counter = (jnp.uint32(0x13198A2E), jnp.uint32(0x03707344)), (jnp.uint32(0x243F6A88), jnp.uint32(0x85A308D3))
    assert [int(word) for word in threefry(key, counter)] == [0xC4923A9C, 0x483DF7A0]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_numbers_are_uniform_and_apart(dtype: jnp.dtype):
    keys = jnp.array([[1, 2], [3, 4]], jnp.uint32)
    found = np.concatenate(
        [np.asarray(uniforms(keys, jnp.array(n), 40, 4096, jnp.dtype(dtype))) for n in [[5, 6], [6, 5]]]
    )
    assert found.min() > 0
    assert found.max() < 1
    assert abs(found.mean() - 0.5) < 0.002
    assert abs(12 * found.var() - 1) < 0.01
    # Keys, numbers, lanes and rows: nothing is drawn twice.
    halves = found.reshape(-1, 2048)
    assert np.max(np.abs(np.corrcoef(halves) - np.eye(len(halves)))) < 0.11
