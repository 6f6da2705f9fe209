"""Target: any log density, sampled by the steps that sample units and judged by the same gates."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mixfleet.config import Inference
from mixfleet.inference import adaptation, diagnostics, hmc, initialization
from mixfleet.inference.certification import Verdict, judge
from mixfleet.inference.compiled import TICKS, WINDOW_ROWS
from mixfleet.inference.draws import Judgement
from mixfleet.inference.hmc import HMCState, LogDensity, Trace
from mixfleet.inference.scheduler import CHECKS, PATIENCE, SETTLING, WINDOWS
from mixfleet.inference.sinh_arcsinh import SinhArcsinh

__all__ = ["Sampled", "sample"]

RUNGS = (1, None), (2, 0.95)
"""How many times longer the warm-up is than the usual one, and the acceptance aimed for, if not the usual one."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Draws of a target and what the gates say of them."""

    draws: Float[np.ndarray, "draw quantity chain"]
    verdict: Verdict
    divergences: int
    rung: int


def sample(
    log_density: Callable[[Float[Array, " coordinate"]], Array],
    centre: Float[ArrayLike, " coordinate"],
    *,
    scale: Float[ArrayLike, "*coordinate"] = 1.0,
    quantities: Callable[[Float[Array, " coordinate"]], Array] = lambda position: position,
    inference: Inference | None = None,
) -> Sampled:
    """Draws of a density in float64: modes, Laplace metric, warm-up and gates as for a unit, and a second, harder try.

    Args:
        log_density: Up to a constant, of one position, with every coordinate unbounded; jax differentiates it.
        centre: Where to look for the mode.
        scale: A rough size of each coordinate's uncertainty: the search takes steps of a fraction of it.
        quantities: What to return of a position, and to judge: a vector.
        inference: Chains, seed, thresholds and how long to try.
    """
    inference = inference or Inference()
    with jax.enable_x64(True):
        middle, unit = jnp.asarray(centre, float), jnp.broadcast_to(jnp.asarray(scale, float), jnp.shape(centre))

        def one(u: Float[Array, " coordinate"]) -> tuple[Array, Array]:
            position = middle + unit * u
            return log_density(position), quantities(position)

        def lanes(u: Float[Array, "coordinate lane"]) -> tuple[Array, Array, Array]:
            both = jax.vmap(jax.value_and_grad(one, has_aux=True), in_axes=-1, out_axes=-1)
            (value, extra), gradient = both(u)
            return value, gradient, extra

        chain = _Chains(lanes, len(middle), inference)
        found = None
        for rung, (patience, accept) in enumerate(RUNGS):
            found = chain.attempt(rung, patience, accept or inference.target_accept)
            if found.verdict.passed or not inference.ladder:
                break
        assert found is not None
        return found


class _Chains:
    """The chains of one target, as the only unit of a tile."""

    def __init__(self, log_density: LogDensity, coordinates: int, inference: Inference) -> None:
        self._evaluate = jax.jit(log_density)
        self._advance = jax.jit(lambda state: hmc.advance(log_density, state, TICKS))
        self._coordinates, self._inference = coordinates, inference

    def attempt(self, rung: int, patience: int, accept: float) -> Sampled:
        """One climb, warm-up and sampling until there is enough or no hope."""
        state = self._warm(self._begin(rung, accept), patience)
        checks = [check for check in CHECKS if check < self._inference.max_draws] + [self._inference.max_draws]
        parts: list[list[np.ndarray]] = []
        verdict, draws, divergences = None, np.empty(0), 0
        for check in checks:
            while sum(len(part[0]) for part in parts) < check:
                state, trace = self._advance(state)
                balance = hmc.energy_balance(trace.accept)
                draw = trace.original
                parts.append(_finished(trace, draw.extra, draw.value, trace.energy, trace.diverged, balance))
            draws, value, energy, diverged, balance = (np.concatenate(column) for column in zip(*parts, strict=True))
            divergences = int(diverged.sum())
            verdict = self._judge(draws, value, energy, divergences, balance.mean(axis=0))
            if verdict.enough or (len(draws) >= PATIENCE and verdict.hopeless):
                break
        assert verdict is not None
        return Sampled(draws=draws, verdict=verdict, divergences=divergences, rung=rung)

    def _begin(self, rung: int, accept: float) -> HMCState:
        key = jnp.array([[self._inference.seed, rung]], jnp.uint32)
        centre = jnp.zeros((self._coordinates, 1))
        modes, values = initialization.optimise(self._evaluate, centre, self._inference.chains, key)
        modes, values, metric = initialization.laplace(self._evaluate, modes, values, 1)
        position, evaluation = initialization.scatter(self._evaluate, modes, values, metric, key)
        return hmc.begin(position, evaluation, adaptation.first_adaptation(metric, jnp.full(1, accept)), key)

    def _warm(self, state: HMCState, patience: int) -> HMCState:
        here, window, ends = jnp.ones(1, bool), [], [patience * last for last in WINDOWS]
        for block in range(1, patience * (WINDOWS[-1] + SETTLING) + 1):
            state, trace = self._advance(state)
            window.append(_finished(trace, trace.original.position)[0])
            if block in ends:
                old = jax.tree.map(np.asarray, state.adaptation)
                known = SinhArcsinh(*(part[:, 0] for part in old.coordinates)), old.metric.covariance[0]
                draws = np.concatenate(window)[-WINDOW_ROWS:]
                gradients = np.stack([np.asarray(self._evaluate(draw)[1]) for draw in draws])
                [found] = adaptation.learn([adaptation.Window(draws, gradients, *known, mapped=block > ends[0])])
                if found is not None:
                    coordinates, metric = found
                    coordinates = jax.tree.map(lambda part: jnp.asarray(part)[:, None], coordinates)
                    metric = jax.tree.map(lambda part: jnp.asarray(part)[None], metric)
                    state = hmc.adopt(state, coordinates, metric, here)
                window = [] if block == ends[0] else window
        stepping = adaptation.settle(state.adaptation.stepping, here)
        return state._replace(adaptation=state.adaptation._replace(stepping=stepping))

    def _judge(
        self, draws: np.ndarray, value: np.ndarray, energy: np.ndarray, divergences: int, balance: np.ndarray
    ) -> Verdict:
        count, room = len(draws), self._inference.max_draws + TICKS
        quantities = np.moveaxis(np.concatenate([draws, value[:, None]], axis=1), 1, 0)
        padded = jnp.asarray(np.stack([_padded(rows, room) for rows in quantities]))
        judged = diagnostics.diagnose(padded, jnp.int32(count))
        judgement = Judgement(
            rhat=np.asarray(judged.rhat),
            ess_bulk=np.asarray(judged.ess_bulk),
            ess_tail=np.asarray(judged.ess_tail),
            ebfmi=np.asarray(diagnostics.ebfmi(jnp.asarray(energy.T), jnp.int32(count))),
            repeated=np.mean(value[1:] == value[:-1], axis=0),
            finite=np.asarray(np.isfinite(quantities).all()),
        )
        chains = self._inference.chains
        return judge(
            judgement,
            divergences=divergences,
            trajectories=count * chains,
            inference=self._inference,
            balance=balance,
        )


def _finished(trace: Trace, *parts: Array) -> list[np.ndarray]:
    """What the ticks left behind that finished a trajectory: draws first."""
    done = np.asarray(trace.done)[:, 0]
    return [np.asarray(part)[done] for part in parts]


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]))])
