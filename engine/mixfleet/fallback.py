"""Fallback: one unit by float64 NUTS, for the few that the batched sampler cannot certify."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.infer import MCMC, NUTS

from mixfleet.batch import Structure, stack
from mixfleet.config import Inference
from mixfleet.density import evaluate_density
from mixfleet.draws import Draws, Judgement, Linear, inspect
from mixfleet.gates import judge
from mixfleet.program import Book
from mixfleet.samplers import start
from mixfleet.slots import Finished

__all__ = ["sample"]

CHAINS = 4
WARMUP, DRAWS = 600, 800
DEPTH = 8


def sample(
    finished: Finished, kind: Structure, inference: Inference, key: np.ndarray
) -> tuple[Finished, Structure]:
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
        keys = jax.random.split(jnp.asarray(key), 4)
        lanes = tile.series(CHAINS)
        modes, values = start.optimise(
            lambda u: tuple(evaluate_density(u, tile, lanes, alone)),  # pyright: ignore[reportArgumentType]
            tile.centre,
            CHAINS,
            keys[:1],
        )
        modes, _, _ = start.laplace(
            lambda u: tuple(evaluate_density(u, tile, lanes, alone)),  # pyright: ignore[reportArgumentType]
            modes,
            values,
            1,
        )
        single = tile.series(1)

        @jax.custom_vjp
        def potential(u: Float[Array, " coordinate"]) -> Array:
            return -evaluate_density(u[:, None], tile, single, alone).value[0]

        def forward(u: Array) -> tuple[Array, Array]:
            evaluation = evaluate_density(u[:, None], tile, single, alone)
            return -evaluation.value[0], -evaluation.gradient[:, 0]

        potential.defvjp(forward, lambda gradient, cotangent: (cotangent * gradient,))
        step = NUTS(
            potential_fn=potential, dense_mass=True, target_accept_prob=inference.target_accept, max_tree_depth=DEPTH
        )
        chain = MCMC(
            step, num_warmup=WARMUP, num_samples=DRAWS, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
        )
        chain.run(keys[1], init_params=modes.T, extra_fields=("diverging", "energy", "num_steps"))
        extra = chain.get_extra_fields(group_by_chain=True)
        book = _book(jnp.asarray(chain.get_samples(group_by_chain=True)), extra["energy"], tile, alone)
        linear = Linear(jnp.asarray(member.loading), jnp.asarray(member.prior_mean))
        drawn, judgement = inspect(
            alone, tile, book, linear, keys[2], jnp.int32(0), jnp.int32(DRAWS), length=DRAWS
        )
        judgement = Judgement(*(np.asarray(part) for part in judgement))
        divergences = int(np.sum(np.asarray(extra["diverging"])))
        verdict = judge(judgement, divergences=divergences, trajectories=CHAINS * DRAWS, inference=inference)
        return Finished(
            job=replace(finished.job, rung=finished.job.rung + 1, key=key),
            verdict=verdict,
            judgement=judgement,
            draws=Draws(*(np.asarray(part) for part in drawn)),
            count=DRAWS,
            divergences=divergences,
            gradients=int(np.sum(np.asarray(extra["num_steps"]))),
            seconds=time.monotonic() - began,
            tile=tile,
            place=0,
        ), alone


def _book(
    positions: Float[Array, "chain draw coordinate"], energy: Float[Array, "chain draw"], tile, kind: Structure
) -> Book:
    """The draws as a batched sampler would have entered them."""
    chains, draws, coordinates = positions.shape
    alone = tile.series(1)

    def row(u: Float[Array, " coordinate"]) -> tuple[Array, Array]:
        evaluation = evaluate_density(u[:, None], tile, alone, kind)
        return evaluation.extra[:, 0], evaluation.value[0]

    extra, value = jax.lax.map(row, positions.reshape(-1, coordinates), batch_size=64)
    fields = jnp.concatenate(
        [positions.reshape(-1, coordinates), extra, value[:, None], energy.reshape(-1, 1)], axis=1
    )
    nothing = jnp.zeros(1, jnp.int32)
    rows = jnp.transpose(fields.reshape(chains, draws, -1), (1, 2, 0))[None]
    return Book(rows=rows, count=nothing + draws, divergences=nothing, accept=jnp.zeros(1))
