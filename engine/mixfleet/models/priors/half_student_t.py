"""Student's t from zero up: about a half-normal, with room for the exception."""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import stdtrit

from mixfleet.models.priors.family import HYPER_ROWS, Positive, Values

__all__ = ["HalfStudentT"]

MEDIAN = 0.7
"""About the median for any degrees of freedom, in scales: 0.74 of four, 0.67 of a normal."""


class HalfStudentT(Positive):
    """As `family.Positive`; hyperparameters are the degrees of freedom and the scale.

    Reference:
        Gelman (2006), Prior distributions for variance parameters in hierarchical models, doi:10.1214/06-BA117A.
    """

    name: ClassVar[str] = "half_student_t"

    def log_normaliser(self, values: Values) -> float:
        """See `Family`."""
        df, scale = values
        gammas = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
        return math.log(2) + gammas - 0.5 * math.log(math.pi * df) - math.log(scale)

    def log_prob(self, u: Array, hyper: Array) -> Array:
        """See `PriorFamily`."""
        square = (jnp.exp(u) / hyper[1]) ** 2
        return hyper[HYPER_ROWS - 1] + u - 0.5 * (hyper[0] + 1) * jnp.log1p(square / hyper[0])

    def centre(self, values: Values) -> float:
        """See `PriorFamily`."""
        return math.log(MEDIAN * values[1])

    def frozen(self, **hyperparameters: float) -> Any:
        """See `PriorFamily`."""
        values = hyperparameters["df"], hyperparameters["scale"]
        return _Folded(*values, self.log_normaliser(values))


class _Folded:
    """The upper half of a t, as far as distributions are asked; without scipy.stats, as in `distributions`."""

    def __init__(self, df: float, scale: float, log_normaliser: float) -> None:
        self._df, self._scale, self._log_normaliser = df, scale, log_normaliser

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        return stdtrit(self._df, (1 + np.asarray(probability)) / 2) * self._scale

    def logpdf(self, values: np.ndarray) -> np.ndarray:
        """Of values from zero up."""
        square = (np.asarray(values) / self._scale) ** 2
        return self._log_normaliser - 0.5 * (self._df + 1) * np.log1p(square / self._df)

    def mean(self) -> float:
        """Infinite for one degree of freedom and fewer."""
        if self._df <= 1:
            return math.inf
        gammas = math.lgamma((self._df + 1) / 2) - math.lgamma(self._df / 2)
        return 2 * self._scale * math.sqrt(self._df / math.pi) * math.exp(gammas) / (self._df - 1)

    def std(self) -> float:
        """Infinite for two degrees of freedom and fewer."""
        return math.sqrt(self._df / (self._df - 2) * self._scale**2 - self.mean() ** 2) if self._df > 2 else math.inf

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        return np.abs(random_state.standard_t(self._df, size) * self._scale)
