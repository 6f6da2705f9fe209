"""Log density: the unconstrained log posterior of a batch's lanes, with its gradient.

Two paths lead to it. Where the baseline's coefficients integrate out, one fused kernel gives the likelihood of media,
baseline and noise with its gradient, and priors are added here. Elsewhere `composed_density` puts it together from its
parts and differentiates that.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.composed_density import evaluate_composed
from mixfleet.models.evidence import with_evidence
from mixfleet.models.observation import OBSERVATIONS
from mixfleet.models.parameters import Block
from mixfleet.models.priors.families import FAMILIES, with_slope
from mixfleet.models.strength import log_prob, log_strength, log_strength_slope
from mixfleet.models.transforms import Evaluation, natural, response, windows
from mixfleet_kernels.likelihood import Series, likelihood
from mixfleet_kernels.reductions import sum_rows

__all__ = ["Evaluation", "evaluate_density", "natural", "response"]


def evaluate_density(
    position: Float[Array, "coordinate lane"], batch: UnitBatch, series: Series, structure: Structure
) -> Evaluation:
    """Log posterior and gradient at each lane's position.

    Args:
        position: Unconstrained coordinates in the order of `structure.layout`.
        batch: The units' data.
        series: `batch.series(structure.chains)`, made once outside the loop that calls this.
        structure: The program's structure.
    """
    fused = OBSERVATIONS[structure.model.observation].marginal
    return (_evaluate_fused if fused else evaluate_composed)(position, batch, series, structure)


def _evaluate_fused(position: Array, batch: UnitBatch, series: Series, structure: Structure) -> Evaluation:
    layout, chains = structure.layout, position.shape[-1] // batch.media.shape[-1]
    hyper = jnp.repeat(batch.hyper, chains, axis=-1)
    drawn = [_sloped("constrain", block, position, hyper) for block in layout.shapes]
    prior = [_sloped("log_prob", block, position, hyper) for block in layout.shapes]
    u = position[layout.effect.rows]
    bent, bent_slope = _with_slope(partial(log_strength, families=structure.strengths), u)
    jacobian, jacobian_slope = _with_slope(partial(log_strength_slope, families=structure.strengths), u)
    log_value = bent + jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    noise_family, at = FAMILIES[layout.noise.family], layout.noise.first
    noise, noise_slope = with_slope(noise_family.constrain, position[at], hyper[:, at])
    noise_prior, noise_prior_slope = with_slope(noise_family.log_prob, position[at], hyper[:, at])

    as_mean = structure.model.coordinate != "effect"
    weights, tangents, parameters = windows(tuple(value for value, _ in drawn), u.shape, structure)
    data = likelihood(
        series,
        weights,
        tangents,
        structure.model.saturation,
        parameters,
        jnp.exp(log_value),
        jnp.log(noise),
        strength_is_mean=as_mean,
        adstock_first=structure.model.adstock_first,
        unit_media=batch.media,
        decay=drawn[0][0] if structure.model.adstock == "geometric" else None,
        normalised=structure.model.normalise,
    )
    data = with_evidence(data, tuple(value for value, _ in drawn), batch, structure)
    log_mean = jnp.log(data.mean_response)
    log_effect = log_value - log_mean if as_mean else log_value
    by_effect, by_mean, offset = jnp.repeat(batch.measure, chains, axis=-1) if structure.measured else (1.0, 0.0, 0.0)
    log_measure = by_effect * log_effect + by_mean * log_mean + offset if structure.measured else log_effect
    measure_prior = partial(log_prob, hyper=hyper[:, layout.effect.rows], families=structure.strengths)
    effect_prior, measure_slope = _with_slope(measure_prior, log_measure)
    # d/d log(effect) of everything: the coordinate moves the effect one to one in logarithms, and, where it is the
    # mean contribution, each shape parameter moves the effect against the mean response.
    by_log_effect = data.by_effect * data.effect + by_effect * measure_slope
    through_mean = by_log_effect if as_mean else jnp.zeros_like(by_log_effect)
    if structure.measured:
        through_mean = through_mean - by_mean * measure_slope
    through_mean = through_mean / data.mean_response * series.active
    by_shape = [
        (direct - through_mean * mean) * slope + prior_slope
        for direct, mean, (_, slope), (_, prior_slope) in zip(
            data.by_shape, data.mean_by_shape, drawn, prior, strict=True
        )
    ]
    by_noise = data.by_log_noise * noise_slope / noise + noise_prior_slope
    logs = sum((log for log, _ in prior), effect_prior + jacobian)
    return Evaluation(
        value=data.value + noise_prior + sum_rows(logs),
        gradient=jnp.concatenate([*by_shape, by_log_effect * bent_slope + jacobian_slope, by_noise[None]]),
        extra=jnp.concatenate([data.mean_response, data.projection]),
    )


def _sloped(
    function: str, block: Block, position: Array, hyper: Array
) -> tuple[Float[Array, "channel lane"], Float[Array, "channel lane"]]:
    """`constrain` or `log_prob` of a block's coordinates, and its slope."""
    return with_slope(getattr(FAMILIES[block.family], function), position[block.rows], hyper[:, block.rows])


def _with_slope(function: Callable[[Array], Array], u: Array) -> tuple[Array, Array]:
    return jax.jvp(function, (u,), (jnp.ones_like(u),))
