"""What lift tests say of channels' curves: their log likelihood, with its gradient.

A test's estimate is normal around the lift, the response to the media with the test less that to the media without it,
over the weeks that the test can have changed, times the effect. Only those weeks and the history that carries over into
them are there, so a test costs a few weeks of one channel.
"""

from typing import Any

import jax
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.evidence import native, xla
from mixfleet_kernels.evidence.arrays import Evidence, LiftTests
from mixfleet_kernels.evidence.xla import lifts
from mixfleet_kernels.implementation import choose
from mixfleet_kernels.likelihood import why_not_native
from mixfleet_kernels.likelihood.xla import by_channel

__all__ = ["Evidence", "LiftTests", "evidence", "lifts"]


def evidence(
    tests: LiftTests,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    family: str | tuple[str, ...],
    parameters: tuple[Float[Array, "channel lane"], ...],
    effect: Float[Array, "channel lane"],
    *,
    adstock_first: bool | tuple[bool, ...] = True,
    decay: Float[Array, "channel lane"] | None = None,
    normalised: bool = True,
    implementation: str | None = None,
) -> Evidence:
    """Log likelihood of every lane's tests, and its gradient.

    Args:
        tests: Of the units.
        weights: Adstock window per channel.
        tangents: Its derivative with respect to each adstock parameter.
        family: Saturation family, a key of `saturation.PARAMETERS`, of all channels or of each.
        parameters: The first, second, ... parameter of each channel's family; anything where it has fewer.
        effect: Of each channel.
        adstock_first: Whether carry-over comes before saturation, for all channels or for each.
        decay: Of geometric windows, if that is what `weights` are.
        normalised: Whether such windows sum to one.
        implementation: "xla", or "native", for CPU and what the native likelihood takes; by default native where it can
            be.

    Raises:
        ValueError: unknown implementation.
        RuntimeError: "native" was asked for and cannot run; says why.
    """
    forms = by_channel(len(effect), family, adstock_first)
    by_lane = tests.estimate.shape[-1] != tests.media.shape[-1]
    why_not = "takes one estimate for all chains of a unit" if by_lane else why_not_native(forms)
    if implementation == "native" and why_not:
        raise RuntimeError(f"the native evidence {why_not}: use implementation='xla'")

    def in_xla(*arrays: Any) -> Evidence:
        tests, weights, tangents, parameters, effect, _ = arrays
        return xla.evidence(tests, weights, tangents, forms, parameters, effect)

    def in_native(*arrays: Any) -> Evidence:
        tests, weights, tangents, parameters, effect, decay = arrays
        return native.evidence(tests, weights, tangents, forms, parameters, effect, decay=decay, normalised=normalised)

    def by_platform(*arrays: Any) -> Evidence:
        return jax.lax.platform_dependent(*arrays, cpu=in_native, default=in_xla)

    run = choose(
        {
            "xla": in_xla,
            "native": in_native,
            "default": by_platform if not why_not and native_library.available() else in_xla,
        },
        implementation,
        default="default",
        what="implementation of the evidence",
    )
    return run(tests, weights, tangents, parameters, effect, decay)
