"""Column laws: the prior of each coefficient of the linear block, and which of them have to be sampled.

A normal coefficient is integrated out. One of another family or of a known sign is sampled, with all the others still
integrated out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from mixfleet.config import Data, Model, Prior
from mixfleet.config.priors import Distribution
from mixfleet.errors import ConfigError
from mixfleet.models.baseline.linear_block import column_kinds, column_names

__all__ = ["ColumnLaw", "by_column", "column_laws", "column_priors", "learned_scales", "sampled_blocks"]

LEAST_MASS = 0.001
"""Of a prior on the side of zero that a sign leaves; less is a prior that contradicts the sign."""


@dataclass(frozen=True)
class ColumnLaw:
    """The prior of one coefficient: a distribution, cut at zero where the sign is known."""

    prior: Distribution
    sign: int = 0
    """1 or -1 where the coefficient can only be above or below zero."""
    scale: Distribution | None = None
    """The prior of its standard deviation, where the unit learns that; `prior` then says the mean alone."""

    @property
    def sampled(self) -> bool:
        """Whether the coefficient is sampled and not integrated out."""
        return self.prior.family != "normal" or self.sign != 0

    @property
    def family(self) -> str:
        """Name of the family that it is sampled in."""
        return f"{self.prior.family}_of_one_sign" if self.sign else self.prior.family

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation; of one whose scale is learned, over that scale's prior."""
        if not self.sampled:
            mean, sd = self.prior.values
            return mean, sd if self.scale is None else _root_mean_square(self.scale)
        return _moments(self)

    @property
    def mass(self) -> float:
        """Of the distribution, what is on the side of zero that the sign leaves."""
        if not self.sign:
            return 1.0
        return float(_frozen(self.prior).sf(0.0) if self.sign > 0 else _frozen(self.prior).cdf(0.0))

    def from_normal(
        self, standard: Float[np.ndarray, " draw"], scale: Float[np.ndarray, " draw"] | None = None
    ) -> Float[np.ndarray, " draw"]:
        """Draws of the coefficient, from those of a standard normal and of its standard deviation where it has such."""
        if not self.sampled:
            mean, sd = self.prior.values
            return mean + (sd if scale is None else scale) * standard
        from scipy.special import ndtr

        first = 1.0 - self.mass if self.sign > 0 else 0.0
        return _frozen(self.prior).ppf(first + self.mass * ndtr(standard))

    def log_prob(
        self, values: Float[np.ndarray, " draw"], scale: Float[np.ndarray, " draw"] | None = None
    ) -> Float[np.ndarray, " draw"]:
        """Log density of coefficients, given their standard deviation where that is learned."""
        if scale is not None:
            away = (values - self.prior.values[0]) / scale
            return -0.5 * away**2 - np.log(scale) - 0.5 * math.log(2 * math.pi)
        found = _frozen(self.prior).logpdf(values) - math.log(self.mass)
        return np.where(self.sign * values < 0, -np.inf, found) if self.sign else found


@lru_cache(maxsize=1024)
def _root_mean_square(scale: Distribution) -> float:
    """Of a scale's prior; where that is infinite, its median."""
    frozen = _frozen(scale)
    found = math.hypot(float(frozen.mean()), float(frozen.std()))
    return found if math.isfinite(found) else float(frozen.median())


@lru_cache(maxsize=4096)
def _moments(law: ColumnLaw) -> tuple[float, float]:
    from scipy.integrate import quad

    frozen = _frozen(law.prior)
    if not law.sign:
        return float(frozen.mean()), float(frozen.std())
    # Over probabilities, where no peak can be missed.
    below = float(frozen.cdf(0.0))
    low, high = (below, 1.0) if law.sign > 0 else (0.0, below)
    mean, square = (quad(lambda p, k=k: frozen.ppf(p) ** k, low, high)[0] / (high - low) for k in (1, 2))
    return mean, math.sqrt(max(square - mean**2, 0.0))


@lru_cache(maxsize=1024)
def _frozen(prior: Distribution) -> Any:
    from mixfleet.models.priors.families import FAMILIES  # jax, which the names of columns do not need

    return FAMILIES[prior.family].frozen(**prior.hyperparameters)


def column_laws(model: Model, data: Data, prior: Prior, unit: Mapping[str, str]) -> tuple[ColumnLaw, ...]:
    """The prior of each column's coefficient in a unit, in shares of the KPI's scale.

    Raises:
        ConfigError: A sign of a column that there is not, or one that the coefficient's prior contradicts.
    """
    kinds, names = column_kinds(model, data), column_names(model, data)
    if unknown := [name for name in model.signs if name not in names]:
        raise ConfigError(f"no such column; there are {', '.join(names)}", key=f"model.signs.{unknown[0]}")
    signs = {"positive": 1, "negative": -1}
    found = tuple(
        ColumnLaw(
            prior.distribution(kind, unit=unit),
            signs.get(model.signs.get(name, ""), 0),
            prior.distribution(f"{kind}_scale", unit=unit) if f"{kind}_scale" in model.scale_parameters else None,
        )
        for kind, name in zip(kinds, names, strict=True)
    )
    for name, law in zip(names, found, strict=True):
        if law.mass < LEAST_MASS:
            raise ConfigError("contradicts the prior, which has next to no mass there", key=f"model.signs.{name}")
    return found


def column_priors(
    model: Model, data: Data, prior: Prior, unit: Mapping[str, str]
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, " column"]]:
    """Prior mean and standard deviation of each column's coefficient, in shares of the KPI's scale."""
    moments = [law.moments for law in column_laws(model, data, prior, unit)]
    return np.array([mean for mean, _ in moments]), np.array([sd for _, sd in moments])


def learned_scales(model: Model, data: Data) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """By parameter that is a standard deviation of coefficients, the places of its columns; empty where none is."""
    kinds = column_kinds(model, data)
    return tuple(
        (name, tuple(k for k, kind in enumerate(kinds) if f"{kind}_scale" == name)) for name in model.scale_parameters
    )


def by_column(
    scales: Mapping[str, Float[np.ndarray, " draw"]], model: Model, data: Data
) -> list[Float[np.ndarray, " draw"] | None]:
    """For each column, draws of its coefficient's standard deviation where that is learned, from those of scales."""
    kinds = column_kinds(model, data)
    return [scales[f"{kind}_scale"] if f"{kind}_scale" in model.scale_parameters else None for kind in kinds]


def sampled_blocks(model: Model, data: Data, prior: Prior) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """By family, the places of the columns whose coefficients are sampled; empty where all are integrated out."""
    laws = column_laws(model, data, prior, {})
    families = dict.fromkeys(law.family for law in laws if law.sampled)
    return tuple(
        (family, tuple(k for k, law in enumerate(laws) if law.sampled and law.family == family)) for family in families
    )
