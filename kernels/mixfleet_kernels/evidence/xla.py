"""The evidence in jax, whatever the forms of the channels."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixfleet_kernels import saturation
from mixfleet_kernels.evidence.arrays import Evidence, LiftTests
from mixfleet_kernels.likelihood.arrays import Response
from mixfleet_kernels.likelihood.xla import by_channel, respond

__all__ = ["evidence", "lifts"]


def evidence(
    tests: LiftTests,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    forms: Sequence[tuple[str, bool]],
    parameters: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
) -> Evidence:
    """The tests' log likelihood and its gradient.

    Args:
        tests: Of the units.
        weights: Adstock window per channel.
        tangents: Its derivative with respect to each adstock parameter.
        forms: Saturation family and order of each channel.
        parameters: The first, second, ... parameter of each channel's saturation; anything where it has fewer.
        effect: Of each channel.
    """
    own = _by_lane(tests, effect.shape[-1])
    strength = _of_rows(effect, own.channel, range(len(forms)))
    lift = _lifts(own, weights, tangents, forms, parameters)
    error = _by_test(own, strength * lift.value) - own.estimate[0]
    pull = -_total(own.test * error[:, None])

    def of_channel(values: Float[Array, "row lane"]) -> Float[Array, "channel lane"]:
        return _total(jnp.where(own.channel > 0, values[:, None], 0))

    return Evidence(
        value=_total(own.estimate[1] - 0.5 * error**2),
        by_shape=tuple(of_channel(pull * strength * partial) for partial in lift.partials),
        by_effect=of_channel(pull * lift.value),
    )


def lifts(
    tests: LiftTests,
    weights: Float[Array, "window channel lane"],
    family: str | tuple[str, ...],
    parameters: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    *,
    adstock_first: bool | tuple[bool, ...] = True,
) -> Float[Array, "test lane"]:
    """What each test would measure if there were no error, in its standard deviations; zero where there is no test.

    Args:
        tests: Of the units.
        weights: Adstock window per channel.
        family: Saturation family, of all channels or of each.
        parameters: The first, second, ... parameter of each channel's family; anything where it has fewer.
        effect: Of each channel.
        adstock_first: Whether carry-over comes before saturation, for all channels or for each.
    """
    own, forms = _by_lane(tests, effect.shape[-1]), by_channel(len(effect), family, adstock_first)
    strength = _of_rows(effect, own.channel, range(len(forms)))
    return _by_test(own, strength * _lifts(own, weights, (), forms, parameters).value)


def _by_lane(tests: LiftTests, lanes: int) -> LiftTests:
    """The tests with every unit repeated for its chains."""
    return LiftTests(*(jnp.repeat(values, lanes // values.shape[-1], axis=-1) for values in tests))


def _by_test(tests: LiftTests, values: Float[Array, "row lane"]) -> Float[Array, "test lane"]:
    return _total(jnp.moveaxis(tests.test, 1, 0) * values[:, None])


def _lifts(
    tests: LiftTests, weights: Array, tangents: tuple[Array, ...], forms: Sequence[tuple[str, bool]], parameters: tuple
) -> Response:
    """The lift of every row at an effect of one. Which form a row's channel has is data: each is worked out for all."""
    rows, found = tests.weight.shape[1], None

    def lift(values: Float[Array, "week path lane"]) -> Float[Array, "row lane"]:
        changed = values[len(values) - len(tests.weight) :]
        return _total(tests.weight * (changed[:, :rows] - changed[:, rows:]))

    for family, first in dict.fromkeys(forms):
        among = [c for c, form in enumerate(forms) if form == (family, first)]
        count = len(saturation.PARAMETERS[family])

        def twice(values: Array, among: Sequence[int] = among) -> Array:
            row = _of_rows(values, tests.channel, among)
            return jnp.concatenate([row, row], axis=-2)

        response = respond(
            tests.media,
            weights=twice(weights),
            tangents=tuple(map(twice, tangents)),
            family=family,
            parameters=tuple(map(twice, parameters[:count])),
            adstock_first=first,
        )
        # Kept apart, or the compiler works the responses out anew for each of their readers.
        own = jax.tree.map(lift, jax.lax.optimization_barrier(response))
        own = Response(own.value, own.partials + (jnp.zeros_like(own.value),) * (len(parameters) - count))
        belongs = sum(tests.channel[:, c] for c in among)
        found = own if found is None else jax.tree.map(partial(jnp.where, belongs > 0), own, found)
    assert found is not None, "there are channels"
    return found


def _of_rows(
    values: Float[Array, "*window channel lane"], channel: Float[Array, "row channel lane"], among: Sequence[int]
) -> Float[Array, "*window row lane"]:
    """What each row's channel has; where it is none of these, what the first of them has."""
    found = jnp.broadcast_to(
        values[..., among[0], :][..., None, :], (*values.shape[:-2], len(channel), values.shape[-1])
    )
    for c in among[1:]:
        found = jnp.where(channel[:, c] > 0, values[..., c, :][..., None, :], found)
    return found


def _total(values: Float[Array, "row *rest"]) -> Float[Array, "*rest"]:
    """Sum over the first axis by halves, which XLA on CPU adds as vectors."""
    while len(values) > 1:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        values = jnp.concatenate([values, rest]) if len(rest) else values
    return values[0]
