"""What a family of priors is: the density of an unconstrained coordinate, hyperparameters as data.

A parameter `theta` is sampled as `u`: its logarithm where the prior is positive, its probit where the prior lives
between two bounds.
"""

import math
from statistics import NormalDist
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jaxtyping import Array, Float
from scipy.special import ndtri

__all__ = ["HYPER_ROWS", "Bounded", "Family", "Hyper", "Positive", "PriorFamily", "Values", "inside", "log_normal"]

HYPER_ROWS = 5
"""Rows of a prior's data: up to four hyperparameters in the order of the configuration, then the log normaliser."""

Hyper = Float[Array, "row *batch"]
Values = tuple[float, ...]
"""Hyperparameters in the order of the configuration."""


def inside(u: Array) -> Array:
    """The standard normal's distribution function: from the real line into (0, 1)."""
    return 0.5 * erfc(-u / math.sqrt(2))


def log_normal(u: Array) -> Array:
    """The standard normal's log density, which is the log Jacobian of `inside`."""
    return -0.5 * u * u - 0.5 * math.log(2 * math.pi)


class PriorFamily(Protocol):
    """A family of priors. `u` is the coordinate, `hyper` the rows that `encode` gives."""

    name: ClassVar[str]
    """Its name in the settings, or of one of the forms that a family there is sampled in."""
    bounded: ClassVar[bool]
    """Whether both bounds are finite, so that the coordinate is a probit and not a logarithm."""

    def encode(self, values: Values) -> Float[np.ndarray, " row"]:
        """The prior's data: hyperparameters, padded, and the log of its normalising constant, in float64."""
        ...

    def centre(self, values: Values) -> float:
        """A coordinate in the middle of the prior: where optimisation may start."""
        ...

    def constrain(self, u: Float[Array, "*batch"], hyper: Hyper) -> Float[Array, "*batch"]:
        """The parameter at coordinate `u`."""
        ...

    def unconstrain(
        self, value: Float[np.ndarray, "*batch"], hyper: Float[np.ndarray, "row *#batch"]
    ) -> Float[np.ndarray, "*batch"]:
        """The coordinate of a parameter, on the host."""
        ...

    def log_prob(self, u: Float[Array, "*batch"], hyper: Hyper) -> Float[Array, "*batch"]:
        """Log density of the coordinate: the prior's at the parameter, plus the log Jacobian."""
        ...

    def frozen(self, **hyperparameters: float) -> Any:
        """The prior as a distribution of scipy."""
        ...


class Family:
    """What families share: rows of data, and what follows from the prior's density on its own scale.

    A subclass gives `log_density`, or `log_prob` where the coordinate has a simpler form.
    """

    name: ClassVar[str]
    bounded: ClassVar[bool]
    hyperparameters: ClassVar[tuple[str, ...]] = ()

    def support(self, hyperparameters: Any) -> tuple[float, float]:
        """Lowest and highest value of the prior."""
        del hyperparameters
        return 0.0, math.inf

    def encode(self, values: Values) -> Float[np.ndarray, " row"]:
        """See `PriorFamily`."""
        finite = [value if math.isfinite(value) else 0.0 for value in values]
        return np.array([*finite, *[0.0] * (HYPER_ROWS - 1 - len(values)), self.log_normaliser(values)])

    def log_normaliser(self, values: Values) -> float:
        """Log of the constant that `log_density` leaves out."""
        del values
        return 0.0

    def log_density(self, value: Array, hyper: Array) -> Array:
        """Log density of the parameter, but for the constant in the last row."""
        del value, hyper
        raise ValueError(f"the family {self.name!r} gives neither log_density nor log_prob")

    def frozen(self, **hyperparameters: float) -> Any:
        """See `PriorFamily`."""
        del hyperparameters
        raise ValueError(f"the family {self.name!r} has no form in scipy")


class Positive(Family):
    """A prior from zero up, sampled through the logarithm."""

    bounded: ClassVar[bool] = False

    def constrain(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        del hyper
        return jnp.exp(u)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """See `PriorFamily`."""
        del hyper
        return np.log(value)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        return hyper[HYPER_ROWS - 1] + self.log_density(self.constrain(u, hyper), hyper) + u

    def centre(self, values: Values) -> float:
        """See `PriorFamily`."""
        return math.log(self.frozen(**dict(zip(self.hyperparameters, values, strict=True))).median())


class Bounded(Family):
    """A prior between two finite bounds, zero and one unless `bounds` says otherwise, sampled through the probit."""

    bounded: ClassVar[bool] = True

    def support(self, hyperparameters: Any) -> tuple[float, float]:
        """See `Positive`."""
        del hyperparameters
        return 0.0, 1.0

    def bounds(self, hyper: Any) -> tuple[Any, Any]:
        """Lowest and highest value, from the rows of data."""
        del hyper
        return 0.0, 1.0

    def constrain(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        low, high = self.bounds(hyper)
        return low + (high - low) * inside(u)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """See `PriorFamily`."""
        low, high = self.bounds(hyper)
        return ndtri((value - low) / (high - low))

    def log_prob(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        low, high = self.bounds(hyper)
        width = jnp.log(jnp.asarray(high - low, u.dtype))
        return hyper[HYPER_ROWS - 1] + self.log_density(self.constrain(u, hyper), hyper) + width + log_normal(u)

    def centre(self, values: Values) -> float:
        """See `PriorFamily`."""
        named = dict(zip(self.hyperparameters, values, strict=True))
        low, high = self.support(named)
        return NormalDist().inv_cdf((self.frozen(**named).median() - low) / (high - low))
