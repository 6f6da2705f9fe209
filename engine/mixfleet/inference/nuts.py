"""NUTS: one unit in float64, for the few that the batched sampler cannot certify."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32
from numpyro.infer.hmc import HMCState, hmc

from mixfleet.config import Inference
from mixfleet.inference import initialization
from mixfleet.inference.certification import UnitSample, certify
from mixfleet.inference.compiled import DrawBuffer, evaluate
from mixfleet.inference.scheduler import Finished
from mixfleet.models.batch import Structure, UnitBatch, stack
from mixfleet.models.log_density import evaluate_density

__all__ = ["sample"]

CHAINS = 4
WARMUP, DRAWS = 500, 600
DEPTH = 8
MOVES = 50
"""Moves between two looks at the clock."""


def sample(
    finished: Finished, structure: Structure, inference: Inference, key: np.ndarray
) -> tuple[Finished, Structure] | None:
    """The unit sampled anew, whatever the verdict, and the structure of its draws; None where it takes too long.

    Args:
        finished: The last failed attempt.
        structure: Its structure.
        inference: Thresholds, target acceptance and the seconds that it may take, compiling left out.
        key: uint32[2].
    """
    began = time.monotonic()
    alone = replace(structure, units=1, chains=CHAINS, dtype="float64")
    member = finished.job.member
    with jax.enable_x64(True):
        batch = jax.tree.map(jnp.asarray, stack([member], alone))
        keys = jax.random.split(jnp.asarray(key), 3)
        modes, by_chain = _modes(batch, alone, keys[:1]), jax.random.split(keys[1], CHAINS)
        kept = _draws(alone, batch, (modes, by_chain), inference)
        if kept is None:
            return None
        buffer = _buffer_of(kept, batch, alone)
        sample = UnitSample(
            structure=alone,
            batch=batch,
            member=member,
            buffer=buffer,
            places=np.zeros(1, np.int32),
            key=keys[2],
            count=DRAWS,
            length=DRAWS,
            divergences=int(np.sum(np.asarray(kept.diverging))),
        )
        certified = certify(sample, inference)
        last = Finished(
            job=replace(finished.job, rung=finished.job.rung + 1, keys=key[None]),
            verdict=certified.verdict,
            judgement=certified.judgement,
            draws=certified.kept(),
            count=DRAWS,
            divergences=sample.divergences,
            gradients=int(np.sum(np.asarray(kept.steps))),
            seconds=time.monotonic() - began,
            batch=batch,
            place=0,
        )
    return last, alone


class _Kept(NamedTuple):
    """What is kept of every draw, chain by chain."""

    position: Float[Array, "chain draw coordinate"]
    energy: Float[Array, "chain draw"]
    diverging: Bool[Array, "chain draw"]
    steps: Int[Array, "chain draw"]


def _draws(
    structure: Structure, batch: UnitBatch, starts: tuple[np.ndarray, UInt32[Array, "chain 2"]], inference: Inference
) -> _Kept | None:
    """Draws of one chain after the other; None once they have taken longer than they may."""
    warmup, blocks, began = -(-WARMUP // MOVES), -(-DRAWS // MOVES), None
    target, limit = inference.target_accept, inference.rung_seconds
    chains = []
    for mode, key in zip(*starts, strict=True):
        state = _begun(structure, batch, jnp.asarray(mode), key, target, warmup=WARMUP)
        kept = []
        for block in range(warmup + blocks):
            moves = min(MOVES, WARMUP - block * MOVES if block < warmup else DRAWS - (block - warmup) * MOVES)
            state, new = _moved(structure, batch, state, target, warmup=WARMUP, moves=moves)
            kept += [new] if block >= warmup else []
            jax.block_until_ready(state.z)
            # What compiling took, in the first block, is no fault of the unit's.
            began = time.monotonic() if began is None else began
            if limit is not None and time.monotonic() - began > limit:
                return None
        chains.append(jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept))
    return jax.tree.map(lambda *parts: jnp.stack(parts), *chains)


@partial(jax.jit, static_argnames=("structure", "target_accept", "warmup"))
def _begun(
    structure: Structure,
    batch: UnitBatch,
    mode: Float[Array, " coordinate"],
    key: UInt32[Array, "2"],
    target_accept: float,
    *,
    warmup: int,
) -> HMCState:
    """A chain before its first move. The unit is an argument, so that all units of a structure share a program."""
    return _sampler(structure, batch, mode, key, target_accept, warmup)[0]


@partial(jax.jit, static_argnames=("structure", "target_accept", "warmup", "moves"))
def _moved(
    structure: Structure, batch: UnitBatch, state: HMCState, target_accept: float, *, warmup: int, moves: int
) -> tuple[HMCState, _Kept]:
    """A chain so many moves later, and the draws on the way."""
    # `move` goes by settings that it shares with the beginning; what begins here anew is used by nothing.
    move = _sampler(structure, batch, state.z, state.rng_key, target_accept, warmup)[1]

    def draw(state: HMCState, _: None) -> tuple[HMCState, _Kept]:
        state = move(state, (batch,), {})
        return state, _Kept(state.z, state.energy, state.diverging, state.num_steps)

    return jax.lax.scan(draw, state, None, length=moves)


def _sampler(
    structure: Structure,
    batch: UnitBatch,
    mode: Float[Array, " coordinate"],
    key: UInt32[Array, "2"],
    target_accept: float,
    warmup: int,
) -> tuple[HMCState, Callable[..., HMCState]]:
    """The state of a chain that begins there, and what moves it."""
    begin, move = hmc(potential_fn_gen=partial(_potential, structure), algo="NUTS")
    state = begin(
        mode,
        warmup,
        dense_mass=True,
        target_accept_prob=target_accept,
        max_tree_depth=DEPTH,
        model_args=(batch,),
        rng_key=key,
    )
    return state, move


def _modes(
    batch: UnitBatch, structure: Structure, key: UInt32[Array, "unit 2"]
) -> Float[np.ndarray, "chain coordinate"]:
    """One start per chain, as for the batched sampler."""
    log_density = partial(evaluate, structure, batch)
    modes, values = initialization.optimise(log_density, batch.centre, structure.chains, key)
    return initialization.laplace(log_density, modes, values, 1)[0].T


def _potential(structure: Structure, batch: UnitBatch) -> Callable[[Float[Array, " coordinate"]], Array]:
    """Minus the log posterior of one position, whose gradient is the one it comes with."""
    series = batch.series(1)

    @jax.custom_vjp
    def potential(u: Float[Array, " coordinate"]) -> Array:
        return -evaluate_density(u[:, None], batch, series, structure).value[0]

    def forward(u: Array) -> tuple[Array, Array]:
        evaluation = evaluate_density(u[:, None], batch, series, structure)
        return -evaluation.value[0], -evaluation.gradient[:, 0]

    potential.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
    return potential


@partial(jax.jit, static_argnames="structure")
def _buffer_of(kept: _Kept, batch: UnitBatch, structure: Structure) -> DrawBuffer:
    """The draws as a batched sampler would have entered them."""
    chains, draws, coordinates = kept.position.shape
    alone = batch.series(1)

    def row(u: Float[Array, " coordinate"]) -> tuple[Array, Array]:
        evaluation = evaluate_density(u[:, None], batch, alone, structure)
        return evaluation.extra[:, 0], evaluation.value[0]

    positions = kept.position.reshape(-1, coordinates)
    extra, value = jax.lax.map(row, positions, batch_size=64)
    fields = jnp.concatenate([positions, extra, value[:, None], kept.energy.reshape(-1, 1)], axis=1)
    nothing = jnp.zeros(1, jnp.int32)
    rows = jnp.transpose(fields.reshape(chains, draws, -1), (1, 2, 0))[None]
    return DrawBuffer(
        rows=rows,
        filled=nothing + draws,
        divergences=nothing,
        accept=jnp.zeros(1),
        balance=jnp.zeros((1, chains)),
    )
