"""Saturation: diminishing returns to media within a week.

| family | f(x) for x >= 0 | parameters (all > 0) |
|---|---|---|
| logistic | (1 - exp(-rate x)) / (1 + exp(-rate x)) | rate |
| hill | x^slope / (x^slope + half_saturation^slope) | slope, half_saturation |
| tanh | tanh(x / scale) | scale |
| michaelis_menten | x / (half_saturation + x) | half_saturation |
| exponential | 1 - exp(-rate x) | rate |
| root | x^exponent | exponent |
| log | log(1 + rate x) | rate |
| none | x | none |

Every curve is odd: f(-x) = -f(x), so that refunds and corrections saturate as the spend they undo.
Zero media, of either sign or subnormal, gives exactly zero, and exactly zero to every parameter's derivative.
NaN media gives NaN, never zero.

At zero media `hill` and `root` report the slope 0, whatever their parameters. That is the derivative for
`slope` or `exponent` above 1; at 1 the true slope is 1 / half_saturation (hill) or 1 (root), and below 1
it is infinite. Every other family reports its true slope at zero.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mixfleet_kernels.dtypes import floating
from mixfleet_kernels.implementation import choose
from mixfleet_kernels.saturation import reference, xla

__all__ = ["PARAMETERS", "register", "saturate", "value_and_partials"]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "logistic": ("rate",),
    "hill": ("slope", "half_saturation"),
    "tanh": ("scale",),
    "michaelis_menten": ("half_saturation",),
    "exponential": ("rate",),
    "root": ("exponent",),
    "log": ("rate",),
    "none": (),
}
"""Names of each family's parameters, in the order the functions take them."""


def register(family: str, parameters: tuple[str, ...], curve: Callable[..., Array]) -> None:
    """Makes a further family known; it is odd, zero at zero media, and reports the slope 0 there.

    Args:
        family: Its name.
        parameters: Names of its parameters, in the order that `curve` takes them.
        curve: The saturated media as a differentiable jax function `curve(media, *parameters)`, cell by cell, for media
            above zero.

    Raises:
        ValueError: There is a family of that name already.
    """
    if family in PARAMETERS:
        raise ValueError(f"there is a saturation {family!r} already")
    PARAMETERS[family] = parameters
    xla.register(family, curve)


def saturate(
    family: str,
    media: Float[ArrayLike, "week *batch"],
    parameters: tuple[Float[ArrayLike, "*#batch"], ...],
    *,
    implementation: str | None = None,
) -> Float[Array, "week *batch"]:
    """The saturated media, of the media's shape and dtype.

    Its derivatives are those of `value_and_partials`: closed forms, finite for media in {0, 1e-12..1e12},
    rates, scales and half saturations in 1e-12..1e12, slopes in 0.05..50 and exponents in 0.05..3.

    Args:
        family: A key of `PARAMETERS`.
        media: Media per week, in the unit that scales and half saturations are given in.
        parameters: The family's parameters, shaped `[*batch]` or anything that broadcasts to the media's
            trailing axes.
        implementation: "xla" (default) or "reference" (float64 numpy, not traceable).

    Raises:
        ValueError: unknown family or implementation, or wrong number of parameters.
    """
    media, parameters = _checked(family, media, parameters)
    function: Callable[..., Any] = choose(
        {"xla": xla.saturate, "reference": reference.saturate},
        implementation,
        default="xla",
        what="saturation implementation",
    )
    return jnp.asarray(function(family, media, parameters), dtype=media.dtype)


def value_and_partials(
    family: str,
    media: Float[ArrayLike, "week *batch"],
    parameters: tuple[Float[ArrayLike, "*#batch"], ...],
) -> tuple[Float[Array, "week *batch"], Float[Array, "week *batch"], tuple[Float[Array, "week *batch"], ...]]:
    """The saturated media, its derivative by the media, and by each parameter, in one pass.

    Arguments and errors as in `saturate`. At most one logarithm and one exponential per cell.
    """
    media, parameters = _checked(family, media, parameters)
    return xla.value_and_partials(family, media, parameters)


def _checked(family: str, media: ArrayLike, parameters: tuple[ArrayLike, ...]) -> tuple[Array, tuple[Array, ...]]:
    names = choose(PARAMETERS, family, default=family, what="saturation family")
    if len(parameters) != len(names):
        raise ValueError(f"saturation {family!r} takes ({', '.join(names)}), got {len(parameters)} parameters")
    media = floating(media)
    aligned = []
    for parameter in parameters:
        array = jnp.asarray(parameter, media.dtype)
        aligned.append(jnp.expand_dims(array, tuple(range(media.ndim - array.ndim))))
    return media, tuple(aligned)
