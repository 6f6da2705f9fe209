"""Log density: the unconstrained log posterior of a batch's lanes, with its gradient.

Two paths lead to it. Where the baseline's coefficients integrate out, one fused kernel gives the likelihood of media,
baseline and noise with its gradient, and priors are added here. Elsewhere `composed_density` puts it together from its
parts and differentiates that.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.composed_density import evaluate_composed
from mixfleet.models.evidence import with_evidence
from mixfleet.models.observation import OBSERVATIONS
from mixfleet.models.parameters import Block
from mixfleet.models.priors.families import FAMILIES, with_slope
from mixfleet.models.strength import log_prob, log_strength, log_strength_slope
from mixfleet.models.transforms import (
    Evaluation,
    block_values,
    decay_of,
    measured_response,
    natural,
    response,
    scale_ratios,
    windows,
    without_sampled,
)
from mixfleet_kernels.likelihood import (
    Autocorrelation,
    Likelihood,
    Series,
    autocorrelated,
    learned,
    likelihood,
    respond,
)
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
    if not OBSERVATIONS[structure.model.observation].marginal:
        return evaluate_composed(position, batch, series, structure)
    if structure.apart:
        return _evaluate_apart(position, batch, series, structure)
    return _evaluate_fused(position, batch, series, structure)[0]


def _evaluate_apart(position: Array, batch: UnitBatch, series: Series, structure: Structure) -> Evaluation:
    """With coefficients that are sampled beside those that are integrated out.

    The columns lie within the basis, and so does what they pull.
    """
    layout, chains = structure.layout, position.shape[-1] // batch.media.shape[-1]
    hyper = jnp.repeat(batch.hyper, chains, axis=-1)
    drawn = [_sloped("constrain", block, position, hyper) for block in layout.linear]
    prior = [_sloped("log_prob", block, position, hyper) for block in layout.linear]
    coefficients = jnp.concatenate([value for value, _ in drawn])
    series, along = without_sampled(series, coefficients, batch)
    rest, by_basis = _evaluate_fused(position, batch, series, structure)
    assert by_basis is not None, "there are coefficients that are sampled"
    pull = jnp.sum(along * by_basis[:, None], axis=0)
    slopes, prior_slopes = (jnp.concatenate([slope for _, slope in pairs]) for pairs in (drawn, prior))
    return Evaluation(
        value=rest.value + sum(jnp.sum(log, axis=0) for log, _ in prior),
        gradient=jnp.concatenate([rest.gradient, pull * slopes + prior_slopes]),
        extra=jnp.concatenate([rest.extra[: -structure.apart], coefficients]),
    )


def _evaluate_fused(
    position: Array, batch: UnitBatch, series: Series, structure: Structure
) -> tuple[Evaluation, Float[Array, "column lane"] | None]:
    """The density, and, where coefficients are sampled, its gradient by what they add along the basis."""
    layout, chains = structure.layout, position.shape[-1] // batch.media.shape[-1]
    hyper = jnp.repeat(batch.hyper, chains, axis=-1)
    prior = [_sloped("log_prob", block, position, hyper) for block in layout.sampled]
    drawn = [_sloped("constrain", block, position, hyper) for block in layout.shapes]
    u = position[layout.effect.rows]
    bent, bent_slope = _with_slope(partial(log_strength, families=structure.strengths), u)
    jacobian, jacobian_slope = _with_slope(partial(log_strength_slope, families=structure.strengths), u)
    log_value = bent + jnp.repeat(batch.log_strength_unit, chains, axis=-1)
    noise, noise_slope, noise_prior, noise_prior_slope = _unit_parameter(layout.noise, position, hyper)

    as_mean = structure.model.coordinate != "effect"
    slots = layout.to_slots([value for value, _ in drawn])
    further = [_unit_parameter(block, position, hyper) for block in layout.observation[1:]]
    values = tuple(value for value, *_ in further)
    data, by_further, by_basis = _likelihood(slots, jnp.exp(log_value), noise, values, series, batch, structure)
    data = with_evidence(data, slots, series.active, batch, structure)
    log_mean = jnp.log(data.mean_response)
    log_effect = log_value - log_mean if as_mean else log_value
    by_effect, by_mean, offset = _measure(batch, chains, structure)
    about, about_by_shape = data.mean_response, data.mean_by_shape
    if structure.changes:
        about, about_by_shape = measured_response(slots, about, about_by_shape, series.media, batch, structure)
    log_measure = by_effect * log_effect + by_mean * jnp.log(about) + offset if structure.measured else log_effect
    own_hyper = hyper[:, layout.effect.rows]
    effect_prior, measure_slope = _with_slope(lambda x: log_prob(x, own_hyper, structure.strengths), log_measure)
    # d/d log(effect) of everything: the coordinate moves the effect one to one in logarithms, and, where it is the
    # mean contribution, each shape parameter moves the effect against the mean response.
    by_log_effect = data.by_effect * data.effect + by_effect * measure_slope
    through_mean = by_log_effect if as_mean else jnp.zeros_like(by_log_effect)
    by_slot = _by_slot(data, (about, about_by_shape), (through_mean, by_mean * measure_slope), series, structure)
    by_block = zip(layout.shapes, layout.from_slots(by_slot), drawn, strict=True)
    by_value = [gradient * slope for block, gradient, (_, slope) in by_block if not block.fixed]
    by_shape = [gradient + slope for gradient, (_, slope) in zip(by_value, prior, strict=True)]
    by_noise = data.by_log_noise * noise_slope / noise + noise_prior_slope
    value = data.value + noise_prior + _sum_of_priors([log for log, _ in prior], effect_prior + jacobian, structure)
    by_unit = [by_noise[None]]
    for own, (_, slope, log_prior, prior_slope) in zip(by_further, further, strict=True):
        value = value + log_prior
        by_unit.append((own * slope + prior_slope)[None])
    gradient = jnp.concatenate([*by_shape, by_log_effect * bent_slope + jacobian_slope, *by_unit])
    return Evaluation(value, gradient, jnp.concatenate([data.mean_response, data.projection])), by_basis


def _likelihood(
    slots: tuple[Float[Array, "channel lane"], ...],
    strength: Float[Array, "channel lane"],
    noise: Float[Array, " lane"],
    further: tuple[Float[Array, " lane"], ...],
    series: Series,
    batch: UnitBatch,
    structure: Structure,
) -> tuple[Likelihood, tuple[Float[Array, " lane"], ...], Float[Array, "column lane"] | None]:
    """The likelihood, its gradient by the noise's correlation and the baseline's scales, where there are such.

    Where coefficients are sampled, also that by what they add along the basis.
    """
    log_noise, by_basis = jnp.log(noise), None
    weights, tangents, parameters = windows(slots, strength.shape, structure)
    forms = structure.term.forms
    as_mean, first = structure.model.coordinate != "effect", tuple(form.adstock_first for form in forms)
    families = tuple(form.saturation for form in forms)
    autocorrelation = Autocorrelation(batch.gaps, further[0]) if structure.gaps else None
    if structure.scales or (structure.gaps and structure.apart):
        curves = {"weights": weights, "tangents": tangents, "parameters": parameters, "adstock_first": first}
        brought = respond(series.media, family=families, **curves)
        scales = further[len(further) - len(structure.scales) :]
        if autocorrelation is not None:
            if scales:
                series = series._replace(variance=scale_ratios(scales, batch, structure) ** 2)
            arguments = (series, autocorrelation, brought, strength, log_noise)
            data, by_ratio, by_basis = autocorrelated.evaluate(*arguments, strength_is_mean=as_mean)
        else:
            block = learned.Block(batch.turned, batch.gram, scale_ratios(scales, batch, structure))
            data, by_ratio = learned.evaluate(series, block, brought, strength, log_noise, strength_is_mean=as_mean)
        by_scale = [sum_rows(by_ratio[np.array(columns)]) for _, columns in structure.scales]
        return data, (*_by_family(data), *(by / scale for by, scale in zip(by_scale, scales, strict=True))), by_basis
    data = likelihood(
        series,
        weights,
        tangents,
        families,
        parameters,
        strength,
        log_noise,
        strength_is_mean=as_mean,
        adstock_first=first,
        unit_media=batch.media,
        decay=decay_of(slots, structure),
        normalised=forms[0].normalise,
        autocorrelation=autocorrelation,
    )
    if structure.apart:
        by_basis = data.projection / (noise[None] ** 2 + series.variance)
    return data, _by_family(data), by_basis


def _by_family(data: Likelihood) -> tuple[Float[Array, " lane"], ...]:
    """The gradient by the parameters that the observation has besides its noise."""
    return () if data.by_correlation is None else (data.by_correlation,)


def _by_slot(
    data: Likelihood,
    about: tuple[Array, tuple[Array, ...]],
    through: tuple[Float[Array, "channel lane"], Float[Array, "channel lane"]],
    series: Series,
    structure: Structure,
) -> list[Float[Array, "channel lane"]]:
    """Gradient by the curves' parameters, at the coordinates of the strengths.

    Args:
        data: The likelihood, which gives it at constant effects.
        about: The response that the measures are proportional to, and its derivatives.
        through: What moves with the log of the mean response, against it, and with that of the response above.
        series: The data.
        structure: The program's structure.
    """
    against, along = through
    if not structure.changes:
        # Both are the mean response.
        against = against - along
    against = against / data.mean_response * series.active
    found = [own - against * mean for own, mean in zip(data.by_shape, data.mean_by_shape, strict=True)]
    if not structure.changes:
        return found
    value, partials = about
    along = along / value * series.active
    return [own + along * partial for own, partial in zip(found, partials, strict=True)]


def _unit_parameter(block: Block, position: Array, hyper: Array) -> tuple[Float[Array, " lane"], ...]:
    """A parameter of the observation and its slope, its log prior and that one's slope."""
    family, at = FAMILIES[block.family], block.first
    constrained = with_slope(family.constrain, position[at], hyper[:, at])
    return (*constrained, *with_slope(family.log_prob, position[at], hyper[:, at]))


