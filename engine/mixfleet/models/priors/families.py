"""Families of priors: each as the density of an unconstrained coordinate, hyperparameters as data.

The family is structure; its hyperparameters are an array, so units may differ in them. A further family is a subclass
of `Positive` or `Bounded`, made known by `register`.
"""

import math
from statistics import NormalDist
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.config import priors
from mixfleet.config.priors import Distribution, FamilyForm
from mixfleet.errors import ConfigError
from mixfleet.models.priors import distributions
from mixfleet.models.priors.bijectors import log_normal_cdf
from mixfleet.models.priors.columns import COLUMN_FAMILIES
from mixfleet.models.priors.family import (
    HYPER_ROWS,
    Bounded,
    Family,
    Hyper,
    Positive,
    PriorFamily,
    Values,
    inside,
    log_normal,
)
from mixfleet.models.priors.fixed import Fixed
from mixfleet.models.priors.half_student_t import HalfStudentT

__all__ = [
    "ABOVE_A_BOUND",
    "FAMILIES",
    "HYPER_ROWS",
    "Bounded",
    "Positive",
    "PriorFamily",
    "family_of",
    "normal_rows",
    "register",
    "with_slope",
]


class _Normal(Family):
    """Of coefficients of the baseline, which are integrated out or sampled in coordinates of their own."""

    name: ClassVar[str] = "normal"
    bounded: ClassVar[bool] = False

    def constrain(self, u: Array, hyper: Array) -> Array:
        return hyper[0] + hyper[1] * u

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        return (value - hyper[0]) / hyper[1]

    def log_prob(self, u: Array, hyper: Array) -> Array:
        del u, hyper
        raise ValueError("no sampled parameter has the prior 'normal'")

    def centre(self, values: Values) -> float:
        del values
        return 0.0

    def frozen(self, **h: float) -> Any:
        return distributions.Normal(h["mean"], h["sd"])


class _HalfNormal(Positive):
    name: ClassVar[str] = "half_normal"

    def log_normaliser(self, values: Values) -> float:
        return 0.5 * math.log(2 / math.pi) - math.log(values[0])

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] + u - 0.5 * (jnp.exp(u) / hyper[0]) ** 2

    def centre(self, values: Values) -> float:
        return math.log(0.6745 * values[0])

    def frozen(self, **h: float) -> Any:
        return distributions.HalfNormal(h["sd"])


class _LogNormal(Positive):
    name: ClassVar[str] = "lognormal"

    def log_normaliser(self, values: Values) -> float:
        return -math.log(values[1]) - 0.5 * math.log(2 * math.pi)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] - 0.5 * ((u - hyper[0]) / hyper[1]) ** 2

    def centre(self, values: Values) -> float:
        return values[0]

    def frozen(self, **h: float) -> Any:
        return distributions.LogNormal(h["mean_log"], h["sd_log"])


class _ShiftedLogNormal(Positive):
    """A lognormal from a bound up, sampled through the log of what it is above the bound, row 0."""

    name: ClassVar[str] = "shifted_lognormal"

    def constrain(self, u: Array, hyper: Array) -> Array:
        return hyper[0] + jnp.exp(u)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        return np.log(value - hyper[0])

    def log_normaliser(self, values: Values) -> float:
        return -math.log(values[2]) - 0.5 * math.log(2 * math.pi)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] - 0.5 * ((u - hyper[1]) / hyper[2]) ** 2

    def centre(self, values: Values) -> float:
        return values[1]

    def frozen(self, **h: float) -> Any:
        return distributions.LogNormal(h["mean_log"], h["sd_log"], h["shift"])


class _ProbitNormal(Bounded):
    """Normal in the probit: what a bounded prior becomes where units share it. Rows 2 and 3 hold the bounds."""

    name: ClassVar[str] = "probit_normal"

    def bounds(self, hyper: Any) -> tuple[Any, Any]:
        return hyper[2], hyper[3]

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] - 0.5 * ((u - hyper[0]) / hyper[1]) ** 2


class _Gamma(Positive):
    name: ClassVar[str] = "gamma"

    def log_normaliser(self, values: Values) -> float:
        return values[0] * math.log(values[1]) - math.lgamma(values[0])

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] + hyper[0] * u - hyper[1] * jnp.exp(u)

    def centre(self, values: Values) -> float:
        return math.log(values[0] / values[-1])

    def frozen(self, **h: float) -> Any:
        return distributions.Gamma(h["shape"], 1 / h["rate"])


class _InverseGamma(Positive):
    name: ClassVar[str] = "inverse_gamma"

    def log_normaliser(self, values: Values) -> float:
        return values[0] * math.log(values[1]) - math.lgamma(values[0])

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] - hyper[0] * u - hyper[1] * jnp.exp(-u)

    def centre(self, values: Values) -> float:
        return math.log(values[-1] / (values[0] + 1))

    def frozen(self, **h: float) -> Any:
        return _stats().invgamma(h["shape"], scale=h["scale"])


class _Exponential(Positive):
    name: ClassVar[str] = "exponential"

    def log_normaliser(self, values: Values) -> float:
        return math.log(values[0])

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] + u - hyper[0] * jnp.exp(u)

    def centre(self, values: Values) -> float:
        return math.log(0.7 / values[0])

    def frozen(self, **h: float) -> Any:
        return _stats().expon(scale=1 / h["rate"])


