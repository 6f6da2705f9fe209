"""Evidence: what lift tests say of a unit's channels, as a term of its log density.

A test's estimate is normal around the model's own lift, with its standard error and bias: the response of the
channel's media with the test less that without it, over the virtual weeks that the test can have changed, times the
effect. The term is added to either density; its gradient is that of `mixfleet_kernels.likelihood.respond`.

References:
    Zhang et al. (2024), Media Mix Model Calibration With Bayesian Priors, Google research, for calibration by
    experiments; as a likelihood of lifts: PyMC-Marketing, `add_lift_measurements_to_likelihood_from_saturation`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet.models.batch import Structure, UnitBatch
from mixfleet.models.transforms import windows
from mixfleet_kernels.likelihood import Likelihood, respond

__all__ = ["Evidence", "evidence", "with_evidence"]


class Evidence(NamedTuple):
    """The log likelihood of every lane's tests, and its gradient."""

    value: Float[Array, " lane"]
    by_shape: tuple[Float[Array, "channel lane"], ...]
    """With the effect held."""
    by_effect: Float[Array, "channel lane"]


def evidence(
    shape: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    batch: UnitBatch,
    structure: Structure,
) -> Evidence:
    """The tests' log likelihood given the channels' curves.

    Args:
        shape: Adstock, then saturation parameters, by slot of the kernels; one form for all channels.
        effect: On the model's scale.
        batch: The units' data.
        structure: The program's structure; its units must have tests.
    """
    chains, rows = effect.shape[-1] // batch.media.shape[-1], structure.evidence.rows
    media, weight, channel, of_test, estimate = (
        jnp.repeat(values, chains, axis=-1)
        for values in (
            *(batch.lift_media, batch.lift_weight, batch.lift_channel),
            *(batch.lift_test, batch.lift_estimate),
        )
    )

    def own(parameter: Float[Array, "channel lane"]) -> Float[Array, "row lane"]:
        return sum(jnp.where(channel[:, c] > 0, parameter[c : c + 1], 0) for c in range(len(parameter)))  # pyright: ignore[reportReturnType]

    def lift(values: Float[Array, "week path lane"]) -> Float[Array, "row lane"]:
        changed = values[len(values) - len(weight) :]
        return _total(weight * (changed[:, :rows] - changed[:, rows:]))

    both = tuple(jnp.concatenate([values, values]) for values in map(own, shape))
    weights, tangents, parameters = windows(both, media.shape[1:], structure)
    response = respond(
        media,
        weights=weights,
        tangents=tangents,
        family=structure.term.forms[0].saturation,
        parameters=parameters,
        adstock_first=structure.term.forms[0].adstock_first,
    )
    # Kept apart, or the compiler works the responses out anew for each of their readers.
    response = jax.lax.optimization_barrier(response)
    strength, unit_lift = own(effect), lift(response.value)
    error = _total(jnp.moveaxis(of_test, 1, 0) * (strength * unit_lift)[:, None]) - estimate[0]
    pull = -_total(of_test * error[:, None])

    def of_channel(values: Float[Array, "row lane"]) -> Float[Array, "channel lane"]:
        return _total(jnp.where(channel > 0, values[:, None], 0))

    return Evidence(
        value=_total(estimate[1] - 0.5 * error**2),
        by_shape=tuple(of_channel(pull * strength * lift(partial)) for partial in response.partials),
        by_effect=of_channel(pull * unit_lift),
    )


def with_evidence(
    data: Likelihood, shape: tuple[Float[Array, "channel lane"], ...], batch: UnitBatch, structure: Structure
) -> Likelihood:
    """The likelihood of the series and of the tests, where there are any."""
    if not structure.evidence.rows:
        return data
    tests = evidence(shape, data.effect, batch, structure)
    return data._replace(
        value=data.value + tests.value,
        by_shape=tuple(own + told for own, told in zip(data.by_shape, tests.by_shape, strict=True)),
        by_effect=data.by_effect + tests.by_effect,
    )


def _total(values: Float[Array, "row *rest"]) -> Float[Array, "*rest"]:
    """Sum over the first axis by halves, which XLA on CPU adds as vectors."""
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([values, rest]) if len(rest) else values
    return values[0]
