"""Composed density: the log posterior put together from its parts, for observations that have no fused kernel.

The baseline's coefficients are sampled in sheared coordinates: z is standard normal given what the media say if the
observation were normal, so that media and baseline do not trade off along a ridge. With the residual's projection q
onto the basis, its variances lambda and the observation's variance v,

    a_k = sqrt(lambda_k) q_k / (v + lambda_k) + sqrt(v / (v + lambda_k)) z_k,   expected = media + U sqrt(lambda) a

and the coefficients a, in prior standard deviations, have their standard normal prior. The shear is exact whatever the
observation is: one that is far from normal costs mixing, never truth.
"""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.evidence import log_evidence, log_total
from mixfleet.models.observation import OBSERVATIONS
from mixfleet.models.priors.families import FAMILIES
from mixfleet.models.strength import log_prob, log_strength_slope
from mixfleet.models.transforms import Evaluation, block_values, natural, response, without_sampled
from mixfleet_kernels.likelihood import LEAST_MEAN_RESPONSE, Series, expand, project

__all__ = ["evaluate_composed"]


def evaluate_composed(
    position: Float[Array, "coordinate lane"], batch: UnitBatch, series: Series, structure: Structure
) -> Evaluation:
    """As `log_density.evaluate_density`, differentiated as a whole."""

    def log_posterior(at: Array) -> tuple[Float[Array, " lane"], Float[Array, "extra lane"]]:
        return _log_posterior(at, batch, series, structure)

    value, pull_back, extra = jax.vjp(log_posterior, position, has_aux=True)
    (gradient,) = pull_back(jnp.ones_like(value))
    return Evaluation(value, gradient, extra)


def _log_posterior(
    position: Array, batch: UnitBatch, series: Series, structure: Structure
) -> tuple[Float[Array, " lane"], Float[Array, "extra lane"]]:
    layout, chains = structure.layout, position.shape[-1] // batch.media.shape[-1]
    hyper = jnp.repeat(batch.hyper, chains, axis=-1)
    parameters = natural(position, hyper, structure, batch)
    shape = response(series.media, parameters.shape, structure)
    weight = series.weight[:, None]
    share = weight / jnp.sum(weight, axis=0, keepdims=True)
    mean = jnp.maximum(jnp.sum(shape * share, axis=0), LEAST_MEAN_RESPONSE) * series.active + (1 - series.active)
    effect = parameters.strength / mean if structure.model.coordinate != "effect" else parameters.strength
    media = jnp.sum(effect[None] * shape, axis=1)

    linear = position[:0]
    if structure.apart:
        linear = jnp.concatenate([block_values(block, position, hyper) for block in layout.linear])
        series = without_sampled(series, linear, batch)[0]
        # The last directions are those of the sampled columns, and of no variance.
        basis, variance = series.basis[..., : -structure.apart], series.variance[: -structure.apart]
        series = series._replace(basis=basis, variance=variance)
    block = layout.coefficients
    assert block is not None, "an observation without a fused kernel samples the coefficients"
    variance, v = series.variance, parameters.observation[0][None] ** 2
    projection = project(series.basis, (series.kpi - media) * series.weight)
    spread = jnp.sqrt(v / (v + variance))
    along = jnp.sqrt(variance) * projection / (v + variance) + spread * position[block.rows]
    expected = media + expand(series.basis, jnp.sqrt(variance) * along)
    observation = OBSERVATIONS[structure.model.observation]
    by_week = observation.log_prob(series.kpi, expected, parameters.observation)  # pyright: ignore[reportAttributeAccessIssue]

    u = position[layout.effect.rows]
    by_effect, by_mean, offset = jnp.repeat(batch.measure, chains, axis=-1)
    about = mean
    if structure.changes:
        changed, change = (jnp.repeat(v, chains, axis=-1) for v in (batch.changed_media, batch.change_weight))
        brought = jnp.sum(change * (response(changed, parameters.shape, structure) - shape), axis=0)
        about = jnp.where(jnp.any(change != 0, axis=0), jnp.maximum(brought, LEAST_MEAN_RESPONSE), mean)
    log_measure = by_effect * jnp.log(effect) + by_mean * jnp.log(about) + offset
    priors = log_prob(log_measure, hyper[:, layout.effect.rows], structure.strengths)
    priors = priors + log_strength_slope(u, structure.strengths)
    value = jnp.sum(jnp.where(series.weight > 0, series.weight * by_week, 0.0), axis=0) + jnp.sum(priors, axis=0)
    for part in (*layout.sampled, *layout.observation, *layout.linear):
        value = value + jnp.sum(FAMILIES[part.family].log_prob(position[part.rows], hyper[:, part.rows]), axis=0)
    value = value + jnp.sum(norm.logpdf(along) + jnp.log(spread), axis=0)
    if structure.evidence.rows:
        value = value + jnp.asarray(log_evidence(layout.to_slots(parameters.shape), effect, batch, structure))
    if structure.total:
        value = value + log_total(effect * mean * series.active, batch)[0]
    return value, jnp.concatenate([mean, along, linear])
