"""Adstock: the carry-over of media as a causal window of weights over the last weeks.

Every family is a short finite impulse response: `weights` turns one or two parameters into the window,
`convolve` applies it. Lag comes first and the batch last, so lanes stay contiguous in memory.

| family | weight at lag l, before normalising | parameters |
|---|---|---|
| geometric | decay^l | decay in [0, 1] |
| binomial | (1 - l / D)^(1/decay - 1), D = window + `binomial_offset` | decay in [0, 1] |
| delayed | decay^((l - delay)^2) | decay in [0, 1], delay in weeks |
| weibull_pdf | Weibull density at l + 1 | shape > 0, scale > 0 in weeks |
| weibull_cdf | prod_{i=1..l} (1 - Weibull distribution function at i) | shape > 0, scale > 0 in weeks |
| none | 1 at lag 0 | none |

References:
    Jin et al. (2017), Bayesian Methods for Media Mix Modeling with Carryover and Shape Effects
    (geometric, delayed). Binomial: Google Meridian. Weibull: Meta Robyn.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mixfleet_kernels.adstock import reference, xla
from mixfleet_kernels.dtypes import floating
from mixfleet_kernels.implementation import choose

__all__ = ["PARAMETERS", "convolve", "register", "weights", "weights_and_tangents"]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "geometric": ("decay",),
    "binomial": ("decay",),
    "delayed": ("decay", "delay"),
    "weibull_pdf": ("adstock_shape", "adstock_scale"),
    "weibull_cdf": ("adstock_shape", "adstock_scale"),
    "none": (),
}
"""Names of each family's parameters, in the order the functions take them."""


def register(family: str, parameters: tuple[str, ...], weight: Callable[..., Array]) -> None:
    """Makes a further family known.

    Args:
        family: Its name.
        parameters: Names of its parameters, in the order that `weight` takes them.
        weight: The weight at `lag`, before normalising, as a differentiable jax function `weight(lag, *parameters)` of
            arrays that broadcast. Not negative, and finite for every value that the parameters may take.

    Raises:
        ValueError: There is a family of that name already.
    """
    if family in PARAMETERS:
        raise ValueError(f"there is an adstock {family!r} already")
    PARAMETERS[family] = parameters
    xla.REGISTERED[family] = weight


def weights(
    family: str,
    parameters: tuple[Float[ArrayLike, "*batch"], ...],
    *,
    window: int,
    normalise: bool = True,
    binomial_offset: int = 0,
    weibull_minmax: bool = False,
    implementation: str | None = None,
) -> Float[Array, "window *batch"]:
    """The window's weights, lag 0 first; float32 or float64 as the parameters are.

    Value and gradient are finite for every decay in [0, 1] and every delay, shape and scale in 1e-12..1e12.
    A delayed decay below 1e-30 acts as 1e-30 and a scale below 1e-12 as 1e-12.

    Args:
        family: A key of `PARAMETERS`.
        parameters: The family's parameters, each of shape `[*batch]`. Empty for "none", whose weights have
            no batch axes.
        window: Weeks in the window, week 0 included.
        normalise: Whether the weights sum to 1 over the window.
        binomial_offset: Added to the window in the binomial denominator: 0 or, as in PyMC-Marketing, 1.
        weibull_minmax: Whether the Weibull density is first mapped to [0, 1] by its least and greatest value
            in the window, as PyMC-Marketing and Robyn do. A flat window then becomes (1, 0, ..., 0).
        implementation: "xla" (default) or "reference" (float64 numpy loops, not traceable).

    Raises:
        ValueError: unknown family or implementation, wrong number of parameters, or an empty window.
    """
    arrays = _checked(family, parameters, window)
    function: Callable[..., Any] = choose(
        {"xla": xla.weights, "reference": reference.weights},
        implementation,
        default="xla",
        what="adstock implementation",
    )
    return jnp.asarray(
        function(
            family,
            arrays,
            window=window,
            normalise=normalise,
            binomial_offset=binomial_offset,
            weibull_minmax=weibull_minmax,
        ),
        dtype=arrays[0].dtype if arrays else None,
    )


def weights_and_tangents(
    family: str,
    parameters: tuple[Float[ArrayLike, "*batch"], ...],
    *,
    window: int,
    normalise: bool = True,
    binomial_offset: int = 0,
    weibull_minmax: bool = False,
) -> tuple[Float[Array, "window *batch"], tuple[Float[Array, "window *batch"], ...]]:
    """The weights and, for each parameter, their derivative with respect to it; arguments as in `weights`."""
    return xla.weights_and_tangents(
        family,
        _checked(family, parameters, window),
        window=window,
        normalise=normalise,
        binomial_offset=binomial_offset,
        weibull_minmax=weibull_minmax,
    )


def convolve(
    media: Float[ArrayLike, "week *batch"],
    weights: Float[ArrayLike, "window *batch"],
    *,
    implementation: str | None = None,
) -> Float[Array, "week *batch"]:
    """`out[t] = sum_l weights[l] * media[t - l]`, with nothing before the first week.

    A week whose whole window is zero gives exactly zero, to the value and to the weights' gradient.

    Args:
        media: Media per week, in any unit; the result has the same unit and dtype.
        weights: A window for each batch element, or one window `[window]` for all.
        implementation: "xla" (default) or "reference" (float64 numpy loops, not traceable).

    Raises:
        ValueError: unknown implementation, or batch axes that differ.
    """
    media, weights = floating(media), floating(weights)
    if weights.ndim > 1 and weights.shape[1:] != media.shape[1:]:
        raise ValueError(f"media {media.shape} and weights {weights.shape} differ after their first axis")
    function: Callable[..., Any] = choose(
        {"xla": xla.convolve, "reference": reference.convolve},
        implementation,
        default="xla",
        what="adstock implementation",
    )
    return jnp.asarray(function(media, weights.astype(media.dtype)), dtype=media.dtype)


def _checked(family: str, parameters: tuple[ArrayLike, ...], window: int) -> tuple[Array, ...]:
    names = choose(PARAMETERS, family, default=family, what="adstock family")
    if len(parameters) != len(names):
        raise ValueError(f"adstock {family!r} takes ({', '.join(names)}), got {len(parameters)} parameters")
    if window < 1:
        raise ValueError(f"window must be at least 1 week, got {window}")
    if not parameters:
        return ()
    arrays = [floating(parameter) for parameter in parameters]
    return tuple(jnp.broadcast_arrays(*(array.astype(jnp.result_type(*arrays)) for array in arrays)))
