"""Gates: nothing that has not converged gets through, and each gate closes by itself."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixfleet.config import Inference
from mixfleet.inference import diagnostics
from mixfleet.inference.certification import Verdict, judge
from mixfleet.inference.draws import Judgement

GOOD: dict[str, Any] = {
    "rhat": np.array([1.001, 1.003]),
    "ess_bulk": np.array([1900.0, 2500.0]),
    "ess_tail": np.array([1700.0, 2100.0]),
    "ebfmi": np.array([0.9, 1.1]),
    "repeated": np.array([0.1, 0.2]),
    "finite": np.array(True),
}


def verdict(*, divergences: Any = 0, balance: np.ndarray | None = None, **changed: Any) -> Verdict:
    judgement: Any = Judgement(**{**GOOD, **changed})
    return judge(judgement, divergences=divergences, trajectories=8000, inference=Inference(), balance=balance)


def test_good_draws_pass_without_a_word():
    good = verdict()
    assert good.passed
    assert good.enough
    assert not good.hopeless
    assert good.reason == ""
    assert (good.rhat_max, good.ess_bulk_min, good.ess_tail_min, good.ebfmi_min) == (1.003, 1900.0, 1700.0, 0.9)


def test_energy_errors_out_of_balance_are_warned_of():
    chains = np.array([0.08, 0.07, 0.09, 0.08])
    found = verdict(balance=chains)
    assert found.passed
    assert found.energy_balance == pytest.approx(0.08)
    assert found.reason == "energy errors are out of balance by 0.080, 7 Monte Carlo errors"
    # Chains that differ among themselves say less, and NUTS says nothing.
    assert verdict(balance=np.array([0.3, -0.1, 0.1, 0.02])).reason == ""
    assert np.isnan(verdict().energy_balance)


FAULTS = {
    "rhat": ({"rhat": np.array([1.001, 1.0101])}, "R-hat 1.010 is not below 1.01"),
    "ess_bulk": ({"ess_bulk": np.array([399.0, 2500.0])}, "effective draws 399 are fewer than 400"),
    "ess_tail": ({"ess_tail": np.array([1700.0, 300.0])}, "effective draws 300 are fewer than 400"),
    "ebfmi": ({"ebfmi": np.array([0.29, 1.0])}, r"E-BFMI 0.29 is not above 0.3"),
    "repeated": ({"repeated": np.array([0.1, 0.51])}, "a chain repeats 51% of its draws"),
    "finite": ({"finite": np.array(False)}, "draws that are not finite"),
    "divergences": ({"divergences": 9}, "9 of 8000 trajectories diverged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_gate_alone_fails_the_unit_and_names_itself(fault):
    changed, reason = FAULTS[fault]
    found = verdict(**changed)
    assert not found.passed
    assert not found.enough
    assert found.reason == reason


@pytest.mark.parametrize("name", ["rhat", "ess_bulk", "ess_tail", "ebfmi", "repeated"])
def test_a_diagnostic_that_is_not_a_number_fails(name):
    found = verdict(**{name: np.array([GOOD[name][0], np.nan])})
    assert not found.passed
    assert found.reason


def test_infinite_diagnostics_fail_too():
    assert not verdict(rhat=np.array([np.inf, 1.0])).passed
    assert not verdict(ess_bulk=np.array([np.inf, 2000.0])).passed


def test_all_that_is_wrong_is_named():
    found = verdict(rhat=np.array([1.2]), ess_tail=np.array([50.0]), divergences=800)
    assert found.reason == (
        "R-hat 1.200 is not below 1.01; effective draws 50 are fewer than 400; 800 of 8000 trajectories diverged"
    )
    assert found.hopeless


def test_few_divergences_are_no_doubt():
    found = verdict(divergences=8)
    assert found.passed
    assert found.reason == ""


def test_between_floor_and_target_a_unit_passes_and_goes_on():
    found = verdict(ess_bulk=np.array([800.0, 900.0]))
    assert found.passed
    assert not found.enough


CHAINS, DRAWS, QUANTITIES = 8, 512, 5


def converged(random: np.random.Generator) -> np.ndarray:
    """Slightly autocorrelated draws of correlated quantities, as a fit leaves them."""
    white = random.standard_normal((CHAINS, DRAWS, QUANTITIES))
    for t in range(1, DRAWS):
        white[:, t] = 0.2 * white[:, t - 1] + np.sqrt(1 - 0.04) * white[:, t]
    return white @ (np.eye(QUANTITIES) + 0.3)


def one_elsewhere(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    draws[random.integers(CHAINS), :, 0] += amount


def one_stuck(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    at = int(DRAWS * (1 - amount))
    draws[random.integers(CHAINS), at:] = draws[0, at]


def drifting(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    draws[:, :, 1] += np.linspace(0, amount, DRAWS)


def two_modes(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    draws[: CHAINS // 2, :, 2] += amount


def one_too_wide(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    draws[random.integers(CHAINS), :, 3] *= amount


def crawling(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    walk = np.cumsum(random.standard_normal((CHAINS, DRAWS)), axis=1)
    draws[:, :, 4] = walk / amount


def broken(draws: np.ndarray, random: np.random.Generator, amount: float) -> None:
    draws[0, int(DRAWS * amount), 0] = np.nan


PLANTED: list[tuple[Callable[[np.ndarray, np.random.Generator, float], None], float]] = [
    (one_elsewhere, 1.0),
    (one_elsewhere, 3.0),
    (one_elsewhere, 100.0),
    (one_stuck, 0.5),
    (one_stuck, 0.8),
    (one_stuck, 1.0),
    (drifting, 1.0),
    (drifting, 2.0),
    (drifting, 10.0),
    (two_modes, 0.7),
    (two_modes, 2.0),
    (two_modes, 50.0),
    (one_too_wide, 2.0),
    (one_too_wide, 4.0),
    (one_too_wide, 0.2),
    (crawling, 1.0),
    (crawling, 20.0),
    (broken, 0.0),
    (broken, 0.5),
    (broken, 0.99),
]


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


diagnose = jax.jit(diagnostics.diagnose)


def judged(draws: np.ndarray) -> Verdict:
    found = diagnose(jnp.asarray(np.transpose(draws, (2, 1, 0)), jnp.float32), jnp.int32(DRAWS))
    same = np.mean(draws[:, 1:, 0] == draws[:, :-1, 0], axis=1)
    return verdict(
        rhat=np.asarray(found.rhat),
        ess_bulk=np.asarray(found.ess_bulk),
        ess_tail=np.asarray(found.ess_tail),
        repeated=same,
        finite=np.all(np.isfinite(draws)),
    )


@pytest.mark.usefixtures("x64")
def test_every_planted_set_of_chains_that_did_not_converge_is_caught():
    through = []
    for seed, (plant, amount) in enumerate(PLANTED):
        random = np.random.default_rng(seed)
        draws = converged(random)
        assert judged(draws).passed, f"the draws before {plant.__name__}({amount})"
        plant(draws, random, amount)
        if judged(draws).passed:
            through.append(f"{plant.__name__}({amount})")
    assert len(PLANTED) == 20
    assert through == []