class _Beta(Bounded):
    name: ClassVar[str] = "beta"

    def log_normaliser(self, values: Values) -> float:
        return math.lgamma(values[0] + values[1]) - math.lgamma(values[0]) - math.lgamma(values[1])

    def constrain(self, u: Array, hyper: Array) -> Array:
        del hyper
        return inside(u)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        powers = (hyper[0] - 1) * log_normal_cdf(u) + (hyper[1] - 1) * log_normal_cdf(-u)
        return hyper[HYPER_ROWS - 1] + powers + log_normal(u)

    def centre(self, values: Values) -> float:
        return NormalDist().inv_cdf(values[0] / (values[0] + values[1]))

    def frozen(self, **h: float) -> Any:
        return distributions.Beta(h["a"], h["b"])


class _Uniform(Bounded):
    name: ClassVar[str] = "uniform"

    def bounds(self, hyper: Any) -> tuple[Any, Any]:
        return hyper[0], hyper[1]

    def log_prob(self, u: Array, hyper: Array) -> Array:
        return hyper[HYPER_ROWS - 1] + log_normal(u)

    def centre(self, values: Values) -> float:
        del values
        return 0.0

    def frozen(self, **h: float) -> Any:
        return _stats().uniform(h["low"], h["high"] - h["low"])


class _TruncatedNormal(Bounded):
    """A normal cut on both sides. Rows 2 and 3 hold the bounds."""

    name: ClassVar[str] = "truncated_normal"

    def bounds(self, hyper: Any) -> tuple[Any, Any]:
        return hyper[2], hyper[3]

    def log_normaliser(self, values: Values) -> float:
        return _log_cut_normaliser(values) + math.log(values[3] - values[2])

    def log_prob(self, u: Array, hyper: Array) -> Array:
        z = (self.constrain(u, hyper) - hyper[0]) / hyper[1]
        return hyper[HYPER_ROWS - 1] - 0.5 * z * z + log_normal(u)

    def centre(self, values: Values) -> float:
        return NormalDist().inv_cdf((distributions.CutNormal(*values).median() - values[2]) / (values[3] - values[2]))

    def frozen(self, **h: float) -> Any:
        return distributions.CutNormal(h["mean"], h["sd"], h["low"], h["high"])


class _LowerTruncatedNormal(Positive):
    """A normal cut on its lower side only, sampled through the log of what it is above the bound, row 2."""

    name: ClassVar[str] = "lower_truncated_normal"

    def constrain(self, u: Array, hyper: Array) -> Array:
        return hyper[2] + jnp.exp(u)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        return np.log(value - hyper[2])

    def log_normaliser(self, values: Values) -> float:
        return _log_cut_normaliser(values)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        z = (self.constrain(u, hyper) - hyper[0]) / hyper[1]
        return hyper[HYPER_ROWS - 1] - 0.5 * z * z + u

    def centre(self, values: Values) -> float:
        return math.log(distributions.CutNormal(*values).median() - values[2])


FAMILIES: dict[str, PriorFamily] = {
    family.name: family
    for family in (
        _Normal(),
        _HalfNormal(),
        HalfStudentT(),
        _LogNormal(),
        _ShiftedLogNormal(),
        _ProbitNormal(),
        _Gamma(),
        _InverseGamma(),
        _Exponential(),
        _Beta(),
        _Uniform(),
        _TruncatedNormal(),
        _LowerTruncatedNormal(),
        Fixed(),
        *COLUMN_FAMILIES,
    )
}
"""Families by name: those of the settings, and the forms that some of these are sampled in."""


ABOVE_A_BOUND = ("lower_truncated_normal", "shifted_lognormal")
"""Families from some bound up, whose coordinate is not the logarithm of the value itself."""


def family_of(prior: Distribution) -> PriorFamily:
    """The family that a prior of the settings is sampled in: a normal cut on one side has one of its own."""
    if prior.family == "truncated_normal" and math.isinf(prior.support[1]):
        return FAMILIES["lower_truncated_normal"]
    return FAMILIES[prior.family]


def normal_rows(mean: float, sd: float, bounds: tuple[float, float]) -> Float[np.ndarray, " row"]:
    """Data of a prior that is normal in its coordinate: `lognormal`, or `probit_normal` between bounds."""
    return np.array([mean, sd, *bounds, -np.log(sd) - 0.5 * np.log(2 * np.pi)])


def register(family: Positive | Bounded) -> None:
    """Makes a family known to settings (`{family: its name, ...}`) and models.

    Args:
        family: With `name`, `hyperparameters` (at most four), `log_density` and `frozen`; the rest follows from these,
            and may be given where a closed form is faster or more accurate.

    Raises:
        ConfigError: There is a family of that name already.
    """
    if family.name in FAMILIES:
        raise ConfigError(f"there is a family {family.name!r} already", key="prior")
    FAMILIES[family.name] = family
    priors.FAMILIES[family.name] = FamilyForm(family.hyperparameters, family.support)


def with_slope(
    function: Any, u: Float[Array, "*batch"], hyper: Hyper
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """A family's `constrain` or `log_prob`, and its derivative with respect to `u`."""
    return jax.jvp(lambda at: function(at, hyper), (u,), (jnp.ones_like(u),))


def _stats() -> Any:
    from scipy import stats  # takes half a second, and few priors are of these families

    return stats


def _log_cut_normaliser(values: Values) -> float:
    return -distributions.CutNormal(*values).log_mass - math.log(values[1]) - 0.5 * math.log(2 * math.pi)
