"""Diagnostics equal ArviZ, ignore padding, and catch chains that have not converged."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats.base.array import BaseArray

from mixfleet.inference.diagnostics import diagnose, ebfmi
from mixfleet_kernels import native_library
from mixfleet_kernels.convergence import Convergence, convergence
from tests.support.monte_carlo_error import mcse_mean

CHAINS = 4
LENGTH = 200
QUANTITIES = 40
COUNTS = (6, 10, 50, 62, 198, 200)

Judge = Callable[[np.ndarray | jax.Array, jax.Array], Convergence]

IMPLEMENTATIONS = [
    "xla",
    pytest.param(
        "native", marks=pytest.mark.skipif(not native_library.available(), reason=native_library.why_not() or "there")
    ),
]

_traced: list[tuple[str, tuple[int, ...]]] = []


def _judging(implementation: str) -> Judge:
    """The diagnostics of draws by chain, draw and quantity, compiled."""

    def judged(draws: jax.Array, count: jax.Array) -> Convergence:
        _traced.append((implementation, draws.shape))
        return convergence(jnp.transpose(draws, (2, 1, 0)), count, implementation=implementation)

    return jax.jit(judged)


_JUDGES = {implementation: _judging(implementation) for implementation in ("xla", "native")}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def judge(implementation: str) -> Judge:
    return _JUDGES[implementation]


_mcse_mean = jax.jit(mcse_mean)
_ebfmi = jax.jit(ebfmi)


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _autoregressive(rng: np.random.Generator, shape: tuple[int, ...], coefficient: np.ndarray | float) -> np.ndarray:
    """Stationary AR(1) chains with unit variance along axis 1."""
    noise = rng.normal(size=shape)
    chains = np.empty_like(noise)
    chains[:, 0] = noise[:, 0]
    for draw in range(1, shape[1]):
        chains[:, draw] = coefficient * chains[:, draw - 1] + np.sqrt(1 - np.square(coefficient)) * noise[:, draw]
    return chains


def _zoo(seed: int, *, chains: int = CHAINS) -> np.ndarray:
    """Chains of the kinds a sampler leaves behind, eight kinds in turn, finite and not constant."""
    rng = np.random.default_rng(seed)
    shape = (chains, LENGTH, QUANTITIES)
    draws = _autoregressive(rng, shape, rng.uniform(-0.9, 0.99, QUANTITIES))
    draws[..., 1::8] = np.tan(1.5 * np.tanh(draws[..., 1::8])) * 10.0 ** rng.integers(-6, 6, QUANTITIES // 8)
    repeated = rng.random((chains, LENGTH)) < rng.uniform(0, 0.9, (chains, 1))
    for draw in range(1, LENGTH):
        draws[repeated[:, draw], draw, 2::8] = draws[repeated[:, draw], draw - 1, 2::8]
    draws[0, :, 3::8] = draws[0, :1, 3::8]
    draws[-1, :, 4::8] += 5.0
    draws[..., 5::8] = np.round(draws[..., 5::8])
    draws[..., 6::8] = np.exp(2 * draws[..., 6::8])
    draws[0, :, 7::8] *= 4.0
    return draws.astype(np.float32)


def _arviz(draws: np.ndarray) -> dict[str, np.ndarray]:
    draws = draws.astype(np.float64)
    arviz = BaseArray()
    with np.errstate(all="ignore"):
        return {
            "rhat": np.asarray(arviz.rhat(draws, chain_axis=0, draw_axis=1)),
            "ess_bulk": np.asarray(arviz.ess(draws, chain_axis=0, draw_axis=1)),
            "ess_tail": np.asarray(arviz.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))),
        }


def _assert_equal(ours: Convergence, theirs: dict[str, np.ndarray]) -> None:
    for name, reference in theirs.items():
        # Where no half chain moves, R-hat divides by a variance that is zero or a rounding error.
        settled = (reference < 1e6) | np.isnan(reference)
        mine = np.asarray(getattr(ours, name))
        np.testing.assert_allclose(mine[settled], reference[settled], rtol=1e-10, err_msg=name)
        assert (mine[~settled] > 1e6).all()


@pytest.mark.parametrize("count", COUNTS)
def test_equals_arviz(judge: Judge, count: int) -> None:
    draws = _zoo(count)
    _assert_equal(judge(draws, jnp.int32(count)), _arviz(draws[:, :count]))


@pytest.mark.parametrize("chains", [1, 3, 32])
def test_equals_arviz_for_any_number_of_chains(judge: Judge, chains: int) -> None:
    draws = _zoo(chains, chains=chains)
    draws[..., 3::8] += draws[..., ::8]
    _assert_equal(judge(draws, jnp.int32(150)), _arviz(draws[:, :150]))


def test_equals_arviz_in_double_precision(judge: Judge) -> None:
    rng = np.random.default_rng(5)
    draws = 1e9 + 1e-3 * _autoregressive(rng, (CHAINS, LENGTH, 20), rng.uniform(-0.5, 0.95, 20))
    _assert_equal(judge(draws, jnp.int32(LENGTH)), _arviz(draws))


def test_mcse_mean_equals_arviz() -> None:
    draws = _zoo(11)
    for count in (50, LENGTH):
        theirs = BaseArray().mcse(draws[:, :count].astype(float), method="mean", chain_axis=0, draw_axis=1)
        np.testing.assert_allclose(_mcse_mean(draws, jnp.int32(count)), theirs, rtol=1e-10)


def test_ebfmi_equals_arviz() -> None:
    rng = np.random.default_rng(12)
    energy = 400 + _autoregressive(rng, (64, LENGTH), np.linspace(-0.5, 0.99, 64))
    for count in (10, 150, LENGTH):
        padded = energy.copy()
        padded[:, count:] = np.nan
        theirs = BaseArray().bfmi(energy[:, :count], draw_axis=1, chain_axis=0)
        np.testing.assert_allclose(_ebfmi(padded, jnp.int32(count)), theirs, rtol=1e-10)


def test_ebfmi_of_a_stuck_or_broken_chain_is_nan() -> None:
    energy = np.random.default_rng(0).normal(size=(3, LENGTH))
    energy[1] = 2.0
    energy[2, 7] = np.inf
    assert np.isnan(_ebfmi(energy, jnp.int32(LENGTH))).tolist() == [False, True, True]


@pytest.mark.parametrize("broken", [np.nan, -np.nan, np.inf, -np.inf, "constant", "zeros of both signs"])
def test_unusable_quantity_is_nan_and_alone(judge: Judge, broken: float | str) -> None:
    draws = _zoo(1)
    clean = judge(draws, jnp.int32(LENGTH))
    if broken == "constant":
        draws[..., 2] = 0.1
    elif broken == "zeros of both signs":
        draws[..., 2] = np.where(draws[..., 2] > 0, 0.0, -0.0)
    else:
        draws[1, 20, 2] = broken
    found = judge(draws, jnp.int32(LENGTH))
    for mine, reference in zip(found, clean, strict=True):
        assert np.flatnonzero(np.isnan(mine)).tolist() == [2]
        np.testing.assert_array_equal(np.delete(mine, 2), np.delete(reference, 2))
    assert np.flatnonzero(np.isnan(_mcse_mean(draws, jnp.int32(LENGTH)))).tolist() == [2]


def test_arviz_agrees_what_nan_is() -> None:
    draws = _zoo(1)[..., :2]
    draws[1, 20, 0] = np.nan
    draws[..., 1] = 0.1
    theirs = _arviz(draws)
    assert np.isnan(theirs["rhat"]).all()
    assert np.isnan([theirs["ess_bulk"][0], theirs["ess_tail"][0]]).all()


def test_too_few_draws_are_nan(judge: Judge) -> None:
    draws = _zoo(2)
    for count in (0, 2):
        assert np.isnan(np.stack(judge(draws, jnp.int32(count)))).all()


def test_of_an_odd_count_the_last_draw_is_left_out(judge: Judge) -> None:
    draws = _zoo(3)
    for odd, even in zip(judge(draws, jnp.int32(63)), judge(draws, jnp.int32(62)), strict=True):
        np.testing.assert_array_equal(odd, even)


def test_equals_arviz_where_chains_are_stuck_or_crawl(judge: Judge) -> None:
    """Where autocorrelation never ends, every lag counts."""
    rng = np.random.default_rng(13)
    draws = np.cumsum(rng.normal(size=(8, 1000, 6)), axis=1)
    draws[..., 1] = draws[:, :1, 1] + np.arange(1000) * 1e-3
    draws[..., 2] = np.round(draws[..., 2] / 20)
    draws[1:, :, 3] = draws[1:, :1, 3]
    draws[:, 1:, 4] = draws[:, :1, 4]
    draws[:4, :, 5] = draws[4:, ::-1, 5]
    draws = draws.astype(np.float32)
    _assert_equal(judge(draws, jnp.int32(1000)), _arviz(draws))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_arviz_on_ties_of_every_kind(judge: Judge, dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(14)
    levels = 2.0 ** np.arange(12)
    draws = np.round(_autoregressive(rng, (CHAINS, LENGTH, levels.size), 0.3) * levels) / levels
    draws[..., 0] = rng.random((CHAINS, LENGTH)) < 0.5
    draws[..., 1] = rng.random((CHAINS, LENGTH)) < 0.97
    draws = draws.astype(dtype)
    _assert_equal(judge(draws, jnp.int32(150)), _arviz(draws[:, :150]))


def test_the_default_is_native_where_it_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def text() -> str:
        return jax.jit(lambda draws: diagnose(draws, jnp.int32(8))).lower(jnp.ones((1, 8, 2), jnp.float32)).as_text()

    assert ("mixfleet_convergence_f32" in text()) == (native_library.available() and jax.default_backend() == "cpu")
    monkeypatch.setattr(native_library, "_library", lambda: "the native kernels were not built: install a C++ compiler")
    assert "mixfleet_convergence" not in text()
    with pytest.raises(RuntimeError, match="install a C\\+\\+ compiler"):
        convergence(jnp.ones((1, 8, 2)), jnp.int32(8), implementation="native")
    with pytest.raises(ValueError, match="unknown convergence implementation 'gpu': choose one of"):
        convergence(jnp.ones((1, 8, 2)), jnp.int32(8), implementation="gpu")


def test_single_precision_mode_is_refused() -> None:
    with jax.enable_x64(False), pytest.raises(AssertionError, match="enable_x64"):
        diagnose(jnp.zeros((1, 10, 4)), jnp.int32(10))


def test_padding_is_nothing(judge: Judge) -> None:
    count = 62
    draws = _zoo(count)
    poisoned = draws.copy()
    poisoned[:, count:] = np.resize([np.nan, np.inf, -np.inf, 1e30, 0.0], (LENGTH - count, 1))
    padded = judge(draws, jnp.int32(count))
    for mine, reference in zip(judge(poisoned, jnp.int32(count)), padded, strict=True):
        np.testing.assert_array_equal(mine, reference)
    exact = judge(draws[:, :count], jnp.int32(count))
    finite = np.asarray(exact.rhat) < 1e6
    for mine, reference in zip(padded, exact, strict=True):
        np.testing.assert_allclose(mine[finite], reference[finite], rtol=1e-11)


def test_one_program_serves_every_count(judge: Judge, implementation: str) -> None:
    for count in COUNTS:
        judge(_zoo(0), jnp.int32(count))
    assert _traced.count((implementation, (CHAINS, LENGTH, QUANTITIES))) == 1


def test_vmapped_equals_loop(judge: Judge) -> None:
    units = np.stack([_zoo(seed) for seed in range(3)])
    counts = np.array([60, 200, 120], np.int32)
    together = jax.jit(jax.vmap(judge))(units, counts)
    for unit, (draws, count) in enumerate(zip(units, counts, strict=True)):
        for mine, reference in zip(together, judge(draws, jnp.int32(count)), strict=True):
            np.testing.assert_allclose(mine[unit], reference, rtol=1e-12)


def _passes(found: Convergence) -> np.ndarray:
    return (np.asarray(found.rhat) < 1.01) & (np.asarray(found.ess_bulk) > 400) & (np.asarray(found.ess_tail) > 400)


def test_gate_catches_every_set_of_chains_that_did_not_converge(judge: Judge) -> None:
    rng = np.random.default_rng(2026)
    draws = rng.normal(size=(8, 500, 20))
    draws[0, :, 0:4] += np.array([0.5, 1.0, 3.0, 30.0])
    draws[3, :, 4:8] *= np.array([0.3, 0.5, 2.0, 10.0])
    draws[:4, :, 8:10] += np.array([1.0, -2.0])
    draws[5, :, 10:12] = draws[5, :1, 10:12]
    draws[..., 12:15] += np.linspace(0, 1, 500)[None, :, None] * np.array([1.0, 2.0, 5.0])
    draws[..., 15:18] = _autoregressive(rng, (8, 500, 3), np.array([0.98, 0.99, 0.999]))
    draws[..., 18] = np.cumsum(draws[..., 18], axis=1)
    draws[..., 19] = 3.0
    assert not _passes(judge(draws.astype(np.float32), jnp.int32(500))).any()


def test_gate_lets_perfect_chains_of_1500_effective_draws_pass(judge: Judge) -> None:
    sets = np.random.default_rng(7).normal(size=(10, 8, 500, 20)).astype(np.float32)
    passed = np.stack([_passes(judge(draws, jnp.int32(188))) for draws in sets])
    assert passed.mean() >= 0.99


def test_of_as_many_draws_more_chains_miss_the_bound_of_rhat_by_chance(judge: Judge) -> None:
    """Why a unit is tried again with few chains first."""
    rng, alarms = np.random.default_rng(3), {}
    for chains in (8, 32):
        length = 1504 // chains
        sets = rng.normal(size=(20, chains, length, 52)).astype(np.float32)
        worst = [np.asarray(judge(draws, jnp.int32(length - length % 2)).rhat).max() for draws in sets]
        alarms[chains] = np.mean(np.array(worst) >= 1.01)
    assert alarms[8] <= 0.15
    assert alarms[32] >= 0.3
