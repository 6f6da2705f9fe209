"""Distributions behind the usual priors, as far as they are asked.

Without scipy.stats, whose import takes half a second. They answer as scipy's frozen distributions do, and draw the same
numbers from the same generator.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaincinv, betaln, gammaincinv, gammaln, log_ndtr, ndtr, ndtri, ndtri_exp, xlog1py, xlogy

__all__ = ["Beta", "CutNormal", "Gamma", "HalfNormal", "LogNormal", "Normal", "normal_log_density"]

LOG_ROOT = 0.5 * math.log(2 * math.pi)
"""Minus the log density of a standard normal number at zero."""


def normal_log_density(value: np.ndarray, mean: float | np.ndarray = 0.0, sd: float | np.ndarray = 1.0) -> np.ndarray:
    """Log density of normal numbers, each with a mean and a standard deviation of its own."""
    return -0.5 * ((value - mean) / sd) ** 2 - LOG_ROOT - np.log(sd)


@dataclass(frozen=True)
class Normal:
    """Of a mean and a standard deviation."""

    loc: float
    scale: float

    def mean(self) -> float:
        """Expected value."""
        return self.loc

    def std(self) -> float:
        """Standard deviation."""
        return self.scale

    def median(self) -> float:
        """The value in the middle."""
        return self.loc

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """Quantiles."""
        return self.loc + self.scale * ndtri(probability)

    def cdf(self, value: float | np.ndarray) -> np.ndarray:
        """Probability of no more than a value."""
        return ndtr((value - self.loc) / self.scale)

    def sf(self, value: float | np.ndarray) -> np.ndarray:
        """Probability of more than a value."""
        return ndtr((self.loc - value) / self.scale)

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """Log density."""
        return normal_log_density(value, self.loc, self.scale)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """Draws."""
        return random_state.standard_normal(size) * self.scale + self.loc


@dataclass(frozen=True)
class HalfNormal:
    """The size of a normal number around zero."""

    scale: float

    def mean(self) -> float:
        """See `Normal`."""
        return self.scale * math.sqrt(2 / math.pi)

    def std(self) -> float:
        """See `Normal`."""
        return self.scale * math.sqrt(1 - 2 / math.pi)

    def median(self) -> float:
        """See `Normal`."""
        return float(self.ppf(np.array(0.5)))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        return self.scale * ndtri((1 + np.asarray(probability)) / 2)

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        value = np.asarray(value)
        inside = Normal(0.0, self.scale).logpdf(value) + math.log(2)
        return np.where(value >= 0, inside, -np.inf)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """See `Normal`."""
        return np.abs(random_state.standard_normal(size)) * self.scale


@dataclass(frozen=True)
class LogNormal:
    """Of the mean and standard deviation of the logarithm of what is above a bound."""

    mean_log: float
    sd_log: float
    loc: float = 0.0

    def mean(self) -> float:
        """See `Normal`."""
        return math.exp(self.mean_log + 0.5 * self.sd_log**2) + self.loc

    def std(self) -> float:
        """See `Normal`."""
        return math.sqrt(math.expm1(self.sd_log**2)) * math.exp(self.mean_log + 0.5 * self.sd_log**2)

    def median(self) -> float:
        """See `Normal`."""
        return math.exp(self.mean_log) + self.loc

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        return np.exp(self.sd_log * ndtri(probability)) * np.exp(self.mean_log) + self.loc

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        above = np.asarray(value) - self.loc
        log = np.log(np.where(above > 0, above, 1.0))
        return np.where(above > 0, Normal(self.mean_log, self.sd_log).logpdf(log) - log, -np.inf)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """See `Normal`."""
        return np.exp(self.sd_log * random_state.standard_normal(size)) * np.exp(self.mean_log) + self.loc


@dataclass(frozen=True)
class CutNormal:
    """Between two bounds, of which one may be infinite; of mean and standard deviation before it is cut."""

    loc: float
    scale: float
    low: float
    high: float

    @cached_property
    def log_mass(self) -> float:
        """Log of the uncut probability between the bounds, accurate in either tail."""
        low, high = self._cuts
        if low > 0:
            low, high = -high, -low
        below, upto = float(log_ndtr(low)), float(log_ndtr(high))
        return upto + math.log1p(-math.exp(below - upto))

    def mean(self) -> float:
        """See `Normal`."""
        return self.loc + self.scale * self._shift

    def std(self) -> float:
        """See `Normal`."""
        told = zip(self._cuts, self._densities, (1, -1), strict=True)
        return self.scale * math.sqrt(1 + sum(sign * (cut - self._shift) * p for cut, p, sign in told if p))

    def median(self) -> float:
        """See `Normal`."""
        return float(self.ppf(np.array(0.5)))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """See `Normal`; from the nearer tail."""
        (low, high), probability = self._cuts, np.asarray(probability)
        if low > 0:
            part = np.log1p(-probability) + self.log_mass
            return self.loc - self.scale * ndtri_exp(np.logaddexp(log_ndtr(-high), part))
        return self.loc + self.scale * ndtri_exp(np.logaddexp(log_ndtr(low), np.log(probability) + self.log_mass))

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        value = np.asarray(value)
        inside = Normal(self.loc, self.scale).logpdf(value) - self.log_mass
        return np.where((value >= self.low) & (value <= self.high), inside, -np.inf)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """See `Normal`."""
        return self.ppf(random_state.uniform(size=size))

    @property
    def _cuts(self) -> tuple[float, float]:
        """The bounds, in standard deviations."""
        return (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale

    @property
    def _densities(self) -> list[float]:
        """At the cuts, of the number in standard deviations."""
        return [math.exp(-0.5 * cut**2 - LOG_ROOT - self.log_mass) for cut in self._cuts]

    @property
    def _shift(self) -> float:
        """Of the mean, in standard deviations."""
        low, high = self._densities
        return low - high


@dataclass(frozen=True)
class Beta:
    """Between zero and one."""

    a: float
    b: float

    def mean(self) -> float:
        """See `Normal`."""
        return self.a / (self.a + self.b)

    def std(self) -> float:
        """See `Normal`."""
        return math.sqrt(self.a * self.b / (self.a + self.b + 1)) / (self.a + self.b)

    def median(self) -> float:
        """See `Normal`."""
        return float(self.ppf(np.array(0.5)))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        return betaincinv(self.a, self.b, probability)

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        value = np.asarray(value)
        inside = (value >= 0) & (value <= 1)
        safe = np.where(inside, value, 0.5)
        density = xlogy(self.a - 1, safe) + xlog1py(self.b - 1, -safe) - betaln(self.a, self.b)
        return np.where(inside, density, -np.inf)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """See `Normal`."""
        return random_state.beta(self.a, self.b, size)


@dataclass(frozen=True)
class Gamma:
    """From zero up; of a shape, and of a scale that is one over the rate."""

    shape: float
    scale: float

    def mean(self) -> float:
        """See `Normal`."""
        return self.shape * self.scale

    def std(self) -> float:
        """See `Normal`."""
        return math.sqrt(self.shape) * self.scale

    def median(self) -> float:
        """See `Normal`."""
        return float(self.ppf(np.array(0.5)))

    def ppf(self, probability: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        return gammaincinv(self.shape, probability) * self.scale

    def logpdf(self, value: np.ndarray) -> np.ndarray:
        """See `Normal`."""
        standard = np.asarray(value) / self.scale
        safe = np.where(standard >= 0, standard, 1.0)
        density = xlogy(self.shape - 1, safe) - safe - gammaln(self.shape) - math.log(self.scale)
        return np.where(standard >= 0, density, -np.inf)

    def rvs(self, size: int, random_state: np.random.Generator) -> np.ndarray:
        """See `Normal`."""
        return random_state.standard_gamma(self.shape, size) * self.scale
