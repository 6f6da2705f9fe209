"""The likelihood of a media mix model, its linear block integrated out, with its gradient in one pass.

`y = sum_c effect_c response_c + Z gamma + noise`, where `response` is adstock and saturation of one channel's media,
`gamma ~ Normal(0, S)` and the noise is Gaussian, so that `gamma` integrates out exactly. With the thin singular
value decomposition `Z S^(1/2) = U diag(sqrt(variance)) V'`, the residual `r` and `q = U'r`,

    -2 log L = sum_k [q_k^2 / (s2 + variance_k) + log(s2 + variance_k)] + |r - U q|^2 / s2
               + (T - p) log s2 + T log 2 pi

The part of `r` outside the basis is formed before it is squared: the usual difference of squares would lose half of
float32's digits where the baseline explains most of the outcome.

References:
    Lai, Domke and Sheldon (2024), Hamiltonian Monte Carlo Inference of Marginalized Linear Mixed-Effects Models,
    arXiv:2410.24079.
"""

from functools import partial
from typing import Any

import jax
from jaxtyping import Array, Float

from mixfleet_kernels import native_library
from mixfleet_kernels.channel_form import SATURATIONS
from mixfleet_kernels.implementation import choose
from mixfleet_kernels.likelihood import autocorrelated, native, xla
from mixfleet_kernels.likelihood.arrays import Autocorrelation, Gaps, Likelihood, Response, Series
from mixfleet_kernels.likelihood.xla import LEAST_MEAN_RESPONSE, expand, project, respond

__all__ = [
    "LEAST_MEAN_RESPONSE",
    "Autocorrelation",
    "Gaps",
    "Likelihood",
    "Response",
    "Series",
    "expand",
    "likelihood",
    "project",
    "respond",
    "why_not_native",
]


def likelihood(
    series: Series,
    weights: Float[Array, "window channel lane"],
    tangents: tuple[Float[Array, "window channel lane"], ...],
    family: str | tuple[str, ...],
    parameters: tuple[Float[Array, "channel lane"], ...],
    strength: Float[Array, "channel lane"],
    log_noise: Float[Array, " lane"],
    *,
    strength_is_mean: bool,
    adstock_first: bool | tuple[bool, ...] = True,
    unit_media: Float[Array, "week channel unit"] | None = None,
    decay: Float[Array, "channel lane"] | None = None,
    normalised: bool = True,
    autocorrelation: Autocorrelation | None = None,
    implementation: str | None = None,
) -> Likelihood:
    """Log-likelihood of every lane, its gradient, and what the linear coefficients need.

    Args:
        series: The data.
        weights: Adstock window per channel.
        tangents: Its derivative with respect to each adstock parameter.
        family: Saturation family, a key of `saturation.PARAMETERS`, of all channels or of each.
        parameters: The first, second, ... parameter of each channel's family; anything where it has fewer.
        strength: Effect of each channel, or its mean contribution over the weeks of the likelihood.
        log_noise: Logarithm of the noise's standard deviation.
        strength_is_mean: Whether `strength` is the mean contribution, so that effect = strength / mean response.
        adstock_first: Whether carry-over comes before saturation, for all channels or for each.
        unit_media: The series' media once per unit, if at hand: the native pass then reads no copies of it.
        decay: Of geometric windows, if that is what `weights` are: the native pass then carries media over by
            recursion instead of lag by lag, and needs no weights.
        normalised: Whether such windows sum to one.
        autocorrelation: Of the noise, whose prior variances along the basis are then no covariance; None where it is
            independent.
        implementation: "xla", or "native", for CPU only. By default native wherever a program
            runs on CPU and the library was built, xla elsewhere.

    Raises:
        ValueError: unknown implementation.
        RuntimeError: "native" was asked for and cannot run; says why.
    """
    forms = xla.by_channel(series.media.shape[1], family, adstock_first)
    why_not = why_not_native(forms)
    if implementation == "native" and why_not:
        raise RuntimeError(f"the native likelihood {why_not}: use implementation='xla'")

    def in_xla(*arrays: Any) -> Likelihood:
        series, weights, tangents, parameters, strength, log_noise, _, _, autocorrelation = arrays
        response = respond(
            series.media,
            weights=weights,
            tangents=tangents,
            family=family,
            parameters=parameters,
            adstock_first=adstock_first,
        )
        if autocorrelation is None:
            return xla.evaluate(series, response, strength, log_noise, strength_is_mean=strength_is_mean)
        at = (series, autocorrelation, response, strength, log_noise)
        return autocorrelated.evaluate(*at, strength_is_mean=strength_is_mean)[0]

    def in_native(*arrays: Any) -> Likelihood:
        series, weights, tangents, parameters, strength, log_noise, unit_media, decay, autocorrelation = arrays
        call = partial(native.likelihood, series, weights, tangents, forms, parameters, strength, log_noise)
        options = {"unit_media": unit_media, "decay": decay, "autocorrelation": autocorrelation}
        return call(strength_is_mean=strength_is_mean, normalised=normalised, **options)

    def by_platform(*arrays: Any) -> Likelihood:
        return jax.lax.platform_dependent(*arrays, cpu=in_native, default=in_xla)

    default = by_platform if not why_not and native_library.available() else in_xla
    run = choose(
        {"xla": in_xla, "native": in_native, "default": default},
        implementation,
        default="default",
        what="likelihood implementation",
    )
    return run(series, weights, tangents, parameters, strength, log_noise, unit_media, decay, autocorrelation)


def why_not_native(forms: list[tuple[str, bool]]) -> str:
    """What keeps channels of such saturations and orders out of the native pass; nothing where it takes them."""
    strange = [family for family, _ in forms if family not in SATURATIONS]
    return f"has no saturation {strange[0]!r}" if strange else ""
