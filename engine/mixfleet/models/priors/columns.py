"""Families of coefficients that are sampled: laws of the whole line that are not normal, and laws of one sign.

A coefficient of the whole line is sampled in units of about its standard error; one of a known sign through the ramp
of `bijectors.log_softplus_normal`, which is linear where the data tell it from zero and has a normal's tail where they
do not. Rows of a prior's data are location, scale, degrees of freedom, the unit, whose sign is the coefficient's where
it has one, and the log of all constants.
"""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mixfleet.models.priors.bijectors import log_normal_cdf, log_softplus_normal
from mixfleet.models.priors.family import HYPER_ROWS, Family, Values

__all__ = ["COLUMN_FAMILIES", "ColumnFamily"]


class ColumnFamily(Family):
    """A law of a coefficient, of the whole line or cut at zero."""

    bounded: ClassVar[bool] = False
    law: ClassVar[str]
    """Name of the family in the settings."""
    one_sign: ClassVar[bool] = False

    def column_rows(self, values: Values, unit: float) -> Float[np.ndarray, " row"]:
        """The prior's data.

        Args:
            values: Hyperparameters in the order of the configuration.
            unit: Of the coordinate; its sign is the coefficient's, if that has one.
        """
        df, location, scale = values if self.law == "student_t" else (0.0, *values)
        constant = self.log_normaliser(values) + math.log(abs(unit))
        if self.one_sign:
            above = self.frozen_of(values).sf(0.0) if unit > 0 else self.frozen_of(values).cdf(0.0)
            constant -= math.log(above)
        return np.array([location, scale, df, unit, constant])

    def log_normaliser(self, values: Values) -> float:
        """See `Family`."""
        if self.law == "laplace":
            return -math.log(2 * values[1])
        if self.law == "normal":
            return -math.log(values[1]) - 0.5 * math.log(2 * math.pi)
        df, _, scale = values
        return math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi * df) - math.log(scale)

    def constrain(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        return hyper[3] * (jnp.exp(log_softplus_normal(u)) if self.one_sign else u)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        z = (self.constrain(u, hyper) - hyper[0]) / hyper[1]
        if self.law == "normal":
            kernel = -0.5 * z * z
        elif self.law == "laplace":
            kernel = -jnp.abs(z)
        else:
            kernel = -0.5 * (hyper[2] + 1) * jnp.log1p(z * z / hyper[2])
        # The ramp's slope is the normal distribution function.
        return hyper[HYPER_ROWS - 1] + kernel + (log_normal_cdf(u) if self.one_sign else 0.0)

    def unconstrain(self, value: np.ndarray, hyper: np.ndarray) -> np.ndarray:
        """See `PriorFamily`."""
        del value, hyper
        raise ValueError(f"the coordinate of {self.name!r} is not asked for")

    def centre(self, values: Values) -> float:
        """See `PriorFamily`: where a coefficient starts is said by its data."""
        del values
        return 1.0 if self.one_sign else 0.0

    def frozen_of(self, values: Values) -> Any:
        """The law before it is cut, as a distribution of scipy."""
        from scipy import stats

        if self.law == "student_t":
            return stats.t(values[0], loc=values[1], scale=values[2])
        return (stats.laplace if self.law == "laplace" else stats.norm)(values[0], values[1])

    def frozen(self, **hyperparameters: float) -> Any:
        """See `PriorFamily`; the law before it is cut."""
        return self.frozen_of(tuple(hyperparameters.values()))


class _Laplace(ColumnFamily):
    name: ClassVar[str] = "laplace"
    law: ClassVar[str] = "laplace"


class _StudentT(ColumnFamily):
    name: ClassVar[str] = "student_t"
    law: ClassVar[str] = "student_t"


class _NormalOfOneSign(ColumnFamily):
    name: ClassVar[str] = "normal_of_one_sign"
    law: ClassVar[str] = "normal"
    one_sign: ClassVar[bool] = True


class _LaplaceOfOneSign(_Laplace):
    name: ClassVar[str] = "laplace_of_one_sign"
    one_sign: ClassVar[bool] = True


class _StudentTOfOneSign(_StudentT):
    name: ClassVar[str] = "student_t_of_one_sign"
    one_sign: ClassVar[bool] = True


COLUMN_FAMILIES = (_Laplace(), _StudentT(), _NormalOfOneSign(), _LaplaceOfOneSign(), _StudentTOfOneSign())
"""The families in which coefficients are sampled; normal ones of the whole line are integrated out."""
