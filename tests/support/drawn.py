"""Draws that nothing sampled: positions from about the prior, made into a draw buffer and read like any fit's."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mixfleet.config import Compute, Inference, Spec
from mixfleet.data.panel import Panel
from mixfleet.inference.certification import judge
from mixfleet.inference.compiled import DrawBuffer
from mixfleet.inference.draws import Draws, Judgement, LinearCoefficients, inspect
from mixfleet.inference.scheduler import Finished, Job
from mixfleet.models.batch import PreparedUnit, Structure, UnitBatch, prepare, stack, structure_of
from mixfleet.models.log_density import evaluate_density
from mixfleet.models.reference import Priors, Series, unit_arguments

CHAINS = 8


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A unit in the second place of a tile, with draws in float64; to be used under `jax.enable_x64`."""

    panel: Panel
    spec: Spec
    structure: Structure
    batch: UnitBatch
    member: PreparedUnit
    positions: np.ndarray
    """[draw, coordinate, chain]."""
    values: np.ndarray
    draws: Draws
    judgement: Judgement

    @property
    def plain(self) -> tuple[Series, Priors]:
        return unit_arguments(self.member.unit, self.panel, self.spec)

    def finished(self) -> Finished:
        count = self.draws.noise.shape[0]
        verdict = judge(self.judgement, divergences=0, trajectories=count * CHAINS, inference=self.spec.inference)
        return Finished(
            job=Job(member=self.member, keys=np.array([[1, 2]], np.uint32)),
            verdict=verdict,
            judgement=self.judgement,
            draws=self.draws,
            count=count,
            divergences=0,
            gradients=123,
            seconds=1.5,
            batch=self.batch,
            place=1,
        )


@partial(jax.jit, static_argnums=0)
def rows(structure: Structure, batch: UnitBatch, positions: jax.Array) -> jax.Array:
    """What a sampler would have entered into a draw buffer: position, extra, value, energy."""

    def row(position: jax.Array) -> jax.Array:
        lanes = jnp.concatenate([jnp.zeros_like(position), position], axis=1)
        found = evaluate_density(lanes, batch, batch.series(CHAINS), structure)
        value = found.value[None, CHAINS:]
        return jnp.concatenate([position, found.extra[:, CHAINS:], value, -value])

    return jax.lax.map(row, positions)


def drawn(panel: Panel, spec: Spec, *, count: int = 64, spread: float = 0.3, seed: int = 0) -> Drawn:
    """Draws of the panel's last unit; `spread` 0 repeats one position throughout."""
    spec = replace(
        spec,
        data=panel.data,
        compute=Compute(lanes=2 * CHAINS, precision="float64"),
        inference=Inference(chains=CHAINS),
    )
    members = [prepare(unit, panel, spec) for unit in panel.units]
    structure = structure_of(spec, panel, max(len(unit.dates) for unit in panel.units))
    batch = jax.tree.map(jnp.asarray, stack([members[0], members[-1]], structure))
    random = np.random.default_rng(seed)
    centre = members[-1].arrays["centre"]
    positions = centre[None, :, None] + spread * random.standard_normal((count, structure.dimension, CHAINS))
    if spread == 0:
        positions = positions + 0.3 * random.standard_normal((1, structure.dimension, 1))

    own = rows(structure, batch, jnp.asarray(positions))
    buffer = DrawBuffer(
        rows=jnp.stack([jnp.zeros_like(own), own]),
        filled=jnp.full(2, count, jnp.int32),
        divergences=jnp.zeros(2, jnp.int32),
        accept=jnp.zeros(2),
        balance=jnp.zeros((2, CHAINS)),
    )
    member = members[-1]
    linear = LinearCoefficients(jnp.asarray(member.loading), jnp.asarray(member.prior_mean))
    key = jax.random.key_data(jax.random.key(seed))
    found, judgement = inspect(structure, batch, buffer, linear, key, jnp.array([1]), jnp.int32(count), length=count)
    return Drawn(
        panel=panel,
        spec=spec,
        structure=structure,
        batch=batch,
        member=member,
        positions=positions,
        values=np.asarray(own[:, -2]),
        draws=Draws(*(np.asarray(part) for part in found)),
        judgement=Judgement(*(np.asarray(part) for part in judgement)),
    )
