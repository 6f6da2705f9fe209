"""How each modelling system sets up the same adstock families, as data."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mixfleet_kernels import adstock
from mixfleet_kernels.implementation import choose


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """How one system turns an adstock family's parameters into weights."""

    window: int | None = None
    """Weeks in the window, week 0 included; None: as many as the series has, which equals a recursion."""
    clipped: bool = False
    """Whether the window, and with it the normalisation, is cut to the length of the series."""
    normalise: str = "window"
    """What the weights are divided by: "window" their sum, "limit" their sum without end, "none" nothing."""
    binomial_offset: int = 0
    """Added to the window in the binomial denominator."""
    weibull_minmax: bool = False
    """Whether the Weibull density is first mapped to [0, 1]."""
    quantile_scale: bool = False
    """Whether the Weibull scale is a quantile of 1..weeks, rounded, instead of a number of weeks."""


_OURS = Convention(window=9)
_MERIDIAN = Convention(window=9, clipped=True)
_PYMC = Convention(window=8)
_ROBYN = Convention(normalise="none", quantile_scale=True, weibull_minmax=True)

PRESETS: dict[str, dict[str, Convention]] = {
    "mixfleet": dict.fromkeys(adstock.PARAMETERS, _OURS),
    "meridian": {"geometric": _MERIDIAN, "binomial": _MERIDIAN},
    "pymc_marketing": {
        "geometric": _PYMC,
        "binomial": dataclasses.replace(_PYMC, binomial_offset=1),
        "delayed": _PYMC,
        "weibull_pdf": dataclasses.replace(_PYMC, weibull_minmax=True),
        # Its distribution-function window holds one week more than l_max.
        "weibull_cdf": Convention(window=9),
    },
    "robyn": {"geometric": _ROBYN, "weibull_pdf": _ROBYN, "weibull_cdf": _ROBYN},
    "lightweight_mmm": {"geometric": Convention(normalise="limit"), "delayed": Convention(window=13)},
}
"""System -> family -> convention: Meridian 2.1 (max_lag 8), PyMC-Marketing 0.15-0.19 (l_max 8), Robyn 3,
LightweightMMM 0.1 (13 lags). `dataclasses.replace` gives the variants, such as `normalise="none"`."""


def convention(system: str, family: str) -> Convention:
    """The convention of `system` for `family`.

    Raises:
        ValueError: unknown system, or a family that the system does not have.
    """
    families = choose(PRESETS, system, default=system, what="adstock convention")
    return choose(families, family, default=family, what=f"adstock family of {system}")


def weights(
    convention: Convention,
    family: str,
    parameters: tuple[Float[ArrayLike, "*batch"], ...],
    *,
    weeks: int,
) -> Float[Array, "window *batch"]:
    """The weights as that system computes them for a series of `weeks` weeks.

    Raises:
        ValueError: a `normalise` that is unknown, or "limit" for another family than geometric.
    """
    window = weeks if convention.window is None else convention.window
    window = min(window, weeks) if convention.clipped else window
    if convention.quantile_scale and family in ("weibull_pdf", "weibull_cdf"):
        # numpy rounds halves to even, as R does.
        quantile = np.round(1 + np.asarray(parameters[1]) * (weeks - 1))
        parameters = (parameters[0], jnp.asarray(quantile, jnp.asarray(parameters[0]).dtype))
    if convention.normalise not in ("window", "limit", "none"):
        raise ValueError(f"unknown normalise {convention.normalise!r}: choose window, limit or none")
    raw = adstock.weights(
        family,
        parameters,
        window=window,
        normalise=convention.normalise == "window",
        binomial_offset=convention.binomial_offset,
        weibull_minmax=convention.weibull_minmax,
    )
    if convention.normalise != "limit":
        return raw
    if family != "geometric":
        raise ValueError(f"normalise 'limit' is the geometric family's alone, not that of {family!r}")
    return raw * (1 - jnp.asarray(parameters[0]))[None]
