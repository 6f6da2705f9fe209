"""Fallback: one unit by float64 NUTS, for the few that the batched sampler cannot certify."""

import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32
from numpyro.infer import MCMC, NUTS

from mixfleet.batch import Structure, Tile, stack
from mixfleet.config import Inference
from mixfleet.density import evaluate_density
from mixfleet.draws import Draws, Judgement, Linear, inspect
from mixfleet.gates import judge
from mixfleet.program import Book
from mixfleet.samplers import start
from mixfleet.slots import Finished

__all__ = ["sample"]

CHAINS = 4
WARMUP, DRAWS = 500, 600
DEPTH = 8


def sample(finished: Finished, kind: Structure, inference: Inference, key: np.ndarray) -> tuple[Finished, Structure]:
    """The unit sampled anew, whatever the verdict, and the structure of its draws.

    Args:
        finished: The last failed attempt.
        kind: Its structure.
        inference: Thresholds and target acceptance.
        key: uint32[2].
    """
    began = time.monotonic()
    alone = replace(kind, units=1, chains=CHAINS, dtype="float64")
    member = finished.job.member
    with jax.enable_x64(True):
        tile = jax.tree.map(jnp.asarray, stack([member], alone))
        keys = jax.random.split(jnp.asarray(key), 3)
        step = NUTS(
            potential_fn=_potential(tile, alone),
            dense_mass=True,
            target_accept_prob=inference.target_accept,
            max_tree_depth=DEPTH,
        )
        run = MCMC(
            step,
            num_warmup=WARMUP,
            num_samples=DRAWS,
            num_chains=CHAINS,
            chain_method="sequential",
            progress_bar=False,
        )
        extra_fields = ("diverging", "energy", "num_steps")
        run.run(keys[1], init_params=_modes(tile, alone, keys[:1]), extra_fields=extra_fields)
        extra = run.get_extra_fields(group_by_chain=True)
        book = _book(jnp.asarray(run.get_samples(group_by_chain=True)), extra["energy"], tile, alone)
        linear = Linear(jnp.asarray(member.loading), jnp.asarray(member.prior_mean))
        here, count = jnp.zeros(1, jnp.int32), jnp.int32(DRAWS)
        drawn, judgement = inspect(alone, tile, book, linear, keys[2], here, count, length=DRAWS)
        judgement = Judgement(*(np.asarray(part) for part in judgement))
        divergences = int(np.sum(np.asarray(extra["diverging"])))
        verdict = judge(judgement, divergences=divergences, trajectories=CHAINS * DRAWS, inference=inference)
        last = Finished(
            job=replace(finished.job, rung=finished.job.rung + 1, keys=key[None]),
            verdict=verdict,
            judgement=judgement,
            draws=Draws(*(np.asarray(part) for part in drawn)),
            count=DRAWS,
            divergences=divergences,
            gradients=int(np.sum(np.asarray(extra["num_steps"]))),
            seconds=time.monotonic() - began,
            tile=tile,
            place=0,
        )
    return last, alone


def _modes(tile: Tile, kind: Structure, key: UInt32[Array, "unit 2"]) -> Float[Array, "chain coordinate"]:
    """One start per chain, as for the batched sampler."""
    series = tile.series(kind.chains)

    @jax.jit
    def log_density(position: Float[Array, "coordinate lane"]) -> tuple[Array, Array, Array]:
        return tuple(evaluate_density(position, tile, series, kind))  # pyright: ignore[reportReturnType]

    modes, values = start.optimise(log_density, tile.centre, kind.chains, key)
    return start.laplace(log_density, modes, values, 1)[0].T


def _potential(tile: Tile, kind: Structure) -> Callable[[Float[Array, " coordinate"]], Array]:
    """Minus the log posterior of one position, whose gradient is the one it comes with."""
    series = tile.series(1)

    @jax.custom_vjp
    def potential(u: Float[Array, " coordinate"]) -> Array:
        return -evaluate_density(u[:, None], tile, series, kind).value[0]

    def forward(u: Array) -> tuple[Array, Array]:
        evaluation = evaluate_density(u[:, None], tile, series, kind)
        return -evaluation.value[0], -evaluation.gradient[:, 0]

    potential.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
    return potential


def _book(
    positions: Float[Array, "chain draw coordinate"],
    energy: Float[Array, "chain draw"],
    tile: Tile,
    kind: Structure,
) -> Book:
    """The draws as a batched sampler would have entered them."""
    chains, draws, coordinates = positions.shape
    alone = tile.series(1)

    def row(u: Float[Array, " coordinate"]) -> tuple[Array, Array]:
        evaluation = evaluate_density(u[:, None], tile, alone, kind)
        return evaluation.extra[:, 0], evaluation.value[0]

    extra, value = jax.lax.map(row, positions.reshape(-1, coordinates), batch_size=64)
    fields = jnp.concatenate([positions.reshape(-1, coordinates), extra, value[:, None], energy.reshape(-1, 1)], axis=1)
    nothing = jnp.zeros(1, jnp.int32)
    rows = jnp.transpose(fields.reshape(chains, draws, -1), (1, 2, 0))[None]
    return Book(
        rows=rows,
        filled=nothing + draws,
        divergences=nothing,
        accept=jnp.zeros(1),
        balance=jnp.zeros((1, chains)),
    )