def _measure(batch: UnitBatch, chains: int, structure: Structure) -> tuple[Array | float, ...]:
    """What the priors of strengths are on, by lane; of effects alone plain numbers, which cost nothing."""
    return tuple(jnp.repeat(batch.measure, chains, axis=-1)) if structure.measured else (1.0, 0.0, 0.0)


def _sum_of_priors(
    priors: list[Float[Array, "row lane"]], strength: Float[Array, "channel lane"], structure: Structure
) -> Float[Array, " lane"]:
    """The priors of all channels; those of one channel are added first, so that channels are summed once."""
    whole = [prior for prior in priors if len(prior) == structure.channels]
    part = [sum_rows(prior) for prior in priors if 0 < len(prior) < structure.channels]
    return sum(part, sum_rows(sum(whole, strength)))


def _sloped(
    function: str, block: Block, position: Array, hyper: Array
) -> tuple[Float[Array, "row lane"], Float[Array, "row lane"]]:
    """`constrain` or `log_prob` of a block's coordinates, and its slope; known values have none."""
    if block.fixed:
        value = block_values(block, position, hyper)
        return value, jnp.zeros_like(value)
    return with_slope(getattr(FAMILIES[block.family], function), position[block.rows], hyper[:, block.rows])


def _with_slope(function: Callable[[Array], Array], u: Array) -> tuple[Array, Array]:
    return jax.jvp(function, (u,), (jnp.ones_like(u),))
